"""What is compared of each stage. Every function yields checks of run `b` against run `a`, in forward order."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from compare.check import Check, Judge
from compare.difference import Difference, difference
from experiment.artifacts import RunFolder
from experiment.errors import UserError
from experiment.stages import RESOLUTIONS, ROWS, SPLITS, STAGES, segments

# Outputs that are shown to no one but must be there and whole: a dual has no one solution, the weights are drawn.
UNJUDGED = {"svm": [*(f"{row}_dual" for row in ROWS), "summary"], "resnet101": ["weights"]}
PARAMETERS = [f"{layer}_{blob}" for layer in ("fc1", "fc2") for blob in ("weight", "bias")]


def compare_stage(stage: str, a: RunFolder, b: RunFolder, judge: Judge) -> list[Check]:
    """All checks of a stage. A missing or damaged artifact is a check that fails, never one that is left out."""
    checks: list[Check] = []
    try:
        checks.extend(STAGE_CHECKS[stage](a, b, judge))
        for name in UNJUDGED.get(stage, ()):
            require_whole(a, stage, name)
            require_whole(b, stage, name)
    except UserError as error:
        checks.append(judge.failure(stage, "artifact", str(error)))
    return checks


def require_whole(run: RunFolder, stage: str, name: str) -> None:
    """Raise `UserError` where an output is missing or is not what the manifest records."""
    kind = run.require_manifest(stage)["outputs"].get(name, {}).get("kind")
    (run.array if kind == "array" else run.file)(stage, name)


def arrays(stage: str, name: str, a: RunFolder, b: RunFolder) -> Difference:
    """The difference of one output array."""
    return difference(a.array(stage, name), b.array(stage, name))


def numbers(d: Difference) -> dict[str, Any]:
    """A difference's measures, for compare.json."""
    return {
        "max_abs": d.max_abs,
        "index": d.index,
        "relative_l2": d.relative_l2,
        "cosine": d.cosine,
        "unequal": d.unequal,
        "total": d.total,
        "worst_row": d.worst_row,
        "worst_row_l2": d.worst_row_l2,
    }


def relative_l2(
    stage: str, quantity: str, name: str, a: RunFolder, b: RunFolder, judge: Judge, item: str = "", name_b: str = ""
) -> Iterator[Check]:
    """The check of an array's relative L2 difference; `name_b` where run b has it under another name."""
    d = difference(a.array(stage, name), b.array(stage, name_b or name))
    if d.problem:
        yield judge.failure(stage, item or name, d.problem)
        return
    detail = f"max abs {d.max_abs:.2e} at {d.index}"
    floor = None
    floor_run = judge.floor_for(stage, quantity)
    if floor_run is not None:
        own = arrays(stage, name, a, floor_run)
        if own.problem:
            yield judge.failure(stage, item or name, f"the floor: {own.problem}")
            return
        floor = own.relative_l2
        detail += f"; floor {floor:.2e}"
    yield judge.check(stage, quantity, item or name, d.relative_l2, detail, floor=floor, **numbers(d))


def equal_labels(stage: str, quantity: str, name: str, a: RunFolder, b: RunFolder, judge: Judge) -> Iterator[Check]:
    """The check of the fraction of labels that are equal."""
    d = arrays(stage, name, a, b)
    if d.problem:
        yield judge.failure(stage, name, d.problem)
        return
    detail = f"{d.unequal} of {d.total} differ" + (f", the first worst at {d.index}" if d.unequal else "")
    yield judge.check(stage, quantity, name, 1 - d.unequal / d.total, detail, **numbers(d))


def index(a: RunFolder, b: RunFolder, judge: Judge) -> Iterator[Check]:
    """Classes, ids, labels and the images' hashes, all of which must be the same."""
    for name in ("classes", "ids_trainval", "ids_test", "image_sha256"):
        first, second = a.json("index", name), b.json("index", name)
        differing = sum(1 for x, y in zip(first, second, strict=False) if x != y) + abs(len(first) - len(second))
        if isinstance(first, dict):
            differing = len({k for k in first.keys() | second.keys() if first.get(k) != second.get(k)})
        yield judge.check("index", "unequal", name, float(differing), f"{differing} of {len(first)} differ")
    for split in SPLITS:
        d = arrays("index", f"labels_{split}", a, b)
        if d.problem:
            yield judge.failure("index", f"labels_{split}", d.problem)
        else:
            yield judge.check(
                "index", "unequal", f"labels_{split}", float(d.unequal), f"{d.unequal} of {d.total} differ"
            )


