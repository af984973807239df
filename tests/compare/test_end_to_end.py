"""The whole pipeline's answer: whose runs may stand for seeds, and what is said of the differences of their mAP."""

import shutil
import statistics

import numpy as np
import pytest
from fake_pair import LABELS_TEST, MARGIN, SEED, ap_11point, change_spec, metrics_of, outputs, write_run, write_stage

from compare.bootstrap import resamples
from compare.check import Judge
from compare.end_to_end import SEED_STAGES, checks, claim, end_to_end, seed_pairs
from experiment.artifacts import MANIFEST, RunFolder
from experiment.errors import UserError
from experiment.stages import ROWS

PERFECT = LABELS_TEST + np.linspace(0, 0.01, LABELS_TEST.size).reshape(LABELS_TEST.shape)


@pytest.fixture(scope="session")
def seeds_template(tmp_path_factory):
    """Runs a and b of the seeds 2 and 10."""
    folder = tmp_path_factory.mktemp("seeds")
    for seed in (2, 10):
        for name, side in (("a", "caffe"), ("b", "torch")):
            write_run(folder / str(seed) / name, stages=SEED_STAGES, seed=seed, side=side, drew_itself=True)
    return folder


@pytest.fixture
def seeds(tmp_path, seeds_template):
    return shutil.copytree(seeds_template, tmp_path / "seeds")


@pytest.fixture
def ab(runs):
    return RunFolder(runs.a), RunFolder(runs.b)


@pytest.fixture
def judge(tolerances):
    return Judge(tolerances, "chained")


def scored(run, **rows):
    """A run with other decision values on test."""
    write_stage(run, "svm", {("svm", row): lambda _, scores=scores: scores for row, scores in rows.items()})


# ---------------------------------------------------------------- whose runs are taken


def test_the_runs_of_every_seed_come_in_order_of_the_seed(ab, seeds):
    (seeds / "notes").mkdir()
    pairs = seed_pairs(seeds, *ab)
    assert [[run.path for run in pair] for pair in pairs] == [
        [seeds / str(seed) / name for name in "ab"] for seed in (2, 10)
    ]


def refused(*arguments) -> str:
    with pytest.raises(UserError) as caught:
        seed_pairs(*arguments)
    return str(caught.value)


def test_a_folder_without_seeds_is_refused(ab, tmp_path):
    (tmp_path / "empty" / "notes").mkdir(parents=True)
    for folder in (tmp_path / "empty", tmp_path / "nowhere"):
        assert f"{folder} holds no seeds' runs: run `make seeds`" in refused(folder, *ab)


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_run_that_is_missing_is_named(ab, seeds, name):
    shutil.rmtree(seeds / "10" / name)
    assert str(seeds / "10" / name) in refused(seeds, *ab)


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("stage", SEED_STAGES)
def test_a_run_that_is_unfinished_is_named(ab, seeds, name, stage):
    path = RunFolder(seeds / "2" / name).stage_path(stage)
    (path / MANIFEST).unlink()
    assert f"{path} is unfinished" in refused(seeds, *ab)


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_run_that_differs_in_more_than_the_seed_is_refused(ab, seeds, name):
    change_spec(seeds / "10" / name, lambda s: s["values"]["compare"].update(margin=9.0))
    message = refused(seeds, *ab)
    assert "spec.compare.margin" in message and str(seeds / "10" / name) in message


def test_both_sides_of_a_seed_have_the_same_one(ab, seeds):
    shutil.rmtree(seeds / "10" / "b")
    shutil.copytree(seeds / "2" / "b", seeds / "10" / "b")
    message = refused(seeds, *ab)
    assert "from seed 10" in message and str(seeds / "10" / "b") in message


@pytest.mark.parametrize("stage", ["clusters", "transfer"])
def test_a_run_that_took_the_others_draws_is_no_seed_of_its_own(ab, seeds, stage):
    write_stage(RunFolder(seeds / "2" / "b"), stage, drew_itself=False)
    message = refused(seeds, *ab)
    assert "did not draw by itself" in message and str(seeds / "2" / "b") in message


