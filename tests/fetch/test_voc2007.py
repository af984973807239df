"""VOC2007 is fetched, unpacked and checked against the published counts; a devkit of one's own is checked alike."""

import hashlib
import os
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

from experiment.errors import UserError
from fetch import voc2007
from fetch.voc2007 import COUNTS, check_devkit, get_voc2007
from tests.conftest import PROJECT, SHARED_DATA

SPLITS = {"trainval": ["000005", "000007", "000009"], "test": ["000001", "000002"]}
# `train` is a class here, as in VOC2007; its lists are not the split `train`.
LABELS = {
    ("cat", "trainval"): [" 1", " 0", "-1"],
    ("train", "trainval"): ["-1", " 1", " 1"],
    ("cat", "test"): ["-1", " 1"],
    ("train", "test"): [" 0", " 0"],
}
SMALL_COUNTS = """
[ids]
trainval = 3
test = 2
[labels.trainval]
cat = { positive = 1, difficult = 1 }
train = { positive = 2, difficult = 0 }
[labels.test]
cat = { positive = 1, difficult = 0 }
train = { positive = 0, difficult = 2 }
"""


def write_lists(main: Path, split: str, end: str = "\r\n") -> None:
    main.mkdir(parents=True, exist_ok=True)
    (main / f"{split}.txt").write_text("".join(f"{name}\n" for name in SPLITS[split]), newline="")
    for (kind, of), labels in LABELS.items():
        if of == split:
            lines = [f"{name} {label}{end}" for name, label in zip(SPLITS[split], labels, strict=True)]
            (main / f"{kind}_{split}.txt").write_text("".join(lines), newline="")


def write_devkit(root: Path, split: str) -> None:
    """One archive's part of a small devkit: root/VOCdevkit/VOC2007."""
    folder = root / "VOCdevkit" / "VOC2007"
    write_lists(folder / "ImageSets" / "Main", split)
    for kind, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".xml")):
        (folder / kind).mkdir(exist_ok=True)
        for name in SPLITS[split]:
            (folder / kind / (name + suffix)).write_text(f"{kind} {name}")


@pytest.fixture
def counts(tmp_path) -> Path:
    (tmp_path / "counts.toml").write_text(SMALL_COUNTS)
    return tmp_path / "counts.toml"


@pytest.fixture
def devkit(tmp_path) -> Path:
    for split in SPLITS:
        write_devkit(tmp_path / "given", split)
    return tmp_path / "given" / "VOCdevkit" / "VOC2007"


@pytest.fixture
def published(tmp_path, serve, monkeypatch):
    """A server for each small archive in place of the real ones; returns the servers by the split."""
    servers, archives = {}, {}
    for split in SPLITS:
        write_devkit(tmp_path / split, split)
        with tarfile.open(tmp_path / f"{split}.tar", "w") as tar:
            tar.add(tmp_path / split / "VOCdevkit", "VOCdevkit")
        content = (tmp_path / f"{split}.tar").read_bytes()
        servers[split] = serve(content)
        archives[f"{split}.tar"] = (len(content), {"sha256": hashlib.sha256(content).hexdigest()})
    monkeypatch.setattr(voc2007, "ARCHIVES", archives)
    monkeypatch.setattr(voc2007, "FOLDERS", [f"{server.url}/" for server in servers.values()])
    return servers


def asked(servers) -> int:
    return sum(len(server.ranges) for server in servers.values())


def test_both_archives_become_one_devkit_which_is_not_fetched_again(tmp_path, published, devkit, counts):
    target = tmp_path / "new" / "target"
    assert get_voc2007(target, counts) == target / "VOCdevkit"
    assert sorted(path.name for path in target.iterdir()) == ["VOCdevkit", "test.tar", "trainval.tar"]
    made = {path.relative_to(target): path.read_bytes() for path in (target / "VOCdevkit").rglob("*.*")}
    assert made == {path.relative_to(devkit.parents[1]): path.read_bytes() for path in devkit.rglob("*.*")}
    before = asked(published)
    assert get_voc2007(target, counts) == target / "VOCdevkit"
    assert asked(published) == before


def test_archives_that_are_there_are_used(tmp_path, published, counts):
    target = tmp_path / "target"
    target.mkdir()
    for split in SPLITS:
        (tmp_path / f"{split}.tar").rename(target / f"{split}.tar")
    get_voc2007(target, counts)
    assert asked(published) == 0


def test_archives_that_no_address_has_can_be_had_by_hand(tmp_path, published, counts, capsys):
    target = tmp_path / "target"
    published["trainval"].behaviours = [404]
    published["test"].behaviours = [404]
    with pytest.raises(UserError, match=r"could not be downloaded .*404"):
        get_voc2007(target, counts)
    told = capsys.readouterr().err
    for name, (size, digests) in voc2007.ARCHIVES.items():
        assert f"{name} ({size:,} bytes, sha256 {digests['sha256']})" in told
        assert all(f"  {folder}{name}\n" in told for folder in voc2007.FOLDERS)
    assert f"then put it into {target} and run this again" in told and "DEVKIT=" in told
    (tmp_path / "trainval.tar").rename(target / "trainval.tar")
    with pytest.raises(UserError, match=r"test\.tar could not be downloaded"):
        get_voc2007(target, counts)
    assert "trainval.tar (" not in capsys.readouterr().err  # it is there
    (tmp_path / "test.tar").rename(target / "test.tar")
    assert get_voc2007(target, counts) == target / "VOCdevkit"


def test_archives_that_make_no_right_devkit_leave_none(tmp_path, published, counts):
    counts.write_text(SMALL_COUNTS.replace("difficult = 2", "difficult = 1"))
    with pytest.raises(UserError, match=r"train_test\.txt has 2 images labelled 0, not 1"):
        get_voc2007(tmp_path / "target", counts)
    assert sorted(path.name for path in (tmp_path / "target").iterdir()) == ["test.tar", "trainval.tar"]


