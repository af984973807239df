"""Verdicts on runs made by hand: the paper's own that bears claims out or does not, a stand-in, an unfinished one."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from audit.claims.claims import CLAIMS, EVIDENCE, RULES, claims, markdown, read_claims
from audit.claims.paper_rules import image_count, image_level
from audit.claims.readings import read_run
from audit.claims.verdicts import INCONSISTENT, NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED, VERDICTS
from compare.check import SCHEMA_VERSION
from compare.pair import stage_digests
from experiment.artifacts import RunFolder, sha256_json, write_json
from experiment.errors import UserError
from experiment.spec import read_profile
from experiment.stage_writer import StageWriter
from experiment.stages import ROWS
from paper.published import read_published
from paper.standing import standing
from tests.conftest import PROJECT, user_error

PUBLISHED = read_published()
VOC, NAMES = list(PUBLISHED.names), list(PUBLISHED.names.values())
VOC2007 = {"trainval": 5011, "test": 4952}
MEANS = {"baseline_hr": 89.095, "baseline_lr": 78.05, "ours": 79.99}
# Verdicts that no run changes.
SETTLED = {
    "image_count trainval": INCONSISTENT,
    "image_count test": REPRODUCED,
    "iterations": INCONSISTENT,
    "printed_rise": REPRODUCED,
    "turning": INCONSISTENT,
    "printed_optimum": REPRODUCED,
    "same_best": REPRODUCED,
    "means": REPRODUCED,
    "image_level": NOT_TESTABLE,
    "printed_gain": REPRODUCED,
    "printed_losers": REPRODUCED,
}


def judged(run):
    """Every claim of a run by its rule and what it is asked of: "row_map ours"."""
    keys = [" ".join([entry["rule"], *map(str, entry.get("of", {}).values())]) for entry in read_claims()]
    found = dict(zip(keys, claims(run), strict=True))
    assert len(found) == len(keys)
    return found


def on_the_run(found):
    """The verdicts that a run decides, but for ResNet-101's dimension."""
    return {key: claim.verdict for key, claim in found.items() if key not in SETTLED and key != "pool5"}


def write_side(path, ap, classes=VOC, images=VOC2007, annotations="some", pool5=2048, sizes=(2048, 100), **changes):
    """A side with the stages that the claims read; ap : row to AP in percent. changes : of the paper's values."""
    path.mkdir(parents=True)
    values = read_profile("paper")[0]
    for key, value in changes.items():
        section, _, name = key.partition("__")
        values[section][name] = value
    external = {
        "devkit": {"path": "/voc/VOCdevkit/VOC2007", "content": {"Annotations": annotations}},
        "weights": {"path": "/voc/ResNet-101-model.caffemodel", "origin": "the Model Zoo's own file"},
    }
    spec = {"profile": "paper", "values": values, "sha256": sha256_json(values), "external": external}
    (path / "spec.json").write_text(json.dumps(spec))
    run = RunFolder(path)

    def stage(name, **outputs):
        writer = StageWriter(run, name)
        for output, value in outputs.items():
            (writer.array if isinstance(value, np.ndarray) else writer.json)(output, value)
        writer.finish({"key": name})

    ids = {f"ids_{split}": [str(i) for i in range(n)] for split, n in images.items()}
    labels = {f"labels_{split}": np.ones((n, len(classes)), np.int8) for split, n in images.items()}
    stage("index", classes=list(classes), **ids, **labels)
    stage("features", hr_test=np.zeros((1, 7), np.float32), lr_test=np.zeros((1, sizes[0]), np.float32))
    stage("transfer_features", trainval=np.zeros((1, 9), np.float32), test=np.zeros((1, sizes[1]), np.float32))
    stage("resnet101", **{"blobs/139-pool5": np.zeros((1, pool5, 1, 1), np.float32)})
    rows = {}
    for row, values in ap.items():
        fractions = [value / 100 for value in values]
        mean = float(np.mean(fractions))
        rows[row] = {"ap_11point": fractions, "ap_area": fractions, "map_11point": mean, "map_area": mean}
    stage("metrics", metrics=rows)


