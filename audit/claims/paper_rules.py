"""The rules for claims that the paper's own figures decide, with published counts and results, whatever is run."""

from collections.abc import Iterable, Sequence

from audit.claims import pattern
from audit.claims.arithmetic import (
    Correlation,
    Likeness,
    candidates,
    gains,
    likeness,
    losers,
    moved,
    rounds_to,
    row_means,
)
from audit.claims.pattern import SIGNIFICANCE
from audit.claims.readings import Readings
from audit.claims.verdicts import INCONSISTENT, NOT_TESTABLE, REPRODUCED, Finding, by_paper
from compare.report import ROW_NAMES
from paper.table1 import SIDES
from paper.text import NONE, number

# Whether Baseline-HR stands apart from image-level results, to the verdict on its being one.
APART = {True: INCONSISTENT, False: REPRODUCED, None: NOT_TESTABLE}
TURNS = "{} of {} columns rise and then fall"


def means(readings: Readings) -> Finding:
    """Each printed mAP is the mean of its row."""
    found, printed = row_means(readings.published), readings.published.map
    told = ", ".join(f"{ROW_NAMES[row]} {value:.3f}" for row, value in found.items())
    verdict = by_paper(all(rounds_to(value, printed[row]) for row, value in found.items()))
    return Finding(" / ".join(number(printed[row], 1) for row in found), verdict, f"Means of the printed APs: {told}.")


def printed_gain(readings: Readings) -> Finding:
    """The rows give the gain that the text tells in whole percent."""
    found, told = row_means(readings.published), readings.facts.gain
    gain = found["ours"] - found["baseline_lr"]
    each = gains(readings.published)
    greatest, least = (pick(each, key=lambda name: each[name]) for pick in (max, min))
    why = (
        f"{gain:+.2f} by the printed rows, from {each[least]:+.1f} ({least}) to {each[greatest]:+.1f} ({greatest}). "
        "The paper gives neither an interval nor several seeds."
    )
    return Finding(f"about {told} %", by_paper(round(gain) == told), why)


def printed_losers(readings: Readings) -> Finding:
    """The classes that lose in the rows are those that the text names."""
    each = gains(readings.published)
    lost = losers(each)
    told = ", ".join(f"{name} {each[name]:+.1f}" for name in lost) or "none"
    verdict = by_paper(set(lost) == set(readings.facts.losers))
    return Finding(", ".join(readings.facts.losers), verdict, f"In Table 1 lose: {told}.")


def same_best(readings: Readings) -> Finding:
    """Table 2 has at the chosen N1 and N2 what Table 1 has for Ours."""
    there, here = readings.published.grid[readings.published.chosen], readings.published.map["ours"]
    return Finding(number(here, 1), by_paper(rounds_to(there, here)), f"Table 2 has {there:.1f}, Table 1 {here:.1f}.")


def printed_optimum(readings: Readings) -> Finding:
    """The chosen N1 and N2 are a best combination of Table 2."""
    paper, chosen = readings.published.grid, readings.published.chosen
    best = pattern.best(paper)
    alike = ", ".join(f"N1 = {n1} with N2 = {n2}" for n1, n2 in best if (n1, n2) != chosen)
    why = f"{paper[chosen]:.1f} is the greatest mAP of Table 2" if chosen in best else f"{best} have a greater one"
    why += f", and {alike} have it as well. " if alike and chosen in best else ". "
    if chosen[0] == max(n1 for n1, _ in paper):
        row = pattern.rows(paper)[chosen[1]]
        why += f"N1 is the greatest tried, and its last step still gave {row[-1] - row[-2]:+.1f}. "
    baseline = readings.published.map["baseline_lr"]
    above = [cell for cell, value in paper.items() if value > baseline]
    why += (
        f"The choice is by the test images that Table 1 reports on; {len(above)} of {len(paper)} combinations exceed "
        f"Baseline-LR ({baseline:.1f}), all with N1 >= {min(n1 for n1, _ in above)}."
    )
    return Finding(f"N1 = {chosen[0]}, N2 = {chosen[1]}", by_paper(chosen in best), why)


def printed_rise(readings: Readings) -> Finding:
    """At every N2 of Table 2, mAP rises from each N1 to the next."""
    shape = pattern.shape(readings.published.grid, readings.published.grid)
    why = (
        f"{shape.up} of {shape.steps} steps go up, by {number(shape.rise, 2, True)} in all on average; over N2 mAP "
        f"spreads by {number(shape.spread)} on average."
    )
    return Finding(f"{shape.up} of {shape.steps} steps up", by_paper(shape.up == shape.steps), why)


