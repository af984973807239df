"""Support vectors in common, objectives, the third route of both APs, and rank swaps behind a changed AP."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from fake_pair import (
    CLASSES,
    LABELS_TEST,
    MACHINE,
    MISSING,
    N,
    change_spec,
    decision_values,
    metrics_of,
    outputs,
    write_stage,
)

from compare.stages import compare_stage
from compare.svm import rank_swaps, told_swaps
from experiment.artifacts import RunFolder
from experiment.stages import ROWS


def by_name(checks):
    found = {(check.quantity, check.item): check for check in checks}
    assert len(found) == len(checks)
    return found


# ---------------------------------------------------------------- svm


def duals(*sets):
    """A row a class: an alpha, whatever it is, at each of the class's support vectors."""
    array = np.zeros((len(CLASSES), N["trainval"]))
    for row, support in zip(array, sets, strict=True):
        row[list(support)] = np.random.default_rng(len(support)).normal(size=len(support))
    return lambda _: array


def test_support_vectors_in_common_are_those_of_the_worst_class(runs, pair_of):
    write_stage(RunFolder(runs.a), "svm", {("svm", "ours_dual"): duals({0, 1, 2}, {0, 1, 2, 3}, {5})})
    # With bird's 3 of 3 and train's 1 of 1.
    for second, common, told, agrees in (
        ({1, 2, 3, 4}, 3 / 5, "7 of 9", True),
        ({2, 3, 4, 5}, 2 / 6, "6 of 10", False),
    ):
        write_stage(RunFolder(runs.b), "svm", {("svm", "ours_dual"): duals({2, 0, 1}, second, {5})})
        check = by_name(compare_stage("svm", pair_of(runs.a, runs.b)))["support_vectors", "ours"]
        assert check.value == common and check.agrees is agrees
        assert check.detail == f"{told} in common; least for class cat"


def test_a_class_without_support_vectors_has_none_in_common(runs, pair_of):
    for run in (runs.a, runs.b):
        write_stage(RunFolder(run), "svm", {("svm", "baseline_lr_dual"): duals({0}, set(), {1, 2})})
    check = by_name(compare_stage("svm", pair_of(runs.a, runs.b)))["support_vectors", "baseline_lr"]
    assert check.value == 0.0 and not check.agrees


@pytest.mark.parametrize(("change", "agrees"), [(5e-7, True), (-5e-7, True), (1e-5, False), (-2.0, False)])
def test_the_objective_of_the_worst_class_is_judged_relatively(runs, pair_of, change, agrees):
    def with_objective(value):
        ours = {"bird": {**MACHINE, "objective": -3e9}, "cat": {**MACHINE, "objective": value}, "train": MACHINE}
        return lambda summary: {**summary, "ours": ours}

    write_stage(RunFolder(runs.a), "svm", {("svm", "summary"): with_objective(-40.0)})
    write_stage(RunFolder(runs.b), "svm", {("svm", "summary"): with_objective(-40.0 * (1 + change))})
    check = by_name(compare_stage("svm", pair_of(runs.a, runs.b)))["objective", "ours"]
    assert check.value == pytest.approx(abs(change), rel=1e-6) and check.agrees is agrees
    assert "worst for class cat" in check.detail


def test_a_decision_value_is_judged_by_its_greatest_difference(runs, pair_of):
    for by, agrees in ((0.5e-4, True), (2e-4, False)):
        change = np.zeros(LABELS_TEST.shape)
        change[5, 1] = -by
        write_stage(RunFolder(runs.b), "svm", {("svm", "baseline_hr"): lambda s, change=change: s + change})
        check = by_name(compare_stage("svm", pair_of(runs.a, runs.b)))["decision_max_abs", "baseline_hr"]
        assert check.value == pytest.approx(by) and check.agrees is agrees and "(5, 1)" in check.detail


