"""Caltech-101 is laid out as the data that this project's figures are from."""

import hashlib
import io
import re
import shutil
import tarfile
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from experiment.errors import UserError
from fetch import caltech101
from fetch.caltech101 import get_caltech101, lay_out_devkit, lay_out_pretraining
from tests.conftest import SHARED_DATA

TWENTY = [
    "airplanes",
    "Motorbikes",
    "Faces",
    "Leopards",
    "car_side",
    "ketch",
    "chandelier",
    "grand_piano",
    "butterfly",
    "helicopter",
    "kangaroo",
    "starfish",
    "sunflower",
    "ibis",
    "laptop",
    "llama",
    "dalmatian",
    "elephant",
    "chair",
    "bonsai",
]


def jpeg(kind: str, number: int, grey: bool) -> bytes:
    """A tiny photograph; size and bytes differ from one to the next."""
    stream = io.BytesIO()
    image = Image.new("L" if grey else "RGB", (8 + number % 7, 5 + len(kind)), number % 256)
    image.save(stream, "JPEG", comment=f"{kind} {number}".encode())
    return stream.getvalue()


@pytest.fixture(scope="module")
def miniature() -> dict[str, bytes]:
    """Caltech-101 in little: file names below 101_ObjectCategories, and their bytes."""
    photographs = {}
    for kind in [*TWENTY, "accordion", "yin_yang", "BACKGROUND_Google", "Faces_easy"]:
        # more than the limit of one class, fewer than it of another, and a gap in a third
        numbers = range(1, 104) if kind == "Faces" else range(1, 5 + len(kind) % 3)
        for number in set(numbers) - ({2} if kind == "ibis" else set()):
            photographs[f"{kind}/image_{number:04d}.jpg"] = jpeg(kind, number, grey=kind == "car_side")
    return {**photographs, "BACKGROUND_Google/tmp": b"no photograph", "ibis/._image_0002.jpg": b"a Mac's"}


def archive_of(photographs: dict[str, bytes]) -> bytes:
    """The record's zip, which holds the photographs as a tar.gz, and other files."""
    inner, outer = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        for name, content in photographs.items():
            info = tarfile.TarInfo(f"101_ObjectCategories/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with zipfile.ZipFile(outer, "w") as record:
        record.writestr("caltech-101/101_ObjectCategories.tar.gz", inner.getvalue())
        record.writestr("caltech-101/show_annotation.m", "% nothing")
        record.writestr("__MACOSX/caltech-101/._101_ObjectCategories.tar.gz", "nothing")
    return outer.getvalue()


def write_tree(folder: Path, photographs: dict[str, bytes]) -> Path:
    for name, content in photographs.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def publish(monkeypatch, serve):
    """A function that puts an archive in the place of the real one, and returns its server."""

    def put(content: bytes):
        server = serve(content)
        monkeypatch.setattr(caltech101, "SOURCES", (server.url,))
        monkeypatch.setattr(caltech101, "SIZE", len(content))
        monkeypatch.setattr(caltech101, "DIGESTS", {"sha256": hashlib.sha256(content).hexdigest()})
        return server

    return put


def ids_by_brute_force(photographs: dict[str, bytes]) -> dict[str, str]:
    """Which photograph takes which id, by the rule as it is stated."""
    ids, following = {}, 1
    for k in range(1, 101):
        for kind in sorted(TWENTY, key=str.lower):
            if f"{kind}/image_{k:04d}.jpg" in photographs:
                ids[f"{following:06d}"] = f"{kind}/image_{k:04d}.jpg"
                following += 1
    return ids


def read_lines(devkit: Path, name: str) -> list[str]:
    return Path(devkit, "VOC2007/ImageSets/Main", f"{name}.txt").read_text().splitlines()


def tree_bytes(folder: Path, pattern: str = "*") -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob(pattern) if path.is_file()}


def test_the_archive_becomes_the_devkit_and_the_pretraining_folder(tmp_path, miniature, publish):
    publish(archive_of(miniature))
    target = get_caltech101(tmp_path / "target")
    assert sorted(path.name for path in target.iterdir()) == ["caltech-101.zip", "caltech20-voc", "caltech80-pretrain"]
    devkit, ids = target / "caltech20-voc", ids_by_brute_force(miniature)
    assert tree_bytes(devkit / "VOC2007/JPEGImages") == {f"{name}.jpg": miniature[ids[name]] for name in ids}
    odd = {name: int(re.search(r"_(\d+)\.jpg", original)[1]) % 2 for name, original in ids.items()}
    for split, remainder in (("trainval", 1), ("test", 0)):
        names = [name for name in ids if odd[name] == remainder]
        assert read_lines(devkit, split) == names
        for kind in TWENTY:
            shown = [" 1" if ids[name].split("/")[0] == kind else "-1" for name in names]
            assert read_lines(devkit, f"{kind}_{split}") == [f"{n} {s}" for n, s in zip(names, shown, strict=True)]
    assert len(list(devkit.glob("VOC2007/ImageSets/Main/*"))) == 2 * (20 + 1)
    others = {name for name in miniature if name.split("/")[0] in ("accordion", "yin_yang")}
    assert tree_bytes(target / "caltech80-pretrain") == {name: miniature[name] for name in others}


