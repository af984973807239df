"""How time and memory of the stage features grow with the number of images, on the embedded backbone.

A process each, so that its peak memory is its own.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from bench.measure import PORT, Bench, row_of
from experiment.artifacts import RunFolder
from experiment.errors import UserError
from experiment.resolve import resolve
from experiment.stage_writer import StageWriter
from torch_impl.features import ARRAYS

COUNTS = (500, 1000, 2000, 4000)  # of each of the two splits together, at two resolutions
ROUNDS = 3


def run(bench: Bench) -> None:
    """Measure every number of images, the numbers in turn."""
    rounds = min(bench.rounds, ROUNDS)
    bench.say(f"features of {', '.join(map(str, COUNTS))} images")
    with tempfile.TemporaryDirectory(prefix="udft-bench-") as scratch:
        folder = Path(scratch)
        call("embedded.devkit", folder / "devkit", "--trainval", "20", "--test", "20")
        runs = {n: prepared(folder / str(n), folder / "devkit", n) for n in COUNTS}
        manifests: dict[int, list[dict]] = {n: [] for n in COUNTS}
        for number in range(rounds):
            for n, run_ in runs.items():
                call("torch_impl", run_.path, "--only", "features")
                manifests[n].append(run_.require_manifest("features"))
                run_.stage_path("features").rename(folder / f"{n}-{number}")  # so that it is made again
    for n, found in manifests.items():
        for unit, figures in (
            ("s", [manifest["seconds"] for manifest in found]),
            ("MiB at most", [manifest["peak_memory"] / 2**20 for manifest in found]),
        ):
            bench.rows.append(row_of(f"features of {n} images", PORT, "float32", unit, figures))


def call(module: str, *arguments: object) -> None:
    """Run a module of the project."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{module} failed: {done.stderr.strip().splitlines()[-1]}")


def prepared(path: Path, devkit: Path, n: int) -> RunFolder:
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
