"""From JPEGs to features: reading, resizing to HR and LR and writing both beside the net alone, ms an image of the net.

Photographs of VOC2007's usual size through ResNet-101 with seeded weights. Where the two figures are equal, reading and
resizing cost nothing.
"""

import hashlib
import json
import shutil
import tempfile
from itertools import count
from pathlib import Path

import cv2
import numpy as np
from sklearn.datasets import load_sample_images

from bench.measure import PORT, Bench, Subject, Work
from bench.resnet101 import BLOB, MEAN_BGR, PROTOTXT, SEED
from experiment.artifacts import RunFolder, batches
from experiment.pipeline import Stage
from experiment.spec import read_profile
from experiment.stage_writer import StageWriter
from torch_impl import engines, features, images
from torch_impl.caffe_net import CaffeNet
from torch_impl.resnet101 import draw_parameters

HEIGHT, WIDTH = 375, 500
PHOTOGRAPHS = 48


def run(bench: Bench) -> None:
    """Measure the port with the engine that it would take."""
    values = read_profile("paper")[0]
    net = CaffeNet(PROTOTXT)
    net.set_parameters(draw_parameters(net, SEED))
    computing = engines.build(engines.choose(engines.AUTO)["engine"], net, BLOB)
    batch_size = values["features"]["batch_size"]
    numbers = count()

    def compute(folder: Path) -> np.ndarray:
        found = []
        for name in features.ARRAYS:
            images_bgr = np.load(folder / f"{name}.npy", mmap_mode="r")
            out = np.empty((len(images_bgr), *features.feature_shape(net, BLOB)), np.float32)
            features.extract(computing, images_bgr, MEAN_BGR, BLOB, out, batches(len(out), batch_size))
            found.append(out)
        return np.concatenate(found)

    with tempfile.TemporaryDirectory(prefix="udft-bench-") as scratch:
        run_ = prepared(Path(scratch), values)

        def resized() -> Path:
            stage = Stage("images", run_, run_, None, StageWriter(run_, "images", str(next(numbers))))
            images.run(stage)
            stage.out.finish({"stage": "images"})
            return stage.out.final

        kept = Path(scratch) / "kept"
        shutil.copytree(resized(), kept)
        subjects = [
            Subject(PORT, "float32", lambda: compute(resized())),
            Subject("the net alone", "float32", lambda: compute(kept)),
        ]
        bench.measure(Work("JPEG to features", "ms an image", subjects, 1000 / (2 * PHOTOGRAPHS)))


def prepared(folder: Path, values: dict) -> RunFolder:
    """A run with JPEGs and a finished stage index."""
    photographs = folder / "devkit" / "JPEGImages"
    photographs.mkdir(parents=True)
    whole = [cv2.cvtColor(image, cv2.COLOR_RGB2BGR) for image in load_sample_images().images]
    random = np.random.default_rng(SEED)
    ids, digests = [f"{number:06d}" for number in range(PHOTOGRAPHS)], {}
    for number, image_id in enumerate(ids):
        image = whole[number % 2]
        top, left = (random.integers(0, limit) for limit in (image.shape[0] - HEIGHT, image.shape[1] - WIDTH))
        data = cv2.imencode(".jpg", image[top : top + HEIGHT, left : left + WIDTH])[1].tobytes()
        (photographs / f"{image_id}.jpg").write_bytes(data)
        digests[image_id] = hashlib.sha256(data).hexdigest()
    spec = {"values": values, "external": {"devkit": {"path": str(folder / "devkit")}}}
    (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    run_ = RunFolder(folder)
    index = StageWriter(run_, "index")
    for name, value in {"ids_trainval": ids[1:], "ids_test": ids[:1], "image_sha256": digests}.items():
        index.json(name, value)
    index.finish({"stage": "index"})
    return run_
