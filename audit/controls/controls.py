"""The controls, which the paper lacks: what else reaches its mAP? `python -m audit.controls.controls RUN [--seeds N]`.

RUN/torch must be finished. What has a seed is run once for each of 1 to N; Ours of a seed is that of `make seeds` where
that is there. Each result is kept as RUN/controls/<control>/<seed>.npz and made again only where what it is made of has
changed, so the command can be stopped at any moment. Writes RUN/controls/controls.json and prints it as a table.
"""

import argparse
import os
import sys
import time
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audit.controls import features as control_features
from audit.controls import rows as control_rows
from audit.controls import svms as control_svm
from audit.controls.conclusions import conclusions
from audit.controls.rows import CONTROLS, Control, Sources
from audit.controls.runs import FOLDER
from audit.controls.text import table
from audit.decisions.effects import effect
from audit.measured import stamp
from compare import bootstrap
from compare.__main__ import subject_of
from compare.bootstrap import resampled_map, resamples
from compare.end_to_end import LEAST_SEEDS, PERCENT, decision_values, over_seeds
from experiment.artifacts import RunFolder, sha256_file, sha256_json, write_json
from experiment.errors import UserError, run_command
from experiment.pipeline import locked
from paper.published import read_published
from paper.standing import standing
from torch_impl import caffe_net, svm, transfer, transfer_features
from torch_impl.__main__ import set_threads, versions

FILE = "controls.json"
# What a result depends on.
CODE = (control_features, control_rows, control_svm, bootstrap, svm, caffe_net, transfer, transfer_features)


@dataclass(frozen=True)
class Result:
    """Decision values (m, C) float64 on test, the C of their SVMs, and what there is to say of the rows."""

    decisions: np.ndarray
    c: float
    told: str


def controls(root: Path, seeds: int = LEAST_SEEDS, threads: int = 0) -> dict[str, Any]:
    """Bring all controls up to date and gather RUN/controls/controls.json; root : RUN.

    Raises `UserError` where RUN/torch is not finished or is not what the program makes now.
    """
    sources = Sources(root, threads)
    sources.base.require_manifest("metrics")
    (root / FOLDER).mkdir(exist_ok=True)
    with locked(root / FOLDER):
        source = stamp(sources.base)  # before the work: it may change while that goes on
        runs = [sources.ours(seed) for seed in range(1, seeds + 1)]
        results = {
            one.name: [result(sources, one, seed) for seed in (range(1, seeds + 1) if one.drawn else (1,))]
            for one in CONTROLS
        }
        say("bootstrap")
        found = {**gathered(sources.base, runs, results), **source}
        write_json(root / FOLDER / FILE, found)
    return found


def result(sources: Sources, one: Control, seed: int) -> Result:
    """A control's result for a seed, taken from its file where that was made from the same."""
    started = time.monotonic()
    rows = one.rows(sources, seed)
    index = sources.base.require_manifest("index")["outputs"]
    settings = sources.base.spec["values"]["svm"]
    key = sha256_json(
        {
            "rows": rows.of,
            "labels": [index[name]["sha256"] for name in ("labels_trainval", "classes")],
            "svm": settings,
            "ways": [one.unit_rows, one.choose_c],
            "code": [sha256_file(Path(str(module.__file__))) for module in CODE],
            "versions": versions(),
        }
    )
    path = sources.root / FOLDER / one.name / f"{seed}.npz"
    named = f"{one.name}{f', seed {seed}' if one.drawn else ''}"
    kept = read_kept(path, key)
    if kept is None:
        train, test = rows.load()
        if one.unit_rows:
            train, test = control_features.unit_rows(train), control_features.unit_rows(test)
        labels, classes = sources.base.array("index", "labels_trainval"), sources.base.json("index", "classes")
        try:
            kept = control_svm.decisions_on(train, test, labels, classes, settings, one.choose_c)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        keep(path, key, *kept)
        say(f"{named}: {time.monotonic() - started:.1f} s")
    else:
        say(f"{named}: up to date")
    return Result(*kept, "; ".join(filter(None, [rows.told, c_told(kept[1]) if one.choose_c else ""])))


