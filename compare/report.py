"""The comparison on a terminal: what differs around the runs, a row for what is compared, the end-to-end answer."""

import math
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from compare.check import Check, badness
from compare.end_to_end import claim

PLAIN_WIDTH = 170  # where the output is no terminal
WIDE = 150  # from here on the table has room for details
BFLOAT16 = "bfloat16"  # how the names of engines end that compute in it
ROW_NAMES = {"baseline_hr": "Baseline-HR", "baseline_lr": "Baseline-LR", "ours": "Ours"}


def shown(checks: Sequence[Check]) -> list[Check]:
    """The checks that the table shows: of many alike (blobs, snapshots) the first that fails, else the worst."""
    groups: dict[tuple[str, str, str], list[Check]] = {}
    for check in checks:
        groups.setdefault((check.stage, check.quantity, group_of(check)), []).append(check)
    kept = []
    for members in groups.values():
        failing = [check for check in members if not check.agrees]
        kept.append(failing[0] if failing else max(members, key=badness_of))
    return kept


def badness_of(check: Check) -> tuple[bool, float]:
    """Greater for a worse check of a quantity."""
    return badness(check.value, check.bound)


def worst_ratios(checks: Sequence[Check]) -> dict[tuple[str, str, str], Check]:
    """Of checks that share a row, the one whose error is the most noise floors."""
    found: dict[tuple[str, str, str], Check] = {}
    for check in checks:
        key = (check.stage, check.quantity, group_of(check))
        if check.calibration and (key not in found or ratio_of(found[key]) < ratio_of(check)):
            found[key] = check
    return found


def ratio_of(check: Check) -> float:
    """A calibrated check's error in noise floors; what is no number counts as infinitely many."""
    assert check.calibration is not None
    return math.inf if math.isnan(check.calibration.ratio) else check.calibration.ratio


def ratio_text(check: Check) -> str:
    """An error in noise floors; in brackets where that is only shown."""
    text = f"{ratio_of(check):.2g}"
    assert check.calibration is not None
    return text if check.calibration.judged else f"({text})"


def table(isolated: Sequence[Check], chained: Sequence[Check], details: bool = True) -> Table:
    """The table of both modes; rows in the order of the stages."""
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    names = ("stage", "quantity", "of", "isolated", "allowed", "floors", "chained", "allowed", "")
    for name in (*names, "detail") if details else names:
        numeric = name in ("isolated", "allowed", "floors", "chained")
        result.add_column(name, justify="right" if numeric else "left", overflow="fold")
    columns = [{(c.stage, c.quantity, group_of(c)): c for c in shown(checks)} for checks in (isolated, chained)]
    ratios = worst_ratios(isolated)
    keys = list(dict.fromkeys([*columns[0], *columns[1]]))
    stages = list(dict.fromkeys(check.stage for check in [*isolated, *chained]))
    last = ""
    for key in sorted(keys, key=lambda key: stages.index(key[0])):
        one, two = columns[0].get(key), columns[1].get(key)
        bad = [check for check in (one, two) if check is not None and not check.agrees]
        # Of two that agree, the one that differs more has more to tell.
        told = bad[0] if bad else max(filter(None, (two, one)), key=badness_of)
        assert told is not None
        floors = ratio_text(ratios[key]) if key in ratios else ""
        cells = [value_text(one), allowed_text(one), floors, value_text(two), allowed_text(two)]
        stage = key[0] if key[0] != last else ""
        last = key[0]
        mark = "[bold red]DIFFERS[/]" if bad else "ok"
        result.add_row(stage, key[1], escape(told.item), *cells, mark, *[escape(told.detail)] * details)
    return result


def group_of(check: Check) -> str:
    """What a check's row is called for: alike checks share a row."""
    alike = check.item.startswith(("blob ", "snapshots/", "segments/", "seed "))
    return check.item.split("/")[0].split(" ")[0] if alike else check.item


