"""Stage index: the images of a VOC-format devkit, their splits, and which classes each image shows."""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple, Sequence

import numpy as np

from experiment.artifacts import sha256_file
from experiment.errors import UserError
from experiment.labels import check_labels
from experiment.pipeline import Stage
from experiment.progress import progress
from experiment.stages import SPLITS

POSITIVE, DIFFICULT, NEGATIVE = 1, 0, -1


class Split(NamedTuple):
    """One split: its image ids in the list's order, and labels: (n, C) int8."""

    ids: list[str]
    labels: np.ndarray


def read_index(devkit: Path, split_names: Sequence[str], limit: int = 0) -> tuple[list[str], list[Split]]:
    """Read splits and labels of a devkit folder (the one that holds ImageSets, Annotations and JPEGImages).

    Labels come from ImageSets/Main/CLASS_SPLIT.txt. Where there are no such lists at all (custom devkits), they
    are derived from Annotations/ID.xml: 1 where an object of the class is not difficult, 0 where all of them are
    difficult, -1 where there is none (VOC2007 devkit, readme 4.1).

    Returns the class names, sorted, and a `Split` for each of `split_names`, of its first `limit` images where that is
    not 0. Raises `UserError` for lists that
    are missing, contradict each other, name an image that is not there or would leave the folder, and for
    annotations that are no plain VOC XML.
    """
    lists = devkit / "ImageSets" / "Main"
    split_ids: list[list[str]] = []
    for split in split_names:
        check_name(split, lists)
        split_ids.append(read_split(lists / f"{split}.txt", devkit / "JPEGImages"))
    shared = sorted(set(split_ids[0]).intersection(*split_ids[1:])) if len(split_ids) > 1 else []
    if shared:
        raise UserError(f"{lists} has {shared[0]} in {' and in '.join(split_names)}: take it out of one list")
    listed = [class_names(lists, split) for split in split_names]
    if any(listed):
        classes = sorted(set().union(*listed))
        for split, names in zip(split_names, listed):
            missing = sorted(set(classes) - names)
            if missing:
                raise UserError(
                    f"{lists / f'{missing[0]}_{split}.txt'} is missing while other class lists are there: add it, "
                    "or delete all CLASS_SPLIT.txt so that the labels are derived from Annotations"
                )
        tables = [
            [read_class_list(lists / f"{name}_{split}.txt", ids) for name in classes]
            for split, ids in zip(split_names, split_ids)
        ]
        labels = [np.array(table, np.int8).T for table in tables]
    else:
        shown = [[read_annotation(devkit / "Annotations" / f"{i}.xml") for i in ids] for ids in split_ids]
        classes = sorted({name for images in shown for image in images for name in image})
        labels = [
            np.array([[image.get(name, NEGATIVE) for name in classes] for image in images], np.int8) for images in shown
        ]
    first = limit or None
    return classes, [Split(ids[:first], np.ascontiguousarray(table[:first])) for ids, table in zip(split_ids, labels)]


def check_name(name: str, where: Path) -> None:
    """Raise `UserError` for a split or an image id that is not a plain file name."""
    if not name or name.startswith(".") or any(character in name for character in "/\\\0"):
        raise UserError(f"{where}: {name!r} is not a plain name (no '/', no leading '.'): mend the list")


