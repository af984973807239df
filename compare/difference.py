"""How far two arrays are apart, in the order presence, shape, dtype, finite, value; piece by piece, so that memory
stays flat whatever their size."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PIECE_BYTES = 1 << 25  # what is held of an array, as float64, at a time
PERCENTILES = {"p50": 0.5, "p99": 0.99, "p99_9": 0.999}


@dataclass(frozen=True)
class Difference:
    """The difference of two arrays of one shape and dtype; a is what b is measured against.

    problem : why there are no numbers (shape, dtype, NaN), or "" where there are. Never agreement.
    unequal, total : how many elements differ at all, of how many.
    max_abs, index : the greatest |a - b| and where it stands.
    square_error : ||a - b||^2.
    relative_l2 : ||a - b|| / ||a||; 0 where both are zero, infinite where only a is.
    cosine : of the angle between a and b; 1 where both are zero.
    worst_row, worst_row_l2 : the row (first axis, an image) with the greatest relative L2, so that one bad image
        cannot hide among many good ones.
    trimmed_l2 : the relative L2 without the worst hundredth of the rows (at least one).
    percentiles : of |a - b|, by the names of `PERCENTILES`: the upper end of the histogram's bin, at most 1/32 too
        great.
    ulp : the same of the distance in units in the last place of a's type, and its "max"; empty for integers.
    """

    problem: str = ""
    unequal: int = 0
    total: int = 0
    max_abs: float = 0.0
    index: tuple[int, ...] = ()
    square_error: float = 0.0
    relative_l2: float = 0.0
    cosine: float = 1.0
    worst_row: int = 0
    worst_row_l2: float = 0.0
    trimmed_l2: float = 0.0
    percentiles: dict[str, float] = field(default_factory=dict)
    ulp: dict[str, float] = field(default_factory=dict)

    def numbers(self) -> dict[str, Any]:
        """The measures, for compare.json."""
        names = (
            "max_abs",
            "index",
            "relative_l2",
            "cosine",
            "unequal",
            "total",
            "worst_row",
            "worst_row_l2",
            "trimmed_l2",
        )
        return {**{name: getattr(self, name) for name in names}, "percentiles": self.percentiles, "ulp": self.ulp}


class Histogram:
    """Counts of numbers that are not negative, in bins of equal relative width (1/32): percentiles in one pass."""

    SHIFT = 47  # of float64's bits, exponent and 5 of the fraction's are left: the order of the numbers is kept

    def __init__(self) -> None:
        self.counts = np.zeros(1 << (63 - self.SHIFT), np.int64)
        self.max = 0.0

    def add(self, numbers: np.ndarray) -> None:
        """Count float64 numbers."""
        bins = np.ascontiguousarray(numbers).reshape(-1).view(np.int64) >> self.SHIFT
        self.counts += np.bincount(bins, minlength=len(self.counts))
        self.max = max(self.max, float(numbers.max()))

    def percentiles(self) -> dict[str, float]:
        """An upper bound of each of `PERCENTILES`, at most 1/32 too great."""
        cumulative = np.cumsum(self.counts)
        found = {}
        for name, share in PERCENTILES.items():
            place = int(np.searchsorted(cumulative, np.ceil(share * cumulative[-1])))
            upper = np.array([(place + 1) << self.SHIFT], np.int64).view(np.float64)[0]
            found[name] = 0.0 if place == 0 else min(float(upper), self.max)
        return found


def misfit(a: np.ndarray, b: np.ndarray) -> str:
    """Why two arrays cannot be compared element by element; "" where they can."""
    if a.shape != b.shape:
        return f"shape {a.shape} against {b.shape}"
    if a.dtype != b.dtype:
        return f"dtype {a.dtype} against {b.dtype}"
    return f"nothing to compare in shape {a.shape}" if a.size == 0 else ""


def difference(a: np.ndarray, b: np.ndarray) -> Difference:
    """Compare two arrays piece by piece, all sums in float64."""
    if problem := misfit(a, b):
        return Difference(problem=problem)
    shape = a.shape
    rows = len(a) if a.ndim else 1
    a, b = a.reshape(rows, -1), b.reshape(rows, -1)
    unequal, max_abs = 0, -1.0
    place = (slice(0, 0), slice(0, 0)), np.zeros(2, np.int64)
    error_square, a_square, b_square, product = np.zeros((4, rows))
    errors, ulps = Histogram(), Histogram()
    for piece in pieces(a.shape):
        x, y = (np.asarray(part[piece], dtype=np.float64) for part in (a, b))
        for name, part in (("first", x), ("second", y)):
            if not np.isfinite(part).all():
                here = np.argwhere(~np.isfinite(part))[0]
                where = whole_index(piece, here, shape)
                return Difference(problem=f"the {name} has {part[tuple(here)]} at {where}")
        error = np.abs(x - y)
        unequal += int(np.count_nonzero(error))
        if error.max() > max_abs:
            max_abs = float(error.max())
            place = (piece, np.array(np.unravel_index(int(error.argmax()), error.shape)))
        errors.add(error)
        if a.dtype.kind == "f":
            ulps.add(ulp_distance(a[piece], b[piece]))
        for sums, (left, right) in (
            (error_square, (error, error)),
            (a_square, (x, x)),
            (b_square, (y, y)),
            (product, (x, y)),
        ):
            sums[piece[0]] += np.einsum("ij,ij->i", left, right)
    per_row = np.array([ratio(float(e), float(s)) for e, s in zip(error_square, a_square, strict=True)])
    norms = float(np.sqrt(a_square.sum()) * np.sqrt(b_square.sum()))
    return Difference(
        unequal=unequal,
        total=a.size,
        max_abs=max_abs,
        index=whole_index(*place, shape),
        square_error=float(error_square.sum()),
        relative_l2=ratio(float(error_square.sum()), float(a_square.sum())),
        cosine=float(product.sum() / norms) if norms > 0 else float(a_square.sum() == b_square.sum()),
        worst_row=int(per_row.argmax()),
        worst_row_l2=float(per_row.max()),
        trimmed_l2=trimmed(error_square, a_square),
        percentiles=errors.percentiles(),
        ulp={**ulps.percentiles(), "max": ulps.max} if a.dtype.kind == "f" else {},
    )


def pieces(shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """Cut a matrix into pieces of at most `PIECE_BYTES` as float64: several whole rows, or parts of one."""
    rows, columns = shape
    if columns * 8 <= PIECE_BYTES:
        step = max(1, PIECE_BYTES // (8 * columns))
        for start in range(0, rows, step):
            yield slice(start, min(start + step, rows)), slice(0, columns)
        return
    step = max(1, PIECE_BYTES // 8)
    for row in range(rows):
        for start in range(0, columns, step):
            yield slice(row, row + 1), slice(start, min(start + step, columns))


def whole_index(piece: tuple[slice, slice], here: np.ndarray, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A place within a piece of the matrix as an index of the whole array."""
    row, column = (int(part.start + at) for part, at in zip(piece, here, strict=True))
    if not shape:
        return ()
    return (row, *(int(i) for i in np.unravel_index(column, shape[1:]))) if len(shape) > 1 else (row,)


