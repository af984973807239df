"""The whole pipeline's answer: whose runs may stand for seeds, and what is said of the differences of their mAP."""

import shutil
import statistics

import numpy as np
import pytest
from fake_pair import (
    LABELS_TEST,
    MARGIN,
    SEED,
    ap_11point,
    change_parts,
    change_spec,
    feed,
    link_run,
    metrics_of,
    outputs,
    score,
    write_run,
    write_stage,
)
from scipy.stats import t as students_t

from compare.bootstrap import equivalence, paired_differences, resamples
from compare.check import Judge
from compare.end_to_end import (
    SEED_STAGES,
    STANDARD_ERRORS,
    checks,
    claim,
    end_to_end,
    farthest_seed,
    seed_pairs,
)
from experiment.artifacts import MANIFEST, RunFolder
from experiment.errors import UserError
from experiment.stages import ROWS, STAGES

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
    """The folders of the seeds 2 and 10, with runs that may be changed."""
    folder = shutil.copytree(seeds_template, tmp_path / "seeds")
    return [folder / "2", folder / "10"]


@pytest.fixture
def ab(runs):
    return RunFolder(runs.a), RunFolder(runs.b)


def by_name(checks):
    return {(check.quantity, check.item): check for check in checks}


@pytest.fixture
def judge(tolerances):
    return Judge(tolerances, "chained")


# ---------------------------------------------------------------- whose runs are taken


def test_a_seeds_runs_have_every_stage_but_the_probe_that_no_seed_changes():
    assert [stage for stage in STAGES if stage not in SEED_STAGES] == ["resnet101"]


@pytest.mark.parametrize("step", [1, -1])
def test_the_runs_of_every_seed_come_in_the_order_given(ab, seeds, step):
    pairs = seed_pairs(seeds[::step], *ab)
    assert [[run.path for run in pair] for pair in pairs] == [[path / name for name in "ab"] for path in seeds[::step]]


def refused(*arguments) -> str:
    with pytest.raises(UserError) as caught:
        seed_pairs(*arguments)
    return str(caught.value)


@pytest.mark.parametrize("name", ["notes", "1.5", "-1", "1e3", "seed1", "01", "002", "10 ", "+3", "\u0663", "\u00b2"])
def test_a_folder_that_is_not_named_by_a_seed_is_refused(ab, seeds, tmp_path, name):
    assert f"{tmp_path / name} is not named by its seed" in refused([*seeds, tmp_path / name], *ab)


def test_a_seed_that_is_named_twice_is_refused(ab, seeds, tmp_path):
    shutil.copytree(seeds[0], tmp_path / "more" / "2")
    for again in (seeds[0], tmp_path / "more" / "2"):
        assert "names a seed twice among 2, 10, 2" in refused([*seeds, again], *ab)


def test_a_link_to_a_seeds_folder_is_no_other_seed(ab, seeds):
    link = seeds[0].with_name("3")
    link.symlink_to(seeds[0])
    assert "names a seed twice among 2, 10, 3" in refused([*seeds, link], *ab)
    assert "names a seed twice among 2, 10, 2" in refused([*seeds, seeds[1] / ".." / "2"], *ab)