def write_comparison(run, maps, gains, certain=True, seeds=5):
    """compare.json's end-to-end figures. maps : row to both sides' mAP; gains : both sides' (difference, low, high)."""
    mean = {
        row: [{"mean": value, "spread": 0.1, "seeds": [value] * seeds} for value in pair] for row, pair in maps.items()
    }
    summary = {
        "seeds": seeds,
        "map": {side: {row: mean[row][i] for row in ROWS} for i, side in enumerate("ab")},
        "ours_minus_baseline_lr": {
            side: {"difference": d, "overall": {"interval_95": [low, high]}, "certain": certain}
            for side, (d, low, high) in zip("ab", gains, strict=True)
        },
    }
    runs = {
        letter: [{"path": "anywhere", "stages": stage_digests(RunFolder(run / side))}]
        for letter, side in (("a", "caffe"), ("b", "torch"))
    }
    write_json(run / "compare.json", {"schema_version": SCHEMA_VERSION, "runs": runs, "end_to_end": summary})


def write_pages(run, fc2, fc1, figures):
    """table2.json and figures.json. fc2, fc1 : grids; figures : figure to each panel's (kNN, silhouette)."""
    (run / "paper").mkdir(exist_ok=True)
    remarks = standing(RunFolder(run / "torch"), PUBLISHED).remarks
    entries = [
        {"feature": blob, "n1": n1, "n2": n2, "map": value, "flat": 0}
        for blob, grid in (("fc2", fc2), ("fc1", fc1))
        for (n1, n2), value in grid.items()
    ]
    write_json(run / "paper/table2.json", {"remarks": remarks, "entries": entries})
    panels = {
        figure: [
            {"features": f"panel {i}", "knn": knn, "silhouette": silhouette, "images": 1000}
            for i, (knn, silhouette) in enumerate(pairs)
        ]
        for figure, pairs in figures.items()
    }
    write_json(run / "paper/figures.json", {"remarks": remarks, "figures": panels})


GAINS = [(2.0, 1.0, 3.0), (1.8, 0.9, 2.7)]
MAPS = {row: [value + 0.2, value - 0.2] for row, value in MEANS.items()}
FIGURES = {"figure1": [(0.8, 0.2), (0.5, 0.0)], "figure3": [(0.8, 0.2), (0.5, 0.0), (0.6, 0.1)]}
FLAT = {cell: 79.0 + cell[1] / 1e4 for cell in PUBLISHED.grid}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The paper's own run, which bears out every claim on a run: figures as printed, or nearly."""
    run = tmp_path_factory.mktemp("runs") / "paper"
    for side in ("caffe", "torch"):
        write_side(run / side, PUBLISHED.ap)
    write_comparison(run, MAPS, GAINS)
    write_pages(run, PUBLISHED.grid, FLAT, FIGURES)
    return run


@pytest.fixture
def own(whole, tmp_path):
    """A copy of it to be changed."""
    return shutil.copytree(whole, tmp_path / "own")


