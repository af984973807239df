"""The generated devkit: its lists, annotations and images agree, and its detail does not survive low resolution."""

import hashlib
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import numpy as np
import pytest

from embedded.devkit import CLASSES, make_devkit
from experiment.errors import UserError

pytestmark = pytest.mark.slow  # the whole devkit is drawn once, in some 20 seconds
ROOT = Path(__file__).resolve().parents[2]
SEED, COUNTS = 20190828, {"trainval": 400, "test": 400}


@pytest.fixture(scope="module")
def devkit(tmp_path_factory) -> Path:
    out_dir = tmp_path_factory.mktemp("devkit") / "full"
    make_devkit(out_dir, SEED, **COUNTS)
    return out_dir


@pytest.fixture(scope="module")
def annotations(devkit) -> dict[str, ET.Element]:
    return {path.stem: ET.parse(path).getroot() for path in sorted(devkit.glob("VOC2007/Annotations/*.xml"))}


def read_list(devkit: Path, file: str) -> list[str]:
    return Path(devkit, "VOC2007/ImageSets/Main", file).read_text().splitlines()


def label_by_brute_force(annotation: ET.Element, name: str) -> int:
    flags = [o.findtext("difficult") for o in annotation.iter("object") if o.findtext("name") == name]
    return -1 if not flags else 1 if "0" in flags else 0


def tree_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_image_lists_split_all_images(devkit, annotations):
    trainval, test = read_list(devkit, "trainval.txt"), read_list(devkit, "test.txt")
    assert (len(trainval), len(test)) == (COUNTS["trainval"], COUNTS["test"])
    assert sorted(trainval + test) == sorted(annotations)
    train, val = read_list(devkit, "train.txt"), read_list(devkit, "val.txt")
    assert sorted(train + val) == sorted(trainval) and not set(train) & set(val)


@pytest.mark.parametrize("split", COUNTS)
def test_class_lists_follow_from_the_annotations_in_vocs_layout(devkit, annotations, split):
    assert len(CLASSES) == 20 and "train" in CLASSES
    for name in CLASSES:
        expected = [
            {1: f"{image}  1", 0: f"{image}  0", -1: f"{image} -1"}[label_by_brute_force(annotations[image], name)]
            for image in read_list(devkit, f"{split}.txt")
        ]
        assert read_list(devkit, f"{name}_{split}.txt") == expected


@pytest.mark.parametrize("split", COUNTS)
def test_every_class_has_positives_enough(devkit, split):
    for name in CLASSES:
        labels = [line.split()[1] for line in read_list(devkit, f"{name}_{split}.txt")]
        assert labels.count("1") >= 15, name


def test_annotations_name_only_the_classes(annotations):
    names = {item.findtext("name") for annotation in annotations.values() for item in annotation.iter("object")}
    assert names == set(CLASSES)


def test_images_decode_to_their_annotated_size_with_boxes_inside(devkit, annotations):
    sizes = set()
    for name, annotation in annotations.items():
        image = cv2.imread(str(devkit / "VOC2007/JPEGImages" / annotation.findtext("filename")))
        assert annotation.findtext("filename") == f"{name}.jpg" and annotation.findtext("folder") == "VOC2007"
        assert image.shape == tuple(int(annotation.findtext(f"size/{key}")) for key in ("height", "width", "depth"))
        height, width = image.shape[:2]
        sizes.add((height, width))
        assert 200 <= max(height, width) <= 500
        for item in annotation.iter("object"):
            xmin, ymin, xmax, ymax = (int(item.findtext(f"bndbox/{k}")) for k in ("xmin", "ymin", "xmax", "ymax"))
            assert 1 <= xmin <= xmax <= width and 1 <= ymin <= ymax <= height, name
            assert item.findtext("difficult") in "01" and item.findtext("truncated") in "01"
    assert any(h > w for h, w in sizes) and any(h < w for h, w in sizes) and len(sizes) > 100


def test_some_images_have_several_classes_and_some_a_class_only_as_difficult(annotations):
    labels = [[label_by_brute_force(a, name) for name in CLASSES] for a in annotations.values()]
    several = sum(label.count(1) > 1 for label in labels)
    only_difficult = sum(0 in label for label in labels)
    assert several > 0.2 * len(labels)
    assert 0.02 * len(labels) < only_difficult < 0.5 * len(labels)
    counts = {len(list(a.iter("object"))) for a in annotations.values()}
    assert counts == {1, 2, 3, 4}