def test_runs_whose_folders_have_one_name_cannot_be_told_apart_in_a_seeds_folder(templates, seeds, tmp_path):
    runs = [RunFolder(link_run(templates[side], tmp_path / side / "run")) for side in ("caffe", "torch")]
    assert "both runs are called run" in refused(seeds, *runs)


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_run_that_is_missing_is_named_and_its_seeds_folder_is_what_may_be_deleted(ab, seeds, name):
    shutil.rmtree(seeds[1] / name)
    message = refused(seeds, *ab)
    assert f"{seeds[1] / name} is no run" in message and message.endswith(f"or delete {seeds[1]})")


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("stage", SEED_STAGES)
def test_a_run_that_is_unfinished_is_named(ab, seeds, name, stage):
    path = RunFolder(seeds[0] / name).stage_path(stage)
    (path / MANIFEST).unlink()
    assert f"{path} is unfinished" in refused(seeds, *ab)


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_run_that_differs_in_more_than_the_seed_is_refused(ab, seeds, name):
    change_spec(seeds[1] / name, lambda s: s["values"]["compare"].update(margin=9.0))
    message = refused(seeds, *ab)
    assert "spec.compare.margin" in message and str(seeds[1] / name) in message


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("part", ["side", "code", "versions"])
@pytest.mark.parametrize("stage", ["index", "metrics"])
def test_a_run_of_another_program_than_its_side_of_the_pair_is_refused(ab, seeds, name, part, stage):
    change_parts(seeds[1] / name, stage, lambda parts: parts.update({part: "another"}))
    run, like = RunFolder(seeds[1] / name), ab["ab".index(name)]
    assert f"{run.stage_path(stage)} is of other {part} than {like.stage_path(stage)}" in refused(seeds, *ab)


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_run_that_was_not_fed_by_itself_is_refused(ab, seeds, name):
    run = RunFolder(seeds[0] / name)
    write_stage(run, "transfer_features", {("transfer_features", "test"): lambda f: f + 1})
    assert f"{run.stage_path('svm')} was not fed by {run.stage_path('transfer_features')}" in refused(seeds, *ab)


def test_both_sides_of_a_seed_have_the_same_one(ab, seeds):
    shutil.rmtree(seeds[1] / "b")
    shutil.copytree(seeds[0] / "b", seeds[1] / "b")
    message = refused(seeds, *ab)
    assert "from seed 10" in message and str(seeds[1] / "b") in message


@pytest.mark.parametrize("stage", ["clusters", "transfer"])
def test_a_run_that_took_the_others_draws_is_no_seed_of_its_own(ab, seeds, stage):
    write_stage(RunFolder(seeds[0] / "b"), stage, drew_itself=False)
    message = refused(seeds, *ab)
    assert "did not draw by itself" in message and str(seeds[0] / "b") in message


def test_one_seed_in_two_folders_is_not_two(ab, seeds):
    more = shutil.copytree(seeds[0], seeds[0].with_name("3"))
    assert f"{more / 'a'} did not draw by itself from seed 3" in refused([*seeds, more], *ab)


def test_a_run_that_was_given_other_images_is_refused(ab, seeds):
    path = seeds[0] / "b"
    write_stage(RunFolder(path), "index", {("index", "image_sha256"): lambda d: {**d, "test001": "9" * 64}})
    feed(path)
    assert "image test001 is another file" in refused(seeds, *ab)


# ---------------------------------------------------------------- what is said of them


def test_the_maps_are_those_of_the_metrics_in_percent(ab):
    score(ab[1].path, ours=PERFECT)
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
    write_stage(ab[1], "svm", {("svm", "ours"): lambda _: spoil(PERFECT)})
    with pytest.raises(UserError, match="ours"):
        end_to_end(ab[0], [ab])


def test_differences_are_of_means_over_the_seeds(ab, seeds):
    score(seeds[1] / "a", ours=PERFECT)
    score(seeds[0] / "b", baseline_lr=-PERFECT)
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
        for kind in ("images", "overall"):  # both sides have the same resamples, so that nothing is left of them
            assert found[kind]["interval_95"] == [0.0, 0.0] and found[kind]["verdict"] == "equivalent"
    found = list(checks(summary, [ab], judge, False))
    assert [(check.quantity, check.item, check.allowed) for check in found] == [
        *(("least_map_difference", row, MARGIN) for row in ROWS),
        *(("farthest_seed", row, 10.0) for row in ROWS),
        *(("third_route", f"{row} of {side}", 1e-7) for side in "ab" for row in ROWS),
    ]
    assert all(check.agrees and check.value == pytest.approx(0.0, abs=1e-12) for check in found)


def test_seeds_that_differ_widen_only_the_interval_that_draws_them(ab, seeds):
    for name in "ab":
        score(seeds[1] / name, ours=PERFECT)
    found = end_to_end(ab[0], seed_pairs(seeds, *ab))["a_minus_b"]["ours"]
    assert found["difference"] == 0.0 and found["images"]["interval_95"] == [0.0, 0.0]
    low, high = found["overall"]["interval_95"]
    assert low < -1 and high > 1 and found["overall"]["verdict"] == "undecided"