def test_one_seed_in_two_folders_is_not_two(ab, seeds):
    shutil.copytree(seeds / "2", seeds / "3")
    assert f"{seeds / '3' / 'a'} did not draw by itself from seed 3" in refused(seeds, *ab)


def test_a_run_that_was_given_other_images_is_refused(ab, seeds):
    run = RunFolder(seeds / "2" / "b")
    write_stage(run, "index", {("index", "image_sha256"): lambda d: {**d, "test001": "9" * 64}})
    assert "image test001 is another file" in refused(seeds, *ab)


# ---------------------------------------------------------------- what is said of them


def test_the_maps_are_those_of_the_metrics_in_percent(ab):
    scored(ab[1], ours=PERFECT)
    summary = end_to_end(ab[0], [ab])
    plain = {row: outputs()["svm"][row] for row in ROWS}
    plain, of_b = metrics_of(plain), metrics_of({**plain, "ours": PERFECT})
    for side, metrics in (("a", plain), ("b", of_b)):
        for row in ROWS:
            value = pytest.approx(100 * metrics[row]["map_11point"])
            assert summary["map"][side][row] == {"seeds": [value], "mean": value, "spread": None}
    assert summary["map"]["b"]["ours"]["mean"] == pytest.approx(100)
    assert (summary["seeds"], summary["resamples"], summary["margin"]) == (1, 60, MARGIN)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: s[:-1],
        lambda s: np.concatenate([s, s]),
        lambda s: s[:, :-1],
        lambda s: np.where(s == s.max(), np.nan, s),
    ],
)
def test_decision_values_that_do_not_fit_or_are_not_finite_have_no_answer(ab, spoil):
    scored(ab[1], ours=spoil(PERFECT))
    with pytest.raises(UserError, match="ours"):
        end_to_end(ab[0], [ab])


def test_differences_are_of_means_over_the_seeds(ab, seeds):
    pairs = seed_pairs(seeds, *ab)
    scored(pairs[1][0], ours=PERFECT)
    scored(pairs[0][1], baseline_lr=-PERFECT)
    summary = end_to_end(ab[0], seed_pairs(seeds, *ab))

    def maps(side, row):
        given = {("a", "ours"): [None, PERFECT], ("b", "baseline_lr"): [-PERFECT, None]}.get((side, row), [None, None])
        return [100 * metrics_of({row: outputs()["svm"][row] if s is None else s})[row]["map_11point"] for s in given]

    for row in ROWS:
        for side in "ab":
            found = summary["map"][side][row]
            assert found["seeds"] == pytest.approx(maps(side, row))
            assert found["mean"] == pytest.approx(statistics.mean(maps(side, row)))
            assert found["spread"] == pytest.approx(statistics.stdev(maps(side, row)), abs=1e-9)
        wanted = statistics.mean(maps("a", row)) - statistics.mean(maps("b", row))
        assert summary["a_minus_b"][row]["difference"] == pytest.approx(wanted, abs=1e-9)
    for side in "ab":
        wanted = statistics.mean(maps(side, "ours")) - statistics.mean(maps(side, "baseline_lr"))
        assert summary["ours_minus_baseline_lr"][side]["difference"] == pytest.approx(wanted, abs=1e-9)


def test_two_equal_sides_differ_by_nothing_and_are_equivalent(ab, judge):
    summary = end_to_end(ab[0], [ab])
    for found in summary["a_minus_b"].values():
        assert found["difference"] == 0.0
        for kind in ("images", "with_seeds"):  # both sides have the same resamples, so that nothing is left of them
            assert found[kind]["interval_95"] == [0.0, 0.0] and found[kind]["verdict"] == "equivalent"
    found = list(checks(summary, [ab], judge))
    assert [(check.quantity, check.item, check.value) for check in found] == [
        ("least_map_difference", row, 0.0) for row in ROWS
    ]
    assert all(check.agrees and check.allowed == MARGIN for check in found)