def value_text(check: Check | None) -> str:
    """A value, never rounded to something that it is not."""
    if check is None:
        return "-"
    if math.isnan(check.value):
        return "none"
    text = f"{check.value:.3g}" if abs(check.value) < 1 else f"{check.value:g}"
    # 0.9996 is not 1, and 1.0000001 is not within 1.
    return text if check.value == float(text) or float(text) not in (0, 1, check.allowed) else repr(check.value)


def allowed_text(check: Check | None) -> str:
    """The tolerance with its direction; "shown" where the quantity is not judged."""
    if check is None:
        return ""
    if check.quantity == "present":
        return "must be"
    return "shown" if check.allowed is None else f"{check.bound} {check.allowed:g}"


def differing(entries: Sequence[dict[str, str]]) -> Table:
    """What may differ between the runs and does."""
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="may differ, and does", title_justify="left")
    for name in ("", "run a", "run b"):
        result.add_column(name, overflow="fold")
    for entry in entries:
        result.add_row(*(escape(entry[key]) for key in ("name", "a", "b")))
    return result


def precision_note(entries: Sequence[dict[str, str]], names: Sequence[str] = ("run a", "run b")) -> str:
    """What to say where one of two runs has a lower precision, given what may differ and does; else nothing.

    names : of both runs.
    """
    engines = next((entry for entry in entries if entry["name"] == "version.engine"), {})
    told = [f"{name} by {engines[run]}" for run, name in zip("ab", names, strict=True)
            if engines.get(run, "").endswith(BFLOAT16)]  # fmt: skip
    if not told:
        return ""
    return (
        f"features and training in bfloat16, 8 bits of mantissa: {', '.join(told)}; these differences have that in them"
    )


def answer(summary: dict[str, Any]) -> Table:
    """mAP of both sides, their difference, and the paper's claim."""
    title = f"end to end, mAP in percent, {summary['seeds']} seed{'s' * (summary['seeds'] > 1)} a side"
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for name in ("", "run a", "run b", "difference", "95 % interval", "verdict"):
        result.add_column(name, justify="left" if name in ("", "verdict") else "right")
    for row, found in summary["a_minus_b"].items():
        sides = [mean_text(summary["map"][side][row]) for side in "ab"]
        result.add_row(ROW_NAMES[row], *sides, *difference_cells(found), found["overall"]["verdict"])
    for side, found in summary["ours_minus_baseline_lr"].items():
        cells = difference_cells(found)
        result.add_row(f"Ours minus Baseline-LR, run {side}", "", "", *cells, claim(found))
    return result


def mean_text(found: dict[str, Any]) -> str:
    """A mean with its spread over the seeds."""
    spread = "" if found["spread"] is None else f" ± {found['spread']:.2f}"
    return f"{found['mean']:.2f}{spread}"


def difference_cells(found: dict[str, Any]) -> list[str]:
    """A difference and its 95 % interval."""
    low, high = found["overall"]["interval_95"]
    return [f"{found['difference']:+.2f}", f"[{low:+.2f}, {high:+.2f}]"]


def print_report(
    subject: dict[str, str],
    isolated: Sequence[Check],
    chained: Sequence[Check],
    may_differ: Sequence[dict[str, str]],
    summary: dict[str, Any],
) -> None:
    """Print all on stdout. subject : what the runs are of, as `subject_of` gives it."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    console.print(f"profile {subject['profile']}; weights: {subject['weights']}", markup=False, highlight=False)
    if may_differ:
        console.print(differing(may_differ))
    wide = console.width >= WIDE
    console.print(table(isolated, chained, wide))
    for check in () if wide else (check for checks in (isolated, chained) for check in shown(checks)):
        if not check.agrees:
            console.print(f"{check.mode} {check.stage}, {check.quantity} of {check.item}: {check.detail}", markup=False)
    if summary:
        console.print(answer(summary))
        if note := precision_note(may_differ):
            console.print(note, markup=False)
        over = "test images and seeds" if summary["seeds"] > 1 else "test images alone (`make seeds` adds seeds)"
        console.print(
            f"intervals are over {over}; undecided does not fail: too few images or seeds to tell", style="dim"
        )
