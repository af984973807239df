"""k-means of 5,011 x 2,048 into 100 clusters, to convergence from one start: the port beside scikit-learn."""

from collections.abc import Callable

import numpy as np
import torch
from sklearn.cluster import KMeans

from bench.measure import PORT, Bench, Subject, Work
from bench.pooled import pooled
from torch_impl.clusters import draw_centroids, kmeans

K, MOST = 100, 300  # clusters, iterations at most


def run(bench: Bench) -> None:
    """Measure it. The port's result is float64's, so its row stands beside scikit-learn's in float64."""
    features = torch.from_numpy(pooled())
    initial = draw_centroids(features, K, "random", 1)

    def port() -> np.ndarray:
        return kmeans(features, initial, MOST, 0.0)[0].numpy()

    def scikit_learn(dtype: str) -> Callable[[], np.ndarray]:
        rows, start = (tensor.numpy().astype(dtype) for tensor in (features, initial))

        def fit() -> np.ndarray:
            return KMeans(K, init=start, n_init=1, algorithm="lloyd", max_iter=MOST, tol=0.0).fit(rows).cluster_centers_

        return fit

    expected = scikit_learn("float64")()
    subjects = [Subject(PORT, "float64", port)]
    subjects += [Subject("scikit-learn", dtype, scikit_learn(dtype)) for dtype in ("float64", "float32")]
    error = lambda found: float(np.linalg.norm(found - expected) / np.linalg.norm(expected))  # noqa: E731
    bench.measure(Work("k-means", "s", subjects, error=error))
