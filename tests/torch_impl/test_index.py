"""Lists, annotations and labels of a devkit: both ways to the labels, the real VOC2007 lists, and bad devkits."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from experiment.artifacts import RunFolder
from tests.conftest import SHARED_DATA, make_stage, user_error, write_files
from torch_impl import index
from torch_impl.index import read_labels, read_split

# Image to its objects, class and whether difficult. The class "train" has lists that look like a split's.
OBJECTS = {
    "000001": [("train", False), ("cow", True)],
    "000002": [("cow", False), ("cow", True)],
    "000003": [],
    "000004": [("train", True), ("train", True)],
    "000005": [("aeroplane", False)],
    "000006": [("aeroplane", False)],
    "000007": [("train", False), ("cow", False)],
    "000008": [],
}
SPLITS = {
    "trainval": ["000002", "000001", "000003", "000006", "000008"],
    "test": ["000005", "000004", "000007"],
}
CLASSES = ["aeroplane", "cow", "train"]
LABELS = {
    "trainval": [[-1, 1, -1], [-1, 0, 1], [-1, -1, -1], [1, -1, -1], [-1, -1, -1]],
    "test": [[1, -1, -1], [-1, -1, 0], [-1, 1, 1]],
}
SPEC = {"index": {"trainval": "trainval", "test": "test", "limit": 0}}


def annotation(objects: list[tuple[str, bool]]) -> str:
    """A VOC annotation; `difficult` is left out where it is 0 in every other object."""
    text = "".join(
        f"<object><name>{name}</name>{f'<difficult>{int(hard)}</difficult>' if hard or i % 2 else ''}</object>"
        for i, (name, hard) in enumerate(objects)
    )
    return f"<annotation><folder>VOC2007</folder>{text}</annotation>"


def devkit(folder: Path, lists: bool = True, xml: bool = True, newline: str = "\n") -> Path:
    """A devkit of OBJECTS, with class lists, annotations, or both."""
    main = folder / "ImageSets" / "Main"
    content: dict[Path, str] = {}
    for split, ids in SPLITS.items():
        content[main / f"{split}.txt"] = "".join(f"{i}{newline}" for i in ids)
        for column, name in enumerate(CLASSES if lists else []):
            rows = zip(ids, LABELS[split], strict=True)
            # VOC2007 pads a label to two places.
            content[main / f"{name}_{split}.txt"] = "".join(f"{i} {row[column]:2d}{newline}" for i, row in rows)
    for image, objects in OBJECTS.items():
        content[folder / "JPEGImages" / f"{image}.jpg"] = f"JPEG {image}"
        if xml:
            content[folder / "Annotations" / f"{image}.xml"] = annotation(objects)
    write_files(folder, {str(path.relative_to(folder)): text for path, text in content.items()})
    return folder


@pytest.mark.parametrize(("lists", "xml"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_labels_are_the_same_from_lists_and_from_annotations(lists, xml, newline, tmp_path):
    folder = devkit(tmp_path, lists, xml, newline)
    assert {split: read_split(folder, split) for split in SPLITS} == SPLITS
    classes, labels = read_labels(folder, SPLITS)
    assert classes == CLASSES
    for split, expected in LABELS.items():
        assert labels[split].dtype == np.int8 and labels[split].tolist() == expected


def test_lists_go_before_annotations(tmp_path):
    """An annotation knows objects, a list the classification task: where both are there, the task's list counts."""
    folder = devkit(tmp_path)
    (folder / "Annotations" / "000003.xml").write_text(annotation([("cow", False)]))
    assert read_labels(folder, SPLITS)[1]["trainval"].tolist() == LABELS["trainval"]


def test_class_list_may_have_an_order_of_its_own(tmp_path):
    folder = devkit(tmp_path)
    path = folder / "ImageSets" / "Main" / "train_trainval.txt"
    path.write_text("".join(f"{line}\n" for line in reversed(path.read_text().splitlines())))
    assert read_labels(folder, SPLITS)[1]["trainval"].tolist() == LABELS["trainval"]


