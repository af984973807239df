"""Stage images: HR and LR versions of every photograph, by OpenCV's bicubic (or Pillow's, by the spec)."""

import cv2
import numpy as np
from PIL import Image

from caffe_impl.jpeg import read_jpeg
from experiment.pipeline import Stage
from experiment.progress import progress
from experiment.stages import SPLITS

CHUNK = 64  # images are kept so many at a time where the stage is stopped


def hr_and_lr(
    image_bgr: np.ndarray, hr_size: int, lr_size: int, lr_from: str, antialias: bool
) -> tuple[np.ndarray, np.ndarray]:
    """One photograph at high resolution, and what is left of it after low resolution (paper 4.1).

    Parameters
    ----------
    image_bgr : (h, w, 3) uint8, as decoded.
    hr_size, lr_size : side lengths in pixels; both results are shown at hr_size.
    lr_from : what LR is shrunk from, "original" or "hr".
    antialias : False for OpenCV's bicubic (a = -0.75, four taps), True for Pillow's (a = -0.5, the kernel widened
        by the ratio when it shrinks).

    Returns hr, lr: (hr_size, hr_size, 3) uint8 each. Values are rounded to uint8 between shrinking and enlarging.
    """
    hr = resize(image_bgr, hr_size, antialias)
    small = resize(hr if lr_from == "hr" else image_bgr, lr_size, antialias)
    return hr, resize(small, hr_size, antialias)


def resize(image_bgr: np.ndarray, size: int, antialias: bool) -> np.ndarray:
    """`image_bgr` at (size, size), whatever its aspect."""
    if antialias:
        return np.asarray(Image.fromarray(image_bgr).resize((size, size), Image.BICUBIC))
    return cv2.resize(image_bgr, (size, size), interpolation=cv2.INTER_CUBIC)


def run(stage: Stage) -> None:
    """Write HR and LR of both splits, image by image."""
    spec = stage.spec["images"]
    size = spec["hr_size"]
    folder = stage.external("devkit") / "JPEGImages"
    sha256 = stage.inputs.json("index", "image_sha256")
    for split in SPLITS:
        ids = stage.inputs.json("index", f"ids_{split}")
        shape = (len(ids), size, size, 3)
        todo = stage.out.rows([f"hr_{split}", f"lr_{split}"], shape, "uint8", CHUNK)
        hr, lr = todo.arrays
        for rows in progress(todo, todo.count, "images", f"images {split}", step=CHUNK):
            for row in range(rows.start, rows.stop):
                image = read_jpeg(folder / f"{ids[row]}.jpg", sha256[ids[row]])
                hr[row], lr[row] = hr_and_lr(image, size, spec["lr_size"], spec["lr_from"], spec["antialias"])
