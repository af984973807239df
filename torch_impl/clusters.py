"""Stage clusters: k-means on the HR trainval features (Lloyd's algorithm)."""

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from experiment.artifacts import batches
from experiment.errors import UserError
from experiment.pipeline import Stage
from torch_impl.products import product

UNIT = 2.0**-24  # u, the most that rounding to float32 changes a number by, as a share of it
FLT_MIN = torch.finfo(torch.float32).tiny
ROWS_AT_ONCE = 128  # in float64, 2 MiB of 2,048 values: they stay in the cache
NONE = -1  # of no cluster yet


def run(stage: Stage) -> None:
    """Write initial_centroids, centroids, assignments and summary."""
    spec = stage.spec["clusters"]
    features = torch.from_numpy(np.array(stage.inputs.array("features", "hr_trainval")))
    if len(features) < spec["k"]:
        raise UserError(
            f"clusters.k = {spec['k']} is more than the {len(features)} trainval images: pass SET=clusters.k="
        )
    drawn = stage.draw("initial_centroids")
    if drawn is None:
        initial = draw_centroids(features, spec["k"], spec["init"], stage.seed("kmeans-init"))
    else:
        initial = torch.from_numpy(np.array(drawn))
    centroids, assignments, inertia, iterations = kmeans(features, initial, spec["max_iter"], spec["tolerance"])
    stage.out.array("initial_centroids", initial.numpy())
    stage.out.array("centroids", (centroids if stage.variation == "reference" else centroids.float()).numpy())
    stage.out.array("assignments", assignments.to(torch.int32).numpy())
    stage.out.json("summary", {"inertia": inertia, "iterations": iterations})


def kmeans(features: Tensor, initial: Tensor, max_iter: int, tolerance: float) -> tuple[Tensor, Tensor, float, int]:
    """Lloyd's algorithm from given centroids.

    features: (n, D) and initial: (k, D), float32 or float64. It stops when the squared shift of all centroids together
    is at most `tolerance` times the mean variance of the features, or after `max_iter` iterations. A cluster
    that loses all its rows takes the row that lies farthest from its own centroid. The result is float64's: the
    stop is then where the assignments stop moving, not where float32 does.
    Returns centroids (k, D) float64, assignments (n,) int64, inertia (sum of squared distances), iterations.
    """
    # As scikit-learn does, the mean is taken off first: distances then cancel less. Any point near it will do.
    rows = Rows(features.numpy(), features.mean(0).numpy())
    centroids = initial.numpy() - rows.offset
    clusters = Clusters(rows, len(centroids))
    allowed_shift = tolerance * rows.mean_variance()
    iterations = 0
    while iterations < max_iter:
        iterations += 1
        clusters.assign(rows.nearest(centroids))
        clusters.fill_empty(centroids)
        counts = clusters.counts[:, None]
        moved = np.divide(clusters.sums, counts, where=counts > 0, out=centroids.copy())
        shift = np.square(moved - centroids).sum()
        centroids = moved
        if shift <= allowed_shift:
            break
    clusters.assign(rows.nearest(centroids))
    found = torch.from_numpy(centroids + rows.offset), torch.from_numpy(clusters.assignments)
    return *found, clusters.inertia(centroids), iterations


class Rows:
    """The features about a point, in float32 for what is sure in it, and in float64 for what is not.

    The product in float32 takes all threads. The rest is numpy's, on one: threads that wait for each other at every
    small operation cost more than they do wherever something else runs beside them.

    Attributes
    ----------
    offset : (D,) float64, the point. squares : (n,) float64, the rows' squared lengths from there.
    """

    def __init__(self, features: np.ndarray, offset: np.ndarray) -> None:
        """features: (n, D) and offset: (D,), float32 or float64."""
        self.features, self.offset = features, offset.astype(np.float64)
        self.rounded = torch.from_numpy((features - offset).astype(np.float32, copy=False))
        self.squares = np.empty(len(features))
        self.total = np.zeros_like(self.offset)
        for cut in batches(len(features), ROWS_AT_ONCE):
            exact = self.exact(cut)
            self.squares[cut] = np.einsum("nd,nd->n", exact, exact)
            self.total += exact.sum(0)

    def exact(self, which: slice | np.ndarray) -> np.ndarray:
        """(m, D) float64, some of the rows."""
        return self.features[which] - self.offset

    def squared_distances(self, which: slice | np.ndarray, centroids: np.ndarray) -> np.ndarray:
        """(m, k) float64, of some of the rows."""
        return squared_distances(torch.from_numpy(self.exact(which)), torch.from_numpy(centroids)).numpy()

    def mean_variance(self) -> float:
        """The mean over the dimensions of the rows' variance."""
        n, dimension = self.features.shape
        return float((self.squares.sum() - np.square(self.total).sum() / n) / (n * dimension))

    def nearest(self, centroids: np.ndarray) -> np.ndarray:
        """(n,) int64, the centroid that is nearest to each row in float64; centroids: (k, D) float64 about `offset`.

        A product in float32 tells it where the two nearest lie farther apart than rounding can have moved them, which
        is nearly everywhere; the other rows are looked at in float64.
        """
        # |c|^2 - 2 x c is the squared distance but for |x|^2, which is the same for all centroids.
        squares = np.square(centroids).sum(1)
        scores = product(self.rounded, torch.from_numpy(-2 * centroids).float()).numpy()
        scores += squares.astype(np.float32)
        nearest = scores.argmin(1)
        first = np.take_along_axis(scores, nearest[:, None], 1)[:, 0].astype(np.float64)
        np.put_along_axis(scores, nearest[:, None], np.inf, 1)
        # A float32 sum of D products errs by at most D u |x| |c|, in whatever order (Higham 2002, 3.1); both operands
        # and |c|^2 are rounded by u, and so are the sums of both terms. What is below FLT_MIN may count as 0.
        d, length = centroids.shape[1], np.sqrt(squares.max())
        rounding = UNIT * ((2.1 * d + 10) * np.sqrt(self.squares) * length + 4 * length**2) + 4 * d * FLT_MIN
        with np.errstate(invalid="ignore"):  # inf - inf
            sure = scores.min(1) - first > 2 * rounding  # not where a value is no number
        unsure = np.flatnonzero(~sure)
        for cut in batches(len(unsure), ROWS_AT_ONCE):
            nearest[unsure[cut]] = self.squared_distances(unsure[cut], centroids).argmin(1)
        return nearest


