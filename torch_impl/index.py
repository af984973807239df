"""Stage index: image ids, splits and labels of a VOC-format devkit."""

import hashlib
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from experiment.errors import UserError
from experiment.labels import check_labels
from experiment.pipeline import Stage
from experiment.stages import SPLITS

PLAIN_NAME = re.compile(r"[^./\\\0][^/\\\0]*")  # an id that stays in its folder
LABELS = {"1": 1, "0": 0, "-1": -1}


def run(stage: Stage) -> None:
    """Write classes, ids and labels of both splits, and the sha256 of every image."""
    devkit = stage.external("devkit")
    assert devkit is not None  # resolve refuses a run without one
    ids = {split: read_split(devkit, stage.spec["index"][split]) for split in SPLITS}
    both = set(ids["trainval"]) & set(ids["test"])
    if both:
        raise UserError(f"{devkit / 'ImageSets/Main'}: {min(both)} is in both splits: take it out of one")
    for split, image_ids in ids.items():
        for path in (devkit / "JPEGImages" / f"{image_id}.jpg" for image_id in image_ids):
            if not path.is_file():
                raise UserError(f"{path} is missing but the {split} list names it: add it or take it off the list")
    classes, labels = read_labels(devkit, {stage.spec["index"][split]: ids[split] for split in SPLITS})
    limit = stage.spec["index"]["limit"]
    taken = {split: labels[stage.spec["index"][split]][: limit or None] for split in SPLITS}
    check_labels(taken, classes, limit)
    stage.out.json("classes", classes)
    for split in SPLITS:
        ids[split] = ids[split][: limit or None]
        stage.out.json(f"ids_{split}", ids[split])
        stage.out.array(f"labels_{split}", taken[split])
    digests = {}
    for image_id in ids["trainval"] + ids["test"]:
        digests[image_id] = hashlib.sha256((devkit / "JPEGImages" / f"{image_id}.jpg").read_bytes()).hexdigest()
    stage.out.json("image_sha256", digests)


def read_split(devkit: Path, split: str) -> list[str]:
    """The image ids of a split, in the order of ImageSets/Main/<split>.txt (line ends of any kind)."""
    if not PLAIN_NAME.fullmatch(split):
        raise UserError(f"index: {split!r} is not the name of a split: SET=index.trainval= or index.test=")
    path = devkit / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        raise UserError(f"{path} is missing: a devkit needs it, one image id a line")
    ids = [line.strip() for line in read_list(path).splitlines() if line.strip()]
    if not ids:
        raise UserError(f"{path} is empty: list the split's image ids, one a line")
    seen = set()
    for image_id in ids:
        if not PLAIN_NAME.fullmatch(image_id) or len(image_id.split()) != 1:
            raise UserError(f"{path}: {image_id!r} is not an image id: ids are file names without .jpg")
        if image_id in seen:
            raise UserError(f"{path}: {image_id} is listed twice: take one away")
        seen.add(image_id)
    return ids


def read_list(path: Path) -> str:
    """The text of a list; a `UserError` where it is none."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}): replace it by a text file") from None


def read_labels(devkit: Path, ids: dict[str, list[str]]) -> tuple[list[str], dict[str, np.ndarray]]:
    """Class names (sorted) and, by split, the labels (n, classes) int8: 1, 0 (only difficult) or -1.

    From ImageSets/Main/CLASS_SPLIT.txt where a devkit has such lists, else from Annotations/*.xml.
    """
    folder = devkit / "ImageSets" / "Main"
    # The split's own list, "trainval.txt", has no underscore before the split; the class "train" has the list
    # "train_trainval.txt". So a class is whatever stands before the last underscore.
    listed = {
        split: sorted(p.name[: -len(f"_{split}.txt")] for p in folder.glob(f"*_{split}.txt") if p.is_file())
        for split in ids
    }
    if not any(listed.values()):
        return labels_from_annotations(devkit, ids)
    (first, classes), (second, others) = listed.items()
    if classes != others:
        odd = sorted(set(classes) ^ set(others))[0]
        raise UserError(f"{folder}: class {odd} has a list for only one of {first} and {second}: add the other")
    return classes, {
        split: np.stack([read_class_list(folder / f"{c}_{split}.txt", split_ids) for c in classes], axis=1)
        for split, split_ids in ids.items()
    }


def read_class_list(path: Path, ids: list[str]) -> np.ndarray:
    """The labels (n,) int8 of one class list, which must name the split's ids, each once, in any order."""
    rows = [line.split() for line in read_list(path).splitlines() if line.strip()]
    for number, row in enumerate(rows, start=1):
        if len(row) != 2 or row[1] not in LABELS:
            raise UserError(f"{path}:{number}: a line is an image id and a label 1, 0 or -1: mend it")
    if sorted(row[0] for row in rows) != sorted(ids):
        raise UserError(f"{path} does not list the same images as the split's own list: mend one of them")
    labels = {image_id: LABELS[label] for image_id, label in rows}
    return np.array([labels[image_id] for image_id in ids], dtype=np.int8)


def labels_from_annotations(devkit: Path, ids: dict[str, list[str]]) -> tuple[list[str], dict[str, np.ndarray]]:
    """Classes and labels from the objects in Annotations/*.xml."""
    objects = {
        split: [read_objects(devkit / "Annotations" / f"{image_id}.xml") for image_id in split_ids]
        for split, split_ids in ids.items()
    }
    classes = sorted({name for images in objects.values() for image in images for name, _ in image})
    labels = {}
    for split, images in objects.items():
        labels[split] = np.full((len(images), len(classes)), -1, dtype=np.int8)
        for row, image in zip(labels[split], images, strict=True):
            for name, difficult in image:
                column = classes.index(name)
                row[column] = max(row[column], 0 if difficult else 1)
    return classes, labels


def read_objects(path: Path) -> list[tuple[str, bool]]:
    """The objects of one annotation: class name and whether it is difficult."""
    try:
        data = path.read_bytes()
    except OSError:
        raise UserError(f"{path} is missing, and ImageSets/Main has no class lists: add one of them") from None
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data or b"\0" in data:  # UTF-16 would hide the words
        raise UserError(f"{path} declares a document type or is UTF-16, and VOC annotations are neither: mend it")
    try:
        objects = ET.fromstring(data).findall("object")
    except (ET.ParseError, LookupError, ValueError) as error:  # the last two for an encoding that Python lacks
        raise UserError(f"{path} is not well-formed XML ({error}): mend it") from None
    result = []
    for element in objects:
        name = (element.findtext("name") or "").strip()
        if not name:
            raise UserError(f"{path}: an object has no name: name its class")
        difficult = (element.findtext("difficult") or "0").strip()
        if difficult not in ("0", "1"):
            raise UserError(f"{path}: difficult is {difficult!r} and must be 0 or 1: mend it")
        result.append((name, difficult == "1"))
    return result
