"""The table: nothing is rounded to what it is not, and of many alike the one that matters is shown."""

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from compare import report
from compare.calibration import Calibration
from compare.check import Check
from compare.report import (
    allowed_text,
    answer,
    differing,
    precision_note,
    print_report,
    shown,
    table,
    value_text,
    worst_ratios,
)
from compare.stages import compare_stage
from experiment.stages import STAGES

SUBJECT = {"profile": "toy", "weights": "drawn"}


def a_check(**values) -> Check:
    given = {"stage": "svm", "quantity": "x", "item": "ours", "mode": "isolated", "value": 0.5, "allowed": 0.1,
             "bound": "<=", "agrees": False, "detail": "", "numbers": {}}  # fmt: skip
    return Check(**{**given, **values})


def lines_of(printable) -> list[str]:
    """Its lines, wide enough that nothing is folded."""
    console = Console(width=250, file=io.StringIO())
    console.print(printable)
    return console.file.getvalue().splitlines()


def printed(isolated: list[Check], chained: list[Check]) -> list[str]:
    """The table's lines."""
    return lines_of(table(isolated, chained))


def calibrated(ratio: float) -> Calibration:
    return Calibration(ratio, 1.0, {}, 1.0, ratio, 3.0)


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


def test_of_alike_values_that_must_be_great_the_least_is_the_worst():
    values = {"seed 1 of a": 0.7, "seed 1 of b": 0.002, "seed 2 of a": 0.3}
    checks = [a_check(item=item, value=value, bound=">=", allowed=1e-6, agrees=True) for item, value in values.items()]
    assert [check.item for check in shown(checks)] == ["seed 1 of b"]


@pytest.mark.parametrize("item", ["blob a", "snapshots/1/fc1_weight", "segments/2/fc1_bias", "seed 1 of a"])
def test_alike_checks_share_a_row_and_others_do_not(item):
    names = [item, item.replace("1", "7").replace("blob a", "blob z"), item]
    assert len(shown([a_check(item=name) for name in names])) == 1
    assert len(shown([a_check(item=name) for name in ("ours", "baseline_hr", "fc1_weight_initial of a")])) == 3
    assert len(shown([a_check(item=item), a_check(item=item, quantity="y"), a_check(item=item, stage="x")])) == 3


@pytest.mark.parametrize("ratios", [(0.5, 2.75, 1.0), (2.75, 0.5), (0.5, 2.75)])
def test_the_floors_of_a_row_are_the_most_of_its_checks(ratios):
    checks = [a_check(item=f"blob {i}", value=float(-i), agrees=True, calibration=calibrated(ratio))
              for i, ratio in enumerate(ratios)]  # fmt: skip
    (found,) = worst_ratios(checks).values()
    assert found.calibration.ratio == 2.75
    (row,) = [line for line in printed(checks, []) if "svm" in line]
    assert row.split()[5:8] == ["<=", "0.1", "2.8"]


@pytest.mark.parametrize("ratios", [(math.nan, 0.5), (0.5, math.nan), (0.5, math.nan, 0.7)])
def test_floors_that_are_no_number_are_not_hidden_by_others(ratios):
    checks = [a_check(item=f"blob {i}", calibration=calibrated(ratio)) for i, ratio in enumerate(ratios)]
    (found,) = worst_ratios(checks).values()
    assert math.isnan(found.calibration.ratio)


def test_a_row_without_a_calibration_has_no_floors():
    assert worst_ratios([a_check(), a_check(mode="chained")]) == {}
    (row,) = [
        line for line in printed([a_check(agrees=True)], [a_check(mode="chained", agrees=True)]) if "ours" in line
    ]
    assert row.split() == ["svm", "x", "ours", "0.5", "<=", "0.1", "0.5", "<=", "0.1", "ok"]


def test_a_row_differs_if_either_mode_does():
    for isolated, chained in ((True, True), (True, False), (False, True)):
        lines = printed([a_check(agrees=isolated)], [a_check(agrees=chained, mode="chained")])
        (row,) = [line for line in lines if "ours" in line]
        assert ("DIFFERS" in row) == (not (isolated and chained))


def test_a_quantity_that_one_mode_lacks_is_a_dash():
    (row,) = [line for line in printed([], [a_check(mode="chained", agrees=True)]) if "ours" in line]
    assert row.split()[:5] == ["svm", "x", "ours", "-", "0.5"]


# ---------------------------------------------------------------- around the table


def test_what_differs_around_the_runs_is_told_as_it_is():
    lines = lines_of(differing([{"name": "version.numpy", "a": "1.19.5", "b": "2.0 [red]"}]))
    assert "may differ, and does" in lines[0]
    assert any(line.split() == ["version.numpy", "1.19.5", "2.0", "[red]"] for line in lines)


