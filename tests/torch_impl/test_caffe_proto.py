"""Caffe's files: exchanged with the real Caffe, byte for byte by hand, the Model Zoo's mean, and hostile ones."""

import struct
from pathlib import Path

import numpy as np
import pytest

from experiment.errors import UserError
from tests.conftest import SHARED_DATA, caffe_case, user_error
from torch_impl.caffe_proto import (
    read_binaryproto,
    read_caffemodel,
    read_prototxt,
    write_caffemodel,
)

RANDOM = np.random.default_rng(3)
NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 5 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "y" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "bn" type: "BatchNorm" bottom: "y" top: "y" }
layer { name: "scale" type: "Scale" bottom: "y" top: "y" scale_param { bias_term: true } }
layer { name: "fc" type: "InnerProduct" bottom: "y" top: "z" inner_product_param { num_output: 2 bias_term: false } }
"""
LAYERS = [
    ("conv", "Convolution", [(4, 3, 3, 3), (4,)]),
    ("bn", "BatchNorm", [(4,), (4,), (1,)]),
    ("scale", "Scale", [(4,), (4,)]),
    ("fc", "InnerProduct", [(2, 36)]),
]
# Ordinary values and the greatest, the least and a denormal float32: a file keeps the bits.
BLOBS = {name: [RANDOM.standard_normal(s).astype(np.float32) for s in shapes] for name, _, shapes in LAYERS}
BLOBS["conv"][1][:] = [np.finfo(np.float32).max, -np.finfo(np.float32).tiny, 1e-42, -0.0]
MEAN = RANDOM.uniform(90, 130, (3, 4, 5)).astype(np.float32)


def write(path: Path) -> None:
    """Write BLOBS with the port's writer."""
    write_caffemodel(path, "net", [(name, type_, BLOBS[name]) for name, type_, _ in LAYERS])


caffe_case("reads-ours", NET, files={"ours.caffemodel": write}, weights="ours.caffemodel", outputs=["parameters"])
caffe_case("saves-its-own", NET, parameters=BLOBS, outputs=["caffemodel"])
caffe_case("mean-file", kind="binaryproto", files={"mean.npy": MEAN[None]})


