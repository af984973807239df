"""The difference of two arrays, against numpy on the whole arrays at once and against closed forms."""

import math

import numpy as np
import pytest

from compare import difference as module
from compare.difference import Difference, difference, ratio


def brute_force(a: np.ndarray, b: np.ndarray) -> Difference:
    """The same measures element by element and in numpy's plain words."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    index, worst = (), -1.0
    for position in np.ndindex(x.shape):
        if abs(x[position] - y[position]) > worst:
            index, worst = position, abs(x[position] - y[position])

    def relative(first, second):
        error, size = np.linalg.norm((first - second).ravel()), np.linalg.norm(first.ravel())
        return (0.0 if error == 0 else math.inf) if size == 0 else error / size

    rows = [relative(p, q) for p, q in zip(x, y, strict=True)]
    norms = np.linalg.norm(x.ravel()) * np.linalg.norm(y.ravel())
    return Difference(
        unequal=sum(p != q for p, q in zip(x.ravel(), y.ravel(), strict=True)),
        total=x.size,
        max_abs=worst,
        index=index,
        relative_l2=relative(x, y),
        cosine=float(x.ravel() @ y.ravel() / norms) if norms else float(not x.any() and not y.any()),
        worst_row=int(np.argmax(rows)),
        worst_row_l2=max(rows),
    )


def agree(found: Difference, wanted: Difference) -> None:
    for name in ("problem", "unequal", "total", "max_abs", "index", "worst_row"):
        assert getattr(found, name) == getattr(wanted, name), name
    for name in ("relative_l2", "cosine", "worst_row_l2"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), rel=1e-12, abs=1e-15), name


@pytest.mark.parametrize("chunk_bytes", [1, 8 * 12, 8 * 24, 1000, 1 << 26])
@pytest.mark.parametrize("shape", [(7,), (1,), (5, 12), (9, 2, 3, 2), (1, 12)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int8, np.int32])
def test_the_measures_are_numpys_whatever_the_chunk(monkeypatch, chunk_bytes, shape, dtype):
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk_bytes)
    random = np.random.default_rng([chunk_bytes % 97, len(shape)])
    a, b = (random.uniform(0, 100, shape).astype(dtype) for _ in "ab")
    b = np.where(random.random(shape) < 0.5, a, b)
    agree(difference(a, b), brute_force(a, b))


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 26])
def test_of_equal_errors_the_first_is_told(monkeypatch, chunk_bytes):
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk_bytes)
    a, b = np.ones((6, 2)), np.ones((6, 2))
    b[2, 1] = b[4, 0] = b[5, 1] = 3.0
    d = difference(a, b)
    assert (d.index, d.max_abs, d.unequal, d.worst_row) == ((2, 1), 2.0, 3, 2)


def test_unsigned_and_narrow_integers_do_not_wrap():
    d = difference(np.array([0, 255, 3], np.uint8), np.array([255, 0, 3], np.uint8))
    assert (d.max_abs, d.unequal, d.index) == (255.0, 2, (0,))
    assert difference(np.array([-128], np.int8), np.array([127], np.int8)).max_abs == 255.0


def test_large_float32_values_do_not_overflow():
    a = np.full((3, 4), 3e38, np.float32)
    assert difference(a, -a).relative_l2 == pytest.approx(2.0)
    assert difference(a, -a).cosine == pytest.approx(-1.0)


def test_memory_mapped_and_fortran_arrays_are_compared_by_position(tmp_path):
    a = np.random.default_rng(0).normal(size=(6, 5))
    np.save(tmp_path / "a.npy", a)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert difference(mapped, np.asfortranarray(a)).unequal == 0
    assert difference(mapped, a[::-1]).unequal == a.size


def test_equal_arrays_have_no_difference():
    a = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    d = difference(a, a.copy())
    assert (d.problem, d.unequal, d.max_abs, d.relative_l2, d.worst_row_l2) == ("", 0, 0.0, 0.0, 0.0)
    assert d.cosine == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 26])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["first", "second", "both"])
@pytest.mark.parametrize("position", [(0, 0), (2, 1), (5, 3)])
def test_nan_and_infinity_are_never_agreement(monkeypatch, chunk_bytes, value, where, position):
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk_bytes)
    a = np.random.default_rng(2).normal(size=(6, 4)).astype(np.float32)
    b = a.copy()
    for name, array in (("first", a), ("second", b)):
        if where in (name, "both"):
            array[position] = value
    problem = difference(a, b).problem
    assert problem == f"the {'second' if where == 'second' else 'first'} has {np.float64(value)} at {position}"


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (np.zeros(3), np.zeros(4), "shape"),
        (np.zeros((2, 3)), np.zeros((3, 2)), "shape"),
        (np.zeros((2, 3)), np.zeros(6), "shape"),
        (np.zeros(1), np.zeros(()), "shape"),
        (np.zeros(3, np.float32), np.zeros(3), "dtype"),
        (np.zeros(3, np.int32), np.zeros(3, np.uint32), "dtype"),
        (np.zeros(3, "<f4"), np.zeros(3, ">f4"), "dtype"),
        (np.zeros(0), np.zeros(0), "nothing to compare"),
        (np.zeros((4, 0)), np.zeros((4, 0)), "nothing to compare"),
    ],
)
def test_arrays_that_cannot_be_compared_are_a_problem(a, b, said):
    assert difference(a, b).problem.startswith(said)


def test_shape_is_looked_at_before_dtype_and_dtype_before_values():
    a = np.array([np.nan, 1.0])
    assert difference(a, np.zeros(3, np.float32)).problem.startswith("shape")
    assert difference(a, np.zeros(2, np.float32)).problem.startswith("dtype")


@pytest.mark.parametrize(
    ("a", "b", "relative_l2", "cosine"),
    [
        ([0.0, 0.0], [0.0, 0.0], 0.0, 1.0),
        ([0.0, 0.0], [0.0, 1.0], math.inf, 0.0),
        ([3.0, 4.0], [0.0, 0.0], 1.0, 0.0),
        ([1.0, 0.0], [0.0, 1.0], math.sqrt(2), 0.0),
        ([3.0, 4.0], [6.0, 8.0], 1.0, 1.0),
        ([3.0, 4.0], [-3.0, -4.0], 2.0, -1.0),
    ],
)
def test_closed_forms(a, b, relative_l2, cosine):
    d = difference(np.array(a), np.array(b))
    assert d.relative_l2 == pytest.approx(relative_l2) and d.cosine == pytest.approx(cosine)


def test_a_single_number_is_compared_too():
    d = difference(np.array(2.0), np.array(3.0))
    assert (d.total, d.unequal, d.max_abs, d.relative_l2) == (1, 1, 1.0, 0.5)


def test_one_bad_row_cannot_hide_among_many():
    a = np.ones((1000, 10))
    b = a.copy()
    b[637] *= 1.5
    d = difference(a, b)
    assert d.relative_l2 < 0.02 and (d.worst_row, d.worst_row_l2) == (637, pytest.approx(0.5))
    a[3] = b[637] = 0
    b[3, 0] = 1e-30
    assert (difference(a, b).worst_row, difference(a, b).worst_row_l2) == (3, math.inf)


def test_ratio_of_nothing():
    assert ratio(0.0, 0.0) == 0.0
    assert ratio(1.0, 0.0) == math.inf
    assert ratio(4.0, 16.0) == 0.5