def test_a_run_of_the_paper_s_own_data_with_its_figures_reproduces_every_claim_on_a_run(own):
    found = judged(own)
    assert set(on_the_run(found).values()) == {REPRODUCED} and len(on_the_run(found)) == 16
    assert {key: found[key].verdict for key in SETTLED} == SETTLED
    assert found["pool5"].verdict == REPRODUCED and (found["pool5"].published, found["pool5"].caffe) == ("2048", "2048")
    assert found["row_map ours"].published == "80.0" and found["row_map ours"].port == "79.79 ± 0.10"
    assert "+0.19 and -0.21" in found["row_map ours"].why
    assert (
        found["gain"].caffe == "+2.00 [+1.00, +3.00]" and "a gain by Caffe and a gain by the port" in found["gain"].why
    )
    assert found["transferred"].published == "100-D 80.0, 2048-D 78.1"
    assert found["lost_classes"].caffe == found["lost_classes"].port == "2 of 20: bottle, sheep"
    assert found["row_classes ours"].published == "53.4 (sofa) to 95.0 (persn)"
    assert found["which_layer"].port == "fits the second layer's N2 outputs"
    assert found["image_level"].caffe == found["image_level"].published == "0.53 to 0.54"
    assert [claim.id for claim in found.values()] == [f"C{i}" for i in range(1, len(found) + 1)]
    for claim in found.values():
        assert claim.verdict in VERDICTS and claim.evidence in EVIDENCE and claim.published != "-"
        assert claim.why.endswith(".") and "None" not in f"{claim.why}{claim.caffe}{claim.port}", claim


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize(("off", "verdict"), [(0.54, REPRODUCED), (-0.54, REPRODUCED), (0.56, NOT_REPRODUCED)])
def test_a_map_must_be_within_margin_and_rounding_of_the_printed_one_on_both_sides(own, row, side, off, verdict):
    pair = [PUBLISHED.map[row]] * 2
    pair[side] += off
    write_comparison(own, {**MAPS, row: pair}, GAINS)
    found = judged(own)
    assert found[f"row_map {row}"].verdict == verdict
    others = {key for key in on_the_run(found) if key.startswith("row_map")} - {f"row_map {row}"}
    assert {found[key].verdict for key in others} == {REPRODUCED}


GAIN_CLAIMS = ("gain", "transferred", "bounds")


@pytest.mark.parametrize(
    ("gains", "certain", "verdicts"),
    [
        ([(2.0, 1.0, 3.0), (1.9, -0.1, 3.9)], True, [NOT_TESTABLE] * 3),  # one side's interval holds 0
        ([(0.4, -0.6, 1.40), (2.0, 1.0, 3.0)], True, [NOT_TESTABLE] * 3),  # and reaches 1.94 - 0.55
        (
            [(0.4, -0.6, 1.38), (2.0, 1.0, 3.0)],
            True,
            [NOT_REPRODUCED, NOT_TESTABLE, NOT_TESTABLE],
        ),  # 0 inside, +1.9 not
        ([(2.0, 1.0, 3.0), (-2.0, -3.0, -1.0)], True, [NOT_REPRODUCED] * 3),
        ([(-2.0, -3.0, -1.0), (1.9, -0.1, 3.9)], True, [NOT_REPRODUCED] * 3),
        ([(0.8, 0.3, 1.3), (2.0, 1.0, 3.0)], True, [NOT_REPRODUCED, REPRODUCED, REPRODUCED]),  # a gain, but a small one
        ([(3.2, 2.6, 3.8), (2.0, 1.0, 3.0)], True, [NOT_REPRODUCED, REPRODUCED, REPRODUCED]),  # or too great a one
        ([(2.6, 2.0, 3.0), (2.0, 1.0, 3.0)], True, [NOT_TESTABLE, REPRODUCED, REPRODUCED]),  # perhaps a greater one
        (GAINS, False, [NOT_TESTABLE] * 3),  # too few seeds
    ],
)
def test_a_gain_needs_intervals_above_0_on_both_sides_and_the_printed_size(own, gains, certain, verdicts):
    write_comparison(own, MAPS, gains, certain)
    found = judged(own)
    assert [found[key].verdict for key in GAIN_CLAIMS] == verdicts
    if certain:
        for key in GAIN_CLAIMS:
            assert ("So the gain is undecided." in found[key].why) is (found[key].verdict == NOT_TESTABLE)
    assert "; allowed are 0.55." in found["gain"].why
    assert ("Too few seeds: run `make seeds compare PROFILE=paper" in found["gain"].why) is not certain


def test_a_transferred_feature_of_no_fewer_dimensions_is_not_the_claim(tmp_path):
    for side in ("caffe", "torch"):
        write_side(tmp_path / side, PUBLISHED.ap, sizes=(100, 100), pool5=512)
    write_comparison(tmp_path, MAPS, GAINS)
    found = judged(tmp_path)
    assert found["transferred"].verdict == NOT_REPRODUCED and found["gain"].verdict == REPRODUCED
    assert found["pool5"].verdict == NOT_REPRODUCED


