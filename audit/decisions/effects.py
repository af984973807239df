"""By how much an alternative moves mAP: bootstrap over test photographs and seeds, paired in both.

Of each resample the same photographs are drawn for the alternative and for the base, whatever the alternative made of
them: a photograph that became several images brings all of them. The same seeds are drawn for both, since runs of one
seed share their draws as far as the alternative lets them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from audit.controls.text import difference_text
from compare.bootstrap import equivalence, paired_differences, resampled_map, resamples
from compare.end_to_end import LEAST_SEEDS, PERCENT, decision_values
from experiment.artifacts import RunFolder
from experiment.stages import ROWS

if TYPE_CHECKING:  # the report, which asks no run for anything, need not wait for PyTorch
    from audit.decisions.variants import Variant

IDENTICAL = "identical: nothing differs"
NOT_MEASURED = "not measured"


class Bootstrap:
    """Resamples of the base's test photographs, and the mAPs of runs on them.

    ids : the base's test images. settings : the specification's section compare. seed : of the resamples.
    """

    def __init__(self, ids: Sequence[str], settings: Mapping[str, Any], seed: int) -> None:
        self.seed = seed
        self.margin = float(settings["margin"])
        self._column = {image_id: i for i, image_id in enumerate(ids)}
        self._weights = resamples(len(ids), settings["resamples"], seed)
        self._kept: dict[tuple[str, ...], np.ndarray] = {}

    def maps(self, variant: "Variant", row: str, headline: str = "") -> np.ndarray:
        """A run's mAP of a row in percent, (1 + resamples,) float64: first as observed, then in each resample.

        headline : "area" for the area under the curve in the place of the 11-point AP (D20).
        Runs with equal decision values, labels and ids are looked at once.
        """
        key = (headline, *compared(variant, row))
        if key not in self._kept:
            how = resampled_area if headline == "area" else resampled_map
            self._kept[key] = self._resampled(variant.run, row, variant.photographs(), how)
        return self._kept[key]

    def _resampled(
        self, run: RunFolder, row: str, photographs: dict[str, str] | None, mean_ap: Callable[..., np.ndarray]
    ) -> np.ndarray:
        labels = run.array("index", "labels_test")
        scores = decision_values(run, row, labels.shape)
        ids = run.json("index", "ids_test")
        columns = [self._column[photographs[image_id] if photographs else image_id] for image_id in ids]
        plain = np.ones((1, len(ids)), np.uint8)
        return PERCENT * np.concatenate(
            [mean_ap(scores, labels, weights) for weights in (plain, self._weights[:, columns])]
        )


def compared(variant: "Variant", *rows: str) -> list[str]:
    """sha256 of all that mAPs of a run's rows are computed from: test ids, test labels and decision values."""
    index, svm = (variant.run.require_manifest(stage)["outputs"] for stage in ("index", "svm"))
    return [entry["sha256"] for entry in (index["ids_test"], index["labels_test"], *(svm[row] for row in rows))]


def identical(variants: Sequence["Variant"], bases: Sequence["Variant"]) -> bool:
    """Whether runs leave byte for byte the decision values, test labels and test ids of the bases, seed by seed."""
    return [compared(variant, *ROWS) for variant in variants] == [compared(base, *ROWS) for base in bases]