def test_lists_of_other_splits_are_no_classes(tmp_path):
    """VOC2007 has train.txt, val.txt, train_train.txt and cow_val.txt beside those that are asked for."""
    folder = devkit(tmp_path)
    for name in ("train.txt", "val.txt", "train_train.txt", "train_val.txt", "cow_val.txt"):
        (folder / "ImageSets" / "Main" / name).write_text("000001 1\n")
    assert read_labels(folder, SPLITS)[0] == CLASSES


def test_stage_leaves_ids_labels_and_hashes(tmp_path):
    folder = devkit(tmp_path / "devkit")
    stage = make_stage(tmp_path / "run", "index", SPEC, external={"devkit": folder})
    index.run(stage)
    stage.out.finish({})
    run = RunFolder(tmp_path / "run")
    assert run.json("index", "classes") == CLASSES
    for split, ids in SPLITS.items():
        assert run.json("index", f"ids_{split}") == ids
        assert run.array("index", f"labels_{split}").tolist() == LABELS[split]
    expected = {image: hashlib.sha256(f"JPEG {image}".encode()).hexdigest() for image in OBJECTS}
    assert run.json("index", "image_sha256") == expected


@pytest.mark.parametrize("limit", [4, 100])
def test_a_limit_takes_the_first_images_of_each_split(tmp_path, limit):
    stage = make_stage(
        tmp_path / "run", "index", {"index": {**SPEC["index"], "limit": limit}},
        external={"devkit": devkit(tmp_path / "devkit")},
    )  # fmt: skip
    index.run(stage)
    stage.out.finish({})
    run = RunFolder(tmp_path / "run")
    for split, ids in SPLITS.items():
        assert run.json("index", f"ids_{split}") == ids[:limit]
        assert run.array("index", f"labels_{split}").tolist() == LABELS[split][:limit]
    assert set(run.json("index", "image_sha256")) == {image for ids in SPLITS.values() for image in ids[:limit]}


def test_a_limit_that_leaves_a_class_without_a_positive_is_refused_before_anything_is_written(tmp_path):
    spec = {"index": {**SPEC["index"], "limit": 3}}
    stage = make_stage(tmp_path / "run", "index", spec, external={"devkit": devkit(tmp_path / "devkit")})
    with user_error("class aeroplane has no positive image among the first 3 of trainval", "LIMIT="):
        index.run(stage)
    assert stage.out.outputs == {}


