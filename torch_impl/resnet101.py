"""Stage resnet101: real photographs through the paper's whole architecture with seeded weights, every blob kept."""

import numpy as np
import torch

from experiment.errors import UserError
from experiment.pipeline import Stage
from torch_impl.caffe_net import CaffeNet, arithmetic_of
from torch_impl.caffe_proto import write_caffemodel
from torch_impl.jpeg import read_bgr
from torch_impl.net_io import save_blobs, to_input


@torch.inference_mode()
def run(stage: Stage) -> None:
    """Write weights (a caffemodel), photographs (m, S, S, 3) uint8 BGR, and every blob."""
    spec = stage.spec["resnet101"]
    net = CaffeNet(stage.prototxt("resnet101.prototxt"), arithmetic=arithmetic_of(stage.variation))
    weights = stage.out.new_file("resnet101.caffemodel")
    drawn = stage.drawn_file("weights")
    if drawn is None:
        parameters = draw_parameters(net, stage.seed("resnet101-weights"))
        types = {layer.name: layer.type for layer in net.layers}
        write_caffemodel(weights, "ResNet-101", [(name, types[name], blobs) for name, blobs in parameters.items()])
    else:
        weights.write_bytes(drawn.read_bytes())
    stage.out.add_file("weights", weights.name)
    net.load(weights)
    folder = stage.external("photographs")
    assert folder is not None
    crops = []
    for name, top, left in spec["crops"]:
        image_bgr = read_bgr(folder / name)
        crop = image_bgr[top : top + spec["size"], left : left + spec["size"]]
        if crop.shape[:2] != (spec["size"], spec["size"]):
            raise UserError(f"resnet101.crops: {name} at {top}, {left} leaves the photograph: move the crop")
        crops.append(crop)
    photographs_bgr = np.stack(crops)
    stage.out.array("photographs", photographs_bgr)
    mean_bgr = np.array(spec["mean_bgr"], dtype=np.float32)
    save_blobs(stage.out, net.forward({"data": to_input(photographs_bgr, mean_bgr)}))


def draw_parameters(net: CaffeNet, seed: int) -> dict[str, list[np.ndarray]]:
    """Seeded parameters that keep the activations of a deep residual net finite, for a run without Caffe's own.

    BatchNorm's scale factor is not 1, so that a port that forgets to divide by it is seen.
    """
    generator = np.random.default_rng(seed)
    types = {layer.name: layer.type for layer in net.layers}
    parameters = {}
    for name, shapes in net.parameter_shapes.items():
        if types[name] == "BatchNorm":
            factor = 500.0
            mean = generator.normal(0, 0.1, shapes[0]) * factor
            variance = generator.uniform(0.5, 1.5, shapes[1]) * factor
            blobs = [mean, variance, np.array([factor])]
        elif types[name] == "Scale":
            gain = 0.3 if name.endswith("branch2c") else 1.0
            blobs = [gain * generator.uniform(0.8, 1.2, shapes[0]), generator.normal(0, 0.1, shapes[1])]
        else:
            fan_in = int(np.prod(shapes[0][1:]))
            spread = (2 / fan_in) ** 0.5 / (64 if name == "conv1" else 1)
            blobs = [generator.normal(0, spread, shapes[0]), *(np.zeros(shape) for shape in shapes[1:])]
        parameters[name] = [blob.astype(np.float32) for blob in blobs]
    return parameters