def images(a: RunFolder, b: RunFolder, judge: Judge) -> Iterator[Check]:
    """How many grey levels differ and by how much, and the peak signal-to-noise ratio; the worst image named."""
    for split in SPLITS:
        ids = a.json("index", f"ids_{split}")
        for resolution in RESOLUTIONS:
            name = f"{resolution}_{split}"
            d = arrays("images", name, a, b)
            if d.problem:
                yield judge.failure("images", name, d.problem)
                continue
            psnr = float(10 * np.log10(255**2 * d.total / d.square_error)) if d.square_error else float("inf")
            worst = ids[d.worst_row] if d.worst_row < len(ids) else "?"
            detail = f"{d.unequal} of {d.total} grey levels differ, PSNR {psnr:.1f} dB, worst image {worst}"
            yield judge.check("images", "max_abs", name, d.max_abs, detail, psnr=psnr, **numbers(d))
            yield judge.check("images", "unequal", name, d.unequal / d.total, detail)


def features(a: RunFolder, b: RunFolder, judge: Judge) -> Iterator[Check]:
    """Every blob of the backbone in forward order, then the features."""
    yield from blobs("features", a, b, judge)
    for split in SPLITS:
        for resolution in RESOLUTIONS:
            yield from relative_l2("features", "relative_l2", f"{resolution}_{split}", a, b, judge)


def blobs(stage: str, a: RunFolder, b: RunFolder, judge: Judge) -> Iterator[Check]:
    """Each blob's relative L2 difference in forward order."""
    names, others = a.json(stage, "blob_names"), b.json(stage, "blob_names")
    if names != others:
        odd = sorted(set(names) ^ set(others))
        yield judge.failure(stage, "blob_names", f"the nets have different blobs: {', '.join(odd) or 'another order'}")
        return
    for i, name in enumerate(names):
        quantity = "pool5_relative_l2" if stage == "resnet101" and name == "pool5" else "blob_relative_l2"
        yield from relative_l2(stage, quantity, f"blobs/{i:03d}-{name}", a, b, judge, f"blob {name}")


def clusters(a: RunFolder, b: RunFolder, judge: Judge) -> Iterator[Check]:
    """Initial centroids, assignments, centroids, inertia."""
    yield from relative_l2("clusters", "initial_relative_l2", "initial_centroids", a, b, judge)
    yield from equal_labels("clusters", "agreement", "assignments", a, b, judge)
    yield from relative_l2("clusters", "relative_l2", "centroids", a, b, judge)
    first, second = (run.json("clusters", "summary") for run in (a, b))
    change = abs(second["inertia"] - first["inertia"]) / first["inertia"] if first["inertia"] else float("nan")
    detail = f"{first['iterations']} and {second['iterations']} iterations"
    yield judge.check("clusters", "inertia", "inertia", change, detail, a=first, b=second)


def pseudo_labels(a: RunFolder, b: RunFolder, judge: Judge) -> Iterator[Check]:
    """The fraction of LR trainval features with the same pseudo-label."""
    yield from equal_labels("pseudo_labels", "agreement", "labels", a, b, judge)