def c_told(c: float) -> str:
    """A chosen C, with a word where a greater or smaller one might have done better."""
    end = {control_svm.C_GRID[0]: ", the least of them", control_svm.C_GRID[-1]: ", the greatest of them"}.get(c, "")
    return f"C = {c:g}{end}"


def read_kept(path: Path, key: str) -> tuple[np.ndarray, float] | None:
    """Decision values and C of a result's file; None where it is not there, not whole, or of another key."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            return (kept["decisions"], float(kept["c"])) if str(kept["key"]) == key else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def keep(path: Path, key: str, decisions: np.ndarray, c: float) -> None:
    """Write a result's file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with open(partial, "wb") as file:
        np.savez_compressed(file, key=np.array(key), decisions=decisions, c=np.array(c))
    os.replace(partial, path)


def say(text: str) -> None:
    """A line of progress."""
    print(f"{FOLDER}: {text}", file=sys.stderr, flush=True)


def gathered(base: RunFolder, runs: Sequence[RunFolder], results: Mapping[str, list[Result]]) -> dict[str, Any]:
    """What controls.json holds; mAPs and differences in percent. runs : Ours of seeds 1, 2 .."""
    spec = base.spec
    settings, bootstrap_seed = spec["values"]["compare"], spec["values"]["run"]["seed"]
    labels = np.asarray(base.array("index", "labels_test"))
    weights = resamples(len(labels), settings["resamples"], bootstrap_seed)

    def maps(decisions: np.ndarray) -> np.ndarray:
        """As observed, then in each resample: (1 + resamples,)."""
        plain = np.ones((1, len(labels)), np.uint8)
        return PERCENT * np.concatenate([resampled_map(decisions, labels, how) for how in (plain, weights)])

    def judged(alternative: np.ndarray, other: np.ndarray, seeded: bool) -> dict[str, Any]:
        return effect(alternative, other, bootstrap_seed, settings["margin"], seeded)

    lr = maps(decision_values(base, "baseline_lr", labels.shape))[None]
    ours = np.stack([maps(decision_values(run, "ours", labels.shape)) for run in runs])
    of = {name: np.stack([maps(one.decisions) for one in them]) for name, them in results.items()}
    rows = [
        {
            "control": one.name,
            "title": one.title,
            "what": told(one, results[one.name]),
            "drawn": one.drawn,
            "map": over_seeds(of[one.name][:, 0]),
            "minus_baseline_lr": judged(of[one.name], lr, one.drawn),
            "minus_ours": judged(of[one.name], ours, True),
        }
        for one in CONTROLS
    ]
    found = {
        "subject": {**subject_of(base), "remarks": standing(base, read_published()).remarks},
        "seeds": list(range(1, len(runs) + 1)),
        "margin": settings["margin"],
        "baseline_lr": float(lr[0, 0]),
        "ours": {**over_seeds(ours[:, 0]), "minus_baseline_lr": judged(ours, lr, True)},
        "ours_minus_baseline_lr_alike": {
            "c_cv": judged(of["ours_c_cv"], of["lr_c_cv"], True),
            "l2": judged(of["ours_l2"], of["lr_l2"], True),
        },
        "rows": rows,
    }
    return {**found, "conclusions": conclusions(found)}


def told(one: Control, results: list[Result]) -> str:
    """A control's sentence, with what its results have to say."""
    listed = ", ".join(dict.fromkeys(filter(None, (result.told for result in results))))
    return f"{one.what}{f' ({listed})' if listed else ''}."


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m audit.controls.controls", description=__doc__)
    parser.add_argument("run", type=Path, help="a run's folder, with a finished torch/ in it")
    parser.add_argument("--seeds", type=int, default=LEAST_SEEDS, help=f"draws (default: {LEAST_SEEDS})")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    arguments = parser.parse_args()
    if arguments.seeds < 1 or arguments.threads < 0:
        raise UserError("--seeds must be 1 or more, and --threads 0 or more")
    set_threads(arguments)
    print(table(controls(arguments.run.absolute(), arguments.seeds, arguments.threads)), end="")
    return 0


if __name__ == "__main__":
    run_command(main)
