"""A finished run of the port on a small devkit with the shipped backbone."""

from pathlib import Path

from experiment.pipeline import main as run_stages
from experiment.resolve import resolve
from paper.cells import CELL_STAGES
from torch_impl.__main__ import MODULES, versions

OVERRIDES = (
    "images.hr_size=32", "images.lr_size=8", "features.blob_images=1", "clusters.k=4", "transfer.n1=6",
    "transfer.n2=4", "transfer.batch_size=10", "transfer.stepsize=8", "transfer.max_iter=20",
    "transfer.snapshots=[1, 2, 20]", "svm.c=2.5", "run.seed=5", 'resnet101.crops=[["china.jpg", 0, 0]]',
)  # fmt: skip
ONLY = [word for stage in CELL_STAGES for word in ("--only", stage)]


def small_run(run: Path, devkit: Path, *overrides: str, reuse: Path | None = None) -> Path:
    """Resolve `run` with `OVERRIDES` and then `overrides`, and run all stages but the probe of ResNet-101.

    reuse : a run to take stages over from.
    """
    resolve("embedded", run, devkit, overrides=(*OVERRIDES, *overrides))
    taken = ["--reuse", str(reuse)] if reuse else []
    run_stages("torch", MODULES, versions, [str(run), *taken, *ONLY])
    return run