def test_seeds_that_differ_widen_only_the_interval_that_draws_them(ab, seeds):
    pairs = seed_pairs(seeds, *ab)
    for run in pairs[1]:
        scored(run, ours=PERFECT)
    found = end_to_end(ab[0], seed_pairs(seeds, *ab))["a_minus_b"]["ours"]
    assert found["difference"] == 0.0 and found["images"]["interval_95"] == [0.0, 0.0]
    low, high = found["with_seeds"]["interval_95"]
    assert low < -1 and high > 1 and found["with_seeds"]["verdict"] == "undecided"


def written_out_map(scores, weights):
    """mAP in percent of a resample whose images are repeated as often as they were drawn."""
    rows = np.repeat(np.arange(len(scores)), weights)
    aps = []
    for score, label in zip(scores[rows].T, LABELS_TEST[rows].T, strict=True):
        if (label == 1).any():
            aps.append(ap_11point(score[label != 0], label[label != 0] == 1))
    return 100 * np.mean(aps)


@pytest.mark.parametrize("worse", [0, 1])
def test_a_shift_of_four_standard_errors_beyond_the_margin_fails_whichever_side_is_worse(ab, judge, worse):
    scored(ab[worse], baseline_hr=-PERFECT)
    scored(ab[1 - worse], baseline_hr=PERFECT)
    summary = end_to_end(ab[0], [ab])
    verdict = summary["a_minus_b"]["baseline_hr"]["with_seeds"]
    check = {check.item: check for check in checks(summary, [ab], judge)}["baseline_hr"]
    resampled = [written_out_map(PERFECT, w) - written_out_map(-PERFECT, w) for w in resamples(8, 60, SEED)]
    shift = 100 - written_out_map(-PERFECT, np.ones(8, int))
    assert verdict["standard_error"] == pytest.approx(np.std(resampled))
    assert check.value == pytest.approx(shift - 4 * np.std(resampled)) and check.value > MARGIN
    assert not check.agrees and "different at 0.5" in check.detail
    assert (verdict["interval_95"][0] > MARGIN) if worse == 1 else (verdict["interval_95"][1] < -MARGIN)
    assert [check.item for check in checks(summary, [ab], judge) if not check.agrees] == ["baseline_hr"]


def test_chance_does_not_fail_even_where_the_interval_leaves_out_the_margin(judge):
    def summary(difference, standard_error):
        interval = [difference - 2 * standard_error, difference + 2 * standard_error]
        verdict = {"interval_95": interval, "standard_error": standard_error, "verdict": "different"}
        return {"a_minus_b": {"ours": {"difference": difference, "with_seeds": verdict}}, "margin": MARGIN}

    cases = [(3.0, 1.0, 0.0, True), (4.4, 1.0, 0.4, True), (4.6, 1.0, 0.6, False), (-4.6, 1.0, 0.6, False)]
    for difference, standard_error, value, agrees in [*cases, (-0.5, 0.0, 0.5, True)]:
        (check,) = checks(summary(difference, standard_error), [None], judge)
        assert check.value == pytest.approx(value) and check.agrees is agrees


def test_the_specifications_margin_is_the_bound(ab, judge):
    scored(ab[0], baseline_hr=-PERFECT)
    scored(ab[1], baseline_hr=PERFECT)
    for run in ab:
        change_spec(run.path, lambda s: s["values"]["compare"].update(margin=99.0))
    found = {check.item: check for check in checks(end_to_end(ab[0], [ab]), [ab], judge)}
    assert found["baseline_hr"].allowed == 99.0 and found["baseline_hr"].agrees


def test_an_undecided_difference_does_not_fail(ab, judge):
    scores = outputs()["svm"]["ours"].copy()
    scores[2, 0] = -9  # one positive far down: no certain difference on eight images
    scored(ab[1], ours=scores)
    summary = end_to_end(ab[0], [ab])
    found = {check.item: check for check in checks(summary, [ab], judge)}["ours"]
    assert summary["a_minus_b"]["ours"]["with_seeds"]["verdict"] == "undecided"
    assert found.agrees and found.value <= MARGIN


