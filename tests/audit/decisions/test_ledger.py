"""docs/ledger.md: its rows and cells from figures made by hand, and that the committed one is not stale."""

import json
import sys

import pytest

from audit.decisions import ledger as command
from audit.decisions.decisions import Alternative, Decision, read_decisions
from audit.decisions.ledger import LEDGER, RESULTS, ledger, read_results, stale, table, unmeasured
from audit.measured import SCHEMA_VERSION, stamp
from experiment.artifacts import RunFolder, read_json, sha256_json, write_json
from experiment.spec import read_profile
from experiment.stage_writer import StageWriter
from tests.conftest import user_error

ONE = Alternative("D1", "twice", "two of it", set=("svm.c=2.0",))
OTHER = Alternative("D1", "turned", "the other way", devkit="upright")
NEVER = Alternative("D2", "never", "what cannot be", reason="nobody can")
DECISIONS = [
    Decision("D1", "number | of it", "paper", "one", "why not", "two", (ONE, OTHER)),
    Decision("D2", "what cannot be", "caffe", "a", "b", "c", (NEVER,)),
]
SPEC = sha256_json(read_profile("embedded")[0])
SUBJECT = {"profile": "embedded", "weights": "shipped", "remarks": ["A stand-in."]}


def judged(difference, low, high, certain=True):
    return {"difference": difference, "interval_95": [low, high], "certain": certain}


SENSITIVITY = {
    "schema_version": SCHEMA_VERSION,
    "spec_sha256": SPEC,
    "subject": SUBJECT,
    "seeds": [1, 2, 3],
    "base": {"baseline_hr": 50.0, "baseline_lr": 20.0, "ours": 10.0},
    "entries": [
        {
            "decision": "D1", "alternative": "twice", "what": ONE.told,
            "map": {"baseline_hr": 50.0, "baseline_lr": 18.5, "ours": 11.25},
            "effect": {
                "baseline_hr": judged(0, 0, 0), "baseline_lr": judged(-1.5, -2, -1),
                "ours": judged(1.25, -0.5, 3, certain=False),
            },
        },
        {"decision": "D1", "alternative": "turned", "what": OTHER.told, "reason": "no photograph is turned"},
    ],
}  # fmt: skip
CONTROLS = {
    "schema_version": SCHEMA_VERSION,
    "spec_sha256": SPEC,
    "subject": SUBJECT,
    "rows": [
        {
            "control": "pca", "title": "PCA", "what": "as many components", "drawn": False,
            "map": {"seeds": [], "mean": 30.0, "spread": None},
            "minus_baseline_lr": judged(10, 8, 12), "minus_ours": judged(20, 15, 25),
        },
        {
            "control": "initial", "title": "Initial", "what": "not trained", "drawn": True,
            "map": {"seeds": [24.0, 26.0], "mean": 25.0, "spread": 1.4142},
            "minus_baseline_lr": judged(5, -1, 11, certain=False), "minus_ours": judged(15, 9, 21, certain=False),
        },
    ],
    "conclusions": ["PCA does as well."],
}  # fmt: skip


def lines_of(text, begins):
    return [line for line in text.splitlines() if line.startswith(begins)]


def test_a_decision_is_a_row_with_every_alternatives_effect_and_interval():
    text = ledger(DECISIONS, {"embedded": {"sensitivity": SENSITIVITY}})
    first, second = lines_of(text, "| D")
    assert first == (
        "| D1 | number \\| of it | one | why not | two | "
        "`twice` Ours +1.25 [-0.50, +3.00] ?, Baseline-LR -1.50 [-2.00, -1.00]; "
        "`turned` not measured: no photograph is turned | `twice` not measured; `turned` not measured |"
    )
    assert second.count("`never` not measured ([why](#not-measured))") == 2
    assert "- D2 `never` (what cannot be): nobody can." in text and "## Not measured\n" in text
    assert "`embedded`, 3 seeds: Baseline-HR 50.00, Baseline-LR 20.00, Ours 10.00. Of 1 intervals of Ours 0 le" in text
    assert "Of 2 decisions 1 are choices that the paper leaves open, or says twice, and 1 are Caffe's" in text


def test_an_effect_of_an_alternative_that_was_something_else_is_not_shown():
    entry = {**SENSITIVITY["entries"][0], "what": "two of it: svm.c=20.0"}
    results = {"embedded": {"sensitivity": {**SENSITIVITY, "entries": [entry]}}}
    assert "+1.25" not in ledger(DECISIONS, results)
    assert stale(DECISIONS, results) == [
        "docs/results/embedded/sensitivity.json has alternatives that audit/decisions/decisions.toml lacks"
    ]


