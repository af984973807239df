"""A folded net as an ONNX model, which ONNX Runtime and OpenVINO read."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from experiment.errors import UserError
from torch_impl.caffe_net import CaffeNet, one
from torch_impl.caffe_proto import enum_label
from torch_impl.folding import FoldedLayer, fold, gain_and_offset

OPSET, IR_VERSION = 17, 8  # of the same release, 1.12
INPUT, OUTPUT = "data", "features"
FREE = "n"  # the number of images


def model(net: CaffeNet, blob: str) -> onnx.ModelProto:
    """A net that computes in float64, as a float32 model from `data` (n, 3, h, w) to `features` (n, D), n being free.

    Raises `UserError` for a layer that is in no model.
    """
    graph = Graph(net)
    for folded in fold(net, blob):
        if folded.layer.type not in NODES:
            raise UserError(f"{net.path}: no engine has {folded.layer.type} ({folded.layer.name}): use ENGINE=eager")
        NODES[folded.layer.type](graph, folded)
    graph.nodes.append(helper.make_node("Flatten", [graph.newest[blob]], [OUTPUT], axis=1))
    length = int(np.prod(net.blob_shapes[blob][1:]))
    made = helper.make_graph(
        graph.nodes,
        "backbone",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [FREE, *net.blob_shapes[INPUT][1:]])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [FREE, length])],
        graph.constants,
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


class Graph:
    """The nodes so far.

    newest : a blob's name to the name of its value; layers that work in place write a new one, as ONNX wants.
    shapes : those of the net's blobs. Those in place do not change them.
    """

    def __init__(self, net: CaffeNet) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.newest = {name: name for name in net.inputs}
        self.shapes = net.blob_shapes

    def constant(self, array: Any) -> str:
        """The name of a constant with these values, rounded to float32."""
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name

    def node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node with one output and return that output's name."""
        name = f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def bottoms(self, layer: Any) -> list[str]:
        """The values that a layer reads."""
        return [self.newest[bottom] for bottom in layer.bottom]

    def write(self, layer: Any, value: str) -> None:
        """Make a value the layer's top."""
        self.newest[layer.top[0]] = value


def convolution(graph: Graph, folded: FoldedLayer) -> None:
    """Convolution with weight and bias."""
    layer, p = folded.layer, folded.layer.convolution_param
    constants = [graph.constant(blob) for blob in folded.blobs]
    stride, pad, dilation = one(p.stride, 1), one(p.pad, 0), one(p.dilation, 1)
    how = {"strides": [stride] * 2, "pads": [pad] * 4, "dilations": [dilation] * 2, "group": p.group}
    graph.write(layer, graph.node("Conv", [*graph.bottoms(layer), *constants], **how))


def affine(graph: Graph, folded: FoldedLayer) -> None:
    """BatchNorm or Scale that no Convolution precedes."""
    layer = folded.layer
    shape = (-1,) + (1,) * (len(graph.shapes[layer.bottom[0]]) - 2)
    gain, offset = (graph.constant(part.view(shape)) for part in gain_and_offset(layer, folded.blobs))
    scaled = graph.node("Mul", [*graph.bottoms(layer), gain])
    graph.write(layer, graph.node("Add", [scaled, offset]))


def relu(graph: Graph, folded: FoldedLayer) -> None:
    """ReLU, with its negative_slope."""
    layer, slope = folded.layer, folded.layer.relu_param.negative_slope
    how = {"alpha": slope} if slope else {}
    graph.write(layer, graph.node("LeakyRelu" if slope else "Relu", graph.bottoms(layer), **how))


def pooling(graph: Graph, folded: FoldedLayer) -> None:
    """Pooling, MAX or AVE.

    Runtimes disagree about ceil_mode, so that the padding is written out which makes Caffe's size (D10). An average
    then counts cells beyond the padded image that Caffe does not, which a factor for each window mends.
    """
    layer, p = folded.layer, folded.layer.pooling_param
    method = enum_label(p, "pool")
    size, out = graph.shapes[layer.bottom[0]][2:], graph.shapes[layer.top[0]][2:]
    kernel = list(size) if p.global_pooling else [p.kernel_size] * 2
    after = [max(0, (o - 1) * p.stride + k - s - p.pad) for o, k, s in zip(out, kernel, size, strict=True)]
    how: dict[str, Any] = {"kernel_shape": kernel, "strides": [p.stride] * 2, "pads": [p.pad, p.pad, *after]}
    if method == "MAX":
        graph.write(layer, graph.node("MaxPool", graph.bottoms(layer), **how))
        return
    value = graph.node("AveragePool", graph.bottoms(layer), count_include_pad=1, **how)
    inside = [
        np.minimum(np.arange(o) * p.stride + k, s + 2 * p.pad) - np.arange(o) * p.stride
        for o, k, s in zip(out, kernel, size, strict=True)
    ]
    factor = np.prod(kernel) / np.outer(*inside)
    graph.write(layer, value if (factor == 1).all() else graph.node("Mul", [value, graph.constant(factor)]))


def eltwise(graph: Graph, folded: FoldedLayer) -> None:
    """Eltwise: sum (with coefficients), product or maximum."""
    layer, p = folded.layer, folded.layer.eltwise_param
    values = graph.bottoms(layer)
    for i, coefficient in enumerate(p.coeff):
        values[i] = values[i] if coefficient == 1 else graph.node("Mul", [values[i], graph.constant(coefficient)])
    operator = {"SUM": "Add", "PROD": "Mul", "MAX": "Max"}[enum_label(p, "operation")]
    result = values[0]
    for value in values[1:]:
        result = graph.node(operator, [result, value])
    graph.write(layer, result)


def inner_product(graph: Graph, folded: FoldedLayer) -> None:
    """InnerProduct of the flattened bottom."""
    layer = folded.layer
    flat = graph.node("Flatten", graph.bottoms(layer), axis=1)
    graph.write(layer, graph.node("Gemm", [flat, *(graph.constant(blob) for blob in folded.blobs)], transB=1))


def softmax(graph: Graph, folded: FoldedLayer) -> None:
    """Softmax along its axis."""
    graph.write(folded.layer, graph.node("Softmax", graph.bottoms(folded.layer), axis=folded.layer.softmax_param.axis))


NODES = {
    "Convolution": convolution,
    "BatchNorm": affine,
    "Scale": affine,
    "ReLU": relu,
    "Pooling": pooling,
    "Eltwise": eltwise,
    "InnerProduct": inner_product,
    "Softmax": softmax,
}
