"""caffe_impl.images against bicubic interpolation written out, and against broken JPEGs."""

import hashlib
import io

import cv2
import numpy as np
import pytest
from PIL import Image

from caffe_impl.images import hr_and_lr, resize
from caffe_impl.jpeg import is_whole_jpeg, read_jpeg
from experiment.errors import UserError


def cubic(x, a):
    """Keys' kernel."""
    x = abs(x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def opencv_weights(length, size):
    """The four fixed taps of each output pixel, edges repeated: (size, length)."""
    weights = np.zeros((size, length))
    for out in range(size):
        centre = (out + 0.5) * length / size - 0.5
        for tap in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            weights[out, min(max(tap, 0), length - 1)] += cubic(centre - tap, -0.75)
    return weights


def widened_weights(length, size):
    """Taps over a kernel widened by the ratio when shrinking, cut at the edges and normalised."""
    widening = max(length / size, 1.0)
    centres = (np.arange(size) + 0.5) * length / size
    distances = (np.arange(length) + 0.5 - centres[:, None]) / widening
    weights = np.vectorize(cubic)(distances, -0.5)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", [8, 31, 80])
@pytest.mark.parametrize("antialias", [False, True])
def test_resize_is_the_bicubic_that_the_spec_names(size, antialias):
    image = np.random.default_rng(0).integers(0, 256, (37, 53, 3)).astype(np.uint8)
    weights = widened_weights if antialias else opencv_weights
    rows, columns = weights(37, size), weights(53, size)
    across = np.einsum("xw,hwc->hxc", columns, image)
    if antialias:
        across = np.clip(np.rint(across), 0, 255)  # Pillow rounds between its two passes
    expected = np.clip(np.einsum("yh,hxc->yxc", rows, across), 0, 255)
    assert np.abs(resize(image, size, antialias) - expected).max() < 1.01


def test_the_two_bicubics_differ_when_shrinking():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert np.abs(resize(image, 8, False).astype(int) - resize(image, 8, True)).mean() > 10


@pytest.mark.parametrize(("lr_size", "antialias"), [(14, False), (8, True)])
def test_lr_is_shrunk_from_the_original_or_from_hr_as_the_spec_says(lr_size, antialias):
    image = np.random.default_rng(1).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    hr, from_original = hr_and_lr(image, 56, lr_size, "original", antialias)
    hr_again, from_hr = hr_and_lr(image, 56, lr_size, "hr", antialias)
    assert hr.shape == from_original.shape == (56, 56, 3) and hr.dtype == from_original.dtype == np.uint8
    assert (hr == hr_again).all() and (from_original != from_hr).any()
    assert (from_original == resize(resize(image, lr_size, antialias), 56, antialias)).all()
    assert (from_hr == resize(resize(hr, lr_size, antialias), 56, antialias)).all()


def test_at_an_odd_ratio_without_antialias_lr_is_the_same_from_both():
    # An LR pixel's centre then is an HR pixel's centre, where four fixed taps are one: that very HR pixel.
    image = np.random.default_rng(1).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    assert (hr_and_lr(image, 56, 8, "original", False)[1] == hr_and_lr(image, 56, 8, "hr", False)[1]).all()


def encode(mode="RGB", **options):
    """A photograph-like JPEG's bytes."""
    smooth = cv2.GaussianBlur(np.random.default_rng(2).integers(0, 256, (60, 80, 3)).astype(np.uint8), (0, 0), 2)
    data = io.BytesIO()
    Image.fromarray(smooth).convert(mode).save(data, "JPEG", **options)
    return data.getvalue()


def thumbnail_exif():
    """An EXIF block that holds another JPEG, start and end marker and all."""
    return b"Exif\0\0" + b"II*\0\x08\0\0\0\0\0" + encode(quality=20)


KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "grey": {"mode": "L"},
    "cmyk": {"mode": "CMYK"},
    "restart markers": {"restart_marker_rows": 1},
    "thumbnail": {"exif": thumbnail_exif()},
    "comment with an end marker": {"comment": b"\xff\xd9 not yet"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_jpeg_is_read_as_bgr(tmp_path, kind):
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(**KINDS[kind]))
    image = read_jpeg(path, hashlib.sha256(path.read_bytes()).hexdigest())
    assert image.shape == (60, 80, 3) and image.dtype == np.uint8
    with Image.open(path) as reference:
        expected = np.asarray(reference.convert("RGB"))[..., ::-1].astype(int)
    if kind != "cmyk":  # the way from CMYK to RGB is each decoder's own
        assert np.abs(image - expected).max() <= 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_cut_anywhere_is_refused(tmp_path, kind):
    data = encode(**KINDS[kind])
    assert data[-2:] == b"\xff\xd9"
    for length in [0, 1, 2, 3, *range(4, len(data) - 1, 7), len(data) - 2, len(data) - 1]:
        assert not is_whole_jpeg(data[:length]), length
    path = tmp_path / "a.jpg"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"a\.jpg is not a whole JPEG"):
        read_jpeg(path)


def test_bytes_after_the_end_are_harmless(tmp_path):
    assert is_whole_jpeg(encode() + b"\0\0trailing")


def test_an_exif_orientation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter
    path = tmp_path / "turned.jpg"
    path.write_bytes(encode(exif=exif.tobytes()))
    assert read_jpeg(path).shape == (60, 80, 3)


def test_a_file_that_is_no_jpeg_is_missing_or_has_changed_is_named(tmp_path):
    path = tmp_path / "b.jpg"
    with pytest.raises(UserError, match=r"b\.jpg cannot be read"):
        read_jpeg(path)
    path.write_bytes(b"\x89PNG\r\n")
    with pytest.raises(UserError, match=r"b\.jpg is not a whole JPEG"):
        read_jpeg(path)
    path.write_bytes(encode())
    with pytest.raises(UserError, match=r"b\.jpg has changed"):
        read_jpeg(path, "0" * 64)


def test_markers_in_order_with_nothing_decodable_between_are_refused(tmp_path):
    path = tmp_path / "empty.jpg"
    path.write_bytes(b"\xff\xd8\xff\xda\x00\x02\xff\xd9")
    with pytest.raises(UserError, match=r"empty\.jpg cannot be decoded"):
        read_jpeg(path)
