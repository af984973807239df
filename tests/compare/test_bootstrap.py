"""compare.bootstrap against resamples written out in full, and against closed forms."""

import json
import tracemalloc
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import norm

from compare import bootstrap
from compare.bootstrap import ap_11point, equivalence, paired_differences, resampled_map, resamples


def written_out_map(scores, labels, weights):
    """mAP of one resample: every copy in a list, each class ranked and walked down in exact fractions."""
    rows = [row for row, copies in enumerate(weights) for _ in range(copies)]
    aps = []
    for score, label in zip(scores.T, labels.T, strict=True):
        ranked = [label[row] for row in sorted(rows, key=lambda row: -score[row]) if label[row] != 0]
        positives = ranked.count(1)
        if positives:
            found = [ranked[: end + 1].count(1) for end in range(len(ranked))]
            points = [(Fraction(true, positives), Fraction(true, end + 1)) for end, true in enumerate(found)]
            aps.append(sum(max(p for r, p in points if r >= Fraction(step, 10)) for step in range(11)) / 11)
    return float(sum(aps) / len(aps)) if aps else np.nan


def assert_as_written_out(scores, labels, weights):
    expected = [written_out_map(scores, labels, row) for row in weights]
    np.testing.assert_allclose(resampled_map(scores, labels, weights), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("levels", [3, 10**6])  # with ties and without
def test_resampled_map_is_that_of_the_resample_written_out(seed, levels):
    random = np.random.default_rng(seed)
    scores = random.integers(levels, size=(25, 4)).astype(float)
    labels = random.choice([1, 0, -1], size=(25, 4), p=[0.3, 0.2, 0.5]).astype(np.int8)
    assert_as_written_out(scores, labels, resamples(25, 15, seed))


@pytest.mark.parametrize("seed", range(4))
def test_heavily_repeated_images_count_copy_by_copy(seed):
    # Runs of up to 12 copies: recall passes several tenths within one positive.
    random = np.random.default_rng(seed)
    scores = random.integers(6, size=(9, 3)).astype(float)
    labels = random.choice([1, 0, -1], size=(9, 3), p=[0.4, 0.1, 0.5]).astype(np.int8)
    assert_as_written_out(scores, labels, random.integers(13, size=(40, 9)) * random.integers(2, size=(40, 9)))


def test_precision_before_a_repeated_positive_counts_only_up_to_its_recall():
    # Ranked: one positive, 5 negatives, then a positive 9 times: 0 and 0.1 are reached at precision 1, the rest at 2/3.
    scores = np.array([[3.0], [2.0], [1.0]])
    labels = np.array([[1], [-1], [1]], np.int8)
    weights = np.array([[1, 5, 9]])
    assert resampled_map(scores, labels, weights) == pytest.approx([(2 + 9 * 10 / 15) / 11], abs=1e-15)
    assert_as_written_out(scores, labels, weights)


@pytest.mark.filterwarnings("error")
def test_a_class_without_a_positive_in_a_resample_is_left_out_of_its_mean():
    scores = np.array([[4.0, 1.0], [3.0, 2.0], [2.0, 3.0], [1.0, 4.0]])
    labels = np.array([[1, 1], [-1, -1], [-1, -1], [-1, 0]], np.int8)
    weights = np.array([[1, 1, 1, 1], [0, 2, 1, 1]])
    both = resampled_map(scores, labels, weights)
    never_positive = resampled_map(scores, np.minimum(labels, 0), weights)
    assert both[0] == pytest.approx((1 + 1 / 3) / 2) and np.isnan(both[1])
    assert np.isnan(never_positive).all()
    one_class_left = np.column_stack([labels[:, 0], [-1, 1, -1, -1]]).astype(np.int8)
    assert resampled_map(scores, one_class_left, weights)[1] == pytest.approx(0.5)  # 2 copies below 2 negatives


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_all_weights_one_give_the_plain_map(dtype):
    random = np.random.default_rng(1)
    scores = random.integers(40, size=(120, 5)).astype(float)
    labels = random.choice([1, 0, -1], size=(120, 5), p=[0.25, 0.05, 0.7]).astype(np.int8)
    assert_as_written_out(scores, labels, np.ones((2, 120), dtype))


def test_work_in_chunks_gives_the_same_and_holds_no_more_than_it_says(monkeypatch):
    random = np.random.default_rng(2)
    scores, labels = random.normal(size=(300, 2)), np.ones((300, 2), np.int8)
    labels[::100] = -1
    weights = resamples(300, 500, 0).astype(np.int64)
    at_once = resampled_map(scores, labels, weights)
    monkeypatch.setattr(bootstrap, "CHUNK_BYTES", 1 << 20)
    tracemalloc.start()
    chunked = resampled_map(scores, labels, weights)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(chunked, at_once, rtol=0, atol=1e-14)
    assert peak < 1.1 * (1 << 20)
    monkeypatch.setattr(bootstrap, "CHUNK_BYTES", 1)
    one_by_one = resampled_map(scores, labels, weights[:5])
    np.testing.assert_allclose(one_by_one, at_once[:5], rtol=0, atol=1e-14)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("levels", [3, 10**6])
def test_the_ap_of_one_class_is_that_of_exact_fractions(seed, levels):
    random = np.random.default_rng(seed)
    scores = random.integers(levels, size=25).astype(float)
    labels = random.choice([1, 0, -1], size=25, p=[0.3, 0.2, 0.5]).astype(np.int8)
    wanted = written_out_map(scores[:, None], labels[:, None], np.ones(25, int))
    assert ap_11point(scores, labels) == pytest.approx(wanted, abs=1e-14)
    assert np.isnan(ap_11point(scores, np.minimum(labels, 0)))


@pytest.mark.parametrize(("n", "dtype"), [(1, np.uint8), (255, np.uint8), (256, np.uint16)])
def test_a_resample_has_n_draws(n, dtype):
    weights = resamples(n, 20, 7)
    assert weights.shape == (20, n) and weights.dtype == dtype
    assert (weights.sum(axis=1) == n).all()


def test_resamples_depend_on_the_seed_alone():
    np.testing.assert_array_equal(resamples(50, 10, 3), resamples(50, 10, 3))
    assert (resamples(50, 10, 3) != resamples(50, 10, 4)).any()


def test_copies_of_an_image_are_binomial():
    n, count = 20, 20_000
    weights = resamples(n, count, 0)
    absent = (1 - 1 / n) ** n
    standard_error = np.sqrt(absent * (1 - absent) / count)
    assert np.abs((weights == 0).mean(axis=0) - absent).max() < 5 * standard_error
    assert weights.var(axis=0) == pytest.approx(np.full(n, 1 - 1 / n), rel=0.08)


@pytest.mark.parametrize(("mean", "spread", "margin"), [(0.0, 1.0, 1.0), (0.3, 1.0, 1.5), (-0.02, 0.01, 0.005)])
def test_p_values_and_intervals_of_normal_differences(mean, spread, margin):
    count = 20_000
    found = equivalence(mean, np.random.default_rng(0).normal(mean, spread, count), margin)
    for p, expected in (
        (found.p_lower, norm.cdf(-margin, mean, spread)),
        (found.p_upper, norm.sf(margin, mean, spread)),
    ):
        assert abs(p - expected) < 5 * np.sqrt(expected * (1 - expected) / count) + 1.01 / count
    for ends, quantile in ((found.interval_95, 0.025), (found.interval_90, 0.05)):
        density = norm.pdf(norm.ppf(quantile)) / spread
        standard_error = np.sqrt(quantile * (1 - quantile) / count) / density
        assert np.abs(np.array(ends) - norm.ppf([quantile, 1 - quantile], mean, spread)).max() < 5 * standard_error


@pytest.mark.parametrize(
    ("mean", "verdict"),
    [(0.0, "equivalent"), (0.5, "undecided"), (1.0, "undecided"), (2.0, "different"), (-2.0, "different")],
)
def test_the_three_verdicts(mean, verdict):
    differences = mean + 0.4 * norm.ppf((np.arange(1000) + 0.5) / 1000)
    assert equivalence(mean, differences, 1.0).verdict == verdict


@pytest.mark.parametrize("mean", [0.0, 0.5, 2.0, -2.0])
def test_where_the_seeds_spread_is_not_known_nothing_is_certain_and_all_else_the_same(mean):
    differences = mean + 0.4 * norm.ppf((np.arange(1000) + 0.5) / 1000)
    known = equivalence(mean, differences, 1.0)
    assert equivalence(mean, differences, 1.0, certain=False) == replace(known, verdict="undecided")


def test_a_wide_spread_is_undecided_even_where_the_mean_is_zero():
    assert equivalence(0.0, np.linspace(-5, 5, 1001), 1.0).verdict == "undecided"


def test_a_difference_of_just_the_margin_is_beyond_it_and_not_yet_different():
    for sign, p_values in ((1, (1 / 101, 1.0)), (-1, (1.0, 1 / 101))):
        found = equivalence(sign * 0.25, np.full(100, sign * 0.25), 0.25)
        assert (found.p_lower, found.p_upper) == p_values and found.verdict == "undecided"
        assert equivalence(sign * 0.25, np.full(100, sign * 0.25), 0.2).verdict == "different"
        assert equivalence(sign * 0.25, np.full(100, sign * 0.25), 0.3).verdict == "equivalent"


def test_a_p_value_of_just_a_twentieth_is_not_enough():
    assert equivalence(0.0, np.zeros(19), 1.0).p_upper == 0.05
    assert equivalence(0.0, np.zeros(19), 1.0).verdict == "undecided"
    assert equivalence(0.0, np.zeros(20), 1.0).verdict == "equivalent"


@pytest.mark.parametrize(
    ("observed", "differences", "margin"),
    [(np.nan, [0.0], 1.0), (0.0, [0.0, np.nan], 1.0), (0.0, [np.inf], 1.0), (0.0, [], 1.0), (0.0, [0.0], np.nan),
     (0.0, [0.0], np.inf), (0.0, [0.0], -1.0)],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused(observed, differences, margin):
    with pytest.raises(ValueError, match="cannot judge"):
        equivalence(observed, np.array(differences), margin)


def test_equivalence_survives_json():
    found = equivalence(np.float64(0.5), np.linspace(0, 1, 101), 1)
    expected = {
        "mean_difference": 0.5,
        "standard_error": pytest.approx(((101**2 - 1) / 12) ** 0.5 / 100),  # of equally spaced numbers
        "interval_95": pytest.approx([0.025, 0.975]),
        "interval_90": pytest.approx([0.05, 0.95]),
        "p_lower": 1 / 102,
        "p_upper": 2 / 102,
        "margin": 1.0,
        "verdict": "equivalent",
    }
    assert found.as_json() == expected
    assert json.loads(json.dumps(found.as_json())) == found.as_json()


def test_without_a_seed_it_is_the_difference_of_the_means():
    first, second = np.array([[0.5, 0.75], [0.25, 0.25]]), np.array([[0.125, 0.0]])
    np.testing.assert_array_equal(paired_differences(first, second, None), [0.25, 0.5])


def test_one_run_a_side_is_the_plain_difference_with_and_without_a_seed():
    first, second = np.random.default_rng(0).random((2, 1, 50))
    for seed in (None, 5):
        np.testing.assert_array_equal(paired_differences(first, second, seed), (first - second)[0])


def test_drawing_the_runs_adds_the_variance_of_their_means():
    count = 40_000
    random = np.random.default_rng(0)
    first_runs, second_runs = np.array([[0.1], [0.2], [0.6]]), np.array([[0.3], [0.4], [0.4], [0.8], [0.9]])
    first, second = first_runs + random.normal(0, 0.05, count), second_runs + random.normal(0, 0.05, count)
    images_alone, both = (paired_differences(first, second, seed) for seed in (None, 1))
    among_runs = first_runs.var(ddof=1) / 3 + second_runs.var(ddof=1) / 5  # unbiased
    assert images_alone.var() == pytest.approx(2 * 0.05**2, rel=0.04)
    assert both.var() == pytest.approx(2 * 0.05**2 + among_runs, rel=0.04)
    assert both.mean() == pytest.approx(first_runs.mean() - second_runs.mean(), abs=5 * both.std() / count**0.5)


def test_the_runs_of_the_two_sides_are_drawn_independently():
    runs = np.repeat([[0.0], [1.0]], 40_000, axis=1)
    differences = paired_differences(runs, runs, 0)
    stretch = 2**0.5  # of two runs
    values, counts = np.unique(np.round(differences / stretch, 9), return_counts=True)
    np.testing.assert_array_equal(values, [-1, -0.5, 0, 0.5, 1])  # of two binomials: 1, 4, 6, 4, 1 sixteenths
    assert counts / 40_000 == pytest.approx(np.array([1, 4, 6, 4, 1]) / 16, abs=5 * 0.5 / 200)
    np.testing.assert_array_equal(differences, paired_differences(runs, runs, 0))
    assert (differences != paired_differences(runs, runs, 1)).any()
