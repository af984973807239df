"""Stage pseudo_labels: a cluster for each LR trainval feature."""

import numpy as np
import torch
from torch import Tensor

from experiment.artifacts import batches
from experiment.pipeline import Stage

ROWS_AT_ONCE = 256


def run(stage: Stage) -> None:
    """Write labels (n,) int32."""
    if stage.spec["pseudo_labels"]["assign"] == "twin":
        labels = np.array(stage.inputs.array("clusters", "assignments"))
    else:
        features = torch.from_numpy(np.array(stage.inputs.array("features", "lr_trainval")))
        centroids = torch.from_numpy(np.array(stage.inputs.array("clusters", "centroids")))
        labels = nearest_centroid(features, centroids).to(torch.int32).numpy()
    stage.out.array("labels", labels)


def nearest_centroid(features: Tensor, centroids: Tensor) -> Tensor:
    """The index (n,) int64 of each feature's nearest centroid, Euclidean (paper 3.2); the first of equals.

    features: (n, D), centroids: (k, D). The differences are taken before squaring, in float64, so that nothing
    cancels.
    """
    return torch.cat(
        [
            torch.cdist(
                features[rows].double(), centroids.double(), compute_mode="donot_use_mm_for_euclid_dist"
            ).argmin(1)
            for rows in batches(len(features), ROWS_AT_ONCE)
        ]
    )
