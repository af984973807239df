"""A Caffe net built from its prototxt and caffemodel, computed by PyTorch.

Each layer type is one function; the decisions (`# D..`) mark where Caffe does otherwise than PyTorch's obvious way.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from experiment.errors import UserError
from torch_impl.caffe_proto import enum_label, read_caffemodel, read_prototxt
from torch_impl.products import linear

FLT_MIN = float(np.finfo(np.float32).tiny)  # Caffe clamps probabilities here before the log


@dataclass(frozen=True)
class Arithmetic:
    """The type that a net computes in, how it holds tensors of four axes in memory, and where."""

    dtype: torch.dtype = torch.float32
    memory_format: torch.memory_format = torch.contiguous_format
    device: torch.device = torch.device("cpu")

    @property
    def dtype_name(self) -> str:
        """The type as numpy names it."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def at_least_float32(self) -> "Arithmetic":
        """The same, but in float32 where the type is a smaller one: what is trained is kept in it."""
        return replace(self, dtype=torch.promote_types(self.dtype, torch.float32))

    def take(self, tensor: Tensor) -> Tensor:
        """A tensor as the net wants it; integers (labels) stay as they are."""
        tensor = tensor.to(self.device, self.dtype if tensor.is_floating_point() else tensor.dtype)
        return tensor.contiguous(memory_format=self.memory_format) if tensor.ndim == 4 else tensor


FLOAT32 = Arithmetic()


def arithmetic_of(variation: str) -> Arithmetic:
    """How a run that is varied so (`experiment.stages.VARIATIONS`) computes."""
    if variation == "reference":
        return Arithmetic(dtype=torch.float64)
    return Arithmetic(memory_format=torch.channels_last) if variation == "layout" else FLOAT32


