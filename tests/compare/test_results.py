"""The README's figures: taken from a finished comparison, written between their marks, and found stale."""

import hashlib
import json
import math
import sys

import pytest
from fake_pair import link_run, write_stage

from compare import results
from compare.check import SCHEMA_VERSION, TOLERANCES, read_tolerances
from compare.end_to_end import LEAST_SEEDS
from compare.pair import stage_digests
from compare.results import (
    AGREEMENT,
    NEEDED,
    agreement_table,
    backbone_text,
    end_to_end_table,
    map_table,
    measured,
    selftest_table,
    with_blocks,
)
from experiment.artifacts import RunFolder, read_json, sha256_json
from experiment.errors import UserError
from experiment.spec import read_profile
from experiment.stages import ROWS

TOLERANCES_SHA256 = hashlib.sha256(TOLERANCES.read_bytes()).hexdigest()


def check(value, mode="isolated", bound="<=", quantity="relative_l2", item="x", ratio=None):
    return {"stage": "svm", "quantity": quantity, "mode": mode, "bound": bound, "value": value, "allowed": 1.0,
            "item": item, "calibration": None if ratio is None else {"ratio": ratio}}  # fmt: skip


def test_the_worst_value_of_each_quantity_and_mode_is_kept():
    checks = [check(0.1), check(0.3, item="y"), check(0.2), check(5.0, mode="chained"),
              check(0.9, bound=">=", quantity="agreement"), check(0.7, bound=">=", quantity="agreement"),
              check(0.8, bound=">=", quantity="agreement")]  # fmt: skip
    found = measured(checks)
    assert found["svm.relative_l2"]["isolated"] == {"value": 0.3, "allowed": 1.0, "item": "y"}
    assert found["svm.relative_l2"]["chained"]["value"] == 5.0
    assert found["svm.agreement"]["isolated"]["value"] == 0.7


@pytest.mark.parametrize(
    ("ratios", "worst"), [((1.5, 2.5, 0.5), 2.5), ((1.5, "inf"), "inf"), (("nan", "inf", 9.0), "nan")]
)
def test_the_most_noise_floors_of_each_quantity_are_kept(ratios, worst):
    checks = [check(0.1, ratio=ratio, item=f"{ratio}") for ratio in ratios]
    assert measured([*checks, check(9.0)])["svm.relative_l2"]["floors"] == {"ratio": worst, "item": f"{worst}"}


@pytest.mark.parametrize("values", [(0.1, "nan"), ("nan", 0.1), ("nan", "inf")])
def test_what_is_no_number_is_the_worst(values):
    assert math.isnan(float(measured([check(value) for value in values])["svm.relative_l2"]["isolated"]["value"]))


def a_result(**changes):
    row = {"ap_11point": [0.5], "ap_area": [0.4], "map_11point": 0.51234, "map_area": 0.4}
    bounds = read_tolerances(TOLERANCES).bounds

    def modes(quantity):
        allowed = {"isolated": bounds[quantity].isolated, "chained": bounds[quantity].chained}
        return {mode: {"value": 1.5e-7, "allowed": bound, "item": "x"} for mode, bound in allowed.items()}

    judged = {"difference": 1.5, "overall": {"interval_95": [-0.25, 3.25], "verdict": "undecided"}, "certain": True}
    sides = {row: {"mean": 20.0, "spread": 1.25, "seeds": [19.0, 21.0]} for row in ROWS}
    end_to_end = {
        "seeds": 2, "map": {"a": sides, "b": sides}, "a_minus_b": dict.fromkeys(ROWS, judged),
        "ours_minus_baseline_lr": {"a": judged, "b": {**judged, "overall": {"interval_95": [0.5, 2.5]}}},
    }  # fmt: skip
    floors = {"ratio": 1.25, "item": "x"}
    return {
        "profile": "embedded", "spec_sha256": sha256_json(read_profile("embedded")[0]), "agrees": True,
        "tolerances_sha256": TOLERANCES_SHA256,
        "sentence": "agree: 3 judged checks", "images": {"trainval": 400, "test": 300}, "end_to_end": end_to_end,
        "map": {side: dict.fromkeys(ROWS, row) for side in ("caffe", "torch")},
        "measured": {quantity: {"bound": "<=", "floors": floors, **modes(quantity)} for quantity in AGREEMENT},
        **changes,
    }  # fmt: skip


def test_the_tables_hold_every_row_and_every_quantity():
    text = map_table({"mine": a_result()})
    assert text.count("| 51.23 | 51.23 | 40.00 | 40.00 |") == len(ROWS) and "mine (400 trainval, 300 test)" in text
    text = agreement_table({"mine": a_result()})
    assert text.count(" | 1.5e-07 | 1.5e-07 | 1.2 |") == len(AGREEMENT) and "agree: 3 judged checks" in text
    assert "| features, worst image, relative L2 | <= 1e-05 |" in text
    text = end_to_end_table({"mine": a_result()})
    assert text.count("| 20.00 ± 1.25 | 20.00 ± 1.25 | +1.50 | [-0.25, +3.25] | undecided |") == len(ROWS)
    assert "Ours minus Baseline-LR, Caffe |  |  | +1.50 | [-0.25, +3.25] | undecided |" in text
    assert "Ours minus Baseline-LR, port |  |  | +1.50 | [+0.50, +2.50] | gain |" in text
    assert "mine, 2 seeds a side" in text


