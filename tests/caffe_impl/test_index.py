"""caffe_impl.index against hand-made devkits."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from caffe_impl.index import read_index
from experiment.errors import UserError

SPLITS = ("trainval", "test")


def make_devkit(folder: Path, splits: dict[str, list[str]]) -> Path:
    """A devkit with (empty) JPEGs and split lists, no labels yet."""
    for name in ("ImageSets/Main", "JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True)
    for split, ids in splits.items():
        write_list(folder, split, ids)
        for image_id in ids:
            (folder / "JPEGImages" / f"{image_id}.jpg").touch()
    return folder


def write_list(devkit: Path, name: str, lines: list[str], end: str = "\n") -> None:
    data = "".join(line + end for line in lines).encode()
    (devkit / "ImageSets" / "Main" / f"{name}.txt").write_bytes(data)


def annotate(devkit: Path, image_id: str, *objects: tuple[str, int | None]) -> None:
    """An annotation with objects (name, difficult); a difficult of None leaves the element out."""
    root = ET.Element("annotation")
    for name, difficult in objects:
        item = ET.SubElement(root, "object")
        ET.SubElement(item, "name").text = name
        if difficult is not None:
            ET.SubElement(item, "difficult").text = str(difficult)
        ET.SubElement(ET.SubElement(item, "part"), "name").text = "head"
    ET.ElementTree(root).write(devkit / "Annotations" / f"{image_id}.xml")


@pytest.fixture
def listed(tmp_path):
    """Two trainval images and one test image, with class lists for `dog` and for the class `train`."""
    devkit = make_devkit(tmp_path / "VOC2007", {"trainval": ["b", "a"], "test": ["c"], "train": ["b"], "val": ["a"]})
    write_list(devkit, "dog_trainval", ["a  1", "b -1"])
    write_list(devkit, "dog_test", ["c  0"])
    write_list(devkit, "train_trainval", ["b  1", "a  0"])
    write_list(devkit, "train_test", ["c -1"])
    write_list(devkit, "dog_train", ["b -1"])
    write_list(devkit, "dog_val", ["a  1"])
    write_list(devkit, "train_train", ["b  1"])
    write_list(devkit, "train_val", ["a  0"])
    return devkit


@pytest.fixture
def annotated(tmp_path):
    """The same images, with annotations only."""
    devkit = make_devkit(tmp_path / "VOC2007", {"trainval": ["b", "a"], "test": ["c"]})
    annotate(devkit, "b", ("train", 0))
    annotate(devkit, "a", ("dog", 1), ("dog", 0), ("train", 1))
    annotate(devkit, "c", ("dog", 1), ("dog", 1))
    return devkit


def test_labels_from_class_lists_follow_the_split_list_s_order(listed):
    classes, (trainval, test) = read_index(listed, SPLITS)
    assert classes == ["dog", "train"]
    assert trainval.ids == ["b", "a"] and test.ids == ["c"]
    assert trainval.labels.tolist() == [[-1, 1], [1, 0]]
    assert test.labels.tolist() == [[0, -1]]
    assert trainval.labels.dtype == np.int8 and trainval.labels.flags.c_contiguous


@pytest.mark.parametrize("devkit", ["listed", "annotated"])
def test_a_limit_takes_the_first_images_of_each_split(devkit, request):
    whole, (trainval, test) = read_index(request.getfixturevalue(devkit), SPLITS)
    classes, (few, same) = read_index(request.getfixturevalue(devkit), SPLITS, 1)
    assert classes == whole and few.ids == ["b"] and same.ids == test.ids
    assert few.labels.tolist() == trainval.labels[:1].tolist() and few.labels.flags.c_contiguous


def test_the_class_named_train_is_no_split_and_the_split_train_no_class(listed):
    classes, (train, val) = read_index(listed, ("train", "val"))
    assert classes == ["dog", "train"]
    assert train.ids == ["b"] and train.labels.tolist() == [[-1, 1]]
    assert val.ids == ["a"] and val.labels.tolist() == [[1, 0]]


def test_labels_from_annotations_equal_those_from_lists(annotated):
    classes, (trainval, test) = read_index(annotated, SPLITS)
    assert classes == ["dog", "train"]
    assert trainval.labels.tolist() == [[-1, 1], [1, 0]]
    assert test.labels.tolist() == [[0, -1]]


def test_an_object_without_difficult_is_not_difficult_and_its_parts_are_no_classes(annotated):
    annotate(annotated, "c", ("dog", None))
    classes, (_, test) = read_index(annotated, SPLITS)
    assert "head" not in classes
    assert test.labels.tolist() == [[1, -1]]


def test_an_image_without_an_object_is_negative_for_every_class(annotated):
    (annotated / "Annotations" / "c.xml").write_text("<annotation></annotation>")
    assert read_index(annotated, SPLITS)[1][1].labels.tolist() == [[-1, -1]]


def test_crlf_line_ends_and_blank_lines_change_nothing(listed):
    expected = read_index(listed, SPLITS)[1]
    write_list(listed, "trainval", ["b", "a", ""], end="\r\n")
    write_list(listed, "dog_trainval", ["a  1", "b -1"], end="\r\n")
    found = read_index(listed, SPLITS)[1]
    assert found[0].ids == expected[0].ids
    assert (found[0].labels == expected[0].labels).all()


@pytest.mark.parametrize("image_id", ["../a", "/etc/passwd", "x/y", "..", "x\\y"])
def test_an_id_that_would_leave_the_folder_is_refused(listed, image_id):
    write_list(listed, "trainval", ["b", image_id])
    with pytest.raises(UserError, match=r"trainval.*not a plain name"):
        read_index(listed, SPLITS)


def test_a_split_that_would_leave_the_folder_is_refused(listed):
    with pytest.raises(UserError, match="not a plain name"):
        read_index(listed, ("../../trainval", "test"))


def break_devkit(devkit: Path, fault: str) -> None:
    annotations = devkit / "Annotations"
    if fault == "split list missing":
        (devkit / "ImageSets/Main/test.txt").unlink()
    elif fault == "split list empty":
        write_list(devkit, "test", [])
    elif fault == "split list with labels":
        write_list(devkit, "test", ["c 1"])
    elif fault == "id twice":
        write_list(devkit, "trainval", ["b", "a", "b"])
    elif fault == "id in both splits":
        write_list(devkit, "test", ["c", "a"])
    elif fault == "binary list":
        (devkit / "ImageSets/Main/test.txt").write_bytes(b"\xff\xfe\x00c")
    elif fault == "image missing":
        (devkit / "JPEGImages/c.jpg").unlink()
    elif fault == "class list lacks an id":
        write_list(devkit, "dog_trainval", ["a 1"])
    elif fault == "class list has another id":
        write_list(devkit, "dog_trainval", ["a 1", "b -1", "c 1"])
    elif fault == "class list has an id twice":
        write_list(devkit, "dog_trainval", ["a 1", "b -1", "a -1"])
    elif fault == "class label of 2":
        write_list(devkit, "dog_trainval", ["a 2", "b -1"])
    elif fault == "class list of one split missing":
        (devkit / "ImageSets/Main/dog_test.txt").unlink()
    elif fault == "annotation missing":
        (annotations / "c.xml").unlink()
    elif fault == "annotation cut short":
        (annotations / "c.xml").write_text((annotations / "c.xml").read_text()[:-5])
    elif fault == "object without name":
        (annotations / "c.xml").write_text("<annotation><object/></annotation>")
    elif fault == "difficult of 2":
        annotate(devkit, "c", ("dog", 2))
    elif fault == "doctype":
        (annotations / "c.xml").write_text(
            '<!DOCTYPE annotation [<!ENTITY who "dog">]><annotation><object><name>&who;</name></object></annotation>'
        )
    elif fault == "entity":
        (annotations / "c.xml").write_text("<annotation><object><name>&who;</name></object></annotation>")


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("split list missing", "test.txt"),
        ("split list empty", "test.txt"),
        ("split list with labels", "test.txt"),
        ("id twice", "trainval.txt names b twice"),
        ("id in both splits", "Main has a in trainval and in test"),
        ("binary list", "test.txt"),
        ("image missing", "c.jpg"),
        ("class list lacks an id", "dog_trainval.txt lacks b"),
        ("class list has another id", "dog_trainval.txt has c"),
        ("class list has an id twice", "dog_trainval.txt names a twice"),
        ("class label of 2", "dog_trainval.txt"),
        ("class list of one split missing", "dog_test.txt"),
    ],
)
def test_faulty_lists_are_named_in_one_line(listed, fault, named):
    break_devkit(listed, fault)
    with pytest.raises(UserError) as error:
        read_index(listed, SPLITS)
    assert named in str(error.value) and "\n" not in str(error.value) and ":" in str(error.value)


@pytest.mark.parametrize(
    "fault",
    ["annotation missing", "annotation cut short", "object without name", "difficult of 2", "doctype",
     "entity"],
)  # fmt: skip
def test_faulty_annotations_are_named_in_one_line(annotated, fault):
    break_devkit(annotated, fault)
    with pytest.raises(UserError) as error:
        read_index(annotated, SPLITS)
    assert "c.xml" in str(error.value) and "\n" not in str(error.value)