# ---------------------------------------------------------------- each side's own draws


def by_name(found):
    return {(check.quantity, check.item): check for check in found}


def summary_of(pairs):
    return {"a_minus_b": {}, "margin": MARGIN, "seeds": len(pairs)}


def test_draws_and_clusterings_of_several_seeds_are_judged(ab, seeds, judge):
    pairs = seed_pairs(seeds, *ab)
    found = by_name(checks(end_to_end(ab[0], pairs), pairs, judge))
    assert all(check.agrees for check in found.values())
    assert {name for name in found if name[0] == "initial_p"} == {
        ("initial_p", f"seed {number} of {side}") for number in (1, 2) for side in "ab"
    }
    assert found["inertia", "clusters"].value == 0.0 and found["adjusted_rand", "clusters"].value == 1.0


@pytest.mark.parametrize(
    ("factors", "by", "agrees"),
    [((1.03, 0.97), 0.0, True), ((1.03, 1.03), 0.03, False), ((0.97, 0.97), 0.03, False), ((1.03, 1.0), 0.015, True)],
)
def test_inertia_is_judged_by_its_mean_over_the_seeds(ab, seeds, judge, factors, by, agrees):
    pairs = seed_pairs(seeds, *ab)
    for (_, run), factor in zip(pairs, factors, strict=True):
        change = {("clusters", "summary"): lambda s, factor=factor: {**s, "inertia": factor * s["inertia"]}}
        write_stage(run, "clusters", change)
    pairs = seed_pairs(seeds, *ab)
    check = by_name(checks(summary_of(pairs), pairs, judge))["inertia", "clusters"]
    assert check.value == pytest.approx(by, abs=1e-9) and check.agrees is agrees


def test_the_least_adjusted_rand_index_of_all_seeds_is_shown(ab, seeds, judge):
    pairs = seed_pairs(seeds, *ab)
    write_stage(pairs[1][1], "clusters", {("clusters", "assignments"): lambda a: np.sort(a)})
    pairs = seed_pairs(seeds, *ab)
    check = by_name(checks(summary_of(pairs), pairs, judge))["adjusted_rand", "clusters"]
    # 0 1 2 0 1 2 against 0 0 1 1 2 2: no pair in common, of 3 and 3 among 15.
    assert check.value == pytest.approx((0 - 3 * 3 / 15) / (3 - 3 * 3 / 15)) and check.numbers["seeds"][0] == 1.0
    assert check.agrees and check.allowed is None


@pytest.mark.parametrize("layer", ["fc1", "fc2"])
def test_weights_that_one_seed_drew_otherwise_fail(ab, seeds, judge, layer):
    def wrong(weight):
        return np.full_like(weight, 0.3)  # as no filler draws them

    pairs = seed_pairs(seeds, *ab)
    write_stage(pairs[1][1], "transfer", {("transfer", f"{layer}_weight_initial"): wrong})
    pairs = seed_pairs(seeds, *ab)
    bad = [check.item for check in checks(summary_of(pairs), pairs, judge) if not check.agrees]
    assert bad == ["seed 2 of b"]


@pytest.mark.parametrize(
    ("interval", "said"),
    [([0.1, 5.0], "gain"), ([-5.0, -0.1], "loss"), ([-1.0, 1.0], "undecided"), ([0.0, 2.0], "undecided"),
     ([-2.0, 0.0], "undecided")],
)  # fmt: skip
def test_a_gain_is_claimed_only_where_the_interval_leaves_out_zero(interval, said):
    assert claim({"with_seeds": {"interval_95": interval}}) == said


def test_the_claim_is_about_ours_minus_baseline_lr(ab):
    scored(ab[0], ours=PERFECT, baseline_lr=-PERFECT)
    scored(ab[1], ours=-PERFECT, baseline_lr=PERFECT)
    summary = end_to_end(ab[0], [ab])["ours_minus_baseline_lr"]
    assert (claim(summary["a"]), claim(summary["b"])) == ("gain", "loss")
