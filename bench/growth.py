"""How time and peak memory grow: of the stage features with the number of images, of the stage clusters with that of
clusters.

A process each, so that its peak memory is its own.
"""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bench.measure import PORT, Bench, row_of
from bench.pooled import N, pooled
from experiment.artifacts import RunFolder
from experiment.errors import UserError
from experiment.resolve import resolve
from experiment.stage_writer import StageWriter
from torch_impl.features import ARRAYS

IMAGES = (500, 1000, 2000, 4000)  # of each of the two splits together, at two resolutions
CLUSTERS = (20, 100, 200, 500, 1000, 2048)  # Table 2's N2
ITERATIONS = 3  # of k-means, the same for all: how many it takes to converge is the data's
ROUNDS = 3


def run(bench: Bench) -> None:
    """Measure both on the embedded profile, whose backbone is small."""
    with tempfile.TemporaryDirectory(prefix="udft-bench-") as scratch:
        folder = Path(scratch)
        devkit = listed(folder / "devkit")
        images = {f"features of {n} images": with_images(folder / f"images-{n}", devkit, n) for n in IMAGES}
        grow(bench, "features", "float32", images)
        clusters = {
            f"{k} clusters, drawn and {ITERATIONS} iterations": with_features(folder / f"clusters-{k}", devkit, k)
            for k in CLUSTERS
        }
        grow(bench, "clusters", "float64", clusters)


def grow(bench: Bench, stage: str, dtype: str, runs: Mapping[str, RunFolder]) -> None:
    """Make a stage of all runs in turn, round after round, and add two rows for each: time and peak memory."""
    bench.say(f"{stage}: {', '.join(runs)}")
    manifests: dict[str, list[dict]] = {work: [] for work in runs}
    for number in range(min(bench.rounds, ROUNDS)):
        for work, run_ in runs.items():
            make(stage, run_)
            manifests[work].append(run_.require_manifest(stage))
            assert stage != "clusters" or run_.json(stage, "summary")["iterations"] == ITERATIONS, work
            made = run_.stage_path(stage)
            made.rename(made.with_name(f"made-{number}"))  # so that it is made again
    for work, found in manifests.items():
        rows: Sequence[tuple[str, list[float]]] = (
            ("s", [manifest["seconds"] for manifest in found]),
            ("MiB at most", [manifest["peak_memory"] / 2**20 for manifest in found]),
        )
        for unit, figures in rows:
            bench.rows.append(row_of(work, PORT, dtype, unit, figures))


def make(stage: str, run_: RunFolder) -> None:
    """Make one stage of the port in a process of its own."""
    command = [sys.executable, "-m", "torch_impl", str(run_.path), "--only", stage]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"torch_impl ended with {done.returncode}: {done.stderr.strip()[-200:]}")


def listed(devkit: Path) -> Path:
    """A devkit of lists alone: the stages before those that are measured are written here, and read no photograph."""
    (devkit / "JPEGImages").mkdir(parents=True)
    lists = devkit / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split in ("trainval", "test"):
        lists.joinpath(f"{split}.txt").write_text("".join(f"{number:06d}\n" for number in range(N)), encoding="utf-8")
    return devkit


def with_images(path: Path, devkit: Path, n: int) -> RunFolder:
    """A run whose stage images has n images, half of them of each split, which are noise."""
    resolve("embedded", path, devkit)
    run_ = RunFolder(path)
    size = run_.spec["values"]["images"]["hr_size"]
    random = np.random.default_rng(n)
    images = StageWriter(run_, "images")
    for name in ARRAYS:
        images.array(name, random.integers(0, 256, (n // 2, size, size, 3), np.uint8))
    images.finish({"stage": "images"})
    return run_


def with_features(path: Path, devkit: Path, k: int) -> RunFolder:
    """A run whose HR features are of VOC2007's size, to be clustered into k."""
    resolve(
        "embedded", path, devkit, overrides=(f"clusters.k={k}", f"transfer.n2={k}", f"clusters.max_iter={ITERATIONS}")
    )
    run_ = RunFolder(path)
    features = StageWriter(run_, "features")
    features.array("hr_trainval", pooled())
    features.finish({"stage": "features"})
    return run_
