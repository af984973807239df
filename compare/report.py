"""The comparison as a table on a terminal: one row for what is compared, the two modes side by side."""

import math
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from compare.check import Check

PLAIN_WIDTH = 150  # where the output is no terminal


def shown(checks: Sequence[Check]) -> list[Check]:
    """The checks that the table shows: of many alike (blobs, snapshots) the first that fails, else the worst."""
    groups: dict[tuple[str, str, str], list[Check]] = {}
    for check in checks:
        groups.setdefault((check.stage, check.quantity, group_of(check)), []).append(check)
    kept = []
    for members in groups.values():
        failing = [check for check in members if not check.agrees]
        kept.append(failing[0] if failing else max(members, key=lambda check: check.value))
    return kept


def table(isolated: Sequence[Check], chained: Sequence[Check]) -> Table:
    """The table of both modes; rows in the order of the stages."""
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("stage", "quantity", "of", "isolated", "allowed", "chained", "allowed", "", "detail"):
        numeric = name in ("isolated", "allowed", "chained")
        result.add_column(name, justify="right" if numeric else "left", overflow="fold")
    columns = [{(c.stage, c.quantity, group_of(c)): c for c in shown(checks)} for checks in (isolated, chained)]
    keys = list(dict.fromkeys([*columns[0], *columns[1]]))
    stages = list(dict.fromkeys(check.stage for check in [*isolated, *chained]))
    last = ""
    for key in sorted(keys, key=lambda key: stages.index(key[0])):
        one, two = columns[0].get(key), columns[1].get(key)
        bad = [check for check in (one, two) if check is not None and not check.agrees]
        told = bad[0] if bad else one or two
        assert told is not None
        cells = [cell for check in (one, two) for cell in (value_text(check), allowed_text(check))]
        stage = key[0] if key[0] != last else ""
        last = key[0]
        mark = "[bold red]DIFFERS[/]" if bad else "ok"
        result.add_row(stage, key[1], escape(told.item), *cells, mark, escape(told.detail))
    return result


def group_of(check: Check) -> str:
    """What a check's row is called for: alike checks share a row."""
    return (
        check.item.split("/")[0].split(" ")[0]
        if check.item.startswith(("blob ", "snapshots/", "segments/"))
        else check.item
    )


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
    return "shown" if check.allowed is None else f"{check.bound} {check.allowed:g}"


def print_table(isolated: Sequence[Check], chained: Sequence[Check]) -> None:
    """Print the table on stdout."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    console.print(table(isolated, chained))