def ulp_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How many numbers of the arrays' own type lie between two, as float64; finite values of one float dtype."""
    kind = np.dtype(f"i{a.dtype.itemsize}")
    ordered = []
    for part in (a, b):
        bits = np.ascontiguousarray(part).view(kind)
        # Of negative numbers the greater has the smaller bits: mirrored, the integers' order is the numbers'.
        ordered.append(np.where(bits < 0, np.iinfo(kind).min - bits, bits))
    greater, less = np.maximum(*ordered), np.minimum(*ordered)
    return (greater - less).view(f"u{a.dtype.itemsize}").astype(np.float64)  # unsigned, so that it cannot overflow


def ratio(error_square: float, square: float) -> float:
    """sqrt(error_square / square), 0 where both are 0 and infinite where only the second is."""
    if square == 0:
        return 0.0 if error_square == 0 else float("inf")
    return float(np.sqrt(error_square / square))


# ---------------------------------------------------------------- one number, for errors and floors


def relative_l2(a: np.ndarray, b: np.ndarray) -> float:
    """||a - b|| / ||a||; the arrays are of one shape, their types may differ."""
    error, size = square_sums(a, b)
    return ratio(float(error.sum()), float(size.sum()))


def worst_row_l2(a: np.ndarray, b: np.ndarray) -> float:
    """The greatest relative L2 of a row (an image)."""
    return float(np.max([ratio(float(e), float(s)) for e, s in zip(*square_sums(a, b), strict=True)]))


def trimmed_l2(a: np.ndarray, b: np.ndarray) -> float:
    """The relative L2 without the worst hundredth of the rows."""
    return trimmed(*square_sums(a, b))


def trimmed(error_square: np.ndarray, a_square: np.ndarray) -> float:
    """The relative L2 by rows' sums, (n,) each, without the hundredth of them, at least one, that errs most.

    A single row is never set aside.
    """
    if not np.isfinite(error_square).all():
        return math.nan
    aside = min(math.ceil(len(error_square) / 100), len(error_square) - 1)
    kept = np.sort(error_square)[: len(error_square) - aside]
    return ratio(float(kept.sum()), float(a_square.sum()))


def max_abs(a: np.ndarray, b: np.ndarray) -> float:
    """The greatest |a - b|."""
    return float(np.max([np.abs(x - y).max() for x, y in both_pieces(a, b)]))


def unequal_share(a: np.ndarray, b: np.ndarray) -> float:
    """The fraction of elements that differ."""
    return sum(int(np.count_nonzero(x != y)) for x, y in both_pieces(a, b)) / a.size


def both_pieces(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Both arrays piece by piece, as float64."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    for piece in pieces(a.shape):
        yield np.asarray(a[piece], np.float64), np.asarray(b[piece], np.float64)


def square_sums(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """||a - b||^2 and ||a||^2 of each row."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    error_square, a_square = np.zeros((2, len(a)))
    for piece in pieces(a.shape):
        x = np.asarray(a[piece], dtype=np.float64)
        error = x - b[piece]
        error_square[piece[0]] += np.einsum("ij,ij->i", error, error)
        a_square[piece[0]] += np.einsum("ij,ij->i", x, x)
    return error_square, a_square