def written_out_map(scores, weights):
    """mAP in percent of a resample whose images are repeated as often as they were drawn."""
    rows = np.repeat(np.arange(len(scores)), weights)
    aps = []
    for values, label in zip(scores[rows].T, LABELS_TEST[rows].T, strict=True):
        if (label == 1).any():
            aps.append(ap_11point(values[label != 0], label[label != 0] == 1))
    return 100 * np.mean(aps)


@pytest.mark.parametrize("worse", [0, 1])
def test_a_shift_of_four_standard_errors_beyond_the_margin_fails_whichever_side_is_worse(ab, judge, worse):
    score(ab[worse].path, baseline_hr=-PERFECT)
    score(ab[1 - worse].path, baseline_hr=PERFECT)
    summary = end_to_end(ab[0], [ab])
    verdict = summary["a_minus_b"]["baseline_hr"]["overall"]
    check = by_name(checks(summary, [ab], judge, False))["least_map_difference", "baseline_hr"]
    resampled = [written_out_map(PERFECT, w) - written_out_map(-PERFECT, w) for w in resamples(8, 60, SEED)]
    shift = 100 - written_out_map(-PERFECT, np.ones(8, int))
    assert verdict["standard_error"] == pytest.approx(np.std(resampled))
    assert check.value == pytest.approx(shift - 4 * np.std(resampled)) and check.value > MARGIN
    assert not check.agrees and "different at 0.5" in check.detail
    assert (verdict["interval_95"][0] > MARGIN) if worse == 1 else (verdict["interval_95"][1] < -MARGIN)
    bad = [(check.quantity, check.item) for check in checks(summary, [ab], judge, False) if not check.agrees]
    assert bad == [("least_map_difference", "baseline_hr"), ("farthest_seed", "baseline_hr")]


def test_chance_does_not_fail_even_where_the_interval_leaves_out_the_margin(judge):
    def summary(difference, standard_error):
        interval = [difference - 2 * standard_error, difference + 2 * standard_error]
        verdict = {"interval_95": interval, "standard_error": standard_error, "verdict": "different"}
        found = {"difference": difference, "overall": verdict, "certain": True}
        return {"a_minus_b": {"ours": found}, "margin": MARGIN}

    cases = [(3.0, 1.0, 0.0, True), (4.4, 1.0, 0.4, True), (4.6, 1.0, 0.6, False), (-4.6, 1.0, 0.6, False)]
    for difference, standard_error, value, agrees in [*cases, (-0.5, 0.0, 0.5, True)]:
        check = next(checks(summary(difference, standard_error), [], judge, False))
        assert check.value == pytest.approx(value) and check.agrees is agrees


@pytest.mark.parametrize(("seeds", "rate"), [(5, students_t.sf(4, 8)), (2, students_t.sf(4, 2))])
def test_chance_fails_a_difference_of_just_the_margin_as_rarely_as_students_t_says(judge, seeds, rate):
    """0.2 % of comparisons of 5 + 5 seeds, which are enough to judge by; of 2 + 2, which are not, 3 %."""
    random, times, failed = np.random.default_rng(seeds), 2000, 0
    for number in range(times):
        sides = [np.repeat(random.normal(mean, 1.0, (seeds, 1)), 400, axis=1) for mean in (MARGIN, 0.0)]
        difference = float(sides[0].mean() - sides[1].mean())
        overall = equivalence(difference, paired_differences(*sides, number), MARGIN).as_json()
        found = {"difference": difference, "overall": overall, "certain": True}
        failed += not next(checks({"a_minus_b": {"ours": found}, "margin": MARGIN}, [], judge, False)).agrees
    assert STANDARD_ERRORS == 4 and (rate < 0.01) == (seeds >= 5)
    assert failed / times == pytest.approx(rate, abs=4 * (rate / times) ** 0.5)


def maps_of(a, b):
    """What `farthest_seed` reads of an answer: the mAPs of row ours by side and seed."""
    return {"map": {side: {"ours": {"seeds": list(values), "mean": statistics.mean(values)}}
                    for side, values in (("a", a), ("b", b))}}  # fmt: skip


