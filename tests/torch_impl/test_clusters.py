"""k-means and the nearest centroid against scikit-learn and brute force."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from experiment.artifacts import RunFolder
from tests.conftest import make_stage
from torch_impl import clusters, pseudo_labels
from torch_impl.clusters import Rows, draw_centroids, kmeans
from torch_impl.pseudo_labels import nearest_centroid

RANDOM = np.random.default_rng(2)
# (rows, dimensions, clusters): loose clouds, one cluster, as many clusters as rows, far from the origin.
CASES = {
    "clouds": (RANDOM.normal(0, 1, (300, 8)) + 3 * RANDOM.integers(0, 4, (300, 1)), 7),
    "one cluster": (RANDOM.normal(0, 1, (40, 3)), 1),
    "every row a cluster": (RANDOM.normal(0, 1, (6, 2)), 6),
    "far from the origin": (RANDOM.normal(0, 1, (200, 4)) + 1000, 5),
}


def sklearn_kmeans(rows: np.ndarray, initial: np.ndarray, max_iter: int, tolerance: float) -> KMeans:
    """scikit-learn's Lloyd in float64 from the same centroids."""
    model = KMeans(len(initial), init=initial.astype(np.float64), n_init=1, max_iter=max_iter, tol=tolerance)
    return model.fit(rows.astype(np.float64))


@pytest.mark.parametrize(("max_iter", "tolerance"), [(1, 0.0), (3, 0.0), (300, 0.0), (300, 1e-2)])
@pytest.mark.parametrize("name", CASES)
def test_kmeans_is_scikit_learns(name, max_iter, tolerance):
    rows, k = CASES[name]
    rows = rows.astype(np.float32)
    initial = rows[:k]
    centroids, assignments, inertia, iterations = kmeans(
        torch.from_numpy(rows), torch.from_numpy(initial), max_iter, tolerance
    )
    expected = sklearn_kmeans(rows, initial, max_iter, tolerance)
    assert assignments.tolist() == expected.labels_.tolist()
    assert iterations == expected.n_iter_
    assert inertia == pytest.approx(expected.inertia_, rel=1e-9, abs=1e-9)
    assert centroids.dtype == torch.float64
    np.testing.assert_allclose(centroids, expected.cluster_centers_, rtol=1e-6, atol=1e-6)  # rounded to float32


def test_tolerance_stops_earlier():
    """Guards the test above: 1e-2 is a tolerance that stops before the assignments stand still."""
    rows, k = CASES["clouds"]
    rows = rows.astype(np.float32)
    assert sklearn_kmeans(rows, rows[:k], 300, 1e-2).n_iter_ < sklearn_kmeans(rows, rows[:k], 300, 0.0).n_iter_


@pytest.mark.parametrize("max_iter", [1, 300])
def test_empty_cluster_takes_the_farthest_row_as_in_scikit_learn(max_iter):
    rows = CASES["clouds"][0].astype(np.float32)
    initial = rows[:4].copy()
    initial[2] = 500  # no row is nearest to it
    centroids, assignments, inertia, _ = kmeans(torch.from_numpy(rows), torch.from_numpy(initial), max_iter, 0.0)
    expected = sklearn_kmeans(rows, initial, max_iter, 0.0)
    assert set(assignments.tolist()) == {0, 1, 2, 3}
    assert assignments.tolist() == expected.labels_.tolist()
    assert inertia == pytest.approx(expected.inertia_, rel=1e-9)
    np.testing.assert_allclose(centroids, expected.cluster_centers_, rtol=1e-6, atol=1e-6)


def test_empty_cluster_by_hand():
    """Rows 0, 1, 10 and centroids 0.5, 100: the second loses all rows and takes 10, the farthest from its own."""
    rows = torch.tensor([[0.0], [1.0], [10.0]])
    centroids, assignments, inertia, _ = kmeans(rows, torch.tensor([[0.5], [100.0]]), 1, 0.0)
    assert centroids.tolist() == [[0.5], [10.0]]
    assert assignments.tolist() == [0, 0, 1]
    assert inertia == pytest.approx(0.5)


