"""Write a run's spec.json and prototxts: `python -m experiment.resolve --profile P --run RUN ...` (host only)."""

import argparse
import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

from experiment.artifacts import read_json, sha256_file, sha256_json, write_json
from experiment.errors import TooFewImages, UserError, run_command
from experiment.pipeline import fingerprint, locked
from experiment.plan import count_images
from experiment.spec import apply_override, check_together, read_profile, shorten
from experiment.stages import SPLITS
from prototxt.generate import prototxts

ROOT = Path(__file__).resolve().parent.parent
# Of a devkit, folder to the files that are read there; its photographs the stage index hashes.
HASHED_FILES = {"ImageSets/Main": "*.txt", "Annotations": "*.xml"}

HOW_TO_GET_VOC2007 = "run `make data`, which gets VOC2007, or pass DEVKIT=<the VOCdevkit folder> of one that you have"
HOW_TO_NAME_A_DEVKIT = "pass the folder that holds VOC2007/JPEGImages, or leave DEVKIT out for the generated one"
HOW_TO_GET_WEIGHTS = (
    "run `make weights`, which gets ResNet-101-model.caffemodel (178,662,602 bytes) or converts a descendant of it, or "
    "pass WEIGHTS=<the file>"
)


def resolve(
    profile: str,
    run: Path,
    devkit: Path | None = None,
    weights: Path | None = None,
    mean: Path | None = None,
    overrides: tuple[str, ...] = (),
    limit: int | None = None,
) -> dict[str, Any]:
    """Resolve a profile and overrides into `run`/spec.json and `run`/prototxt/, and return the spec.

    The spec is {"profile", "values", "sources", "sha256" (of the values), "external" (paths, and sha256 of files),
    "prototxt" (sha256 by name)}. An existing equal spec.json is left alone. Raises `UserError` for everything
    that is missing or contradicts itself.
    """
    values, sources = read_profile(profile)
    if limit is not None:
        shorten(values, sources, limit, images_before(limit, find_devkit(devkit, profile), values["index"]))
    for override in overrides:
        apply_override(values, sources, override)
    check_together(values, f"PROFILE={profile}")
    folder = find_devkit(devkit, profile)
    check_clusters(values, folder)
    external: dict[str, dict[str, Any]] = {"devkit": {"path": str(folder)}}
    external["weights"] = find_weights(weights, values["backbone"], profile)
    if values["features"]["mean"] == "file":
        if mean is None or not mean.is_file():
            raise UserError(f"features.mean = 'file' but MEAN={mean or ''} is no file: pass ResNet_mean.binaryproto")
        external["mean"] = {"path": str(mean.resolve()), "sha256": sha256_file(mean)}
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{run} cannot be made ({error.strerror}): pass another RUN=") from None
    with locked(run):
        external["devkit"] = with_content(external["devkit"], run / "spec.json")
        return write_run(run, profile if limit is None else f"{profile}, LIMIT={limit}", values, sources, external)


def write_run(
    run: Path, profile: str, values: dict[str, Any], sources: dict[str, str], external: dict[str, Any]
) -> dict[str, Any]:
    """Write the run's photographs, prototxts and spec.json, and return the spec."""
    external["photographs"] = copy_photographs(run / "photographs", [n for n, _, _ in values["resnet101"]["crops"]])
    (run / "prototxt").mkdir(exist_ok=True)
    digests = {}
    for name, text in prototxts(values).items():
        path = run / "prototxt" / name
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
        digests[name] = sha256_file(path)
    spec = {
        "profile": profile,
        "values": values,
        "sources": sources,
        "sha256": sha256_json(values),
        "external": external,
        "prototxt": digests,
    }
    path = run / "spec.json"
    if not path.is_file() or read_json(path) != spec:
        write_json(path, spec)
    return spec


def find_devkit(devkit: Path | None, profile: str) -> Path:
    """The folder that holds JPEGImages, given it or the folder above (VOCdevkit or the like)."""
    remedy = HOW_TO_GET_VOC2007 if profile == "paper" else HOW_TO_NAME_A_DEVKIT
    if devkit is None:
        raise UserError(f"PROFILE={profile} needs a devkit: {remedy}")
    root = devkit.resolve()
    for folder in (root, root / "VOC2007", root / "VOCdevkit" / "VOC2007"):
        if (folder / "JPEGImages").is_dir():
            return folder
    raise UserError(f"DEVKIT={devkit} holds no VOC2007/JPEGImages: {remedy}")


def images_before(limit: int, devkit: Path, index: dict[str, Any]) -> int:
    """How many trainval images there are before LIMIT= takes some away. Raises `UserError` where it takes none."""
    if limit < 1:
        raise UserError(f"LIMIT={limit} must be a number of images above 0")
    counts = count_images(devkit, index)
    if 0 < max(counts.values()) <= limit:
        told = " and ".join(f"{counts[split]} {split}" for split in SPLITS)
        raise UserError(f"LIMIT={limit} takes nothing away from {devkit}, which has {told} images: leave LIMIT out")
    return counts["trainval"]


