"""What is compared of the stages clusters and pseudo_labels: centroids matched by assignment before all else."""

import math
from collections.abc import Iterator

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.metrics import adjusted_rand_score

from compare.calibration import Read
from compare.check import Check
from compare.difference import misfit
from compare.pair import Pair, equal_labels, own_draws
from experiment.artifacts import RunFolder
from experiment.errors import UserError


def clusters(pair: Pair) -> Iterator[Check]:
    """Initial centroids, then assignments, adjusted Rand index, centroids and inertia; b's clusters take a's numbers.

    The order of clusters means nothing, so that of run b's is given up: each is matched with one of run a's so that
    the centroids' squared distances add up to the least (Kuhn 1955, by scipy).
    """
    if problem := misfit(*(run.array("clusters", "centroids") for run in (pair.a, pair.b))):
        yield pair.judge.failure("clusters", "centroids", problem)
        return
    read = reordered(pair, "initial_centroids")
    own = own_draws(pair.a, pair.b, "clusters")
    yield pair.array_check(
        "clusters", "initial_relative_l2", "initial_centroids", read, read,
        distance=None, only_shown=own, detail="each side drew its own" if own else "",
    )  # fmt: skip
    mine = matching(pair.a, pair.b)
    labels = renumbered(pair.b.array("clusters", "assignments"), mine)
    moved = int(np.count_nonzero(mine != np.arange(len(mine))))
    yield from equal_labels(pair, "clusters", "agreement", "assignments", labels)
    assignments = pair.a.array("clusters", "assignments")
    if not misfit(assignments, labels):
        rand = float(adjusted_rand_score(assignments, labels))
        yield pair.judge.check("clusters", "adjusted_rand", "assignments", rand, "adjusted Rand index")
    read = reordered(pair, "centroids")
    detail = f"{moved} of {len(mine)} clusters have another number" if moved else ""
    yield pair.array_check("clusters", "relative_l2", "centroids", read, read, detail=detail)
    first, second = (run.json("clusters", "summary") for run in (pair.a, pair.b))
    change = inertia_change(pair.a, first["inertia"], second["inertia"])
    detail = f"ratio minus 1; {first['iterations']} and {second['iterations']} iterations"
    # Of one start a side the inertia is chance as much as skill: end_to_end judges its mean over the seeds.
    yield pair.judge.check("clusters", "inertia", "inertia", change, detail, only_shown=own, a=first, b=second)


def pseudo_labels(pair: Pair) -> Iterator[Check]:
    """The fraction of LR trainval features with the same pseudo-label, and whether the others are ties.

    A disagreement's margin is how much farther, relatively, the centroid that b names is than the one that a names
    (or the other way round), in float64. A tie has none; an error has one.
    """
    labels_a, labels_b = (run.array("pseudo_labels", "labels") for run in (pair.a, pair.b))
    if pair.chained:
        labels_b = renumbered(labels_b, matching(pair.a, pair.b))
    yield from equal_labels(pair, "pseudo_labels", "agreement", "labels", labels_b)
    if misfit(labels_a, labels_b):
        return
    features, centroids = pair.a.array("features", "lr_trainval"), pair.a.array("clusters", "centroids")
    if len(features) != len(labels_a) or not all(
        x.min() >= 0 and x.max() < len(centroids) for x in (labels_a, labels_b)
    ):
        yield pair.judge.failure("pseudo_labels", "margin", "the labels do not belong to the features and centroids")
        return
    differing = np.flatnonzero(labels_a != labels_b)
    ids = pair.a.json("index", "ids_trainval")
    margins = label_margins(features[differing], centroids, labels_a[differing], labels_b[differing])
    worst = int(margins.argmax()) if len(margins) else 0
    nearest = np.sort(cdist(np.asarray(features, np.float64), np.asarray(centroids, np.float64)), axis=1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # a row may lie on its centroid
        closest = float(np.nanmin((nearest[:, 1:2] - nearest[:, :1]) / nearest[:, :1], initial=np.inf))
    detail = f"the closest call of all rows is {closest:.1e}"
    if len(margins):
        detail = f"greatest at image {ids[differing[worst]]} of {len(margins)} that differ; {detail}"
    told = {str(ids[row]): float(margin) for row, margin in zip(differing, margins, strict=True)}
    greatest = float(margins.max()) if len(margins) else 0.0
    yield pair.judge.check("pseudo_labels", "margin", "labels", greatest, detail, margins=told, closest_call=closest)


def inertia_change(run: RunFolder, first: float, second: float) -> float:
    """|second / first - 1|; where every row is its own cluster, the second as a share of the features' scatter.

    NaN where one of them is no inertia.
    """
    if not (first >= 0 and second >= 0):
        return math.nan
    if first > 0:
        return abs(second / first - 1)
    if second == 0:
        return 0.0
    features = np.asarray(run.array("features", "hr_trainval"), np.float64)
    scatter = float(((features - features.mean(axis=0)) ** 2).sum())
    return abs(second) / scatter if scatter > 0 else math.inf


def label_margins(features: np.ndarray, centroids: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n,) relative difference of the distances from features (n, D) to their first and second centroid."""
    rows, places = np.asarray(features, np.float64), np.asarray(centroids, np.float64)
    near, far = (np.linalg.norm(rows - places[labels], axis=1) for labels in (first, second))
    near, far = np.minimum(near, far), np.maximum(near, far)
    return np.where(near > 0, (far - near) / np.where(near > 0, near, 1), np.where(far > 0, np.inf, 0))


def matching(a: RunFolder, b: RunFolder, name: str = "centroids") -> np.ndarray:
    """(k,) for each of a's clusters the number of b's that is matched with it, by the output `name`."""
    centroids = [np.asarray(run.array("clusters", name), np.float64) for run in (a, b)]
    if centroids[0].ndim != 2 or centroids[0].shape != centroids[1].shape:
        shapes = " and ".join(str(array.shape) for array in centroids)
        raise UserError(f"{b.path}: {name} of shape {shapes} cannot be matched: run both sides again")
    cost = cdist(*centroids, "sqeuclidean")
    return linear_sum_assignment(np.nan_to_num(cost, nan=np.finfo(float).max / len(cost)))[1]


def renumbered(labels: np.ndarray, mine: np.ndarray) -> np.ndarray:
    """b's cluster numbers as a's; `mine` is what `matching` gave. Raises `ValueError` for other labels."""
    if labels.dtype.kind not in "iu" or not ((labels >= 0) & (labels < len(mine))).all():
        raise ValueError(f"cluster numbers must be integers of 0 to {len(mine) - 1}")
    number = np.empty(len(mine), labels.dtype)
    number[mine] = np.arange(len(mine))
    return number[labels]


def reordered(pair: Pair, name: str) -> Read:
    """Reads centroids in the order of run a's, each array matched by itself; in their own where they cannot be."""

    def rows(run: RunFolder) -> np.ndarray:
        array = run.array("clusters", name)
        fits = array.shape == pair.a.array("clusters", name).shape and array.ndim == 2
        return array[matching(pair.a, run, name)] if fits else array

    return rows
