"""Complete runs at toy size, every output of docs/artifacts.md in them, for comparisons to be made of.

Both sides hold the same numbers unless a change says otherwise. They mean little but fit together: labels are those of
the nearest centroids, initial weights are drawn as the MSRA filler draws them, decision values are those of the dual
coefficients, the metrics those of the decision values.
"""

import functools
import hashlib
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

from experiment.artifacts import MANIFEST, RunFolder, read_json, sha256_array, sha256_json, write_json
from experiment.stage_writer import StageWriter
from experiment.stages import RESOLUTIONS, ROWS, SPLITS, STAGES, VARIATIONS, StageInfo

Change = Callable[[Any], Any]
MISSING = object()  # what a change returns for an output that is not to be written at all

CLASSES = ["bird", "cat", "train"]
N = {"trainval": 6, "test": 8}
SIZE, FEATURES, K, N1 = 4, 3, 3, 8
SNAPSHOTS = [1, 2, 10]
SEED, MARGIN = 7, 0.5
BLOBS = {"data": (2, 3, 4, 4), "conv1": (2, 2, 2, 2), "pool5": (2, 3, 1, 1)}
SHAPES = {"fc1_weight": (N1, FEATURES), "fc1_bias": (N1,), "fc2_weight": (K, N1), "fc2_bias": (K,)}
# Of every class a positive, a negative and a difficult image.
LABELS_TEST = np.array(
    [[1, 1, -1], [-1, 0, 1], [1, -1, -1], [-1, 1, 0], [0, -1, 1], [1, -1, 1], [-1, 1, -1], [-1, -1, 1]], np.int8
)
MACHINE = {"support_vectors": 3, "rho": 0.5, "objective": -1.0}
PROTOTXTS = sorted({name for info in STAGES.values() for name in info.prototxts})
SURROUNDINGS = {
    "caffe": {"threads": 2, "versions": {"caffe": "1.0", "numpy": "1.19.5"}, "machine": {"cpu": "toy", "cores": 2}},
    "torch": {"threads": 2, "versions": {"torch": "2.0", "numpy": "2.0.0"}, "machine": {"cpu": "toy", "cores": 2}},
}  # fmt: skip


@functools.cache
def outputs() -> dict[str, dict[str, Any]]:
    """Every stage's outputs by name: an array, a JSON value, or (bytes) a file. Not to be changed in place."""
    random = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    states = {
        f"{iteration}/{name}{kind}": normal(*shape)
        for iteration in SNAPSHOTS
        for name, shape in SHAPES.items()
        for kind in ("", "_history")
    }
    splits = [f"{resolution}_{split}" for split in SPLITS for resolution in RESOLUTIONS]
    blobs = {f"blobs/{i:03d}-{name}": normal(*shape) for i, (name, shape) in enumerate(BLOBS.items())}
    ids = {split: [f"{split}{i:03d}" for i in range(n)] for split, n in N.items()}
    centroids = 4 * np.eye(K, FEATURES, dtype=np.float32) + normal(K, FEATURES) / 8
    clusters = {split: np.arange(n, dtype=np.int32) % K for split, n in N.items()}
    features = {name: centroids[clusters[name.split("_")[1]]] + normal(N[name.split("_")[1]], FEATURES) / 4
                for name in splits}  # fmt: skip
    transferred = {split: normal(N[split], K) for split in SPLITS}
    duals = {f"{row}_dual": random.normal(size=(len(CLASSES), N["trainval"])) for row in ROWS}
    for dual in duals.values():
        dual[:, ::2] = 0
    rows = {
        "baseline_hr": (features["hr_trainval"], features["hr_test"]),
        "baseline_lr": (features["lr_trainval"], features["lr_test"]),
        "ours": tuple(transferred.values()),
    }
    scores = {row: decision_values(duals[f"{row}_dual"], *both) for row, both in rows.items()}
    return {
        "index": {
            "classes": CLASSES,
            **{f"ids_{split}": ids[split] for split in SPLITS},
            "labels_trainval": random.integers(-1, 2, (N["trainval"], len(CLASSES))).astype(np.int8),
            "labels_test": LABELS_TEST,
            "image_sha256": {name: f"{number:064x}" for number, name in enumerate(ids["trainval"] + ids["test"])},
        },
        "images": {
            name: random.integers(0, 200, (N[name.split("_")[1]], SIZE, SIZE, 3)).astype(np.uint8) for name in splits
        },
        "features": {**features, "blob_names": list(BLOBS), **blobs},
        "clusters": {
            "initial_centroids": features["hr_trainval"][:K],
            "centroids": centroids,
            "assignments": clusters["trainval"],
            "summary": {"inertia": 12.5, "iterations": 7},
        },
        "pseudo_labels": {"labels": clusters["trainval"]},
        "transfer": {
            **{f"{name}_initial": initial(random, shape) for name, shape in SHAPES.items()},
            **{name: normal(*shape) for name, shape in SHAPES.items()},
            "loss": normal(max(SNAPSHOTS)),
            **{f"snapshots/{name}": array for name, array in states.items()},
            # Where the port went on from the other side's snapshot to the next; a history is compared after one step.
            **{
                f"segments/{name}": array
                for name, array in states.items()
                if name.startswith("2/") or name.startswith("10/") and not name.endswith("_history")
            },
        },
        "transfer_features": transferred,
        "svm": {**scores, **duals, "summary": {row: dict.fromkeys(CLASSES, MACHINE) for row in ROWS}},
        "metrics": {"metrics": metrics_of(scores)},
        "resnet101": {
            "weights": b"drawn weights",
            "photographs": random.integers(0, 200, (2, 5, 5, 3)).astype(np.uint8),
            "blob_names": list(BLOBS),
            **blobs,
        },
    }  # fmt: skip