@pytest.mark.parametrize("change", [0.0, 1e-12, -3.0])
def test_an_objective_of_zero_is_left_by_any_other(runs, pair_of, change):
    for run, value in ((runs.a, 0.0), (runs.b, change)):
        ours = {name: {**MACHINE, "objective": value if name == "cat" else -1.0} for name in CLASSES}
        write_stage(RunFolder(run), "svm", {("svm", "summary"): lambda s, ours=ours: {**s, "ours": ours}})
    check = by_name(compare_stage("svm", pair_of(runs.a, runs.b)))["objective", "ours"]
    assert check.value == (math.inf if change else 0.0) and check.agrees is (change == 0.0)


@pytest.mark.parametrize(("share", "agrees"), [(0.1, True), (-0.1, True), (0.3, False), (-3.0, False)])
def test_a_decision_value_is_judged_as_a_share_of_its_classs_spread(runs, pair_of, share, agrees):
    scores = outputs()["svm"]["ours"].copy()
    scores[5, 1] += share * np.sqrt(np.mean((scores[:, 1] - scores[:, 1].mean()) ** 2))  # of run a's
    scores[:, 0] += share / 10 * scores[:, 0].std()
    write_stage(RunFolder(runs.b), "svm", {("svm", "ours"): lambda _: scores})
    check = by_name(compare_stage("svm", pair_of(runs.a, runs.b)))["decision_of_spread", "ours"]
    assert check.value == pytest.approx(abs(share)) and check.agrees is agrees and "of 3 classes" in check.detail


@pytest.mark.parametrize(("spread", "steep"), [(1.01e-4, True), (0.99e-4, False)])
def test_where_the_solvers_stopping_is_the_spread_its_share_is_not_judged(runs, pair_of, spread, steep):
    """A class is flat below 100 stopping tolerances; one flat class hides no other."""

    def flat(scores):
        scores = scores.copy()
        scores[:, 1] *= spread / scores[:, 1].std()
        return scores

    def turned(scores, column):
        scores = flat(scores)
        scores[:, column] *= -1
        return scores

    write_stage(RunFolder(runs.a), "svm", {("svm", "ours"): flat})
    for column, agrees in ((1, not steep), (2, False)):
        write_stage(RunFolder(runs.b), "svm", {("svm", "ours"): lambda s, c=column: turned(s, c)})
        found = by_name(compare_stage("svm", pair_of(runs.a, runs.b)))
        check = found["decision_of_spread", "ours"]
        assert check.agrees is agrees and (check.value > 1) is not agrees
        assert check.detail == f"worst of {2 + steep} classes that are not flat"
        assert found["decision_max_abs", "ours"].numbers["flat_classes"] == ["cat"] * (not steep)


def test_where_all_classes_are_flat_no_share_is_left_to_judge(runs, pair_of):
    for run, sign in ((runs.a, 1), (runs.b, -1)):
        write_stage(RunFolder(run), "svm", {("svm", "ours"): lambda s, sign=sign: sign * 1e-6 * s})
    found = by_name(compare_stage("svm", pair_of(runs.a, runs.b)))
    assert ("decision_of_spread", "ours") not in found and found["decision_max_abs", "ours"].agrees
    assert {row for quantity, row in found if quantity == "decision_of_spread"} == {"baseline_hr", "baseline_lr"}


# ---------------------------------------------------------------- decision values of the dual coefficients

SOURCES = {"baseline_hr": ("features", "hr_"), "baseline_lr": ("features", "lr_"), "ours": ("transfer_features", "")}


def nearly_flat(row: str, rho: float = MACHINE["rho"]):
    """The changes that make the class cat all but constant, in its dual coefficients and decision values alike."""

    def flat_dual(dual):
        return dual * [[1.0], [2e-5], [1.0]]

    def flat_scores(scores):
        return np.where(np.arange(len(CLASSES)) == 1, 2e-5 * (scores + rho) - rho, scores)

    return {("svm", f"{row}_dual"): flat_dual, ("svm", row): flat_scores}


