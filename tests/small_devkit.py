"""A devkit of a few images, on which either side runs in seconds."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tests.caffe_impl.test_index import annotate, make_devkit

TRAINVAL, TEST = 24, 12


def small_devkit(
    folder: Path,
    trainval: int = TRAINVAL,
    test: int = TEST,
    classes: tuple[str, str] = ("warm", "cold"),
    tint: int = 40,
    difficult: Sequence[int] = (3,),
    rare: Sequence[int] = (),
) -> Path:
    """`folder`/VOC2007, annotations only: noise of two tints, a class each; every third image is of the first class.

    tint : by how much a tinted channel is brighter, of 256. difficult : images whose object is so. rare : images that
    hold an object of the class "rare" as well. Images are numbered from 0, those of trainval first.
    """
    ids = [f"{number:06d}" for number in range(trainval + test)]
    devkit = make_devkit(folder / "VOC2007", {"trainval": ids[:trainval], "test": ids[trainval:]})
    random = np.random.default_rng(0)
    for number, image_id in enumerate(ids):
        first = number % 3 == 0
        image = random.integers(0, 200, (40 + number, 60, 3)) + ([0, 0, tint] if first else [tint, 0, 0])
        cv2.imwrite(str(devkit / "JPEGImages" / f"{image_id}.jpg"), image.astype(np.uint8))
        objects = [(classes[0 if first else 1], int(number in difficult))]
        annotate(devkit, image_id, *objects, *[("rare", 0)] * (number in rare))
    return devkit
