"""What other commands measured of an alternative, from toy files; what is missing is not made up."""

import pytest

from audit.decisions.decisions import read_decisions
from audit.decisions.elsewhere import ELSEWHERE, told


def difference(value):
    return {"difference": value, "interval_95": [value - 1, value + 1], "certain": True}


FOUND = {
    "controls": {
        "rows": [
            {"control": "lr_c_cv", "minus_baseline_lr": difference(3.0), "minus_ours": difference(9.0)},
            {"control": "ours_c_cv", "minus_baseline_lr": difference(8.0), "minus_ours": difference(-2.0)},
        ]
    },
    "table2": {
        "choices": {"fc2": {"split": [256, 20], "test": [512, 20]}},
        "entries": [
            {"feature": "fc1", "n1": 256, "n2": 20, "map": 50.0},
            {"feature": "fc2", "n1": 256, "n2": 20, "map": 41.5},
            {"feature": "fc2", "n1": 512, "n2": 20, "map": 60.0},
        ],
    },
    "compare": {
        "end_to_end": {
            "seeds": 5,
            "map": {"a": {"ours": {"spread": 1.25}}, "b": {"ours": {"spread": 0.5}}},
            "a_minus_b": {"ours": {"overall": {"interval_90": [-0.75, 0.25]}}},
        }
    },
}
TOLD = {
    "cross_validated": "Ours -2.00 [-3.00, -1.00], Baseline-LR +3.00 [+2.00, +4.00]",
    "by_split": "N1 = 256 and N2 = 20: Ours 41.50 mAP",
    "other_seeds": "standard deviation of Ours over 5 seeds: Caffe 1.25, port 0.50",
    "other_margin": "both sides' Ours would be equivalent within any margin above 0.75",
}


def test_all_that_decisions_name_is_told_and_nothing_else():
    named = {one.elsewhere for decision in read_decisions() for one in decision.alternatives if one.elsewhere}
    assert named == set(ELSEWHERE) == set(TOLD)
    assert {name: told(name, FOUND) for name in TOLD} == TOLD


@pytest.mark.parametrize("name", TOLD)
def test_what_is_not_there_is_not_told(name):
    file = ELSEWHERE[name][0]
    assert (
        told(name, {})
        == told(name, {file: None})
        == told(name, {**FOUND, file: {"rows": [], "end_to_end": None}})
        == ""
    )
