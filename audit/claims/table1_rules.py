"""The rules for claims on Table 1: mAPs, APs, their differences, and what the transferred feature gains.

Where the run is the paper's own (`Readings.caveat`), a figure is reproduced if both sides' are within the margin
(`compare.margin`, D25) of the printed one, whose own rounding is added; a gain if besides its 95 % bootstrap interval
is above 0 on both sides. A gain whose interval says neither that nor the contrary is undecided (`claimed_gain`).
"""

import math
from collections.abc import Iterable, Sequence

from audit.claims.arithmetic import ROUNDING, row_means
from audit.claims.readings import Readings
from audit.claims.verdicts import Finding, by_run
from compare.end_to_end import claim as gain_or_loss
from compare.report import mean_text
from paper.table1 import SIDES
from paper.text import NONE, number

ANSWERS = {"gain": "a gain", "loss": "a loss", "undecided": "undecided"}


def row_map(readings: Readings, row: str) -> Finding:
    """A row's mAP."""
    printed, allowed = readings.published.map[row], readings.margin + ROUNDING
    found = {side: readings.map(side, row) for side in SIDES}
    apart = [entry["mean"] - printed for entry in found.values() if entry is not None]
    holds = within(apart, allowed) if len(apart) == len(SIDES) else None
    seeds = max((len(entry["seeds"]) for entry in found.values() if entry is not None), default=0)
    told = f"Means of {seeds} seeds a side. " if seeds > 1 else ""
    if apart and readings.stands.published:
        told += f"From the printed one {listed(number(value, 2, True) for value in apart)}; allowed are {allowed:.2f}."
    verdict, why = by_run(readings, holds, told.strip(), "metrics")
    sides = (NONE if entry is None else mean_text(entry) for entry in found.values())
    return Finding(number(printed, 1), verdict, why, *sides)


def row_classes(readings: Readings, row: str) -> Finding:
    """A row's AP of every class. A class may be farther off than the mean of all, by the square root of how many."""
    printed = readings.published.ap[row]
    allowed = readings.margin * math.sqrt(len(printed)) + ROUNDING
    sides, near = [NONE, NONE], []
    for i, side in enumerate(SIDES):
        if side in readings.ap:
            values = readings.ap[side][row][:-1]
            sides[i] = extremes(values, readings.stands.names)
            if readings.stands.published:
                apart = [value - paper for value, paper in zip(values, printed, strict=True)]
                near.append(sum(within([value], allowed) for value in apart))
                worst = max(range(len(apart)), key=lambda j: abs(apart[j]))
                farthest = f"{readings.stands.names[worst]} {number(apart[worst], 1, True)}"
                sides[i] = f"{near[-1]} of {len(apart)} within {allowed:.1f}; farthest {farthest}"
    holds = all(count == len(printed) for count in near) if len(near) == len(SIDES) else None
    told = f"Each class may be {allowed:.2f} off: the margin of the mean times the root of {len(printed)} classes."
    verdict, why = by_run(readings, holds, told if near else "", "metrics")
    return Finding(extremes(printed, list(readings.published.names.values())), verdict, why, *sides)


def gain(readings: Readings) -> Finding:
    """Ours minus Baseline-LR: as great as printed within the margin, and above 0 beyond chance, on both sides."""
    means = row_means(readings.published)
    printed, allowed = means["ours"] - means["baseline_lr"], readings.margin + ROUNDING
    sides, told, _ = gain_figures(readings)
    holds, so = claimed_gain(readings, sized=True)
    apart = [entry["difference"] - printed for side in SIDES if (entry := readings.gain(side)) is not None]
    if apart and readings.stands.published:
        far = listed(number(value, 2, True) for value in apart)
        told += f" From the printed one {far}; allowed are {allowed:.2f}."
    verdict, why = by_run(readings, holds, f"{told} {so}".strip(), "end_to_end")
    return Finding(f"about {readings.facts.gain} % ({printed:+.2f} by Table 1)", verdict, why, *sides)


def transferred(readings: Readings) -> Finding:
    """The transferred feature, though of fewer dimensions, beats the LR feature."""
    printed, chosen = readings.published.map, readings.published.chosen
    _, told, certain = gain_figures(readings)
    fewer, words = [], [NONE, NONE]
    for i, side in enumerate(SIDES):
        ours, baseline = readings.map(side, "ours"), readings.map(side, "baseline_lr")
        if ours is not None and baseline is not None and side in readings.dimensions:
            wide, narrow = readings.dimensions[side]
            fewer.append(narrow < wide)
            words[i] = f"{narrow}-D {mean_text(ours)}, {wide}-D {mean_text(baseline)}"
    gained, so = claimed_gain(readings)
    holds = (all(fewer) and gained) if certain and len(fewer) == len(SIDES) else None
    verdict, why = by_run(readings, holds, f"{told} {so}".strip(), "end_to_end")
    return Finding(
        f"{chosen[1]}-D {printed['ours']:.1f}, {readings.facts.dimension}-D {printed['baseline_lr']:.1f}",
        verdict,
        why,
        *words,
    )


def gain_figures(readings: Readings) -> tuple[list[str], str, bool]:
    """Ours minus Baseline-LR of both sides in words, a sentence on them, and whether something can be said of them."""
    found = {side: readings.gain(side) for side in SIDES}
    entries = [entry for entry in found.values() if entry is not None]
    if len(entries) < len(found) or readings.end_to_end is None:
        return [NONE] * len(SIDES), "", False
    words, answers = [], []
    for side, entry in zip(("Caffe", "the port"), entries, strict=True):
        low, high = entry["overall"]["interval_95"]
        words.append(f"{entry['difference']:+.2f} [{low:+.2f}, {high:+.2f}]")
        answers.append(f"{ANSWERS[gain_or_loss(entry)]} by {side}")
    seeds = readings.end_to_end["seeds"]
    told = f"By the 95 % intervals {' and '.join(answers)}, {seeds} seed{'s' * (seeds > 1)} a side."
    certain = all(entry["certain"] for entry in entries)
    return words, told if certain else f"{told} Too few seeds: run `make seeds compare`.", certain


