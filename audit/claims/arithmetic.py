"""The paper's own arithmetic: what its printed figures say of each other, and of what others published.

Nothing here reads a run. Every AP and mAP in percent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import rankdata

from audit.claims.facts import Facts, ImageLevel, Schedule
from audit.claims.pattern import SIGNIFICANCE
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
class Correlation:
    """Spearman's rank correlation of two rows of APs over the classes.

    value : over all of them. low, high : the least and the greatest of those that leave one class out, with `value`.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Likeness:
    """How alike the classes are ordered in a row of APs and in published results, of which each network counts once.

    results : how many there are. with_each : network to its correlation with the row. among : two networks to theirs.
    chance : how likely the row would stand as far apart from the networks as it does, were it one more of them
    (`chance`); of n networks 1 / (n + 1) at the least.
    """

    results: int
    with_each: dict[str, Correlation]
    among: dict[tuple[str, str], Correlation]
    chance: float

    @property
    def apart(self) -> bool | None:
        """Whether the row is less like each network than any two of these are like each other. None where that is
        undecided: where it hangs on a single class, or may be chance, as it always may with few networks."""
        if max(found.value for found in self.with_each.values()) >= min(found.value for found in self.among.values()):
            return False
        ranges = max(found.high for found in self.with_each.values()), min(found.low for found in self.among.values())
        return True if ranges[0] < ranges[1] and self.chance < SIGNIFICANCE else None


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
    of = networks(image_level)
    return Likeness(
        results=len(image_level),
        with_each={name: correlation(row, ap) for name, ap in of.items()},
        among={(one, two): correlation(of[one], of[two]) for one, two in combinations(of, 2)},
        chance=chance(row, list(of.values())),
    )


def networks(image_level: Mapping[str, ImageLevel]) -> dict[str, list[float]]:
    """Network to its AP of each class, the mean of its results."""
    names = dict.fromkeys(level.network for level in image_level.values())
    of = {name: [level.ap for level in image_level.values() if level.network == name] for name in names}
    return {name: np.mean(results, axis=0).tolist() for name, results in of.items()}


def correlation(one: Sequence[float], two: Sequence[float]) -> Correlation:
    """Spearman's rank correlation, over all classes and with each of them left out."""
    both = np.array([one, two])
    value = spearman(both)[0, 1]
    left_out = [spearman(np.delete(both, i, axis=1))[0, 1] for i in range(len(one))]
    return Correlation(float(value), float(min(value, *left_out)), float(max(value, *left_out)))


def chance(row: Sequence[float], others: Sequence[Sequence[float]]) -> float:
    """The p-value of how far a row of APs stands apart from two or more others, by the exact test over whole rows.

    If the row were one more of the n others, each of the n + 1 were as likely the one that stands farthest apart. Told
    is the share of them that stand at least as far apart (`apartness`) in its role as it does, itself among them.
    Classes are not exchanged one by one: what makes one hard or easy is common to all rows.
    """
    rows = np.array([row, *others])
    found = [apartness(np.roll(rows, -i, axis=0)) for i in range(len(rows))]  # row i in the role of the first
    return sum(value >= found[0] - 1e-9 for value in found) / len(found)


def apartness(rows: np.ndarray) -> float:
    """The least correlation among all rows but the first, less the greatest of the first with one of them.

    rows : (3 or more, classes).
    """
    found = spearman(rows)
    return float(found[1:, 1:].min() - found[0, 1:].max())


def spearman(rows: np.ndarray) -> np.ndarray:
    """Spearman's rank correlations of rows with each other: (rows, classes) to (rows, rows) float64."""
    return np.corrcoef(rankdata(rows, axis=1))


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
