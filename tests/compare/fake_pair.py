"""Complete runs at toy size, every output of docs/artifacts.md in them, for comparisons to be made of.

The numbers mean nothing; both sides hold the same ones unless a change says otherwise.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiment.artifacts import RunFolder, StageWriter, sha256_json, write_json
from experiment.stages import RESOLUTIONS, ROWS, SPLITS, STAGES

Change = Callable[[Any], Any]
MISSING = object()  # what a change returns for an output that is not to be written at all

N = {"trainval": 6, "test": 5}
CLASSES = ["bird", "cat", "train"]
SIZE, FEATURES, K, N1 = 4, 3, 2, 4
SNAPSHOTS = [1, 2, 10]
BLOBS = {"data": (2, 3, 4, 4), "conv1": (2, 2, 2, 2), "pool5": (2, 3, 1, 1)}
SHAPES = {"fc1_weight": (N1, FEATURES), "fc1_bias": (N1,), "fc2_weight": (K, N1), "fc2_bias": (K,)}


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
    machine = {"support_vectors": 3, "rho": 0.5, "objective": -1.0}
    metrics = {
        row: {"ap_11point": [0.5, 0.25, 0.75], "ap_area": [0.4, 0.2, 0.6], "map_11point": 0.5, "map_area": 0.4}
        for row in ROWS
    }
    return {
        "index": {
            "classes": CLASSES,
            **{f"ids_{split}": ids[split] for split in SPLITS},
            **{f"labels_{split}": random.integers(-1, 2, (N[split], len(CLASSES))).astype(np.int8) for split in SPLITS},
            "image_sha256": {name: f"{number:064x}" for number, name in enumerate(ids["trainval"] + ids["test"])},
        },
        "images": {
            name: random.integers(0, 200, (N[name.split("_")[1]], SIZE, SIZE, 3)).astype(np.uint8) for name in splits
        },
        "features": {
            **{name: normal(N[name.split("_")[1]], FEATURES) for name in splits},
            "blob_names": list(BLOBS),
            **blobs,
        },
        "clusters": {
            "initial_centroids": normal(K, FEATURES),
            "centroids": normal(K, FEATURES),
            "assignments": random.integers(0, K, N["trainval"]).astype(np.int32),
            "summary": {"inertia": 12.5, "iterations": 7},
        },
        "pseudo_labels": {"labels": random.integers(0, K, N["trainval"]).astype(np.int32)},
        "transfer": {
            **{f"{name}_initial": normal(*shape) for name, shape in SHAPES.items()},
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
        "transfer_features": {split: normal(N[split], K) for split in SPLITS},
        "svm": {
            **{row: random.normal(size=(N["test"], len(CLASSES))) for row in ROWS},
            **{f"{row}_dual": random.normal(size=(len(CLASSES), N["trainval"])) for row in ROWS},
            "summary": {row: dict.fromkeys(CLASSES, machine) for row in ROWS},
        },
        "metrics": {"metrics": metrics},
        "resnet101": {
            "weights": b"drawn weights",
            "photographs": random.integers(0, 200, (2, 5, 5, 3)).astype(np.uint8),
            "blob_names": list(BLOBS),
            **blobs,
        },
    }  # fmt: skip


def spec() -> dict[str, Any]:
    """A specification of which only what the comparison reads is real."""
    sections = ["run", *dict.fromkeys(section for info in STAGES.values() for section in info.sections)]
    values: dict[str, dict[str, Any]] = {section: {"x": 1} for section in sections}
    values["transfer"]["snapshots"] = SNAPSHOTS
    prototxt = {name: "0" * 64 for name in dict.fromkeys(name for info in STAGES.values() for name in info.prototxts)}
    return {"profile": "toy", "values": values, "sources": {}, "sha256": sha256_json(values), "external": {},
            "prototxt": prototxt}  # fmt: skip


def write_run(path: Path, changes: Mapping[tuple[str, str], Change] | None = None, floor: bool = False) -> RunFolder:
    """A finished run; `changes`: (stage, output) to a function of its value, run before it is written."""
    run = RunFolder(path)
    run.path.mkdir(parents=True)
    write_json(run.path / "spec.json", spec())
    for stage in STAGES:
        write_stage(run, stage, changes, floor)
    return run


def write_stage(
    run: RunFolder,
    stage: str,
    changes: Mapping[tuple[str, str], Change] | None = None,
    floor: bool = False,
    inputs: Mapping[str, str] | None = None,
) -> None:
    """Write, or write again, one stage of a run; `inputs`: earlier stages to the hash of what was read of them."""
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
    values = run.spec["values"]
    sections = {section: values[section] for section in (*STAGES[stage].sections, "run")}
    writer.finish({"stage": stage, "key_parts": {"spec": sections, "inputs": inputs or {}, "floor": floor}})