def assert_same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal shape, dtype and bits (-0.0 is not 0.0)."""
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


def test_caffe_loads_what_the_port_writes(caffe):
    result = caffe("reads-ours")
    for name, blobs in BLOBS.items():
        for i, blob in enumerate(blobs):
            assert_same_bits(result.array(f"parameters_out/{name}.{i}"), blob)


def test_port_reads_what_caffe_saves(caffe):
    result = caffe("saves-its-own")
    assert not result.refused, result.stderr
    found = read_caffemodel(result.path / "saved.caffemodel")
    assert list(found) == list(BLOBS)
    for name, blobs in BLOBS.items():
        for blob, expected in zip(found[name], blobs, strict=True):
            assert_same_bits(blob, expected)


def test_port_reads_caffes_mean_file(caffe):
    assert not caffe("mean-file").refused
    assert_same_bits(read_binaryproto(caffe("mean-file").path / "mean.binaryproto"), MEAN)


def test_port_reads_the_model_zoos_mean_file():
    path = SHARED_DATA / "resnet101-meta" / "ResNet_mean.binaryproto"
    if not path.is_file():
        pytest.skip("the Model Zoo's ResNet_mean.binaryproto is not here")
    mean = read_binaryproto(path)
    assert mean.shape == (3, 224, 224) and mean.dtype == np.float32
    # The values that are published for this file, BGR.
    np.testing.assert_allclose(mean.mean((1, 2), dtype=np.float64), [103.0626, 115.9029, 123.1516], atol=5e-5)
    assert round(float(mean.min()), 1) == 95.3 and round(float(mean.max()), 1) == 129.5


# ---------------------------------------------------------------- bytes by hand


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(n: int) -> bytes:
    """A protobuf varint; a negative number as its 64-bit complement."""
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*out, n])


def blob(dims: list[int], data: bytes = b"", double_data: bytes | None = None) -> bytes:
    """A BlobProto with a shape (field 7) and packed data (5) or double_data (8)."""
    shape = field(7, field(1, b"".join(varint(dim) for dim in dims)))
    return (field(5, data) if double_data is None else b"") + shape + (field(8, double_data) if double_data else b"")


def model(*blobs: bytes) -> bytes:
    """A NetParameter with one layer (field 100) that holds blobs (7)."""
    return field(100, field(1, b"fc") + b"".join(field(7, b) for b in blobs))


# name: "n"  layer { name: "fc" type: "InnerProduct" blobs { data: 1 data: -2.5 shape { dim: 1 dim: 2 } } }
GOLDEN = (
    bytes.fromhex("0a 01 6e")
    + bytes.fromhex("a2 06 24")
    + bytes.fromhex("0a 02 66 63")
    + bytes.fromhex("12 0c 49 6e 6e 65 72 50 72 6f 64 75 63 74")
    + bytes.fromhex("3a 10")
    + bytes.fromhex("2a 08 00 00 80 3f 00 00 20 c0")
    + bytes.fromhex("3a 04 0a 02 01 02")
)


def test_tiny_caffemodel_is_written_as_by_hand(tmp_path):
    write_caffemodel(tmp_path / "w", "n", [("fc", "InnerProduct", [np.array([[1, -2.5]], np.float32)])])
    assert (tmp_path / "w").read_bytes() == GOLDEN


def test_tiny_caffemodel_is_read_as_by_hand(tmp_path):
    (tmp_path / "w").write_bytes(GOLDEN)
    found = read_caffemodel(tmp_path / "w")
    assert list(found) == ["fc"]
    assert_same_bits(found["fc"][0], np.array([[1, -2.5]], np.float32))


def test_shape_from_before_2014_is_read(tmp_path):
    """num, channels, height, width (fields 1 to 4) instead of a shape."""
    old = b"\x08\x01\x10\x03\x18\x01\x20\x02" + field(5, struct.pack("<6f", *range(6)))
    (tmp_path / "mean").write_bytes(old)
    assert read_binaryproto(tmp_path / "mean").tolist() == [[[0, 1]], [[2, 3]], [[4, 5]]]
    (tmp_path / "w").write_bytes(model(old))
    assert read_caffemodel(tmp_path / "w")["fc"][0].shape == (1, 3, 1, 2)


def test_double_data_is_read(tmp_path):
    (tmp_path / "w").write_bytes(model(blob([2], double_data=struct.pack("<2d", 0.1, -7))))
    assert_same_bits(read_caffemodel(tmp_path / "w")["fc"][0], np.array([0.1, -7], np.float32))


# ---------------------------------------------------------------- hostile files

FLOATS = struct.pack("<4f", 1, 2, 3, 4)
HOSTILE = {
    "too few values": model(blob([5], FLOATS)),
    "too many values": model(blob([3], FLOATS)),
    "part of a value": model(blob([4], FLOATS[:-1])),
    "part of a double": model(blob([1], double_data=FLOATS[:12])),
    "no values": model(blob([4])),
    "negative dims": model(blob([-1, -4], FLOATS)),
    "one negative dim": model(blob([-1, 4], FLOATS)),
    "product wraps to 0": model(blob([1 << 32, 1 << 32])),
    "product wraps to 4": model(blob([(1 << 62) + 1, 4], FLOATS)),
    "greatest dims": model(blob([(1 << 63) - 1] * 8, FLOATS)),
    "many axes": model(blob([1] * 100, FLOATS[:4])),
    "V1 layers": field(2, field(4, b"fc") + field(6, blob([4], FLOATS))),
    "text instead of binary": NET.encode(),
    "a text's name": b'name: "ResNet-101"\n',
    "a PNG": b"\x89PNG\r\n\x1a\n" + bytes(20),
    "length beyond the end": b"\xa2\x06\xff\xff\xff\xff\x0f" + bytes(20),
    "varint without end": b"\xff" * 40,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_damaged_caffemodel_is_refused(name, tmp_path):
    path = tmp_path / "damaged.caffemodel"
    path.write_bytes(HOSTILE[name])
    with user_error(path):
        read_caffemodel(path)


def test_cut_caffemodel_is_refused_wherever_it_is_cut(tmp_path):
    path = tmp_path / "cut.caffemodel"
    for end in range(len(GOLDEN)):
        path.write_bytes(GOLDEN[:end])
        if end in (0, 3):  # nothing, and a net with a name alone: whole messages, and no layer is in them
            assert read_caffemodel(path) == {}
        else:
            with user_error(path):
                read_caffemodel(path)


@pytest.mark.parametrize("read", [read_caffemodel, read_binaryproto])
@pytest.mark.parametrize("start", [b"", GOLDEN, blob([1, 2, 1, 2], FLOATS)])
def test_random_bytes_never_end_in_another_error(read, start, tmp_path):
    """Noise, and good files with some bytes changed: read as something, or refused in the one way."""
    random = np.random.default_rng(len(start))
    path = tmp_path / "noise"
    for _ in range(400):
        content = bytearray(start or random.bytes(random.integers(1, 60)))
        for _ in range(random.integers(1, 4)):
            content[random.integers(len(content))] = random.integers(256)
        path.write_bytes(content)
        try:
            read(path)
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize(
    "content", [b"", GOLDEN, blob([3, 1, 1, 4], FLOATS), blob([4], FLOATS), blob([2, 1, 1, 2], FLOATS), b"\xff" * 9]
)
def test_what_is_no_mean_file_is_refused(content, tmp_path):
    (tmp_path / "mean.binaryproto").write_bytes(content)
    with user_error(tmp_path / "mean.binaryproto"):
        read_binaryproto(tmp_path / "mean.binaryproto")


@pytest.mark.parametrize("read", [read_caffemodel, read_binaryproto, read_prototxt])
def test_file_that_cannot_be_opened_is_refused(read, tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with user_error(path):
            read(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b'layer { name: "x" lrn_param { alpha: 1 } }', "lrn_param"),
        (b'layer {\n  name: "x"\n  include { phase: TEST }\n}', "include"),
        (b"layer { pooling_param { pool: MEDIAN } }", "MEDIAN"),
        (b'layer { name: "x"', ""),
        (b"input_dim: 99999999999999999999", ""),
        (b'layer { name: "\xff" }', ""),
        (GOLDEN, ""),
        (b"\x00\x01\x02", ""),
    ],
)
def test_prototxt_that_is_not_understood_is_refused(text, says, tmp_path):
    (tmp_path / "net.prototxt").write_bytes(text)
    with user_error(tmp_path / "net.prototxt", says):
        read_prototxt(tmp_path / "net.prototxt")
