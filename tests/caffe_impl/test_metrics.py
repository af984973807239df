"""caffe_impl.metrics against brute force and hand-made rankings."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from caffe_impl.metrics import ap_11point, ap_area, check_scores
from experiment.errors import UserError


def brute_force_11point(scores, labels):
    """Walk down the ranking in exact fractions, as VOCevalcls.m describes it."""
    ranking = sorted(range(len(scores)), key=lambda row: -scores[row])  # sorted() is stable
    positives = sum(label == 1 for label in labels)
    true = false = 0
    points = []
    for row in ranking:
        true += int(labels[row] == 1)
        false += int(labels[row] == -1)
        if labels[row] != 0:
            points.append((Fraction(true, positives), Fraction(true, true + false)))
    best = [max((p for r, p in points if r >= Fraction(step, 10)), default=Fraction(0)) for step in range(11)]
    return float(sum(best) / 11)


def test_11point_equals_brute_force_over_every_labelling_and_ties():
    scores = np.array([3.0, 1.0, 2.0, 2.0, 0.0, 2.0])
    for labels in itertools.product((-1, 0, 1), repeat=6):
        if 1 in labels:
            found = ap_11point(scores, np.array(labels, np.int8))
            assert found == pytest.approx(brute_force_11point(scores, labels), abs=1e-14)


@pytest.mark.parametrize("positives", [1, 3, 7, 10, 20, 30, 40])
def test_11point_equals_brute_force_where_recall_hits_tenths(positives):
    random = np.random.default_rng(positives)
    for _ in range(20):
        labels = random.permutation([1] * positives + [-1] * 60 + [0] * 5).astype(np.int8)
        scores = random.integers(0, 30, len(labels)).astype(float)
        assert ap_11point(scores, labels) == pytest.approx(brute_force_11point(scores, labels), abs=1e-14)


def test_11point_of_hand_made_rankings():
    one_above = ap_11point(np.array([3.0, 2.0, 1.0]), np.array([1, -1, -1], np.int8))
    one_below = ap_11point(np.array([3.0, 2.0, 1.0]), np.array([-1, -1, 1], np.int8))
    first_and_last = ap_11point(np.array([4.0, 3.0, 2.0, 1.0]), np.array([1, -1, -1, 1], np.int8))
    assert one_above == 1.0
    assert one_below == pytest.approx(1 / 3)
    assert first_and_last == pytest.approx((6 * 1.0 + 5 * 0.5) / 11)  # recall 0 .. 0.5, then 0.6 .. 1


def test_recall_of_exactly_a_tenth_counts_for_that_tenth():
    # Three of ten positives first, then the rest far below: precision 1 counts for recall 0, 0.1, 0.2 and 0.3.
    labels = np.array([1] * 3 + [-1] * 93 + [1] * 7, np.int8)
    scores = -np.arange(len(labels), dtype=float)
    low = max(Fraction(found, 93 + found) for found in range(4, 11))
    assert ap_11point(scores, labels) == pytest.approx(float((4 + 7 * low) / 11), abs=1e-14)


def test_11point_keeps_the_order_of_equal_scores():
    scores = np.zeros(2)
    assert ap_11point(scores, np.array([1, -1], np.int8)) == 1.0
    assert ap_11point(scores, np.array([-1, 1], np.int8)) == 0.5


def test_difficult_rows_change_neither_measure():
    random = np.random.default_rng(0)
    scores, labels = random.normal(size=50), random.choice([-1, 1], 50).astype(np.int8)
    more_scores = np.concatenate([[99.0, -99.0], scores])
    more_labels = np.concatenate([[0, 0], labels]).astype(np.int8)
    assert ap_11point(more_scores, more_labels) == ap_11point(scores, labels)
    assert ap_area(more_scores, more_labels) == ap_area(scores, labels)


def test_area_equals_scikit_learn_with_and_without_ties():
    random = np.random.default_rng(1)
    for levels in (3, 10, 100000):
        for _ in range(30):
            labels = random.choice([-1, 0, 1], 40, p=[0.6, 0.1, 0.3]).astype(np.int8)
            labels[0] = 1
            scores = random.integers(0, levels, 40).astype(float)
            expected = average_precision_score(labels[labels != 0] == 1, scores[labels != 0])
            assert ap_area(scores, labels) == pytest.approx(expected, abs=1e-13)


def test_a_class_without_positive_test_images_is_named():
    labels = np.array([[1, -1], [-1, 0]], np.int8)
    with pytest.raises(UserError, match=r"class dog .*test"):
        check_scores(np.zeros((2, 2)), labels, ["cat", "dog"], "ours")


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(UserError, match="08-svm/ours.npy"):
        check_scores(np.array([[np.nan], [0.0]]), np.array([[1], [-1]], np.int8), ["cat"], "ours")
