"""Devkits derived from a devkit: alternatives that are other data, and not other values of the specification.

A derived devkit has VOC2007's layout, with labels as lists and links to the photographs that stay as they are. It is
written whole or not at all; the devkit.json beside its VOC2007 folder, written last, says what it was made from.
"""

import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from experiment.artifacts import read_json, sha256_file, write_json
from experiment.errors import UserError
from experiment.pipeline import fingerprint
from experiment.stages import SPLITS
from torch_impl.index import read_labels, read_objects, read_split
from torch_impl.jpeg import read_bgr

RECORD = "devkit.json"
ORDER_SEED = 1  # of the one permutation of D8
EXIF_ORIENTATION = 274  # the tag's number; 1 is upright
# The stage index reads JPEGs alone, so that what is cut out is coded once more. At this quality, with the colours at
# full size, that moves photographs by 0.2 grey levels in the mean, and no pixel by more than 6 (a test looks).
JPEG: dict[str, Any] = {"format": "JPEG", "quality": 100, "subsampling": 0}


class NotDerivable(Exception):
    """The devkit has nothing in which the alternative differs; the message says what it lacks."""


@dataclass(frozen=True)
class Devkit:
    """A devkit as the stage index reads it: its VOC2007 folder, and by split the list's name, the ids and the labels
    (n, C) int8."""

    path: Path
    names: dict[str, str]
    ids: dict[str, list[str]]
    classes: list[str]
    labels: dict[str, np.ndarray]

    def photograph(self, image_id: str) -> Path:
        """The path of a photograph."""
        return self.path / "JPEGImages" / f"{image_id}.jpg"

    def all_ids(self) -> Iterator[str]:
        """The ids of both splits."""
        for split in SPLITS:
            yield from self.ids[split]


def derive(name: str, source: Path, names: dict[str, str], target: Path, limit: int = 0) -> str:
    """Write the derived devkit `name` (of `DERIVATIONS`) to `target`, or leave it where it is already there.

    source : the VOC2007 folder of the devkit. names : "trainval" and "test" to the names of their lists. limit : take
    the first so many photographs of each alone, as the specification's index.limit; 0 is all.
    Returns "", or why the devkit offers no such alternative; then nothing is written.

    Raises `UserError` for a devkit that the stage index refuses, an annotation without a proper box, and a target that
    was not made here.
    """
    code = sha256_file(Path(__file__))
    source = source.resolve()  # photographs that stay as they are become links into it
    listing = fingerprint({"path": str(source)})
    wanted = {"derivation": name, "path": str(source), "source": listing, "names": names, "limit": limit, "code": code}
    if target.exists():
        record = read_json(target / RECORD)
        if "derivation" not in record:
            raise UserError(f"{target} is not a derived devkit: remove it, or name another run")
        if {key: record.get(key) for key in wanted} == wanted:
            return ""
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        fresh = Path(scratch, "fresh")
        for folder in ("JPEGImages", "ImageSets/Main"):
            (fresh / "VOC2007" / folder).mkdir(parents=True)
        try:
            photographs = DERIVATIONS[name](read_devkit(source, names, limit), fresh / "VOC2007")
        except NotDerivable as reason:
            return str(reason)
        write_json(fresh / RECORD, {**wanted, "photographs": photographs})
        if target.exists():
            os.rename(target, Path(scratch, "old"))
        os.rename(fresh, target)
    return ""


def photographs_of(target: Path) -> dict[str, str]:
    """Of a derived devkit, every image id and the id of the source's photograph that it was made of."""
    return read_json(target / RECORD)["photographs"]


def read_devkit(path: Path, names: dict[str, str], limit: int = 0) -> Devkit:
    """A devkit's lists and labels, by the port's own reader; the first `limit` images of each split, or all."""
    ids = {split: read_split(path, names[split]) for split in SPLITS}
    classes, labels = read_labels(path, {names[split]: ids[split] for split in SPLITS})
    kept = slice(limit or None)
    return Devkit(
        path,
        names,
        {split: ids[split][kept] for split in SPLITS},
        classes,
        {split: labels[names[split]][kept] for split in SPLITS},
    )


def object_crops(devkit: Devkit, target: Path) -> dict[str, str]:
    """D23: each annotated object is an image of its own, cut out by its box; its label is 1 for its class, 0 where it
    is difficult, and -1 for all others."""
    ids: dict[str, list[str]] = {}
    labels: dict[str, np.ndarray] = {}
    photographs, smaller = {}, False
    for split in SPLITS:
        ids[split], rows = [], []
        for image_id in devkit.ids[split]:
            objects = read_boxes(devkit.path / "Annotations" / f"{image_id}.xml")
            image_bgr = read_bgr(devkit.photograph(image_id)) if objects else None
            for number, (kind, difficult, box) in enumerate(objects, start=1):
                assert image_bgr is not None
                crop = image_bgr[cut_out(box, image_bgr.shape, f"{image_id}.xml")]
                smaller |= crop.shape != image_bgr.shape
                crop_id = f"{image_id}_{number:02d}"
                save(target, crop_id, crop)
                ids[split].append(crop_id)
                photographs[crop_id] = image_id
                rows.append([(0 if difficult else 1) if kind == name else -1 for name in devkit.classes])
        labels[split] = np.array(rows, dtype=np.int8).reshape(len(rows), len(devkit.classes))
    if not all(ids.values()):
        raise NotDerivable("the annotations name no object in one of the splits")
    if not smaller:
        raise NotDerivable("every box is the whole photograph, and every photograph has one: a crop is the image")
    write_lists(replace(devkit, ids=ids, labels=labels), target)
    return photographs