def test_an_identical_alternative_is_not_told_as_0_and_a_failure_is_told_as_one():
    zero = {row: judged(0, 0, 0) for row in ("baseline_hr", "baseline_lr", "ours")}
    still = {**SENSITIVITY["entries"][0], "effect": zero}
    failed = {**SENSITIVITY["entries"][1], "reason": "k-means fell over", "failed": True}
    text = ledger(DECISIONS, {"embedded": {"sensitivity": {**SENSITIVITY, "entries": [still, failed]}}})
    assert "| `twice` Ours 0; `turned` failed: k-means fell over |" in text
    text = ledger(DECISIONS, {"embedded": {"sensitivity": {**SENSITIVITY, "entries": [{**still, "identical": True}]}}})
    assert "| `twice` identical: nothing differs; `turned` not measured |" in text


def test_what_an_alternative_is_stands_below_the_table():
    text = ledger(DECISIONS, {})
    assert "- D1 `twice`: two of it: svm.c=2.0.\n- D1 `turned`: the other way.\n- D2 `never`: what cannot be.\n" in text


def test_what_another_command_left_of_another_run_is_stale():
    remark = "Profile embedded, specification 0123; 5 trainval and 6 test images."
    found = {**SENSITIVITY, "subject": {**SUBJECT, "remarks": [remark]}}
    compared = {"spec_sha256": SPEC}
    files = {"sensitivity": found, "table2": {"remarks": [remark]}, "compare": compared}
    assert stale(DECISIONS, {"embedded": files}) == []
    (problem,) = stale(DECISIONS, {"embedded": {**files, "table2": {"remarks": ["Profile embedded, specification 4"]}}})
    assert problem.startswith("docs/results/embedded/table2.json, which `make grid render` writes, is of another run")
    (problem,) = stale(DECISIONS, {"embedded": {**files, "compare": {"spec_sha256": "4"}}})
    assert problem.startswith("docs/results/embedded.json, which `make compare results` writes, is of another run")


def test_results_of_another_specification_or_a_shortened_run_are_stale():
    assert stale(DECISIONS, {"embedded": {"sensitivity": SENSITIVITY, "controls": CONTROLS}}) == []
    for changed in ({"spec_sha256": "0"}, {"subject": {**SUBJECT, "profile": "embedded, LIMIT=64"}}):
        assert len(stale(DECISIONS, {"embedded": {"controls": {**CONTROLS, **changed}}})) == 1


def test_a_control_is_a_row_with_its_figures_and_the_conclusions_stand_below():
    text = ledger(DECISIONS, {"embedded": {"controls": CONTROLS}})
    assert "| embedded | PCA | as many components | 30.00 | +10.00 [+8.00, +12.00] | +20.00 [+15.00, +25.00] |" in text
    assert (
        "| embedded | Initial | not trained | 25.00 ± 1.41 (2 seeds) | +5.00 [-1.00, +11.00] ? "
        "| +15.00 [+9.00, +21.00] ? |"
    ) in text
    assert "| caltech20-voc | not measured |" in text and text.endswith("- `embedded`: PCA does as well.\n")


def test_no_text_of_a_cell_breaks_its_table():
    text = table(["a", "b"], [["one\ntwo", "x | y"], ["---", "z"]])
    assert text.splitlines() == ["| a | b |", "|---|---|", "| one two | x \\| y |", "| --- | z |"]


def test_the_committed_ledger_is_what_its_sources_say():
    decisions, results = read_decisions(), read_results(RESULTS)
    assert LEDGER.read_text(encoding="utf-8") == ledger(decisions, results), "run `make ledger`"
    assert stale(decisions, results) == [] and unmeasured(decisions, results) == []


