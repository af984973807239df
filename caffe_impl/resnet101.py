"""Stage resnet101: real photographs through the full ResNet-101 with seeded weights, every blob kept.

The weights mean nothing; they are drawn so that every layer's arithmetic shows in its blob and stays finite.
"""

from pathlib import Path
from typing import Sequence

import caffe
import numpy as np

from caffe_impl.jpeg import read_jpeg
from caffe_impl.net import all_blobs, load_net, write_blobs
from experiment.errors import UserError
from experiment.pipeline import Stage

WEIGHTS_FILE = "resnet101.caffemodel"
INPUT_SCALE = 64.0  # about the standard deviation of grey levels: conv1's weights are divided by it
STATISTICS_FACTOR = 999.98  # BatchNorm's third blob: mean and variance are stored times this
BRANCH_GAMMA = 0.3  # of each bottleneck's last Scale, so that 33 sums do not grow without bound
BETA_STD = 0.1
LOGIT_STD = 0.001  # fc1000's weights: the softmax stays away from 0 and 1


def draw_weights(net: caffe.Net, seed: int) -> None:
    """Fill every parameter of a residual net, layer by layer in the net's order, from one seeded stream.

    Convolutions are Gaussian of variance 2 / fan-in (He et al. 2015). BatchNorm's mean is around 0 and its
    variance around 1, both stored times a third blob that is not 1, as Caffe divides by it. Scale's gamma is
    around 1, smaller at a bottleneck's end.
    """
    random = np.random.RandomState(seed)
    types = dict(zip(net._layer_names, (layer.type for layer in net.layers)))
    for name, blobs in net.params.items():
        shape = blobs[0].data.shape
        if types[name] == "Convolution":
            std = np.sqrt(2 / np.prod(shape[1:])) / (INPUT_SCALE if name == "conv1" else 1)
            blobs[0].data[...] = std * random.standard_normal(shape)
        elif types[name] == "BatchNorm":
            blobs[0].data[...] = STATISTICS_FACTOR * BETA_STD * random.standard_normal(shape)
            blobs[1].data[...] = STATISTICS_FACTOR * random.uniform(0.5, 1.5, shape)
            blobs[2].data[...] = STATISTICS_FACTOR
        elif types[name] == "Scale":
            around = BRANCH_GAMMA if name.endswith("branch2c") else 1.0
            blobs[0].data[...] = around * random.uniform(0.8, 1.2, shape)
            blobs[1].data[...] = BETA_STD * random.standard_normal(shape)
        elif types[name] == "InnerProduct":
            blobs[0].data[...] = LOGIT_STD * random.standard_normal(shape)
            blobs[1].data[...] = BETA_STD * random.standard_normal(blobs[1].data.shape)
        else:
            raise ValueError(f"no rule to draw layer {name} of type {types[name]}")


def cut_crops(folder: Path, crops: Sequence[Sequence], size: int) -> np.ndarray:
    """Squares of `size` pixels out of photographs, from (file, top, left): (m, size, size, 3) uint8 BGR."""
    cut = []
    for name, top, left in crops:
        image = read_jpeg(folder / name)
        if top < 0 or left < 0 or top + size > image.shape[0] or left + size > image.shape[1]:
            raise UserError(
                f"{folder / name} is {image.shape[0]} x {image.shape[1]} pixels: resnet101.crops asks for {size} from "
                f"({top}, {left}), which is outside"
            )
        cut.append(image[top : top + size, left : left + size])
    return np.stack(cut)


def run(stage: Stage) -> None:
    """Draw the weights (or take over drawn ones), save them as a caffemodel, and keep every blob."""
    spec = stage.spec["resnet101"]
    drawn = stage.drawn_file("weights")
    net = load_net(stage.prototxt("resnet101.prototxt"), drawn)
    if drawn is None:
        draw_weights(net, stage.seed("resnet101-weights"))
    net.save(str(stage.out.new_file(WEIGHTS_FILE)))
    stage.out.add_file("weights", WEIGHTS_FILE)
    photographs = cut_crops(stage.external("photographs"), spec["crops"], spec["size"])
    stage.out.array("photographs", photographs)
    mean = np.array(spec["mean_bgr"], np.float32)
    write_blobs(stage.out, all_blobs(net, photographs, mean, stage.batch_size(len(photographs))))