@pytest.mark.parametrize("mode", ["isolated", "chained"])
@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize("row", ROWS)
def test_reversed_ranks_in_a_flat_class_are_told_by_the_dual_route_and_by_nothing_else(runs, pair_of, row, side, mode):
    for run in (runs.a, runs.b):
        write_stage(RunFolder(run), "svm", nearly_flat(row))
    plain = by_name(compare_stage("svm", pair_of(runs.a, runs.b, mode)))
    assert all(check.agrees for check in plain.values())
    assert plain["decision_max_abs", row].numbers["flat_classes"] == ["cat"]

    def reverse(scores):
        scores = nearly_flat(row)["svm", row](scores)
        scores[:, 1] = scores[:, 1].max() + scores[:, 1].min() - scores[:, 1]
        return scores

    write_stage(RunFolder(getattr(runs, side)), "svm", {**nearly_flat(row), ("svm", row): reverse})
    found = by_name(compare_stage("svm", pair_of(runs.a, runs.b, mode)))
    assert [key for key, check in found.items() if not check.agrees] == [("dual_route", f"{row} of {side}")]


@pytest.mark.parametrize(("by", "agrees"), [(0.0, True), (5e-7, True), (-5e-7, True), (2e-6, False), (-2e-6, False)])
@pytest.mark.parametrize("side", ["a", "b"])
def test_the_dual_route_is_judged_by_its_greatest_difference(runs, pair_of, side, by, agrees):
    change = np.zeros(LABELS_TEST.shape)
    change[5, 1], change[2, 0] = by, by / 2
    write_stage(RunFolder(getattr(runs, side)), "svm", {("svm", "ours"): lambda scores: scores + change})
    check = by_name(compare_stage("svm", pair_of(runs.a, runs.b)))["dual_route", f"ours of {side}"]
    assert check.value == pytest.approx(abs(by), rel=1e-6, abs=1e-12) and check.agrees is agrees


@pytest.mark.parametrize("row", ROWS)
def test_isolated_the_dual_route_takes_what_run_a_fed_and_chained_each_sides_own(runs, pair_of, row):
    stage, prefix = SOURCES[row]
    of_b = {split: -outputs()[stage][f"{prefix}{split}"][::-1] for split in ("trainval", "test")}
    write_stage(RunFolder(runs.b), stage, {(stage, f"{prefix}{split}"): lambda _, f=f: f for split, f in of_b.items()})
    scores = decision_values(outputs()["svm"][f"{row}_dual"], of_b["trainval"], of_b["test"])
    for values, agreeing in ((outputs()["svm"][row], "isolated"), (scores, "chained")):
        write_stage(RunFolder(runs.b), "svm", {("svm", row): lambda _, values=values: values})
        for mode in ("isolated", "chained"):
            found = by_name(compare_stage("svm", pair_of(runs.a, runs.b, mode)))
            assert found["dual_route", f"{row} of b"].agrees is (mode == agreeing)
            others = [check for (name, item), check in found.items() if name == "dual_route" and item != f"{row} of b"]
            assert len(others) == 5 and all(check.agrees for check in others)


def test_the_dual_route_is_of_rows_that_are_scaled_as_the_specification_says(runs, pair_of):
    for run in (runs.a, runs.b):
        change_spec(run, lambda spec: spec["values"]["svm"].update(scale="none"))
    routes = [check for check in compare_stage("svm", pair_of(runs.a, runs.b)) if check.quantity == "dual_route"]
    assert len(routes) == 6 and not any(check.agrees for check in routes)

    def unscaled(row):
        stage, prefix = SOURCES[row]
        train, test = (outputs()[stage][f"{prefix}{split}"].astype(float) for split in ("trainval", "test"))
        return np.einsum("ck,kd,nd->nc", outputs()["svm"][f"{row}_dual"], train, test) - MACHINE["rho"]

    for run in (runs.a, runs.b):
        write_stage(RunFolder(run), "svm", {("svm", row): lambda _, row=row: unscaled(row) for row in ROWS})
    assert all(check.agrees for check in compare_stage("svm", pair_of(runs.a, runs.b)))


