"""The hash of an array is that of what it is, however it lies in memory or on disk."""

import hashlib
import struct

import numpy as np
import pytest

from experiment import artifacts
from experiment.artifacts import canonical_json, load_array, sha256_array, sha256_file, sha256_json


def npy_bytes(array: np.ndarray, alignment: int, spare: int = 0) -> bytes:
    """A version 1.0 .npy file whose header is padded to `alignment`, with `spare` blanks more (as numpy 2 leaves)."""
    order = array.flags.f_contiguous and not array.flags.c_contiguous
    header = f"{{'descr': '{array.dtype.str}', 'fortran_order': {order}, 'shape': {array.shape}, }}" + " " * spare
    header += " " * (-(len(header) + 11) % alignment) + "\n"
    body = array.tobytes(order="F" if order else "C")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "|u1", "|i1", "<i4", ">f4", "|b1"])
@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 2, 2), (1, 1), (0, 4), (3, 0), ()])
def test_equal_arrays_hash_alike_whatever_the_padding_of_their_headers(tmp_path, dtype, shape):
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    digests, files = set(), set()
    for number, (alignment, spare) in enumerate([(16, 0), (64, 0), (64, 21), (64, 150)]):
        path = tmp_path / f"{number}.npy"
        path.write_bytes(npy_bytes(array, alignment, spare))
        digests.add(sha256_array(load_array(path)))
        files.add(sha256_file(path))
    np.save(tmp_path / "numpy.npy", array)
    digests.add(sha256_array(load_array(tmp_path / "numpy.npy")))
    assert digests == {sha256_array(array)}
    assert len(files) > 1  # else the paddings were the same and nothing was tested


def test_fortran_and_c_order_and_strided_views_hash_alike():
    array = np.random.default_rng(1).normal(size=(6, 5, 4)).astype(np.float32)
    wide = np.zeros((6, 5, 8), np.float32)
    wide[:, :, ::2] = array
    assert sha256_array(np.asfortranarray(array)) == sha256_array(array)
    assert sha256_array(wide[:, :, ::2]) == sha256_array(array)
    assert sha256_array(array[::-1]) != sha256_array(array)


def test_the_hash_tells_dtype_shape_and_value_apart():
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    changed = array.copy()
    changed[2, 3] += 1
    others = [
        array.reshape(4, 3),
        array.reshape(12),
        array.reshape(1, 3, 4),
        array.view(np.uint32),
        array.view(np.float32),
        array.astype(np.int64),
        array.astype(">i4"),
        changed,
        array[:2],
        np.zeros((0, 4), np.int32),
        np.zeros((4, 0), np.int32),
    ]
    assert len({sha256_array(other) for other in [array, *others]}) == len(others) + 1


def test_minus_zero_is_not_zero_and_nan_is_itself():
    assert sha256_array(np.float32([0.0])) != sha256_array(np.float32([-0.0]))
    assert sha256_array(np.float32([np.nan])) == sha256_array(np.float32([np.nan]))


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 24])
def test_the_hash_does_not_depend_on_the_chunk(monkeypatch, chunk):
    array = np.random.default_rng(2).normal(size=(9, 3, 5))
    whole = hashlib.sha256(b"<f8(9, 3, 5)" + array.tobytes()).hexdigest()
    monkeypatch.setattr(artifacts, "HASH_CHUNK_BYTES", chunk)
    assert sha256_array(array) == whole
    assert sha256_array(np.asfortranarray(array)) == whole


def test_an_array_of_objects_has_no_hash():
    with pytest.raises(ValueError, match="objects"):
        sha256_array(np.array([{}, None], dtype=object))


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 1000])
def test_a_files_hash_is_that_of_its_bytes(tmp_path, monkeypatch, size):
    monkeypatch.setattr(artifacts, "HASH_CHUNK_BYTES", 100)
    data = np.random.default_rng(3).bytes(size)
    (tmp_path / "file").write_bytes(data)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_json_hashes_by_value_not_by_the_order_of_its_keys():
    assert sha256_json({"a": 1, "b": [1, 2.5, None]}) == sha256_json({"b": [1, 2.5, None], "a": 1})
    values = [{"a": 1}, {"a": 2}, {"b": 1}, {"a": "1"}, {"a": True}, {"a": 1.5}, [1, 2], [2, 1], None]
    assert len({sha256_json(value) for value in values}) == len(values)


def test_canonical_json_is_utf8_without_blanks_and_refuses_nan():
    assert canonical_json({"b": "Fuß", "a": [1, 2]}) == '{"a":[1,2],"b":"Fuß"}'.encode()
    with pytest.raises(ValueError):
        canonical_json({"a": float("nan")})