@pytest.mark.parametrize(
    ("a", "b", "value", "which"),
    [
        ([50.0], [50.0], 0.0, None),
        ([50.0], [60.0], 10.0, None),
        ([50.0], [60.5], 10.5, None),
        ([50.0, 52.0, 54.0], [50.0, 52.0, 80.0], 28.0, "number 3 of side b"),  # from 52, the mean of a
        ([50.0, 20.0], [50.0, 50.0, 50.0], 30.0, "number 2 of side a"),
        ([80.0, 20.0], [20.0, 80.0], 30.0, None),  # means that are equal
        ([50.0, 61.0], [50.5, 50.5], 10.5, "number 2 of side a"),
    ],
)
def test_the_farthest_seed_is_the_one_farthest_from_the_other_sides_mean(judge, a, b, value, which):
    check = farthest_seed(maps_of(a, b), "ours", judge)
    assert check.value == pytest.approx(value) and check.agrees is (value <= 10) and check.allowed == 10.0
    assert which in (None, check.detail)


@pytest.mark.parametrize("seed", range(5))
def test_the_farthest_seed_is_that_of_a_brute_force(judge, seed):
    random = np.random.default_rng(seed)
    a, b = random.normal(50, 5, 5), random.normal(50, 5, 3)
    wanted = max(max(abs(x - sum(b) / 3) for x in a), max(abs(x - sum(a) / 5) for x in b))
    assert farthest_seed(maps_of(a, b), "ours", judge).value == pytest.approx(wanted)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("row", ROWS)
def test_a_sign_flip_in_one_of_five_seeds_fails_although_the_means_may_be_equal(ab, seeds, judge, row, which):
    for path in seeds:
        for name in "ab":
            score(path / name, **{row: PERFECT})
    score(seeds[0] / "ab"[which], **{row: -PERFECT})
    right, wrong = ((RunFolder(path / "a"), RunFolder(path / "b")) for path in seeds[::-1])
    pairs = [right, right, wrong, right, right]
    summary = end_to_end(ab[0], pairs)
    found = by_name(checks(summary, pairs, judge, True))
    assert found["least_map_difference", row].value == 0.0  # in four standard errors of such seeds it is nothing
    assert [key for key, check in found.items() if not check.agrees] == [("farthest_seed", row)]
    assert found["farthest_seed", row].detail == f"number 3 of side {'ab'[which]}"


def test_without_seeds_a_map_far_off_fails_though_each_side_drew_its_own(ab, judge):
    write_stage(ab[1], "transfer", drew_itself=True)
    score(ab[0].path, ours=PERFECT)
    score(ab[1].path, ours=PERFECT * [1, 1, -1])
    summary = end_to_end(ab[0], [ab])
    found = by_name(checks(summary, [ab], judge, False))
    assert found["least_map_difference", "ours"].allowed is None and found["least_map_difference", "ours"].agrees
    assert [key for key, check in found.items() if not check.agrees] == [("farthest_seed", "ours")]


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("count", [1, 4, 5])
def test_what_a_seed_has_a_part_in_is_undecided_below_five_seeds(ab, seeds, judge, count, own):
    for name, scores in (("a", PERFECT), ("b", -PERFECT)):
        score(seeds[0] / name, ours=scores, baseline_hr=scores)
    if not own:
        for stage in ("clusters", "transfer"):
            write_stage(RunFolder(seeds[0] / "b"), stage, drew_itself=False)
    pairs = [(RunFolder(seeds[0] / "a"), RunFolder(seeds[0] / "b"))] * count
    summary = end_to_end(ab[0], pairs)
    enough = count == 5
    certain = {"baseline_hr": True, "baseline_lr": True, "ours": enough or not own}
    found = by_name(checks(summary, pairs, judge, True))
    for row, known in certain.items():
        entry = summary["a_minus_b"][row]
        verdict = "equivalent" if row == "baseline_lr" else "different" if known else "undecided"
        assert (entry["certain"], entry["overall"]["verdict"], entry["images"]["verdict"]) == (known, verdict, verdict)
        check = found["least_map_difference", row]
        assert check.value > MARGIN or row == "baseline_lr"
        assert check.agrees is (verdict != "different") and check.allowed == (MARGIN if known else None)
        # What no number of seeds is needed for: a mAP far from the other side's.
        assert found["farthest_seed", row].agrees is (row == "baseline_lr")
    assert [summary["ours_minus_baseline_lr"][side]["certain"] for side in "ab"] == [enough, enough]