def a_row(name, harmful, expected, found):
    return {"name": name, "harmful": harmful, "caught": bool(found), "expected": expected, "found": found}


def test_the_self_tests_table_hides_nothing():
    rows = [a_row("one", True, "svm ours", "svm ours"), a_row("two", True, "svm ours", "metrics ours"),
            a_row("three", True, "svm ours", ""), a_row("four", False, "", ""),
            a_row("five", False, "", "svm ours")]  # fmt: skip
    text = selftest_table({"rows": rows})
    assert "2 of 3 mistakes are caught, 1 located where they are; 1 of 2 harmless changes pass." in text
    assert "| one | svm ours |" in text and "| two | **metrics ours**, expected svm ours |" in text
    assert "| three | **not caught**, expected svm ours |" in text
    assert "| four | passes |" in text and "| five | **flagged** at svm ours |" in text


def test_a_block_is_replaced_between_its_marks_and_only_there():
    text = "a\n<!-- x: written by `make results` -->\nold\n<!-- end of x -->\nb\n"
    written = with_blocks(text, {"x": "new \\1\n"})
    assert written == text.replace("old", "new \\1") and with_blocks(written, {"x": "new \\1\n"}) == written
    for broken in (text.replace("end of x", "end"), text + text, ""):
        with pytest.raises(UserError, match="lost the two lines"):
            with_blocks(broken, {"x": "new\n"})