def test_each_class_has_its_own_threshold_in_the_dual_route(runs, pair_of):
    rhos = {"train": 3.0, "bird": -1.0, "cat": 0.25}  # in another order than the classes'
    offset = [rhos[name] - MACHINE["rho"] for name in CLASSES]

    def summary(found):
        return {**found, "ours": {name: {**MACHINE, "rho": rho} for name, rho in rhos.items()}}

    write_stage(RunFolder(runs.b), "svm", {("svm", "summary"): summary, ("svm", "ours"): lambda s: s - offset})
    assert by_name(compare_stage("svm", pair_of(runs.a, runs.b)))["dual_route", "ours of b"].agrees
    write_stage(RunFolder(runs.b), "svm", {("svm", "summary"): summary})
    check = by_name(compare_stage("svm", pair_of(runs.a, runs.b)))["dual_route", "ours of b"]
    assert check.value == pytest.approx(np.abs(offset).max()) and not check.agrees


# ---------------------------------------------------------------- metrics


def test_ap_and_map_are_judged_per_row_and_variant_with_both_sides_values(runs, pair_of):
    def change(metrics):
        return {**metrics, "ours": {**metrics["ours"], "ap_11point": [0.5, 0.25, 0.75], "map_11point": 0.51}}

    write_stage(RunFolder(runs.b), "metrics", {("metrics", "metrics"): change})
    found = by_name(compare_stage("metrics", pair_of(runs.a, runs.b)))
    assert {key for key, check in found.items() if not check.agrees} == {
        ("ap", "ours 11point"), ("map", "ours 11point"), ("third_route", "ours of b"),
    }  # fmt: skip
    ours = outputs()["metrics"]["metrics"]["ours"]
    ap, overall = found["ap", "ours 11point"], found["map", "ours 11point"]
    errors = np.abs(np.array([0.5, 0.25, 0.75]) - ours["ap_11point"])
    assert ap.value == errors.max() and ap.detail == f"greatest for class {CLASSES[errors.argmax()]}"
    assert ap.numbers["a"] == dict(zip(CLASSES, ours["ap_11point"], strict=True))
    assert ap.numbers["b"] == {"bird": 0.5, "cat": 0.25, "train": 0.75}
    assert overall.value == abs(0.51 - ours["map_11point"])
    assert (overall.numbers["a"], overall.numbers["b"]) == (ours["map_11point"], 0.51)


@pytest.mark.parametrize("mode", ["isolated", "chained"])
def test_of_own_draws_the_chained_map_of_ours_alone_is_only_shown(runs, pair_of, mode):
    def change(metrics):
        return {row: {**values, "map_area": values["map_area"] / 2} for row, values in metrics.items()}

    write_stage(RunFolder(runs.b), "metrics", {("metrics", "metrics"): change})
    for drew_itself in (False, True):
        write_stage(RunFolder(runs.b), "transfer", drew_itself=drew_itself)
        found = by_name(compare_stage("metrics", pair_of(runs.a, runs.b, mode)))
        shown = {row for row in ROWS if found["map", f"{row} area"].allowed is None}
        assert shown == ({"ours"} if drew_itself and mode == "chained" else set())
        assert {row for row in ROWS if not found["map", f"{row} area"].agrees} == set(ROWS) - shown


def trapezoid_area(scores, positive):
    """The area under the precision-recall curve by the trapezoid rule from (0, 1): another definition."""
    found = np.cumsum(positive[np.argsort(-scores)])
    precision = np.append(1.0, found / np.arange(1, len(found) + 1))
    recall = np.append(0.0, found / found[-1])
    return float(np.sum(np.diff(recall) * (precision[1:] + precision[:-1]) / 2))


def with_ap(variant, definition):
    """The metrics with the AP of another definition or of other images, alike on both sides."""

    def change(metrics):
        changed = {}
        for row, values in metrics.items():
            aps = [definition(outputs()["svm"][row][:, c], LABELS_TEST[:, c]) for c in range(len(CLASSES))]
            changed[row] = {**values, f"ap_{variant}": aps, f"map_{variant}": float(np.mean(aps))}
        return changed

    return change


