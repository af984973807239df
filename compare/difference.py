"""How far two arrays are apart, in the order presence, shape, dtype, finite, value."""

from dataclasses import dataclass

import numpy as np

CHUNK_BYTES = 1 << 26  # what is held of each array at a time, so that memory stays flat whatever their size


@dataclass(frozen=True)
class Difference:
    """The difference of two arrays of one shape and dtype; a is what b is measured against.

    problem : why there are no numbers (shape, dtype, NaN), or "" where there are. Never agreement.
    unequal, total : how many elements differ at all, of how many.
    max_abs, index : the greatest |a - b| and where it stands.
    square_error : ||a - b||^2.
    relative_l2 : ||a - b|| / ||a||; 0 where both are zero, infinite where only a is.
    cosine : of the angle between a and b; 1 where both are zero.
    worst_row, worst_row_l2 : the row (first axis) with the greatest relative L2, so that one bad image cannot
        hide among many good ones.
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


def difference(a: np.ndarray, b: np.ndarray) -> Difference:
    """Compare two arrays, chunk by chunk along the first axis, all sums in float64."""
    if a.shape != b.shape:
        return Difference(problem=f"shape {a.shape} against {b.shape}")
    if a.dtype != b.dtype:
        return Difference(problem=f"dtype {a.dtype} against {b.dtype}")
    if a.size == 0:
        return Difference(problem=f"nothing to compare in shape {a.shape}")
    if a.ndim == 0:
        a, b = a[None], b[None]
    unequal, max_abs = 0, -1.0
    index: tuple[int, ...] = ()
    sums: dict[str, list[np.ndarray]] = {"error": [], "a": [], "b": [], "product": []}
    rows = max(1, CHUNK_BYTES // max(1, 8 * int(np.prod(a.shape[1:], dtype=np.int64))))
    for start in range(0, len(a), rows):
        x, y = (np.asarray(part[start : start + rows], dtype=np.float64) for part in (a, b))
        for name, part in (("first", x), ("second", y)):
            if not np.isfinite(part).all():
                where = np.argwhere(~np.isfinite(part))[0]
                where[0] += start
                return Difference(
                    problem=f"the {name} has {part[tuple(where - [start, *[0] * (a.ndim - 1)])]} at {ints(where)}"
                )
        error = np.abs(x - y)
        unequal += int(np.count_nonzero(error))
        if error.max() > max_abs:
            max_abs = float(error.max())
            position = np.array(np.unravel_index(int(error.argmax()), error.shape))
            position[0] += start
            index = ints(position)
        axes = tuple(range(1, a.ndim))
        for name, terms in (("error", error**2), ("a", x**2), ("b", y**2), ("product", x * y)):
            sums[name].append(terms.sum(axis=axes))
    e, aa, bb, ab = (np.concatenate(parts) for parts in sums.values())
    per_row = np.array([ratio(float(x), float(y)) for x, y in zip(e, aa, strict=True)])
    norms = float(np.sqrt(aa.sum()) * np.sqrt(bb.sum()))
    return Difference(
        unequal=unequal,
        total=a.size,
        max_abs=max_abs,
        index=index,
        square_error=float(e.sum()),
        relative_l2=ratio(float(e.sum()), float(aa.sum())),
        cosine=float(ab.sum() / norms) if norms > 0 else float(aa.sum() == bb.sum()),
        worst_row=int(per_row.argmax()),
        worst_row_l2=float(per_row.max()),
    )


def ratio(error_square: float, square: float) -> float:
    """sqrt(error_square / square), 0 where both are 0 and infinite where only the second is."""
    if square == 0:
        return 0.0 if error_square == 0 else float("inf")
    return float(np.sqrt(error_square / square))


def ints(position: np.ndarray) -> tuple[int, ...]:
    """An index as plain integers."""
    return tuple(int(i) for i in position)