def test_the_gain_s_distance_from_the_printed_one_and_a_contradicting_interval_are_told(own):
    assert "From the printed one +0.06 and -0.14; allowed are 0.55." in judged(own)["gain"].why
    write_comparison(own, MAPS, [(0.8, 0.3, 1.3), (2.0, 1.0, 3.0)])
    found = judged(own)
    assert "An interval lies wholly outside +1.39 to +2.49, the printed gain and what is allowed." in found["gain"].why
    assert "wholly outside" not in found["bounds"].why


def test_the_claims_promise_what_their_rules_test():
    told = {" ".join([entry["rule"], *map(str, entry.get("of", {}).values())]): entry for entry in read_claims()}
    for key in ("gain", "gap baseline_hr baseline_lr"):
        assert "as printed" in told[key]["claim"]
    assert " much " not in told["separated figure3 2 1"]["claim"]


@pytest.mark.parametrize(("printed", "verdict"), [(5000, INCONSISTENT), (5011, REPRODUCED)])
def test_a_count_of_the_paper_s_that_its_data_contradict_is_inconsistent(whole, printed, verdict):
    readings = read_run(whole)
    facts = replace(readings.facts, printed_images={**readings.facts.printed_images, "trainval": printed})
    assert image_count(replace(readings, facts=facts), "trainval").verdict == verdict


def test_baseline_hr_below_ours_is_no_upper_bound_and_another_gap_is_another_claim(own):
    write_comparison(own, {**MAPS, "baseline_hr": [89.0, 79.0]}, GAINS)
    found = judged(own)
    assert found["bounds"].verdict == found["gap baseline_hr baseline_lr"].verdict == NOT_REPRODUCED


# A class may be 0.5 * sqrt(20) + 0.05 = 2.286 off.
@pytest.mark.parametrize(("off", "verdict"), [(2.2, REPRODUCED), (-2.2, REPRODUCED), (2.3, NOT_REPRODUCED)])
def test_every_class_must_be_near_on_both_sides(tmp_path, off, verdict):
    shifted = {
        **PUBLISHED.ap,
        "baseline_lr": [*PUBLISHED.ap["baseline_lr"][:-1], PUBLISHED.ap["baseline_lr"][-1] + off],
    }
    write_side(tmp_path / "caffe", PUBLISHED.ap)
    write_side(tmp_path / "torch", shifted)
    found = judged(tmp_path)
    assert found["row_classes baseline_lr"].verdict == verdict
    assert found["row_classes ours"].verdict == REPRODUCED
    assert found["row_classes baseline_lr"].port.endswith(f"farthest tv {off:+.1f}")


def test_the_classes_are_found_by_name_and_not_by_place(tmp_path):
    for side in ("caffe", "torch"):
        write_side(tmp_path / side, {row: values[::-1] for row, values in PUBLISHED.ap.items()}, VOC[::-1])
    found = judged(tmp_path)
    assert {found[f"row_classes {row}"].verdict for row in ROWS} == {REPRODUCED}
    assert found["lost_classes"].verdict == REPRODUCED


@pytest.mark.parametrize("changed", ["bottle", "cow"])
def test_other_classes_that_lose_are_told(tmp_path, changed):
    ours = {
        **dict(zip(NAMES, PUBLISHED.ap["ours"], strict=True)),
        "cow": 73.2,
        changed: 81.0 if changed == "bottle" else 72.0,
    }
    write_side(tmp_path / "caffe", PUBLISHED.ap)
    write_side(tmp_path / "torch", {**PUBLISHED.ap, "ours": list(ours.values())})
    claim = judged(tmp_path)["lost_classes"]
    assert claim.verdict == NOT_REPRODUCED and claim.caffe == "2 of 20: bottle, sheep"
    assert claim.port == {"bottle": "1 of 20: sheep", "cow": "3 of 20: bottle, cow, sheep"}[changed]