def test_the_backbone_is_described_by_its_record():
    text = backbone_text(json.loads(results.BACKBONE.read_text()))
    record = json.loads(results.BACKBONE.read_text())
    assert record["caffemodel"]["sha256"] in text and record["command"] in text
    assert f"{100 * record['accuracy']['hr']['correct'] / 600:.1f} %" in text


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A README with empty blocks and one result; `run(*arguments)` is the command line."""
    (tmp_path / "results").mkdir()
    blocks = (f"<!-- {name}: written by `make results` -->\n<!-- end of {name} -->\n"
              for name in ("results", "agreement", "end-to-end", "selftest", "backbone"))  # fmt: skip
    (tmp_path / "README.md").write_text("".join(blocks))
    (tmp_path / "results" / "mine.json").write_text(json.dumps(a_result()))
    monkeypatch.setattr(results, "README", tmp_path / "README.md")
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(results, "SELFTEST", tmp_path / "selftest.json")
    (tmp_path / "selftest.json").write_text(json.dumps({"rows": [a_row("one", True, "svm ours", "svm ours")]}))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["results", *arguments])
        return results.main()

    return tmp_path, run


def test_stale_figures_are_found(project, capsys):
    folder, run = project
    assert run("--check") == 1 and "README.md" in capsys.readouterr().err
    assert run() == 0 and run("--check") == 0
    changed = a_result(
        map={side: dict.fromkeys(ROWS, {"map_11point": 0.1, "map_area": 0.1}) for side in ("caffe", "torch")}
    )
    (folder / "results" / "mine.json").write_text(json.dumps(changed))
    assert run("--check") == 1
    for stale in ("spec_sha256", "tolerances_sha256"):
        (folder / "results" / "mine.json").write_text(json.dumps(a_result(**{stale: "0" * 64})))
        assert run("--check") == 1
        assert "mine.json is of another specification or other tolerances" in capsys.readouterr().err


def test_a_self_tests_record_is_taken_over(project, tmp_path):
    folder, run = project
    (tmp_path / "new.json").write_text(json.dumps({"rows": [a_row("another", True, "svm ours", "svm ours")]}))
    assert run("--selftest", str(tmp_path / "new.json")) == 0
    assert "| another | svm ours |" in (folder / "README.md").read_text() and run("--check") == 0


@pytest.fixture
def comparison(tmp_path, templates):
    """`comparison(change)`: the folder of a finished comparison, as `make seeds compare` leaves it, and a change of it.

    change : of compare.json's value, in place.
    """
    folders = {"a": ["caffe"], "b": ["torch"],
               **{name: [f"more/{name}-{i}" for i in range(count)] for name, count in NEEDED.items()}}  # fmt: skip

    def write(change=lambda result: None):
        runs = {name: [link_run(templates["caffe"], tmp_path / path) for path in paths]
                for name, paths in folders.items()}  # fmt: skip
        for path in (*runs["seeds_a"], *runs["seeds_b"]):
            (path / "10-resnet101").unlink()
        result = {"schema_version": SCHEMA_VERSION, "tolerances_sha256": TOLERANCES_SHA256,
                  "runs": {name: [{"path": str(path), "stages": stage_digests(RunFolder(path))} for path in paths]
                           for name, paths in runs.items()},
                  "subject": {"profile": "toy", "weights": "drawn"},
                  "end_to_end": {"seeds": LEAST_SEEDS}, "agrees": True, "sentence": "agree", "k": 3.0,
                  "checks": []}  # fmt: skip
        change(result)
        (tmp_path / "compare.json").write_text(json.dumps(result))
        return tmp_path

    return write


def test_a_finished_comparison_is_taken(project, comparison):
    folder, _ = project
    results.take("toy", comparison())
    taken = json.loads((folder / "results" / "toy.json").read_text())
    assert taken["end_to_end"] == {"seeds": LEAST_SEEDS} and taken["tolerances_sha256"] == TOLERANCES_SHA256


def not_taken(project, run) -> str:
    with pytest.raises(UserError) as caught:
        results.take("toy", run)
    assert not (project[0] / "results" / "toy.json").exists()
    return str(caught.value)


@pytest.mark.parametrize("name", ["a", "b", *NEEDED])
@pytest.mark.parametrize("stage", ["svm", "resnet101"])
def test_a_comparison_that_is_older_than_any_stage_of_any_of_its_runs_is_not_taken(project, comparison, name, stage):
    run = comparison(lambda result: result["runs"][name][-1]["stages"].update({stage: "0" * 64}))
    path = json.loads((run / "compare.json").read_text())["runs"][name][-1]["path"]
    assert f"is older than {RunFolder(path).stage_path(stage)}" in not_taken(project, run)


@pytest.mark.parametrize("name", ["a", "reference", "varied_b"])
@pytest.mark.parametrize("what", ["outputs under the same key", "the key of the same outputs"])
def test_a_stage_that_was_made_anew_makes_the_comparison_older(project, comparison, name, what):
    run = comparison()
    results.take("toy", run)
    (project[0] / "results" / "toy.json").unlink()
    changed = RunFolder(read_json(run / "compare.json")["runs"][name][-1]["path"])
    before = changed.require_manifest("svm")
    how = {"key": before["key"]} if "outputs under" in what else {"key": "1" * 64}
    other = {("svm", "ours"): lambda scores: scores + 1} if "outputs under" in what else {}
    write_stage(changed, "svm", other, **how)
    now = changed.require_manifest("svm")
    assert (now["key"] == before["key"]) != (now["outputs"] == before["outputs"])
    assert f"is older than {changed.stage_path('svm')}" in not_taken(project, run)


@pytest.mark.parametrize("version", [SCHEMA_VERSION - 1, SCHEMA_VERSION + 1, None, str(SCHEMA_VERSION)])
def test_a_comparison_of_another_form_is_not_taken(project, comparison, version):
    def change(result):
        result["schema_version"] = version
        if version is None:
            result.clear()

    assert "is of another version: run `make compare`" in not_taken(project, comparison(change))


def test_a_comparison_by_other_tolerances_is_not_taken(project, comparison):
    run = comparison(lambda result: result.update(tolerances_sha256="0" * 64))
    assert "was judged by other tolerances" in not_taken(project, run)


def test_the_same_varied_run_counts_once(project, comparison):
    def thrice(result):
        result["runs"]["varied_a"] = [result["runs"]["varied_a"][0]] * NEEDED["varied_a"]

    assert "lacks some of varied_a" in not_taken(project, comparison(thrice))


def test_a_shortened_run_is_not_taken(project, comparison):
    run = comparison(lambda result: result["subject"].update(profile="toy, LIMIT=500"))
    assert "is of a shortened run: run `make compare PROFILE=toy` without LIMIT=" in not_taken(project, run)


@pytest.mark.parametrize("name", NEEDED)
def test_a_comparison_without_all_that_is_shown_is_not_taken(project, comparison, name):
    run = comparison(lambda result: result["runs"][name].pop())
    assert f"lacks some of {name}: run `make seeds compare`" in not_taken(project, run)


def test_a_comparison_without_an_answer_is_not_taken(project, comparison):
    assert "lacks some of end_to_end" in not_taken(project, comparison(lambda result: result.update(end_to_end=None)))


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_comparison_of_other_runs_than_those_beside_it_is_not_taken(project, comparison, name):
    run = comparison(lambda result: result["runs"].update({name: result["runs"]["isolated"]}))
    assert "is of other runs than those beside it" in not_taken(project, run)


def test_without_results_or_with_an_unsafe_name_nothing_is_written(project):
    folder, run = project
    before = (folder / "README.md").read_text()
    with pytest.raises(UserError, match=r"\.\./x=RUN"):
        run("--take", "../x=RUN")
    (folder / "results" / "mine.json").unlink()
    with pytest.raises(UserError, match="make compare"):
        run()
    assert (folder / "README.md").read_text() == before


def test_the_projects_own_figures_are_the_present_ones(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["results", "--check"])
    assert results.main() == 0, capsys.readouterr().err