def test_an_alternative_that_can_be_measured_must_have_a_figure_or_a_reason_in_a_file_that_is_there():
    only = [Decision("D1", "x", "paper", "one", "why", "two", (ONE, OTHER, NEVER, Alternative(
        "D1", "elsewhere", "another profile's", set=("svm.c=3.0",), profile="paper")))]  # fmt: skip
    assert unmeasured(only, {"embedded": {"sensitivity": SENSITIVITY, "controls": CONTROLS}}) == []
    assert unmeasured(only, {"embedded": {"controls": CONTROLS}}) == []
    figure, reason = SENSITIVITY["entries"]
    for entries, lacking in (
        ([figure], "D1 turned"),
        ([reason], "D1 twice"),
        ([], "D1 twice, D1 turned"),
        ([{**figure, "what": "another"}, reason], "D1 twice"),
        ([figure, {**reason, "failed": True}], "D1 turned"),
    ):
        results = {"embedded": {}, "caltech20-voc": {"sensitivity": {**SENSITIVITY, "entries": entries}}}
        assert unmeasured(only, results) == [f"docs/results/caltech20-voc/sensitivity.json has no figure for {lacking}"]
    own = [Decision("D1", "x", "paper", "one", "why", "two", (Alternative(
        "D1", "own", "this profile's", set=("svm.c=3.0",), profile="embedded"),))]  # fmt: skip
    assert len(unmeasured(own, {"embedded": {"sensitivity": SENSITIVITY}})) == 1


ANSWERED = [
    {"decision": one.decision, "alternative": one.name, "what": one.told, "reason": "none has it"}
    for decision in read_decisions()
    for one in decision.alternatives
    if not (one.reason or one.elsewhere)
]


def test_the_check_names_what_is_not_measured(elsewhere, tmp_path, capsys):
    path = tmp_path / "results" / "embedded" / "sensitivity.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**SENSITIVITY, "entries": ANSWERED}))
    assert elsewhere() == elsewhere("--check") == 0
    path.write_text(json.dumps({**SENSITIVITY, "entries": ANSWERED[1:]}))
    assert (elsewhere(), elsewhere("--check")) == (0, 1)
    lacking = f"{ANSWERED[0]['decision']} {ANSWERED[0]['alternative']}"
    assert capsys.readouterr().err == (
        f"unmeasured: docs/results/embedded/sensitivity.json has no figure for {lacking}: "
        "run `make sensitivity ledger`\n"
    )


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(command, "LEDGER", tmp_path / "ledger.md")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ledger", *arguments])
        return command.main()

    return run


@pytest.fixture
def run(tmp_path):
    """RUN, with a toy RUN/torch and what was measured of it."""
    torch = RunFolder(tmp_path / "run" / "torch")
    write_metrics(torch, "as they were")
    write_json(torch.path / "spec.json", {"sha256": SPEC})
    for name, content in (("sensitivity", {**SENSITIVITY, "entries": ANSWERED}), ("controls", CONTROLS)):
        (tmp_path / "run" / name).mkdir()
        write_json(tmp_path / "run" / name / f"{name}.json", {**content, **stamp(torch)})
    return tmp_path / "run"


def write_metrics(run, value):
    out = StageWriter(run, "metrics")
    out.json("metrics", value)
    out.finish({"stage": "metrics"})


def test_taken_results_are_written_and_a_changed_ledger_is_told(elsewhere, run, tmp_path, capsys):
    assert elsewhere("--take", f"embedded={run}") == 0
    assert read_json(tmp_path / "results/embedded/controls.json") == read_json(run / "controls/controls.json")
    assert "PCA does as well." in (tmp_path / "ledger.md").read_text()
    assert elsewhere("--check") == 0
    (tmp_path / "ledger.md").write_text((tmp_path / "ledger.md").read_text().replace("30.00", "31.00"))
    assert elsewhere("--check") == 1
    assert "docs/ledger.md is not what its sources say: run `make ledger`" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["sensitivity", "controls"])
def test_what_was_measured_of_an_older_run_is_not_taken(elsewhere, run, tmp_path, file):
    write_metrics(RunFolder(run / "torch"), "otherwise")
    other = "controls" if file == "sensitivity" else "sensitivity"
    kept = read_json(run / other / f"{other}.json")
    write_json(run / other / f"{other}.json", {**kept, **stamp(RunFolder(run / "torch"))})
    with user_error(run / file / f"{file}.json", "is of other results than torch/ holds now: run `python -m audit."):
        elsewhere("--take", f"embedded={run}")
    assert not (tmp_path / "results").exists()  # nor the other, which would do


@pytest.mark.parametrize("item", ["embedded", "mine=RUN", "embedded=nowhere"])
def test_what_cannot_be_taken_is_refused(elsewhere, item):
    with user_error(f"--take {item}"):
        elsewhere("--take", item)


def test_a_result_of_another_version_is_refused(tmp_path):
    path = tmp_path / "embedded" / "sensitivity.json"
    path.parent.mkdir()
    path.write_text('{"schema_version": 1}')
    with user_error(path, "another version"):
        read_results(tmp_path)
