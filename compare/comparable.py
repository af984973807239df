"""Whether two runs may be compared at all, looked at before any number.

What must be equal stops the comparison where it is not; what may differ is listed in the report.
"""

from collections.abc import Iterable
from typing import Any

from experiment.artifacts import RunFolder, sha256_json
from experiment.errors import UserError
from experiment.pipeline import check_spec
from experiment.stages import OF_THE_NET, STAGES

ABSENT = "-"
KEY_PARTS = {"side", "spec", "inputs", "variation", "external", "prototxt", "draws", "forced", "code", "versions"}


def require_comparable(
    a: RunFolder, b: RunFolder, stages: Iterable[str] = STAGES, but: Iterable[str] = ()
) -> list[str]:
    """Stop where the runs were asked for different things or given different data, or are not finished.

    stages : those that must be finished in both. but : what need not be equal ("spec.run.seed").
    Returns what was found equal, by name.
    """
    for run in (a, b):
        if not (run.path / "spec.json").is_file():
            raise UserError(
                f"{run.path} is no run: its spec.json is missing; name a folder such as runs/embedded/caffe"
            )
        check_spec(run)
        for stage in stages:
            require_current(run, stage)
    first, second = must_be_equal(a), must_be_equal(b)
    for name in {**first, **second}:
        one, two = first.get(name, ABSENT), second.get(name, ABSENT)
        if one != two and name not in but:
            raise UserError(f"{a.path} and {b.path} are not comparable: {name} is {one!r} and {two!r}: {remedy(name)}")
    if "index" in stages:
        hashes = [run.json("index", "image_sha256") for run in (a, b)]
        if not all(isinstance(found, dict) for found in hashes):
            raise UserError(f"{a.path} and {b.path}: image_sha256 must be a table of images in both: run both again")
        for name in sorted(hashes[0].keys() & hashes[1].keys()):
            if hashes[0][name] != hashes[1][name]:
                raise UserError(
                    f"{a.path} and {b.path} are not comparable: image {name} is another file in each: "
                    "give both sides the same DEVKIT"
                )
        return [*first, "bytes of every image that both list"]
    return list(first)


def must_be_equal(run: RunFolder) -> dict[str, Any]:
    """Specification (with the seed), data, weights and prototxts of a run, by name."""
    spec = run.spec
    values = {f"spec.{section}.{key}": v for section, keys in spec["values"].items() for key, v in keys.items()}
    external: dict[str, Any] = {}
    for name, entry in spec["external"].items():
        digests = entry.get("content", {}) if name == "devkit" else {"sha256": entry.get("sha256")}
        external |= {f"{name}.{part}": digest for part, digest in digests.items()}
    return {**values, **external, **{f"prototxt.{name}": digest for name, digest in spec["prototxt"].items()}}


def remedy(name: str) -> str:
    """What mends a difference of `must_be_equal`."""
    if name.startswith("spec."):
        return "run both sides with the same PROFILE and SET"
    if name.startswith("prototxt."):
        return "run both sides again"
    if name.startswith("photographs."):
        return "run both sides with the same scikit-learn, whose sample photographs they are"
    return f"run both sides with the same {name.partition('.')[0].upper()}"


def require_current(run: RunFolder, stage: str) -> None:
    """Stop where a stage is unfinished, or was made with another specification, prototxt or file than the run has."""
    manifest, spec = run.require_manifest(stage), run.spec
    parts = manifest.get("key_parts")
    tables = ("spec", "inputs", "external", "prototxt", "draws")
    whole = isinstance(parts, dict) and parts.keys() >= KEY_PARTS and manifest.keys() >= {"key", "side", "outputs"}
    if not whole or not isinstance(parts, dict) or not all(isinstance(parts[name], dict) for name in tables):
        raise UserError(f"{run.stage_path(stage)}/manifest.json was made by another version: run this side again")
    stale = [section for section, values in parts["spec"].items() if spec["values"].get(section) != values]
    stale += [name for name, digest in parts["prototxt"].items() if spec["prototxt"].get(name) != digest]
    for name, digest in parts["external"].items():
        entry = spec["external"].get(name) or {}
        if digest != entry.get("sha256", entry.get("listing")):
            stale.append(name)
    if stale:
        raise UserError(
            f"{run.stage_path(stage)} is older than the run's {stale[0]}: run this side's reproduce command"
        )


