"""The paper's own arithmetic: what its printed figures say of each other, and of what others published.

Nothing here reads a run. Every AP and mAP in percent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import spearmanr

from audit.claims.facts import Facts, ImageLevel, Schedule
from paper.published import Published

ROUNDING = 0.05  # of figures printed to one decimal
FAR = 4  # a class has moved far where it is more than one place in so many of the list away


@dataclass(frozen=True)
class Candidate:
    """A training set that the schedule may be of.

    iterations : what the printed epochs of it take. drops : how often the rate falls before the end, of those.
    left : the iterations after the last fall. epochs : what the printed iterations are of it. fits : whether the
    iterations are the printed ones.
    """

    what: str
    samples: int
    source: str
    iterations: int
    drops: int
    left: int
    epochs: float
    fits: bool


@dataclass(frozen=True)
class Moved:
    """A class that ranks far higher in the paper's Baseline-HR than in every image-level result.

    rank : its place there, 1 for the greatest AP. ap : its AP there. others : (AP, place) in each of the others.
    """

    name: str
    rank: int
    ap: float
    others: list[tuple[float, int]]


@dataclass(frozen=True)
class Likeness:
    """Spearman's rank correlations over the classes: of a row with each image-level result, by its name, and of these
    among themselves."""

    with_each: dict[str, float]
    among: dict[tuple[str, str], float]

    @property
    def apart(self) -> bool:
        """Whether the row is less like each of the others than any two of them are like each other."""
        return max(self.with_each.values()) < min(self.among.values())


def row_means(published: Published) -> dict[str, float]:
    """Row of Table 1 to the mean of its printed APs."""
    return {row: mean(ap) for row, ap in published.ap.items()}


def mean(values: Sequence[float]) -> float:
    """The mean of printed figures, without the last bits that adding them leaves."""
    return round(float(np.mean(values)), 6)


def rounds_to(value: float, printed: float) -> bool:
    """Whether a value may be printed as that, to one decimal; of a half either neighbour."""
    return abs(value - printed) <= ROUNDING + 1e-9


def gains(published: Published) -> dict[str, float]:
    """The paper's name of each class to Ours minus Baseline-LR as printed."""
    pairs = zip(published.names.values(), published.ap["ours"], published.ap["baseline_lr"], strict=True)
    return {name: round(ours - baseline, 4) for name, ours, baseline in pairs}


def losers(gained: Mapping[str, float]) -> list[str]:
    """The classes that lose."""
    return [name for name, gain in gained.items() if gain < 0]


def iterations(samples: int, schedule: Schedule) -> int:
    """What the schedule's epochs of so many samples take, the last batch filled up."""
    return -(-samples * schedule.epochs // schedule.batch)


def drops(count: int, stepsize: int) -> int:
    """How often the rate falls in a training of so many iterations: Caffe's policy "step" takes iteration i, counted
    from 0, at base_lr * gamma ^ floor(i / stepsize) (sgd_solver.cpp)."""
    return (count - 1) // stepsize


def candidates(facts: Facts) -> list[Candidate]:
    """Every training set of facts.toml under the printed schedule, the smallest first."""
    schedule = facts.schedule
    found = []
    for entry in sorted(facts.samples, key=lambda entry: entry.count):
        needed = iterations(entry.count, schedule)
        falls = drops(needed, schedule.stepsize)
        found.append(
            Candidate(
                what=entry.what,
                samples=entry.count,
                source=entry.source,
                iterations=needed,
                drops=falls,
                left=needed - falls * schedule.stepsize,
                epochs=schedule.iterations * schedule.batch / entry.count,
                fits=needed == schedule.iterations,
            )
        )
    return found


def ranks(values: Sequence[float]) -> list[int]:
    """The place of each value, 1 for the greatest; equals share the better place."""
    return [1 + sum(other > value for other in values) for value in values]


def likeness(row: Sequence[float], image_level: Mapping[str, ImageLevel]) -> Likeness:
    """How alike the classes are ordered in a row of APs, in Table 1's order, and in published results."""
    return Likeness(
        with_each={name: correlation(row, level.ap) for name, level in image_level.items()},
        among={
            (one, two): correlation(image_level[one].ap, image_level[two].ap)
            for one, two in combinations(image_level, 2)
        },
    )


def correlation(one: Sequence[float], two: Sequence[float]) -> float:
    """Spearman's rank correlation."""
    return float(spearmanr(one, two).statistic)


def moved(published: Published, image_level: Mapping[str, ImageLevel]) -> list[Moved]:
    """The classes that rank far higher in the paper's Baseline-HR than in each image-level result, the farthest first
    by the nearest of these."""
    row = published.ap["baseline_hr"]
    places = ranks(row)
    theirs = {name: ranks(level.ap) for name, level in image_level.items()}
    found = []
    for i, name in enumerate(published.names.values()):
        others = [(level.ap[i], theirs[key][i]) for key, level in image_level.items()]
        if all(FAR * (place - places[i]) > len(row) for _, place in others):
            found.append(Moved(name, places[i], row[i], others))
    return sorted(found, key=lambda entry: entry.rank - min(place for _, place in entry.others))