MAIN = "ImageSets/Main"
# What is wrong: (has lists, file, its content or None to delete it, what the error says).
BAD = {
    "split list missing": (True, f"{MAIN}/test.txt", None, "missing"),
    "split list empty": (True, f"{MAIN}/test.txt", "\n \n", "empty"),
    "image twice": (True, f"{MAIN}/test.txt", "000005\n000005\n", "twice"),
    "image with a path": (True, f"{MAIN}/test.txt", "../000005\n", "not an image id"),
    "image with a leading dot": (True, f"{MAIN}/test.txt", "..a\n", "not an image id"),
    "image with a slash": (True, f"{MAIN}/test.txt", "JPEGImages/000005\n", "not an image id"),
    "image in both splits": (True, f"{MAIN}/test.txt", "000005\n000001\n", "000001"),
    "split list not text": (True, f"{MAIN}/test.txt", b"\xff\xfe\x00", ""),
    "label 2": (True, f"{MAIN}/cow_test.txt", "000005 2\n000004 -1\n", ":1"),
    "label missing": (True, f"{MAIN}/cow_test.txt", "000005 -1\n000004\n", ":2"),
    "third column": (True, f"{MAIN}/cow_test.txt", "000005 -1 0\n000004 -1\n", ":1"),
    "image missing in a class list": (True, f"{MAIN}/cow_test.txt", "000005 -1\n", ""),
    "image twice in a class list": (True, f"{MAIN}/cow_test.txt", "000005 -1\n000004 -1\n000004 -1\n", ""),
    "class list not text": (True, f"{MAIN}/cow_test.txt", b"\xff\xfe\x00", ""),
    "class without a test list": (True, f"{MAIN}/cow_test.txt", None, "class cow"),
    "annotation missing": (False, "Annotations/000004.xml", None, "missing"),
    "annotation cut short": (False, "Annotations/000004.xml", "<annotation><object>", "XML"),
    "annotation empty": (False, "Annotations/000004.xml", "", "XML"),
    "annotation not text": (False, "Annotations/000004.xml", b"\xff<&\xfe", "XML"),
    "object without a name": (False, "Annotations/000004.xml", "<annotation><object/></annotation>", "name"),
    "difficult of 2": (
        False,
        "Annotations/000004.xml",
        "<annotation><object><name>cow</name><difficult>2</difficult></object></annotation>",
        "difficult",
    ),
    "entities": (False, "Annotations/000004.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "document type"),
    "entities in UTF-16": (
        False,
        "Annotations/000004.xml",
        '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a><annotation/>'.encode("utf-16"),
        "document type",
    ),
    "unknown encoding": (
        False,
        "Annotations/000004.xml",
        '<?xml version="1.0" encoding="nonsense"?><annotation/>',
        "XML",
    ),
    "encoding that expat lacks": (
        False,
        "Annotations/000004.xml",
        '<?xml version="1.0" encoding="utf-7"?><annotation/>',
        "XML",
    ),
    "photograph missing": (True, "JPEGImages/000004.jpg", None, "missing"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_devkit_is_refused(name, tmp_path):
    lists, file, content, says = BAD[name]
    folder = devkit(tmp_path / "devkit", lists=lists)
    if content is None:
        (folder / file).unlink()
    else:
        write_files(folder, {file: content})
    stage = make_stage(tmp_path / "run", "index", SPEC, external={"devkit": folder})
    named = folder / MAIN if "both splits" in name or "without a test" in name else folder / file
    with user_error(named, says):
        index.run(stage)


def test_folder_that_is_no_devkit_is_refused(tmp_path):
    with user_error(tmp_path / MAIN / "trainval.txt"):
        read_split(tmp_path, "trainval")


# ---------------------------------------------------------------- the real VOC2007 lists

# Images with a positive label in trainval and test, as published for VOC2007.
VOC2007 = {
    "aeroplane": (238, 204), "bicycle": (243, 239), "bird": (330, 282), "boat": (181, 172), "bottle": (244, 212),
    "bus": (186, 174), "car": (713, 721), "cat": (337, 322), "chair": (445, 417), "cow": (141, 127),
    "diningtable": (200, 190), "dog": (421, 418), "horse": (287, 274), "motorbike": (245, 222), "person": (2008, 2007),
    "pottedplant": (245, 224), "sheep": (96, 97), "sofa": (229, 223), "train": (261, 259), "tvmonitor": (256, 229),
}  # fmt: skip


def test_real_voc2007_lists_have_the_published_counts(tmp_path):
    lists = SHARED_DATA / "voc2007-imagesets"
    if not lists.is_dir():
        pytest.skip("the lists of VOC2007 are not here")
    shutil.copytree(lists, tmp_path / "ImageSets" / "Main")
    ids = {split: read_split(tmp_path, split) for split in ("trainval", "test")}
    assert {split: len(images) for split, images in ids.items()} == {"trainval": 5011, "test": 4952}
    classes, labels = read_labels(tmp_path, ids)
    assert classes == list(VOC2007)
    for column, name in enumerate(classes):
        positives = tuple(int((labels[split][:, column] == 1).sum()) for split in ("trainval", "test"))
        assert positives == VOC2007[name], name
    for split in labels.values():
        assert set(np.unique(split)) == {-1, 0, 1}
        assert (split == 1).any(axis=1).mean() > 0.9
