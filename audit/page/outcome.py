"""What came of a run's training: the losses of both sides, and the end-to-end answer with its intervals."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from audit.page import charts
from audit.page.subject import SIDES, Subject
from audit.page.tables import Cell, Chart, Part, Table, decimal, small, whole, words
from compare.end_to_end import claim
from compare.report import ROW_NAMES, precision_note
from experiment.errors import UserError
from experiment.stages import folder_name

POINTS = 200  # of a loss curve, so that picture and table are the same


def loss(subject: Subject) -> Part:
    """Both sides' training losses, each side fed by itself from the same draws."""
    losses = {side: np.asarray(run.array("transfer", "loss"), np.float64) for side, run in subject.sides.items()}
    one, two = losses.values()
    if one.shape != two.shape or one.ndim != 1 or not len(one):
        raise UserError(f"the sides' losses are of other lengths: {subject.command('compare')}")
    at = np.unique(np.linspace(0, len(one) - 1, min(POINTS, len(one))).round().astype(int))
    apart = np.abs(one - two)
    rows = [[whole(int(i) + 1), small_loss(one[i]), small_loss(two[i]), small(float(apart[i]))] for i in at]
    alt = (
        f"Losses of both sides over {len(one)} iterations: Caffe's goes from {one[0]:.4g} to {one[-1]:.4g}, the port's "
        f"from {two[0]:.4g} to {two[-1]:.4g}; they are {apart.max():.3g} apart at most, in iteration "
        f"{int(apart.argmax()) + 1}."
    )
    shown_losses = {name: losses[side][at].tolist() for side, name in SIDES.items()}
    anchor = subject.anchor("loss")
    picture = charts.curves(anchor, (at + 1).tolist(), shown_losses, apart[at].tolist())
    note = (
        f"Chained: both sides start from the same drawn weights and go on by themselves. {len(at)} of {len(one)} "
        f"iterations are shown; {folder_name('transfer')}/loss.npy of each side holds all."
    )
    table = Table(subject.anchor("losses"), "Losses", ["iteration", *SIDES.values(), "apart"], rows)
    return Part(anchor, "Training of the transfer network: losses", [note], [[Chart(alt, picture), table]])


def small_loss(value: float) -> Cell:
    """A loss, six digits."""
    return Cell(float(value) if math.isfinite(value) else str(value), f"{value:.6g}")


def end_to_end(subject: Subject) -> Part:
    """mAP of the three rows over seeds and test images, and the paper's claim on each side."""
    found = subject.comparison["end_to_end"]
    anchor, title = subject.anchor("end-to-end"), "End to end: mAP with bootstrap intervals"
    if found is None:
        return Part(anchor, title, missing=f"No decision values could be read: `{subject.command('compare')}`.")
    rows = []
    panels: dict[str, dict[str, charts.Span]] = {"Caffe minus port": {}, "Ours minus Baseline-LR": {}}
    for row, entry in found["a_minus_b"].items():
        sides = [found["map"][side][row] for side in "ab"]
        cells = [cell for side in sides for cell in (decimal(side["mean"]), decimal(side["spread"]))]
        rows.append([words(ROW_NAMES[row]), *cells, *difference(entry), words(entry["overall"]["verdict"])])
        panels["Caffe minus port"][ROW_NAMES[row]] = span(entry)
    for side, name in zip("ab", SIDES.values(), strict=True):
        entry = found["ours_minus_baseline_lr"][side]
        told = f"Ours minus Baseline-LR, {name}"
        rows.append([words(told), *[decimal(None)] * 4, *difference(entry), words(claim(entry))])
        panels["Ours minus Baseline-LR"][name] = span(entry)
    head = ["", "Caffe", "± Caffe", "port", "± port", "difference", "95 % from", "to", "verdict"]
    seeds = found["seeds"]
    note = (
        f"{seeds} seed{'s' * (seeds > 1)} a side; the 95 % intervals are of {found['resamples']} resamples of the test "
        f"images{' and the seeds' if seeds > 1 else ' alone'}. Equivalent: within {found['margin']:g} mAP by two "
        "one-sided tests at 5 % (shaded); different: the whole interval beyond that; gain and loss: 0 is not in it. "
        "± is the standard deviation over the seeds. Hollow: too few seeds to be certain."
    )
    if seeds == 1:
        note += f" `{subject.command('seeds', 'compare')}` adds seeds."
    picture = Chart(end_to_end_alt(found), charts.forest(anchor, panels, found["margin"]))
    answer = Table(subject.anchor("answer"), "mAP in percent", head, rows, 1)
    notes = [note]
    if lowered := precision_note(subject.comparison["comparability"]["differing"], list(SIDES.values())):
        notes.append(lowered[0].upper() + lowered[1:] + ".")
    return Part(anchor, title, notes, [[picture, answer], *[[seed_table(subject, found)]] * (seeds > 1)])


def difference(entry: Mapping[str, Any]) -> list[Cell]:
    """A difference and both ends of its interval."""
    return [decimal(value, 2, True) for value in (entry["difference"], *entry["overall"]["interval_95"])]


def span(entry: Mapping[str, Any]) -> charts.Span:
    """The same for a chart."""
    low, high = entry["overall"]["interval_95"]
    return charts.Span(entry["difference"], low, high, entry["certain"])


def end_to_end_alt(found: Mapping[str, Any]) -> str:
    """The intervals in words."""
    told = [
        f"{ROW_NAMES[row]}, Caffe minus port: {interval_text(entry)}, {entry['overall']['verdict']}"
        for row, entry in found["a_minus_b"].items()
    ]
    for side, name in zip("ab", SIDES.values(), strict=True):
        entry = found["ours_minus_baseline_lr"][side]
        told.append(f"Ours minus Baseline-LR by {name}: {interval_text(entry)}, {claim(entry)}")
    return f"Differences of mAP in percent. {'. '.join(told)}."


def interval_text(entry: Mapping[str, Any]) -> str:
    """A difference with its interval in words."""
    middle, low, high = (cell.text for cell in difference(entry))
    return f"{middle}, 95 % from {low} to {high}"


def seed_table(subject: Subject, found: Mapping[str, Any]) -> Table:
    """mAP of every seed."""
    columns = {f"{ROW_NAMES[row]}, {name}": found["map"][side][row]["seeds"] for row in found["a_minus_b"]
               for side, name in zip("ab", SIDES.values(), strict=True)}  # fmt: skip
    rows = [[whole(i + 1), *(decimal(values[i]) for values in columns.values())] for i in range(found["seeds"])]
    title = "mAP of every seed, percent"
    return Table(subject.anchor("seeds"), title, ["number", *columns], rows, folded=True)