def resampled_area(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean area under the precision-recall curve of each resample, (count,) float64, as fractions.

    scores, labels : (n, C) float64 and int8, as `compare.bootstrap.resampled_map` takes them. weights : (count, n).
    The area is scikit-learn's average precision, a step for each distinct score; images labelled 0 are left out, and
    a class without a positive in a resample is not in its mean.
    """
    areas = np.full((len(weights), labels.shape[1]), np.nan)
    for i in range(labels.shape[1]):
        used = np.flatnonzero(labels[:, i] != 0)
        order = used[np.argsort(-scores[used, i], kind="stable")]
        # Equal scores are one step: their counts are summed.
        steps = np.unique(-scores[order, i], return_index=True)[1]
        drawn = weights[:, order].astype(np.int64)
        found = np.add.reduceat(drawn * (labels[order, i] == 1), steps, axis=1)
        rank = np.add.reduceat(drawn, steps, axis=1).cumsum(axis=1)
        precision = found.cumsum(axis=1) / np.maximum(rank, 1)
        positives = found.sum(axis=1)
        some = positives > 0
        areas[some, i] = (found * precision)[some].sum(axis=1) / positives[some]
    return np.nanmean(areas, axis=1)


def effect(
    alternative: np.ndarray, base: np.ndarray, bootstrap_seed: int, margin: float, seeded: bool
) -> dict[str, Any]:
    """The mean over seeds of alternative minus base, with a 95 % interval: {"difference", "interval_95", "certain"}.

    alternative, base : (seeds, 1 + resamples) float64 in percent, as `Bootstrap.maps` gives them, seed by seed.
    seeded : whether the seeds have a part in the row; then fewer than `LEAST_SEEDS` of them make nothing certain.
    """
    differences = alternative - base
    resampled = paired_differences(differences[:, 1:], np.zeros_like(differences[:, 1:]), bootstrap_seed)
    certain = not seeded or len(differences) >= LEAST_SEEDS
    judged = equivalence(float(differences[:, 0].mean()), resampled, margin, certain)
    return {"difference": judged.mean_difference, "interval_95": list(judged.interval_95), "certain": certain}


def measured(
    bootstrap: Bootstrap, variants: Sequence["Variant"], bases: Sequence["Variant"], headline: str = ""
) -> dict[str, Any]:
    """What finished runs of an alternative, a seed each, say beside the bases: {"map": row to mean, "effect": row to
    `effect`}, in percent.

    "identical": True is there as well where nothing that is compared differs; with another headline, something does.
    """
    maps: dict[str, float] = {}
    effects: dict[str, dict[str, Any]] = {}
    for row in ROWS:
        one = np.stack([bootstrap.maps(variant, row, headline) for variant in variants])
        base = np.stack([bootstrap.maps(variant, row) for variant in bases])
        maps[row] = float(one[:, 0].mean())
        effects[row] = effect(one, base, bootstrap.seed, bootstrap.margin, row == "ours")
    same = {"identical": True} if not headline and identical(variants, bases) else {}
    return {"map": maps, "effect": effects, **same}


def effect_text(effect: Mapping[str, Any]) -> str:
    """A difference with its 95 % interval, with a question mark where too few seeds stand behind it; 0 where not even a
    resample has one."""
    low, high = effect["interval_95"]
    if effect["difference"] == low == high == 0:
        return "0"
    return difference_text(effect)


def told_rows(effects: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The rows of Table 1 that an alternative's effect is told of: Ours always, and a baseline where it moves at all,
    be it in resamples alone. effects : row to `effect`."""
    moving = {row for row, found in effects.items() if found["difference"] or any(found["interval_95"])}
    return [row for row in reversed(ROWS) if row == "ours" or row in moving]


def chance_text(entries: Sequence[Mapping[str, Any]]) -> str:
    """How many intervals of Ours leave 0 out, and how many would by chance; entries : those of sensitivity.json."""
    intervals = [e["effect"]["ours"]["interval_95"] for e in entries if "effect" in e and not told_instead(e)]
    apart = sum(low > 0 or high < 0 for low, high in intervals)
    return (
        f"Of {len(intervals)} intervals of Ours {apart} leave 0 out; by chance alone about "
        f"{len(intervals) / 20:.0f} would."
    )


def told_instead(entry: Mapping[str, Any]) -> str:
    """What is told of an alternative in the place of its effect: why there is none, or that nothing differs; "" where
    there is an effect to tell. entry : of sensitivity.json; "failed" in it says that the run is to blame, and not that
    the data or the specification offer no such alternative."""
    if reason := entry.get("reason"):
        return f"failed: {reason}" if entry.get("failed") else reason
    return IDENTICAL if entry.get("identical") else ""


def instead_text(entry: Mapping[str, Any]) -> str:
    """The same where it does not stand in an effect's own column: what was not measured says so."""
    not_measured = entry.get("reason") and not entry.get("failed")
    return f"{NOT_MEASURED}: {entry['reason']}" if not_measured else told_instead(entry)
