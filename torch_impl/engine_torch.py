"""The engines `folded` and `cuda`: PyTorch on folded layers, images' channels last in memory."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from torch_impl.caffe_net import LAYERS, CaffeNet
from torch_impl.folding import fold
from torch_impl.products import unrounded


class FoldedNet:
    """Computes one blob of a net as `CaffeNet.forward` does."""

    def __init__(self, net: CaffeNet, blob: str, dtype: torch.dtype, device: torch.device) -> None:
        """net : computes in float64. dtype, device : what this one computes in, and where."""
        self.blob = blob
        self.dtype = dtype
        self.device = device
        self.layers = [(folded.layer, [self.take(blob) for blob in folded.blobs]) for folded in fold(net, blob)]
        self._last_use = {bottom: i for i, (layer, _) in enumerate(self.layers) for bottom in layer.bottom}

    def take(self, tensor: Tensor) -> Tensor:
        """A tensor as this net wants it."""
        tensor = tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
        return tensor.to(self.device, self.dtype)

    def forward(self, inputs: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
        """The blob, which is all that can be `wanted`, float32 and on the CPU."""
        assert list(wanted) == [self.blob]
        with unrounded():
            return {self.blob: self.compute(inputs).float().cpu()}

    def compute(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The blob as it comes."""
        blobs = {name: self.take(tensor) for name, tensor in inputs.items()}
        for i, (layer, parameters) in enumerate(self.layers):
            bottoms = [blobs[bottom] for bottom in layer.bottom]
            blobs[layer.top[0]] = LAYERS[layer.type](layer, bottoms, parameters)
            for bottom in layer.bottom:
                if self._last_use[bottom] <= i and bottom != self.blob and bottom not in layer.top:
                    blobs.pop(bottom, None)  # a layer may name a bottom twice
        return blobs[self.blob]
