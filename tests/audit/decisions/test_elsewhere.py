"""What other commands measured of an alternative, from toy files; what is missing is not made up."""

import pytest

from audit.decisions.decisions import read_decisions
from audit.decisions.elsewhere import BASELINES, ELSEWHERE, agrees, told
from experiment.artifacts import sha256_json
from experiment.spec import read_profile


def difference(value):
    return {"difference": value, "interval_95": [value - 1, value + 1], "certain": True}


REMARK = "Profile embedded, specification 0123; 5 trainval and 6 test images."
FOUND = {
    "sensitivity": {
        "spec_sha256": "0123",
        "data": "4567",
        "subject": {"profile": "embedded", "remarks": [REMARK, "A stand-in."]},
        "seeds": [1, 2],
        "base": {"baseline_hr": 50.0, "baseline_lr": 30.0, "ours": 40.0},
    },
    "controls": {
        "spec_sha256": "0123",
        "data": "4567",
        "subject": {"profile": "embedded", "remarks": [REMARK, "A stand-in."]},
        "rows": [
            {"control": "lr_c_cv", "minus_baseline_lr": difference(3.0), "minus_ours": difference(9.0)},
            {"control": "ours_c_cv", "minus_baseline_lr": difference(8.0), "minus_ours": difference(-2.0)},
        ],
    },
    "table2": {
        "remarks": [REMARK],
        "baselines": {"baseline_hr": 50.0, "baseline_lr": 30.01},
        "choices": {"fc2": {"split": [256, 20], "test": [512, 20]}},
        "entries": [
            {"feature": "fc1", "n1": 256, "n2": 20, "map": 50.0},
            {"feature": "fc2", "n1": 256, "n2": 20, "map": 41.5},
            {"feature": "fc2", "n1": 512, "n2": 20, "map": 60.0},
        ],
    },
    "compare": {
        "spec_sha256": "0123",
        "map": {"torch": {"baseline_hr": {"map_11point": 0.5}, "baseline_lr": {"map_11point": 0.3}}},
        "end_to_end": {
            "seeds": 5,
            "map": {"a": {"ours": {"spread": 1.25}}, "b": {"ours": {"spread": 0.5}}},
            "a_minus_b": {"ours": {"overall": {"interval_90": [-0.75, 0.25]}}},
        },
    },
}
TOLD = {
    "cross_validated": "Ours -2.00 [-3.00, -1.00], Baseline-LR +3.00 [+2.00, +4.00]",
    "by_split": "N1 = 256 and N2 = 20: Ours 41.50 mAP of one seed, +1.50 to the base's mean over seeds",
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


def test_the_splits_choice_stands_beside_the_grids_own_cell_where_there_is_one():
    values, _ = read_profile("embedded")
    sizes = {"n1": values["transfer"]["n1"], "n2": values["transfer"]["n2"]}
    cell = {"feature": "fc2", **sizes, "map": 43.0}
    table2 = {**FOUND["table2"], "entries": [*FOUND["table2"]["entries"], cell], "remarks": []}
    own = {**FOUND["sensitivity"], "spec_sha256": sha256_json(values)}
    phrase = "N1 = 256 and N2 = 20: Ours 41.50 mAP"
    assert told("by_split", {"table2": table2}) == phrase
    own_cell = f"{phrase}, -1.50 to the grid's own of the run's N1 and N2, one seed each"
    assert told("by_split", {"table2": table2, "sensitivity": own}) == own_cell
    # Of a run with values of its own nobody says here which N1 and N2 it has; nor has a cell that failed an mAP.
    assert told("by_split", {"table2": table2, "sensitivity": FOUND["sensitivity"]}) == TOLD["by_split"]
    failed = {**table2, "entries": [*FOUND["table2"]["entries"], {**cell, "map": None}]}
    assert told("by_split", {"table2": failed, "sensitivity": own}) == TOLD["by_split"]


@pytest.mark.parametrize(
    "name, file, change",
    [
        ("cross_validated", "controls", {"spec_sha256": "89"}),
        ("cross_validated", "controls", {"data": "89"}),
        ("by_split", "table2", {"remarks": ["Profile embedded, specification 89; 5 trainval and 6 test images."]}),
        ("by_split", "table2", {"baselines": {"baseline_hr": 50.0, "baseline_lr": 31.0}}),
        ("other_seeds", "compare", {"spec_sha256": "89"}),
        ("other_margin", "compare", {"map": {"torch": dict.fromkeys(BASELINES, {"map_11point": 0.4})}}),
    ],
)  # fmt: skip
def test_what_is_of_another_run_is_not_told(name, file, change):
    found = {**FOUND, file: {**FOUND[file], **change}}
    assert not agrees(file, found) and told(name, found) == ""
    # Where sensitivity.json is not there, controls.json says which run it is.
    assert file == "controls" or "baseline" in str(change) or told(name, {**found, "sensitivity": None}) == ""
    assert told(name, {file: found[file]}) != ""  # nothing is there that it could contradict


@pytest.mark.parametrize(
    "name, content",
    [
        ("by_split", []),
        ("by_split", "text"),
        ("by_split", {"choices": {"fc2": {"split": [1, 2, 3]}}, "entries": []}),
        ("by_split", {"choices": {"fc2": {"split": None}}, "entries": []}),
        ("by_split", {"choices": [], "entries": "text"}),
        ("other_seeds", {"map": [], "end_to_end": FOUND["compare"]["end_to_end"]}),
        ("other_margin", {"end_to_end": {"a_minus_b": {"ours": {"overall": {"interval_90": [1]}}}}}),
    ],
)
def test_a_malformed_file_tells_nothing(name, content):
    assert told(name, {**FOUND, ELSEWHERE[name][0]: content}) == ""


def test_a_file_that_says_nothing_of_its_run_is_not_told_beside_another():
    silent = {key: value for key, value in FOUND["table2"].items() if key not in ("remarks", "baselines")}
    assert told("by_split", {**FOUND, "table2": silent}) == ""
    assert told("by_split", {"table2": silent}) != ""  # there is nothing that it could contradict


def test_a_profile_that_is_none_costs_the_figure_and_nothing_else():
    foreign = {**FOUND["sensitivity"], "subject": {"profile": "nosuch", "remarks": [REMARK]}}
    assert told("by_split", {**FOUND, "sensitivity": foreign}) == ""