def test_lower_precision_is_told_and_float32_is_not(capsys):
    lowered = [{"name": "version.engine", "a": "absent", "b": "openvino-bfloat16"}]
    print_report(SUBJECT, [a_check()], [], lowered, an_answer(1, None))
    out = capsys.readouterr().out
    note = out.index("bfloat16, 8 bits of mantissa: run b by openvino-bfloat16; these differences")
    assert out.index("end to end, mAP in percent") < note  # right below the mAP
    assert precision_note([{"name": "version.engine", "a": "absent", "b": "openvino"}]) == precision_note([]) == ""


def an_answer(seeds: int, spread: float | None) -> dict:
    def found(difference, low, high, verdict):
        return {"difference": difference, "overall": {"interval_95": [low, high], "verdict": verdict}, "certain": True}

    rows = ("baseline_hr", "baseline_lr", "ours")
    maps = {
        side: {row: {"mean": mean, "spread": spread} for row in rows} for side, mean in (("a", 61.234), ("b", 60.0))
    }
    return {
        "seeds": seeds,
        "map": maps,
        "a_minus_b": {row: found(1.234, -0.5, 2.0, "undecided") for row in rows},
        "ours_minus_baseline_lr": {"a": found(2.0, 0.5, 3.0, "different"), "b": found(-2.0, -3.0, -0.5, "different")},
    }


@pytest.mark.parametrize(("seeds", "spread", "said"), [(1, None, "61.23"), (5, 0.456, "61.23 ± 0.46")])
def test_the_answer_has_a_row_for_each_of_table_1_and_for_each_sides_claim(seeds, spread, said):
    lines = lines_of(answer(an_answer(seeds, spread)))
    assert f"{seeds} seed{'s' if seeds > 1 else ''} a side" in lines[0]
    for row in ("Baseline-HR", "Baseline-LR", "Ours"):
        (line,) = [line for line in lines if line.startswith(f" {row}  ") or line.startswith(f"{row}  ")]
        cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
        assert cells == [row, said, said.replace("61.23", "60.00"), "+1.23", "[-0.50, +2.00]", "undecided"]
    for side, cells in (("a", ["+2.00", "[+0.50, +3.00]", "gain"]), ("b", ["-2.00", "[-3.00, -0.50]", "loss"])):
        (line,) = [line for line in lines if f"Ours minus Baseline-LR, run {side}" in line]
        assert [cell.strip() for cell in line.split("  ") if cell.strip()][1:] == cells


def test_what_there_is_not_is_not_printed(capsys):
    print_report(SUBJECT, [a_check()], [], [], {})
    assert "may differ" not in capsys.readouterr().out
    print_report(SUBJECT, [a_check()], [], [{"name": "threads", "a": "1", "b": "2"}], an_answer(1, None))
    out = capsys.readouterr().out
    assert "may differ" in out and out.index("threads") < out.index("DIFFERS") < out.index("end to end, mAP in percent")


@pytest.mark.parametrize(("width", "wide"), [(149, False), (150, True)])
def test_where_the_table_has_no_room_for_details_those_of_what_differs_follow_it(monkeypatch, capsys, width, wide):
    monkeypatch.setattr(report, "PLAIN_WIDTH", width)
    checks = [a_check(detail="first [red] word"), a_check(item="blob z", detail="another"),
              a_check(item="fine", detail="no one asks", agrees=True)]  # fmt: skip
    print_report(SUBJECT, checks, [a_check(mode="chained", detail="and one more")], [], {})
    rows, _, rest = capsys.readouterr().out.partition(" ok")  # the last row is that of what agrees
    rest = " ".join(rest.split())
    assert ("detail" in rows) == ("first [red] word" in rows) == wide
    assert rest == ("no one asks" if wide else "isolated svm, x of ours: first [red] word "
                    "isolated svm, x of blob z: another chained svm, x of ours: and one more")  # fmt: skip


def test_without_details_120_columns_fold_no_number_and_no_verdict(runs, pair_of):
    def checks(mode):
        found = [check for stage in STAGES for check in compare_stage(stage, pair_of(runs.a, runs.b, mode))]
        return [replace(check, value=1.23e-10, agrees=False, calibration=calibrated(230.0)) for check in found]

    sides = checks("isolated"), checks("chained")
    console = Console(width=120, file=io.StringIO())
    console.print(table(*sides, details=False))
    text = console.file.getvalue()
    rows = [len(shown(side)) for side in sides]
    assert text.count("1.23e-10") == sum(rows) and text.count("2.3e+02") == text.count("DIFFERS") == max(rows)
