"""How well classes lie apart in a feature space: leave-one-out nearest neighbours, and the silhouette.

Taken in the original space. What t-SNE shows of it is a picture: it makes clusters out of noise as well, and neither
distances nor sizes in it mean anything.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors

NEIGHBOURS = 5


@dataclass(frozen=True)
class Separation:
    """The numbers beside a picture.

    images, dimension, classes : what was measured. knn : share of images whose `NEIGHBOURS` nearest others vote for
    their class. chance : the same share for always naming the most frequent class. silhouette : -1 to 1; None where
    there are not two classes, or no class has two images.
    """

    images: int
    dimension: int
    classes: int
    knn: float
    chance: float
    silhouette: float | None


def single_label(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The images that have one class and no other: their rows (m,) and that class's column (m,), int64.

    labels : (n, C) int8; 1 positive, 0 only difficult, -1 negative. A difficult object of another class does not count
    as one of the image's classes, as it does not in the evaluation.
    """
    rows = np.flatnonzero((labels == 1).sum(axis=1) == 1)
    return rows, (labels[rows] == 1).argmax(axis=1)


def separation(features: np.ndarray, classes: np.ndarray) -> Separation:
    """Measure features (m, D) of images of classes (m,), at least two of them, by Euclidean distance."""
    rows = np.asarray(features, dtype=np.float64)
    kinds, counts = np.unique(classes, return_counts=True)
    measurable = 2 <= len(kinds) < len(classes)
    return Separation(
        images=len(rows),
        dimension=rows.shape[1],
        classes=len(kinds),
        knn=knn_accuracy(rows, classes),
        chance=float(counts.max() / counts.sum()),
        silhouette=float(silhouette_score(rows, classes)) if measurable else None,
    )


def knn_accuracy(features: np.ndarray, classes: np.ndarray, neighbours: int = NEIGHBOURS) -> float:
    """The share of images whose nearest others have their class in the majority, themselves left out.

    features : (m, D) float64, m >= 2; classes : (m,). Where classes have equal votes, the one whose image is nearest
    among them wins; which of images at equal distance is nearer is left to scikit-learn.
    """
    count = min(neighbours, len(features) - 1)
    search = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(features)
    nearest = classes[search.kneighbors(return_distance=False)]  # (m, count), the nearest first, none its own
    votes = (nearest[:, :, None] == nearest[:, None, :]).sum(axis=2)  # of the class of each neighbour
    winners = nearest[np.arange(len(nearest)), votes.argmax(axis=1)]  # argmax takes the first of equals
    return float((winners == classes).mean())
