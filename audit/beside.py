"""Runs of the port beside RUN/torch, each of a seed of its own: what differs from RUN/torch, and what does not."""

from collections.abc import Sequence
from pathlib import Path

from experiment.artifacts import RunFolder
from experiment.resolve import resolve
from paper.cells import SNAPSHOTS, carried


def resolve_beside(
    base: RunFolder,
    path: Path,
    seed: int,
    overrides: Sequence[str] = (),
    devkit: Path | None = None,
    mean: Path | None = None,
) -> RunFolder:
    """Write spec.json and prototxts of a run in `path` that differs from `base` in the seed and the overrides alone.

    devkit : another one than the base's. mean : the mean file, where the base has none of its own. No step of its
    training is compared with anything, so it keeps only the snapshots that it must. Raises `UserError` where `base`,
    its devkit or its weights are gone, or are of another version of the program, or an override contradicts the rest.
    """
    spec = base.spec
    profile, own = carried(spec, ())
    external = {name: Path(entry["path"]) for name, entry in spec["external"].items()}
    chosen = (*own, f"transfer.snapshots={SNAPSHOTS}", f"run.seed={seed}", *overrides)
    resolve(profile, path, devkit or external["devkit"], external["weights"], external.get("mean", mean), chosen)
    return RunFolder(path)
