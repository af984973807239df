"""The choice of N1 and N2 by a split of trainval: what a study may do that has not seen the test images.

The SVMs are trained on every other trainval image, from the first on, and their AP is taken on the rest. The transfer
network has seen all trainval images, but no label of theirs.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiment.artifacts import RunFolder, read_json, sha256_file, sha256_json, write_json
from experiment.errors import UserError
from torch_impl import metrics, svm


def validation(run: RunFolder, cache: Path, threads: int = 0) -> dict[str, Any]:
    """How well a run's transferred features do by the split: {"map", "ap", "left_out"}, fractions.

    "ap" : class to 11-point AP on the second half. "left_out" : the classes that lack a positive or a negative image
    in one of the halves. "map" : the mean of "ap"; None where no class is left.

    cache : a JSON file that is read where it was made from the same features, labels, settings and code.
    """
    outputs = {stage: run.require_manifest(stage)["outputs"] for stage in ("index", "transfer_features")}
    used = (outputs["index"]["labels_trainval"], outputs["index"]["classes"], outputs["transfer_features"]["trainval"])
    key = sha256_json(
        {
            "inputs": [entry["sha256"] for entry in used],
            "svm": run.spec["values"]["svm"],
            "code": [sha256_file(Path(str(path))) for path in (__file__, svm.__file__, metrics.__file__)],
        }
    )
    if cache.is_file() and (kept := read_json(cache)).get("key") == key:
        return kept["validation"]
    found = validate(
        np.array(run.array("transfer_features", "trainval"), dtype=np.float64),
        np.array(run.array("index", "labels_trainval")),
        run.json("index", "classes"),
        run.spec["values"]["svm"],
        threads,
    )
    write_json(cache, {"key": key, "validation": found})
    return found


def validate(
    features: np.ndarray, labels: np.ndarray, classes: list[str], settings: dict[str, Any], threads: int = 0
) -> dict[str, Any]:
    """The same from arrays: features (n, d) float64, labels (n, C) of 1, 0 and -1; settings as the spec's svm."""
    halves = slice(0, None, 2), slice(1, None, 2)
    train_rows, other_rows = (features[half] for half in halves)
    train_labels, other_labels = (labels[half] for half in halves)
    usable = [i for i in range(len(classes)) if has_both(train_labels[:, i]) and has_both(other_labels[:, i])]
    if settings["scale"] == "mean_norm" and usable:
        # D22, as in the stage svm, by the rows that are trained on here.
        length = np.linalg.norm(train_rows, axis=1).mean()
        if length == 0:
            raise UserError("every transferred row of trainval's first half is 0: the network is dead")
        train_rows, other_rows = train_rows / length, other_rows / length
    kernel, cross = svm.Kernel(train_rows @ train_rows.T), other_rows @ train_rows.T

    def ap(i: int) -> float:
        model = svm.train(kernel, train_labels[:, i], settings["c"], settings["tolerance"], classes[i])
        decisions = cross @ model.dual - model.rho
        return metrics.ap_11point(torch.from_numpy(decisions), torch.from_numpy(other_labels[:, i]))

    # LIBSVM uses one thread, and lets others run meanwhile.
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        aps = dict(zip((classes[i] for i in usable), pool.map(ap, usable), strict=True))
    left_out = [name for name in classes if name not in aps]
    return {"map": float(np.mean(list(aps.values()))) if aps else None, "ap": aps, "left_out": left_out}


def has_both(labels: np.ndarray) -> bool:
    """Whether a class has a positive and a negative image."""
    return bool((labels == 1).any() and (labels == -1).any())


def best(scores: Iterable[tuple[int, int, float | None]]) -> tuple[int, int] | None:
    """The (N1, N2) of the greatest score among (N1, N2, score); of equals the least N1, then the least N2.

    None where no combination has a score.
    """
    scored = [(n1, n2, score) for n1, n2, score in scores if score is not None]
    return min(scored, key=lambda entry: (-entry[2], entry[0], entry[1]))[:2] if scored else None
