"""The table: nothing is rounded to what it is not, and of many alike the one that matters is shown."""

import io
import math

import pytest
from rich.console import Console

from compare.check import Check
from compare.report import allowed_text, shown, table, value_text


def a_check(**values) -> Check:
    given = {"stage": "svm", "quantity": "x", "item": "ours", "mode": "isolated", "value": 0.5, "allowed": 0.1,
             "bound": "<=", "agrees": False, "detail": "", "numbers": {}}  # fmt: skip
    return Check(**{**given, **values})


def printed(isolated: list[Check], chained: list[Check]) -> list[str]:
    """The table's lines, wide enough that nothing is folded."""
    console = Console(width=250, file=io.StringIO())
    console.print(table(isolated, chained))
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("value", "allowed"),
    [(0.99996, 0.99), (1.0000001, 1.0), (1.0004e-5, 1e-5), (0.9999999, 1.0), (0.0, 0.0), (1.0, 1.0), (1e-5, 1e-5),
     (0.3, None)],
)  # fmt: skip
def test_a_value_is_not_rounded_to_its_bound_nor_to_all_or_nothing(value, allowed):
    text = float(value_text(a_check(value=value, allowed=allowed)))
    assert (text == allowed) == (value == allowed) and (text in (0, 1)) == (value in (0, 1))


@pytest.mark.parametrize(
    ("value", "text"), [(math.nan, "none"), (math.inf, "inf"), (1.23456e-7, "1.23e-07"), (3.0, "3")]
)
def test_values_are_short(value, text):
    assert value_text(a_check(value=value)) == text


def test_a_bound_is_told_with_its_direction():
    assert allowed_text(a_check(allowed=1e-5)) == "<= 1e-05"
    assert allowed_text(a_check(allowed=0.99, bound=">=")) == ">= 0.99"
    assert allowed_text(a_check(allowed=None)) == "shown"


@pytest.mark.parametrize("text", ["/runs/[/b]/x", "[red]", "(3, 4) [bold]"])
def test_brackets_are_text_and_not_markup(text):
    assert sum(line.count(text) for line in printed([a_check(detail=text, item=text)], [])) == 2


def test_the_first_failure_of_many_blobs_is_shown_and_else_the_worst():
    values = {"a": 0.0, "b": 0.3, "c": 0.5, "d": 0.0}
    blobs = [a_check(item=f"blob {name}", value=value, agrees=value < 0.1) for name, value in values.items()]
    assert [check.item for check in shown(blobs)] == ["blob b"]
    good = [a_check(item=f"blob {name}", value=value, agrees=True) for name, value in values.items()]
    assert [check.item for check in shown(good)] == ["blob c"]


def test_a_row_differs_if_either_mode_does():
    for isolated, chained in ((True, True), (True, False), (False, True)):
        lines = printed([a_check(agrees=isolated)], [a_check(agrees=chained, mode="chained")])
        (row,) = [line for line in lines if "ours" in line]
        assert ("DIFFERS" in row) == (not (isolated and chained))


def test_a_quantity_that_one_mode_lacks_is_a_dash():
    (row,) = [line for line in printed([], [a_check(mode="chained", agrees=True)]) if "ours" in line]
    assert row.split()[:5] == ["svm", "x", "ours", "-", "0.5"]
