"""How far a difference of two mAPs could be chance: bootstrap over the test images, and over the training seeds."""

from dataclasses import dataclass
from typing import Any

import numpy as np

RECALL_STEPS = 10  # recall 0, 0.1 .. 1
SIGNIFICANCE = 0.05  # of each one-sided test
CHUNK_BYTES = 1 << 26  # what is held at a time, so that memory stays flat however many resamples there are
BYTES_PER_IMAGE = 80  # in each resample, where weights are int64 and every image is positive: the worst case
IMAGES, RUNS = 1, 2  # the random streams, so that the two draws are independent where they share a seed


@dataclass(frozen=True)
class Equivalence:
    """A difference judged against a margin: two one-sided tests and percentile intervals. Units: those of the mAPs.

    mean_difference : as observed, without resampling.
    standard_error : the standard deviation of the resampled differences.
    interval_95, interval_90 : lower and upper end, percentiles of the resampled differences about the observed one.
    p_lower, p_upper : bootstrap p-values of "difference <= -margin" and of "difference >= margin".
    verdict : "equivalent" where both p-values are below 0.05; "different" where the 95 % interval lies wholly beyond
        the margin on one side; else "undecided".
    """

    mean_difference: float
    standard_error: float
    interval_95: tuple[float, float]
    interval_90: tuple[float, float]
    p_lower: float
    p_upper: float
    margin: float
    verdict: str

    def as_json(self) -> dict[str, Any]:
        """The fields by name, tuples as lists."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}


def equivalence(observed: float, differences: np.ndarray, margin: float, certain: bool = True) -> Equivalence:
    """Judge an observed difference by its resamples; `certain` is false where the seeds' is not in them.

    Without it nothing is certain: the verdict is "undecided".

    differences : (count,) float64, as `paired_differences` returns them; margin : >= 0, in the same units.

    Raises ValueError where there is no difference, the margin is negative, or anything is not finite: NaN is beyond
    neither margin and would pass both tests.
    """
    if not (len(differences) and np.isfinite(differences).all() and np.isfinite(observed) and 0 <= margin < np.inf):
        raise ValueError(f"cannot judge a difference of {observed} by {len(differences)} resamples, margin {margin}")
    # Copies of a positive stand together, which lifts a resampled AP above the plain one: only the spread is taken.
    differences = differences - differences.mean() + observed
    low_95, low_90, high_90, high_95 = np.percentile(differences, [2.5, 5, 95, 97.5]).tolist()
    # The observed data count as one more resample, so that no p-value is 0.
    p_lower, p_upper = (
        (1 + int(np.count_nonzero(beyond))) / (len(differences) + 1)
        for beyond in (differences <= -margin, differences >= margin)
    )
    if not certain:
        verdict = "undecided"
    elif max(p_lower, p_upper) < SIGNIFICANCE:
        verdict = "equivalent"
    elif low_95 > margin or high_95 < -margin:
        verdict = "different"
    else:
        verdict = "undecided"
    return Equivalence(
        mean_difference=float(observed),
        standard_error=float(differences.std()),
        interval_95=(low_95, high_95),
        interval_90=(low_90, high_90),
        p_lower=p_lower,
        p_upper=p_upper,
        margin=float(margin),
        verdict=verdict,
    )


def paired_differences(first: np.ndarray, second: np.ndarray, seed: int | None) -> np.ndarray:
    """Mean over runs of `first` minus mean over runs of `second` in each resample: (count,) float64.

    first, second : (s1, count) and (s2, count) float64, the mAPs of s1 and s2 runs over the same resamples of images.
    seed : where given, each resample draws the runs of either side too, with replacement and independently. How far
        the drawn runs' mean lies from that of all is stretched by sqrt(s / (s - 1)), since a bootstrap of s runs shows
        only (s - 1) / s of their variance; a single run shows none.

    Source: Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1: runs and images are crossed, and
    both are drawn.
    """
    if seed is None:
        return first.mean(axis=0) - second.mean(axis=0)
    random = np.random.default_rng([RUNS, seed])
    means = []
    for side in (first, second):
        drawn = np.take_along_axis(side, random.integers(len(side), size=side.shape), axis=0).mean(axis=0)
        every = side.mean(axis=0)
        means.append(every + (drawn - every) * np.sqrt(len(side) / max(len(side) - 1, 1)))
    return means[0] - means[1]


def resamples(n: int, count: int, seed: int) -> np.ndarray:
    """How often each of n images is among n draws with replacement: (count, n) of the least dtype that holds n."""
    random = np.random.default_rng([IMAGES, seed])
    weights = np.empty((count, n), np.min_scalar_type(n))
    for row in weights:
        row[:] = np.bincount(random.integers(n, size=n), minlength=n)
    return weights


def resampled_map(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """VOC2007's 11-point mAP of each resample, as fractions: (count,) float64.

    scores : (n, C) float64, finite; equal scores keep the order of the images, copies of an image stand together.
    labels : (n, C) int8; 1 positive, -1 negative, 0 difficult and left out.
    weights : (count, n) integers, how often an image is in a resample.

    A class without a positive in a resample has no AP there and is not in its mean; NaN where no class has one.
    """
    count, n = weights.shape
    rankings = [ranking(*columns) for columns in zip(scores.T, labels.T, strict=True)]
    result = np.full(count, np.nan)
    rows = max(1, CHUNK_BYTES // (BYTES_PER_IMAGE * n))
    for start in range(0, count, rows):
        drawn = np.ascontiguousarray(weights[start : start + rows].T)
        aps = np.stack([resampled_ap(drawn[order], positives) for order, positives in rankings])
        defined = ~np.isnan(aps)
        total, classes = aps.sum(axis=0, where=defined), defined.sum(axis=0)
        np.divide(total, classes, out=result[start : start + rows], where=classes > 0)
    return result


def ap_11point(scores: np.ndarray, labels: np.ndarray) -> float:
    """11-point AP of one class: scores (n,) float64, labels (n,) of 1, -1, 0 (left out); NaN without a positive."""
    order, positives = ranking(scores, labels)
    return float(resampled_ap(np.ones((len(order), 1), np.int64), positives)[0])


def ranking(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One class's images in order of rank down to its last positive, the difficult ones left out: (ranked,) indices;
    and where in that order its positives stand: (p,)."""
    order = np.argsort(-scores, kind="stable")
    order = order[labels[order] != 0]
    positives = np.flatnonzero(labels[order] == 1)
    return order[: positives[-1] + 1] if len(positives) else order[:0], positives


def resampled_ap(drawn: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """11-point AP of one class in m resamples: (m,) float64, NaN where no positive was drawn.

    drawn : (ranked, m) integers, how often each image of `ranking` was drawn; positives : (p,), its second result.

    Only a positive's last copy is looked at: among its copies the negatives above are the same, so that precision and
    recall both grow, and whatever recall one of them reaches, the last one reaches with the best precision.
    """
    if not len(positives):
        return np.full(drawn.shape[1], np.nan)
    found = np.cumsum(drawn[positives], axis=0, dtype=np.int64)
    after_positive = np.append(0, positives[:-1] + 1)
    ranked = np.cumsum(np.add.reduceat(drawn, after_positive, axis=0, dtype=np.int64), axis=0)
    precision = found / np.maximum(ranked, 1)
    best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    # found * 10 >= step * all holds for the steps up to this one, in integers; step 0 holds from the start.
    step = found * RECALL_STEPS // np.maximum(found[-1], 1)
    ap = (best * np.diff(step, axis=0, prepend=-1)).sum(axis=0) / (RECALL_STEPS + 1)
    return np.where(found[-1] > 0, ap, np.nan)
