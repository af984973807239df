"""Stage clusters: k-means on the HR trainval features (Lloyd's algorithm)."""

import numpy as np
import torch
from torch import Tensor

from experiment.errors import UserError
from experiment.pipeline import Stage


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

    features: (n, D) float32; initial: (k, D) float32. It stops when the squared shift of all centroids together
    is at most `tolerance` times the mean variance of the features, or after `max_iter` iterations. A cluster
    that loses all its rows takes the row that lies farthest from its own centroid. Computed in float64: the
    stop is then where the assignments stop moving, not where float32 does.
    Returns centroids (k, D) float64, assignments (n,) int64, inertia (sum of squared distances), iterations.
    """
    # As scikit-learn does, the mean is taken off first: distances then cancel less.
    offset = features.double().mean(0)
    rows = features.double() - offset
    centroids = initial.double() - offset
    allowed_shift = tolerance * rows.var(0, correction=0).mean().item()
    iterations = 0
    while iterations < max_iter:
        iterations += 1
        squared, assignments = squared_distances(rows, centroids).min(1)
        sums = torch.zeros_like(centroids).index_add_(0, assignments, rows)
        counts = torch.bincount(assignments, minlength=len(centroids)).double()
        empty = torch.nonzero(counts == 0).flatten()
        for cluster, row in zip(empty.tolist(), squared.topk(len(empty)).indices.tolist(), strict=True):
            sums[assignments[row]] -= rows[row]
            counts[assignments[row]] -= 1
            sums[cluster], counts[cluster] = rows[row], 1
        moved = torch.where(counts[:, None] > 0, sums / counts[:, None], centroids)
        shift = (moved - centroids).square().sum().item()
        centroids = moved
        if shift <= allowed_shift:
            break
    squared, assignments = squared_distances(rows, centroids).min(1)
    return centroids + offset, assignments, squared.sum().item(), iterations


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
    nearest = (rows - rows[chosen[0]]).square().sum(1)
    while len(chosen) < k:
        weights = nearest if nearest.sum() > 0 else torch.ones_like(nearest)
        chosen.append(int(torch.multinomial(weights, 1, generator=generator)))
        nearest = torch.minimum(nearest, (rows - rows[chosen[-1]]).square().sum(1))
    return features[chosen]
