"""What the controls put in the place of features and labels, against closed forms and loops; their SVMs and C too."""

import itertools

import numpy as np
import pytest
from sklearn.svm import SVC

from audit.controls import svms as control_svm
from audit.controls.features import (
    generator,
    pca_dimension,
    permuted,
    principal_components,
    random_relu,
    uniform_labels,
    unit_rows,
)
from audit.controls.svms import C_GRID, CHOSEN_TOLERANCE, FOLDS, decisions_on, folds
from tests.brute_force import brute_force_ap
from tests.conftest import user_error

SETTINGS = {"scale": "mean_norm", "c": 3.0, "tolerance": 1e-9}


def problem(n=45, dimensions=4, noise=1.0):
    """Training and test rows and labels of three classes, each a cloud of its own, with a few difficult images."""
    random = np.random.default_rng(4)
    labels = random.choice([1, -1], (2 * n, 3)).astype(np.int8)
    rows = 5 + noise * random.normal(size=(2 * n, dimensions)) + labels @ random.normal(size=(3, dimensions))
    labels[random.random(labels.shape) < 0.1] = 0
    return rows[:n], rows[n:], labels[:n], labels[n:]


def machine(rows, labels, c, tolerance):
    used = labels != 0
    return SVC(C=c, kernel="linear", tol=tolerance).fit(rows[used], labels[used])


def test_streams_and_seeds_draw_apart_and_again_the_same():
    keys = list(itertools.product((1, 2, 11), ("a", "b", "ab")))
    drawn = {key: generator(*key).integers(2**60) for key in keys}
    assert len(set(drawn.values())) == len(keys)
    assert all(generator(*key).integers(2**60) == value for key, value in drawn.items())


def test_a_permutation_keeps_the_counts_and_moves_the_images():
    labels = np.repeat(np.arange(5, dtype=np.int32), [40, 1, 0, 30, 29])
    found = permuted(labels, 1)
    assert found.dtype == np.int32 and np.bincount(found, minlength=5).tolist() == [40, 1, 0, 30, 29]
    # Of a uniform permutation an image keeps its label with probability sum of (n_k / n)^2.
    kept = np.mean([(permuted(labels, seed) == labels).mean() for seed in range(200)])
    assert kept == pytest.approx(np.sum((np.bincount(labels) / 100) ** 2), abs=0.01)


def test_uniform_labels_are_uniform_and_do_not_know_the_others():
    found = np.stack([uniform_labels(1000, 4, seed) for seed in range(50)])
    assert found.dtype == np.int32 and set(found.ravel()) == {0, 1, 2, 3}
    # 50,000 draws: each share has a standard error of 0.0019.
    assert np.allclose(np.bincount(found.ravel()) / found.size, 0.25, atol=0.01)
    assert (found[0] == found[1]).mean() == pytest.approx(0.25, abs=0.06)


def test_the_random_relu_layer_keeps_the_second_moment_and_is_one_layer_for_both():
    random = np.random.default_rng(0)
    train, test = random.normal(size=(40, 30)), random.normal(size=(5, 30))
    one, other = random_relu(train, test, 4000, seed=3)
    assert one.shape == (40, 4000) and other.shape == (5, 4000) and (one >= 0).all()
    # He: w ~ N(0, 2 / D) makes w x ~ N(0, 2 |x|^2 / D), of which ReLU leaves half the second moment: |x|^2 / D.
    assert np.allclose((one**2).mean(1), (train**2).sum(1) / 30, rtol=0.12)
    assert np.allclose(one.mean(1), np.sqrt((train**2).sum(1) / (30 * np.pi)), rtol=0.08)
    assert np.allclose(random_relu(train, train[:2], 4000, seed=3)[1], one[:2])
    assert not np.allclose(random_relu(train, test, 4000, seed=4)[1], other)


@pytest.mark.parametrize("wanted, had", [(3, 3), (8, 6), (6, 6)])
def test_pca_is_the_svd_of_the_centred_training_rows(wanted, had):
    random = np.random.default_rng(1)
    train, test = random.normal(size=(7, 20)).astype(np.float32), random.normal(size=(4, 20)).astype(np.float32)
    assert pca_dimension(7, 20, wanted) == had and pca_dimension(70, 5, 8) == 5
    one, other = principal_components(train, test, wanted)
    mean = train.astype(float).mean(0)
    _, _, axes = np.linalg.svd(train - mean, full_matrices=False)
    for found, rows in ((one, train), (other, test)):
        by_hand = (rows - mean) @ axes[:had].T
        assert found.shape == by_hand.shape
        assert np.allclose(np.abs(found), np.abs(by_hand), atol=1e-6)  # an axis' sign is free
    # All components of the training rows keep what an SVM sees: their inner products about the mean.
    if had == 6:
        assert np.allclose(one @ one.T, (train - mean) @ (train - mean).T, atol=1e-5)


