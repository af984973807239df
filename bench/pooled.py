"""Data of VOC2007's size that look like ResNet-101's pooled features: drawn, so that nothing has to be downloaded."""

import numpy as np

N, DIMENSION, CLASSES = 5011, 2048, 20  # VOC2007's trainval images, pool5's values
PATTERNS = 100


def pooled(n: int = N, seed: int = 0) -> np.ndarray:
    """(n, 2048) float32, none negative: one of 100 patterns, and what each row has of its own."""
    random = np.random.default_rng(seed)
    patterns = 0.35 * np.maximum(0, random.normal(-0.3, 1, (PATTERNS, DIMENSION)))
    own = np.maximum(0, random.normal(0, 1, (n, DIMENSION)))
    return (patterns[random.integers(0, PATTERNS, n)] + own).astype(np.float32)


def labels(rows: np.ndarray, seed: int = 0) -> np.ndarray:
    """(n, 20) of 1 and -1: a twelfth of the rows is positive, by a direction of each class and by chance."""
    random = np.random.default_rng(seed)
    scores = (rows - rows.mean(0)) @ random.normal(size=(DIMENSION, CLASSES))
    scores += 0.8 * scores.std(0) * random.normal(size=scores.shape)
    return np.where(scores > np.quantile(scores, 11 / 12, axis=0), 1, -1).astype(np.int8)
