"""Derived devkits against brute force on the files: pixels, labels, counts, and what happens when there is nothing."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from audit.decisions import derive as module
from audit.decisions.derive import RECORD, derive, photographs_of
from embedded.devkit import make_devkit
from tests.conftest import user_error

NAMES = {"trainval": "trainval", "test": "test"}
COUNTS = {"trainval": 10, "test": 6}
WORST, MEAN = 6, 0.5  # what coding a JPEG once more costs, in grey levels


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A generated devkit of a few images, with difficult objects among them."""
    folder = tmp_path_factory.mktemp("source") / "devkit"
    make_devkit(folder, 4, *COUNTS.values())
    return folder / "VOC2007"


def make(name, source, target):
    assert derive(name, source, NAMES, target) == ""
    assert [path.name for path in target.parent.iterdir() if path.name.startswith(".")] == []
    return target / "VOC2007"


def ids(devkit, split):
    return (devkit / "ImageSets/Main" / f"{split}.txt").read_text().split()


def labels(devkit, split):
    """Class to id to label, read by hand."""
    found = {}
    for path in sorted((devkit / "ImageSets/Main").glob(f"*_{split}.txt")):
        rows = [line.split() for line in path.read_text().splitlines()]
        found[path.name.removesuffix(f"_{split}.txt")] = {image_id: int(label) for image_id, label in rows}
    return found


def pixels(devkit, image_id):
    with Image.open(devkit / "JPEGImages" / f"{image_id}.jpg") as image:
        return np.asarray(image.convert("RGB")).astype(int)