def test_a_grid_of_another_pattern_reproduces_neither_rise_nor_optimum_and_shows_the_first_layer_s(own):
    best_elsewhere = FLAT | {(256, 20): 80.0}
    write_pages(own, best_elsewhere, PUBLISHED.grid, FIGURES)
    found = judged(own)
    assert [found[key].verdict for key in ("rise", "optimum", "which_layer")] == [NOT_REPRODUCED] * 3
    assert found["optimum"].port == "N1 = 256, N2 = 20 (80.00)"
    assert found["which_layer"].port == "fits the first layer's N1 outputs"
    write_pages(own, PUBLISHED.grid, PUBLISHED.grid, FIGURES)
    both = judged(own)["which_layer"]
    assert (both.verdict, both.port) == (NOT_TESTABLE, "undecided") and "both of the features show it" in both.why


def test_a_dip_or_a_better_neighbour_within_the_margin_is_chance_and_beyond_it_is_not(own):
    for dip, verdict in ((0.4, REPRODUCED), (0.6, NOT_REPRODUCED)):
        # Of a step down and of a combination that is better than the chosen one.
        grid = PUBLISHED.grid | {
            (1024, 20): 80.0 - dip,
            (512, 20): 80.0 - 2 * dip,
            (2048, 20): 80.0 - 2 * dip,
            (4096, 20): 80.0 + dip,
        }
        write_pages(own, grid, FLAT, FIGURES)
        found = judged(own)
        assert (found["rise"].verdict, found["optimum"].verdict) == (verdict, verdict), dip


def test_a_grid_that_does_not_fall_but_does_not_rise_either_is_no_rise(own):
    write_pages(own, FLAT, FLAT, FIGURES)
    claim = judged(own)["rise"]
    assert claim.verdict == NOT_REPRODUCED and claim.port == "0; 0 of 24 steps up"


def test_only_an_n2_with_table_2_s_least_and_greatest_n1_is_judged_and_a_missing_step_decides_nothing(own):
    def rise(without):
        write_pages(own, {cell: value for cell, value in PUBLISHED.grid.items() if cell not in without}, FLAT, FIGURES)
        return judged(own)["rise"]

    n1s, n2s = sorted({n1 for n1, _ in PUBLISHED.grid}), sorted({n2 for _, n2 in PUBLISHED.grid})
    first, second = n2s[:2]
    assert "Left out" not in rise([]).why
    single = rise([(n1, first) for n1 in n1s[1:]])
    assert single.verdict == REPRODUCED and f"Left out are N2 = {first}, without N1 = 256 or N1 = 4096." in single.why
    absent = rise([(n1, second) for n1 in n1s] + [(n1s[-1], first)])
    assert absent.verdict == REPRODUCED and f"Left out are N2 = {first}, {second}, " in absent.why
    step = rise([(n1s[2], second)])
    assert step.verdict == NOT_TESTABLE and f"Steps are missing at N2 = {second}." in step.why
    none = rise([(n1s[0], n2) for n2 in n2s])
    assert none.verdict == NOT_TESTABLE and "No N2 of Table 2 has both N1 = 256 and N1 = 4096." in none.why


@pytest.mark.parametrize(("kept", "verdict"), [(30, REPRODUCED), (29, NOT_TESTABLE), (1, NOT_TESTABLE)])
def test_the_optimum_is_judged_where_all_of_table_2_s_combinations_can_be(own, kept, verdict):
    cells = sorted(PUBLISHED.grid, key=lambda cell: cell != PUBLISHED.chosen)[:kept]
    write_pages(own, {cell: PUBLISHED.grid[cell] for cell in cells} | {(3, 2): 1.0}, FLAT, FIGURES)
    claim = judged(own)["optimum"]
    assert claim.verdict == verdict and f"{kept} of 30 can be judged" in claim.why


def test_a_grid_whose_decision_values_are_all_but_constant_is_not_judged(own):
    write_pages(own, {}, PUBLISHED.grid, FIGURES)
    found = judged(own)
    assert [found[key].verdict for key in ("rise", "optimum", "which_layer")] == [NOT_TESTABLE] * 3
    assert "all but constant" in found["rise"].why and found["rise"].port == "-"
    assert "too few combinations" in found["which_layer"].why
    write_pages(own, {}, {}, FIGURES)
    assert f"RUN={own}` with other N1= and N2=" in judged(own)["rise"].why