def test_each_annotation_names_the_original_its_size_and_one_object_that_fills_it(tmp_path, miniature):
    lay_out_devkit(write_tree(tmp_path / "in", miniature), tmp_path / "out")
    ids = ids_by_brute_force(miniature)
    assert {path.stem for path in (tmp_path / "out/VOC2007/Annotations").iterdir()} == set(ids)
    depths = set()
    for name, original in ids.items():
        root = ET.parse(tmp_path / f"out/VOC2007/Annotations/{name}.xml").getroot()
        assert root.findtext("source/image") == original and root.findtext("filename") == f"{name}.jpg"
        with Image.open(io.BytesIO(miniature[original])) as image:
            size = {"width": image.width, "height": image.height, "depth": 1 if image.mode == "L" else 3}
        assert {key: int(root.findtext(f"size/{key}")) for key in size} == size
        depths.add(size["depth"])
        (item,) = root.iter("object")
        box = [int(item.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")]
        assert box == [1, 1, size["width"], size["height"]]
        assert (item.findtext("name"), item.findtext("difficult")) == (original.split("/")[0], "0")
    assert depths == {1, 3}


def test_what_is_there_is_kept_and_not_fetched_again(tmp_path, miniature, publish):
    server = publish(archive_of(miniature))
    target = get_caltech101(tmp_path / "target")
    (target / "caltech20-voc" / "mine.txt").write_text("mine")
    shutil.rmtree(target / "caltech80-pretrain")  # as if the process had been killed between the two
    get_caltech101(target)
    assert (target / "caltech20-voc" / "mine.txt").exists() and (target / "caltech80-pretrain").is_dir()
    get_caltech101(target)
    assert len(server.ranges) == 1


def test_an_archive_that_no_address_has_can_be_had_by_hand(tmp_path, miniature, publish, capsys):
    content = archive_of(miniature)
    server = publish(content)
    server.behaviours = [404]
    with pytest.raises(UserError, match=r"caltech-101\.zip could not be downloaded .*404"):
        get_caltech101(tmp_path / "target")
    told = capsys.readouterr().err
    assert f"caltech-101.zip ({len(content):,} bytes, sha256 " in told and f"  {server.url}\n" in told
    assert f"then put it into {tmp_path / 'target'} and run this again" in told
    (tmp_path / "target" / "caltech-101.zip").write_bytes(content)
    assert (get_caltech101(tmp_path / "target") / "caltech20-voc").is_dir()


@pytest.mark.parametrize(
    ("without", "match"), [("laptop/", "no folder laptop"), ("", "holds no 101_ObjectCategories.tar.gz")]
)
def test_an_archive_of_something_else_leaves_neither_folder(tmp_path, miniature, publish, without, match):
    if without:
        content = archive_of({name: data for name, data in miniature.items() if not name.startswith(without)})
    else:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as record:
            record.writestr("readme", "nothing")
        content = stream.getvalue()
    publish(content)
    with pytest.raises(UserError, match=match):
        get_caltech101(tmp_path / "target")
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["caltech-101.zip"]


def test_a_file_that_is_no_photograph_is_named(tmp_path, miniature):
    write_tree(tmp_path / "in", {**miniature, "llama/image_0001.jpg": b"no photograph"})
    with pytest.raises(UserError, match=r"llama/image_0001\.jpg is no photograph"):
        lay_out_devkit(tmp_path / "in", tmp_path / "out")


def test_the_real_photographs_make_the_real_devkit_byte_for_byte(tmp_path):
    """From the photographs under their original names, which the real annotations tell."""
    real, pretraining = SHARED_DATA / "caltech20-voc", SHARED_DATA / "caltech80-pretrain"
    if not (real.is_dir() and pretraining.is_dir()):
        pytest.skip(f"{SHARED_DATA} is not there: the photographs of Caltech-101 are not part of the project")
    categories = tmp_path / "101_ObjectCategories"
    for path in real.glob("VOC2007/Annotations/*.xml"):
        original = categories / re.search("<image>(.*)</image>", path.read_text())[1]
        original.parent.mkdir(parents=True, exist_ok=True)
        original.symlink_to(real / "VOC2007/JPEGImages" / f"{path.stem}.jpg")
    for path in pretraining.iterdir():
        (categories / path.name).symlink_to(path)
    for left_out in ("BACKGROUND_Google", "Faces_easy"):
        (categories / left_out).mkdir()
        (categories / left_out / "image_0001.jpg").symlink_to(real / "VOC2007/JPEGImages/000001.jpg")
    lay_out_devkit(categories, tmp_path / "devkit")
    lay_out_pretraining(categories, tmp_path / "pretraining")
    assert len(list((tmp_path / "devkit").rglob("*.jpg"))) == 1767
    assert len(list((tmp_path / "pretraining").rglob("*.jpg"))) == 4570
    assert tree_bytes(tmp_path / "devkit") == tree_bytes(real)
    assert tree_bytes(tmp_path / "pretraining") == tree_bytes(pretraining)