def initial(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A weight matrix as the MSRA filler draws it, by the fan-in; a bias of zeros."""
    if len(shape) == 1:
        return np.zeros(shape, np.float32)
    return (random.normal(size=shape) * (2 / shape[1]) ** 0.5).astype(np.float32)


def decision_values(dual: np.ndarray, trainval: np.ndarray, test: np.ndarray) -> np.ndarray:
    """sum_i dual[c, i] <x_i, x> - rho of the test rows x, (n, C), all rows divided by the trainval rows' mean norm."""
    factor = 1 / np.mean([np.sqrt(np.sum(row.astype(np.float64) ** 2)) for row in trainval])
    return (factor * test.astype(np.float64)) @ (factor * trainval.astype(np.float64)).T @ dual.T - MACHINE["rho"]


def metrics_of(scores: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """The metrics of decision values, {row: (n, C)}."""
    found = {}
    for row, values in scores.items():
        columns = [(values[used, c], LABELS_TEST[used, c] == 1) for c, used in enumerate((LABELS_TEST != 0).T)]
        eleven = [ap_11point(*column) for column in columns]
        area = [float(average_precision_score(positive, score)) for score, positive in columns]
        found[row] = {"ap_11point": eleven, "ap_area": area, "map_11point": float(np.mean(eleven)),
                      "map_area": float(np.mean(area))}  # fmt: skip
    return found


def ap_11point(scores: np.ndarray, positive: np.ndarray) -> float:
    """The mean over recall 0, 0.1 .. 1 of the best precision at that recall or beyond; no two scores are equal."""
    found = np.cumsum(positive[np.argsort(-scores)])
    precision = found / np.arange(1, len(found) + 1)
    return float(np.mean([precision[10 * found >= step * found[-1]].max() for step in range(11)]))


def score(path: Path, **rows: np.ndarray) -> None:
    """Give a run that was fed by itself other decision values on test, and the metrics of these."""
    write_stage(RunFolder(path), "svm", {("svm", row): lambda _, scores=scores: scores for row, scores in rows.items()})
    scores = {row: outputs()["svm"][row] for row in ROWS} | rows
    write_stage(RunFolder(path), "metrics", {("metrics", "metrics"): lambda _: metrics_of(scores)})


def spec() -> dict[str, Any]:
    """A specification of which only what the comparison reads is real."""
    sections = ["run", *dict.fromkeys(section for info in STAGES.values() for section in info.sections)]
    values: dict[str, dict[str, Any]] = {section: {"x": 1} for section in sections}
    values["run"]["seed"] = SEED
    values["pseudo_labels"]["assign"] = "nearest"
    values["transfer"] |= {"snapshots": SNAPSHOTS, "variance_norm": "FAN_IN"}
    values["compare"] = {"margin": MARGIN, "resamples": 60}
    values["svm"] |= {"tolerance": 1e-6, "scale": "mean_norm"}
    prototxt = {name: hashlib.sha256(name.encode()).hexdigest() for name in PROTOTXTS}  # each holds its own name
    content = {"ImageSets/Main": "a" * 64, "Annotations": "b" * 64, "JPEGImages": "c" * 64}
    external = {
        "devkit": {"path": "/devkit", "listing": "d" * 64, "content": content},
        "weights": {"path": "/weights", "sha256": "e" * 64},
        "photographs": {"path": "/photographs", "sha256": "f" * 64},
    }
    return {"profile": "toy", "values": values, "sources": {}, "sha256": sha256_json(values), "external": external,
            "prototxt": prototxt}  # fmt: skip


def write_spec(path: Path) -> None:
    """A run's spec.json and prototxts."""
    write_json(path / "spec.json", spec())
    (path / "prototxt").mkdir()
    for name in PROTOTXTS:
        (path / "prototxt" / name).write_text(name)


def change_spec(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Write a run's spec.json anew, changed in place by `change`; its stages stay as they were made."""
    found = read_json(path / "spec.json")
    change(found)
    found["sha256"] = sha256_json(found["values"])
    write_json(path / "spec.json", found)


def write_run(
    path: Path,
    changes: Mapping[tuple[str, str], Change] | None = None,
    stages: Iterable[str] = STAGES,
    fed_by: RunFolder | None = None,
    seed: int = SEED,
    **about: Any,
) -> RunFolder:
    """A run with stages finished; `changes`: (stage, output) to a function of its value, run before it is written."""
    run = RunFolder(path)
    run.path.mkdir(parents=True)
    write_spec(run.path)
    if seed != SEED:
        change_spec(run.path, lambda found: found["values"]["run"].update(seed=seed))
    for stage in stages:
        write_stage(run, stage, changes, fed_by, **about)
    return run


def write_varied(path: Path, a: Path, side: str, variation: str, changes: Any = None, **about: Any) -> Path:
    """A run of what a variation touches, fed by run a; the reference is in float64."""
    if variation == "reference":
        changes = {**in_float64(), **(changes or {})}
    write_run(path, changes, VARIATIONS[side][variation], RunFolder(a), side=side, variation=variation, **about)
    return path


def in_float64() -> dict[tuple[str, str], Change]:
    """The changes that make every float32 array one of float64."""
    return {
        (stage, name): lambda value: value.astype(np.float64)
        for stage, found in outputs().items()
        for name, value in found.items()
        if isinstance(value, np.ndarray) and value.dtype == np.float32
    }


def write_stage(
    run: RunFolder,
    stage: str,
    changes: Mapping[tuple[str, str], Change] | None = None,
    fed_by: RunFolder | None = None,
    side: str | None = None,
    variation: str | None = None,
    drew_itself: bool | None = None,
    **about: Any,
) -> None:
    """Write, or write again, one stage of a run, from the earlier stages of `fed_by` (the run itself without it).

    side, variation, drew_itself : as the stage was before, else the Caffe side, not varied, and as that side does where
        it is fed by itself.
    about : other entries of the manifest.

    Later stages keep what they say they were fed; see `feed`.
    """
    writer = StageWriter(run, stage)
    for name, value in outputs()[stage].items():
        change = (changes or {}).get((stage, name))
        value = change(value) if change else value
        if isinstance(value, np.ndarray):
            writer.array(name, value)
        elif isinstance(value, bytes):
            writer.new_file(f"{name}.caffemodel").write_bytes(value)
            writer.add_file(name, f"{name}.caffemodel")
        elif value is not MISSING:
            writer.json(name, value)
    before = run.manifest(stage) or {"side": "caffe", "key_parts": {"variation": ""}}
    if side is None:
        side = before["side"]
    if variation is None:
        variation = before["key_parts"]["variation"]
    if drew_itself is None:
        drawn = before["key_parts"].get("draws")
        drew_itself = set(drawn.values()) == {None} if drawn else side == "caffe" and fed_by is None
    if run.stage_path(stage).is_symlink():
        run.stage_path(stage).unlink()
    info, asked = STAGES[stage], run.spec
    parts = {
        "side": side,
        "spec": {name: asked["values"][name] for name in (*info.sections, *["run"] * info.seeded)},
        "inputs": digests(info, fed_by or run),
        "external": {name: fingerprint(asked["external"].get(name)) for name in info.external},
        "prototxt": {name: asked["prototxt"][name] for name in info.prototxts},
        "draws": {name: None if drew_itself else digest_of(outputs()[stage][name]) for name in info.draws},
        "forced": forced(stage, fed_by),
        "variation": variation,
        "code": {"module.py": side},
        "versions": SURROUNDINGS[side]["versions"],
    }
    entries = {"stage": stage, "side": side, "key": sha256_json(parts), "key_parts": parts, "seconds": 1.0}
    threads = {"threads": 1} if variation == "threads" else {}
    writer.finish({**entries, **SURROUNDINGS[side], **threads, **about})


def link_run(template: Path, path: Path) -> Path:
    """A run whose stages are links to those of a template; see `own`."""
    path.mkdir(parents=True)
    shutil.copyfile(template / "spec.json", path / "spec.json")
    shutil.copytree(template / "prototxt", path / "prototxt")
    for folder in template.glob("[0-9][0-9]-*"):
        (path / folder.name).symlink_to(folder)
    return path


def own(run: Path, stage: str) -> RunFolder:
    """The run, with a stage of its own in place of a link, so that the stage's files may be changed or deleted."""
    path = RunFolder(run).stage_path(stage)
    if path.is_symlink():
        linked = path.resolve()
        path.unlink()
        shutil.copytree(linked, path)
    return RunFolder(run)


def feed(*runs: Path, fed_by: Path | None = None) -> None:
    """Have every stage of each run say that it read the present outputs of `fed_by`, or of the run itself without it.

    For after a stage was written anew.
    """
    other = RunFolder(fed_by) if fed_by else None
    for path in runs:
        for stage, info in STAGES.items():
            manifest = RunFolder(path).manifest(stage)
            found = {"inputs": digests(info, other or RunFolder(path)), "forced": forced(stage, other)}
            if manifest is not None and any(manifest["key_parts"][part] != value for part, value in found.items()):
                change_parts(path, stage, lambda parts, found=found: parts.update(found))


def change_parts(path: Path, stage: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change what a stage's key is made of, in place by `change`; the key stays."""
    manifest = own(path, stage).stage_path(stage) / MANIFEST
    found = read_json(manifest)
    change(found["key_parts"])
    write_json(manifest, found)


def digest_of(value: np.ndarray | bytes) -> str:
    """What a manifest records of an array or a file."""
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else sha256_array(value)


def digests(info: StageInfo, run: RunFolder) -> dict[str, str]:
    """What a stage's manifest records of the outputs that it read."""
    manifests = {earlier: run.manifest(earlier) for earlier in info.inputs}
    return {
        earlier: sha256_json({name: entry["sha256"] for name, entry in manifest["outputs"].items()})
        for earlier, manifest in manifests.items()
        if manifest is not None
    }


def forced(stage: str, fed_by: RunFolder | None) -> str | None:
    """What a stage's manifest records of the snapshots that it went on from: another run's, or none."""
    manifest = fed_by.manifest(stage) if fed_by and STAGES[stage].forced else None
    return manifest and sha256_json({name: entry["sha256"] for name, entry in manifest["outputs"].items()})


def fingerprint(entry: Mapping[str, Any] | None) -> str | None:
    """What a stage's manifest records of something from outside."""
    return entry and entry.get("sha256", entry.get("listing"))