def transfer(a: RunFolder, b: RunFolder, judge: Judge) -> Iterator[Check]:
    """Initial weights, segments from run a's own snapshots (isolated), and the whole trajectory.

    A segment tells a wrong update from rounding that training has made grow: it starts anew from run a's state.
    """
    for name in PARAMETERS:
        yield from relative_l2("transfer", "initial_relative_l2", f"{name}_initial", a, b, judge)
    for start, end in segments(a.spec["values"]["transfer"]["snapshots"]) if judge.mode == "isolated" else ():
        step = end == start + 1
        for name in PARAMETERS:
            quantity = "step_relative_l2" if step else "segment_relative_l2"
            there, here = f"snapshots/{end}/{name}", f"segments/{end}/{name}"
            yield from relative_l2("transfer", quantity, there, a, b, judge, here, here)
            if step:  # after more steps than one a ReLU may have flipped, which the history shows and the weights bear
                there, here = f"{there}_history", f"{here}_history"
                yield from relative_l2("transfer", "step_history", there, a, b, judge, here, here)
    yield from relative_l2("transfer", "loss_relative_l2", "loss", a, b, judge)
    for iteration in a.spec["values"]["transfer"]["snapshots"]:
        for name in PARAMETERS:
            weight, history = f"snapshots/{iteration}/{name}", f"snapshots/{iteration}/{name}_history"
            yield from relative_l2("transfer", "relative_l2", weight, a, b, judge)
            d = arrays("transfer", history, a, b)
            if d.problem:
                yield judge.failure("transfer", history, d.problem)
                continue
            moved = float(np.linalg.norm(a.array("transfer", weight).astype(np.float64)))
            share = d.square_error**0.5 / moved if moved else math.inf
            detail = f"max abs {d.max_abs:.2e} at {d.index}"
            yield judge.check("transfer", "history_of_weight", history, share, detail, **numbers(d))
    for name in PARAMETERS:
        yield from relative_l2("transfer", "relative_l2", name, a, b, judge)


def transfer_features(a: RunFolder, b: RunFolder, judge: Judge) -> Iterator[Check]:
    """The transferred features of both splits."""
    for split in SPLITS:
        yield from relative_l2("transfer_features", "relative_l2", split, a, b, judge)


def svm(a: RunFolder, b: RunFolder, judge: Judge) -> Iterator[Check]:
    """The decision values on test of the three rows."""
    for row in ROWS:
        d = arrays("svm", row, a, b)
        if d.problem:
            yield judge.failure("svm", row, d.problem)
        else:
            yield judge.check("svm", "decision_max_abs", row, d.max_abs, f"at image, class {d.index}", **numbers(d))


def metrics(a: RunFolder, b: RunFolder, judge: Judge) -> Iterator[Check]:
    """AP per class and mAP of the three rows, both AP variants."""
    first, second = (run.json("metrics", "metrics") for run in (a, b))
    classes = a.json("index", "classes")
    for row in ROWS:
        for variant in ("11point", "area"):
            ap_a, ap_b = (np.array(m[row][f"ap_{variant}"], dtype=np.float64) for m in (first, second))
            d = difference(ap_a, ap_b)
            if d.problem:
                yield judge.failure("metrics", f"{row} {variant}", d.problem)
                continue
            worst = classes[d.index[0]]
            per_class: dict[str, Any] = {
                "a": dict(zip(classes, ap_a.tolist(), strict=True)),
                "b": dict(zip(classes, ap_b.tolist(), strict=True)),
            }
            detail = f"greatest for class {worst}"
            yield judge.check("metrics", "ap", f"{row} {variant}", d.max_abs, detail, **numbers(d), **per_class)
            map_a, map_b = (m[row][f"map_{variant}"] for m in (first, second))
            detail = f"mAP {100 * map_a:.3f} and {100 * map_b:.3f}"
            yield judge.check("metrics", "map", f"{row} {variant}", abs(map_b - map_a), detail, a=map_a, b=map_b)


def resnet101(a: RunFolder, b: RunFolder, judge: Judge) -> Iterator[Check]:
    """The photographs, and every blob of ResNet-101 with seeded weights."""
    d = arrays("resnet101", "photographs", a, b)
    if d.problem:
        yield judge.failure("resnet101", "photographs", d.problem)
    else:
        yield judge.check("resnet101", "photographs_max_abs", "photographs", d.max_abs, f"{d.unequal} differ")
    yield from blobs("resnet101", a, b, judge)


STAGE_CHECKS: dict[str, Callable[[RunFolder, RunFolder, Judge], Iterator[Check]]] = {
    "index": index,
    "images": images,
    "features": features,
    "clusters": clusters,
    "pseudo_labels": pseudo_labels,
    "transfer": transfer,
    "transfer_features": transfer_features,
    "svm": svm,
    "metrics": metrics,
    "resnet101": resnet101,
}
assert list(STAGE_CHECKS) == list(STAGES)