def at_recalls(steps, scores, positive):
    """The mean over the recalls of the best precision at that recall or beyond."""
    found = np.cumsum(positive[np.argsort(-scores)])
    precision = found / np.arange(1, len(found) + 1)
    return float(np.mean([precision[found >= step * found[-1] - 1e-12].max() for step in steps]))


OTHER_APS = {
    "trapezoid": ("area", lambda score, label: trapezoid_area(score[label != 0], label[label != 0] == 1)),
    "difficult as negative": ("area", lambda score, label: float(np.mean(
        [np.mean(label[score >= s] == 1) for s in score[label == 1]]))),
    "without recall 0": ("11point", lambda score, label: at_recalls(
        np.arange(1, 11) / 10, score[label != 0], label[label != 0] == 1)),
    "11 points with difficult as negative": ("11point", lambda score, label: at_recalls(
        np.arange(11) / 10, score, label == 1)),
}  # fmt: skip


@pytest.mark.parametrize("definition", OTHER_APS)
def test_an_ap_of_another_definition_is_found_even_where_both_sides_have_it(runs, pair_of, definition):
    for run in (runs.a, runs.b):
        write_stage(RunFolder(run), "metrics", {("metrics", "metrics"): with_ap(*OTHER_APS[definition])})
    for mode in ("isolated", "chained"):
        bad = {key for key, check in by_name(compare_stage("metrics", pair_of(runs.a, runs.b, mode))).items()
               if not check.agrees}  # fmt: skip
        assert bad == {("third_route", f"{row} of {side}") for row in ROWS for side in "ab"}


@pytest.mark.parametrize("mode", ["isolated", "chained"])
@pytest.mark.parametrize("variant", ["map_11point", "map_area"])
def test_a_map_that_is_not_the_mean_of_the_aps_is_found_even_where_both_sides_have_it(runs, pair_of, variant, mode):
    for by, agrees in ((5e-10, True), (1e-8, False), (-1e-8, False)):
        for run in (runs.a, runs.b):
            write_stage(RunFolder(run), "metrics", {("metrics", "metrics"): lambda metrics, by=by: {
                **metrics, "baseline_lr": {**metrics["baseline_lr"], variant: metrics["baseline_lr"][variant] + by}
            }})  # fmt: skip
        found = by_name(compare_stage("metrics", pair_of(runs.a, runs.b, mode)))
        bad = {key: check.value for key, check in found.items() if not check.agrees}
        assert set(bad) == (set() if agrees else {("third_route", f"baseline_lr of {side}") for side in "ab"})
        assert all(value == pytest.approx(abs(by), rel=1e-3) for value in bad.values())


def test_the_mean_precision_at_the_positives_is_the_third_route(runs, pair_of):
    """Without equal scores scikit-learn's area is the mean over the positives of the precision down to each."""

    def definition(score, label):
        used = label != 0
        return float(np.mean([np.mean(label[used & (score >= s)] == 1) for s in score[label == 1]]))

    for run in (runs.a, runs.b):
        write_stage(RunFolder(run), "metrics", {("metrics", "metrics"): with_ap("area", definition)})
    checks = compare_stage("metrics", pair_of(runs.a, runs.b))
    assert all(check.agrees for check in checks) and any(check.quantity == "third_route" for check in checks)


def test_isolated_metrics_are_those_of_run_as_decision_values_and_chained_of_its_own(runs, pair_of):
    scores = {row: -outputs()["svm"][row] for row in ROWS}
    write_stage(RunFolder(runs.b), "svm", {("svm", row): lambda s: -s for row in ROWS})
    write_stage(RunFolder(runs.b), "metrics", {("metrics", "metrics"): lambda _: metrics_of(scores)})
    for mode, agrees in (("chained", True), ("isolated", False)):
        found = by_name(compare_stage("metrics", pair_of(runs.a, runs.b, mode)))
        assert all(found["third_route", f"{row} of b"].agrees is agrees for row in ROWS)
        assert all(found["third_route", f"{row} of a"].agrees for row in ROWS)


