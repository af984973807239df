"""What was measured beside a run, RUN/<file>/<file>.json: whether it is of RUN/torch as that is now."""

from pathlib import Path
from typing import Any

from experiment.artifacts import RunFolder, read_json, sha256_json
from experiment.errors import UserError
from experiment.stages import STAGES

SCHEMA_VERSION = 2
# File to the module that writes it.
MAKERS = {"controls": "audit.controls.controls", "sensitivity": "audit.decisions.sensitivity"}


def made_from(run: RunFolder) -> str:
    """sha256 of what the stages index to metrics of a run left: of every output's own sha256.

    A stage that is not finished counts as one that left nothing, so that no finished run has the same.
    """
    manifests = {stage: run.manifest(stage) for stage in STAGES if stage != "resnet101"}  # no figure depends on it
    return sha256_json(
        {
            stage: manifest and {name: entry["sha256"] for name, entry in manifest["outputs"].items()}
            for stage, manifest in manifests.items()
        }
    )


def foreign(content: Any, run: RunFolder) -> str:
    """What a measured file is of, where that is not the run as it is now; "" where it is."""
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        return "another version of the program"
    if content.get("spec_sha256") != run.spec["sha256"]:
        return "another specification"
    if content.get("made_from") != made_from(run):
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
