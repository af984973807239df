"""A finished run of the port on three dozen images, with the shipped backbone, for the grid and the figures."""

import cv2
import numpy as np
import pytest

from experiment.pipeline import main as run_stages
from experiment.resolve import resolve
from paper.cells import CELL_STAGES
from tests.caffe_impl.test_index import annotate, make_devkit
from torch_impl.__main__ import MODULES, versions

TRAINVAL, TEST = 24, 12
OVERRIDES = (
    "images.hr_size=32", "images.lr_size=8", "features.blob_images=1", "clusters.k=4", "transfer.n1=6",
    "transfer.n2=4", "transfer.batch_size=10", "transfer.stepsize=8", "transfer.max_iter=20",
    "transfer.snapshots=[1, 2, 20]", "svm.c=2.5", "run.seed=5", 'resnet101.crops=[["china.jpg", 0, 0]]',
)  # fmt: skip
ONLY = [word for stage in CELL_STAGES for word in ("--only", stage)]


@pytest.fixture(scope="session")
def devkit(tmp_path_factory):
    """Noise of two tints, a class each; a third class has one positive image a split, and image 5 two classes."""
    ids = [f"{number:06d}" for number in range(TRAINVAL + TEST)]
    folder = make_devkit(
        tmp_path_factory.mktemp("devkit") / "VOC2007", {"trainval": ids[:TRAINVAL], "test": ids[TRAINVAL:]}
    )
    random = np.random.default_rng(0)
    for number, image_id in enumerate(ids):
        warm = number % 3 == 0
        image = random.integers(0, 200, (40 + number, 60, 3)) + ([0, 0, 40] if warm else [40, 0, 0])
        cv2.imwrite(str(folder / "JPEGImages" / f"{image_id}.jpg"), image.astype(np.uint8))
        objects = [("warm" if warm else "cold", int(number == 3))]
        if number in (5, TRAINVAL + 1):
            objects.append(("rare", 0))
        annotate(folder, image_id, *objects)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory, devkit):
    """RUN, with a finished RUN/torch in it."""
    run = tmp_path_factory.mktemp("runs") / "small"
    resolve("embedded", run / "torch", devkit, overrides=OVERRIDES)
    run_stages("torch", MODULES, versions, [str(run / "torch"), *ONLY])
    return run