def test_low_resolution_destroys_the_detail_inside_the_boxes(devkit, annotations):
    """Energy at periods under 12 pixels of 112, by an FFT of each box; the finest that 16 pixels can hold is 14."""
    kept = {name: [] for name in CLASSES}
    for annotation in annotations.values():
        image = cv2.imread(str(devkit / "VOC2007/JPEGImages" / annotation.findtext("filename")), cv2.IMREAD_GRAYSCALE)
        height, width = image.shape
        fine = cv2.resize(image, (112, 112), interpolation=cv2.INTER_AREA)
        coarse = cv2.resize(fine, (16, 16), interpolation=cv2.INTER_CUBIC)
        coarse = cv2.resize(coarse, (112, 112), interpolation=cv2.INTER_CUBIC)
        for item in annotation.iter("object"):
            if item.findtext("difficult") == "0":
                x0, x1 = (int(item.findtext(f"bndbox/{key}")) * 112 // width for key in ("xmin", "xmax"))
                y0, y1 = (int(item.findtext(f"bndbox/{key}")) * 112 // height for key in ("ymin", "ymax"))
                energies = [fine_energy(view[y0:y1, x0:x1].astype(float)) for view in (fine, coarse)]
                kept[item.findtext("name")].append(energies)
    for name, energies in kept.items():
        before, after = np.sum(energies, axis=0)
        assert after < before / 6, (name, after / before)


def fine_energy(box: np.ndarray) -> float:
    window = np.outer(np.hanning(box.shape[0]), np.hanning(box.shape[1]))
    power = np.abs(np.fft.fft2((box - box.mean()) * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(box.shape[0])[:, None], np.fft.fftfreq(box.shape[1])[None])
    return power[frequency > 1 / 12].sum()


def test_images_depend_on_seed_and_number_alone(tmp_path):
    make_devkit(tmp_path / "a", 7, 6, 4)
    make_devkit(tmp_path / "b", 7, 6, 4)
    make_devkit(tmp_path / "c", 8, 6, 4)
    make_devkit(tmp_path / "d", 7, 3, 2)
    a, b, c, d = (tree_bytes(tmp_path / name) for name in "abcd")
    assert a == b
    jpegs = [key for key in d if key.endswith(".jpg")]
    assert len(jpegs) == 5 and all(a[key] == d[key] and a[key] != c[key] for key in jpegs)


def test_record_holds_what_the_devkit_was_made_from(tmp_path):
    make_devkit(tmp_path / "a", 7, 3, 2)
    record = json.loads((tmp_path / "a/devkit.json").read_text())
    assert (record["seed"], record["trainval"], record["test"]) == (7, 3, 2)
    total = hashlib.sha256()
    for number in range(1, 6):
        total.update(f"{number:06d}.jpg".encode() + b"\0")
        total.update((tmp_path / f"a/VOC2007/JPEGImages/{number:06d}.jpg").read_bytes())
    assert record["jpeg_sha256"] == total.hexdigest()


def test_an_equal_devkit_is_left_alone_and_another_or_damaged_one_replaced(tmp_path):
    out_dir = tmp_path / "a"
    make_devkit(out_dir, 7, 3, 2)
    first, inode = tree_bytes(out_dir), out_dir.stat().st_ino
    assert "already there" in make_devkit(out_dir, 7, 3, 2)
    assert out_dir.stat().st_ino == inode
    assert "already there" not in make_devkit(out_dir, 7, 2, 2)
    assert len(list(out_dir.glob("VOC2007/JPEGImages/*"))) == 4
    make_devkit(out_dir, 7, 3, 2)
    (out_dir / "VOC2007/JPEGImages/000002.jpg").write_bytes(b"broken")
    assert "already there" not in make_devkit(out_dir, 7, 3, 2)
    assert tree_bytes(out_dir) == first
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("record", [None, "not json", "[]", '{"generator": "another"}'])
def test_a_folder_of_other_origin_is_refused_and_kept(tmp_path, record):
    (tmp_path / "keep.txt").write_text("mine")
    if record is not None:
        (tmp_path / "devkit.json").write_text(record)
    before = tree_bytes(tmp_path)
    with pytest.raises(UserError, match="not a generated devkit"):
        make_devkit(tmp_path, 7, 1, 1)
    assert tree_bytes(tmp_path) == before


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def stop(seed, number):
        raise KeyboardInterrupt

    monkeypatch.setattr("embedded.devkit.draw_image", stop)
    with pytest.raises(KeyboardInterrupt):
        make_devkit(tmp_path / "a", 7, 3, 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("extra", [["--trainval", "0"], ["--seed", "-1"], []])
def test_the_command_refuses_in_one_line_with_status_2(tmp_path, extra):
    (tmp_path / "keep.txt").write_text("mine")
    command = [sys.executable, "-m", "embedded.devkit", str(tmp_path), *extra]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