def test_unit_rows_have_length_1_and_zeros_stay():
    rows = np.array([[3, 4], [0, 0], [-1e-30, 0]], np.float64)
    assert np.allclose(unit_rows(rows), [[0.6, 0.8], [0, 0], [-1, 0]])


@pytest.mark.parametrize("scale", ["mean_norm", "none"])
def test_the_svms_are_those_of_scikit_learn_without_the_difficult_images(scale):
    train, test, labels, _ = problem()
    found, c = decisions_on(train, test, labels, "abc", {**SETTINGS, "scale": scale})
    length = np.linalg.norm(train, axis=1).mean() if scale == "mean_norm" else 1
    assert c == 3.0
    for i in range(3):
        expected = machine(train / length, labels[:, i], 3.0, 1e-9).decision_function(test / length)
        assert np.allclose(found[:, i], expected, atol=1e-5)


def test_rows_that_are_all_zero_are_the_users_to_mend():
    train, test, labels, _ = problem()
    with user_error("every trainval row"):
        decisions_on(0 * train, test, labels, "abc", SETTINGS)


def test_folds_deal_positives_and_negatives_out_in_turn():
    labels = np.array([1, -1, -1, 0, 1, 1, 1, -1, -1])
    assert folds(labels).tolist() == [0, 0, 1, -1, 1, 2, 0, 2, 0]
    dealt = folds(problem()[2][:, 0])
    for sign in (1, -1):
        counts = np.bincount(dealt[(problem()[2][:, 0] == sign)], minlength=FOLDS)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("noise", [0.5, 2.0, 6.0])
def test_c_is_chosen_as_loops_over_grid_classes_and_folds_choose_it(noise, monkeypatch):
    # Where C is small, decision values differ by little more than LIBSVM's default tolerance.
    monkeypatch.setattr(control_svm, "CHOSEN_TOLERANCE", 1e-9)
    train, test, labels, _ = problem(noise=noise)
    labels[:, 2] = np.where(np.cumsum(labels[:, 2] == 1) > 2, -1, labels[:, 2])  # too few positives for the folds
    found, c = decisions_on(train, test, labels, "abc", SETTINGS, choose=True)
    scaled, length = train / np.linalg.norm(train, axis=1).mean(), np.linalg.norm(train, axis=1).mean()
    scores = {}
    for candidate in C_GRID:
        aps = []
        for i, f in itertools.product((0, 1), range(FOLDS)):
            y = labels[:, i]
            held = np.zeros(len(y), bool)
            for sign in (1, -1):
                for place, image in enumerate([j for j in range(len(y)) if y[j] == sign]):
                    held[image] |= place % FOLDS == f
            model = machine(scaled[~held], y[~held], candidate, 1e-9)
            aps.append(brute_force_ap(model.decision_function(scaled[held]), y[held]))
        scores[candidate] = np.mean(aps)
    best = min(candidate for candidate, score in scores.items() if score > max(scores.values()) - 1e-12)
    assert c == best
    expected = machine(scaled, labels[:, 0], best, 1e-9).decision_function(test / length)
    assert np.allclose(found[:, 0], expected, atol=1e-5)


def test_the_choice_differs_between_these_problems(monkeypatch):
    """A choice that always took the same C would pass the loops by luck."""
    chosen = {decisions_on(*problem(noise=noise)[:3], "abc", SETTINGS, choose=True)[1] for noise in (0.5, 2.0, 6.0)}
    assert len(chosen) > 1
    monkeypatch.setattr(control_svm, "C_GRID", (7.0,))
    train, test, labels, _ = problem()
    found, c = decisions_on(train, test, labels, "abc", SETTINGS, choose=True)
    scaled, other = (rows / np.linalg.norm(train, axis=1).mean() for rows in (train, test))
    expected = machine(scaled, labels[:, 1], 7.0, CHOSEN_TOLERANCE).decision_function(other)
    assert c == 7.0 and np.allclose(found[:, 1], expected, atol=0.01)


def test_no_class_with_enough_images_is_the_users_to_mend():
    train, test, labels, _ = problem()
    few = np.where(np.cumsum(labels == 1, axis=0) > FOLDS - 1, -1, labels)
    with user_error("cannot be chosen"):
        decisions_on(train, test, few, "abc", SETTINGS, choose=True)
