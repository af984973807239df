"""Stage clusters: k-means on the HR trainval features (paper 3.2)."""

import numpy as np
from sklearn.cluster import KMeans

from experiment.errors import UserError
from experiment.pipeline import Stage


def draw_centroids(features: np.ndarray, k: int, init: str, seed: int) -> np.ndarray:
    """Draw k rows of `features` to start k-means from.

    Parameters
    ----------
    features : (n, D) float32.
    init : "random", k different rows; "k-means++", each next row with a probability proportional to its squared
        distance to the nearest row drawn so far (Arthur and Vassilvitskii 2007, algorithm 1a to 1c).

    Returns (k, D) float32. Raises `UserError` where there are fewer (different) rows than k.
    """
    n = len(features)
    if n < k:
        raise UserError(f"clusters.k = {k} but there are only {n} trainval images: SET=clusters.k and transfer.n2")
    random = np.random.RandomState(seed)
    if init == "random":
        return features[random.permutation(n)[:k]]
    rows = features.astype(np.float64)
    chosen = [random.randint(n)]
    squared_distance = np.full(n, np.inf)
    while len(chosen) < k:
        squared_distance = np.minimum(squared_distance, np.square(rows - rows[chosen[-1]]).sum(axis=1))
        total = squared_distance.sum()
        if total == 0:
            raise UserError(f"clusters.k = {k} but only {len(chosen)} HR features differ: SET=clusters.k lower")
        chosen.append(random.choice(n, p=squared_distance / total))
    return features[chosen]


def fit_clusters(
    features: np.ndarray, initial_centroids: np.ndarray, max_iter: int, tolerance: float
) -> tuple[np.ndarray, np.ndarray, float, int]:
    """Lloyd's algorithm by scikit-learn, from given centroids.

    Parameters
    ----------
    features : (n, D) float32.
    initial_centroids : (k, D) float32.
    tolerance : stops when the centroids' squared shift is at most this times the features' mean variance.

    Returns centroids (k, D) float32, assignments (n,) int32, inertia (sum of squared distances), iterations.
    """
    model = KMeans(
        n_clusters=len(initial_centroids),
        init=np.array(initial_centroids),
        n_init=1,
        algorithm="full",
        max_iter=max_iter,
        tol=tolerance,
    ).fit(np.array(features))
    return model.cluster_centers_, model.labels_.astype(np.int32), float(model.inertia_), int(model.n_iter_)


def run(stage: Stage) -> None:
    """Draw initial centroids (or take over drawn ones) and cluster."""
    spec = stage.spec["clusters"]
    features = np.array(stage.inputs.array("features", "hr_trainval"))
    initial = stage.draw("initial_centroids")
    if initial is None:
        initial = draw_centroids(features, spec["k"], spec["init"], stage.seed("kmeans-init"))
    centroids, assignments, inertia, iterations = fit_clusters(features, initial, spec["max_iter"], spec["tolerance"])
    stage.out.array("initial_centroids", initial)
    stage.out.array("centroids", centroids)
    stage.out.array("assignments", assignments)
    stage.out.json("summary", {"inertia": inertia, "iterations": iterations})