def test_a_devkit_that_is_there_is_checked_and_kept(tmp_path, published, counts):
    get_voc2007(tmp_path / "target", counts)
    broken = tmp_path / "target" / "VOCdevkit" / "VOC2007" / "JPEGImages" / "000007.jpg"
    broken.unlink()
    before = asked(published)
    with pytest.raises(UserError, match=r"JPEGImages/000007\.jpg .*move it away"):
        get_voc2007(tmp_path / "target", counts)
    assert asked(published) == before and not broken.exists()


def test_two_processes_do_not_fill_one_folder(tmp_path, published, counts):
    (tmp_path / "target").mkdir()
    with voc2007.held(tmp_path / "target"), pytest.raises(UserError, match="in use"):
        get_voc2007(tmp_path / "target", counts)


@pytest.mark.parametrize("above", range(3))
def test_a_right_devkit_passes_by_any_of_its_folders(devkit, counts, above):
    check_devkit([devkit, *devkit.parents][above], counts)


def test_line_ends_do_not_matter(devkit, counts):
    for split in SPLITS:
        write_lists(devkit / "ImageSets" / "Main", split, end="\n")
    check_devkit(devkit, counts)


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


FAULTS = {
    "a label": (lambda kit: change(kit / "ImageSets/Main/cat_trainval.txt", " 0", "-1"), "labelled 0, not 1"),
    "two labels swapped in kind": (lambda kit: change(kit / "ImageSets/Main/cat_test.txt", "-1", " 0"), "labelled 0"),
    "a strange label": (lambda kit: change(kit / "ImageSets/Main/cat_test.txt", "-1", " 2"), "other than 1, 0 and -1"),
    "a line too many": (lambda kit: change(kit / "ImageSets/Main/test.txt", "000002", "000002\n000003"), "3 images"),
    "an id twice": (lambda kit: change(kit / "ImageSets/Main/test.txt", "000002", "000001"), "1 images in 2 lines"),
    "another id": (lambda kit: change(kit / "ImageSets/Main/cat_test.txt", "000002", "000003"), "of its split"),
    "an id in both splits": (lambda kit: change(kit / "ImageSets/Main/test.txt", "000002", "000005"), "000005 is in"),
    "no class list": (lambda kit: (kit / "ImageSets/Main/train_test.txt").unlink(), r"train_test\.txt cannot be read"),
    "no split list": (lambda kit: (kit / "ImageSets/Main/test.txt").unlink(), r"test\.txt cannot be read"),
    "an empty list": (lambda kit: (kit / "ImageSets/Main/cat_test.txt").write_text(""), r"cat_test\.txt is empty"),
    "not text": (lambda kit: (kit / "ImageSets/Main/cat_test.txt").write_bytes(b"\xff\xfe"), "cannot be read"),
    "no image": (lambda kit: (kit / "JPEGImages/000001.jpg").unlink(), r"JPEGImages/000001\.jpg and 0 more of test"),
    "an empty image": (lambda kit: (kit / "JPEGImages/000001.jpg").write_text(""), r"JPEGImages/000001\.jpg"),
    "no annotation": (lambda kit: (kit / "Annotations/000009.xml").unlink(), r"Annotations/000009\.xml"),
    "no annotations": (lambda kit: (kit / "Annotations").rename(kit / "Other"), r"Annotations/000005\.xml and 2 more"),
    "no images": (lambda kit: (kit / "JPEGImages").rename(kit / "Other"), "holds no VOC2007/JPEGImages"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_devkit_that_is_not_as_published_is_refused_in_one_line(devkit, counts, name):
    damage, match = FAULTS[name]
    damage(devkit)
    with pytest.raises(UserError, match=match) as raised:
        check_devkit(devkit, counts)
    assert str(devkit) in str(raised.value) and "\n" not in str(raised.value)


def test_the_command_checks_a_devkit_and_refuses_in_one_line_with_status_2(devkit):
    command = [sys.executable, "-m", "fetch.voc2007", "--check", str(devkit)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "3 images in 3 lines, not 5,011" in done.stderr and "more differences" in done.stderr


def test_the_published_counts_are_of_20_classes_and_9963_images():
    table = tomllib.loads(COUNTS.read_text())
    assert sum(table["ids"].values()) == 9963
    assert table["labels"].keys() == table["ids"].keys()
    for labels in table["labels"].values():
        assert len(labels) == 20 and list(labels) == sorted(labels)


def test_the_published_lists_pass_and_have_just_these_counts(tmp_path):
    lists = SHARED_DATA / "voc2007-imagesets"
    if not lists.is_dir():
        pytest.skip(f"{lists} is not there: the real VOC2007 lists are not part of the project")
    table = tomllib.loads(COUNTS.read_text())
    folder = tmp_path / "VOCdevkit" / "VOC2007"
    for kind in ("JPEGImages", "Annotations"):
        (folder / kind).mkdir(parents=True)
    (folder / "ImageSets").mkdir()
    (folder / "ImageSets" / "Main").symlink_to(lists)
    (tmp_path / "filled").write_text("x")
    for split in table["ids"]:
        for name in (lists / f"{split}.txt").read_text().split():
            os.link(tmp_path / "filled", folder / "JPEGImages" / f"{name}.jpg")
            os.link(tmp_path / "filled", folder / "Annotations" / f"{name}.xml")
    check_devkit(tmp_path)
    assert len(os.listdir(folder / "JPEGImages")) == 9963
    for split, labels in table["labels"].items():
        names = {path.name.removesuffix(f"_{split}.txt") for path in lists.glob(f"*_{split}.txt")}
        assert names == set(labels)
