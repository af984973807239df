"""Bicubic against OpenCV, Pillow and the formula; JPEGs that are unusual, and files that are none."""

import hashlib
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from experiment.artifacts import RunFolder
from tests.conftest import make_stage, user_error
from tests.small_devkit import small_devkit
from torch_impl import images
from torch_impl.images import bicubic_antialiased, bicubic_four_taps, make_pair
from torch_impl.jpeg import read_bgr

RANDOM = np.random.default_rng(1)
PICTURES = {
    "china": np.ascontiguousarray(load_sample_image("china.jpg")[:, :, ::-1]),
    "flower": np.ascontiguousarray(load_sample_image("flower.jpg")[:, :, ::-1]),
    "noise": RANDOM.integers(0, 256, (97, 61, 3), dtype=np.uint8),
    "black and white": (RANDOM.integers(0, 2, (50, 130, 3)) * 255).astype(np.uint8),
    "thin": RANDOM.integers(0, 256, (3, 40, 3), dtype=np.uint8),
    "one pixel": RANDOM.integers(0, 256, (1, 1, 3), dtype=np.uint8),
}
SIZES = (224, 112, 32, 16, 7)


@pytest.fixture
def plain_opencv():
    """OpenCV's own code: Intel's library in the wheels on the package index rounds otherwise."""
    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    yield
    cv2.ipp.setUseIPP(before)


def by_opencv(image: np.ndarray, size: int) -> np.ndarray:
    """(size, size, 3) uint8 by INTER_CUBIC."""
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC)


def by_pillow(image: np.ndarray, size: int) -> np.ndarray:
    """(size, size, 3) uint8 by Pillow's BICUBIC, which antialiases."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))


def difference(found: np.ndarray, expected: np.ndarray) -> tuple[int, float]:
    """The greatest difference in grey levels, and the fraction of values that differ at all."""
    assert found.dtype == expected.dtype == np.uint8 and found.shape == expected.shape
    differences = np.abs(found.astype(int) - expected)
    return int(differences.max()), float((differences > 0).mean())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PICTURES)
def test_bicubic_is_opencvs(name, size, plain_opencv):
    """Fixed-point weights and all: only a sum that OpenCV's float32 puts on the other side of a half differs."""
    found = bicubic_four_taps(torch.from_numpy(PICTURES[name]), size).numpy()
    greatest, fraction = difference(found, by_opencv(PICTURES[name], size))
    assert greatest <= 1
    assert fraction < 1e-4  # measured: at most 1.4e-5, two values of the 150,528 of "thin" at 224


@pytest.mark.parametrize("name", ["china", "flower", "noise"])
def test_bicubic_is_within_one_grey_level_of_any_opencv(name):
    """Whatever library this OpenCV resizes with; with Intel's, 2 to 5 values of a hundred differ."""
    for size in SIZES:
        found = bicubic_four_taps(torch.from_numpy(PICTURES[name]), size).numpy()
        greatest, fraction = difference(found, by_opencv(PICTURES[name], size))
        assert greatest <= 1 and fraction < 0.1


def keys(x: float, a: float) -> float:
    """Keys' cubic convolution kernel (1981)."""
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


@pytest.mark.parametrize(("height", "width", "size"), [(9, 14, 5), (5, 4, 11), (8, 8, 8), (1, 6, 3)])
def test_bicubic_is_keys_formula_with_a_of_three_quarters(height, width, size):
    image = RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = bicubic_four_taps(torch.from_numpy(image), size).numpy()
    for i in range(size):
        for j in range(size):
            y, x = (i + 0.5) * height / size - 0.5, (j + 0.5) * width / size - 0.5
            exact = np.zeros(3)
            for row in range(int(np.floor(y)) - 1, int(np.floor(y)) + 3):
                for column in range(int(np.floor(x)) - 1, int(np.floor(x)) + 3):
                    pixel = image[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
                    exact += keys(y - row, -0.75) * keys(x - column, -0.75) * pixel
            # Half a level for rounding; each axis has 4 weights rounded to 1/2048, times sums of weights up to 1.375.
            allowed = 0.5 + 2 * 4 * 255 / 4096 * 1.375
            assert np.abs(np.clip(exact, 0, 255) - found[i, j]).max() <= allowed


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PICTURES)
def test_antialiased_bicubic_is_pillows(name, size):
    """PyTorch keeps its weights in 16 bits, Pillow in 32, and both round between the two passes."""
    found = bicubic_antialiased(torch.from_numpy(PICTURES[name]), size).numpy()
    greatest, fraction = difference(found, by_pillow(PICTURES[name], size))
    if name in ("china", "flower"):
        assert greatest <= 1 and fraction < 0.01  # measured: at most 0.7 %
    else:
        assert greatest <= 2 and fraction < 0.25  # measured: 20 % for "noise" at 32, below 1 % elsewhere


