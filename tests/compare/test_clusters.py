"""Clusters are matched before they are compared, and a label that parts is a tie or an error."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from fake_pair import outputs, write_stage

from compare.clusters import label_margins, matching, renumbered
from compare.stages import compare_stage
from experiment.artifacts import RunFolder


def holding(centroids):
    """What `matching` reads of a run."""
    return SimpleNamespace(array=lambda stage, name: {("clusters", "centroids"): centroids}[stage, name])


def checks_by_name(checks):
    return {(check.quantity, check.item): check for check in checks}


# ---------------------------------------------------------------- matching


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(5))
def test_the_squared_distances_add_up_to_the_least_of_all_permutations(k, seed):
    random = np.random.default_rng([k, seed])
    a, b = random.normal(size=(2, k, 2)).astype(np.float32)
    cost = ((a[:, None].astype(float) - b) ** 2).sum(2)
    least = min(itertools.permutations(range(k)), key=lambda p: sum(cost[i, p[i]] for i in range(k)))
    assert matching(holding(a), holding(b)).tolist() == list(least)


def test_the_greatest_sum_may_be_the_least_even_where_each_ones_nearest_is_another():
    # Greedily 0 and 2.1 pair up at once; the rest would then cost (10 - 4)^2.
    a, b = np.array([[0.0], [4.0]]), np.array([[2.1], [10.0]])
    assert matching(holding(a), holding(b)).tolist() == [0, 1]
    assert matching(holding(a), holding(b[::-1])).tolist() == [1, 0]


def test_a_permutation_is_undone_and_far_offsets_do_not_cancel():
    random = np.random.default_rng(0)
    a = (random.normal(size=(20, 8)) + 1e4).astype(np.float32)
    order = random.permutation(20)
    mine = matching(holding(a), holding(a[order]))
    np.testing.assert_array_equal(order[mine], np.arange(20))
    labels = random.integers(0, 20, 100).astype(np.int32)
    of_b = np.argsort(order).astype(np.int32)[labels]  # a's cluster c is b's cluster where order says c
    np.testing.assert_array_equal(renumbered(of_b, mine), labels)
    assert renumbered(of_b, mine).dtype == np.int32


@pytest.mark.parametrize("labels", [[0, 2], [-1, 0], [0.0, 1.0], [True, False], ["0", "1"]])
def test_labels_that_no_cluster_has_cannot_be_renumbered(labels):
    with pytest.raises(ValueError, match="integers of 0 to 1"):
        renumbered(np.array(labels), np.array([1, 0]))


# ---------------------------------------------------------------- the stage clusters

PERMUTED = {
    ("clusters", "initial_centroids"): lambda c: c[[2, 0, 1]],
    ("clusters", "centroids"): lambda c: c[[2, 0, 1]],
    ("clusters", "assignments"): lambda labels: np.array([1, 2, 0], np.int32)[labels],
}


@pytest.mark.parametrize("mode", ["isolated", "chained"])
def test_another_numbering_of_the_same_clusters_changes_nothing(runs, pair_of, mode):
    plain = compare_stage("clusters", pair_of(runs.a, runs.b, mode))
    write_stage(RunFolder(runs.b), "clusters", PERMUTED)
    renamed = compare_stage("clusters", pair_of(runs.a, runs.b, mode))
    assert [(c.quantity, c.item, c.value, c.agrees) for c in renamed] == [
        (c.quantity, c.item, c.value, c.agrees) for c in plain
    ]
    assert all(check.agrees for check in renamed)
    assert "3 of 3 clusters have another number" in checks_by_name(renamed)["relative_l2", "centroids"].detail
    assert "another number" not in checks_by_name(plain)["relative_l2", "centroids"].detail


@pytest.mark.parametrize("left_out", PERMUTED)
def test_centroids_and_assignments_are_renumbered_together_or_differ(runs, pair_of, left_out):
    write_stage(RunFolder(runs.b), "clusters", {name: f for name, f in PERMUTED.items() if name != left_out})
    bad = [check for check in compare_stage("clusters", pair_of(runs.a, runs.b)) if not check.agrees]
    # The initial centroids are matched by themselves: where a cluster starts says nothing of its number.
    assert {check.item for check in bad} == ({"assignments"} if left_out[1] != "initial_centroids" else set())


@pytest.mark.parametrize(
    ("other", "rand"),
    [
        # From the table of pairs: (index - expected) / (mean of both - expected).
        ([0, 0, 0, 1, 1, 1], (2 - 6 * 3 / 15) / ((6 + 3) / 2 - 6 * 3 / 15)),
        ([0, 1, 2, 0, 1, 2], (0 - 3 * 3 / 15) / (3 - 3 * 3 / 15)),
        ([0, 0, 1, 1, 2, 2], 1.0),
        ([0, 0, 0, 0, 0, 0], 0.0),
    ],
)
def test_the_adjusted_rand_index_is_that_of_its_definition(runs, pair_of, other, rand):
    write_stage(RunFolder(runs.a), "clusters", {("clusters", "assignments"): lambda a: a[[0, 3, 1, 4, 2, 5]]})
    write_stage(RunFolder(runs.b), "clusters", {("clusters", "assignments"): lambda a: np.array(other, a.dtype)})
    found = checks_by_name(compare_stage("clusters", pair_of(runs.a, runs.b)))
    assert found["adjusted_rand", "assignments"].value == pytest.approx(rand)


@pytest.mark.parametrize(("inertia", "change", "agrees"), [(12.5 * 1.00005, 5e-5, True), (12.5 * 0.9998, 2e-4, False)])
def test_inertia_may_change_neither_way(runs, pair_of, inertia, change, agrees):
    write_stage(RunFolder(runs.b), "clusters", {("clusters", "summary"): lambda s: {**s, "inertia": inertia}})
    check = checks_by_name(compare_stage("clusters", pair_of(runs.a, runs.b)))["inertia", "inertia"]
    assert check.value == pytest.approx(change, rel=1e-6) and check.agrees is agrees


@pytest.mark.parametrize(("share", "agrees"), [(0.0, True), (5e-5, True), (2e-4, False), (-2e-4, False)])
def test_where_every_row_is_its_own_cluster_inertia_is_a_share_of_the_scatter(runs, pair_of, share, agrees):
    features = outputs()["features"]["hr_trainval"].astype(float)
    scatter = len(features) * features.var(axis=0).sum()
    for run, inertia in ((runs.a, 0.0), (runs.b, share * scatter)):
        write_stage(RunFolder(run), "clusters", {("clusters", "summary"): lambda s, i=inertia: {**s, "inertia": i}})
    check = checks_by_name(compare_stage("clusters", pair_of(runs.a, runs.b)))["inertia", "inertia"]
    expected = share if share >= 0 else math.nan  # a negative one is no inertia
    assert check.value == pytest.approx(expected, rel=1e-6, nan_ok=True) and check.agrees is agrees


@pytest.mark.parametrize(
    ("first", "second"),
    [(12.5, math.nan), (math.nan, 12.5), (math.nan, math.nan), (0.0, math.nan), (math.nan, 0.0), (-12.5, -12.5),
     (-12.5, 12.5), (12.5, -12.5), (-12.5, 0.0), (math.inf, math.inf), (12.5, math.inf)],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["isolated", "chained"])
def test_what_is_no_inertia_never_agrees(runs, pair_of, monkeypatch, first, second, mode):
    read = RunFolder.json
    given = {runs.a: first, runs.b: second}  # JSON of ours has no NaN, so none is written

    def with_inertia(run, stage, name):
        found = read(run, stage, name)
        return {**found, "inertia": given[run.path]} if (stage, name) == ("clusters", "summary") else found

    monkeypatch.setattr(RunFolder, "json", with_inertia)
    assert not checks_by_name(compare_stage("clusters", pair_of(runs.a, runs.b, mode)))["inertia", "inertia"].agrees


def test_where_no_feature_is_scattered_only_no_inertia_is_equal_to_none(runs, pair_of):
    for second, agrees in ((0.0, True), (1e-30, False)):
        for run, inertia in ((runs.a, 0.0), (runs.b, second)):
            write_stage(RunFolder(run), "features", {("features", "hr_trainval"): np.zeros_like})
            write_stage(RunFolder(run), "clusters", {("clusters", "summary"): lambda s, i=inertia: {**s, "inertia": i}})
        check = checks_by_name(compare_stage("clusters", pair_of(runs.a, runs.b)))["inertia", "inertia"]
        assert check.agrees is agrees and check.value == (0.0 if agrees else math.inf)


@pytest.mark.parametrize("mode", ["isolated", "chained"])
@pytest.mark.parametrize("label", [-1, 3])
def test_an_assignment_to_a_cluster_that_is_not_there_fails(runs, pair_of, label, mode):
    def spoil(labels):
        return np.append(labels[1:], label).astype(labels.dtype)

    for run in (runs.a, runs.b):
        write_stage(RunFolder(run), "clusters", {("clusters", "assignments"): spoil})
    (bad,) = [check for check in compare_stage("clusters", pair_of(runs.a, runs.b, mode)) if not check.agrees]
    assert (bad.item, math.isnan(bad.value)) == ("artifact", True) and "integers of 0 to 2" in bad.detail


def test_a_start_that_run_b_drew_by_itself_is_only_shown(runs, pair_of):
    other = {("clusters", "initial_centroids"): lambda c: c + 1,
             ("clusters", "summary"): lambda s: {**s, "inertia": 2 * s["inertia"]}}  # fmt: skip
    for drew_itself in (False, True):
        write_stage(RunFolder(runs.b), "clusters", other, drew_itself=drew_itself)
        for mode in ("isolated", "chained"):
            found = checks_by_name(compare_stage("clusters", pair_of(runs.a, runs.b, mode)))
            check = found["initial_relative_l2", "initial_centroids"]
            assert check.value > 0 and check.agrees is drew_itself and (check.allowed is None) is drew_itself
            assert ("drew its own" in check.detail) is drew_itself
            check = found["inertia", "inertia"]
            assert check.value == 1.0 and check.agrees is drew_itself and (check.allowed is None) is drew_itself


# ---------------------------------------------------------------- the stage pseudo_labels


def test_the_margin_is_the_relative_difference_of_two_distances():
    centroids = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]])
    features = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 0.0], [4.0, 3.0]], np.float32)
    margins = label_margins(features, centroids, np.array([0, 1, 0, 0]), np.array([1, 0, 2, 2]))
    assert margins == pytest.approx([0.0, 2.0, math.inf, 0.25])
    assert label_margins(centroids[[0, 0]], centroids[[0, 0]], np.array([0, 0]), np.array([1, 1])).tolist() == [0, 0]


def place(runs, feature, label_a, label_b, gap=8.0):
    """Give row 0 of the LR trainval features a place, among centroids on the axes, and a label on each side."""
    centroids = gap * np.eye(3, dtype=np.float32)
    labels = np.arange(6, dtype=np.int32) % 3
    features = centroids[labels]
    features[0] = feature
    for run, label in ((runs.a, label_a), (runs.b, label_b)):
        mine = labels.copy()
        mine[0] = label
        write_stage(RunFolder(run), "features", {("features", "lr_trainval"): lambda _: features})
        write_stage(RunFolder(run), "clusters", {("clusters", "centroids"): lambda _: centroids})
        write_stage(RunFolder(run), "pseudo_labels", {("pseudo_labels", "labels"): lambda _, mine=mine: mine})


def test_a_tie_is_forgiven_by_its_margin_and_an_error_is_not(runs, pair_of):
    for feature, agrees in (([4.0, 4.0, 0.0], True), ([4.0, 4.0 * (1 + 1e-6), 0.0], True), ([4.0, 4.01, 0.0], False)):
        place(runs, feature, 1, 0)
        found = checks_by_name(compare_stage("pseudo_labels", pair_of(runs.a, runs.b)))
        margin, agreement = found["margin", "labels"], found["agreement", "labels"]
        assert margin.agrees is agrees and agreement.value == 5 / 6
        x = np.array(feature, np.float32).astype(float)
        near, far = sorted(np.linalg.norm(x - centroid) for centroid in 8 * np.eye(3)[:2])
        assert margin.value == pytest.approx(far / near - 1, abs=1e-12)
        assert margin.numbers["margins"] == {"trainval000": margin.value}
        assert margin.numbers["closest_call"] == pytest.approx(margin.value, abs=1e-12)
        assert "image trainval000 of 1 that differ" in margin.detail


def test_one_error_does_not_hide_behind_ties(runs, pair_of):
    place(runs, [4.0, 4.0, 0.0], 1, 0)
    write_stage(RunFolder(runs.b), "pseudo_labels", {
        ("pseudo_labels", "labels"): lambda labels: np.array([0, 1, 2, 0, 2, 2], labels.dtype)})  # fmt: skip
    write_stage(RunFolder(runs.a), "pseudo_labels", {
        ("pseudo_labels", "labels"): lambda labels: np.array([1, 1, 2, 0, 1, 2], labels.dtype)})  # fmt: skip
    margin = checks_by_name(compare_stage("pseudo_labels", pair_of(runs.a, runs.b)))["margin", "labels"]
    assert margin.numbers["margins"] == {"trainval000": 0.0, "trainval004": math.inf}
    assert margin.value == math.inf and not margin.agrees and "image trainval004 of 2 that differ" in margin.detail


def test_without_a_difference_the_closest_call_of_all_rows_is_told(runs, pair_of):
    place(runs, [4.0, 5.0, 0.0], 1, 1)
    margin = checks_by_name(compare_stage("pseudo_labels", pair_of(runs.a, runs.b)))["margin", "labels"]
    near, far = np.hypot(4, 3), np.hypot(4, 5)
    assert (margin.value, margin.numbers["margins"], margin.agrees) == (0.0, {}, True)
    assert margin.numbers["closest_call"] == pytest.approx(far / near - 1)


def test_chained_labels_are_renumbered_with_the_clusters_and_isolated_ones_are_not(runs, pair_of):
    write_stage(RunFolder(runs.b), "clusters", PERMUTED)
    rename = np.array([1, 2, 0], np.int32)
    write_stage(RunFolder(runs.b), "pseudo_labels", {("pseudo_labels", "labels"): lambda labels: rename[labels]})
    for mode, equal in (("chained", 1.0), ("isolated", 0.0)):
        found = checks_by_name(compare_stage("pseudo_labels", pair_of(runs.a, runs.b, mode)))
        assert found["agreement", "labels"].value == equal
        assert (found["margin", "labels"].value == 0.0) is (mode == "chained")
    write_stage(RunFolder(runs.b), "pseudo_labels")
    chained = checks_by_name(compare_stage("pseudo_labels", pair_of(runs.a, runs.b, "chained")))
    assert chained["agreement", "labels"].value == 0.0 and chained["agreement", "labels"].agrees  # shown alone


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_no_centroid_has_is_no_agreement(runs, pair_of, label):
    def spoil(labels):
        return np.where(np.arange(6) == 2, label, labels).astype(labels.dtype)

    for run in (runs.a, runs.b):
        write_stage(RunFolder(run), "pseudo_labels", {("pseudo_labels", "labels"): spoil})
    for mode, item, said in (("isolated", "margin", "do not belong"), ("chained", "artifact", "integers of 0 to 2")):
        bad = [check for check in compare_stage("pseudo_labels", pair_of(runs.a, runs.b, mode)) if not check.agrees]
        assert [check.item for check in bad] == [item] and said in bad[0].detail
