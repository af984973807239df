"""The report: its numbers are the comparison's, what comes from data is text, and nothing of it needs a network."""

import base64
import csv
import io
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from urllib.parse import unquote

import numpy as np
import pytest

from audit.claims.claims import claims
from audit.decisions import effects, elsewhere
from audit.decisions.decisions import read_decisions
from audit.decisions.ledger import effects_cell
from audit.page import charts, evidence, findings, outcome, paper_parts, report
from audit.page.evidence import checks_of
from audit.page.subject import read_subject
from audit.page.svg import ON_PAGE
from audit.page.tables import Cell, Table, csv_value, decimal, small, words
from experiment.artifacts import read_json, write_json
from experiment.errors import UserError, run_command
from paper.published import read_published
from paper.standing import Standing
from paper.table1 import Table1
from tests.audit.page.report_run import CLASSES, DIFFERENCE, SCRIPT, UNCERTAIN, Page

ANCHORS = (
    "table1",
    "per-class",
    "table2",
    "figures",
    "loss",
    "end-to-end",
    "arithmetic",
    "controls",
    "decisions",
    "run",
)
SUFFIX = "-2-embedded-departs"  # of the second run's anchors


@pytest.fixture(scope="session")
def page(html):
    return Page(html)


@pytest.fixture
def run(reported, tmp_path):
    """A copy of the whole run, to be changed."""
    return shutil.copytree(reported.whole, tmp_path / "embedded", symlinks=True)


def section(page: Page, anchor: str) -> str:
    return page.by_id(anchor).text


def told(text: str) -> str:
    return " ".join(text.split())


# --- the page is whole ---


def linked(page: Page) -> tuple[set[str], set[str]]:
    """The ids of a page, each of which must be one element's, and those that its links lead to."""
    ids = [node.attributes["id"] for node in page.root.walk() if "id" in node.attributes]
    assert len(set(ids)) == len(ids)
    links = [node.attributes["href"] for node in page.root.walk() if node.attributes.get("href", "").startswith("#")]
    return set(ids), {link[1:] for link in links}


def test_every_link_of_the_page_leads_to_an_id_of_it_and_every_id_is_one_elements(page):
    ids, links = linked(page)
    assert links <= ids and {*ANCHORS, "verdict", "claims"} <= ids and len(links) > 30
    for node in page.root.walk():
        for name in node.attributes.get("aria-labelledby", "").split():
            assert name in ids


def test_the_second_runs_parts_have_anchors_of_their_own(page):
    for anchor in set(ANCHORS) - {"arithmetic", "controls", "decisions"}:
        assert page.by_id(f"{anchor}{SUFFIX}")


def test_every_link_leads_somewhere_where_every_part_fails(run, reported, monkeypatch):
    for side in ("caffe", "torch"):
        (run / side / "09-metrics" / "metrics.json").write_text("{}")
        (run / side / "06-transfer" / "loss.npy").unlink()
    for file in ("paper/table2.json", "paper/figures.json", "controls/controls.json", "sensitivity/sensitivity.json"):
        (run / file).write_text("{")
    monkeypatch.setattr(evidence, "checks_of", failing)
    for paths in ([run, reported.departs], [reported.departs, run]):
        page = Page(report.page(paths))
        ids, links = linked(page)
        assert links <= ids and len([link for link in links if link.startswith("per-class")]) == 2


def failing(*arguments):
    raise UserError("it is damaged")


def test_names_of_runs_make_no_id_twice(run, reported):
    # What each would be told by alone: as another's but for a sign, or as what an id of the first goes on with.
    names = ("a b", "a-b", "first", "caption", "2-a-b")
    copies = [shutil.copytree(run, run.parent / name, symlinks=True) for name in names]
    ids, links = linked(Page(report.page([run, *copies])))
    assert links <= ids and len([name for name in ids if name.startswith("table1-") and name.endswith("b")]) == 3