def claimed_gain(readings: Readings, sized: bool = False) -> tuple[bool | None, str]:
    """Whether the intervals bear out that Ours gains, and a sentence on what they leave open or how they contradict.

    True where both sides' are above 0 and, if `sized`, both gains are within the margin of the printed one. False where
    a side's is below 0 or, if `sized`, wholly outside the margin. None where they are undecided, or not there.
    """
    entries = [entry for side in SIDES if (entry := readings.gain(side)) is not None]
    if len(entries) < len(SIDES) or not all(entry["certain"] for entry in entries):
        return None, ""
    means, allowed = row_means(readings.published), readings.margin + ROUNDING
    printed = means["ours"] - means["baseline_lr"]
    answers = {gain_or_loss(entry) for entry in entries}
    near = within([entry["difference"] - printed for entry in entries], allowed)
    if answers == {"gain"} and (near or not sized):
        return True, ""
    if "loss" in answers:
        return False, ""
    low, high = printed - allowed, printed + allowed
    intervals = [entry["overall"]["interval_95"] for entry in entries]
    if sized and any(interval[1] < low or interval[0] > high for interval in intervals):
        told = f"An interval lies wholly outside {low:+.2f} to {high:+.2f}, the printed gain and what is allowed."
        return False, told if readings.stands.published else ""
    return None, "So the gain is undecided."


def lost_classes(readings: Readings) -> Finding:
    """The classes in which Ours is below Baseline-LR are the paper's."""
    lost: list[set[str]] = []
    sides = [NONE, NONE]
    for i, side in enumerate(SIDES):
        if side in readings.ap:
            rows = (readings.ap[side][row][:-1] for row in ("ours", "baseline_lr"))
            names = [n for n, ours, lr in zip(readings.stands.names, *rows, strict=True) if ours < lr]
            lost.append(set(names))
            told = f": {', '.join(names)}" if 0 < len(names) <= 4 else ""
            sides[i] = f"{len(names)} of {len(readings.stands.names)}{told}"
    holds = all(names == set(readings.facts.losers) for names in lost) if len(lost) == len(SIDES) else None
    verdict, why = by_run(readings, holds, "One run a side.", "metrics")
    return Finding(", ".join(readings.facts.losers), verdict, why, *sides)


def gap(readings: Readings, above: str, below: str) -> Finding:
    """One row's mAP exceeds another's by as much as printed."""
    means, allowed = row_means(readings.published), readings.margin + ROUNDING
    printed = means[above] - means[below]
    found = [
        None if (one := readings.map(side, above)) is None or (two := readings.map(side, below)) is None
        else one["mean"] - two["mean"]
        for side in SIDES
    ]  # fmt: skip
    apart = [value - printed for value in found if value is not None]
    holds = within(apart, allowed) if len(apart) == len(SIDES) else None
    told = ""
    if apart and readings.stands.published:
        told = f"From the printed one {listed(number(value, 2, True) for value in apart)}; allowed are {allowed:.2f}."
    verdict, why = by_run(readings, holds, told, "metrics")
    return Finding(number(printed, 2, True), verdict, why, *(number(value, 2, True) for value in found))


def bounds(readings: Readings) -> Finding:
    """Baseline-HR is above Ours, and Ours above Baseline-LR beyond chance, on both sides."""
    order, (_, told, certain) = ("baseline_hr", "ours", "baseline_lr"), gain_figures(readings)
    sides, above = [NONE, NONE], []
    for i, side in enumerate(SIDES):
        found = [readings.map(side, row) for row in order]
        values = [entry["mean"] for entry in found if entry is not None]
        if len(values) == len(order):
            sides[i] = " / ".join(f"{value:.1f}" for value in values)
            above.append(values[0] > values[1])
    gained, so = claimed_gain(readings)
    holds = (all(above) and gained) if certain and len(above) == len(SIDES) else None
    ap = readings.published.ap
    classes = len(ap["ours"])
    printed = [
        sum(a > b for a, b in zip(ap[one], ap[two], strict=True))
        for one, two in (("baseline_hr", "ours"), ("ours", "baseline_lr"))
    ]
    told = (
        f"{told} {so}".strip()
        + f" In Table 1 Baseline-HR is above Ours in {printed[0]} of {classes} classes, Ours above Baseline-LR in "
    )
    verdict, why = by_run(readings, holds, f"{told}{printed[1]}.".strip(), "end_to_end")
    return Finding(" / ".join(number(readings.published.map[row], 1) for row in order), verdict, why, *sides)


def within(values: Iterable[float], allowed: float) -> bool:
    """Whether no value is farther from 0 than allowed."""
    return all(abs(value) <= allowed + 1e-9 for value in values)


def listed(words: Iterable[str]) -> str:
    """Words of both sides, Caffe's first."""
    return " and ".join(words)


def extremes(values: Sequence[float], names: Sequence[str]) -> str:
    """The least and the greatest AP with their classes."""
    ends = (min(range(len(values)), key=values.__getitem__), max(range(len(values)), key=values.__getitem__))
    return " to ".join(f"{values[i]:.1f} ({names[i]})" for i in ends)