@pytest.mark.parametrize("stage", ["clusters", "transfer"])
def test_draws_of_one_stage_alone_make_the_seed_a_part_of_ours(ab, stage):
    write_stage(ab[1], stage, drew_itself=True)
    assert [found["certain"] for found in end_to_end(ab[0], [ab])["a_minus_b"].values()] == [True, True, False]


@pytest.mark.parametrize("side", ["a", "b"])
def test_a_runs_own_map_is_held_against_that_of_its_decision_values_in_every_seed(ab, seeds, judge, side):
    def off(metrics):
        return {
            **metrics,
            "baseline_lr": {**metrics["baseline_lr"], "map_11point": metrics["baseline_lr"]["map_11point"] + 1e-8},
        }

    write_stage(RunFolder(seeds[1] / side), "metrics", {("metrics", "metrics"): off})
    pairs = seed_pairs(seeds, *ab)
    bad = [check for check in checks(end_to_end(ab[0], pairs), pairs, judge, True) if not check.agrees]
    assert [(check.quantity, check.item) for check in bad] == [("third_route", f"baseline_lr of {side}")]
    assert bad[0].value == pytest.approx(1e-6, rel=1e-3)


def test_the_specifications_margin_is_the_bound(ab, judge):
    score(ab[0].path, baseline_hr=-PERFECT)
    score(ab[1].path, baseline_hr=PERFECT)
    for run in ab:
        change_spec(run.path, lambda s: s["values"]["compare"].update(margin=99.0))
    found = by_name(checks(end_to_end(ab[0], [ab]), [ab], judge, False))
    assert found["least_map_difference", "baseline_hr"].allowed == 99.0
    assert found["least_map_difference", "baseline_hr"].agrees


def test_an_undecided_difference_does_not_fail(ab, judge):
    scores = outputs()["svm"]["ours"].copy()
    scores[5, 0] = -9  # one positive far down: no certain difference on eight images
    score(ab[1].path, ours=scores)
    summary = end_to_end(ab[0], [ab])
    found = by_name(checks(summary, [ab], judge, False))["least_map_difference", "ours"]
    assert summary["a_minus_b"]["ours"]["overall"]["verdict"] == "undecided"
    assert found.agrees and found.value <= MARGIN


# ---------------------------------------------------------------- each side's own draws


@pytest.mark.parametrize("count", [1, 2])
def test_draws_and_clusterings_of_the_seeds_are_judged_even_of_one(ab, seeds, judge, count):
    pairs = seed_pairs(seeds[:count], *ab)
    found = by_name(checks(end_to_end(ab[0], pairs), pairs, judge, True))
    assert all(check.agrees for check in found.values())
    drawn = {f"seed {number} of {side}" for number in range(1, count + 1) for side in "ab"}
    for quantity, allowed in (("initial_p", 1e-6), ("initial_bias", 0.0)):
        assert {item for name, item in found if name == quantity} == drawn
        assert all(found[quantity, item].allowed == allowed for item in drawn)
    assert found["inertia", "clusters"].value == 0.0 and found["adjusted_rand", "clusters"].value == 1.0
    unseeded = by_name(checks(end_to_end(ab[0], pairs), pairs, judge, False))
    of_seeds = {"initial_p", "initial_bias", "inertia", "adjusted_rand"}
    assert list(unseeded) == [name for name in found if name[0] not in of_seeds]