def turning(readings: Readings) -> Finding:
    """At every N1, mAP first rises with N2 and then falls."""
    columns = pattern.columns(readings.published.grid)
    against = [n1 for n1, values in columns.items() if not pattern.turns(values)]
    told = "; ".join(f"{n1}: {', '.join(f'{value:.1f}' for value in columns[n1])}" for n1 in against)
    why = f"In Table 2 it does not at N1 = {told}." if against else "In Table 2 it does at every N1."
    port = NONE
    if readings.grids is not None and (grid := readings.grids["fc2"]):
        ours = [values for values in pattern.columns(grid).values() if len(values) > 2]
        port = TURNS.format(sum(map(pattern.turns, ours)), len(ours)) if ours else NONE
    published = TURNS.format(len(columns) - len(against), len(columns))
    return Finding(published, by_paper(not against), why, port=port)


def iterations(readings: Readings) -> Finding:
    """The printed iterations are the printed epochs of the images that the paper trains on, at the printed batch."""
    schedule, own = readings.facts.schedule, readings.facts.images["trainval"]
    found = candidates(readings.facts)
    images = next(entry for entry in found if entry.samples == own)
    fitting = [entry for entry in found if entry.fits]
    why = (
        f"{schedule.epochs:,} epochs of VOC2007's {own:,} trainval images are {images.iterations:,} iterations, with "
        f"{falls(images.drops)}; {schedule.iterations:,} iterations are {images.epochs:,.0f} epochs of them. "
        f"Of {len(found)} counts of VOC2007 and VOC2012, "
    )
    if fitting:
        implied = schedule.iterations * schedule.batch // schedule.epochs
        told = " and ".join(f"{entry.what} ({entry.source})" for entry in fitting)
        why += f"only {told} fit{'s' * (len(fitting) == 1)}, with {implied:,} and {falls(fitting[0].drops)}."
    else:
        why += "none fits."
    published = f"{schedule.iterations:,} iterations, {schedule.epochs:,} epochs, batch {schedule.batch:,}"
    return Finding(published, by_paper(images.fits), why)


def falls(count: int) -> str:
    """How often the rate falls, in words."""
    return f"{count or 'no'} fall{'s' * (count > 1)} of the rate"


def image_count(readings: Readings, split: str) -> Finding:
    """The number of images of a split is VOC2007's."""
    printed, own = readings.facts.printed_images[split], readings.facts.images[split]
    why = f"VOC2007's own list of {split} has {own:,}."
    if printed != own and round(own, -2) == printed:
        why += f" {printed:,} is that to the hundred, while the other split's number beside it is exact."
    return Finding(
        f"{printed:,}", by_paper(printed == own), why, *(f"{readings.images[split]:,} in this run" for _ in SIDES)
    )


def image_level(readings: Readings) -> Finding:
    """Baseline-HR orders the classes as image-level results on VOC2007 do: no less than these do among themselves.

    Undecided where that hangs on a single class, or may be chance, as it always may with few networks.
    """
    published, levels = readings.published, readings.facts.image_level
    found = likeness(published.ap["baseline_hr"], levels)
    why = likeness_text(found)
    for entry in moved(published, levels):
        aps, places = [ap for ap, _ in entry.others], [place for _, place in entry.others]
        why += (
            f" {entry.name} is at place {entry.rank} with {entry.ap:.1f}, there at {span(places, 0)} with "
            f"{span(aps, 1)}."
        )
    if found.apart is not False:
        why += " That speaks for crops of objects against the whole images that the paper describes, and is no proof."
    if found.apart is None:
        why += " So it is undecided."
    sides = [NONE, NONE]
    for i, side in enumerate(SIDES):
        if readings.stands.published and side in readings.ap:
            sides[i] = values_text(likeness(readings.ap[side]["baseline_hr"][:-1], levels))
    return Finding(values_text(found), APART[found.apart], why, *sides)


def likeness_text(found: Likeness) -> str:
    """What a likeness rests on, its figures with their ranges, its chance and how low that can be, in sentences."""
    networks = len(found.with_each)
    each = ", ".join(f"{name} {range_text([one])}" for name, one in found.with_each.items())
    return (
        f"Rests on {found.results} published results of {networks} networks, each network counted once. "
        f"Rank correlation with {each}; of these among themselves {range_text(found.among.values())}; in brackets with "
        "any one class left out. Of the row and the networks, each in turn held against the others, a share of "
        f"{found.chance:.2g} stands as far apart as the row. With {networks} networks that cannot be less than "
        f"1/{networks + 1}, and less than {SIGNIFICANCE} is needed to decide."
    )


def values_text(found: Likeness) -> str:
    """The correlations of a row with each network."""
    return span([one.value for one in found.with_each.values()], 2)


def range_text(found: Iterable[Correlation]) -> str:
    """Correlations, the least to the greatest, and in brackets what they become without one class."""
    values, lows, highs = zip(*((one.value, one.low, one.high) for one in found), strict=True)
    return f"{span(values, 2)} [{min(lows):.2f} to {max(highs):.2f}]"


def span(values: Sequence[float], decimals: int) -> str:
    """The least and the greatest of some values; one where they are the same."""
    least, greatest = (f"{pick(values):.{decimals}f}" for pick in (min, max))
    return least if least == greatest else f"{least} to {greatest}"