class CaffeNet:
    """A net in the order of its prototxt.

    Attributes
    ----------
    layers : the prototxt's layers (LayerParameter messages), without those that only feed data.
    parameters : layer name to its blobs in Caffe's order and shapes; filled by `load` or `set_parameters`.
    parameter_shapes : the same with shapes, known from the prototxt alone.
    blob_shapes : blob name to shape in forward order, inputs first, for the batch size of the prototxt.
    arithmetic : in what type and memory layout it computes, and where.
    """

    def __init__(
        self,
        prototxt: Path,
        input_shapes: Mapping[str, tuple[int, ...]] | None = None,
        arithmetic: Arithmetic = FLOAT32,
    ) -> None:
        """Read the prototxt and work out every shape.

        `input_shapes` gives the shapes of tops that the prototxt does not (HDF5Data's). Raises `UserError` for a
        layer type or a setting that is not supported, and for blobs that do not fit together.
        """
        self.path = Path(prototxt)
        self.arithmetic = arithmetic
        net = read_prototxt(self.path)
        self.layers = [layer for layer in net.layer if layer.type not in ("Input", "HDF5Data")]
        self.parameters: dict[str, list[Tensor]] = {}
        self.parameter_shapes: dict[str, list[tuple[int, ...]]] = {}
        for layer in self.layers:
            if layer.type not in LAYERS:
                raise UserError(f"{self.path}: layer {layer.name} is a {layer.type}, which the port does not have")
            if any(weight != 1 for weight in layer.loss_weight):
                raise UserError(f"{self.path}: layer {layer.name} has a loss_weight other than 1: not supported")
        self.blob_shapes = self._infer_shapes(declared_inputs(net) | dict(input_shapes or {}))
        written = {top for layer in self.layers for top in layer.top}
        self.inputs = [name for name in self.blob_shapes if name not in written]
        self._last_use = {bottom: i for i, layer in enumerate(self.layers) for bottom in layer.bottom}

    def _infer_shapes(self, inputs: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Run the net on PyTorch's meta device, which computes shapes only."""
        blobs = {name: torch.empty(shape, device="meta") for name, shape in inputs.items()}
        for layer in self.layers:
            missing = [bottom for bottom in layer.bottom if bottom not in blobs]
            if missing:
                raise UserError(f"{self.path}: layer {layer.name} reads {missing[0]}, which no layer before it writes")
            bottoms = [blobs[bottom] for bottom in layer.bottom]
            try:
                shapes = PARAMETER_SHAPES.get(layer.type, lambda layer, bottom: [])(layer, bottoms[0])
                # PyTorch's own shape rule for batch_norm costs seconds of imports; BatchNorm keeps the shape.
                blank = [torch.empty(shape, device="meta") for shape in shapes]
                top = bottoms[0] if layer.type == "BatchNorm" else LAYERS[layer.type](layer, bottoms, blank)
            except UserError as error:
                raise UserError(f"{self.path}: layer {layer.name}: {error}") from None
            except (RuntimeError, IndexError, ZeroDivisionError) as error:
                message = " ".join(str(error).split())
                raise UserError(f"{self.path}: layer {layer.name} does not fit its bottom ({message})") from None
            if shapes:
                self.parameter_shapes[layer.name] = shapes
            blobs[layer.top[0]] = top
        return {name: tuple(blob.shape) for name, blob in blobs.items()}

    def load(self, caffemodel: Path) -> "CaffeNet":
        """Read the parameters, by layer name as Caffe does; layers of the file that the net lacks are left out.

        Raises `UserError` naming the first layer of the net that the file lacks or has in another shape. (Caffe
        leaves a layer that the file lacks at its filler without a word; an audit must not.)
        """
        found = read_caffemodel(caffemodel)
        for name, shapes in self.parameter_shapes.items():
            shapes_found = [blob.shape for blob in found.get(name, [])]
            if [squeeze_leading(s) for s in shapes_found] != [squeeze_leading(s) for s in shapes]:
                have = " and ".join(map(str, shapes_found)) or "nothing"
                raise UserError(
                    f"{caffemodel} does not fit {self.path}: layer {name} needs {' and '.join(map(str, shapes))}, "
                    f"the file has {have}: pass the caffemodel that belongs to this net"
                )
            if not all(np.isfinite(blob).all() for blob in found[name]):
                raise UserError(f"{caffemodel}: layer {name} holds values that are not finite: get a sound file")
        self.set_parameters({name: found[name] for name in self.parameter_shapes})
        return self

    def set_parameters(self, arrays: Mapping[str, list[np.ndarray]]) -> None:
        """Take the parameters from arrays, layer name to blobs in Caffe's order."""
        for name, blobs in arrays.items():
            self.parameters[name] = [
                self.arithmetic.take(torch.from_numpy(np.array(blob)).reshape(shape))
                for blob, shape in zip(blobs, self.parameter_shapes[name], strict=True)
            ]

    def forward(self, inputs: Mapping[str, Tensor], wanted: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Compute the net and return the blobs that are `wanted` (all where None), in forward order.

        A blob has the value that Caffe's `net.blobs` holds after the whole pass: layers that work in place have
        overwritten it. Blobs that nobody needs any more are let go at once. Layers after the last wanted blob are
        not computed.
        """
        keep = set(self.blob_shapes) if wanted is None else set(wanted)
        if unknown := keep - set(self.blob_shapes):
            raise UserError(f"{self.path} has no blob {sorted(unknown)[0]}: it has {', '.join(self.blob_shapes)}")
        stop = max((i for i, layer in enumerate(self.layers) if layer.top[0] in keep), default=-1)
        blobs = {name: self.arithmetic.take(inputs[name]) for name in self.inputs if name in inputs}
        for i, layer in enumerate(self.layers[: stop + 1]):
            bottoms = [blobs[bottom] for bottom in layer.bottom]
            blobs[layer.top[0]] = LAYERS[layer.type](layer, bottoms, self.parameters.get(layer.name, []))
            for bottom in layer.bottom:
                if self._last_use[bottom] <= i and bottom not in keep and bottom not in layer.top:
                    blobs.pop(bottom, None)  # a layer may name a bottom twice
        return {name: blobs[name] for name in self.blob_shapes if name in keep}


def declared_inputs(net: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of the inputs that a prototxt declares, as Input layers or in the older top-level way."""
    shapes = {layer.top[0]: tuple(layer.input_param.shape[0].dim) for layer in net.layer if layer.type == "Input"}
    for i, name in enumerate(net.input):
        shapes[name] = tuple(net.input_shape[i].dim if net.input_shape else net.input_dim[4 * i : 4 * i + 4])
    return shapes


def squeeze_leading(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without leading ones: files from before 2014 pad every blob to four axes."""
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return tuple(shape)


def one(values: Any, default: int) -> int:
    """A repeated field that stands for both axes: its single value, or the default where it is not given."""
    if len(values) > 1 and len(set(values)) > 1:
        raise UserError(f"a kernel with different sizes along its axes ({list(values)}) is not supported")
    return int(values[0]) if values else default


def convolution(layer: Any, bottoms: list[Tensor], blobs: list[Tensor]) -> Tensor:
    """Caffe's Convolution: cross-correlation, (n, c, h, w); sizes round down as in PyTorch."""
    p = layer.convolution_param
    bias = blobs[1] if p.bias_term else None
    return F.conv2d(bottoms[0], blobs[0], bias, one(p.stride, 1), one(p.pad, 0), one(p.dilation, 1), p.group)


def convolution_shapes(layer: Any, bottom: Tensor) -> list[tuple[int, ...]]:
    """Shapes of a Convolution's blobs: weight (n_out, n_in / group, k, k), bias (n_out,)."""
    p = layer.convolution_param
    k = one(p.kernel_size, 0)
    return [(p.num_output, bottom.shape[1] // p.group, k, k)] + [(p.num_output,)] * p.bias_term


def batch_norm(layer: Any, bottoms: list[Tensor], blobs: list[Tensor]) -> Tensor:
    """Caffe's BatchNorm with stored statistics; no gamma or beta, a Scale layer follows."""
    # D9: blobs 0 and 1 are sums; blob 2 says by what to divide, and 0 means that they count as 0.
    total = blobs[2]
    factor = torch.where(total == 0, torch.zeros_like(total), 1 / total)
    return F.batch_norm(bottoms[0], blobs[0] * factor, blobs[1] * factor, eps=layer.batch_norm_param.eps)


def batch_norm_shapes(layer: Any, bottom: Tensor) -> list[tuple[int, ...]]:
    """Shapes of a BatchNorm's blobs: mean and variance (c,), scale factor (1,)."""
    p = layer.batch_norm_param
    if p.HasField("use_global_stats") and not p.use_global_stats:
        raise UserError("BatchNorm with the batch's own statistics is not supported")
    return [(bottom.shape[1],), (bottom.shape[1],), (1,)]


def scale(layer: Any, bottoms: list[Tensor], blobs: list[Tensor]) -> Tensor:
    """Caffe's Scale along the channel axis: gamma x + beta."""
    shape = (1, -1) + (1,) * (bottoms[0].ndim - 2)
    if layer.scale_param.bias_term:
        return torch.addcmul(blobs[1].view(shape), bottoms[0], blobs[0].view(shape))
    return bottoms[0] * blobs[0].view(shape)


def scale_shapes(layer: Any, bottom: Tensor) -> list[tuple[int, ...]]:
    """Shapes of a Scale's blobs: gamma (c,), and beta (c,) where it has a bias."""
    p = layer.scale_param
    if p.axis != 1 or p.num_axes != 1 or len(layer.bottom) != 1:
        raise UserError("Scale along other axes than the channels, or by a bottom, is not supported")
    return [(bottom.shape[1],)] * (2 if p.bias_term else 1)


def relu(layer: Any, bottoms: list[Tensor], blobs: list[Tensor]) -> Tensor:
    """Caffe's ReLU, with its negative_slope."""
    slope = layer.relu_param.negative_slope
    return F.leaky_relu(bottoms[0], slope) if slope else torch.relu(bottoms[0])


def pooling(layer: Any, bottoms: list[Tensor], blobs: list[Tensor]) -> Tensor:
    """Caffe's Pooling, MAX or AVE."""
    p = layer.pooling_param
    # D10: Caffe rounds the output size up unless told otherwise; the clipped windows average over what
    # lies inside the padded image, padding counted. Both are PyTorch's ceil_mode and count_include_pad.
    ceil = enum_label(p, "round_mode") == "CEIL"
    kernel = bottoms[0].shape[2:] if p.global_pooling else p.kernel_size
    if not p.global_pooling and p.stride > p.kernel_size and not p.pad:
        # Caffe then has windows without a pixel at the far edge, and PyTorch does not.
        raise UserError("Pooling with a stride greater than its kernel is not supported")
    method = enum_label(p, "pool")
    if method == "MAX":
        return F.max_pool2d(bottoms[0], kernel, p.stride, p.pad, ceil_mode=ceil)
    if method == "AVE":
        return F.avg_pool2d(bottoms[0], kernel, p.stride, p.pad, ceil_mode=ceil, count_include_pad=True)
    raise UserError(f"{method} pooling is not supported")


def eltwise(layer: Any, bottoms: list[Tensor], blobs: list[Tensor]) -> Tensor:
    """Caffe's Eltwise: sum (with coefficients), product or maximum of its bottoms, which have one shape."""
    p = layer.eltwise_param
    if any(bottom.shape != bottoms[0].shape for bottom in bottoms):
        raise UserError("Eltwise bottoms differ in shape")
    operation = enum_label(p, "operation")
    if p.coeff and (operation != "SUM" or len(p.coeff) != len(bottoms)):
        raise UserError("Eltwise takes coeff for a SUM only, one for each bottom")
    coefficients = list(p.coeff) or [1.0] * len(bottoms)
    result = bottoms[0] * coefficients[0] if coefficients[0] != 1 else bottoms[0]
    for bottom, coefficient in zip(bottoms[1:], coefficients[1:], strict=True):
        if operation == "SUM":
            result = torch.add(result, bottom, alpha=coefficient)
        else:
            result = result * bottom if operation == "PROD" else torch.maximum(result, bottom)
    return result


def inner_product(layer: Any, bottoms: list[Tensor], blobs: list[Tensor]) -> Tensor:
    """Caffe's InnerProduct: all axes from the second on are flattened."""
    return linear(bottoms[0].flatten(1), blobs[0], blobs[1] if layer.inner_product_param.bias_term else None)


def inner_product_shapes(layer: Any, bottom: Tensor) -> list[tuple[int, ...]]:
    """Shapes of an InnerProduct's blobs: weight (n_out, n_in), bias (n_out,)."""
    p = layer.inner_product_param
    if p.axis != 1 or p.transpose:
        raise UserError("InnerProduct with another axis or transposed is not supported")
    return [(p.num_output, bottom[0].numel())] + [(p.num_output,)] * p.bias_term


def softmax(layer: Any, bottoms: list[Tensor], blobs: list[Tensor]) -> Tensor:
    """Caffe's Softmax along its axis."""
    return torch.softmax(bottoms[0], layer.softmax_param.axis)


def softmax_with_loss(layer: Any, bottoms: list[Tensor], blobs: list[Tensor]) -> Tensor:
    """Caffe's SoftmaxWithLoss of scores (n, c) and labels (n,): a scalar, the mean over the rows."""
    scores, labels = bottoms
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    log_probability = torch.log_softmax(scores, 1).gather(1, labels.long().view(-1, 1)).squeeze(1)
    # D11: Caffe clamps the probability at FLT_MIN before the log, and its gradient ignores the clamp. The difference
    # below is 0 and carries the gradient.
    clamped = log_probability.clamp(min=float(np.log(FLT_MIN))).detach()
    return -(clamped + (log_probability - log_probability.detach())).mean()


LAYERS: dict[str, Callable[[Any, list[Tensor], list[Tensor]], Tensor]] = {
    "Convolution": convolution,
    "BatchNorm": batch_norm,
    "Scale": scale,
    "ReLU": relu,
    "Pooling": pooling,
    "Eltwise": eltwise,
    "InnerProduct": inner_product,
    "Softmax": softmax,
    "SoftmaxWithLoss": softmax_with_loss,
}
PARAMETER_SHAPES: dict[str, Callable[[Any, Tensor], list[tuple[int, ...]]]] = {
    "Convolution": convolution_shapes,
    "BatchNorm": batch_norm_shapes,
    "Scale": scale_shapes,
    "InnerProduct": inner_product_shapes,
}
