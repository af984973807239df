"""A net for speed alone: BatchNorm and Scale folded into the Convolution before them, in float64."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torch_impl.caffe_net import CaffeNet


@dataclass(frozen=True)
class FoldedLayer:
    """A layer of the prototxt and its parameters, float64; of a Convolution always weight and bias."""

    layer: Any
    blobs: list[Tensor]


def fold(net: CaffeNet, blob: str) -> list[FoldedLayer]:
    """The layers of a net that computes in float64, up to the last that writes `blob`.

    A BatchNorm or Scale is left out where it follows its Convolution at once and works in place, so that no other
    layer sees what lies between: w (x a) + b = (w a) x + b. Elsewhere it stays.
    """
    last = max(i for i, layer in enumerate(net.layers) if blob in layer.top)
    folded: list[FoldedLayer] = []
    for layer in net.layers[: last + 1]:
        blobs = net.parameters.get(layer.name, [])
        before = folded[-1] if folded else None
        if layer.type == "Convolution":
            weight, bias = blobs[0], blobs[1] if len(blobs) > 1 else torch.zeros(len(blobs[0]), dtype=blobs[0].dtype)
            folded.append(FoldedLayer(with_bias(layer), [weight, bias]))
        elif layer.type in ("BatchNorm", "Scale") and before is not None and continues(before.layer, layer):
            gain, offset = gain_and_offset(layer, blobs)
            weight, bias = before.blobs
            folded[-1] = FoldedLayer(before.layer, [weight * gain.view(-1, 1, 1, 1), bias * gain + offset])
        else:
            folded.append(FoldedLayer(layer, blobs))
    return folded


def with_bias(layer: Any) -> Any:
    """A Convolution's message with a bias."""
    copied = type(layer)()
    copied.CopyFrom(layer)
    copied.convolution_param.bias_term = True
    return copied


def continues(convolution: Any, layer: Any) -> bool:
    """Whether a layer works in place on what the Convolution before it wrote."""
    return convolution.type == "Convolution" and list(layer.bottom) == list(layer.top) == list(convolution.top)


def gain_and_offset(layer: Any, blobs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """What a BatchNorm or a Scale multiplies each channel by and then adds to it, both (c,)."""
    if layer.type == "Scale":
        return blobs[0], blobs[1] if layer.scale_param.bias_term else torch.zeros_like(blobs[0])
    total = blobs[2]
    factor = torch.where(total == 0, torch.zeros_like(total), 1 / total)  # D9
    gain = (blobs[1] * factor + layer.batch_norm_param.eps).rsqrt()
    return gain, -blobs[0] * factor * gain