def test_headings_are_in_order(page):
    levels = [int(node.tag[1]) for node in page.root.all("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(deeper - level <= 1 for level, deeper in zip(levels, levels[1:], strict=False))


def test_nothing_is_fetched(html, page):
    for node in page.root.walk():
        for name in ("src", "href", "xlink:href", "action", "srcset", "poster", "data"):
            assert node.attributes.get(name, "#").startswith(("#", "data:")), node
    (css,) = (node.text for node in page.root.all("style") if "--paper" in node.text)
    assert "@import" not in css and "url(" not in css
    assert re.findall(r"url\((?!#)", html) == []
    assert [node.attributes.get("src") for node in page.root.all("script")] == [None]
    assert "fetch(" not in html and "XMLHttpRequest" not in html


def test_what_comes_from_data_is_shown_as_text(html, page, reported):
    assert SCRIPT not in html and len(page.root.all("script")) == 1
    shown = [row[0] for row in page.cells("ap")]
    assert shown == [*CLASSES, "mAP"]
    assert reported.whole.name in section(page, "verdict")
    assert SCRIPT in told(" ".join(node.text for node in page.by_id("per-class").all("text")))
    assert SCRIPT in page.by_id("per-class").text


def test_the_same_runs_make_the_same_bytes(html, reported):
    program = (
        "import sys; from pathlib import Path; from audit.page import report; "
        "sys.stdout.buffer.write(report.page([Path(path) for path in sys.argv[1:]]).encode())"
    )
    command = [sys.executable, "-c", program, str(reported.whole), str(reported.departs)]
    again = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": "12345"})
    assert again.stdout.decode() == html


# --- its numbers ---


def floats(values):
    return [math.nan if value in ("-", "", "none") else float(value) for value in values]


def test_the_blobs_table_holds_the_comparisons_numbers(page, reported):
    for run, suffix in ((reported.whole, ""), (reported.departs, SUFFIX)):
        checks = read_json(run / "compare.json")["checks"]
        for stage in ("features", "resnet101"):
            blobs = [c for c in checks if c["stage"] == stage and c["item"].startswith("blob ")]
            isolated, chained = ([c for c in blobs if c["mode"] == mode] for mode in ("isolated", "chained"))
            rows = page.cells(f"blobs-{stage}{suffix}")
            assert [row[1] for row in rows] == [c["item"].removeprefix("blob ") for c in isolated]
            for i, (row, one, two) in enumerate(zip(rows, isolated, chained, strict=True)):
                found = one["calibration"]
                wanted = [i, one["value"], two["value"], one["allowed"], found["error"], found["floor"], found["ratio"]]
                assert floats([row[0], *row[3:9]]) == wanted
                assert row[9] == ("agrees" if one["agrees"] else "DIFFERS")


def test_each_bar_is_the_greatest_number_of_floors_of_its_quantity(page, reported):
    checks = read_json(reported.departs / "compare.json")["checks"]
    most: dict[tuple[str, str], float] = {}
    for check in checks:
        if check["mode"] == "isolated" and check["calibration"]:
            key = check["stage"], check["quantity"]
            most[key] = max(most.get(key, 0), float(check["calibration"]["ratio"]))
    rows = page.cells("floors-2-embedded-departs")
    assert {(row[0], row[1]): float(row[6]) for row in rows} == most


def test_the_answer_is_the_comparisons(page, reported):
    found = read_json(reported.whole / "compare.json")["end_to_end"]
    rows = page.cells("answer")
    for row, (name, entry) in zip(rows, found["a_minus_b"].items(), strict=False):
        sides = [found["map"][side][name] for side in "ab"]
        wanted = [sides[0]["mean"], math.nan, sides[1]["mean"], math.nan, entry["difference"]]
        assert floats(row[1:8]) == pytest.approx([*wanted, *entry["overall"]["interval_95"]], nan_ok=True, rel=0)
        assert row[8] == entry["overall"]["verdict"]
    for row, side in zip(rows[3:], "ab", strict=True):
        entry = found["ours_minus_baseline_lr"][side]
        assert floats(row[5:8]) == [entry["difference"], *entry["overall"]["interval_95"]]


def test_features_of_lower_precision_are_told_beside_the_answer(run):
    before = outcome.end_to_end(read_subject(run))
    compared = read_json(run / "compare.json")
    compared["comparability"]["differing"].append({"name": "version.engine", "a": "absent", "b": "folded-bfloat16"})
    write_json(run / "compare.json", compared)
    notes = outcome.end_to_end(read_subject(run)).notes
    assert notes[:-1] == before.notes and "port by folded-bfloat16" in notes[-1]


def test_ap_is_that_of_the_metrics_in_percent(page, reported):
    sides = [read_json(reported.whole / side / "09-metrics" / "metrics.json") for side in ("caffe", "torch")]
    rows = page.cells("ap")
    for i in range(len(CLASSES)):
        for j, row in enumerate(("baseline_hr", "baseline_lr", "ours")):
            one, two = (100 * side[row]["ap_11point"][i] for side in sides)
            assert floats(rows[i][1 + 3 * j : 4 + 3 * j]) == [one, two, two - one]


def test_the_losses_are_the_curves(page, reported):
    one, two = (
        np.load(reported.whole / side / "06-transfer" / "loss.npy").astype(float) for side in ("caffe", "torch")
    )
    rows = [floats(row) for row in page.cells("losses")]
    assert rows == [[i + 1, a, b, abs(a - b)] for i, (a, b) in enumerate(zip(one, two, strict=True))]


def test_every_csv_is_its_table(html, page):
    tables = [node for node in page.root.walk() if node.has("table")]
    assert len(tables) > 20
    for node in tables:
        anchor = node.attributes["id"]
        head, *lines = page.csv(anchor)
        (shown,) = node.all("table")
        if shown.has("ledger"):
            continue  # cells that are merged: see below
        assert len(head) == len(shown.all("th"))
        cells = page.cells(anchor)
        if cells == [["none"]]:
            assert lines == []
            continue
        assert len(cells) == len(lines)
        for row, line in zip(cells, lines, strict=True):
            for text, cell in zip(row, line, strict=True):
                assert cell in (text, f"'{text}", "" if text == "-" else None), (anchor, text, cell)


def test_the_verdict_is_the_comparisons_sentence(page, reported):
    for run, mark in ((reported.whole, "good"), (reported.departs, "bad")):
        sentence = read_json(run / "compare.json")["sentence"]
        (box,) = [n for n in page.by_id("verdict").all("p") if n.has("verdict") and n.has(mark)]
        assert sentence in box.text
        assert "profile: embedded (a stand-in)" in box.text and "weights: of unknown origin (a stand-in)" in box.text


def test_the_first_departure_is_marked(page):
    part = page.by_id("layers-features-2-embedded-departs")
    assert "The first departure is blob conv1, number 1." in part.text
    assert any("first departure: conv1" in node.text for node in part.all("text"))
    assert "No blob departs." in page.by_id("layers-features").text
    assert not any("first departure" in node.text for node in page.by_id("layers-features").all("text"))


def test_every_picture_has_its_words(page):
    pictures = [node for node in page.root.walk() if node.tag == "svg"]
    labelled = [node for node in page.root.walk() if node.attributes.get("role") == "img"]
    assert len(pictures) == len(labelled) >= 10
    for node in labelled:
        assert len(node.attributes["aria-label"]) > 40 and re.search(r"\d", node.attributes["aria-label"])
    assert all(node.attributes.get("alt") for node in page.root.all("img"))


# --- what is optional ---


def test_what_is_not_measured_names_the_command_that_measures_it(page, reported):
    suffix = SUFFIX
    for anchor, target in (
        (f"table2{suffix}", "grid"),
        (f"figures{suffix}", "figures"),
        ("controls", "controls"),
        ("decisions", "sensitivity"),
    ):
        (missing,) = [node for node in page.by_id(anchor).all("p") if node.has("missing")]
        assert f"make {target} DEVKIT=" in missing.text
        assert f"RUN={reported.departs}" in missing.text and "it's" not in missing.text


def test_every_command_of_the_page_names_the_run(page, reported):
    told_ = [node for node in page.root.walk() if node.tag == "pre" or node.has("missing")]
    codes = [code for node in (*told_, page.by_id("claim-ledger")) for code in node.all("code")]
    lines = [code.text for code in codes if code.text.startswith("make ")]
    each = [shlex.split(line) for text in lines for line in text.splitlines()]
    assert len(each) > 20
    for words_ in each:
        assert {f"RUN={reported.whole}", f"RUN={reported.departs}"} & set(words_), words_
    assert "path/to" not in page.root.text


def test_a_command_repeats_what_differs_from_the_profile(reported):
    line = shlex.split(read_subject(reported.whole).command("grid"))
    external = read_json(reported.whole / "caffe" / "spec.json")["external"]
    given = [f"DEVKIT={external['devkit']['path']}", f"WEIGHTS={external['weights']['path']}"]
    assert line[:4] == ["make", "grid", *given]
    changed = {"run.seed=7", "transfer.snapshots=[1,2,10]", "compare.resamples=60"}
    assert line[4].startswith("SET=") and set(line[4].removeprefix("SET=").split()) == changed
    assert line[5:] == [f"RUN={reported.whole}"]


def test_controls_and_their_conclusions_are_shown(page, reported):
    (points,) = [node for node in page.by_id("controls").all("ul") if node.has("points")]
    assert told(points.text) == f"{reported.whole.name}: No gain is of the labels."
    rows = page.cells("controls-first-table")
    assert [row[0] for row in rows] == ["Initial weights", SCRIPT]
    assert floats(rows[0][2:5]) == [2, 41.0, 1.414]
    for cells, found in ((rows[0][5:9], DIFFERENCE), (rows[1][5:9], UNCERTAIN), (rows[0][9:], UNCERTAIN)):
        assert floats(cells[:3]) == [found["difference"], *found["interval_95"]]
        assert cells[3].startswith("yes" if found["certain"] else "no")


@pytest.mark.parametrize("file", ["controls", "sensitivity"])
@pytest.mark.parametrize("change", [{"spec_sha256": "0" * 64}, {"schema_version": 1}])
def test_figures_of_another_specification_or_version_are_not_shown(run, file, change):
    path = run / file / f"{file}.json"
    write_json(path, {**read_json(path), **change})
    found, told_ = read_subject(run).measured(file, lambda found, where: found)
    assert found is None and "is of another" in told_ and f"make {file}" in told_


@pytest.mark.parametrize("file", ["controls", "sensitivity"])
def test_figures_of_an_older_run_are_not_shown_wherever_they_lie(run, file, tmp_path, monkeypatch):
    kept = read_json(run / file / f"{file}.json")
    monkeypatch.setattr("audit.page.subject.RESULTS", tmp_path / "results")
    taken = tmp_path / "results" / read_subject(run).name / f"{file}.json"
    taken.parent.mkdir(parents=True)
    write_json(taken, kept)
    (run / file / f"{file}.json").unlink()

    def measured():
        return read_subject(run).measured(file, lambda found, where: (found, where))

    assert measured()[0][0] == kept and "another run" not in measured()[0][1]
    # The project's figures of the same data and specification will do, and are told as what they are.
    other = {**kept, "made_from": "0" * 64}
    write_json(taken, other)
    assert measured()[0][0] == other and "of another run of the same data and specification" in measured()[0][1]
    write_json(taken, {**kept, "data": "0" * 64})
    assert measured()[0] is None and "of other data" in measured()[1] and f"make {file}" in measured()[1]
    write_json(run / file / f"{file}.json", other)  # the run's own must be of its results
    assert measured()[0] is None


def test_what_another_command_measured_stands_in_the_decisions_row(run):
    files = {"x": findings.files_of(read_subject(run))}
    assert files["x"]["compare"]["sentence"] and files["x"]["controls"]["rows"]
    decisions = [decision for decision in read_decisions() if decision.number in ("D6", "D25")]
    results = {"x": findings.effects(decisions, None)}
    rows = [row for row in findings.decision_rows(decisions, results, files, {"x": str}) if row[5].text == "x"]
    told_ = {row[0].text: row[7].text for row in rows if "make" in row[7].text or "margin" in row[7].text}
    # The toy controls have none whose C is chosen, and the toy comparison has an interval.
    assert told_ == {
        "D6": "not measured yet: `make controls` does it",
        "D25": elsewhere.told("other_margin", files["x"]) or "not measured yet: `make seeds compare` does it",
    }


def test_an_alternatives_effect_stands_in_its_row(page, reported):
    _, *lines = page.csv("decision-ledger")
    decisions = read_decisions()
    assert list(dict.fromkeys(line[0] for line in lines)) == [decision.number for decision in decisions]
    measured = [line for line in lines if line[6]]
    assert [line[5:7] for line in measured] == [
        [reported.whole.name, "Ours"],
        [reported.whole.name, "Baseline-LR"],
    ]  # Baseline-HR does not move
    assert floats(measured[0][7:10]) == [UNCERTAIN["difference"], *UNCERTAIN["interval_95"]]
    assert measured[0][10].startswith("no") and measured[1][10] == "yes"
    reasons = {one.reason for decision in decisions for one in decision.alternatives if one.reason}
    assert reasons <= {line[7] for line in lines}


def test_the_rows_told_of_an_effect_are_those_of_the_ledger():
    one = next(one for decision in read_decisions() for one in decision.alternatives if not one.reason)
    decision = next(decision for decision in read_decisions() if decision.number == one.decision)
    still = {"difference": 0.0, "interval_95": [0.0, 0.0], "certain": True}
    # A baseline that moves in resamples alone is told, Ours always.
    effect = {"baseline_hr": still, "baseline_lr": {**still, "interval_95": [0.0, 0.4]}, "ours": still}
    found = {"entries": [{"decision": one.decision, "alternative": one.name, "what": one.told, "effect": effect}]}
    rows = findings.decision_rows([decision], {"x": findings.effects([decision], found)}, {}, {})
    told_ = [row[6].text for row in rows if row[4].text == one.told]
    assert told_ == ["Ours", "Baseline-LR"]
    assert effects_cell([one], {"sensitivity": found}) == f"`{one.name}` Ours 0, Baseline-LR 0 [+0.00, +0.40]"


def test_an_alternative_has_one_row_for_every_run_where_none_has_an_effect_and_all_for_one_reason():
    decision = next(d for d in read_decisions() if not (d.alternatives[0].reason or d.alternatives[0].elsewhere))
    one = decision.alternatives[0]
    about = {"decision": one.decision, "alternative": one.name, "what": one.told}

    def rows(**runs):
        found = {run: entry and {"entries": [{**about, **entry}]} for run, entry in runs.items()}
        results = {run: findings.effects([decision], content) for run, content in found.items()}
        made = [row for row in findings.decision_rows([decision], results, {}, {}) if row[4].text == one.told]
        return [[cell.text for cell in row[5:8]] for row in made]

    measured, failed = {"effect": {"ours": UNCERTAIN}}, {"reason": "it failed"}
    assert rows(x=None, y=None) == [["every run", "-", "not measured"]]
    assert rows(x=failed, y=failed) == [["every run", "-", "it failed"]]
    assert rows(x=failed, y=None) == [["x", "-", "it failed"], ["y", "-", "not measured"]]
    assert rows(x=measured, y=failed) == [["x", "Ours", "-2.00"], ["y", "-", "it failed"]]
    assert rows(x=measured, y=measured) == [["x", "Ours", "-2.00"], ["y", "Ours", "-2.00"]]
    assert rows(x=None) == [["x", "-", "not measured"]]


def test_what_is_told_in_the_place_of_an_effect_is_told_of_each_run_and_not_drawn():
    decision = next(decision for decision in read_decisions() if decision.alternatives[0].set)
    one = decision.alternatives[0]
    zero = {"difference": 0.0, "interval_95": [0.0, 0.0], "certain": True}
    about = {"decision": one.decision, "alternative": one.name, "what": one.told}
    same = {**about, "effect": dict.fromkeys(("baseline_hr", "baseline_lr", "ours"), zero), "identical": True}
    results = {
        "x": {"entries": [same]},
        "y": {"entries": [{**about, "reason": "no memory", "failed": True}]},
        "z": {"entries": [{**same, "identical": False}]},
    }
    found = {run: findings.effects([decision], content) for run, content in results.items()}
    rows = findings.decision_rows([decision], found, {}, {})
    told_ = {row[5].text: row[7].text for row in rows if row[4].text == one.told}
    assert (told_["x"], told_["y"]) == (effects.IDENTICAL, "failed: no memory")
    assert told_["z"] == "0"  # measured, and 0
    assert [list(findings.forest_lines(found)) for found in results.values()] == [
        [],
        [],
        [f"{one.decision} {one.name}"],
    ]


def test_the_command_that_measures_an_alternative_elsewhere_is_the_runs_own(run):
    subject = read_subject(run)
    decisions, files = read_decisions(), {"x": {}}
    rows = findings.decision_rows(decisions, {"x": findings.effects(decisions, None)}, files, {"x": subject.local})
    commands = [row[7].text for row in rows if row[7].text.startswith("not measured yet: ")]
    targets = [("controls",), ("grid",), ("seeds", "compare"), ("seeds", "compare")]
    assert sorted(commands) == sorted(f"not measured yet: `{subject.command(*them)}` does it" for them in targets)


def test_every_claim_stands_in_the_ledger_with_its_evidence(page, reported):
    for run in (reported.whole, reported.departs):
        for claim in claims(run):
            rows = [line for line in page.csv("claim-ledger")[1:] if line[0] == claim.id]
            assert {line[1] for line in rows} == {csv_value(claim.claim)}
            assert csv_value(claim.why) in {line[8] for line in rows}
    links = [node.attributes["href"] for node in page.by_id("claim-ledger").all("a") if not node.has("csv")]
    assert "#table1" in links and "#arithmetic" in links


def test_the_claims_on_the_papers_own_figures_are_counted_apart_from_those_on_the_run(page, reported):
    found = claims(reported.whole)
    paper, run = ([c for c in found if (c.evidence == "#arithmetic") is own] for own in (True, False))
    undecided = sum(claim.verdict == "not testable here" for claim in paper)
    assert undecided and len(paper) + len(run) == len(found)
    sentence = told(section(page, "verdict"))
    assert f"{len(found)} claims of the paper: {len(paper)} on the paper's own figures (" in sentence
    assert f"{undecided} not testable here, " in sentence and f"{len(run)} on this run (" in sentence


def test_the_verdict_begins_with_the_papers_main_claim(page, reported):
    (gain,) = [claim for claim in claims(reported.whole) if claim.claim.startswith("The transfer network lifts mAP")]
    said = told(section(page, "verdict"))
    assert (
        f"by the paper {gain.published}: {gain.verdict}; here Ours minus Baseline-LR is {gain.caffe} by Caffe" in said
    )


def test_the_chart_of_the_decisions_goes_from_the_greatest_effect_to_the_least():
    spans = {name: charts.Span(value, value - 1, value + 1) for name, value in (("a", -2.0), ("b", 3.0), ("c", 0.5))}
    assert list(findings.by_value(spans)) == ["b", "c", "a"]


def test_table_2_and_the_figures_are_shown(html, page):
    assert "alert(2)" not in html  # a picture from a file is no part of the page
    images = page.by_id("figures").all("img")
    held = [base64.b64decode(image.attributes["src"].partition("base64,")[2]).decode() for image in images]
    assert [name in text for name, text in zip(("figure1", "figure3"), held, strict=True)] == [True, True]
    assert "5-NN 25.0 %, chance 50.0 %" in images[0].attributes["alt"]
    rows = page.cells("grid")
    assert floats(rows[0][1:]) == [20, 2.58, 5.14] and rows[1][2:] == ["-", "-"]
    printed = read_published().grid
    assert floats(rows[4][1:]) == [20, printed[256, 20], printed[512, 20]]
    assert f"{SCRIPT} (N1 x N2: 256 x 100, 512 x 100)" in section(page, "table2")


@pytest.mark.parametrize(("file", "make"), [("table2.json", paper_parts.table2), ("figures.json", paper_parts.figures)])
def test_a_file_of_another_form_costs_its_part_alone(run, file, make):
    write_json(run / "paper" / file, {"entries": "none"})
    subject = read_subject(run)
    part = subject.optional("x", "title", make)
    told_ = part.missing.replace(f"RUN={run}", "")
    assert told_.startswith(f"paper/{file} is malformed (") and "run `make " in told_ and str(run) not in told_
    assert findings.check(subject).claims and findings.check(subject).problem == ""


@pytest.mark.parametrize("content", ["{", "[]", "null", "trimmed", "not a number"])
@pytest.mark.parametrize(("file", "part"), [("controls", "controls"), ("sensitivity", "decisions")])
def test_a_malformed_file_of_measures_costs_what_rests_on_it_alone(run, reported, file, part, content):
    path = run / file / f"{file}.json"
    found = read_json(path)
    if content == "trimmed":
        found.pop("rows" if file == "controls" else "entries")
    elif content == "not a number":
        row = found["rows"][0]["minus_ours"] if file == "controls" else found["entries"][0]["effect"]["ours"]
        row["interval_95"] = ["x", "y"]
    path.write_text(json.dumps(found) if content in ("trimmed", "not a number") else content)
    subjects = [read_subject(run), read_subject(reported.whole, 2)]
    parts = {
        "decisions": findings.decisions_part(read_decisions(), subjects),
        "controls": findings.controls_part(subjects),
    }
    missing = parts[part].missing
    assert missing.startswith(f"{subjects[0].name}: {file}/{file}.json of the run is ")
    assert f"make {file} DEVKIT=" in missing and f"RUN={run}" in missing and "\n" not in missing
    assert "is malformed (" in missing
    assert len(parts[part].body) == 2 and len(parts.pop(part).notes) >= 2  # of the other run
    assert [one.missing for one in parts.values()] == [""]


@pytest.mark.parametrize(("file", "make"), [("table2.json", paper_parts.table2), ("figures.json", paper_parts.figures)])
def test_a_table_or_figure_of_another_specification_is_not_shown(run, file, make):
    path = run / "paper" / file
    write_json(path, {**read_json(path), "remarks": ["Profile embedded, specification 000000000000."]})
    part = read_subject(run).optional("x", "title", make)
    assert "another specification" in part.missing and part.body == ()


def test_a_damaged_artifact_costs_its_part_alone(run):
    (run / "torch" / "06-transfer" / "loss.npy").unlink()
    part = read_subject(run).optional("loss", "title", outcome.loss)
    assert part.missing.startswith("torch/06-transfer/loss.npy is missing")


def test_the_papers_ap_is_beside_both_sides_where_the_classes_are_its(run, monkeypatch):
    published = read_published()
    names = list(published.names.values())
    stands = Standing(list(published.names), names, list(range(20)), True, ["The paper's."])
    ap = {row: {"caffe": [50.0] * 21, "torch": [51.0] * 21, "published": [*values, published.map[row]]}
          for row, values in published.ap.items()}  # fmt: skip
    area = {row: {"caffe": 1.0, "torch": 1.0} for row in ap}
    monkeypatch.setattr(paper_parts, "table1", lambda path: Table1(ap, area, stands))
    part = paper_parts.per_class(read_subject(run))
    chart, table = part.body[0]
    assert [row[0].text for row in table.rows] == [*names, "mAP"]
    assert [cell.value for cell in table.rows[0][1:6]] == [50.0, 51.0, 97.6, 1.0, pytest.approx(-47.6)]
    assert "paper 89.1" in chart.alt


# --- what stops it ---


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda run: (run / "compare.json").unlink(), "compare.json is missing: run `make compare`"),
        (lambda run: shutil.rmtree(run / "torch"), "torch is no run"),
        (lambda run: shutil.rmtree(run / "torch" / "08-svm"), "compare.json is older than"),
        (lambda run: (run / "compare.json").write_text("{}"), "compare.json is of another version"),
    ],
)
def test_a_run_that_lacks_a_side_or_its_comparison_is_refused(run, tmp_path, monkeypatch, capsys, change, problem):
    change(run)
    monkeypatch.setattr(sys, "argv", ["report", str(run), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        run_command(report.main)
    told_ = capsys.readouterr().err
    assert end.value.code == 2 and problem in told_ and told_.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_two_runs_of_one_name_are_refused(reported):
    with pytest.raises(UserError, match="two runs are called"):
        report.page([reported.whole, reported.whole])


def test_the_command_writes_index_html(run, html, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "page", lambda paths: html if paths == [run] else None)
    monkeypatch.setattr(sys, "argv", ["report", str(run), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        run_command(report.main)
    assert end.value.code == 0 and [path.name for path in (tmp_path / "out").iterdir()] == ["index.html"]
    assert (tmp_path / "out" / "index.html").read_text(encoding="utf-8") == html


# --- tables and charts ---


@pytest.mark.parametrize(
    ("value", "cell"),
    [("=1+1", "'=1+1"), ("+cmd", "'+cmd"),
      ("-x", "'-x"), ("@a", "'@a"), ("\tx", "'\tx"), ("-1.5", "-1.5"), ("+2", "+2"),
     ("a=b", "a=b"), (" =1", " =1"), (-1.5, "-1.5"), (1e-9, "1e-09"), (None, ""), ("- 1", "'- 1"), ("+inf", "'+inf")],
)  # fmt: skip
def test_no_csv_cell_is_a_formula(value, cell):
    assert csv_value(value) == cell


def test_a_csv_link_holds_any_text():
    texts = ["a,b", 'say "x"', "50 % #1", "line\nline", "ä π", "?&;", "'quoted'"]
    table = Table("x", "x", ["text"], [[words(text)] for text in texts])
    read = list(csv.reader(io.StringIO(unquote(table.uri.partition(",")[2]), newline="")))
    assert [row[0] for row in read[1:]] == texts and "#" not in table.uri


def test_merged_cells_cover_the_table_once():
    cells = [["a", "x", "1"], ["a", "x", "2"], ["a", "y", "2"], ["b", "y", "2"], ["b", "y", "3"]]
    table = Table("t", "t", ["1", "2", "3"], [[words(text) for text in row] for row in cells], merged=2)
    grid = [[""] * 3 for _ in cells]
    for i, row in enumerate(table.drawn()):
        for column, cell, span in row:
            for below in range(i, i + span):
                assert grid[below][column] == ""
                grid[below][column] = cell.text
    assert grid == cells
    assert sum(len(row) for row in table.drawn()) == 2 + 3 + 5


def test_a_cell_that_reaches_across_hides_those_it_covers():
    table = Table("t", "t", ["1", "2", "3"], [[words("a"), Cell("b", "b", across=2), words("")]])
    assert [(column, cell.text) for column, cell, _ in table.drawn()[0]] == [(0, "a"), (1, "b")]


def test_numbers_are_told_short_and_kept_whole():
    assert (decimal(1 / 3).text, decimal(1 / 3).value) == ("0.33", 1 / 3)
    assert decimal(-0.001, 2, True).text == "+0.00" and decimal(0.0, 2, True).text == "0"
    assert (small(math.nan).value, small(math.inf).numeric, small(1.2345e-7).text) == ("nan", False, "1.23e-07")


def ids_of(svg: str) -> set[str]:
    return set(re.findall(r' id="([^"]*)"', svg))


def test_a_chart_takes_its_colours_and_its_font_from_the_page():
    spans = {"left": {SCRIPT: charts.Span(1, -1, 3), "$b$": charts.Span(0, 0, 0, False)}}
    svg = charts.forest("one", spans, 0.5)
    assert re.findall(r"#[0-9a-fA-F]{6}", svg) == [] and "currentColor" in svg and "var(--series-0)" in svg
    assert "DejaVu" not in svg and SCRIPT not in svg and "$b$" in svg and "&lt;script&gt;" in svg
    assert svg.startswith("<svg viewBox=") and "metadata" not in svg
    other = charts.forest("two", spans, 0.5)
    assert ids_of(svg) and not ids_of(svg) & ids_of(other)
    used = set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', svg))
    assert {name for pair in used for name in pair if name} <= ids_of(svg)


@pytest.mark.parametrize("name", [*ON_PAGE, ' id="x"', "url(#x)", 'href="#x"', "font: 12px 'DejaVu Sans', x", "<svg"])
def test_a_class_that_looks_like_what_is_rewritten_keeps_its_name(name):
    svg = charts.forest("one", {"panel": {name: charts.Span(1, -1, 3)}})
    texts = [node.text.strip() for node in Page(svg).root.all("text")]
    assert name.strip() in texts and "currentColor" in svg
    styles = " ".join(re.findall(r"<[^<>]*>", svg))
    assert re.findall(r"#0[0-9a-f]{5}", styles) == []


@pytest.mark.parametrize("ratio", [0.0, 2.9, 3.1, 50.0, math.inf, math.nan])
def test_a_bar_beyond_k_is_drawn_as_one(ratio):
    svg = charts.bars("bars", ["a", "b"], [1.0, ratio], [True, True], 3.0)
    assert ("var(--bad)" in svg) == (not ratio <= 3)
    assert "var(--bad)" not in charts.bars("bars", ["a"], [ratio], [False], 3.0)


@pytest.mark.parametrize("values", [[0.0, 0.0], [0.0, 1e-7], [math.nan, 1e-7], [math.inf, 0.0]])
def test_layers_are_drawn_whatever_their_values(values):
    assert charts.layers("x", values, [1e-5, None], [math.nan, None], 3.0, (1, "b")).count("<svg") == 1


def test_checks_are_read_back_as_they_were_made(reported):
    entries = [entry for entry in read_json(reported.departs / "compare.json")["checks"] if entry["mode"] == "isolated"]
    assert [check.as_json() for check in checks_of(read_subject(reported.departs), "isolated")] == entries
