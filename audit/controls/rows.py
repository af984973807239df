"""The controls, and the rows that each gives to its SVMs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from audit.controls import features as control_features
from audit.controls import runs as control_runs
from audit.controls.svms import C_GRID, CHOSEN_TOLERANCE, FOLDS
from experiment.artifacts import RunFolder
from torch_impl.caffe_net import CaffeNet
from torch_impl.transfer import PARAMETERS
from torch_impl.transfer_features import set_parameters, transfer

CHOSEN = (
    f"one C for all classes, chosen among {C_GRID[0]:g}, {C_GRID[1]:g} .. {C_GRID[-1]:g} by {FOLDS}-fold "
    f"cross-validation on trainval, at tolerance {CHOSEN_TOLERANCE:g}"
)
UNIT = "every row divided by its length"


@dataclass(frozen=True)
class Rows:
    """Training and test rows, (n, d) and (m, d): what they are made of, as hashes and settings, and how they are made.

    told : what there is to say of them in this run, "" where it is nothing.
    """

    of: dict[str, Any]
    load: Callable[[], tuple[np.ndarray, np.ndarray]]
    told: str = ""


@dataclass
class Sources:
    """What rows are made from: RUN/torch, and the runs that need a seed, which are made when they are asked for."""

    root: Path
    threads: int
    _ours: dict[int, RunFolder] = field(default_factory=dict)

    @property
    def base(self) -> RunFolder:
        """RUN/torch."""
        return RunFolder(self.root / "torch")

    def ours(self, seed: int) -> RunFolder:
        """Ours of a seed."""
        if seed not in self._ours:
            self._ours[seed] = control_runs.ours(self.root, seed, self.threads)
        return self._ours[seed]

    def width(self) -> int:
        """The dimension of the transferred feature."""
        return int(self.base.require_manifest("transfer_features")["outputs"]["trainval"]["shape"][1])

    def stored(self, run: RunFolder, stage: str, trainval: str, test: str) -> Rows:
        """Two arrays of a run."""
        outputs = run.require_manifest(stage)["outputs"]
        hashes = {"trainval": outputs[trainval]["sha256"], "test": outputs[test]["sha256"]}
        return Rows(hashes, lambda: (np.array(run.array(stage, trainval)), np.array(run.array(stage, test))))

    def lr(self) -> Rows:
        """The LR features."""
        return self.stored(self.base, "features", "lr_trainval", "lr_test")


def lr(sources: Sources, seed: int) -> Rows:
    """The LR features."""
    return sources.lr()


def hr_and_lr(sources: Sources, seed: int) -> Rows:
    """HR features to train on, LR features to test on."""
    return sources.stored(sources.base, "features", "hr_trainval", "lr_test")


def ours(sources: Sources, seed: int) -> Rows:
    """The transferred features of that seed."""
    return sources.stored(sources.ours(seed), "transfer_features", "trainval", "test")


def permuted_labels(sources: Sources, seed: int) -> Rows:
    """The features of a network that was trained on permuted pseudo-labels."""
    run = control_runs.mislabelled(sources.root, sources.ours(seed), "permuted_labels", seed, sources.threads)
    return sources.stored(run, "transfer_features", "trainval", "test")


def random_labels(sources: Sources, seed: int) -> Rows:
    """The features of a network that was trained on labels drawn uniformly."""
    run = control_runs.mislabelled(sources.root, sources.ours(seed), "random_labels", seed, sources.threads)
    return sources.stored(run, "transfer_features", "trainval", "test")


def initial_weights(sources: Sources, seed: int) -> Rows:
    """The features of the network from which that seed's training starts."""
    run, features, names = sources.ours(seed), sources.lr(), [f"{name}_initial" for name in PARAMETERS]
    outputs, blob = run.require_manifest("transfer")["outputs"], run.spec["values"]["transfer_features"]["blob"]
    deploy = "transfer_deploy.prototxt"

    def load() -> tuple[np.ndarray, np.ndarray]:
        net = CaffeNet(run.prototxt(deploy))
        set_parameters(net, run, "_initial")
        train, test = (transfer(net, rows, blob) for rows in features.load())
        return train, test

    weights = {name: outputs[name]["sha256"] for name in names}
    return Rows({**features.of, **weights, "net": run.spec["prototxt"][deploy], "blob": blob}, load)


def random_relu(sources: Sources, seed: int) -> Rows:
    """The outputs of a ReLU layer that was drawn."""
    features, width = sources.lr(), sources.width()
    return Rows(
        {**features.of, "width": width, "seed": seed},
        lambda: control_features.random_relu(*features.load(), width, seed),
    )


def pca(sources: Sources, seed: int) -> Rows:
    """The LR features' principal components."""
    features, wanted = sources.lr(), sources.width()
    n, dimension = sources.base.require_manifest("features")["outputs"]["lr_trainval"]["shape"]
    had = control_features.pca_dimension(n, dimension, wanted)
    told = f"{had} components" if had == wanted else f"{had} components, all there are, for {wanted} dimensions"
    return Rows(
        {**features.of, "dimension": wanted},
        lambda: control_features.principal_components(*features.load(), wanted),
        told,
    )


@dataclass(frozen=True)
class Control:
    """A control: its rows, whether they are brought to length 1, and whether their C is chosen by cross-validation.

    what : one sentence without its full stop. drawn : whether seeds have a part in it.
    """

    name: str
    title: str
    what: str
    rows: Callable[[Sources, int], Rows]
    drawn: bool = True
    unit_rows: bool = False
    choose_c: bool = False


CONTROLS = (
    Control(
        "initial_weights", "Initial weights", "the transfer network as it is drawn (MSRA), not trained", initial_weights
    ),
    Control(
        "permuted_labels",
        "Permuted pseudo-labels",
        "the transfer network trained on Ours' pseudo-labels in a random order",
        permuted_labels,
    ),
    Control(
        "random_labels",
        "Random labels",
        "the transfer network trained on labels drawn uniformly from as many as there are clusters",
        random_labels,
    ),
    Control(
        "random_relu",
        "Random ReLU layer",
        "the LR features through one ReLU layer of He's Gaussian weights, as wide as the transferred feature",
        random_relu,
    ),
    Control("pca", "PCA", "the LR features' principal components on trainval, as many as Ours has dimensions", pca,
            drawn=False),
    Control("lr_c_cv", "Baseline-LR, C chosen", f"the LR features; {CHOSEN}", lr, drawn=False, choose_c=True),
    Control("lr_l2", "Baseline-LR, unit rows", f"the LR features, {UNIT}", lr, drawn=False, unit_rows=True),
    Control("lr_l2_c_cv", "Baseline-LR, unit rows, C chosen", f"the LR features, {UNIT}; {CHOSEN}", lr, drawn=False,
            unit_rows=True, choose_c=True),
    Control("ours_c_cv", "Ours, C chosen", f"the transferred features; {CHOSEN}", ours, choose_c=True),
    Control("ours_l2", "Ours, unit rows", f"the transferred features, {UNIT}", ours, unit_rows=True),
    Control("hr_to_lr", "HR to LR", "SVMs trained on the HR features of trainval and tested on LR features", hr_and_lr,
            drawn=False),
)  # fmt: skip