@pytest.mark.parametrize(
    ("factors", "by", "agrees"),
    [((1.03, 0.97), 0.0, True), ((1.03, 1.03), 0.03, False), ((0.97, 0.97), 0.03, False), ((1.03, 1.0), 0.015, True)],
)
def test_inertia_is_judged_by_its_mean_over_the_seeds(ab, seeds, judge, factors, by, agrees):
    for path, factor in zip(seeds, factors, strict=True):
        change = {("clusters", "summary"): lambda s, factor=factor: {**s, "inertia": factor * s["inertia"]}}
        write_stage(RunFolder(path / "b"), "clusters", change)
        feed(path / "b")
    pairs = seed_pairs(seeds, *ab)
    check = by_name(checks(end_to_end(ab[0], pairs), pairs, judge, True))["inertia", "clusters"]
    assert check.value == pytest.approx(by, abs=1e-9) and check.agrees is agrees


@pytest.mark.parametrize(("shares", "agrees"), [((0.0, 0.0), True), ((0.03, 0.0), True), ((0.03, 0.03), False)])
def test_inertia_of_none_is_judged_as_a_share_of_the_scatter(ab, seeds, judge, shares, agrees):
    scatter = 6 * outputs()["features"]["hr_trainval"].astype(float).var(axis=0).sum()
    for path, share in zip(seeds, shares, strict=True):
        for name, inertia in (("a", 0.0), ("b", share * scatter)):
            change = {("clusters", "summary"): lambda s, inertia=inertia: {**s, "inertia": inertia}}
            write_stage(RunFolder(path / name), "clusters", change)
            feed(path / name)
    pairs = seed_pairs(seeds, *ab)
    check = by_name(checks(end_to_end(ab[0], pairs), pairs, judge, True))["inertia", "clusters"]
    assert check.value == pytest.approx(statistics.mean(shares), abs=1e-12) and check.agrees is agrees


def test_the_least_adjusted_rand_index_of_all_seeds_is_shown(ab, seeds, judge):
    write_stage(RunFolder(seeds[1] / "b"), "clusters", {("clusters", "assignments"): lambda a: np.sort(a)})
    feed(seeds[1] / "b")
    pairs = seed_pairs(seeds, *ab)
    check = by_name(checks(end_to_end(ab[0], pairs), pairs, judge, True))["adjusted_rand", "clusters"]
    # 0 1 2 0 1 2 against 0 0 1 1 2 2: no pair in common, of 3 and 3 among 15.
    assert check.value == pytest.approx((0 - 3 * 3 / 15) / (3 - 3 * 3 / 15)) and check.numbers["seeds"][0] == 1.0
    assert check.agrees and check.allowed is None


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize("layer", ["fc1", "fc2"])
@pytest.mark.parametrize(("part", "quantity"), [("weight", "initial_p"), ("bias", "initial_bias")])
def test_weights_that_one_seed_drew_otherwise_fail(ab, seeds, judge, layer, part, quantity, side):
    def wrong(array):
        return np.full_like(array, 0.3)  # as no filler draws them

    write_stage(RunFolder(seeds[1] / side), "transfer", {("transfer", f"{layer}_{part}_initial"): wrong})
    feed(seeds[1] / side)
    pairs = seed_pairs(seeds, *ab)
    found = checks(end_to_end(ab[0], pairs), pairs, judge, True)
    assert [(check.quantity, check.item) for check in found if not check.agrees] == [(quantity, f"seed 2 of {side}")]


@pytest.mark.parametrize(
    ("interval", "said"),
    [([0.1, 5.0], "gain"), ([-5.0, -0.1], "loss"), ([-1.0, 1.0], "undecided"), ([0.0, 2.0], "undecided"),
     ([-2.0, 0.0], "undecided")],
)  # fmt: skip
def test_a_gain_is_claimed_only_where_the_interval_leaves_out_zero(interval, said):
    assert claim({"overall": {"interval_95": interval}, "certain": True}) == said
    assert claim({"overall": {"interval_95": interval}, "certain": False}) == "undecided"


def test_the_claim_is_about_ours_minus_baseline_lr(ab):
    score(ab[0].path, ours=PERFECT, baseline_lr=-PERFECT)
    score(ab[1].path, ours=-PERFECT, baseline_lr=PERFECT)
    for count, said in ((1, ("undecided", "undecided")), (5, ("gain", "loss"))):
        summary = end_to_end(ab[0], [ab] * count)["ours_minus_baseline_lr"]
        assert (claim(summary["a"]), claim(summary["b"])) == said
