"""The stages, in the order in which data flows, and what each of them reads.

Both sides have one module per stage under the same name. A stage sees only the sections of the specification
that are listed here, so a change of one section makes exactly the stages downstream of it stale.
"""

from typing import Dict, List, NamedTuple, Sequence, Tuple


class StageInfo(NamedTuple):
    """What a stage reads: sections of the spec, earlier stages, files from outside, shared draws."""

    sections: Tuple[str, ...]
    inputs: Tuple[str, ...]  # earlier stages
    external: Tuple[str, ...] = ()  # keys of spec.json's "external"
    prototxts: Tuple[str, ...] = ()  # files under the run's prototxt/
    draws: Tuple[str, ...] = ()  # outputs of the Caffe side's own stage that the port starts from
    forced: bool = False  # isolated, the port also goes on from the Caffe side's snapshots of this stage
    seeded: bool = False  # draws from the run's seed where it is given no draws


STAGES: Dict[str, StageInfo] = {
    "index": StageInfo(("index",), (), external=("devkit",)),
    "images": StageInfo(("images",), ("index",), external=("devkit",)),
    "features": StageInfo(
        ("features", "backbone"), ("images",), external=("weights", "mean"), prototxts=("backbone.prototxt",)
    ),
    "clusters": StageInfo(("clusters",), ("features",), draws=("initial_centroids",), seeded=True),
    "pseudo_labels": StageInfo(("pseudo_labels",), ("features", "clusters")),
    "transfer": StageInfo(
        ("transfer",),
        ("features", "pseudo_labels"),
        prototxts=("transfer_train.prototxt", "solver.prototxt"),
        draws=("fc1_weight_initial", "fc1_bias_initial", "fc2_weight_initial", "fc2_bias_initial"),
        forced=True,
        seeded=True,
    ),
    "transfer_features": StageInfo(
        ("transfer_features",), ("features", "transfer"), prototxts=("transfer_deploy.prototxt",)
    ),
    "svm": StageInfo(("svm",), ("index", "features", "transfer_features")),
    "metrics": StageInfo((), ("index", "svm")),
    "resnet101": StageInfo(
        ("resnet101",),
        (),
        external=("photographs",),
        prototxts=("resnet101.prototxt",),
        draws=("weights",),
        seeded=True,
    ),
}

# How a side can run stages otherwise without changing what they compute (--vary), and the stages that it touches. By
# how much the results move is the noise floor; "reference" is the port in float64, which both sides are measured by.
MATRIX_STAGES = ("features", "clusters", "pseudo_labels", "transfer", "transfer_features", "resnet101")
VARIATIONS: Dict[str, Dict[str, Tuple[str, ...]]] = {
    "caffe": {
        "threads": MATRIX_STAGES,  # another number of threads: --threads says which
        "batch": ("features", "transfer_features", "resnet101"),  # batches of half the size
        "last-bit": ("transfer",),  # the drawn weights changed in their last bit
    },
    "torch": {
        "reference": tuple(STAGES),  # float64
        "threads": MATRIX_STAGES,
        "layout": ("features", "resnet101"),  # channels last in memory
    },
}
OF_THE_NET = ("reference", "layout")  # variations that the port's own net computes, whatever engine is named
VARIED_IMAGES = 64  # of each split and resolution: where a run is varied, the stage features takes the first ones only

SPLITS = ("trainval", "test")
RESOLUTIONS = ("hr", "lr")
ROWS = ("baseline_hr", "baseline_lr", "ours")  # the rows of the paper's Table 1


SEGMENT_STEPS = 100  # longer segments would show how rounding grows more than whether the update is right


def segments(snapshots: Sequence[int]) -> List[Tuple[int, int]]:
    """Pairs of neighbouring snapshots (start, end) from which the port is made to go on from Caffe's state."""
    return [(start, end) for start, end in zip(snapshots, snapshots[1:]) if 0 < end - start <= SEGMENT_STEPS]


def folder_name(stage: str) -> str:
    """The stage's folder in a run: its place in the order and its name, `04-clusters`."""
    return f"{list(STAGES).index(stage) + 1:02d}-{stage}"
