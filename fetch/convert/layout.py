"""The places of the Caffe net that a descendant's weights go to, read from the net's prototxt."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from experiment.errors import UserError
from torch_impl.caffe_proto import read_prototxt

BLOCK = re.compile(r"res(\d+)([a-z]\d*)_branch(1|2a|2b|2c)")  # res4b22_branch2a: stage 4, block b22, branch 2a


class Unit(NamedTuple):
    """A convolution without bias, and the BatchNorm and the Scale that work on its top."""

    name: str
    batch_norm: str
    scale: str
    shape: tuple[int, ...]  # of the kernel: (n_out, n_in, height, width)
    stride: int
    pad: int
    eps: float  # of the BatchNorm
    stage: int  # 1 for conv1, 2 to 5 for the residual stages
    block: int  # its number in the stage, from 0
    branch: str  # "1", "2a", "2b", "2c"; "" for conv1


class Layout(NamedTuple):
    """All places of a residual net, in the prototxt's order."""

    units: list[Unit]
    classifier: str  # the InnerProduct's name
    classes: int
    features: int  # channels that the classifier reads


def read_layout(prototxt: Path) -> Layout:
    """Read the places from a residual net's prototxt.

    Raises `UserError` for a net that is not built of such units and one classifier.
    """
    units: list[Unit] = []
    classifiers: list[tuple[str, int, int]] = []
    channels = {"data": 3}
    labels: dict[int, list[str]] = {}
    net = read_prototxt(prototxt)
    for layer in net.layer:
        if layer.type == "Input":
            continue
        n_in = channels[layer.bottom[0]]
        if layer.type == "Convolution":
            units.append(unit(prototxt, net, layer, n_in, labels))
            n_in = layer.convolution_param.num_output
        elif layer.type == "InnerProduct":
            classifiers.append((layer.name, layer.inner_product_param.num_output, n_in))
            n_in = layer.inner_product_param.num_output
        channels[layer.top[0]] = n_in
    if len(classifiers) != 1 or not units:
        raise UserError(f"{prototxt} is no residual net with one classifier: pass ResNet-101's prototxt")
    return Layout(units, *classifiers[0])


def unit(prototxt: Path, net: Any, convolution: Any, n_in: int, labels: dict[int, list[str]]) -> Unit:
    """One convolution's place; `labels` collects each stage's block names in order."""
    followers = {layer.type: layer for layer in net.layer if list(layer.bottom) == [convolution.top[0]]}
    match = BLOCK.fullmatch(convolution.name)
    p = convolution.convolution_param
    known = match is not None or convolution.name == "conv1"
    if not known or p.bias_term or not {"BatchNorm", "Scale"} <= followers.keys():
        raise UserError(f"{prototxt}: layer {convolution.name} is not one of a Model Zoo ResNet: pass ResNet-101's")
    stage, label, branch = (int(match[1]), match[2], match[3]) if match else (1, "", "")
    blocks = labels.setdefault(stage, [])
    if label not in blocks:
        blocks.append(label)
    return Unit(
        name=convolution.name,
        batch_norm=followers["BatchNorm"].name,
        scale=followers["Scale"].name,
        shape=(p.num_output, n_in, p.kernel_size[0], p.kernel_size[0]),
        stride=p.stride[0] if p.stride else 1,
        pad=p.pad[0] if p.pad else 0,
        eps=followers["BatchNorm"].batch_norm_param.eps,
        stage=stage,
        block=blocks.index(label),
        branch=branch,
    )
