"""What a run is about to do: how many images, how long it may take, how much disk it needs; and whether that is there.

Runs under Python 3.9 (in the container) and on the host alike. Only sizes are computed here.
"""

import shutil
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Sequence

from experiment.artifacts import RunFolder
from experiment.errors import UserError
from experiment.stages import ROWS, SPLITS

FLOAT = 4  # bytes
MARGIN = 1.1  # on the disk that is asked for: manifests, lists, what the file system takes itself

Values = Mapping[str, Mapping[str, Any]]
# Given a run, its counts of images and the engine, the seconds that stages may take: measured, not looked up.
Measure = Callable[[RunFolder, Mapping[str, int], str], Dict[str, float]]


def announce(run: RunFolder, left: Sequence[str], measure: Measure, engine: str) -> None:
    """Say what is to be done for the stages that are left. Raises `UserError` where the disk is too small."""
    values = run.spec["values"]
    counts = count_images(Path(run.spec["external"]["devkit"]["path"]), values["index"])
    needed = sum(disk_of(stage, values, counts) for stage in left) * MARGIN
    free = shutil.disk_usage(run.path).free
    say(f"{run.path}: {' + '.join(str(counts[split]) for split in SPLITS)} images, each at two resolutions; "
        f"{values['transfer']['max_iter']} training iterations; stages {', '.join(left)}")  # fmt: skip
    say(f"disk: {size_text(needed)} needed, {size_text(free)} free")
    if needed > free:
        raise UserError(
            f"{run.path} needs {size_text(needed)} and its disk has {size_text(free)} free: make room, or name another "
            "folder with RUN="
        )
    expected = {stage: seconds for stage, seconds in measure(run, counts, engine).items() if stage in left}
    if expected:
        parts = ", ".join(f"{stage} {time_text(seconds)}" for stage, seconds in expected.items())
        say(f"time, from a short measurement: about {time_text(sum(expected.values()))} ({parts}); stopped at any "
            "moment, it goes on where it was")  # fmt: skip


def say(line: str) -> None:
    """A line of the plan, among the others on stderr."""
    print(line, file=sys.stderr, flush=True)


def count_images(devkit: Path, index: Mapping[str, Any]) -> Dict[str, int]:
    """How many images each split has, from its list; 0 where there is none, which the stage index says better."""
    counts = {}
    for split in SPLITS:
        path = devkit / "ImageSets" / "Main" / f"{index[split]}.txt"
        lines = path.read_bytes().split(b"\n") if path.is_file() else []
        counts[split] = sum(1 for line in lines if line.strip())
        if index["limit"]:
            counts[split] = min(counts[split], index["limit"])
    return counts


def disk_of(stage: str, values: Values, counts: Mapping[str, int]) -> float:
    """How many bytes a stage leaves or has on the disk meanwhile, about."""
    n, n_trainval = sum(counts.values()), counts["trainval"]
    transfer, backbone = values["transfer"], values["backbone"]
    length = 4 * backbone["widths"][-1]
    weights = transfer["n1"] * (length + transfer["n2"] + 1) + transfer["n2"]
    if stage == "images":
        return 2.0 * n * values["images"]["hr_size"] ** 2 * 3
    if stage == "features":
        kept = values["features"]["blob_images"] * blob_values(values["images"]["hr_size"], backbone)
        return FLOAT * (2.0 * n * length + kept)
    if stage == "transfer":
        states = (
            2 * len(transfer["snapshots"]) + 2 + 2 * 3
        )  # snapshots, both ends; two checkpoints, a snapshot of Caffe's
        return FLOAT * (states * weights + n_trainval * (length + 1.0) + transfer["max_iter"])
    if stage == "transfer_features":
        return FLOAT * float(n) * max(transfer["n1"], transfer["n2"])
    if stage == "svm":
        return 8.0 * len(ROWS) * n * 100  # classes: 100 are more than any devkit has
    if stage == "resnet101":
        paper = {"conv1_channels": 64, "widths": [64, 128, 256, 512], "blocks": [3, 4, 23, 3]}
        kept = len(values["resnet101"]["crops"]) * blob_values(values["resnet101"]["size"], paper)
        return FLOAT * kept + 180e6
    return FLOAT * (values["clusters"]["k"] * 2.0 * length + n)


def blob_values(size: int, net: Mapping[str, Any]) -> float:
    """How many values all blobs of a bottleneck residual net hold for one image of that size."""
    side = (size + 1) // 2
    total = 3.0 * size**2 + net["conv1_channels"] * (side**2 + (side // 2) ** 2)
    side = side // 2
    for number, (width, blocks) in enumerate(zip(net["widths"], net["blocks"])):
        side = side if number == 0 else (side + 1) // 2
        total += (blocks * (width + width + 4 * width + 4 * width) + 4 * width) * side**2
    return total


def size_text(size: float) -> str:
    """Bytes in words, to two digits."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    unit = units[0]
    return f"{size:.2g} {unit}" if size < 100 else f"{size:.0f} {unit}"


def time_text(seconds: float) -> str:
    """A time in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