def brute_force(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The nearest centroid of each row, from differences in float64; of equally near ones the first."""
    return np.array([((row - centroids) ** 2).sum(1).argmin() for row in rows.astype(np.float64)])


def pooled(n: int, dimensions: int, k: int) -> np.ndarray:
    """(n, D) float32 like pooled features after a ReLU: none negative, k patterns and what a row has of its own."""
    random = np.random.default_rng(n)
    patterns = 0.35 * np.maximum(0, random.normal(-0.3, 1, (k, dimensions)))
    own = np.maximum(0, random.normal(0, 1, (n, dimensions)))
    return (patterns[random.integers(0, k, n)] + own).astype(np.float32)


def twins(scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows, and centroids in pairs that lie so near to each other that float32 cannot tell which is nearer."""
    rows = scale * pooled(400, 200, 10)
    centroids = rows[:10].astype(np.float64)
    return rows, np.concatenate([centroids, centroids + 1e-7 * scale * RANDOM.normal(0, 1, centroids.shape)])


NEAREST = {
    "pooled": (pooled(500, 300, 12), pooled(500, 300, 12)[:40].astype(np.float64)),
    "twins": twins(1),
    "twins far from the origin": (twins(1)[0] + 500, twins(1)[1] + 500),
    "twins that float32 cannot square": twins(1e25),
    "twins that float32 squares to 0": twins(1e-25),
    "twins that float32 squares to the edge of 0": twins(1e-20),
    "one centroid": (pooled(50, 8, 3), np.ones((1, 8))),
}


@pytest.mark.parametrize("name", NEAREST)
def test_the_nearest_centroids_are_those_of_brute_force_in_float64(name):
    rows, centroids = NEAREST[name]
    features = rows.astype(np.float32)
    seen = Rows(features, features.mean(0))
    found = seen.nearest(centroids - seen.offset)
    assert found.tolist() == brute_force(rows.astype(np.float32), centroids).tolist()


@pytest.mark.parametrize("name", [name for name in NEAREST if "twins" in name])
def test_float32_alone_would_not_find_them(name):
    """Guards the test above."""
    rows, centroids = (array.astype(np.float32) for array in NEAREST[name])
    with np.errstate(all="ignore"):
        alone = ((centroids**2).sum(1) - 2 * rows @ centroids.T).argmin(1)
    assert (alone != brute_force(rows, NEAREST[name][1])).sum() > 20


def test_few_rows_are_looked_at_in_float64(monkeypatch):
    """It costs many times float32's product."""
    seen = []
    plain = clusters.squared_distances
    monkeypatch.setattr(clusters, "squared_distances", lambda rows, c: seen.append(len(rows)) or plain(rows, c))
    rows = torch.from_numpy(pooled(1000, 512, 20))
    *_, iterations = kmeans(rows, rows[:20], 300, 0.0)
    assert sum(seen) < 0.1 * len(rows) * iterations


def test_kmeans_is_lloyds_algorithm_by_brute_force_in_float64():
    """The centroids too: sums that rows are added to and taken from again drift by no more than float64's rounding."""
    rows, k = pooled(700, 60, 12), 12
    centroids, iterations = rows[:k].astype(np.float64), 0
    while True:
        nearest = brute_force(rows, centroids)
        moved = np.stack([rows[nearest == i].astype(np.float64).mean(0) for i in range(k)])
        iterations += 1
        if (moved == centroids).all():
            break
        centroids = moved
    found, assignments, inertia, steps = kmeans(torch.from_numpy(rows), torch.from_numpy(rows[:k]), 300, 0.0)
    assert steps == iterations > 8 and assignments.tolist() == nearest.tolist()
    np.testing.assert_allclose(found, centroids, rtol=1e-12, atol=1e-13)
    assert inertia == pytest.approx(((rows - centroids[nearest]) ** 2).sum(), rel=1e-12)


def test_features_in_float64_are_not_rounded():
    """Two rows, a hundredth of float32's step apart, are two clusters."""
    rows = torch.tensor([[1.0], [1 + 1e-9]], dtype=torch.float64)
    centroids, assignments, _, _ = kmeans(rows, rows, 300, 0.0)
    assert assignments.tolist() == [0, 1]
    np.testing.assert_allclose(centroids, rows, rtol=0, atol=1e-15)


@pytest.mark.parametrize("init", ["random", "k-means++"])
def test_drawn_centroids_are_different_rows(init):
    rows = torch.from_numpy(CASES["clouds"][0].astype(np.float32))
    for seed in range(5):
        drawn = draw_centroids(rows, 30, init, seed)
        positions = [rows.tolist().index(row) for row in drawn.tolist()]  # fails where it is no row
        assert len(set(positions)) == 30
        assert torch.equal(drawn, draw_centroids(rows, 30, init, seed))
    assert not torch.equal(draw_centroids(rows, 30, init, 1), draw_centroids(rows, 30, init, 2))


def test_kmeans_plus_plus_draws_in_proportion_to_the_squared_distance():
    """Rows 0, 1 and 3: from 0 the next is 3 nine times out of ten, from 1 it is 3 four times out of five, from 3 it
    is 0 nine times out of thirteen. The first is any, so 3 is missing with a chance of (1/10 + 1/5) / 3 = 0.1."""
    rows = torch.tensor([[0.0], [1.0], [3.0]])
    without = sum(3.0 not in draw_centroids(rows, 2, "k-means++", seed) for seed in range(2000))
    assert abs(without - 200) < 5 * (2000 * 0.1 * 0.9) ** 0.5  # five standard deviations


def test_kmeans_plus_plus_goes_on_where_all_rows_are_equal():
    assert draw_centroids(torch.ones(5, 2), 3, "k-means++", 1).tolist() == [[1, 1]] * 3


# ---------------------------------------------------------------- pseudo-labels


def test_pseudo_label_is_the_nearest_centroid():
    features = RANDOM.normal(0, 1, (600, 9)).astype(np.float32)  # more rows than are computed at once
    centroids = RANDOM.normal(0, 1, (17, 9)).astype(np.float32)
    found = nearest_centroid(torch.from_numpy(features), torch.from_numpy(centroids))
    for row, label in zip(features.astype(np.float64), found.tolist(), strict=True):
        distances = [sum((row - centroid) ** 2) for centroid in centroids.astype(np.float64)]
        assert label == distances.index(min(distances))


def test_nearest_centroid_is_found_where_squares_would_cancel():
    """Two centroids, one float32 step away from the feature in three and in two of its 2,048 dimensions: the squares
    add up to 1e15, where even float64 has steps of 1/8, and the squared distances differ by 1/64."""
    features = RANDOM.uniform(2**20, 2**21, (40, 2048)).astype(np.float32)  # float32 has steps of 1/8 there
    for feature in features:
        three, two = feature.copy(), feature.copy()
        three[[1, 5, 9]] += 0.125
        two[[2, 3]] -= 0.125
        for centroids, nearest in (([three, two], 1), ([two, three], 0)):
            found = nearest_centroid(torch.from_numpy(feature[None]), torch.from_numpy(np.stack(centroids)))
            assert found.tolist() == [nearest]


def test_first_of_equally_near_centroids_is_taken():
    assert nearest_centroid(torch.zeros(1, 2), torch.tensor([[3.0, 0], [0, 2.0], [2.0, 0], [0, -2.0]])).tolist() == [1]


@pytest.mark.parametrize(("assign", "expected"), [("nearest", [1, 0, 1]), ("twin", [0, 1, 0])])
def test_stage_takes_the_reading_that_the_spec_names(assign, expected, tmp_path):
    earlier = {
        "features": {"lr_trainval": np.array([[9], [1], [7]], np.float32)},
        "clusters": {"centroids": np.array([[0], [8]], np.float32), "assignments": np.array([0, 1, 0], np.int32)},
    }
    stage = make_stage(tmp_path, "pseudo_labels", {"pseudo_labels": {"assign": assign}}, earlier)
    pseudo_labels.run(stage)
    stage.out.finish({})
    labels = RunFolder(tmp_path).array("pseudo_labels", "labels")
    assert labels.dtype == np.int32 and labels.tolist() == expected


def test_stage_draws_rows_of_the_features_and_sums_up(tmp_path):
    rows = CASES["clouds"][0].astype(np.float32)
    spec = {"clusters": {"k": 6, "init": "k-means++", "max_iter": 300, "tolerance": 0.0}}
    stage = make_stage(tmp_path, "clusters", spec, {"features": {"hr_trainval": rows}})
    clusters.run(stage)
    stage.out.finish({})
    run = RunFolder(tmp_path)
    initial = run.array("clusters", "initial_centroids")
    expected = sklearn_kmeans(rows, initial, 300, 0.0)
    assert run.array("clusters", "assignments").tolist() == expected.labels_.tolist()
    summary = run.json("clusters", "summary")
    assert summary["inertia"] == pytest.approx(expected.inertia_) and summary["iterations"] == expected.n_iter_
