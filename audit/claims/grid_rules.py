"""The rules for claims on Table 2 and the figures, which the port alone makes, and on ResNet-101's feature."""

import math

from audit.claims import pattern
from audit.claims.readings import Readings
from audit.claims.verdicts import NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED, Finding, by_run
from paper.published import PERCENT
from paper.table1 import SIDES
from paper.text import NONE, number

STANDARD_ERRORS = 2  # by which shares of images must differ
ALL_FLAT = "In every combination the SVM's decision values of the second layer's outputs are all but constant."


def rise(readings: Readings) -> Finding:
    """At every N2, mAP rises from each N1 of Table 2 to the next, but for the margin.

    Judged are the N2 that have Table 2's least and greatest N1. Where one of them lacks an N1 between, or there is no
    such N2, nothing follows.
    """
    paper = pattern.shape(readings.published.grid, readings.published.grid)
    published = f"{paper.rise:+.2f}; {paper.up} of {paper.steps} steps up"
    if readings.grids is None or not (grid := readings.grids["fc2"]):
        verdict, why = by_run(readings, None, "" if readings.grids is None else ALL_FLAT, "grid")
        return Finding(published, verdict, why)
    found = pattern.shape(grid, readings.published.grid)
    n1s, n2s = (sorted(set(sizes)) for sizes in zip(*readings.published.grid, strict=True))
    judged = [n2 for n2 in n2s if (n1s[0], n2) in grid and (n1s[-1], n2) in grid]
    left_out = [str(n2) for n2 in n2s if n2 not in judged]
    gaps = [str(n2) for n2 in judged if any((n1, n2) not in grid for n1 in n1s)]
    holds = None
    if judged and not gaps:
        rows = [[grid[n1, n2] for n1 in n1s] for n2 in judged]
        drops = [a - b for values in rows for a, b in zip(values, values[1:], strict=False)]
        holds = max(drops) <= readings.margin and all(values[-1] - values[0] > readings.margin for values in rows)
    port = f"{number(found.rise, 2, True)}; {found.up} of {found.steps} steps up"
    told = f"By the port, one seed a combination, of which {len(grid)} can be judged."
    if not judged:
        told += f" No N2 of Table 2 has both N1 = {n1s[0]} and N1 = {n1s[-1]}."
    elif left_out:
        told += f" Left out are N2 = {', '.join(left_out)}, without N1 = {n1s[0]} or N1 = {n1s[-1]}."
    if gaps:
        told += f" Steps are missing at N2 = {', '.join(gaps)}."
    verdict, why = by_run(readings, holds, told, "grid")
    return Finding(published, verdict, why, port=port)


def optimum(readings: Readings) -> Finding:
    """The paper's N1 and N2 are within the margin of the grid's best, of which all that Table 2 has can be judged."""
    chosen, paper = readings.published.chosen, readings.published.grid
    published = f"N1 = {chosen[0]}, N2 = {chosen[1]} ({paper[chosen]:.1f})"
    if readings.grids is None or not (grid := readings.grids["fc2"]):
        verdict, why = by_run(readings, None, "" if readings.grids is None else ALL_FLAT, "grid")
        return Finding(published, verdict, why)
    n1, n2 = pattern.best(grid)[0]
    there = grid.get(chosen)
    judged = sum(cell in grid for cell in paper)
    holds = None if there is None or judged < len(paper) else grid[n1, n2] - there <= readings.margin
    told = (
        f"By the port, one seed a combination, chosen by the test images. Of Table 2's, {judged} of {len(paper)} can "
        f"be judged. The paper's choice has {number(there)}."
    )
    verdict, why = by_run(readings, holds, told, "grid")
    return Finding(published, verdict, why, port=f"N1 = {n1}, N2 = {n2} ({grid[n1, n2]:.2f})")


def which_layer(readings: Readings) -> Finding:
    """Table 2's pattern is that of the second layer's N2 outputs, and not of the first layer's."""
    paper = pattern.shape(readings.published.grid, readings.published.grid)
    published = f"{number(paper.rise, 2, True)} over N1, {number(paper.spread)} over N2"
    if readings.grids is None:
        verdict, why = by_run(readings, None, "", "grid")
        return Finding(published, verdict, why)
    shapes = {blob: pattern.shape(grid, readings.published.grid) for blob, grid in readings.grids.items()}
    answer = pattern.fits(shapes)
    holds = None if answer == "undecided" else answer == "fc2"
    verdict, why = by_run(readings, holds, pattern.sentence(shapes, paper), "grid")
    port = answer if answer == "undecided" else f"fits {pattern.FEATURES[answer]}"
    return Finding(published, verdict, why, port=port)


def separated(readings: Readings, figure: str, better: int, worse: int) -> Finding:
    """In a figure's panel `better` the classes lie farther apart than in panel `worse`, in the original space: by the
    share of images whose neighbours have their class, beyond `STANDARD_ERRORS`, and by the silhouette."""
    panels = [] if readings.figures is None else readings.figures.get(figure, [])
    if len(panels) <= max(better, worse):
        verdict, why = by_run(readings, None, "", "figures")
        return Finding("a picture, no number", verdict, why)
    one, two = panels[better], panels[worse]
    apart = one["knn"] - two["knn"]
    error = math.sqrt(sum(p["knn"] * (1 - p["knn"]) / p["images"] for p in (one, two)))
    silhouettes = [panel["silhouette"] for panel in (one, two)]
    holds = None if None in silhouettes else apart > STANDARD_ERRORS * error and silhouettes[0] > silhouettes[1]
    port = "; ".join(
        f"{panel['features']} {PERCENT * panel['knn']:.1f} %, {number(panel['silhouette'], 3, True)}"
        for panel in (one, two)
    )
    told = (
        f"Nearest neighbours' share {PERCENT * apart:+.1f}, standard error {PERCENT * error:.1f}; of silhouettes "
        f"{' and '.join(number(value, 3, True) for value in silhouettes)}. By the port, in the original space."
    )
    verdict, why = by_run(readings, holds, told, "figures")
    return Finding("a picture, no number", verdict, why, port=port)


def pool5(readings: Readings) -> Finding:
    """ResNet-101's pool5 has the printed dimension. Both sides run that net, whatever the data and the weights."""
    printed, found = readings.facts.dimension, [readings.pool5.get(side) for side in SIDES]
    sides = [NONE if value is None else str(value) for value in found]
    if None in found:
        why = "The run lacks ResNet-101 on a side: run `make caffe-reproduce torch-reproduce`."
        return Finding(str(printed), NOT_TESTABLE, why, *sides)
    why = "Every run computes ResNet-101 on photographs, with seeded weights; the dimension does not depend on them."
    return Finding(str(printed), REPRODUCED if set(found) == {printed} else NOT_REPRODUCED, why, *sides)
