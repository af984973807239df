"""The grid's runs: every combination of N1 and N2 is an ordinary run of the port beside the run that it varies.

RUN/grid/<N1>-<N2>/torch is the run whose SVMs see the second layer's N2 outputs, RUN/grid/<N1>-<N2>/fc1/torch the same
network with the first layer's N1 outputs. Each differs from RUN/torch in nothing but these values and the snapshots.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment.artifacts import RunFolder, sha256_json
from experiment.errors import UserError
from experiment.pipeline import engine_of, key_parts
from experiment.pipeline import main as run_stages
from experiment.resolve import resolve
from experiment.spec import read_profile
from experiment.stages import STAGES
from torch_impl.__main__ import MODULES, set_threads, versions
from torch_impl.engines import AUTO

BLOBS = ("fc2", "fc1")  # in the order in which they are made: the network is trained for the first
CELL_STAGES = tuple(stage for stage in STAGES if stage != "resnet101")  # the probe of ResNet-101 knows no N1 and N2
# No step of these trainings is compared with anything, and the snapshots of the profile would take most of the disk.
# Two neighbours are the least that a specification allows.
SNAPSHOTS = [1, 2]
VARIED = ("transfer.n1", "transfer.n2", "clusters.k", "transfer_features.blob", "transfer.snapshots")


@dataclass(frozen=True)
class Cell:
    """One combination: N1 and N2 neurons, and the folder of its runs."""

    n1: int
    n2: int
    path: Path

    def run(self, blob: str) -> RunFolder:
        """The run whose SVMs see that blob."""
        return RunFolder(self.path / "torch" if blob == BLOBS[0] else self.path / blob / "torch")

    def weights(self, dimension: int) -> int:
        """How many weights the network has for features of that dimension: what a step of training costs."""
        return self.n1 * (dimension + 1) + self.n2 * (self.n1 + 1)


def cell(base: Path, n1: int, n2: int) -> Cell:
    """A combination's place beside RUN/torch, given RUN."""
    return Cell(n1, n2, base / "grid" / f"{n1}-{n2}")


def carried(spec: dict[str, Any], varied: Sequence[str] = VARIED) -> tuple[str, list[str]]:
    """The profile that a run was resolved from, and its overrides: every value that is not the profile's.

    varied : keys that are left out, because the caller gives them values of its own.

    Raises `UserError` where the profile has other keys now: the run is then of another version of the program.
    """
    profile = spec["profile"].partition(",")[0]  # "embedded, LIMIT=64": what LIMIT= changed is among the values
    values, _ = read_profile(profile)
    keys = {(section, key) for section, table in values.items() for key in table}
    if keys != {(section, key) for section, table in spec["values"].items() for key in table}:
        raise UserError(f"the run's spec.json has other keys than profile {profile} now: run `make torch-reproduce`")
    return profile, [
        f"{section}.{key}={json.dumps(value, ensure_ascii=False)}"
        for section, table in spec["values"].items()
        for key, value in table.items()
        if value != values[section][key] and f"{section}.{key}" not in varied
    ]


def resolve_cell(base: RunFolder, one: Cell, blob: str) -> None:
    """Write spec.json and prototxts of one of a combination's runs."""
    spec = base.spec
    profile, overrides = carried(spec)
    external = {name: Path(entry["path"]) for name, entry in spec["external"].items()}
    chosen = {
        "transfer.n1": one.n1,
        "transfer.n2": one.n2,
        "clusters.k": one.n2,  # paper 4.3: N2 is the number of clusters
        "transfer_features.blob": f'"{blob}"',
        "transfer.snapshots": SNAPSHOTS,
    }
    resolve(
        profile,
        one.run(blob).path,
        external["devkit"],
        external["weights"],
        external.get("mean"),
        (*overrides, *(f"{key}={value}" for key, value in chosen.items())),
    )


def up_to_date(
    run: RunFolder, stages: Sequence[str] = CELL_STAGES, versions: Callable[[], Mapping[str, str]] = versions
) -> bool:
    """Whether these stages of a resolved run are finished and made from what there is now, from its own draws.

    Any one engine may have made the features and the training, in the version that is installed.

    versions : of what computes, as the pipeline was given them.
    """
    found = versions()
    for stage in stages:
        manifest = run.manifest(stage)
        if manifest is None or any(run.manifest(earlier) is None for earlier in STAGES[stage].inputs):
            return False
        try:
            engine = engine_of(MODULES[stage], engine_name(run), "")
        except UserError:  # it is not installed any more
            return False
        parts = {**key_parts("torch", stage, MODULES, run, run, None), "versions": found, "variation": ""}
        parts |= {"engine": engine} if engine else {}
        if manifest.get("key") != sha256_json(parts):
            return False
    return True


def engine_name(run: RunFolder) -> str:
    """The engine that made a run's features; the default's name where it has none yet."""
    return (run.manifest("features") or {}).get("versions", {}).get("engine", AUTO)


def bring_up_to_date(one: Cell, reuse: RunFolder, threads: int) -> None:
    """Run what is missing of a resolved combination, with the engine of `reuse`, whose stages are taken over.

    Each combination draws its own k-means start and first weights from the run's seed. Raises `UserError` where it
    cannot be trained.
    """
    for blob, source in zip(BLOBS, (reuse, one.run(BLOBS[0])), strict=True):
        make_stages(one.run(blob), engine_name(reuse), threads, source)


def make_stages(
    run: RunFolder, engine: str, threads: int, reuse: RunFolder | None = None, stages: Sequence[str] = CELL_STAGES
) -> None:
    """Run what is missing of a resolved run's stages by that engine, or take it over from `reuse` where that has the
    same."""
    taken = ["--reuse", str(reuse.path)] if reuse else []
    only = [word for stage in stages for word in ("--only", stage)]
    options = [*taken, "--threads", str(threads), "--engine", engine, *only]
    run_stages("torch", MODULES, versions, [str(run.path), *options], before=set_threads)


def source_of(one: Cell, finished: Iterable[Cell], base: RunFolder) -> RunFolder:
    """The run to take stages over from: one of the same N2, which has its clusters, else any, else RUN/torch."""
    cells = list(finished)
    alike = [other for other in cells if other.n2 == one.n2]
    return next((other.run(BLOBS[0]) for other in (*alike, *cells)), base)
