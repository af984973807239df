"""The numbers beside the figures, against loops over every pair of images."""

import numpy as np
import pytest

from paper.separation import knn_accuracy, separation, single_label


def clouds(n=40, dimensions=6, seed=0):
    random = np.random.default_rng(seed)
    classes = random.integers(0, 4, n)
    return random.normal(size=(n, dimensions)) + 1.2 * np.eye(4, dimensions)[classes], classes


def brute_force_knn(features, classes, k):
    right = 0
    for i in range(len(features)):
        others = sorted((np.linalg.norm(features[i] - features[j]), j) for j in range(len(features)) if j != i)
        nearest = [classes[j] for _, j in others[:k]]
        most = max(nearest.count(kind) for kind in nearest)
        right += next(kind for kind in nearest if nearest.count(kind) == most) == classes[i]
    return right / len(features)


def brute_force_silhouette(features, classes):
    total = 0.0
    for i in range(len(features)):
        away = {
            kind: [
                np.linalg.norm(features[i] - features[j]) for j in range(len(features)) if j != i and classes[j] == kind
            ]
            for kind in set(classes)
        }
        own = away.pop(classes[i])
        if own:  # alone in its class an image counts 0
            a, b = np.mean(own), min(np.mean(distances) for distances in away.values())
            total += (b - a) / max(a, b)
    return total / len(features)


@pytest.mark.parametrize("seed", range(4))
def test_numbers_are_those_of_every_pair(seed):
    features, classes = clouds(seed=seed)
    classes[0] = 7  # a class of one image
    found = separation(features.astype(np.float32), classes)
    exact = features.astype(np.float32).astype(np.float64)
    assert found.knn == pytest.approx(brute_force_knn(exact, classes, 5), abs=1e-12)
    assert found.silhouette == pytest.approx(brute_force_silhouette(exact, classes), abs=1e-9)
    assert (found.images, found.dimension, found.classes) == (40, 6, 5)
    assert found.chance == np.bincount(classes).max() / 40
    for k in (1, 3, 39, 60):
        assert knn_accuracy(exact, classes, k) == pytest.approx(brute_force_knn(exact, classes, k), abs=1e-12)


def test_of_equal_votes_the_nearest_wins():
    features = np.array([[0.0], [1.0], [2.5], [10.0]])
    # Of image 0 the neighbours 1 and 2 vote for 5 and 3: the nearer says 5.
    assert knn_accuracy(features, np.array([5, 5, 3, 3]), 2) == brute_force_knn(features, [5, 5, 3, 3], 2) == 0.75


def test_without_two_classes_or_a_class_of_two_there_is_no_silhouette():
    features, _ = clouds(6)
    assert separation(features, np.zeros(6, int)).silhouette is None
    assert separation(features, np.arange(6)).silhouette is None
    assert separation(features, np.zeros(6, int)).knn == 1


def test_an_image_of_two_classes_or_only_difficult_objects_is_left_out():
    labels = np.array([[1, -1, -1], [1, 1, -1], [-1, 0, -1], [0, -1, 1], [-1, -1, -1]], np.int8)
    rows, classes = single_label(labels)
    assert rows.tolist() == [0, 3] and classes.tolist() == [0, 2]
