"""`python -m compare`: exit codes, the sentence and compare.json."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_pair import MISSING, write_run, write_stage

from experiment.artifacts import RunFolder, sha256_json, write_json
from experiment.stages import STAGES

PROJECT = Path(__file__).resolve().parents[2]


def shift(array: np.ndarray) -> np.ndarray:
    return array + array.dtype.type(1)


def test_equal_runs_agree(compare, runs):
    done = compare(runs.a, runs.b, "--isolated", runs.isolated)
    assert done.code == 0 and done.json["agrees"] is True
    assert done.json["first_departure"] == {"isolated": None, "chained": None}
    assert done.out.splitlines()[-1] == done.json["sentence"]
    judged = [check for check in done.json["checks"] if check["allowed"] is not None]
    assert done.json["sentence"] == f"agree: {len(judged)} judged checks are within their tolerances"
    assert {check["stage"] for check in judged if check["mode"] == "isolated"} == set(STAGES)
    assert done.json["map_11point"] == {
        side: {row: 0.5 for row in ("baseline_hr", "baseline_lr", "ours")} for side in "ab"
    }


def test_the_chained_runs_alone_can_be_compared(compare, runs):
    done = compare(runs.a, runs.b)
    (check,) = [c for c in done.json["checks"] if c["item"] == "ours 11point" and c["quantity"] == "ap"]
    assert check["numbers"]["a"] == check["numbers"]["b"] == {"bird": 0.5, "cat": 0.25, "train": 0.75}
    assert done.code == 0 and {check["mode"] for check in done.json["checks"]} == {"chained"}


def test_the_first_departure_of_each_mode_is_named_in_forward_order(compare, runs):
    write_stage(
        RunFolder(runs.isolated), "features", {("features", "blobs/001-conv1"): shift, ("features", "hr_test"): shift}
    )
    write_stage(RunFolder(runs.isolated), "svm", {("svm", "ours"): shift})
    write_stage(
        RunFolder(runs.b), "metrics", {("metrics", "metrics"): lambda m: {**m, "ours": {**m["ours"], "map_area": 0.9}}}
    )
    done = compare(runs.a, runs.b, "--isolated", runs.isolated)
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
        ("features", "blob conv1"), ("features", "hr_test"), ("svm", "ours"), ("metrics", "ours area"),
    }  # fmt: skip
    assert done.json["sentence"].startswith(f"differ: {len(failed)} of ")
    assert done.out.count("DIFFERS") == 4


def test_what_is_only_shown_does_not_decide(compare, runs):
    write_stage(RunFolder(runs.b), "clusters", {("clusters", "centroids"): shift})
    done = compare(runs.a, runs.b)
    assert done.code == 0
    (check,) = [c for c in done.json["checks"] if c["stage"] == "clusters" and c["item"] == "centroids"]
    assert check["value"] > 0.1 and check["allowed"] is None


def moved(array: np.ndarray, by: float) -> np.ndarray:
    return array * np.float32(1 + by)


@pytest.mark.parametrize(("floor", "code"), [(0.0, 1), (0.004, 1), (0.006, 0)])
def test_the_floor_shows_how_much_of_a_difference_is_grown_rounding(compare, runs, tmp_path, floor, code):
    write_stage(RunFolder(runs.isolated), "transfer", {("transfer", "fc1_weight"): lambda w: moved(w, 0.01)})
    write_run(tmp_path / "floor", {("transfer", "fc1_weight"): lambda w: moved(w, floor)}, floor=True)
    done = compare(runs.a, runs.b, "--isolated", runs.isolated, "--floor", tmp_path / "floor")
    (check,) = [c for c in done.json["checks"] if c["item"] == "fc1_weight" and c["mode"] == "isolated"]
    assert done.code == code and check["agrees"] is (code == 0)
    assert check["numbers"]["floor"] == pytest.approx(floor, rel=1e-3)
    assert check["value"] == pytest.approx(0.01, rel=1e-3)
    assert check["allowed"] == pytest.approx(max(1e-3, 2 * check["numbers"]["floor"]))


@pytest.mark.parametrize("spoil", [lambda w: w[:-1], lambda w: w * np.float32(np.nan), lambda w: MISSING])
def test_a_floor_that_does_not_fit_is_never_agreement(compare, runs, tmp_path, spoil):
    write_run(tmp_path / "floor", {("transfer", "fc2_bias"): spoil}, floor=True)
    done = compare(runs.a, runs.b, "--isolated", runs.isolated, "--floor", tmp_path / "floor")
    assert done.code == 1 and done.json["first_departure"]["isolated"]["stage"] == "transfer"


def test_a_floor_is_not_taken_for_a_run_nor_a_run_for_a_floor(compare, runs, tmp_path):
    write_run(tmp_path / "floor", floor=True)
    one_line(compare(runs.a, runs.b, "--isolated", runs.isolated, "--floor", runs.b), "is no floor", "/b/")
    one_line(compare(runs.a, runs.b, "--isolated", tmp_path / "floor"), "is a floor", "/floor/")


def test_a_run_that_was_not_fed_by_run_a_is_not_isolated(compare, runs):
    outputs = RunFolder(runs.a).require_manifest("features")["outputs"]
    digest = sha256_json({name: entry["sha256"] for name, entry in outputs.items()})
    write_stage(RunFolder(runs.isolated), "clusters", inputs={"features": digest})
    assert compare(runs.a, runs.b, "--isolated", runs.isolated).code == 0
    write_stage(RunFolder(runs.a), "features", {("features", "hr_test"): lambda f: moved(f, 1e-6)})
    one_line(compare(runs.a, runs.b, "--isolated", runs.isolated), "not fed by", "04-clusters")


@pytest.mark.parametrize("stage", ["index", "transfer", "metrics"])
def test_a_missing_artifact_is_in_the_report(compare, runs, stage):
    name = next(iter(RunFolder(runs.b).require_manifest(stage)["outputs"]))
    write_stage(RunFolder(runs.b), stage, {(stage, name): lambda _: MISSING})
    done = compare(runs.a, runs.b)
    assert done.code == 1
    assert done.json["first_departure"]["chained"]["stage"] == stage
    assert done.json["first_departure"]["chained"]["value"] == "nan"
    if stage == "metrics":
        assert done.json["map_11point"]["b"] is None


def test_infinite_and_missing_values_are_written_as_json(compare, runs):
    write_stage(RunFolder(runs.a), "transfer", {("transfer", "fc1_bias"): np.zeros_like})
    done = compare(runs.a, runs.b, "--isolated", runs.isolated)  # the fixture's parser refuses NaN and Infinity
    first = done.json["first_departure"]["isolated"]
    assert (first["item"], first["value"], first["numbers"]["relative_l2"]) == ("fc1_bias", "inf", "inf")


def one_line(done, *said: str) -> None:
    assert done.code == 2 and done.out == "" and done.json is None
    assert done.err.startswith("error: ") and done.err.count("\n") == 1
    assert all(text in done.err for text in said)


@pytest.mark.parametrize("gone", ["a", "b", "isolated"])
def test_a_missing_run_could_not_be_compared(compare, runs, gone):
    shutil.rmtree(getattr(runs, gone))
    one_line(compare(runs.a, runs.b, "--isolated", runs.isolated), "spec.json is missing", f"/{gone}/")


@pytest.mark.parametrize("gone", ["a", "b", "isolated"])
def test_an_unfinished_run_could_not_be_compared(compare, runs, gone):
    (getattr(runs, gone) / "06-transfer" / "manifest.json").unlink()
    one_line(compare(runs.a, runs.b, "--isolated", runs.isolated), "06-transfer is unfinished", f"/{gone}/")


def change_spec(run: Path, change) -> None:
    spec = json.loads((run / "spec.json").read_text())
    change(spec)
    spec["sha256"] = sha256_json(spec["values"])
    write_json(run / "spec.json", spec)


@pytest.mark.parametrize("side", ["a", "b", "isolated"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda spec: spec["values"]["svm"].update(x=2), "svm.x"),
        (lambda spec: spec["values"]["svm"].update(y=2), "svm.y"),
        (lambda spec: spec["values"].update(more={"z": 1}), "more.z"),
        (lambda spec: spec["values"]["transfer"].pop("snapshots"), "transfer.snapshots"),
        (lambda spec: spec["prototxt"].update({"solver.prototxt": "1" * 64}), "prototxts"),
    ],
)
def test_runs_of_different_specifications_could_not_be_compared(compare, runs, side, change, said):
    change_spec(getattr(runs, side), change)
    one_line(compare(runs.a, runs.b, "--isolated", runs.isolated), said, "not comparable")


def test_a_stage_that_is_older_than_the_specification_could_not_be_compared(compare, runs):
    for run in (runs.a, runs.b):
        change_spec(run, lambda spec: spec["values"]["svm"].update(x=2))
    write_stage(RunFolder(runs.a), "svm")
    one_line(compare(runs.a, runs.b), "08-svm", "/b/", "older")


def test_an_earlier_verdict_does_not_outlive_a_comparison_that_could_not_be_made(compare, runs):
    assert compare(runs.a, runs.b).json["agrees"]
    shutil.rmtree(runs.b)
    one_line(compare(runs.a, runs.b))


def test_malformed_tolerances_could_not_be_compared(compare, runs, tmp_path):
    (tmp_path / "mine.toml").write_text("svm = 1")
    one_line(compare(runs.a, runs.b, "--tolerances", tmp_path / "mine.toml"), "mine.toml")


def test_a_verdict_that_cannot_be_written_could_not_be_compared(compare, runs, tmp_path):
    done = compare(runs.a, runs.b, target=tmp_path / "nowhere" / "compare.json")
    one_line(done, "nowhere")


@pytest.mark.parametrize(("code", "case"), [(0, "equal"), (1, "changed"), (2, "gone")])
def test_the_command_line_itself_ends_so(runs, tmp_path, code, case):
    if case == "changed":
        write_stage(RunFolder(runs.b), "index", {("index", "classes"): lambda names: names[::-1]})
    if case == "gone":
        shutil.rmtree(runs.b)
    command = [sys.executable, "-m", "compare", str(runs.a), str(runs.b), "--json", str(tmp_path / "c.json")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, env={**os.environ, "TERM": "dumb"})
    assert done.returncode == code and "Traceback" not in done.stderr
    assert (tmp_path / "c.json").is_file() == (code != 2)
    if code == 2:
        assert done.stderr.count("\n") == 1