def test_the_two_bicubics_are_not_the_same():
    image = torch.from_numpy(PICTURES["china"])
    greatest, fraction = difference(bicubic_four_taps(image, 32).numpy(), bicubic_antialiased(image, 32).numpy())
    assert greatest > 20 and fraction > 0.5


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("lr_from", ["original", "hr"])
@pytest.mark.parametrize("name", ["china", "noise"])
def test_pair_is_made_in_the_order_that_the_spec_names(name, lr_from, antialias, plain_opencv):
    original = PICTURES[name]
    hr, lr = make_pair(original, 24, 16, lr_from, antialias)
    resize = by_pillow if antialias else by_opencv
    expected_hr = resize(original, 24)
    expected_lr = resize(resize(expected_hr if lr_from == "hr" else original, 16), 24)
    assert difference(hr, expected_hr)[0] <= 1
    # A small image that is off by a level somewhere is off by up to 1.9 levels after enlarging.
    assert difference(lr, expected_lr)[0] <= 3
    other_lr = resize(resize(original if lr_from == "hr" else expected_hr, 16), 24)
    assert difference(lr, other_lr)[0] > 3


def test_order_is_without_effect_where_every_seventh_pixel_is_taken(plain_opencv):
    """224 to 32 (the paper's) and 112 to 16, without antialiasing: four taps then fall on one pixel of the HR image,
    and that is the original at the same place."""
    for hr_size, lr_size in ((224, 32), (112, 16)):
        from_original = make_pair(PICTURES["china"], hr_size, lr_size, "original")[1]
        from_hr = make_pair(PICTURES["china"], hr_size, lr_size, "hr")[1]
        assert difference(from_original, from_hr)[0] == 0


# ---------------------------------------------------------------- reading


def jpeg(image: np.ndarray | Image.Image, **options) -> bytes:
    """The bytes of a JPEG of a picture (h, w, 3), or of a Pillow image."""
    content = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(content, "JPEG", **options)
    return content.getvalue()


def write(folder: Path, content: bytes) -> Path:
    """A file of that content."""
    (folder / "000001.jpg").write_bytes(content)
    return folder / "000001.jpg"


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0, "quality": 95}])
def test_photograph_is_read_as_opencv_reads_it(options, tmp_path):
    """Blue first. The two have decoders of their own build, whose colours may differ by a few levels."""
    path = write(tmp_path, jpeg(PICTURES["china"][:, :, ::-1], **options))
    assert difference(read_bgr(path), cv2.imread(str(path)))[0] <= 3


def test_grey_photograph_has_three_equal_channels(tmp_path):
    path = write(tmp_path, jpeg(Image.fromarray(PICTURES["china"]).convert("L")))
    found = read_bgr(path)
    assert found.shape == PICTURES["china"].shape
    assert (found[:, :, 0] == found[:, :, 1]).all() and (found[:, :, 0] == found[:, :, 2]).all()
    assert difference(found, cv2.imread(str(path)))[0] <= 2


def test_cmyk_photograph_is_read_as_opencv_reads_it(tmp_path):
    path = write(tmp_path, jpeg(Image.fromarray(PICTURES["flower"]).convert("CMYK")))
    assert difference(read_bgr(path), cv2.imread(str(path)))[0] <= 3


