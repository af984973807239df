"""How fast this machine is at what takes the port long, by a short measurement of each."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from experiment.artifacts import RunFolder
from torch_impl import engines, images, transfer
from torch_impl.caffe_net import CaffeNet
from torch_impl.caffe_proto import read_prototxt
from torch_impl.net_io import to_input
from torch_impl.products import unrounded
from torch_impl.resnet101 import draw_parameters

ORIGINAL = (375, 500, 3)  # a photograph of VOC2007


def seconds_of_stages(run: RunFolder, counts: Mapping[str, int], engine: str) -> dict[str, float]:
    """Stage to the seconds that it may take, for `counts` images of each split."""
    spec = run.spec["values"]
    n = sum(counts.values())
    random = np.random.default_rng(0)
    photograph = random.integers(0, 256, ORIGINAL, np.uint8)
    size = spec["images"]["hr_size"]
    image = once(lambda: images.make_pair(photograph, size, spec["images"]["lr_size"]))
    return {
        "images": image * n,
        "features": forward(run, random, spec, engine) * 2 * n,
        "transfer": iteration(run, random, spec, engine) * spec["transfer"]["max_iter"],
    }


def once(work: Callable[[], object]) -> float:
    """The seconds of the second of two runs; the first warms up."""
    work()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@torch.inference_mode()
def forward(run: RunFolder, random: np.random.Generator, spec: Mapping[str, Any], engine: str) -> float:
    """The seconds of one image in the backbone, by that engine."""
    net = CaffeNet(run.prototxt("backbone.prototxt"))
    net.set_parameters(draw_parameters(net, 1))
    blob = spec["features"]["blob"]
    computing = engines.build(engines.choose(engine)["engine"], net, blob)
    size, batch_size = spec["images"]["hr_size"], spec["features"]["batch_size"]
    batch = random.integers(0, 256, (batch_size, size, size, 3), np.uint8)
    mean = np.array(spec["features"]["mean_bgr"], np.float32)
    return once(lambda: computing.forward({"data": to_input(batch, mean)}, [blob])) / batch_size


def iteration(run: RunFolder, random: np.random.Generator, spec: Mapping[str, Any], engine: str) -> float:
    """The seconds of an iteration of training, with that engine's products."""
    length, settings = 4 * spec["backbone"]["widths"][-1], spec["transfer"]
    shapes = {"data": (settings["batch_size"], length), "label": (settings["batch_size"],)}
    net = CaffeNet(run.prototxt("transfer_train.prototxt"), shapes, transfer.arithmetic_by(engine))
    initial = transfer.draw_parameters(net, settings["variance_norm"], 1)
    solver = transfer.SGDSolver(net, read_prototxt(run.prototxt("solver.prototxt"), "SolverParameter"), initial)
    rows = net.arithmetic.take(torch.from_numpy(random.normal(size=shapes["data"])))
    labels = torch.from_numpy(random.integers(0, settings["n2"], settings["batch_size"]))
    with unrounded(), transfer.memory_kept():  # as the stage has it
        return once(lambda: solver.step(rows, labels))
