"""The difference of two arrays, against numpy on the whole arrays at once and against closed forms."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest

from compare import difference as module
from compare.difference import (
    PERCENTILES,
    Difference,
    Histogram,
    difference,
    max_abs,
    pieces,
    ratio,
    relative_l2,
    trimmed_l2,
    ulp_distance,
    unequal_share,
    worst_row_l2,
)


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
    kept = sorted(range(len(x)), key=lambda row: np.linalg.norm(x[row] - y[row]))
    kept = kept[: max(1, len(x) - math.ceil(len(x) / 100))]
    size = np.linalg.norm(x.ravel())
    return Difference(
        unequal=sum(p != q for p, q in zip(x.ravel(), y.ravel(), strict=True)),
        total=x.size,
        max_abs=worst,
        index=index,
        relative_l2=relative(x, y),
        cosine=float(x.ravel() @ y.ravel() / norms) if norms else float(not x.any() and not y.any()),
        worst_row=int(np.argmax(rows)),
        worst_row_l2=max(rows),
        square_error=float(((x - y) ** 2).sum()),
        trimmed_l2=float(np.linalg.norm((x[kept] - y[kept]).ravel()) / size) if size else math.nan,
    )


def agree(found: Difference, wanted: Difference) -> None:
    for name in ("problem", "unequal", "total", "max_abs", "index", "worst_row"):
        assert getattr(found, name) == getattr(wanted, name), name
    for name in ("relative_l2", "cosine", "worst_row_l2", "square_error", "trimmed_l2"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), rel=1e-12, abs=1e-15), name


@pytest.mark.parametrize("piece_bytes", [1, 8 * 12, 8 * 24, 1000, 1 << 26])
@pytest.mark.parametrize("shape", [(7,), (1,), (5, 12), (9, 2, 3, 2), (1, 12)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int8, np.int32])
def test_the_measures_are_numpys_whatever_the_piece(monkeypatch, piece_bytes, shape, dtype):
    monkeypatch.setattr(module, "PIECE_BYTES", piece_bytes)
    random = np.random.default_rng([piece_bytes % 97, len(shape)])
    a, b = (random.uniform(0, 100, shape).astype(dtype) for _ in "ab")
    b = np.where(random.random(shape) < 0.5, a, b)
    agree(difference(a, b), brute_force(a, b))


@pytest.mark.parametrize("piece_bytes", [1, 1 << 26])
def test_of_equal_errors_the_first_is_told(monkeypatch, piece_bytes):
    monkeypatch.setattr(module, "PIECE_BYTES", piece_bytes)
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


@pytest.mark.parametrize("piece_bytes", [1, 1 << 26])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["first", "second", "both"])
@pytest.mark.parametrize("position", [(0, 0), (2, 1), (5, 3)])
def test_nan_and_infinity_are_never_agreement(monkeypatch, piece_bytes, value, where, position):
    monkeypatch.setattr(module, "PIECE_BYTES", piece_bytes)
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


# ---------------------------------------------------------------- percentiles and units in the last place


def percentiles_of(numbers: np.ndarray) -> dict[str, float]:
    histogram = Histogram()
    for part in np.array_split(numbers, 3):
        histogram.add(part)
    return histogram.percentiles()


@pytest.mark.parametrize("size", [3, 10, 99, 100, 101, 1000, 4096])
@pytest.mark.parametrize("kind", ["wide", "uniform", "few values", "mostly zero", "all equal"])
def test_percentiles_are_upper_bounds_within_a_32nd(size, kind):
    random = np.random.default_rng(size)
    numbers = {
        "wide": np.exp(random.normal(0, 40, size)),
        "uniform": random.random(size),
        "few values": random.integers(0, 4, size).astype(float),
        "mostly zero": np.where(random.random(size) < 0.985, 0.0, random.random(size)),
        "all equal": np.full(size, 0.3),
    }[kind]
    found = percentiles_of(numbers)
    assert list(found) == list(PERCENTILES)
    for name, share in PERCENTILES.items():
        exact = np.quantile(numbers, share, method="inverted_cdf")
        assert exact <= found[name] <= exact * (1 + 1 / 32), name


def test_no_percentile_is_above_the_greatest_and_of_zeros_all_are_zero():
    assert percentiles_of(np.full(5, 0.7)) == dict.fromkeys(PERCENTILES, 0.7)
    assert percentiles_of(np.zeros(5)) == dict.fromkeys(PERCENTILES, 0.0)
    assert percentiles_of(np.array([0.0, 0.0, 1e-300])) == {"p50": 0.0, "p99": 1e-300, "p99_9": 1e-300}


def test_percentiles_of_a_difference_are_of_the_absolute_errors():
    random = np.random.default_rng(3)
    a = random.normal(size=(40, 50)).astype(np.float32)
    b = a + random.normal(0, 1e-3, a.shape).astype(np.float32)
    error = np.abs(a.astype(np.float64) - b)
    for name, share in PERCENTILES.items():
        exact = np.quantile(error, share, method="inverted_cdf")
        assert exact <= difference(a, b).percentiles[name] <= exact * (1 + 1 / 32)


def steps_between(a: float, b: float, dtype) -> int:
    """How many steps of nextafter lead from a to b."""
    here, there = dtype(a), dtype(b)
    for count in itertools.count():
        if here == there:
            return count
        here = np.nextafter(here, there)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_ulp_counts_the_numbers_between_also_across_zero_and_powers_of_two(dtype):
    tiny = float(np.finfo(dtype).smallest_subnormal)
    starts = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 3 * tiny, -3 * tiny, float(np.finfo(dtype).tiny), 1.5]
    for start, steps in itertools.product(starts, (0, 1, 2, 7)):
        for towards in (np.inf, -np.inf):
            end = dtype(start)
            for _ in range(steps):
                end = np.nextafter(end, dtype(towards))
            assert steps_between(start, end, dtype) == steps
            found = ulp_distance(np.array([start, end], dtype), np.array([end, start], dtype))
            assert found.tolist() == [steps, steps], (start, steps, towards)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_within_a_power_of_two_an_ulp_is_numpys_spacing(dtype):
    random = np.random.default_rng(0)
    a, b = (random.uniform(1, 2, 1000).astype(dtype) for _ in "ab")
    exact = np.abs(a.astype(np.longdouble) - b) / np.spacing(dtype(1))
    np.testing.assert_allclose(ulp_distance(a, b), exact.astype(float), rtol=1e-15)
    np.testing.assert_array_equal(ulp_distance(-a, -b), ulp_distance(a, b))


@pytest.mark.parametrize(("dtype", "bits"), [(np.float32, 32), (np.float64, 64)])
def test_the_greatest_ulp_distance_does_not_wrap(dtype, bits):
    most = np.array([np.finfo(dtype).max], dtype)
    # Between -max and max lie all finite numbers, with one zero: 2^bits patterns less the infinite and NaN ones.
    exponents = {32: 24, 64: 53}[bits]
    assert ulp_distance(-most, most)[0] == pytest.approx(2.0**bits - 2.0**exponents, rel=1e-7)


def test_the_ulps_of_a_difference():
    a = np.ones((3, 4), np.float32)
    b = a.copy()
    b[1, 2] += 5 * np.spacing(np.float32(1))
    d = difference(a, b)
    assert d.ulp == {"p50": 0.0, "p99": 5.0, "p99_9": 5.0, "max": 5.0}
    assert difference(a.astype(np.int32), b.astype(np.int32)).ulp == {}


# ---------------------------------------------------------------- pieces and memory


@pytest.mark.parametrize("piece_bytes", [1, 8, 40, 100, 1 << 10])
@pytest.mark.parametrize("shape", [(1, 1), (1, 13), (13, 1), (7, 5), (5, 40), (3, 129)])
def test_pieces_cover_each_element_once_and_are_as_small_as_they_say(monkeypatch, piece_bytes, shape):
    monkeypatch.setattr(module, "PIECE_BYTES", piece_bytes)
    visits = np.zeros(shape, int)
    for piece in pieces(shape):
        visits[piece] += 1
        assert visits[piece].size * 8 <= max(piece_bytes, 8)
    assert (visits == 1).all()


@pytest.mark.parametrize("shape", [(1 << 16, 384), (2, 8 << 20)])  # many rows, and rows longer than a piece
def test_memory_does_not_grow_with_the_array(tmp_path, monkeypatch, shape):
    """Of 67 to 100 MB on disk no more is held than some pieces, and some numbers a row."""
    monkeypatch.setattr(module, "PIECE_BYTES", 1 << 20)
    a = np.lib.format.open_memmap(tmp_path / "a.npy", mode="w+", dtype=np.float32, shape=shape)  # sparse: zeros
    a[-1, -1] = 2.0
    for measure in (difference, max_abs, unequal_share, relative_l2, trimmed_l2, worst_row_l2):
        rows = a[-(1 << 14) :] if measure is worst_row_l2 else a
        tracemalloc.start()
        measure(rows, rows)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 * (1 << 20) + 100 * shape[0], measure.__name__
    b = np.zeros(shape[1], np.float32)
    assert difference(a[-1:], b[None]).index == (0, shape[1] - 1)


# ---------------------------------------------------------------- one number


@pytest.mark.parametrize("piece_bytes", [8, 100, 1 << 25])
def test_the_single_numbers_are_those_of_the_whole_difference(monkeypatch, piece_bytes):
    monkeypatch.setattr(module, "PIECE_BYTES", piece_bytes)
    random = np.random.default_rng(4)
    a = random.normal(size=(150, 2, 3)).astype(np.float32)
    b = a + random.normal(0, 0.1, a.shape).astype(np.float32) * (random.random(a.shape) < 0.5)
    wanted = brute_force(a, b)
    assert relative_l2(a, b) == pytest.approx(wanted.relative_l2, rel=1e-12)
    assert worst_row_l2(a, b) == pytest.approx(wanted.worst_row_l2, rel=1e-12)
    assert trimmed_l2(a, b) == pytest.approx(wanted.trimmed_l2, rel=1e-12)
    assert max_abs(a, b) == wanted.max_abs
    assert unequal_share(a, b) == wanted.unequal / wanted.total


def test_the_types_may_differ_where_one_number_is_asked_for():
    a = np.array([[3.0, 4.0]])
    for measure, wanted in ((relative_l2, 0.2), (worst_row_l2, 0.2), (max_abs, 1.0), (unequal_share, 0.5)):
        assert measure(a, np.array([[3.0, 5.0]], np.float32)) == pytest.approx(wanted)


@pytest.mark.parametrize(("rows", "set_aside"), [(2, 1), (100, 1), (101, 2), (250, 3)])
def test_of_a_hundred_rows_the_worst_one_is_set_aside_and_no_more(rows, set_aside):
    a = np.ones((rows, 4))
    b = a.copy()
    b[:set_aside] = -7.0
    assert difference(a, b).trimmed_l2 == trimmed_l2(a, b) == 0.0 < difference(a, b).relative_l2
    b[set_aside] = 1.5
    assert trimmed_l2(a, b) == pytest.approx(0.5 / math.sqrt(rows))


def test_a_single_row_is_never_set_aside():
    a, b = np.array([[3.0, 4.0]]), np.array([[3.0, 6.0]])
    assert difference(a, b).trimmed_l2 == trimmed_l2(a, b) == relative_l2(a, b) == 0.4


def test_a_row_is_judged_by_its_error_and_not_by_how_small_it_is():
    a = np.array([[100.0], [1e-6], [1.0]])
    b = np.array([[101.0], [2e-6], [1.0]])
    assert trimmed_l2(a, b) == pytest.approx(1e-6 / np.linalg.norm(a))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("rows", [1, 200])
def test_a_row_that_is_not_finite_is_never_set_aside(rows, value):
    a = np.ones((rows, 3))
    b = a.copy()
    b[-1, 1] = value
    assert math.isnan(trimmed_l2(a, b)) and math.isnan(trimmed_l2(b, a))


@pytest.mark.parametrize("measure", [relative_l2, worst_row_l2, max_abs])
def test_one_number_of_nan_is_nan(measure):
    a = np.ones((200, 3))
    b = a.copy()
    b[17, 1] = np.nan
    assert math.isnan(measure(a, b)) and math.isnan(measure(b, a))
