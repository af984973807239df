"""The runs that the controls need: Ours of each seed, and the transfer network trained on labels that say nothing.

RUN/seeds/<seed>/torch is Ours where `make seeds` made it, else RUN/controls/ours/<seed>/torch. The others are
RUN/controls/<control>/<seed>/torch, whose first weights are those of Ours of the same seed. All are ordinary runs of
the port; only the stage pseudo_labels of the others is written here.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from audit.beside import resolve_beside
from audit.controls.features import permuted, uniform_labels
from audit.decisions.variants import SEEDLESS
from experiment.artifacts import RunFolder, sha256_array, sha256_json
from experiment.errors import UserError
from experiment.stage_writer import StageWriter
from paper.cells import engine_name, make_stages, up_to_date
from torch_impl.__main__ import versions

FOLDER = "controls"
TRAINED = ("transfer", "transfer_features")
SEEDED = ("clusters", "pseudo_labels", *TRAINED, "svm")
# Control to the labels (n,) int32 that its network is trained on, given Ours' pseudo-labels, k and the seed.
LABELS: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "permuted_labels": lambda labels, k, seed: permuted(labels, seed),
    "random_labels": lambda labels, k, seed: uniform_labels(len(labels), k, seed),
}


def ours(root: Path, seed: int, threads: int) -> RunFolder:
    """A run of Ours that draws from that seed, brought up to date; root : RUN, with torch/ in it.

    Raises `UserError` where it cannot be run, or RUN/torch is not what the program makes now.
    """
    made = RunFolder(root / "seeds" / str(seed) / "torch")
    if stands_for(made, RunFolder(root / "torch"), seed):
        return made
    run = prepared(root, "ours", seed, threads)
    make_stages(run, engine_name(run), threads, stages=SEEDED)
    return run


def mislabelled(root: Path, true: RunFolder, control: str, seed: int, threads: int) -> RunFolder:
    """The run of a control of `LABELS`, brought up to date; true : Ours of that seed. Raises `UserError` as `ours`."""
    labels = np.array(true.array("pseudo_labels", "labels"))
    run = prepared(root, control, seed, threads)
    write_labels(run, LABELS[control](labels, run.spec["values"]["clusters"]["k"], seed))
    make_stages(run, engine_name(run), threads, stages=TRAINED)
    return run


def stands_for(made: RunFolder, base: RunFolder, seed: int) -> bool:
    """Whether a run is what `base` would be with that seed, made by this program from its own draws."""
    if not (made.path / "spec.json").is_file() or not up_to_date(made, (*SEEDLESS, *SEEDED)):
        return False
    values = {**base.spec["values"], "run": {"seed": seed}}
    return made.spec["values"] == values and all(
        made.require_manifest(stage)["outputs"] == base.require_manifest(stage)["outputs"] for stage in SEEDLESS
    )


def prepared(root: Path, name: str, seed: int, threads: int) -> RunFolder:
    """RUN/controls/<name>/<seed>/torch, which differs from RUN/torch in the seed alone, with RUN/torch's features."""
    base = RunFolder(root / "torch")
    if not up_to_date(base, SEEDLESS):
        raise UserError(f"{base.path} is not what this program makes now: run `make torch-reproduce` first")
    run = resolve_beside(base, root / FOLDER / name / str(seed) / "torch", seed)
    make_stages(run, engine_name(base), threads, base, SEEDLESS)
    return run


def write_labels(run: RunFolder, labels: np.ndarray) -> None:
    """Make labels (n,) int32 the run's stage pseudo_labels, unless they are already."""
    parts = {"labels": sha256_array(labels)}
    key = sha256_json(parts)
    finished = run.manifest("pseudo_labels")
    if finished is not None and finished.get("key") == key:
        return
    started = time.monotonic()
    out = StageWriter(run, "pseudo_labels", key)
    out.array("labels", labels)
    told = {"stage": "pseudo_labels", "side": "torch", "key": key, "key_parts": parts, "versions": versions()}
    out.finish({**told, "spec_sha256": run.spec["sha256"], "seconds": round(time.monotonic() - started, 3)})