# Of 1000 images a panel, two standard errors of 0.5 against 0.54 or 0.55 are 0.0446: above 0.04 and below 0.05.
@pytest.mark.parametrize(
    ("better", "verdict"),
    [
        ((0.55, 0.1), REPRODUCED),
        ((0.54, 0.1), NOT_REPRODUCED),
        ((0.55, -0.1), NOT_REPRODUCED),
        ((0.4, 0.1), NOT_REPRODUCED),
        ((0.55, None), NOT_TESTABLE),
    ],
)
def test_a_panel_is_better_separated_by_neighbours_beyond_chance_and_by_silhouette(own, better, verdict):
    write_pages(own, {}, {}, {"figure1": FIGURES["figure1"], "figure3": [(0.9, 0.9), (0.5, 0.0), better]})
    found = judged(own)
    assert found["separated figure3 2 1"].verdict == verdict
    assert found["separated figure1 0 1"].verdict == REPRODUCED
    assert found["separated figure3 2 1"].port.startswith(f"panel 2 {100 * better[0]:.1f} %")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"classes": [f"<{name}>|" for name in VOC]}, "a stand-in"),
        ({"images": {"trainval": 40, "test": 4952}}, "its images are not all of VOC2007's"),
        ({"annotations": sha256_json({})}, "no annotations"),
        ({"svm__c": 2.0}, "its specification is not the paper's (svm.c)"),
        ({"backbone__weights_sha256": "f" * 64}, "backbone.weights_sha256"),
    ],
)
def test_a_run_that_is_not_the_paper_s_tests_nothing_but_shows_its_figures(tmp_path, changes, says):
    for side in ("caffe", "torch"):
        write_side(tmp_path / side, PUBLISHED.ap, **changes)
    write_comparison(tmp_path, MAPS, GAINS)
    write_pages(tmp_path, PUBLISHED.grid, FLAT, FIGURES)
    found = judged(tmp_path)
    assert set(on_the_run(found).values()) == {NOT_TESTABLE}
    assert {key: found[key].verdict for key in SETTLED} == SETTLED and found["pool5"].verdict == REPRODUCED
    for key in on_the_run(found):
        assert says in found[key].why and found[key].port != "-", key
    assert found["gain"].port == "+1.80 [+0.90, +2.70]" and found["which_layer"].port.startswith("fits the second")


def test_what_differs_from_the_paper_only_in_what_is_kept_is_the_paper_s_own(tmp_path):
    for side in ("caffe", "torch"):
        write_side(tmp_path / side, PUBLISHED.ap, transfer__snapshots=[1, 2], compare__margin=0.1)
    found = judged(tmp_path)
    assert found["row_map ours"].verdict == REPRODUCED and "allowed are 0.15" in found["row_map ours"].why


def test_missing_pieces_are_dashes_with_the_command_that_makes_them(own):
    (own / "compare.json").unlink()
    (own / "paper/table2.json").unlink()
    (own / "paper/figures.json").unlink()
    found = judged(own)
    for key, command in {
        "gain": "make seeds compare",
        "rise": "make grid",
        "optimum": "make grid",
        "which_layer": "make grid",
        "separated figure1 0 1": "make figures",
    }.items():
        claim = found[key]
        assert (claim.caffe, claim.port, claim.verdict) == (
            "-",
            "-",
            NOT_TESTABLE,
        ) and f"`{command} PROFILE=paper" in claim.why
    # Without seeds the runs themselves stand for mAP.
    assert found["row_map ours"].verdict == REPRODUCED and found["row_map ours"].caffe == "79.99"


def test_a_side_that_is_not_finished_is_a_dash_and_decides_nothing(tmp_path):
    write_side(tmp_path / "torch", PUBLISHED.ap)
    found = judged(tmp_path)
    for key in ("row_map ours", "row_classes ours", "lost_classes", "gap baseline_hr baseline_lr"):
        assert found[key].caffe == "-" and found[key].port != "-" and found[key].verdict == NOT_TESTABLE, key
        assert "`make caffe-reproduce PROFILE=paper" in found[key].why
    assert found["pool5"].verdict == NOT_TESTABLE


