"""What is computed elsewhere in one pass, by trying everything."""

from collections.abc import Sequence

import numpy as np


def brute_force_ap(scores: Sequence[float], labels: Sequence[int]) -> float:
    """VOC2007's AP by trying every threshold at every recall; labels 1, -1, and 0, which does not count."""
    counted = [(score, label) for score, label in zip(scores, labels, strict=True) if label]
    points = []
    for threshold, _ in counted:
        taken = [label for score, label in counted if score >= threshold]
        found = taken.count(1)
        points.append((found / sum(label == 1 for _, label in counted), found / len(taken)))
    return float(np.mean([max(p for r, p in points if r >= step / 10 - 1e-12) for step in range(11)]))