def test_isolated_metrics_have_nothing_to_do_with_run_bs_decision_values(runs, pair_of):
    write_stage(RunFolder(runs.b), "svm", {("svm", row): lambda _: MISSING for row in ROWS})
    assert all(check.agrees for check in compare_stage("metrics", pair_of(runs.a, runs.b)))
    assert not all(check.agrees for check in compare_stage("metrics", pair_of(runs.a, runs.b, "chained")))


@pytest.mark.parametrize("spoil", [lambda s: s[:-1], lambda s: s[:, :-1], lambda s: np.where(s == s.max(), np.nan, s)])
def test_decision_values_that_do_not_fit_the_labels_have_no_third_route(runs, pair_of, spoil):
    write_stage(RunFolder(runs.b), "svm", {("svm", "ours"): spoil})
    bad = [check for check in compare_stage("metrics", pair_of(runs.a, runs.b, "chained")) if not check.agrees]
    assert [check.item for check in bad] == ["ours of b"] and math.isnan(bad[0].value)


def test_an_ap_that_is_no_number_never_agrees(runs, pair_of):
    def change(metrics):
        return {**metrics, "ours": {**metrics["ours"], "ap_area": [None, 0.5, 0.5]}}

    for run in (runs.a, runs.b):
        write_stage(RunFolder(run), "metrics", {("metrics", "metrics"): change})
    bad = {check.item for check in compare_stage("metrics", pair_of(runs.a, runs.b)) if not check.agrees}
    assert bad == {"ours area", "ours of a", "ours of b"}


# ---------------------------------------------------------------- rank swaps


def brute_force_swaps(a, b, column):
    """All pairs of a positive and a negative that are ranked otherwise, widest on side a first."""
    found = []
    positives, negatives = (np.flatnonzero(LABELS_TEST[:, column] == label) for label in (1, -1))
    for p, n in itertools.product(positives, negatives):
        signs = [int(x[p, column] > x[n, column]) - int(x[p, column] < x[n, column]) for x in (a, b)]
        if signs[0] != signs[1]:
            found.append((abs(a[p, column] - a[n, column]), f"test{p:03d}", f"test{n:03d}"))
    return sorted(found, reverse=True), len(positives) * len(negatives)


@pytest.mark.parametrize("seed", range(5))
def test_rank_swaps_are_the_pairs_that_a_brute_force_finds(runs, pair_of, seed):
    random = np.random.default_rng(seed)
    noise = random.normal(0, 0.5, LABELS_TEST.shape)
    ties = np.round(outputs()["svm"]["ours"], 1)
    write_stage(RunFolder(runs.a), "svm", {("svm", "ours"): lambda _: ties})
    write_stage(RunFolder(runs.b), "svm", {("svm", "ours"): lambda _: ties + noise})
    found = rank_swaps(pair_of(runs.a, runs.b, "chained"), "ours", np.arange(3))
    assert list(found) == CLASSES
    for column, name in enumerate(CLASSES):
        swaps, pairs = brute_force_swaps(ties, ties + noise, column)
        assert (found[name]["count"], found[name]["of"]) == (len(swaps), pairs)
        if swaps:
            gap, positive, negative = swaps[0]
            assert found[name]["widest"][2] == gap and (gap, *found[name]["widest"][:2]) in swaps
            assert f"{len(swaps)} of {pairs} pairs" in told_swaps(found[name])
        else:
            assert "widest" not in found[name] and told_swaps(found[name]) == "no rank differs"


