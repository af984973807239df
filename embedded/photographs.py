"""The photographs that the embedded backbone is trained on: found, split, decoded and cropped."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sklearn.model_selection import train_test_split

from experiment.errors import UserError
from experiment.progress import progress
from torch_impl.images import make_pair
from torch_impl.jpeg import read_bgr

CROP_AREA, CROP_RATIO = (0.35, 1.0), (0.75, 4 / 3)  # of the photograph


@dataclass
class Photographs:
    """A folder of photographs: paths in the order of their names, and for each the number of its class."""

    paths: list[Path]
    labels: np.ndarray
    sha256: str


def find_photographs(folder: Path, classes: int) -> Photographs:
    """List CLASS/*.jpg and hash every name ("CLASS/file") and every file's bytes, in the order of the names.

    Raises `UserError` where the folder is missing or does not hold `classes` folders with photographs.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: pass the one that holds a folder of photographs for each class")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*.jpg"))
    found = sorted({name.split("/")[0] for name in names})
    if len(found) != classes:
        raise UserError(
            f"{folder} holds {len(found)} folders with photographs (CLASS/*.jpg), the net has "
            f"{classes} classes: pass a folder with so many"
        )
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode())
        digest.update((folder / name).read_bytes())
    labels = np.array([found.index(name.split("/")[0]) for name in names])
    return Photographs([folder / name for name in names], labels, digest.hexdigest())


def split(labels: np.ndarray, held_out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sorted arrays of rows, to train on and held out; each class gives its share of the latter."""
    try:
        kept, out = train_test_split(np.arange(len(labels)), test_size=held_out, random_state=seed, stratify=labels)
    except ValueError as error:
        raise UserError(f"{len(labels)} photographs are too few to hold out {held_out} ({error}): add some") from None
    return np.sort(kept), np.sort(out)


def read_pairs(paths: list[Path], images: Mapping[str, Any], label: str) -> tuple[np.ndarray, np.ndarray]:
    """HR and LR versions (n, hr_size, hr_size, 3) uint8 BGR, by the images stage's own code."""
    pairs = [
        make_pair(read_bgr(path), images["hr_size"], images["lr_size"], images["lr_from"], images["antialias"])
        for path in progress(paths, len(paths), "images", label)
    ]
    return np.stack([hr for hr, _ in pairs]), np.stack([lr for _, lr in pairs])


def read_warped(paths: list[Path], side: int, label: str) -> np.ndarray:
    """The photographs warped to (n, side, side, 3) uint8 BGR by OpenCV, which is much the faster."""
    return np.stack(
        [
            cv2.resize(read_bgr(path), (side, side), interpolation=cv2.INTER_CUBIC)
            for path in progress(paths, len(paths), "images", label)
        ]
    )


def random_view(image_bgr: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """A random part of an image (h, w, 3) uint8, warped to (side, side, 3), every other one mirrored."""
    height, width = image_bgr.shape[:2]
    area, ratio = rng.uniform(*CROP_AREA), np.exp(rng.uniform(*np.log(CROP_RATIO)))
    h, w = (
        max(1, round(min(1.0, s) * n)) for s, n in ((np.sqrt(area / ratio), height), (np.sqrt(area * ratio), width))
    )
    y, x = rng.integers(height - h + 1), rng.integers(width - w + 1)
    view = cv2.resize(image_bgr[y : y + h, x : x + w], (side, side), interpolation=cv2.INTER_CUBIC)
    return view[:, ::-1] if rng.random() < 0.5 else view
