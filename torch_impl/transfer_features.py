"""Stage transfer_features: the transferred features of the LR images of both splits."""

import numpy as np
import torch

from experiment.artifacts import RunFolder, batches
from experiment.pipeline import Stage
from experiment.stages import SPLITS
from torch_impl.caffe_net import CaffeNet, arithmetic_of

ROWS_AT_ONCE = 1000


def run(stage: Stage) -> None:
    """Write trainval and test, (n, N2) float32 (or N1 wide, where the spec names fc1)."""
    net = CaffeNet(stage.prototxt("transfer_deploy.prototxt"), arithmetic=arithmetic_of(stage.variation))
    set_parameters(net, stage.inputs)
    for split in SPLITS:
        features = stage.inputs.array("features", f"lr_{split}")
        stage.out.array(split, transfer(net, features, stage.spec["transfer_features"]["blob"]))


def set_parameters(net: CaffeNet, run: RunFolder, ending: str = "") -> None:
    """Take the parameters from a run's stage transfer; ending: "_initial" for those that it began with."""
    for layer in ("fc1", "fc2"):
        names = (f"{layer}_{blob}{ending}" for blob in ("weight", "bias"))
        net.set_parameters({layer: [run.array("transfer", name) for name in names]})


@torch.inference_mode()
def transfer(net: CaffeNet, features: np.ndarray, blob: str) -> np.ndarray:
    """A blob of the transfer network for features (n, D) float32: "fc2" (n, N2), "fc1" after its ReLU, "prob"."""
    outputs = [
        net.forward({"data": torch.from_numpy(np.array(features[rows]))}, [blob])[blob]
        for rows in batches(len(features), ROWS_AT_ONCE)
    ]
    return torch.cat(outputs).numpy()