@pytest.mark.parametrize("orientation", [3, 6])
def test_exif_orientation_is_ignored(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write(tmp_path, jpeg(PICTURES["china"], exif=exif))
    stored = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    turned = cv2.imread(str(path))
    assert difference(read_bgr(path), stored)[0] <= 3
    assert turned.shape != stored.shape or np.abs(turned.astype(int) - stored).max() > 20  # the file does say so


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("kept", [0, 1, 10, 300, 0.1, 0.5, 0.9, 0.99, -20])
def test_photograph_cut_short_is_refused(kept, progressive, tmp_path):
    """After some bytes, after a part of the file, or some bytes before its end."""
    content = jpeg(PICTURES["china"], progressive=progressive)
    path = write(tmp_path, content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with user_error(path):
        read_bgr(path)


@pytest.mark.parametrize("format_", ["PNG", "GIF", "BMP", "TIFF"])
def test_other_format_named_jpg_is_refused(format_, tmp_path):
    content = io.BytesIO()
    Image.fromarray(PICTURES["noise"]).save(content, format_)
    path = write(tmp_path, content.getvalue())
    with user_error(path, "JPEG"):
        read_bgr(path)


def test_missing_photograph_is_refused(tmp_path):
    with user_error(tmp_path / "000001.jpg", "missing"):
        read_bgr(tmp_path / "000001.jpg")


def test_photograph_that_has_changed_is_refused(tmp_path):
    path = write(tmp_path, jpeg(np.zeros((9, 12, 3), np.uint8)))
    assert read_bgr(path, hashlib.sha256(path.read_bytes()).hexdigest()).shape == (9, 12, 3)
    with user_error(path, "changed"):
        read_bgr(path, "0" * 64)


def test_stage_keeps_the_order_of_the_lists(tmp_path):
    """Each image of both splits, at its id's place."""
    folder = tmp_path / "devkit" / "JPEGImages"
    folder.mkdir(parents=True)
    ids = {"ids_trainval": ["b", "a"], "ids_test": ["c"]}
    for level, name in ((20, "a"), (120, "b"), (220, "c")):
        (folder / f"{name}.jpg").write_bytes(jpeg(np.full((9, 12, 3), level, np.uint8)))
    digests = {name: hashlib.sha256((folder / f"{name}.jpg").read_bytes()).hexdigest() for name in "abc"}
    spec = {"images": {"hr_size": 14, "lr_size": 2, "lr_from": "original", "antialias": False}}
    index = {**ids, "image_sha256": digests}
    stage = make_stage(tmp_path / "run", "images", spec, {"index": index}, {"devkit": tmp_path / "devkit"})
    images.run(stage)
    stage.out.finish({})
    for split, levels in (("trainval", [120, 20]), ("test", [220])):
        for resolution in ("hr", "lr"):
            found = RunFolder(tmp_path / "run").array("images", f"{resolution}_{split}")
            assert found.shape == (len(levels), 14, 14, 3) and found.dtype == np.uint8
            assert np.abs(found.astype(int) - np.reshape(levels, (-1, 1, 1, 1))).max() <= 1


# ---------------------------------------------------------------- the stage


def test_images_stand_in_the_order_of_their_ids_however_many_threads_make_them(tmp_path):
    devkit = small_devkit(tmp_path / "devkit", trainval=70, test=3)  # more than one chunk
    ids = {
        split: (devkit / "ImageSets" / "Main" / f"{split}.txt").read_text().split() for split in ("trainval", "test")
    }
    hashes = {
        i: hashlib.sha256((devkit / "JPEGImages" / f"{i}.jpg").read_bytes()).hexdigest() for s in ids for i in ids[s]
    }
    index = {"image_sha256": hashes, **{f"ids_{split}": ids[split] for split in ids}}
    values = {"images": {"hr_size": 24, "lr_size": 8, "lr_from": "original", "antialias": False}}
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            stage = make_stage(tmp_path / f"{threads}", "images", values, {"index": index}, {"devkit": devkit})
            images.run(stage)
            assert torch.get_num_threads() == threads
            for split in ids:
                names = [f"{resolution}_{split}" for resolution in ("hr", "lr")]
                found = zip(*(np.load(stage.out.path / f"{name}.npy") for name in names), strict=True)
                for image_id, pair in zip(ids[split], found, strict=True):
                    expected = make_pair(read_bgr(devkit / "JPEGImages" / f"{image_id}.jpg"), 24, 8)
                    np.testing.assert_array_equal(pair, expected)
    finally:
        torch.set_num_threads(before)
