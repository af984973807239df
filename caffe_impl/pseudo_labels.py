"""Stage pseudo_labels: a cluster for each LR trainval image (paper 3.2)."""

import numpy as np
from sklearn.metrics import pairwise_distances_argmin

from experiment.pipeline import Stage


def nearest_centroids(features: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The nearest centroid by Euclidean distance: (n, D) and (k, D) float32 to (n,) int32."""
    return pairwise_distances_argmin(features, centroids).astype(np.int32)


def run(stage: Stage) -> None:
    """The nearest HR centroid of each LR feature, or the cluster of its HR twin, as the spec says."""
    if stage.spec["pseudo_labels"]["assign"] == "twin":
        labels = np.array(stage.inputs.array("clusters", "assignments"))
    else:
        labels = nearest_centroids(
            np.array(stage.inputs.array("features", "lr_trainval")),
            np.array(stage.inputs.array("clusters", "centroids")),
        )
    stage.out.array("labels", labels)