def test_swaps_are_told_with_a_chained_ap_that_changed_and_only_there(runs, pair_of):
    def swap(scores):
        """The ranks of the best positive and the worst negative of class cat, exchanged."""
        positive, negative = (np.flatnonzero(LABELS_TEST[:, 1] == label) for label in (1, -1))
        best, worst = positive[scores[positive, 1].argmax()], negative[scores[negative, 1].argmin()]
        scores = scores.copy()
        scores[[best, worst], 1] = scores[[worst, best], 1]
        return scores

    scores = {**{row: outputs()["svm"][row] for row in ROWS}, "ours": swap(outputs()["svm"]["ours"])}
    write_stage(RunFolder(runs.b), "svm", {("svm", "ours"): swap})
    write_stage(RunFolder(runs.b), "metrics", {("metrics", "metrics"): lambda _: metrics_of(scores)})
    chained = by_name(compare_stage("metrics", pair_of(runs.a, runs.b, "chained")))
    ((name, told),) = chained["ap", "ours 11point"].numbers["rank_swaps"].items()
    swaps, pairs = brute_force_swaps(outputs()["svm"]["ours"], scores["ours"], 1)
    assert name == "cat" and told == {"count": len(swaps), "of": pairs, "widest": [*swaps[0][1:], swaps[0][0]]}
    assert f"{len(swaps)} of {pairs} pairs ranked otherwise" in chained["ap", "ours 11point"].detail
    others = [check for key, check in chained.items() if key != ("ap", "ours 11point")]
    isolated = compare_stage("metrics", pair_of(runs.a, runs.b))
    assert not any("rank_swaps" in check.numbers for check in [*others, *isolated])


def test_the_toy_metrics_are_those_of_exact_fractions():
    """What the runs of these tests hold is right itself."""
    for row, values in outputs()["metrics"]["metrics"].items():
        for column in range(len(CLASSES)):
            label = LABELS_TEST[:, column]
            ranked = [label[i] for i in np.argsort(-outputs()["svm"][row][:, column]) if label[i] != 0]
            found = [ranked[: end + 1].count(1) for end in range(len(ranked))]
            points = [(Fraction(f, ranked.count(1)), Fraction(f, end + 1)) for end, f in enumerate(found)]
            ap = sum(max(p for r, p in points if r >= Fraction(step, 10)) for step in range(11)) / 11
            assert values["ap_11point"][column] == pytest.approx(float(ap), abs=1e-12)


def test_a_dual_or_a_summary_that_is_not_whole_never_agrees(runs, pair_of):
    def spoil(dual):
        dual = dual.copy()
        dual[0, 0] = np.nan
        return dual

    for change, items, problem in (
        ({("svm", "ours_dual"): spoil}, ["ours of a", "ours of b", "ours_dual"], "not finite"),
        ({("svm", "summary"): lambda s: {**s, "ours": {}}}, ["artifact"], "KeyError: 'bird'"),
    ):
        for run in (runs.a, runs.b):  # on both sides alike
            write_stage(RunFolder(run), "svm", change)
        bad = [check for check in compare_stage("svm", pair_of(runs.a, runs.b)) if not check.agrees]
        assert [check.item for check in bad] == items and problem in bad[-1].detail
        assert all(math.isnan(check.value) for check in bad)


def test_metrics_of_fewer_classes_on_both_sides_never_agree(runs, pair_of):
    for run in (runs.a, runs.b):
        write_stage(RunFolder(run), "metrics", {
            ("metrics", "metrics"): lambda m: {**m, "ours": {**m["ours"], "ap_11point": m["ours"]["ap_11point"][:-1]}}
        })  # fmt: skip
    bad = [check for check in compare_stage("metrics", pair_of(runs.a, runs.b)) if not check.agrees]
    assert [check.item for check in bad] == ["ours 11point", "artifact"] and "classes" in bad[0].detail


def test_decision_values_of_too_few_images_do_not_stop_the_comparison_of_metrics(runs, pair_of):
    write_stage(RunFolder(runs.b), "svm", {("svm", "ours"): lambda s: s[:-1]})
    write_stage(RunFolder(runs.b), "metrics", {
        ("metrics", "metrics"): lambda m: {**m, "ours": {**m["ours"], "ap_11point": [0.5, 0.5, 0.5]}}
    })  # fmt: skip
    checks = compare_stage("metrics", pair_of(runs.a, runs.b, "chained"))
    assert any(check.item == "ours 11point" and check.quantity == "ap" and check.value > 0 for check in checks)