def test_a_comparison_or_a_page_of_another_run_is_not_taken(own):
    for part in ("table2", "figures"):
        path = own / f"paper/{part}.json"
        document = json.loads(path.read_text())
        write_json(path, {**document, "remarks": ["Profile paper, specification 0123; other."]})
    comparison = json.loads((own / "compare.json").read_text())
    comparison["runs"]["b"][0]["stages"]["metrics"] = "f" * 64
    write_json(own / "compare.json", comparison)
    found = judged(own)
    assert "of another run than torch/" in found["gain"].why and found["gain"].port == "-"
    assert "of another specification" in found["rise"].why and found["rise"].port == "-"
    assert "of another specification" in found["separated figure1 0 1"].why
    write_json(own / "compare.json", {**comparison, "schema_version": 0})
    assert "of another version" in judged(own)["gain"].why


def test_what_cannot_be_read_is_one_line(own, tmp_path):
    with user_error(tmp_path / "none", "holds no run"):
        claims(tmp_path / "none")


BROKEN = {
    "paper/table2.json": ({"rise", "optimum", "which_layer"}, "make grid"),
    "paper/figures.json": ({"separated figure1 0 1", "separated figure3 2 1"}, "make figures"),
    "compare.json": ({*GAIN_CLAIMS}, "make compare"),
}
FORMS = ("{", "[]", "3", "null", '{"remarks": 3, "entries": [{}], "figures": {"figure1": [{}]}, "end_to_end": {}}')


@pytest.mark.parametrize("content", FORMS)
@pytest.mark.parametrize("file", BROKEN)
def test_a_malformed_file_costs_the_claims_that_rest_on_it_and_is_named_with_its_remedy(own, file, content):
    before = judged(own)
    (own / file).write_text(content)
    found, (resting, remedy) = judged(own), BROKEN[file]
    for key, claim in found.items():
        if key in resting:
            assert claim.verdict == NOT_TESTABLE and (claim.port == "-") == (key not in ("transferred", "bounds")), key
            assert f"{file} is malformed (" in claim.why and f"run `{remedy} PROFILE=paper" in claim.why
            assert str(own) not in claim.why.replace(f"RUN={own}", "") and "\n" not in claim.why
        elif file != "compare.json" and key != "turning":  # which shows the port's grid besides
            assert claim == before[key]
        else:
            assert claim.verdict == before[key].verdict


@pytest.mark.parametrize("value", ["x", {}, float("nan"), float("inf")])
@pytest.mark.parametrize("place", ["map", "knn", "silhouette", "interval"])
def test_a_figure_that_is_no_number_makes_its_file_malformed(own, place, value):
    file = {"map": "paper/table2.json", "interval": "compare.json"}.get(place, "paper/figures.json")
    document = json.loads((own / file).read_text())
    if place == "map":
        document["entries"][0]["map"] = value
    elif place == "interval":
        document["end_to_end"]["ours_minus_baseline_lr"]["b"]["overall"]["interval_95"][1] = value
    else:
        document["figures"]["figure1"][0][place] = document["figures"]["figure3"][2][place] = value
    (own / file).write_text(json.dumps(document))
    found = judged(own)
    for key in BROKEN[file][0]:
        assert f"{file} is malformed (" in found[key].why


def test_damaged_metrics_of_a_side_cost_table_1_s_claims_alone(own):
    before, path = judged(own), own / "torch/09-metrics/metrics.json"
    path.write_text(path.read_text() + " ")
    found = judged(own)
    assert "torch/09-metrics/metrics.json is not what its manifest records" in found["row_classes ours"].why
    assert (found["row_classes ours"].port, found["row_classes ours"].verdict) == ("-", NOT_TESTABLE)
    assert found["rise"] == before["rise"] and found["gain"] == before["gain"] and found["means"] == before["means"]


