"""What was measured beside a run, RUN/<file>/<file>.json: whether it is of RUN/torch as that is now."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiment.artifacts import RunFolder, read_json, sha256_json
from experiment.errors import UserError
from experiment.stages import STAGES

SCHEMA_VERSION = 2
FIGURES = tuple(stage for stage in STAGES if stage != "resnet101")  # no figure depends on that one
# File to the module that writes it.
MAKERS = {"controls": "audit.controls.controls", "sensitivity": "audit.decisions.sensitivity"}


def made_from(run: RunFolder, stages: Sequence[str] = FIGURES) -> str:
    """sha256 of what some stages of a run left, of all that figures depend on: of every output's own sha256.

    A stage that is not finished counts as one that left nothing, so that no finished run has the same.
    """
    manifests = {stage: run.manifest(stage) for stage in stages}
    return sha256_json(
        {
            stage: manifest and {name: entry["sha256"] for name, entry in manifest["outputs"].items()}
            for stage, manifest in manifests.items()
        }
    )


def data_of(run: RunFolder) -> str:
    """sha256 of what a run's stage index left: photographs' hashes and labels, which no machine rounds."""
    return made_from(run, ("index",))


def stamp(run: RunFolder) -> dict[str, Any]:
    """What a measured file says of the run that it is of, for `foreign`; taken before the work, which takes long."""
    return {
        "schema_version": SCHEMA_VERSION,
        "spec_sha256": run.spec["sha256"],
        "data": data_of(run),
        "made_from": made_from(run),
    }


def foreign(content: Any, run: RunFolder, copied: bool = False) -> str:
    """What a measured file is of, where that is not the run as it is now; "" where it is.

    copied : it stands in docs/results; then a run of the same data and specification will do, whose results may
    differ in their last bits.
    """
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        return "another version of the program"
    if content.get("spec_sha256") != run.spec["sha256"]:
        return "another specification"
    if content.get("data") != data_of(run):
        return "other data"
    if not copied and content.get("made_from") != made_from(run):
        return f"other results than {run.path.name}/ holds now"
    return ""


def read_current(root: Path, file: str) -> Any:
    """RUN/<file>/<file>.json; root : RUN. Raises `UserError` where it is not of RUN/torch as that is now."""
    path = root / file / f"{file}.json"
    content = read_json(path)
    if of := foreign(content, RunFolder(root / "torch")):
        seeds = content.get("seeds") if isinstance(content, dict) else None
        again = f"python -m {MAKERS[file]} {root}{f' --seeds {len(seeds)}' if seeds else ''}"
        raise UserError(f"{path} is of {of}: run `{again}` first")
    return content
