"""caffe_impl.clusters' draw and caffe_impl.pseudo_labels against brute force; k-means itself is in test_caffe.py."""

import numpy as np
import pytest

from caffe_impl.clusters import draw_centroids
from caffe_impl.pseudo_labels import nearest_centroids
from experiment.errors import UserError

FEATURES = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)


def is_row(row, rows):
    return (rows == row).all(axis=1).any()


@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_centroids_are_different_rows_and_depend_on_the_seed_alone(init):
    first = draw_centroids(FEATURES, 10, init, 1)
    assert first.shape == (10, 4) and first.dtype == np.float32
    assert all(is_row(row, FEATURES) for row in first)
    assert len(np.unique(first, axis=0)) == 10
    assert (first == draw_centroids(FEATURES, 10, init, 1)).all()
    assert (first != draw_centroids(FEATURES, 10, init, 2)).any()


def test_kmeans_plus_plus_draws_by_squared_distance():
    # Rows at 0, 1 and 3, the first drawn at random. After 0 the distances are 1 and 9, so that 1 comes in one of ten.
    rows = np.array([[0.0], [1.0], [3.0]], np.float32)
    draws = 6000
    counts = np.zeros((4, 4))
    for seed in range(draws):
        first, second = draw_centroids(rows, 2, "k-means++", seed).astype(int).ravel()
        counts[first, second] += 1
    expected = np.zeros((4, 4))
    expected[0, 1], expected[0, 3] = 1 / 10, 9 / 10
    expected[1, 0], expected[1, 3] = 1 / 5, 4 / 5
    expected[3, 0], expected[3, 1] = 9 / 13, 4 / 13
    # Four standard deviations of a count of about 2000 draws.
    assert np.abs(counts / draws - expected / 3).max() < 4 * np.sqrt(0.25 / draws)


def test_kmeans_plus_plus_reaches_every_far_group():
    centres = 1000.0 * np.arange(8)[:, None]
    rows = (centres[:, None] + np.random.default_rng(3).normal(size=(8, 20, 1))).reshape(-1, 1).astype(np.float32)
    for seed in range(20):
        drawn = draw_centroids(rows, 8, "k-means++", seed)
        assert sorted(np.rint(drawn.ravel() / 1000).astype(int)) == list(range(8))


def test_too_few_rows_are_refused():
    with pytest.raises(UserError, match=r"clusters\.k = 31 .* 30"):
        draw_centroids(FEATURES, 31, "random", 1)
    with pytest.raises(UserError, match=r"clusters\.k = 3 .* 2 HR features differ"):
        draw_centroids(np.repeat(FEATURES[:2], 5, axis=0), 3, "k-means++", 1)


def test_nearest_centroid_equals_brute_force():
    random = np.random.default_rng(4)
    rows, centroids = random.normal(size=(200, 7)).astype(np.float32), random.normal(size=(9, 7)).astype(np.float32)
    found = nearest_centroids(rows, centroids)
    expected = [min(range(9), key=lambda k: np.linalg.norm(row - centroids[k])) for row in rows.astype(np.float64)]
    assert found.dtype == np.int32 and found.tolist() == expected