def centre_square(devkit: Devkit, target: Path) -> dict[str, str]:
    """D33: the square in the middle of each photograph, as long as its shorter side; the labels stay."""
    changed = False
    for image_id in devkit.all_ids():
        image_bgr = read_bgr(devkit.photograph(image_id))
        side = min(image_bgr.shape[:2])
        top, left = ((n - side) // 2 for n in image_bgr.shape[:2])
        if image_bgr.shape[0] == image_bgr.shape[1]:
            link(devkit.photograph(image_id), target / "JPEGImages")
        else:
            changed = True
            save(target, image_id, image_bgr[top : top + side, left : left + side])
    if not changed:
        raise NotDerivable("every photograph is square")
    return write_lists(devkit, target)


def upright(devkit: Devkit, target: Path) -> dict[str, str]:
    """D12: photographs that say how they are turned are turned upright."""
    changed = False
    for image_id in devkit.all_ids():
        path = devkit.photograph(image_id)
        with Image.open(path, formats=["JPEG"]) as image:
            if image.getexif().get(EXIF_ORIENTATION, 1) == 1:
                link(path, target / "JPEGImages")
            else:
                changed = True
                turned = ImageOps.exif_transpose(image).convert("RGB")
                save(target, image_id, np.asarray(turned)[:, :, ::-1])
    if not changed:
        raise NotDerivable("no photograph has an EXIF orientation")
    return write_lists(devkit, target)


def shuffled(devkit: Devkit, target: Path) -> dict[str, str]:
    """D8: the trainval list in another order, drawn once."""
    order = np.random.default_rng(ORDER_SEED).permutation(len(devkit.ids["trainval"]))
    ids = {**devkit.ids, "trainval": [devkit.ids["trainval"][i] for i in order]}
    labels = {**devkit.labels, "trainval": devkit.labels["trainval"][order]}
    return linked(replace(devkit, ids=ids, labels=labels), target)


def difficult_as_negative(devkit: Devkit, target: Path, splits: tuple[str, ...] = ("trainval",)) -> dict[str, str]:
    """D15: images with difficult objects of a class alone (label 0) are negatives of it in some splits."""
    if not any((devkit.labels[split] == 0).any() for split in splits):
        raise NotDerivable("no image has the label 0, which says that it shows difficult objects alone")
    labels = {split: np.where(devkit.labels[split] == 0, -1, devkit.labels[split]) for split in splits}
    return linked(replace(devkit, labels={**devkit.labels, **labels}), target)


def difficult_as_negative_everywhere(devkit: Devkit, target: Path) -> dict[str, str]:
    """D15: the same in trainval and in test."""
    return difficult_as_negative(devkit, target, SPLITS)


# By name: writes the lists and photographs under a new VOC2007 folder, returns each image's photograph (both ids).
DERIVATIONS: dict[str, Callable[[Devkit, Path], dict[str, str]]] = {
    function.__name__: function
    for function in (
        object_crops, centre_square, upright, shuffled, difficult_as_negative, difficult_as_negative_everywhere
    )
}  # fmt: skip


def read_boxes(path: Path) -> list[tuple[str, bool, tuple[float, ...]]]:
    """The objects of an annotation: class, whether it is difficult, and xmin, ymin, xmax, ymax (1-based, inclusive)."""
    if not path.is_file():
        raise NotDerivable(f"the devkit has no Annotations/{path.name}, and so no box")
    objects = read_objects(path)  # refuses what is no plain VOC annotation
    result = []
    for (name, difficult), element in zip(objects, ET.fromstring(path.read_bytes()).findall("object"), strict=True):
        try:
            box = tuple(float(element.findtext(f"bndbox/{end}", "")) for end in ("xmin", "ymin", "xmax", "ymax"))
        except ValueError:
            raise UserError(f"{path}: an object of class {name} has no whole bndbox: add its four numbers") from None
        result.append((name, difficult, box))
    return result


def cut_out(box: tuple[float, ...], shape: tuple[int, ...], where: str) -> tuple[slice, slice]:
    """The rows and columns of a box in an image (h, w, 3); what lies beyond the image's edge is left out."""
    left, top, right, bottom = (round(end) for end in box)
    rows = slice(max(top, 1) - 1, min(bottom, shape[0]))
    columns = slice(max(left, 1) - 1, min(right, shape[1]))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        raise UserError(f"Annotations/{where}: the box {box} holds no pixel of the photograph: mend it")
    return rows, columns


def save(target: Path, image_id: str, image_bgr: np.ndarray) -> None:
    """Write an image (h, w, 3) uint8 BGR as the devkit's JPEG of that id."""
    Image.fromarray(np.ascontiguousarray(image_bgr[:, :, ::-1])).save(target / "JPEGImages" / f"{image_id}.jpg", **JPEG)


def link(path: Path, folder: Path) -> None:
    """Link to a photograph from a folder; symbolic, since the devkit may be on another disk."""
    (folder / path.name).symlink_to(path.resolve())


def linked(devkit: Devkit, target: Path) -> dict[str, str]:
    """`write_lists`, and links to all photographs."""
    for image_id in devkit.all_ids():
        link(devkit.photograph(image_id), target / "JPEGImages")
    return write_lists(devkit, target)


def write_lists(devkit: Devkit, target: Path) -> dict[str, str]:
    """Write both splits' lists and every class's; returns each id as its own photograph."""
    main = target / "ImageSets" / "Main"
    for split in SPLITS:
        lists = {devkit.names[split]: devkit.ids[split]}
        for column, kind in zip(devkit.labels[split].T, devkit.classes, strict=True):
            rows = zip(devkit.ids[split], column.tolist(), strict=True)
            lists[f"{kind}_{devkit.names[split]}"] = [f"{image_id} {label:2d}" for image_id, label in rows]
        for name, lines in lists.items():
            (main / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return {image_id: image_id for image_id in devkit.all_ids()}
