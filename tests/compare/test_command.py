"""`python -m compare`: what is refused, exit codes, the sentence and compare.json."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from fake_pair import (
    LABELS_TEST,
    MISSING,
    change_parts,
    change_spec,
    feed,
    in_float64,
    link_run,
    outputs,
    own,
    score,
    write_run,
    write_stage,
    write_varied,
)

from compare import __main__ as command
from compare.check import Judge
from compare.end_to_end import SEED_STAGES
from experiment.artifacts import MANIFEST, RunFolder, write_json
from experiment.errors import UserError
from experiment.stages import ROWS, STAGES, VARIATIONS

PROJECT = Path(__file__).resolve().parents[2]
SCHEMA = jsonschema.Draft202012Validator(json.loads((PROJECT / "docs" / "compare.schema.json").read_text()))


def problems(value) -> list[str]:
    """Where a value breaks the schema of compare.json."""
    return [error.message for error in SCHEMA.iter_errors(value)]


def shift(array: np.ndarray) -> np.ndarray:
    return array + array.dtype.type(1)


def moved(by: float):
    """Every number of an array changed by that share of itself."""
    return lambda array: (array.astype(np.float64) * (1 + by)).astype(array.dtype)


def one_line(done, *said: str) -> None:
    assert done.code == 2 and done.out == "" and done.json is None
    assert done.err.startswith("error: ") and done.err.count("\n") == 1
    assert all(text in done.err for text in said), done.err


def check_of(done, item: str, mode: str, quantity: str | None = None):
    (check,) = [c for c in done.json["checks"] if (c["item"], c["mode"]) == (item, mode)
                and quantity in (None, c["quantity"])]  # fmt: skip
    return check


# ---------------------------------------------------------------- verdicts


def test_equal_runs_agree(compare, runs):
    done = compare(runs.a, runs.b, "--isolated", runs.isolated)
    assert done.code == 0 and done.json["agrees"] is True
    assert done.json["first_departure"] == {"isolated": None, "chained": None}
    assert done.out.splitlines()[-1] == done.json["sentence"]
    judged = [check for check in done.json["checks"] if check["allowed"] is not None]
    assert done.json["sentence"] == f"agree: {len(judged)} judged checks are within their tolerances"
    assert {check["stage"] for check in judged if check["mode"] == "isolated"} == set(STAGES)
    maps = {row: outputs()["metrics"]["metrics"][row]["map_11point"] for row in ROWS}
    assert done.json["map_11point"] == {"a": maps, "b": maps}
    assert done.json["runs"]["reference"] == [] and "not calibrated" in done.out
    assert all(check["calibration"] is None for check in done.json["checks"])


def test_runs_in_the_wrong_order_are_told(compare, runs):
    assert "name it first" in compare(runs.b, runs.a, only=("metrics",)).out
    assert "name it first" not in compare(runs.a, runs.b, only=("metrics",)).out


def test_the_chained_runs_alone_can_be_compared(compare, runs):
    done = compare(runs.a, runs.b, only=("metrics",))
    check = check_of(done, "ours 11point", "chained", "ap")
    ap = dict(zip(outputs()["index"]["classes"], outputs()["metrics"]["metrics"]["ours"]["ap_11point"], strict=True))
    assert check["numbers"]["a"] == check["numbers"]["b"] == ap
    assert done.code == 0 and {check["mode"] for check in done.json["checks"]} == {"chained"}
    assert done.json["sentence"].endswith("tolerances (chained only: the stages' own arithmetic is not judged)")
    assert done.out.splitlines()[-1] == done.json["sentence"]


def test_what_the_runs_are_of_is_told_first(compare, runs):
    assert compare(runs.a, runs.b, only=("index",)).json["subject"] == {"profile": "toy", "weights": "unknown"}
    for run, origin in ((runs.a, "drawn by [seed]"), (runs.b, "another")):
        change_spec(run, lambda spec, origin=origin: spec["external"]["weights"].update(origin=origin))
        change_spec(run, lambda spec: spec.update(profile="toy, LIMIT=8"))
    done = compare(runs.a, runs.b, only=("index",))
    assert done.json["subject"] == {"profile": "toy, LIMIT=8", "weights": "drawn by [seed]"}
    assert done.out.splitlines()[0] == "profile toy, LIMIT=8; weights: drawn by [seed]"
    for run in (runs.a, runs.b):
        change_spec(run, lambda spec: spec.pop("profile"))
    done = compare(runs.a, runs.b, only=("index",))
    assert done.json["subject"]["profile"] == "None" and problems(done.json) == []


@pytest.mark.parametrize("isolated", [False, True])
def test_the_sentence_names_the_rows_that_differ_although_all_agrees(runs, tolerances, isolated):
    """Where the difference is certain at 95 %, and less than four standard errors beyond the margin."""
    verdicts = dict(zip(ROWS, ("different", "equivalent", "different"), strict=True))
    summary = {"a_minus_b": {row: {"overall": {"verdict": verdict}} for row, verdict in verdicts.items()}}
    fine = [Judge(tolerances, mode).check("index", "unequal", "classes", 0.0) for mode in ("isolated", "chained")]
    found = command.verdict(RunFolder(runs.a), RunFolder(runs.b), fine[:1] if isolated else [], fine[1:], summary)
    told = "" if isolated else " (chained only: the stages' own arithmetic is not judged)"
    assert found["agrees"] and found["sentence"] == (
        f"agree: {1 + isolated} judged checks are within their tolerances{told}; "
        "but mAP is different beyond the margin, at 95 %, for baseline_hr, ours"
    )
    bad = [Judge(tolerances, "chained").check("index", "unequal", "classes", 1.0)]
    found = command.verdict(RunFolder(runs.a), RunFolder(runs.b), [], bad, summary)
    assert found["sentence"].startswith("differ: 1 of 1") and "mAP" not in found["sentence"]


def test_the_first_departure_of_each_mode_is_named_in_forward_order(compare, runs):
    write_stage(
        RunFolder(runs.isolated),
        "features",
        {("features", "blobs/001-conv1"): shift, ("features", "hr_test"): shift},
        fed_by=RunFolder(runs.a),
    )
    write_stage(RunFolder(runs.isolated), "svm", {("svm", "ours"): shift}, fed_by=RunFolder(runs.a))
    write_stage(
        RunFolder(runs.b), "metrics", {("metrics", "metrics"): lambda m: {**m, "ours": {**m["ours"], "map_area": 0.1}}}
    )
    done = compare(runs.a, runs.b, "--isolated", runs.isolated, only=("features", "svm", "metrics"))
    assert done.code == 1 and done.json["agrees"] is False
    first = done.json["first_departure"]
    assert (first["isolated"]["stage"], first["isolated"]["item"]) == ("features", "blob conv1")
    assert (first["chained"]["stage"], first["chained"]["quantity"], first["chained"]["item"]) == (
        "metrics",
        "map",
        "ours area",
    )
    assert "isolated at features" in done.json["sentence"] and "chained at metrics" in done.json["sentence"]
    failed = [check for check in done.json["checks"] if not check["agrees"]]
    assert {(check["stage"], check["item"]) for check in failed} == {
        ("features", "blob conv1"), ("features", "hr_test"), ("svm", "ours"), ("svm", "ours of b"),
        ("metrics", "ours area"), ("metrics", "ours of b"),
    }  # fmt: skip
    assert done.json["sentence"].startswith(f"differ: {len(failed)} of ")
    assert done.out.count("DIFFERS") == 7  # of the SVM's decision values as they are, and as a share of their spread


def test_what_is_only_shown_does_not_decide(compare, runs):
    write_stage(RunFolder(runs.b), "clusters", {("clusters", "centroids"): moved(0.5)})
    feed(runs.b)
    done = compare(runs.a, runs.b, only=("clusters",))
    assert done.code == 0
    check = check_of(done, "centroids", "chained")
    assert check["value"] > 0.1 and check["allowed"] is None


@pytest.mark.parametrize("stage", ["index", "transfer", "metrics"])
def test_a_missing_artifact_is_in_the_report(compare, runs, stage):
    name = next(iter(RunFolder(runs.b).require_manifest(stage)["outputs"]))
    write_stage(RunFolder(runs.b), stage, {(stage, name): lambda _: MISSING})
    feed(runs.b)
    done = compare(runs.a, runs.b, only=(stage,))
    assert done.code == 1
    assert done.json["first_departure"]["chained"]["stage"] == stage
    assert done.json["first_departure"]["chained"]["value"] == "nan"
    if stage == "metrics":
        assert done.json["map_11point"]["b"] is None


@pytest.mark.parametrize(
    ("side", "change"),
    [
        ("a", lambda s: np.concatenate([s, s[:1]])),
        ("b", lambda s: np.concatenate([s, s[:1]])),
        ("b", lambda s: s[:-1]),
        ("a", lambda s: s[:, :-1]),
        ("b", lambda s: np.where(s == s.max(), np.nan, s)),
        ("a", lambda s: MISSING),
    ],
)
def test_decision_values_that_do_not_fit_are_a_departure_and_no_trouble(compare, runs, side, change):
    write_stage(RunFolder(getattr(runs, side)), "svm", {("svm", "ours"): change})
    feed(getattr(runs, side))
    done = compare(runs.a, runs.b, only=("svm", "metrics"))
    assert done.code == 1 and "Traceback" not in done.err
    first = done.json["first_departure"]["chained"]
    assert (first["stage"], first["quantity"]) == ("svm", "present")


@pytest.mark.parametrize(
    "change", [lambda m: {}, lambda m: {**m, "ours": {}}, lambda m: {row: m[row] for row in ROWS if row != "ours"}]
)
def test_metrics_that_lack_a_row_are_a_departure_and_no_trouble(compare, runs, change):
    write_stage(RunFolder(runs.b), "metrics", {("metrics", "metrics"): change})
    done = compare(runs.a, runs.b, only=("metrics",))
    first = done.json["first_departure"]["chained"]
    assert done.code == 1 and (first["stage"], first["item"]) == ("metrics", "artifact") and problems(done.json) == []
    assert done.json["map_11point"]["b"] is None and done.json["map_11point"]["a"]


@pytest.mark.parametrize(
    "metrics", [{}, [], None, 3, {row: {} for row in ROWS}, {row: {"map_11point": "x"} for row in ROWS},
                {row: {"map_11point": None} for row in ROWS}, {ROWS[0]: {"map_11point": 0.5}}]
)  # fmt: skip
def test_metrics_that_are_none_have_no_maps(runs, metrics):
    write_stage(RunFolder(runs.b), "metrics", {("metrics", "metrics"): lambda _: metrics})
    assert command.maps(RunFolder(runs.b)) is None


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize(
    "change",
    [
        lambda m: [],
        lambda m: None,
        lambda m: 3,
        lambda m: dict.fromkeys(m),
        lambda m: dict.fromkeys(m, []),
        lambda m: {**m, "ours": {**m["ours"], "map_11point": None}},
        lambda m: {**m, "ours": {**m["ours"], "map_11point": []}},
        lambda m: {**m, "ours": {**m["ours"], "map_11point": "x"}},
    ],
)
def test_metrics_of_another_form_are_a_departure_of_both_answers(compare, runs, change, side):
    write_stage(RunFolder(getattr(runs, side)), "metrics", {("metrics", "metrics"): change})
    done = compare(runs.a, runs.b, only=("metrics",))
    bad = [(check["stage"], check["item"]) for check in done.json["checks"] if not check["agrees"]]
    assert done.code == 1 and bad == [("metrics", "artifact"), ("end_to_end", "map")]
    assert "Traceback" not in done.err and problems(done.json) == []
    assert done.json["map_11point"][side] is None and done.json["map_11point"]["ab".replace(side, "")]


@pytest.mark.parametrize(("value", "text"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
@pytest.mark.parametrize("side", ["a", "b"])
def test_a_map_that_json_cannot_hold_is_a_departure_and_can_be_written(compare, runs, side, value, text):
    run = own(getattr(runs, side), "metrics")
    path = run.output_path("metrics", "metrics")
    metrics = json.loads(path.read_text())
    metrics["ours"]["map_11point"] = value
    path.write_text(json.dumps(metrics))
    manifest = run.require_manifest("metrics")
    manifest["outputs"]["metrics"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    write_json(run.stage_path("metrics") / MANIFEST, manifest)
    done = compare(runs.a, runs.b, only=("metrics",))
    assert done.code == 1 and "Traceback" not in done.err
    assert done.json["map_11point"][side]["ours"] == text
    assert problems({**done.json, "map_11point": {"a": None, "b": None}}) == []
    bad = {(check["stage"], check["item"]) for check in done.json["checks"] if not check["agrees"]}
    assert {("metrics", f"ours of {side}"), ("end_to_end", f"ours of {side}")} <= bad


@pytest.mark.parametrize(
    ("stage", "name", "value"),
    [("svm", "summary", []), ("svm", "summary", None), ("svm", "summary", {row: {} for row in ROWS}),
     ("index", "classes", {}), ("index", "classes", []), ("index", "classes", None), ("index", "ids_test", None),
     ("clusters", "summary", []), ("features", "blob_names", None)],
)  # fmt: skip
@pytest.mark.parametrize("both", [False, True])
def test_outputs_of_another_form_are_a_departure_and_no_trouble(compare, runs, stage, name, value, both):
    for run in (runs.a, runs.b, runs.isolated)[1 - both :]:
        fed_by = RunFolder(runs.a) if run == runs.isolated else None
        write_stage(RunFolder(run), stage, {(stage, name): lambda _: value}, fed_by=fed_by)
    feed(runs.a, runs.b)
    feed(runs.isolated, fed_by=runs.a)
    done = compare(runs.a, runs.b, "--isolated", runs.isolated)
    assert done.code == 1 and "Traceback" not in done.err and problems(done.json) == []
    failing = {check["mode"] for check in done.json["checks"] if not check["agrees"]}
    assert failing == {"isolated", "chained"}


def test_infinite_and_missing_values_are_written_as_json(compare, runs):
    write_stage(RunFolder(runs.a), "transfer", {("transfer", "fc1_bias"): np.zeros_like})
    feed(runs.a)
    feed(runs.isolated, fed_by=runs.a)
    done = compare(runs.a, runs.b, "--isolated", runs.isolated)  # the fixture's parser refuses NaN and Infinity
    first = done.json["first_departure"]["isolated"]
    assert (first["item"], first["value"], first["numbers"]["relative_l2"]) == ("fc1_bias", "inf", "inf")


def test_a_bug_is_told_from_a_difference(runs, monkeypatch, capsys):
    def broken(*_):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(command, "compare_stage", broken)
    monkeypatch.setattr(sys, "argv", ["compare", str(runs.a), str(runs.b)])
    assert command.main_or_trouble() == 2
    assert "Traceback" in capsys.readouterr().err


# ---------------------------------------------------------------- calibrated


@pytest.fixture
def calibrated(runs, templates, compare, tmp_path):
    """`calibrated(isolated, a_otherwise, b_otherwise, reference, ...)`: a comparison in noise floors.

    Each argument changes outputs of a run as `write_run` has it: of the isolated run, of run a with batches of half the
    size, of the isolated run with another number of threads (it has the isolated run's changes too), and of the
    reference.
    """

    def run(isolated=None, a_otherwise=None, b_otherwise=None, reference=None, more=(), only=()):
        changes = {
            "isolated": isolated,
            "reference": reference,
            "batch": a_otherwise,
            "threads": {**(isolated or {}), **(b_otherwise or {})},
        }
        for name, change in changes.items():
            path = tmp_path / name
            if name != "isolated":
                link_run(templates[name], path)
            for stage in dict.fromkeys(stage for stage, _ in change or {}):
                if name == "reference":
                    change = {**in_float64(), **change}
                if RunFolder(path).manifest(stage):
                    write_stage(RunFolder(path), stage, change, fed_by=RunFolder(runs.a))
        measured = ["--isolated", runs.isolated, "--reference", tmp_path / "reference"]
        floors = ["--varied-a", tmp_path / "batch", "--varied-b", tmp_path / "threads"]
        return compare(runs.a, runs.b, *measured, *floors, *more, only=only)

    return run


FEATURES = ("transfer_features", "test")


@pytest.mark.parametrize(
    ("noise_a", "noise_b", "floors", "code"),
    [(1, 0, 2, 0), (1, 0, 4, 1), (0.5, 1, 2, 0), (0.5, 1, 4, 1), (1, 0, 2.9, 0), (0.5, 1, 3.1, 1)],
)
def test_two_floors_agree_and_four_differ_although_the_hard_bound_holds(calibrated, noise_a, noise_b, floors, code):
    """Run a is as the reference; the isolated run errs by so many floors, of which the noisier side makes one."""
    floor = 1e-6
    off = moved(floors * floor)
    otherwise = {FEATURES: moved(noise_a * floor)}, {FEATURES: lambda w: moved(noise_b * floor)(off(w))}
    done = calibrated({FEATURES: off}, *otherwise, only=("transfer_features",))
    check = check_of(done, "test", "isolated", "relative_l2")
    assert check["value"] == pytest.approx(floors * floor, rel=0.02) and check["value"] < check["allowed"] == 1e-5
    found = check["calibration"]
    assert (found["error"], found["error_a"]) == (pytest.approx(floors * floor, rel=0.02), 0.0)
    wanted = {"batch": noise_a * floor, "threads": noise_b * floor}
    assert found["floors"] == pytest.approx(wanted, rel=0.06, abs=1e-9)
    assert found["ratio"] == pytest.approx(floors, rel=0.03) and found["k"] == done.json["k"] == 3.0
    assert done.code == code and check["agrees"] is found["agrees"] is (code == 0)
    assert "calibrated" not in done.out


def test_a_small_error_beyond_all_floors_is_named_as_the_first_departure(calibrated):
    done = calibrated(
        {("features", "hr_test"): moved(1e-6)}, only=("features",)
    )  # within the hard bound, and ten roundings
    first = done.json["first_departure"]["isolated"]
    assert done.code == 1 and (first["stage"], first["item"]) == ("features", "hr_test")
    assert first["value"] < first["allowed"] and first["calibration"]["floor"] == 2.0**-24


def test_a_large_difference_is_none_the_better_for_its_floors(calibrated):
    done = calibrated({FEATURES: moved(1e-4)}, {FEATURES: moved(2e-4)}, only=("transfer_features",))
    check = check_of(done, "test", "isolated", "relative_l2")
    assert done.code == 1 and check["calibration"]["agrees"] and not check["agrees"]


def test_what_is_drawn_or_counted_is_not_calibrated_and_floors_are_of_the_stages_that_were_varied(calibrated):
    done = calibrated()
    assert done.code == 0
    found = {(c["stage"], c["quantity"], c["item"]): c["calibration"] for c in done.json["checks"]
             if c["mode"] == "isolated"}  # fmt: skip
    without = {(stage, quantity) for (stage, quantity, _), calibration in found.items() if calibration is None}
    assert without == {
        ("index", "unequal"), ("images", "unequal"), ("clusters", "initial_relative_l2"), ("clusters", "agreement"),
        ("clusters", "adjusted_rand"), ("clusters", "inertia"), ("pseudo_labels", "agreement"),
        ("pseudo_labels", "margin"), ("transfer", "initial_relative_l2"), ("transfer", "initial_p"),
        ("transfer", "initial_bias"), ("svm", "dual_route"),
        ("transfer", "step_relative_l2_all_rows"), ("transfer", "step_history_all_rows"),
        ("svm", "decision_of_spread"), ("svm", "support_vectors"), ("svm", "objective"), ("metrics", "ap"),
        ("metrics", "map"), ("metrics", "third_route"), ("resnet101", "photographs_max_abs"),
    }  # fmt: skip
    for (stage, quantity, item), calibration in found.items():
        if calibration is not None:
            touched = [name for name, of in (("batch", ("caffe", "batch")), ("threads", ("torch", "threads")))
                       if stage in VARIATIONS[of[0]][of[1]]]  # fmt: skip
            assert list(calibration["floors"]) == touched, (stage, quantity, item)
            assert calibration["ratio"] == 0.0
    assert all(check["calibration"] is None for check in done.json["checks"] if check["mode"] == "chained")


@pytest.mark.parametrize(
    ("who", "spoil"),
    [
        ("reference", lambda w: w[..., None]),
        ("reference", lambda w: MISSING),
        ("a_otherwise", lambda w: np.concatenate([w, w])),
        ("b_otherwise", lambda w: w * np.float32(np.nan)),
    ],
)
def test_a_floor_or_reference_that_does_not_fit_is_never_agreement(calibrated, who, spoil):
    done = calibrated(**{who: {FEATURES: spoil}}, only=("transfer_features",))
    assert done.code == 1
    bad = [check for check in done.json["checks"] if not check["agrees"]]
    assert {(check["stage"], check["item"], check["mode"]) for check in bad} == {(*FEATURES, "isolated")}


def test_of_grey_levels_the_floors_are_only_shown(calibrated):
    def tie(image):
        image = image.copy()
        image[0, 0, 0, 0] += 1
        return image

    check = check_of(calibrated({("images", "hr_test"): tie}, only=("images",)), "hr_test", "isolated", "max_abs")
    assert check["agrees"] and check["calibration"]["ratio"] > 3 and check["calibration"]["judged"] is False


def test_of_many_steps_of_training_the_floors_are_only_shown(calibrated, runs, tmp_path):
    last_bit = write_varied(tmp_path / "a-last-bit", runs.a, "caffe", "last-bit", {
        ("transfer", "fc2_weight"): moved(1e-3), ("transfer", "snapshots/2/fc2_weight"): moved(1e-3)})  # fmt: skip
    off = {("transfer", "fc2_weight"): moved(4e-3), ("transfer", "segments/2/fc2_weight"): moved(5e-7)}
    done = calibrated(off, more=["--varied-a", last_bit], only=("transfer",))
    whole = check_of(done, "fc2_weight", "isolated", "relative_l2")["calibration"]
    assert whole["ratio"] == pytest.approx(4, rel=0.01) and whole["judged"] is False and whole["agrees"]
    step = check_of(done, "segments/2/fc2_weight", "isolated")["calibration"]
    assert list(step["floors"]) == ["threads"]  # run a has none from the same state
    assert step["ratio"] > 3 and step["judged"] is True and not step["agrees"]
    bad = [check for check in done.json["checks"] if not check["agrees"]]
    assert done.code == 1 and [check["item"] for check in bad] == ["segments/2/fc2_weight"]


@pytest.mark.parametrize("missing", ["--varied-a", "--varied-b", "both"])
def test_a_comparison_without_the_varied_runs_of_a_side_says_so(compare, runs, templates, missing):
    given = [("--varied-a", templates["batch"]), ("--varied-b", templates["threads"])]
    varied = [part for option, path in given if missing not in (option, "both") for part in (option, path)]
    reference = ["--isolated", runs.isolated, "--reference", templates["reference"]]
    assert "not fully calibrated" in compare(runs.a, runs.b, *reference, *varied, only=("index",)).out


def test_two_floors_whose_folders_have_one_name_both_count(calibrated, runs, tmp_path):
    (tmp_path / "more").mkdir()
    twin = write_varied(tmp_path / "more" / "batch", runs.a, "caffe", "batch")
    done = calibrated(
        {FEATURES: moved(2e-6)}, {FEATURES: moved(1e-6)}, more=["--varied-a", twin], only=("transfer_features",)
    )
    assert done.code == 0
    floor = check_of(done, "test", "isolated", "relative_l2")["calibration"]["floor"]
    assert floor == pytest.approx(1e-6, rel=0.03)


# ---------------------------------------------------------------- compare.json and the rest of what is written


def keyed(path: Path) -> dict:
    """What compare.json holds of a run."""
    stages = {}
    for stage in STAGES:
        found = RunFolder(path).manifest(stage)
        hashes = {name: entry["sha256"] for name, entry in found["outputs"].items()} if found else {}
        text = found and json.dumps([found["key"], hashes], sort_keys=True, separators=(",", ":"))
        stages[stage] = text and hashlib.sha256(text.encode()).hexdigest()
    return {"path": str(path), "stages": stages}


def test_compare_json_is_complete_and_follows_its_schema(calibrated, runs, compare, tmp_path, seeds):
    done = calibrated({FEATURES: moved(1e-3)}, more=["--seeds", *seeds])
    assert done.code == 1 and problems(done.json) == []
    assert done.json["comparability"]["equal"] and done.json["comparability"]["differing"]
    assert done.json["spec_sha256"] == RunFolder(runs.a).spec["sha256"]
    used = {"a": [runs.a], "b": [runs.b], "isolated": [runs.isolated], "reference": [tmp_path / "reference"],
            "varied_a": [tmp_path / "batch"], "varied_b": [tmp_path / "threads"],
            "seeds_a": [path / "a" for path in seeds], "seeds_b": [path / "b" for path in seeds]}  # fmt: skip
    assert done.json["runs"] == {name: [keyed(path) for path in paths] for name, paths in used.items()}
    assert done.json["end_to_end"]["seeds"] == 2
    short = compare(runs.a, runs.b, only=("index",))
    assert short.code == 0 and problems(short.json) == []
    assert short.json["runs"] == {name: [keyed(path) for path in used[name]] if name in "ab" else [] for name in used}
    write_stage(RunFolder(runs.b), "svm", {("svm", "ours"): lambda _: MISSING})
    feed(runs.b)
    broken = compare(runs.a, runs.b, only=("svm",))
    assert broken.code == 1 and problems(broken.json) == [] and broken.json["end_to_end"] is None


def test_the_schema_is_one_that_something_can_break(compare, runs):
    whole = compare(runs.a, runs.b, only=("clusters",)).json
    for key in whole:
        assert problems({k: v for k, v in whole.items() if k != key})
        assert problems({**whole, key: object()})
    assert problems({**whole, "more": 1})
    for key in whole["checks"][0]:
        assert problems(
            {**whole, "checks": [{k: v for k, v in whole["checks"][0].items() if k != key}]},
        )


def test_saved_runs_compare_again_to_the_same(compare, runs, calibrated, tmp_path):
    only = ("index", "features", "clusters", "transfer_features", "metrics")
    first = calibrated({FEATURES: moved(2e-6)}, {FEATURES: moved(1e-6)}, only=only)
    again = tmp_path / "saved"
    again.mkdir()
    for name in ("a", "b", "isolated", "reference", "batch", "threads"):
        shutil.copytree(tmp_path / name, again / name)
        shutil.rmtree(tmp_path / name)
    second = compare(again / "a", again / "b", "--isolated", again / "isolated", "--reference", again / "reference",
                     "--varied-a", again / "batch", "--varied-b", again / "threads", only=only)  # fmt: skip
    assert second.json["checks"] == first.json["checks"] and second.json["sentence"] == first.json["sentence"]
    assert second.json["end_to_end"] == first.json["end_to_end"]


def test_the_junit_file_holds_every_check(compare, runs, tmp_path):
    some = ("images", "clusters", "metrics")
    done = compare(runs.a, runs.b, "--isolated", runs.isolated, "--junit", tmp_path / "compare.xml", only=some)
    root = ET.parse(tmp_path / "compare.xml").getroot()
    assert int(root.get("tests")) == len(done.json["checks"]) == len(list(root.iter("testcase")))
    failed = sum(not check["agrees"] for check in done.json["checks"])
    assert done.code == 0 and failed == 0 == int(root.get("failures"))
    write_stage(RunFolder(runs.b), "index", {("index", "labels_test"): lambda labels: -labels})
    feed(runs.b)
    done = compare(runs.a, runs.b, "--junit", tmp_path / "compare.xml", only=("index",))
    failed = sum(not check["agrees"] for check in done.json["checks"])
    assert done.code == 1 and failed == int(ET.parse(tmp_path / "compare.xml").getroot().get("failures")) > 0


def test_two_ports_can_be_compared(compare, tmp_path):
    a = write_run(tmp_path / "a", side="torch", drew_itself=True)
    b = write_run(tmp_path / "b", side="torch")
    isolated = write_run(tmp_path / "isolated", fed_by=a, side="torch")
    reference, floor_a, floor_b = (
        write_varied(tmp_path / name, a.path, "torch", variation)
        for name, variation in (("reference", "reference"), ("a-layout", "layout"), ("threads", "threads"))
    )
    done = compare(a.path, b.path, "--isolated", isolated.path, "--reference", reference,
                   "--varied-a", floor_a, "--varied-b", floor_b)  # fmt: skip
    assert done.code == 0 and done.json["agrees"] and done.json["comparability"]["differing"] == []


# ---------------------------------------------------------------- seeds


@pytest.fixture
def seeds(tmp_path):
    """Runs a and b of two seeds, that drew by themselves."""
    for seed in (1, 2):
        for name, side in (("a", "caffe"), ("b", "torch")):
            write_run(tmp_path / "seeds" / str(seed) / name, stages=SEED_STAGES, seed=seed, side=side, drew_itself=True)
    return [tmp_path / "seeds" / seed for seed in "12"]


def test_the_runs_of_several_seeds_are_judged_with_the_pair(compare, runs, seeds):
    done = compare(runs.a, runs.b, "--seeds", *seeds, only=("index",))
    assert done.code == 0 and done.json["end_to_end"]["seeds"] == 2 and "2 seeds a side" in done.out
    quantities = {check["quantity"] for check in done.json["checks"] if check["stage"] == "end_to_end"}
    assert quantities == {"least_map_difference", "farthest_seed", "third_route", "inertia", "adjusted_rand",
                          "initial_p", "initial_bias"}  # fmt: skip
    perfect = LABELS_TEST + np.linspace(0, 0.01, LABELS_TEST.size).reshape(LABELS_TEST.shape)
    for path in seeds:
        for name, scores in (("a", perfect), ("b", -perfect)):
            score(path / name, baseline_hr=scores)
    done = compare(runs.a, runs.b, "--seeds", *seeds, only=("metrics",))
    bad = [check for check in done.json["checks"] if not check["agrees"]]
    assert done.code == 1 and [(c["stage"], c["quantity"], c["item"]) for c in bad] == [
        ("end_to_end", "least_map_difference", "baseline_hr"), ("end_to_end", "farthest_seed", "baseline_hr"),
    ]  # fmt: skip


def test_one_seed_is_a_seed_whose_draws_are_judged(compare, runs, seeds):
    done = compare(runs.a, runs.b, "--seeds", seeds[1], only=("index",))
    drawn = {(c["quantity"], c["item"]) for c in done.json["checks"] if c["item"].startswith("seed ")}
    assert done.code == 0 and done.json["end_to_end"]["seeds"] == 1
    assert drawn == {(quantity, f"seed 1 of {side}") for quantity in ("initial_p", "initial_bias") for side in "ab"}
    assert [run["path"] for run in done.json["runs"]["seeds_b"]] == [str(seeds[1] / "b")]
    write_stage(RunFolder(seeds[1] / "b"), "transfer", {("transfer", "fc2_bias_initial"): lambda b: b + 1})
    feed(seeds[1] / "b")
    done = compare(runs.a, runs.b, "--seeds", seeds[1], only=("index",))
    bad = [(c["stage"], c["quantity"], c["item"]) for c in done.json["checks"] if not c["agrees"]]
    assert done.code == 1 and bad == [("end_to_end", "initial_bias", "seed 1 of b")]


def test_without_seeds_a_map_far_off_fails_though_run_b_drew_its_own(compare, runs):
    write_stage(RunFolder(runs.b), "transfer", drew_itself=True)
    perfect = LABELS_TEST + np.linspace(0, 0.01, LABELS_TEST.size).reshape(LABELS_TEST.shape)
    score(runs.a, ours=perfect)
    score(runs.b, ours=-perfect)
    done = compare(runs.a, runs.b, only=("metrics",))
    bad = [(c["stage"], c["quantity"], c["item"]) for c in done.json["checks"] if not c["agrees"]]
    assert done.code == 1 and bad == [("end_to_end", "farthest_seed", "ours")]


def test_without_seeds_the_pair_stands_for_one(compare, runs):
    done = compare(runs.a, runs.b, only=("index",))
    assert done.json["end_to_end"]["seeds"] == 1 and "1 seed a side" in done.out
    assert all(found["spread"] is None for rows in done.json["end_to_end"]["map"].values() for found in rows.values())


def test_seeds_that_are_not_there_could_not_be_compared(compare, runs, seeds, tmp_path):
    one_line(compare(runs.a, runs.b, "--seeds", tmp_path / "nowhere"), "is not named by its seed")
    one_line(compare(runs.a, runs.b, "--seeds", tmp_path / "3"), str(tmp_path / "3" / "a"), "make seeds")
    one_line(compare(runs.a, runs.b, "--seeds", *seeds, seeds[0]), "names a seed twice")
    one_line(compare(runs.a, runs.b, "--seeds", *seeds, seeds[0].with_name("01")), "is not named by its seed")
    (tmp_path / "seeds" / "3").symlink_to(seeds[0])
    one_line(compare(runs.a, runs.b, "--seeds", *seeds, tmp_path / "seeds" / "3"), "names a seed twice")
    shutil.rmtree(seeds[1] / "b")
    one_line(compare(runs.a, runs.b, "--seeds", *seeds), str(seeds[1] / "b"), "make seeds", f"or delete {seeds[1]})")


# ---------------------------------------------------------------- what could not be compared


def test_a_run_is_not_compared_with_itself(compare, runs, tmp_path):
    (tmp_path / "link").symlink_to(runs.a)
    for same in (runs.a, tmp_path / "link", runs.b / ".." / "a"):
        one_line(compare(runs.a, same), f"{runs.a} would be compared with itself: name two runs")


@pytest.mark.parametrize("gone", ["a", "b", "isolated"])
def test_a_missing_run_could_not_be_compared(compare, runs, gone):
    shutil.rmtree(getattr(runs, gone))
    one_line(compare(runs.a, runs.b, "--isolated", runs.isolated), f"/{gone} is no run")


@pytest.mark.parametrize("gone", ["a", "b", "isolated"])
def test_an_unfinished_run_could_not_be_compared(compare, runs, gone):
    (own(getattr(runs, gone), "transfer").stage_path("transfer") / "manifest.json").unlink()
    one_line(compare(runs.a, runs.b, "--isolated", runs.isolated), "06-transfer is unfinished", f"/{gone}/")


@pytest.mark.parametrize("side", ["a", "b", "isolated"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda spec: spec["values"]["svm"].update(x=2), "svm"),
        (lambda spec: spec["values"]["run"].update(seed=8), "run"),
        (lambda spec: spec["values"].update(more={"z": 1}), "spec.more.z"),
        (lambda spec: spec["values"]["transfer"].pop("snapshots"), "transfer"),
        (lambda spec: spec["prototxt"].update({"solver.prototxt": "1" * 64}), "solver.prototxt"),
        (lambda spec: spec["external"]["devkit"]["content"].update(JPEGImages="1"), "devkit.JPEGImages"),
    ],
)
def test_runs_that_were_asked_for_different_things_could_not_be_compared(compare, runs, side, change, said):
    change_spec(getattr(runs, side), change)
    one_line(compare(runs.a, runs.b, "--isolated", runs.isolated), said, f"/{side}")


def test_a_stage_that_is_older_than_the_specification_could_not_be_compared(compare, runs):
    for run in (runs.a, runs.b):
        change_spec(run, lambda spec: spec["values"]["svm"].update(x=2))
    write_stage(RunFolder(runs.a), "svm")
    one_line(compare(runs.a, runs.b), "08-svm", "/b/", "older")


def test_runs_of_different_photographs_could_not_be_compared(compare, runs):
    write_stage(RunFolder(runs.b), "index", {("index", "image_sha256"): lambda d: {**d, "test001": "9" * 64}})
    one_line(compare(runs.a, runs.b), "image test001 is another file", "DEVKIT")


def test_a_run_that_was_not_fed_by_run_a_is_not_isolated(compare, runs):
    write_stage(RunFolder(runs.a), "features", {("features", "hr_test"): moved(1e-6)})
    feed(runs.a)
    one_line(compare(runs.a, runs.b, "--isolated", runs.isolated), "not fed by", "04-clusters", "/isolated/")


@pytest.mark.parametrize("side", ["a", "b"])
def test_run_a_and_run_b_were_fed_by_themselves(compare, runs, side):
    write_stage(RunFolder(getattr(runs, side)), "features", {("features", "hr_test"): moved(1e-6)})
    one_line(compare(runs.a, runs.b), "not fed by", "04-clusters", f"/{side}/")


# An option and the template that it is given.
FED = [("--isolated", "isolated"), ("--reference", "reference"), ("--varied-a", "batch"), ("--varied-b", "threads")]


@pytest.fixture
def given(runs, templates, compare, tmp_path):
    """`given(option, name, stage, change)`: a comparison that gets, among others, a run whose key parts are changed."""

    def run(option, name, stage, change):
        if option != "--isolated":
            link_run(templates[name], tmp_path / name)
        change_parts(tmp_path / name, stage, change)
        reference = ["--reference", templates["reference"]] if option.startswith("--varied") else []
        more = [] if option == "--isolated" else [option, tmp_path / name]
        return compare(runs.a, runs.b, "--isolated", runs.isolated, *reference, *more)

    return run


@pytest.mark.parametrize("digest", [None, "0" * 64])
@pytest.mark.parametrize(("option", "name"), FED)
def test_a_run_that_did_not_start_from_run_as_draws_says_nothing(given, runs, tmp_path, option, name, digest):
    done = given(option, name, "resnet101", lambda parts: parts["draws"].update(weights=digest))
    told = "--varied-a and --varied-b" if option.startswith("--varied") else option
    one_line(done, f"{tmp_path / name}/10-resnet101 did not start from what {runs.a}/10-resnet101 drew, as {told} must")


@pytest.mark.parametrize(("option", "name"), [pair for pair in FED if pair[1] != "batch"])
def test_a_run_that_went_on_from_other_snapshots_says_nothing(given, runs, tmp_path, option, name):
    done = given(option, name, "transfer", lambda parts: parts.update(forced="0" * 64))
    one_line(done, f"{tmp_path / name}/06-transfer did not start from what {runs.a}/06-transfer drew")


@pytest.mark.parametrize("part", ["variation", "draws", "inputs", "forced", "versions"])
@pytest.mark.parametrize(("option", "name"), FED)
def test_a_run_of_another_version_is_told_so(given, tmp_path, option, name, part):
    done = given(option, name, "features", lambda parts: parts.pop(part))
    one_line(done, f"{tmp_path / name}/03-features/manifest.json was made by another version: run this side again")


@pytest.mark.parametrize("part", ["code", "versions"])
@pytest.mark.parametrize(
    ("option", "name", "like"),
    [("--isolated", "isolated", "b"), ("--reference", "reference", "isolated"), ("--varied-a", "batch", "a"),
     ("--varied-b", "threads", "isolated")],
)  # fmt: skip
def test_a_run_says_nothing_of_one_that_another_program_made(
    compare, runs, templates, tmp_path, option, name, like, part
):
    if option != "--isolated":
        link_run(templates[name], tmp_path / name)
    change_parts(tmp_path / name, "transfer_features" if name == "batch" else "transfer",
                 lambda parts: parts.update({part: {"module.py": "another"}}))  # fmt: skip
    given = ["--isolated", runs.isolated]
    if option != "--isolated":
        given += ["--reference", templates["reference"]] * (option != "--reference") + [option, tmp_path / name]
    one_line(compare(runs.a, runs.b, *given), f"/{name}/", f"is of other {part} than", f"/{like}/")


def test_an_isolated_run_is_of_run_bs_side(compare, runs, tmp_path):
    other = write_run(tmp_path / "other", fed_by=RunFolder(runs.a), side="caffe")
    one_line(compare(runs.a, runs.b, "--isolated", other.path), str(other.path), "is of other side than")


def test_options_need_the_ones_that_they_build_on(compare, runs, tmp_path):
    one_line(compare(runs.a, runs.b, "--reference", tmp_path), "--reference needs --isolated")
    for option in ("--varied-a", "--varied-b"):
        one_line(compare(runs.a, runs.b, option, tmp_path), "need --reference")
        one_line(compare(runs.a, runs.b, "--isolated", runs.isolated, option, tmp_path), "need --reference")


@pytest.fixture
def refused(runs, templates, compare, tmp_path):
    """`refused(option, path)`: what is said where a calibrated comparison is given that path besides."""
    link_run(templates["reference"], tmp_path / "reference")

    def run(option, path):
        reference = [] if option == "--reference" else ["--reference", tmp_path / "reference"]
        done = compare(runs.a, runs.b, "--isolated", runs.isolated, *reference, option, path)
        one_line(done)
        return done.err

    return run


@pytest.mark.parametrize(
    ("option", "side", "variation"), [("--varied-a", "torch", "layout"), ("--varied-b", "caffe", "last-bit")]
)
def test_a_floor_is_of_its_own_side(refused, runs, tmp_path, option, side, variation):
    path = write_varied(tmp_path / "floor", runs.a, side, variation)
    message = refused(option, path)
    assert f"{path} is of side {side}" in message and "swap them" in message


@pytest.mark.parametrize(("option", "name"), [("--varied-a", "a"), ("--varied-b", "b"), ("--varied-b", "isolated"),
                                              ("--varied-b", "reference")])  # fmt: skip
def test_a_run_that_was_not_varied_or_is_the_reference_is_no_floor(refused, tmp_path, option, name):
    assert f"{tmp_path / name} is no run with --vary" in refused(option, tmp_path / name)


@pytest.mark.parametrize(("option", "side"), [("--varied-a", "caffe"), ("--varied-b", "torch")])
def test_with_the_same_number_of_threads_there_is_no_floor(refused, runs, tmp_path, option, side):
    path = write_varied(tmp_path / "floor", runs.a, side, "threads", threads=2)
    assert f"{path} had as many threads" in refused(option, path)


@pytest.mark.parametrize(
    ("option", "side", "variation"), [("--varied-a", "caffe", "threads"), ("--varied-b", "torch", "layout")]
)
def test_a_floor_or_reference_that_was_not_fed_by_run_a_is_refused(refused, runs, tmp_path, option, side, variation):
    other = write_run(tmp_path / "other", {("images", "hr_test"): shift}, side=side)
    path = write_varied(tmp_path / "floor", other.path, side, variation)
    message = refused(option, path)
    assert f"{path}/03-features was not fed by {runs.a}/02-images" in message
    path = write_varied(tmp_path / "other-reference", other.path, "torch", "reference")
    assert f"{path}/03-features was not fed by {runs.a}/02-images" in refused("--reference", path)


def test_a_floor_of_another_specification_is_refused(refused, runs, tmp_path):
    path = write_varied(tmp_path / "floor", runs.a, "caffe", "batch")
    change_spec(path, lambda spec: spec["values"]["compare"].update(margin=2.0))
    assert "spec.compare.margin" in refused("--varied-a", path)


def test_a_floor_without_all_stages_of_its_variation_is_refused(refused, runs, tmp_path):
    path = write_varied(tmp_path / "floor", runs.a, "torch", "layout")
    shutil.rmtree(path / "10-resnet101")
    assert f"{path}/10-resnet101 is unfinished" in refused("--varied-b", path)
    shutil.rmtree(path / "03-features")
    assert f"{path} has no finished stage" in refused("--varied-b", path)


def test_only_a_run_in_float64_is_a_reference_and_it_is_nothing_else(refused, compare, runs, tmp_path):
    assert "is not varied, where --reference needs one that is reference" in refused("--reference", runs.isolated)
    done = compare(runs.a, runs.b, "--isolated", tmp_path / "reference")
    one_line(done, "is reference, where --isolated needs one that is not varied")


def test_an_earlier_verdict_does_not_outlive_a_comparison_that_could_not_be_made(compare, runs, tmp_path):
    assert compare(runs.a, runs.b, "--junit", tmp_path / "compare.xml", only=("index",)).json["agrees"]
    shutil.rmtree(runs.b)
    one_line(compare(runs.a, runs.b, "--junit", tmp_path / "compare.xml"))
    assert not (tmp_path / "compare.xml").exists()


def test_malformed_tolerances_could_not_be_compared(compare, runs, tmp_path):
    (tmp_path / "mine.toml").write_text('k = 3.0\nk_reason = "because"\nsvm = 1')
    one_line(compare(runs.a, runs.b, "--tolerances", tmp_path / "mine.toml"), "mine.toml")


def test_other_tolerances_judge_otherwise(compare, runs, tmp_path):
    write_stage(RunFolder(runs.b), "clusters", {("clusters", "centroids"): moved(0.5)})
    feed(runs.b)
    text = (PROJECT / "compare" / "tolerances.toml").read_text()
    mine = text.replace("[clusters.relative_l2]", "[clusters.relative_l2]\nchained = 0.1")
    (tmp_path / "mine.toml").write_text(mine)
    assert compare(runs.a, runs.b, "--tolerances", tmp_path / "mine.toml", only=("clusters",)).code == 1


@pytest.mark.parametrize("text", ["", "mine", '{"agrees": true}', "<testsuite/>"])
@pytest.mark.parametrize("option", ["--json", "--junit"])
def test_a_file_that_this_command_did_not_write_is_not_touched(tmp_path, option, text):
    path = tmp_path / "notes"
    path.write_text(text)
    with pytest.raises(UserError, match=f"{option} .*notes is there and was not written by this command"):
        command.make_way(option, path)
    assert path.read_text() == text


@pytest.mark.parametrize("option", ["--json", "--junit"])
def test_what_is_no_file_of_its_own_makes_no_way(tmp_path, option):
    (tmp_path / "null").symlink_to(os.devnull)
    os.mkfifo(tmp_path / "fifo")  # which nobody writes to: it is not even opened
    for path in (tmp_path / "null", tmp_path / "fifo"):
        with pytest.raises(UserError, match=f"{option} {path} is there and was not written by this command"):
            command.make_way(option, path)
        assert path.exists()
    with pytest.raises(UserError, match="is a folder"):
        command.make_way(option, tmp_path)


OTHERS = ["docs/compare.schema.json", "docs/selftest.json", "embedded/backbone.json", "compare/tolerances.toml"]


@pytest.mark.parametrize("option", ["--json", "--junit"])
def test_the_projects_other_files_and_a_runs_own_are_not_touched(runs, tmp_path, option):
    files = [PROJECT / name for name in OTHERS] + sorted((PROJECT / "docs" / "results").glob("*.json"))
    files += [runs.a / "spec.json", runs.a / "01-index" / MANIFEST, runs.a / "09-metrics" / "metrics.json"]
    for file in files:
        copy = Path(shutil.copyfile(file, tmp_path / "copy"))
        with pytest.raises(UserError, match="was not written by this command"):
            command.make_way(option, copy)
        assert copy.read_bytes() == file.read_bytes()


def test_the_verdict_and_its_junit_file_are_two_files(compare, runs, tmp_path, monkeypatch):
    compare(runs.a, runs.b, only=("index",))
    before = (tmp_path / "compare.json").read_text()
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "compare.json", "compare.json"):
        done = compare(runs.a, runs.b, "--junit", path, only=("index",))
        assert done.code == 2 and "both name" in done.err and (tmp_path / "compare.json").read_text() == before


def test_a_comparison_that_would_delete_another_file_is_not_made(compare, runs, tmp_path):
    (tmp_path / "notes").write_text("mine")
    one_line(compare(runs.a, runs.b, "--junit", tmp_path / "notes"), "was not written by this command")


@pytest.mark.parametrize("option", ["--json", "--junit"])
def test_a_verdict_that_this_command_wrote_makes_way_for_the_next(compare, runs, tmp_path, option):
    paths = {"--json": tmp_path / "compare.json", "--junit": tmp_path / "compare.xml"}
    assert compare(runs.a, runs.b, "--junit", paths["--junit"], only=("index",)).code == 0
    command.make_way(option, paths[option])
    assert not paths[option].exists()
    command.make_way(option, paths[option])  # where there is none
    with pytest.raises(UserError, match="was not written"):
        command.make_way(option, next(path for other, path in paths.items() if other != option))


@pytest.mark.parametrize("option", ["--json", "--junit"])
def test_a_verdict_that_cannot_be_written_could_not_be_compared(compare, runs, tmp_path, option):
    nowhere = tmp_path / "nowhere" / "out"
    more = {"target": nowhere} if option == "--json" else {}
    one_line(compare(runs.a, runs.b, *(["--junit", nowhere] if not more else []), **more), "nowhere", option)


@pytest.mark.parametrize(("code", "case"), [(1, "changed"), (2, "gone")])
def test_the_command_line_itself_ends_so(runs, tmp_path, code, case):
    if case == "changed":
        write_stage(RunFolder(runs.b), "index", {("index", "classes"): lambda names: names[::-1]})
        feed(runs.b)
    if case == "gone":
        shutil.rmtree(runs.b)
    line = [sys.executable, "-m", "compare", str(runs.a), str(runs.b), "--json", str(tmp_path / "c.json")]
    done = subprocess.run(line, cwd=PROJECT, capture_output=True, text=True, env={**os.environ, "TERM": "dumb"})
    assert done.returncode == code and "Traceback" not in done.stderr
    assert (tmp_path / "c.json").is_file() == (code != 2)
    if code == 2:
        assert done.stderr.count("\n") == 1