def check_clusters(values: dict[str, dict[str, Any]], devkit: Path) -> None:
    """Raise `TooFewImages` where k-means cannot make k clusters of the trainval images that there are.

    A list that is missing or empty is left to the stage index, which says what is wrong with it.
    """
    k, n_trainval = values["clusters"]["k"], count_images(devkit, values["index"])["trainval"]
    if 0 < n_trainval < k:
        raise TooFewImages(
            f"clusters.k = {k} is more than the {n_trainval} trainval images of {devkit}: pass numbers up to that in "
            f'SET="clusters.k={n_trainval} transfer.n2={n_trainval}"'
        )


def with_content(entry: dict[str, Any], earlier: Path) -> dict[str, Any]:
    """A devkit's entry with a hash of its lists and one of its annotations, names and bytes; those of the earlier
    spec.json where the files' names, sizes and times are still the same.

    "content" is what two runs must share to be comparable, with the photographs' hashes that the stage index writes;
    "listing" only tells whether it must be computed anew.
    """
    listing = fingerprint({"path": entry["path"]})
    before = read_json(earlier).get("external", {}).get("devkit", {}) if earlier.is_file() else {}
    content = before.get("content", {})
    if before.get("path") != entry["path"] or before.get("listing") != listing or set(content) != set(HASHED_FILES):
        content = {}
        for folder, pattern in HASHED_FILES.items():
            files = sorted(path for path in Path(entry["path"], folder).glob(pattern) if path.is_file())
            content[folder] = sha256_json({path.name: sha256_file(path) for path in files})
    return {**entry, "listing": listing, "content": content}


def find_weights(weights: Path | None, backbone: dict[str, Any], profile: str) -> dict[str, str]:
    """Path, sha256 and origin of the backbone's caffemodel, which must be the file that the spec names."""
    path = weights or (ROOT / backbone["weights_file"] if backbone["weights_file"] else None)
    if path is None:
        raise UserError(f"PROFILE={profile} needs the backbone's weights: {HOW_TO_GET_WEIGHTS}")
    if not path.is_file():
        remedy = f"leave WEIGHTS out for {backbone['weights_file']}" if backbone["weights_file"] else HOW_TO_GET_WEIGHTS
        raise UserError(f"WEIGHTS={path} is not a file: {remedy}")
    digest = sha256_file(path)
    if digest != backbone["weights_sha256"].lower():
        raise UserError(
            f"{path} has sha256 {digest}, not the specification's {backbone['weights_sha256']}: "
            f"get the right file, or say that it is meant with SET=backbone.weights_sha256={digest}"
        )
    return {"path": str(path.resolve()), "sha256": digest, "origin": origin(path, digest, backbone)}


def origin(path: Path, digest: str, backbone: dict[str, Any]) -> str:
    """Where weights come from, for manifests and reports: a file that fetch/convert made says so in its .json."""
    sidecar = path.with_suffix(".json")
    record = read_json(sidecar) if sidecar.is_file() else {}
    source = record.get("converted_from") if isinstance(record, dict) and record.get("sha256") == digest else None
    if isinstance(source, dict):
        return f"converted from {source.get('format')}, {source.get('file name')}, sha256 {source.get('sha256')}"
    known = read_profile("paper")[0]["backbone"]["weights_sha256"]
    if digest == known:
        return "the Model Zoo's own file"
    return f"shipped, {backbone['weights_file']}" if backbone["weights_file"] else "a stand-in or another file, by SET"


def copy_photographs(target: Path, names: list[str]) -> dict[str, str]:
    """Copy scikit-learn's sample photographs (found without importing it) into the run: path and joint sha256."""
    found = importlib.util.find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise UserError("scikit-learn is not installed: run `make setup`")
    folder = Path(found.submodule_search_locations[0]) / "datasets" / "images"
    target.mkdir(exist_ok=True)
    digests = {}
    for name in sorted(set(names)):
        if Path(name).name != name or not (folder / name).is_file():
            raise UserError(f"resnet101.crops: {name} is not one of scikit-learn's photographs in {folder}")
        digests[name] = sha256_file(folder / name)
        if not (target / name).is_file() or sha256_file(target / name) != digests[name]:
            shutil.copyfile(folder / name, target / name)  # also over one whose copying was interrupted
    return {"path": str(target.absolute()), "sha256": sha256_json(digests)}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m experiment.resolve", description=__doc__)
    parser.add_argument("--profile", required=True)
    parser.add_argument("--run", type=Path, required=True, help="the run folder to write spec.json into")
    parser.add_argument("--devkit", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--mean", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", dest="overrides")
    parser.add_argument("--limit", type=int, help="the first so many images, and a shorter schedule")
    arguments = parser.parse_args()
    spec = resolve(
        arguments.profile,
        arguments.run,
        arguments.devkit,
        arguments.weights,
        arguments.mean,
        tuple(arguments.overrides),
        arguments.limit,
    )
    print(f"{arguments.run}: profile {spec['profile']}, spec {spec['sha256'][:12]}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_command(main)