def test_the_claim_on_image_level_says_what_it_rests_on_and_how_sure_it_is(own):
    claim = judged(own)["image_level"]
    assert claim.why.startswith("Rests on 3 published results of 2 networks, each network counted once.")
    assert "OverFeat 0.53 [0.46 to 0.64], ResNet-50 0.54 [0.48 to 0.64]; of these among themselves 0.94 [" in claim.why
    assert "with any one class left out" in claim.why
    assert "a share of 0.33 stands as far apart as the row. With 2 networks that cannot be less than 1/3, " in claim.why
    assert " bottle is at place 9 with 90.6, there at 20 with 42.0 to 60.1." in claim.why
    assert "speaks for crops of objects against the whole images" in claim.why and "no proof. So it is un" in claim.why


def test_the_verdict_on_image_level_is_by_whether_the_row_stands_apart_and_how_many_networks_there_are(whole):
    readings = read_run(whole)
    resnet, row = readings.facts.image_level["resnet50"], PUBLISHED.ap["baseline_hr"]

    def found(networks, baseline_hr):
        noise = np.random.default_rng(1).normal(0, 0.5, (networks, len(row)))
        levels = {f"{i}": replace(resnet, network=f"{i}", ap=list(resnet.ap + noise[i])) for i in range(networks)}
        published = replace(PUBLISHED, ap={**PUBLISHED.ap, "baseline_hr": baseline_hr})
        facts = replace(readings.facts, image_level=levels)
        return image_level(replace(readings, published=published, facts=facts))

    for networks, baseline_hr, verdict in (
        (20, row, INCONSISTENT),
        (19, row, NOT_TESTABLE),
        (20, resnet.ap, REPRODUCED),
    ):
        claim = found(networks, baseline_hr)
        assert claim.verdict == verdict and f"With {networks} networks that cannot be less" in claim.why
        assert ("crops of objects" in claim.why) is (verdict != REPRODUCED)
        assert ("So it is undecided." in claim.why) is (verdict == NOT_TESTABLE)


def test_sides_of_other_specifications_are_not_judged(tmp_path):
    write_side(tmp_path / "caffe", PUBLISHED.ap)
    write_side(tmp_path / "torch", PUBLISHED.ap, svm__c=2.0)
    with user_error(tmp_path, "not of one specification"):
        claims(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('rule = "pool5"', 'rule = "pool6"', "pool6 is no rule"),
        ('rule = "pool5"\nevidence = "#run"', 'rule = "pool5"\nevidence = "#walk"', "#walk is no part"),
        ('source = "paper 4.1, 4.2"', 'source = " "', "claim 4 must have"),
        ('source = "paper 4.1, 4.2"', 'from = "x"', "claim 4 must have"),
        ("[[claim]]", "[[claim]", "mend the TOML"),
    ],
)
def test_a_damaged_file_of_claims_is_one_line(tmp_path, old, new, says):
    path = tmp_path / "claims.toml"
    path.write_text(CLAIMS.read_text().replace(old, new, 1))
    with user_error(path, says):
        read_claims(path)


def test_every_rule_is_asked():
    assert {entry["rule"] for entry in read_claims()} == set(RULES)


def test_the_command_prints_every_claim_and_ends_with_2_where_there_is_no_run(own, tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "audit.claims.claims", *map(str, arguments)]
        return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)

    done = run(own)
    assert done.returncode == 0 and done.stdout == markdown(claims(own))
    lines = [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in done.stdout.splitlines()]
    assert [line[0] for line in lines[2:]] == [f"C{i}" for i in range(1, len(read_claims()) + 1)]
    missing = run(tmp_path / "none")
    assert missing.returncode == 2 and missing.stderr.count("\n") == 1 and missing.stderr.startswith("error: ")


def test_a_bar_in_a_class_name_does_not_break_the_table(tmp_path):
    for side in ("caffe", "torch"):
        write_side(tmp_path / side, {row: [50.0, 40.0] for row in ROWS}, ["a|b", "c"], {"trainval": 3, "test": 2})
    for line in markdown(claims(tmp_path)).splitlines():
        assert line.replace("\\|", "").count("|") == 9
    with pytest.raises(UserError):
        claims(tmp_path / "caffe")
