"""Stage transfer_features: the trained transfer network applied to LR features (paper 4.4)."""

import caffe
import numpy as np

from caffe_impl.net import forward_rows, load_net
from experiment.artifacts import batches
from experiment.pipeline import Stage
from experiment.stages import SPLITS

ROWS_PER_BATCH = 1000  # bounds the memory; rows do not meet in these layers


def apply_transfer(net: caffe.Net, features: np.ndarray, blob: str, rows_per_batch: int = ROWS_PER_BATCH) -> np.ndarray:
    """Features through the transfer network: (n, D) float32 to (n, N2) float32, (n, N1) where `blob` is fc1.

    fc1 is read after the whole pass, when the ReLU has overwritten it.
    """
    rows = []
    for batch in batches(len(features), rows_per_batch):
        forward_rows(net, features[batch])
        rows.append(net.blobs[blob].data.copy())
    return np.concatenate(rows)


def run(stage: Stage) -> None:
    """Set the trained weights and push both splits through."""
    net = load_net(stage.prototxt("transfer_deploy.prototxt"))
    for layer in ("fc1", "fc2"):
        for blob, kind in zip(net.params[layer], ("weight", "bias")):
            blob.data[...] = stage.inputs.array("transfer", f"{layer}_{kind}")
    for split in SPLITS:
        features = stage.inputs.array("features", f"lr_{split}")
        blob, rows_per_batch = stage.spec["transfer_features"]["blob"], stage.batch_size(ROWS_PER_BATCH)
        stage.out.array(split, apply_transfer(net, features, blob, rows_per_batch))
