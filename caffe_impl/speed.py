"""How fast this machine is at what takes long on the literal side, by a short measurement of each."""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, Mapping

import numpy as np

from caffe_impl import images, net, svm, transfer
from experiment.artifacts import RunFolder

ORIGINAL = (375, 500, 3)  # a photograph of VOC2007
SVM_ROWS = 200


def seconds_of_stages(run: RunFolder, counts: Mapping[str, int], engine: str) -> Dict[str, float]:
    """Stage to the seconds that it may take, for `counts` images of each split; `engine` is the port's matter."""
    spec = run.spec["values"]
    n, n_trainval = sum(counts.values()), counts["trainval"]
    random = np.random.RandomState(0)
    photograph = random.randint(0, 256, ORIGINAL).astype(np.uint8)
    size = spec["images"]["hr_size"]
    image = once(lambda: images.hr_and_lr(photograph, size, spec["images"]["lr_size"], "original", False))
    backbone = net.load_net(run.prototxt("backbone.prototxt"))
    batch = random.randint(0, 256, (spec["features"]["batch_size"], size, size, 3)).astype(np.uint8)
    mean = np.array(spec["features"]["mean_bgr"], np.float32)
    forward = once(lambda: net.forward_images(backbone, batch, mean)) / len(batch)
    length = 4 * spec["backbone"]["widths"][-1]
    return {
        "images": image * n,
        "features": forward * 2 * n,
        "transfer": iteration(run, random, length, spec) * spec["transfer"]["max_iter"],
        "svm": one_class(random, length, spec["svm"]) * (n_trainval / SVM_ROWS) ** 2 * 2 * 20 / svm.threads(),
    }


def once(work: Callable[[], object]) -> float:
    """The seconds of the second of two runs; the first warms up."""
    work()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def iteration(run: RunFolder, random: np.random.RandomState, length: int, spec: Mapping) -> float:
    """The seconds of an iteration of training."""
    rows = random.normal(size=(spec["transfer"]["batch_size"], length)).astype(np.float32)
    labels = random.randint(0, spec["transfer"]["n2"], len(rows))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("transfer_train.prototxt", "solver.prototxt"):
            shutil.copyfile(str(run.prototxt(file)), str(folder / file))
        return once(transfer.Training(folder, rows, labels, 1).step)


def one_class(random: np.random.RandomState, length: int, spec: Mapping) -> float:
    """The seconds of one class's machine on `SVM_ROWS` rows; LIBSVM's time grows as their square, about."""
    rows = np.abs(random.normal(size=(SVM_ROWS, length))) / length**0.5
    nodes = svm.Nodes(rows)
    labels = np.where(np.arange(SVM_ROWS) % 10 == 0, 1, -1)
    parameter = svm.linear_parameter(spec["c"], spec["tolerance"])
    return once(lambda: svm.train_class(nodes, labels, nodes, parameter))