def assert_same_pixels(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= WORST and np.abs(found - expected).mean() <= MEAN


def objects_by_hand(devkit, image_id):
    """Class, difficult and box of every object, by regular expressions."""
    text = (devkit / "Annotations" / f"{image_id}.xml").read_text()
    for element in re.findall(r"<object>(.*?)</object>", text, re.DOTALL):
        numbers = [int(re.search(rf"<{end}>(\d+)</{end}>", element)[1]) for end in ("xmin", "ymin", "xmax", "ymax")]
        yield re.search(r"<name>(\w+)</name>", element)[1], "<difficult>1<" in element, numbers


def test_object_crops_are_the_boxes_pixels_with_the_objects_labels(source, tmp_path):
    derived = make("object_crops", source, tmp_path / "crops")
    photographs = photographs_of(tmp_path / "crops")
    difficult_ones = 0
    for split in COUNTS:
        found, expected = iter(ids(derived, split)), labels(derived, split)
        assert set(expected) == set(labels(source, split))
        for image_id in ids(source, split):
            for name, difficult, (left, top, right, bottom) in objects_by_hand(source, image_id):
                crop_id = next(found)
                assert photographs[crop_id] == image_id
                assert_same_pixels(
                    pixels(derived, crop_id), pixels(source, image_id)[top - 1 : bottom, left - 1 : right]
                )
                own = {kind: column[crop_id] for kind, column in expected.items()}
                assert own.pop(name) == (0 if difficult else 1) and set(own.values()) == {-1}
                difficult_ones += difficult
        assert list(found) == []
    assert difficult_ones > 0


def test_a_box_that_leaves_the_photograph_is_cut_at_its_edge_and_an_empty_one_is_refused():
    assert module.cut_out((0.0, 1.6, 99.0, 99.0), (10, 20, 3), "a.xml") == (slice(1, 10), slice(0, 20))
    assert module.cut_out((3.0, 4.0, 3.0, 4.0), (10, 20, 3), "a.xml") == (slice(3, 4), slice(2, 3))
    for box in ((21.0, 1.0, 30.0, 5.0), (5.0, 6.0, 4.0, 9.0)):
        with user_error("a.xml", "no pixel"):
            module.cut_out(box, (10, 20, 3), "a.xml")


def test_the_centred_square_is_cut_out_and_the_lists_stay(source, tmp_path):
    derived = make("centre_square", source, tmp_path / "square")
    for split in COUNTS:
        assert ids(derived, split) == ids(source, split) and labels(derived, split) == labels(source, split)
        for image_id in ids(source, split):
            whole = pixels(source, image_id)
            side = min(whole.shape[:2])
            top, left = (whole.shape[0] - side) // 2, (whole.shape[1] - side) // 2
            assert_same_pixels(pixels(derived, image_id), whole[top : top + side, left : left + side])


def test_shuffled_permutes_trainval_and_leaves_test_and_every_label(source, tmp_path):
    derived = make("shuffled", source, tmp_path / "shuffled")
    assert ids(derived, "test") == ids(source, "test")
    before, after = ids(source, "trainval"), ids(derived, "trainval")
    assert sorted(after) == sorted(before) and after != before
    for split in COUNTS:
        assert labels(derived, split) == labels(source, split)
    for image_id in before:
        assert (derived / "JPEGImages" / f"{image_id}.jpg").samefile(source / "JPEGImages" / f"{image_id}.jpg")


@pytest.mark.parametrize(
    "name, splits",
    [("difficult_as_negative", ["trainval"]), ("difficult_as_negative_everywhere", ["trainval", "test"])],
)
def test_difficult_images_become_negatives_in_the_splits_that_are_meant(source, tmp_path, name, splits):
    derived = make(name, source, tmp_path / name)
    for split in COUNTS:
        before = labels(source, split)
        assert any(0 in column.values() for column in before.values())
        turned = {kind: {i: label or -1 for i, label in column.items()} for kind, column in before.items()}
        assert labels(derived, split) == (turned if split in splits else before)


def test_photographs_are_turned_as_their_exif_orientation_says(source, tmp_path):
    turned = tmp_path / "turned"
    shutil.copytree(source, turned)
    first, second = ids(turned, "trainval")[:2]
    exif = Image.Exif()
    exif[274] = 6  # to be turned a quarter clockwise
    Image.open(turned / "JPEGImages" / f"{first}.jpg").save(
        turned / "JPEGImages" / f"{first}.jpg", quality=100, exif=exif
    )
    derived = make("upright", turned, tmp_path / "upright")
    assert_same_pixels(pixels(derived, first), np.rot90(pixels(turned, first), -1))
    assert (derived / "JPEGImages" / f"{second}.jpg").samefile(turned / "JPEGImages" / f"{second}.jpg")


def test_what_a_devkit_does_not_have_is_said_and_nothing_is_written(source, tmp_path):
    plain = tmp_path / "plain"
    shutil.copytree(source, plain)
    for split in COUNTS:
        for image_id in ids(plain, split):
            with Image.open(plain / "JPEGImages" / f"{image_id}.jpg") as image:
                image.crop((0, 0, 50, 50)).save(plain / "JPEGImages" / f"{image_id}.jpg")
            box = "<xmin>1</xmin><ymin>1</ymin><xmax>50</xmax><ymax>50</ymax>"
            text = f"<annotation><object><name>dog</name><bndbox>{box}</bndbox></object></annotation>"
            (plain / "Annotations" / f"{image_id}.xml").write_text(text)
        for path in (plain / "ImageSets/Main").glob(f"*_{split}.txt"):
            path.write_text(path.read_text().replace("  0", " -1"))
    target = tmp_path / "derived" / "target"
    for name, says in (
        ("object_crops", "every box is the whole photograph"),
        ("centre_square", "every photograph is square"),
        ("upright", "no photograph has an EXIF orientation"),
        ("difficult_as_negative", "no image has the label 0"),
    ):
        assert says in derive(name, plain, NAMES, target)
    (plain / "Annotations" / f"{ids(plain, 'test')[0]}.xml").unlink()
    assert "no box" in derive("object_crops", plain, NAMES, target)
    assert list(target.parent.iterdir()) == []


def test_a_devkit_is_derived_once_and_again_when_its_source_changes(source, tmp_path):
    changing = tmp_path / "changing"
    shutil.copytree(source, changing)
    target = tmp_path / "target"
    make("shuffled", changing, target)
    written = (target / RECORD).stat().st_ino
    make("shuffled", changing, target)
    assert (target / RECORD).stat().st_ino == written
    main = changing / "ImageSets/Main"
    for path in (main / "trainval.txt", *main.glob("*_trainval.txt")):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    make("shuffled", changing, target)
    assert sorted(ids(target / "VOC2007", "trainval")) == sorted(ids(source, "trainval")[1:])


def test_a_devkit_is_derived_again_when_its_source_has_moved(source, tmp_path):
    first, moved, target = tmp_path / "first", tmp_path / "moved", tmp_path / "target"
    shutil.copytree(source, first)
    make("shuffled", first, target)
    first.rename(moved)
    make("shuffled", moved, target)
    photographs = list((target / "VOC2007/JPEGImages").iterdir())
    assert photographs and all(path.exists() for path in photographs)


def test_a_derivation_that_is_stopped_leaves_nothing(source, tmp_path, monkeypatch):
    saved, original = [], module.save

    def stopped(target, image_id, image):
        if len(saved) == 3:
            raise KeyboardInterrupt
        saved.append(image_id)
        original(target, image_id, image)

    monkeypatch.setattr(module, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        derive("object_crops", source, NAMES, tmp_path / "made" / "crops")
    assert list((tmp_path / "made").iterdir()) == []


def test_a_folder_that_was_not_derived_here_is_left_alone(source, tmp_path):
    target = tmp_path / "mine"
    target.mkdir()
    (target / RECORD).write_text("{}")
    with user_error(target, "not a derived devkit"):
        derive("shuffled", source, NAMES, target)


def test_an_object_without_a_box_is_refused(source, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(source, broken)
    path = broken / "Annotations" / f"{ids(broken, 'test')[0]}.xml"
    path.write_text(path.read_text().replace("<xmin>", "<xmean>").replace("</xmin>", "</xmean>"))
    with user_error(path, "no whole bndbox"):
        derive("object_crops", broken, NAMES, tmp_path / "crops")


@pytest.mark.parametrize("name", ["object_crops", "shuffled"])
def test_a_limit_takes_the_first_photographs_of_each_split(source, tmp_path, name):
    target = tmp_path / "few"
    assert derive(name, source, NAMES, target, limit=3) == ""
    for split in COUNTS:
        taken = {photographs_of(target)[image_id] for image_id in ids(target / "VOC2007", split)}
        assert taken == set(ids(source, split)[:3])
    assert derive(name, source, NAMES, target) == ""  # without one it is another devkit, made again
    assert {photographs_of(target)[i] for i in ids(target / "VOC2007", "test")} == set(ids(source, "test"))