class Clusters:
    """Which cluster each row is in, with the clusters' sums, kept up to date by the rows that leave and come.

    Attributes
    ----------
    assignments : (n,) int64. sums : (k, D) float64. counts : (k,) int64.
    """

    def __init__(self, rows: Rows, k: int) -> None:
        self.rows = rows
        self.assignments = np.full(len(rows.features), NONE)
        self.sums = np.zeros((k, len(rows.offset)))
        self.counts = np.zeros(k, np.int64)

    def assign(self, nearest: np.ndarray) -> None:
        """Move rows to other clusters; nearest: (n,) int64."""
        changed = np.flatnonzero(nearest != self.assignments)
        for cut in batches(len(changed), ROWS_AT_ONCE):
            which = changed[cut]
            left, came = (one_hot(clusters[which], len(self.sums)) for clusters in (self.assignments, nearest))
            self.sums += (came - left) @ self.rows.exact(which)
        self.assignments = nearest
        self.counts = np.bincount(nearest, minlength=len(self.counts))

    def fill_empty(self, centroids: np.ndarray) -> None:
        """Give each empty cluster the row that lies farthest from its own centroid, each another row."""
        empty = np.flatnonzero(self.counts == 0)
        if not len(empty):
            return
        own = np.empty(len(self.assignments))
        for cut in batches(len(own), ROWS_AT_ONCE):
            own[cut] = np.square(self.rows.exact(cut) - centroids[self.assignments[cut]]).sum(1)
        filled = self.assignments.copy()
        filled[np.argsort(-own)[: len(empty)]] = empty
        self.assign(filled)

    def inertia(self, centroids: np.ndarray) -> float:
        """The sum of the squared distances of all rows to their clusters' centroids."""
        spread = self.counts @ np.square(centroids).sum(1) - 2 * (self.sums * centroids).sum()
        return max(0.0, float(self.rows.squares.sum() + spread))


def one_hot(clusters: np.ndarray, k: int) -> csr_matrix:
    """(k, m) with a 1 where a row is in a cluster; clusters: (m,), `NONE` where it is in none."""
    (inside,) = np.nonzero(clusters != NONE)
    return csr_matrix((np.ones(len(inside)), (clusters[inside], inside)), (k, len(clusters)))


def squared_distances(rows: Tensor, centroids: Tensor) -> Tensor:
    """(n, k) squared Euclidean distances, never below 0."""
    products = rows @ centroids.T
    return (rows.square().sum(1, keepdim=True) - 2 * products + centroids.square().sum(1)).clamp_(min=0)


def draw_centroids(features: Tensor, k: int, init: str, seed: int) -> Tensor:
    """k rows of the features as first centroids: "random" without repetition, or "k-means++" (Arthur,
    Vassilvitskii 2007: each with a probability in proportion to its squared distance to the nearest so far)."""
    generator = torch.Generator().manual_seed(seed)
    if init == "random":
        return features[torch.randperm(len(features), generator=generator)[:k]]
    rows = features.double()
    chosen = [int(torch.randint(len(rows), (1,), generator=generator))]
    nearest = squared_distances_to(rows, chosen[0])
    while len(chosen) < k:
        weights = nearest if nearest.sum() > 0 else torch.ones_like(nearest)
        chosen.append(int(torch.multinomial(weights, 1, generator=generator)))
        nearest = torch.minimum(nearest, squared_distances_to(rows, chosen[-1]))
    return features[chosen]


def squared_distances_to(rows: Tensor, i: int) -> Tensor:
    """Of the rows (n, D) to the i-th, (n,); from differences, so that it is 0 for a row that is equal."""
    return torch.cdist(rows, rows[i : i + 1], compute_mode="donot_use_mm_for_euclid_dist")[:, 0].square()
