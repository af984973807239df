"""How mAP moves over a grid of N1 and N2: in the paper's Table 2, and in a run's own with either layer's outputs.

A grid is {(N1, N2): mAP in percent}; combinations may be missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from audit.claims.optional import finite, read_optional

Grid = Mapping[tuple[int, int], float]
FEATURES = {"fc2": "the second layer's N2 outputs", "fc1": "the first layer's N1 outputs"}
LEAST_CELLS = 6  # in common with Table 2, for a rank correlation
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Shape:
    """What a grid's mAP does; None where there are too few combinations to say.

    rise : mean over N2 of the mAP at the greatest N1 less that at the least. up, steps : of the steps from an N1 to the
    next at one N2, how many go up. spread : mean over N1 of the greatest mAP less the least over N2.
    likeness : Spearman's rank correlation with the paper's over the `common` combinations. chance : its one-sided
    p-value.
    """

    rise: float | None
    up: int
    steps: int
    spread: float | None
    likeness: float | None
    chance: float | None
    common: int

    @property
    def shows(self) -> bool | None:
        """Whether it is the pattern of Table 2: mAP rises with N1, moves less with N2, and is ordered like the paper's
        beyond chance. None where that cannot be said."""
        if self.rise is None or self.spread is None or self.chance is None:
            return None
        return self.rise > max(0.0, self.spread) and self.chance < SIGNIFICANCE


def rows(grid: Grid) -> dict[int, list[float]]:
    """N2 to its mAPs by ascending N1."""
    return {n2: [grid[n1, n2] for n1 in sorted(a for a, b in grid if b == n2)] for n2 in sorted({b for _, b in grid})}


def columns(grid: Grid) -> dict[int, list[float]]:
    """N1 to its mAPs by ascending N2."""
    return rows({(n2, n1): value for (n1, n2), value in grid.items()})


def shape(grid: Grid, published: Grid) -> Shape:
    """Measure a grid, and hold it against the paper's."""
    sizes = sorted({n1 for n1, _ in grid})
    ends = [n2 for n2 in rows(grid) if len(sizes) > 1 and all((n1, n2) in grid for n1 in (sizes[0], sizes[-1]))]
    rises = [grid[sizes[-1], n2] - grid[sizes[0], n2] for n2 in ends]
    spreads = [max(values) - min(values) for values in columns(grid).values() if len(values) > 1]
    steps = [float(step) for values in rows(grid).values() for step in np.diff(values)]
    common = [cell for cell in grid if cell in published]
    here, there = ([of[cell] for cell in common] for of in (grid, published))
    told = len(common) >= LEAST_CELLS and min(len(set(here)), len(set(there))) > 1
    found = spearmanr(here, there, alternative="greater") if told else None
    return Shape(
        rise=float(np.mean(rises)) if rises else None,
        up=sum(step > 0 for step in steps),
        steps=len(steps),
        spread=float(np.mean(spreads)) if spreads else None,
        likeness=float(found.statistic) if found else None,
        chance=float(found.pvalue) if found else None,
        common=len(common),
    )


def best(grid: Grid) -> list[tuple[int, int]]:
    """The combinations of the greatest mAP, ascending."""
    return sorted(cell for cell, value in grid.items() if value == max(grid.values()))


def turns(values: Sequence[float]) -> bool:
    """Whether mAPs rise, and from their greatest on fall; equal neighbours are neither."""
    ordered = np.array(values)
    peak = int(ordered.argmax())
    steps = np.diff(ordered)
    rising, falling = steps[:peak], steps[peak:]
    return bool(rising.sum() > 0 > falling.sum() and (rising >= 0).all() and (falling <= 0).all())


def fits(shapes: Mapping[str, Shape]) -> str:
    """The feature ("fc2" or "fc1") that alone shows the pattern of Table 2; "undecided" where both or neither do, or
    one cannot be judged."""
    shown = {blob: shapes[blob].shows for blob in FEATURES}
    alone = [blob for blob, shows in shown.items() if shows]
    return alone[0] if len(alone) == 1 and None not in shown.values() else "undecided"


def sentence(shapes: Mapping[str, Shape], paper: Shape) -> str:
    """What was measured of each feature and of the paper's table, and which of the two the table fits."""
    told = [f"{of}: {measured(shapes[blob])}{ordered(shapes[blob])}" for blob, of in FEATURES.items()]
    answer = fits(shapes)
    shown = [shapes[blob].shows for blob in FEATURES]
    if answer != "undecided":
        end = f"Table 2's pattern fits {FEATURES[answer]} alone"
    elif None in shown:
        end = "undecided: too few combinations can be judged"
    else:
        end = f"undecided: {'both' if all(shown) else 'neither'} of the features show{'s' * (not all(shown))} it"
    return f"The paper's table: {measured(paper)}. Here, {'; '.join(told)}. {end[0].upper()}{end[1:]}."


def measured(one: Shape) -> str:
    """The figures of a shape in words."""
    if one.rise is None or one.spread is None:
        return "too few combinations"
    return f"mAP changes by {one.rise:+.2f} over N1 ({one.up} of {one.steps} steps up), by {one.spread:.2f} over N2"


def ordered(one: Shape) -> str:
    """How its combinations are ordered, in words; empty where that cannot be said."""
    if one.likeness is None or one.chance is None:
        return ""
    return f", its rank correlation with Table 2 is {one.likeness:+.2f} (p {one.chance:.2g})"


def read_grid(path: Path, classes: int) -> tuple[dict[str, dict[tuple[int, int], float]], list[str]]:
    """A table2.json that `paper.grid` wrote: feature to its grid, and the run's remarks.

    Left out are combinations without an mAP, and those whose decision values are all but constant in half of the
    `classes` or more: their ranks are where the solver stopped. Raises `UserError` where the file is malformed.
    """
    return read_optional(path, lambda document: grids_in(document, classes), "grid")


def grids_in(document: Any, classes: int) -> tuple[dict[str, dict[tuple[int, int], float]], list[str]]:
    """The same of what the file holds; raises what comes of another form."""
    grids: dict[str, dict[tuple[int, int], float]] = {blob: {} for blob in FEATURES}
    for entry in document["entries"]:
        if entry["map"] is not None and 2 * entry["flat"] < classes:
            grids[entry["feature"]][int(entry["n1"]), int(entry["n2"])] = finite(entry["map"])
    return grids, [str(remark) for remark in document["remarks"]]
