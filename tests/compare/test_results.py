"""The README's figures: taken from a finished comparison, written between their marks, and found stale."""

import json
import math
import sys

import pytest

from compare import results
from compare.check import TOLERANCES, read_tolerances
from compare.results import AGREEMENT, agreement_table, backbone_text, map_table, measured, with_blocks
from experiment.artifacts import sha256_json
from experiment.errors import UserError
from experiment.spec import read_profile
from experiment.stages import ROWS


def check(value, mode="isolated", bound="<=", quantity="relative_l2", item="x"):
    return {"stage": "svm", "quantity": quantity, "mode": mode, "bound": bound, "value": value, "allowed": 1.0,
            "item": item}  # fmt: skip


def test_the_worst_value_of_each_quantity_and_mode_is_kept():
    checks = [check(0.1), check(0.3, item="y"), check(0.2), check(5.0, mode="chained"),
              check(0.9, bound=">=", quantity="agreement"), check(0.7, bound=">=", quantity="agreement"),
              check(0.8, bound=">=", quantity="agreement")]  # fmt: skip
    found = measured(checks)
    assert found["svm.relative_l2"]["isolated"] == {"value": 0.3, "allowed": 1.0, "item": "y"}
    assert found["svm.relative_l2"]["chained"]["value"] == 5.0
    assert found["svm.agreement"]["isolated"]["value"] == 0.7


@pytest.mark.parametrize("values", [(0.1, "nan"), ("nan", 0.1), ("nan", "inf")])
def test_what_is_no_number_is_the_worst(values):
    assert math.isnan(float(measured([check(value) for value in values])["svm.relative_l2"]["isolated"]["value"]))


def a_result(**changes):
    row = {"ap_11point": [0.5], "ap_area": [0.4], "map_11point": 0.51234, "map_area": 0.4}
    bounds = read_tolerances(TOLERANCES)

    def modes(quantity):
        allowed = {"isolated": bounds[quantity].isolated, "chained": bounds[quantity].chained}
        return {mode: {"value": 1.5e-7, "allowed": bound, "item": "x"} for mode, bound in allowed.items()}

    return {
        "profile": "embedded", "spec_sha256": sha256_json(read_profile("embedded")[0]), "agrees": True,
        "sentence": "agree: 3 judged checks", "images": {"trainval": 400, "test": 300},
        "map": {side: dict.fromkeys(ROWS, row) for side in ("caffe", "torch")},
        "measured": {quantity: {"bound": "<=", **modes(quantity)} for quantity in AGREEMENT}, **changes,
    }  # fmt: skip


def test_the_tables_hold_every_row_and_every_quantity():
    text = map_table({"mine": a_result()})
    assert text.count("| 51.23 | 51.23 | 40.00 | 40.00 |") == len(ROWS) and "mine (400 trainval, 300 test)" in text
    text = agreement_table({"mine": a_result()})
    assert text.count(" | 1.5e-07 | 1.5e-07 |") == len(AGREEMENT) and "agree: 3 judged checks" in text
    assert "| features, relative L2 | <= 1e-05 |" in text


def test_a_bound_that_rounding_raised_is_told_with_its_value():
    raised = a_result()
    raised["measured"]["transfer.relative_l2"]["isolated"] = {"value": 0.002, "allowed": 0.00456789, "item": "x"}
    (line,) = [line for line in agreement_table({"mine": raised}).splitlines() if "whole training" in line]
    assert line.endswith("| <= 0.001 | 0.002 (allowed 0.00457) | 1.5e-07 |")


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
              for name in ("results", "agreement", "backbone"))  # fmt: skip
    (tmp_path / "README.md").write_text("".join(blocks))
    (tmp_path / "results" / "mine.json").write_text(json.dumps(a_result()))
    monkeypatch.setattr(results, "README", tmp_path / "README.md")
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")

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
    (folder / "results" / "mine.json").write_text(json.dumps(a_result(spec_sha256="0" * 64)))
    assert run("--check") == 1 and "another specification" in capsys.readouterr().err


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