def read_lines(path: Path) -> list[list[str]]:
    """The words of each line that is not blank; LF and CRLF line ends alike."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path} is missing: the devkit needs it, check DEVKIT=") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a text list ({error}): mend or replace it") from None
    return [line.split() for line in text.splitlines() if line.strip()]


def check_unique(ids: Sequence[str], path: Path) -> None:
    """Raise `UserError` where an id stands twice in a list."""
    seen: set[str] = set()
    for image_id in ids:
        if image_id in seen:
            raise UserError(f"{path} names {image_id} twice: delete one of the lines")
        seen.add(image_id)


def read_split(path: Path, jpegs: Path) -> list[str]:
    """The image ids of a split list, each of which must have its JPEG."""
    ids = []
    for words in read_lines(path):
        if len(words) != 1:
            raise UserError(f"{path}: {' '.join(words)!r} is not one image id: a split list has one a line")
        check_name(words[0], path)
        ids.append(words[0])
    if not ids:
        raise UserError(f"{path} names no image: list the split's image ids, one a line")
    check_unique(ids, path)
    for image_id in ids:
        if not (jpegs / f"{image_id}.jpg").is_file():
            raise UserError(f"{jpegs / f'{image_id}.jpg'} is missing but {path} names it: add it or take it off")
    return ids


def class_names(lists: Path, split: str) -> set[str]:
    """The classes that have a list for a split: `train_trainval.txt` is the class `train` in `trainval`."""
    suffix = f"_{split}.txt"
    return {
        path.name[: -len(suffix)]
        for path in lists.iterdir()
        if len(path.name) > len(suffix) and path.name.endswith(suffix)
    }


def read_class_list(path: Path, ids: Sequence[str]) -> list[int]:
    """The labels of a CLASS_SPLIT.txt in the order of `ids`, which must be the ids it has."""
    labels = {}
    rows = read_lines(path)
    for words in rows:
        if len(words) != 2 or words[1] not in ("1", "0", "-1"):
            raise UserError(f"{path}: {' '.join(words)!r} is not an image id and 1, 0 or -1: mend the line")
        labels[words[0]] = int(words[1])
    check_unique([words[0] for words in rows], path)
    different = sorted(labels.keys() ^ set(ids))
    if different:
        fault = "lacks" if different[0] in set(ids) else "has"
        raise UserError(f"{path} {fault} {different[0]}, unlike the split's own list: make their ids the same")
    return [labels[image_id] for image_id in ids]


class NoDoctype(ET.TreeBuilder):
    """A tree builder that refuses a document type, and with it every entity that a file could define."""

    def doctype(self, name: str, public_id: str, system_id: str) -> None:
        """Called by the parser before it reads any declaration."""
        raise ValueError("it has a DOCTYPE")


def read_annotation(path: Path) -> dict[str, int]:
    """The classes that an image shows, to 1 (an object that is not difficult) or 0 (only difficult ones)."""
    try:
        root = ET.fromstring(path.read_bytes(), ET.XMLParser(target=NoDoctype()))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: add it, or the CLASS_SPLIT.txt lists") from None
    except (OSError, ET.ParseError, ValueError) as error:
        raise UserError(f"{path} is not plain VOC XML ({error}): mend it") from None
    shown: dict[str, int] = {}
    for item in root.findall("object"):
        name = (item.findtext("name") or "").strip()
        difficult = (item.findtext("difficult") or "0").strip()
        if not name or difficult not in ("0", "1"):
            raise UserError(f"{path} has an object without a name, or with difficult other than 0 or 1: mend it")
        shown[name] = max(shown.get(name, DIFFICULT), DIFFICULT if difficult == "1" else POSITIVE)
    return shown


def run(stage: Stage) -> None:
    """Read the devkit, and hash every JPEG."""
    devkit = stage.external("devkit")
    names = stage.spec["index"]
    classes, splits = read_index(devkit, [names["trainval"], names["test"]], names["limit"])
    check_labels(dict(zip(SPLITS, (split.labels for split in splits))), classes, names["limit"])
    stage.out.json("classes", classes)
    for role, split in zip(SPLITS, splits):
        stage.out.json(f"ids_{role}", split.ids)
        stage.out.array(f"labels_{role}", split.labels)
    ids = list(dict.fromkeys(image_id for split in splits for image_id in split.ids))
    hashed = progress(ids, len(ids), "images", "index")
    stage.out.json("image_sha256", {i: sha256_file(devkit / "JPEGImages" / f"{i}.jpg") for i in hashed})