def require_chained(run: RunFolder) -> None:
    """Stop where a run cannot be run a or b: it was varied, or was fed by another run."""
    for stage in STAGES:
        parts = run.require_manifest(stage)["key_parts"]
        kind = parts["variation"] or ("isolated" if parts["forced"] else "")
        if kind:
            option = "--isolated" if kind == "isolated" else "--reference, --varied-a or --varied-b"
            raise UserError(f"{run.path} is {kind}, no run that was fed by itself: give it to {option}")
    require_fed_by(run, run, STAGES, option="a run that is no --isolated one")


def require_fed_by(
    a: RunFolder, run: RunFolder, stages: Iterable[str], variation: str = "", option: str = "--isolated"
) -> None:
    """Stop where a stage of `run` did not read run a's present outputs, or was not varied so.

    option : what the run was given as, for the message.
    """
    for stage in stages:
        parts = run.require_manifest(stage)["key_parts"]
        for earlier, digest in parts["inputs"].items():
            outputs = a.require_manifest(earlier)["outputs"]
            if digest != sha256_json({name: entry["sha256"] for name, entry in outputs.items()}):
                raise UserError(
                    f"{run.stage_path(stage)} was not fed by {a.stage_path(earlier)}, as {option} must be: "
                    "name another run, or run `make compare` again"
                )
        if run.path != a.path:
            require_drawn_by(a, run, stage, option)
        if parts["variation"] != variation:
            found, wanted = parts["variation"] or "not varied", variation or "not varied"
            raise UserError(f"{run.stage_path(stage)} is {found}, where {option} needs one that is {wanted}")


def require_drawn_by(a: RunFolder, run: RunFolder, stage: str, option: str) -> None:
    """Stop where a stage of `run` did not start from run a's random values, or went on from another run's snapshots."""
    parts = run.require_manifest(stage)["key_parts"]
    outputs = {name: entry["sha256"] for name, entry in a.require_manifest(stage)["outputs"].items()}
    own = any(digest != outputs.get(name) for name, digest in parts["draws"].items())
    if own or parts["forced"] not in (None, sha256_json(outputs)):
        raise UserError(
            f"{run.stage_path(stage)} did not start from what {a.stage_path(stage)} drew, as {option} must: "
            "run `make compare` again"
        )


def require_same_program(run: RunFolder, other: RunFolder, stages: Iterable[str]) -> None:
    """Stop where two runs of a side were not made by the same code and versions, so that one says nothing of the other.

    The number of threads is another thing: see `may_differ`.
    """
    for stage in stages:
        one, two = (r.require_manifest(stage)["key_parts"] for r in (run, other))
        by_net = {one["variation"], two["variation"]} & set(OF_THE_NET)
        for part in ("side", "code", "versions", *(() if by_net else ("engine",))):
            if one.get(part) != two.get(part):
                raise UserError(
                    f"{run.stage_path(stage)} is of other {part} than {other.stage_path(stage)}: run both again with "
                    "the program that is there now"
                )


def may_differ(a: RunFolder, b: RunFolder) -> list[dict[str, str]]:
    """What differs of versions, threads, BLAS and machine: name, and both runs' values."""
    first, second = surroundings(a), surroundings(b)
    return [
        {"name": name, "a": first.get(name, ABSENT), "b": second.get(name, ABSENT)}
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name)
    ]


def surroundings(run: RunFolder) -> dict[str, str]:
    """What a run was made by and on; stages that differ among themselves are told one by one."""
    found: dict[str, dict[str, list[str]]] = {}
    for stage in STAGES:
        manifest = run.manifest(stage)
        if manifest is None:
            continue
        told = {"side": manifest.get("side"), "threads": manifest.get("threads")}
        told |= {f"machine.{key}": value for key, value in manifest.get("machine", {}).items()}
        told |= {f"version.{key}": value for key, value in manifest.get("versions", {}).items()}
        for name, value in told.items():
            found.setdefault(name, {}).setdefault(str(value), []).append(stage)
    return {
        name: next(iter(values))
        if len(values) == 1
        else "; ".join(f"{value} ({', '.join(stages)})" for value, stages in values.items())
        for name, values in found.items()
    }
