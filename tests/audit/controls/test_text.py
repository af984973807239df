"""How the figures of the controls are written."""

import pytest

from audit.controls.text import difference_text, mean_text, table

ONE = {"difference": -1.0, "interval_95": [-2.5, 0.25], "certain": True}
OTHER = {"difference": 1.006, "interval_95": [0.5, 2.0], "certain": False}
TEXTS = "-1.00 [-2.50, +0.25]", "+1.01 [+0.50, +2.00] ?"


@pytest.mark.parametrize(
    "values, told",
    [({"mean": 25.0, "spread": 1.4142}, "25.00 ± 1.41"), ({"mean": 0.0, "spread": 0.0}, "0.00 ± 0.00"),
     ({"mean": 30.0, "spread": None}, "30.00")],
)  # fmt: skip
def test_a_mean_has_its_spread_where_there_are_several_seeds(values, told):
    assert mean_text(values) == told


@pytest.mark.parametrize("judged, told", [(ONE, TEXTS[0]), (OTHER, TEXTS[1])])
def test_a_difference_of_too_few_seeds_has_a_question_mark(judged, told):
    assert difference_text(judged) == told


def test_the_table_begins_with_what_the_controls_are_held_against():
    mean = {"mean": 40.0, "spread": None}
    row = {"title": "PCA", "map": mean, "minus_baseline_lr": ONE, "minus_ours": OTHER}
    ours = {"mean": 43.0, "spread": 1.0, "minus_baseline_lr": OTHER}
    text = table({"baseline_lr": 39.75, "ours": ours, "rows": [row], "conclusions": ["So it is."]})
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert lines[0] == ["", "mAP", "minus Baseline-LR", "minus Ours"]
    assert lines[2:] == [
        ["Baseline-LR", "39.75", "", ""], ["Ours", "43.00 ± 1.00", TEXTS[1], ""], ["PCA", "40.00", *TEXTS],
        ["- So it is."],
    ]  # fmt: skip
