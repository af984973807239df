"""What is compared of the stages svm and metrics."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

from compare.bootstrap import ap_11point
from compare.check import Check
from compare.difference import Difference, difference, max_abs, misfit
from compare.pair import Pair, named, own_draws
from experiment.artifacts import RunFolder
from experiment.stages import ROWS

FLAT = 100  # stopping tolerances
SOURCES = {"baseline_hr": ("features", "hr_"), "baseline_lr": ("features", "lr_"), "ours": ("transfer_features", "")}


def svm(pair: Pair) -> Iterator[Check]:
    """Of each row: the decision values on test, the support vectors in common, and the dual objective."""
    classes = pair.a.json("index", "classes")
    summaries = [run.json("svm", "summary") for run in (pair.a, pair.b)]
    for row in ROWS:
        read = named("svm", row)
        flat = flat_classes(pair, row)
        told = f"; in {len(flat)} of {len(classes)} classes all but constant" if flat else ""

        def where(d: Difference, told: str = told) -> str:
            return f"max abs at image, class {d.index}{told}"

        def numbers(d: Difference, flat: list[str] = flat) -> dict[str, Any]:
            return {**d.numbers(), "flat_classes": flat}

        how: dict[str, Any] = {"distance": max_abs, "detail": where, "numbers": numbers}
        yield pair.array_check("svm", "decision_max_abs", row, read, read, lambda d: d.max_abs, **how)
        if len(flat) < len(classes):
            yield of_spread(pair, row, [name not in flat for name in classes])
        for side, run, fed in pair.sides():
            yield dual_route(pair, row, side, run, fed)
        duals = [run.array("svm", f"{row}_dual") for run in (pair.a, pair.b)]
        problem = misfit(*duals)
        if not problem and not all(np.isfinite(dual).all() for dual in duals):
            problem = "values that are not finite"
        if not problem and not all(set(classes) <= summary.get(row, {}).keys() for summary in summaries):
            problem = "the summary lacks a class"
        if problem:
            yield pair.judge.failure("svm", f"{row}_dual", problem)
            continue
        support = [np.asarray(dual) != 0 for dual in duals]
        common = np.logical_and(*support).sum(axis=1)
        either = np.maximum(np.logical_or(*support).sum(axis=1), 1)
        least = int((common / either).argmin())
        detail = f"{common.sum()} of {either.sum()} in common; least for class {classes[least]}"
        yield pair.judge.check("svm", "support_vectors", row, float(common[least] / either[least]), detail)
        objectives = np.array([[summary[row][name]["objective"] for name in classes] for summary in summaries])
        apart = np.abs(objectives[1] - objectives[0])
        change = np.divide(apart, np.abs(objectives[0]), out=np.where(apart > 0, np.inf, 0), where=objectives[0] != 0)
        worst = int(change.argmax())
        detail = (
            f"relative; worst for class {classes[worst]}, {objectives[0][worst]:.6g} and {objectives[1][worst]:.6g}"
        )
        yield pair.judge.check("svm", "objective", row, float(change[worst]), detail)


def flat_classes(pair: Pair, row: str) -> list[str]:
    """The classes in which run a's decision values spread less than `FLAT` stopping tolerances.

    The machine has then found no direction that pays for its length at this C, and what ranks the images, and makes
    the AP, is where the solver stopped.
    """
    scores = np.asarray(pair.a.array("svm", row), dtype=np.float64)
    tolerance = pair.a.spec["values"]["svm"]["tolerance"]
    classes = pair.a.json("index", "classes")
    if scores.ndim != 2 or scores.shape[1] != len(classes):
        return []
    return [name for name, spread in zip(classes, scores.std(axis=0), strict=True) if spread < FLAT * tolerance]


def of_spread(pair: Pair, row: str, steep: list[bool]) -> Check:
    """The greatest difference of decision values as a share of their standard deviation in run a, by class.

    steep : for each class whether it is judged: in a flat one the difference is the solver's stopping alone.
    """
    first, second = (np.asarray(run.array("svm", row), np.float64) for run in (pair.a, pair.b))
    if misfit(first, second) or first.ndim != 2 or first.shape[1] != len(steep):
        return pair.judge.failure("svm", row, "the decision values do not fit the classes")
    share = np.abs(second - first).max(axis=0)[steep] / first.std(axis=0)[steep]
    detail = f"worst of {len(share)} classes that are not flat"
    return pair.judge.check("svm", "decision_of_spread", row, float(share.max(initial=0.0)), detail)


def dual_route(pair: Pair, row: str, side: str, run: RunFolder, fed: RunFolder) -> Check:
    """A run's decision values against those made here of its dual coefficients and the features that it was fed.

    This holds in flat classes as well, whose decision values no other check can tell from chance.
    """
    stage, prefix = SOURCES[row]
    train, test = (np.asarray(fed.array(stage, f"{prefix}{split}"), np.float64) for split in ("trainval", "test"))
    scale = 1.0
    if pair.a.spec["values"]["svm"]["scale"] == "mean_norm":
        scale = float(np.linalg.norm(train, axis=1).mean())
    summary = run.json("svm", "summary")[row]
    rho = [summary[name]["rho"] for name in pair.a.json("index", "classes")]
    normals = run.array("svm", f"{row}_dual") @ train / scale**2  # (C, D), for rows that are not scaled
    apart = np.abs(test @ normals.T - rho - run.array("svm", row))
    return pair.judge.check("svm", "dual_route", f"{row} of {side}", float(apart.max()), "greatest difference")


def metrics(pair: Pair) -> Iterator[Check]:
    """AP per class and mAP of the three rows by both sides and by a third route, and the ranks behind them."""
    first, second = (run.json("metrics", "metrics") for run in (pair.a, pair.b))
    classes = pair.a.json("index", "classes")
    own = pair.chained and own_draws(pair.a, pair.b, "transfer")
    for row in ROWS:
        for variant in ("11point", "area"):
            ap_a, ap_b = (np.array(m[row][f"ap_{variant}"], dtype=np.float64) for m in (first, second))
            d = difference(ap_a, ap_b)
            if d.problem or len(ap_a) != len(classes):
                problem = d.problem or f"{len(ap_a)} values for {len(classes)} classes"
                yield pair.judge.failure("metrics", f"{row} {variant}", problem)
                continue
            per_class: dict[str, Any] = {
                "a": dict(zip(classes, ap_a.tolist(), strict=True)),
                "b": dict(zip(classes, ap_b.tolist(), strict=True)),
            }
            detail = f"greatest for class {classes[d.index[0]]}"
            if pair.chained and d.unequal and variant == "11point":
                per_class["rank_swaps"] = swaps = rank_swaps(pair, row, np.flatnonzero(ap_a != ap_b))
                detail += f"; {told_swaps(swaps.get(classes[d.index[0]]))}"
            yield pair.judge.check("metrics", "ap", f"{row} {variant}", d.max_abs, detail, **d.numbers(), **per_class)
            map_a, map_b = (m[row][f"map_{variant}"] for m in (first, second))
            detail = f"mAP {100 * map_a:.3f} and {100 * map_b:.3f}"
            yield pair.judge.check(
                "metrics", "map", f"{row} {variant}", abs(map_b - map_a), detail, a=map_a, b=map_b,
                only_shown=own and row == "ours",
            )  # fmt: skip
        for found, (side, _, fed) in zip((first, second), pair.sides(), strict=True):
            yield third_route(pair, row, side, found[row], fed)


def third_route(pair: Pair, row: str, side: str, found: dict[str, Any], fed: RunFolder) -> Check:
    """A row's AP as a run has them, against those made here of the decision values that it was fed.

    11-point: `compare.bootstrap.ap_11point`; area: scikit-learn's.
    """
    labels, scores = fed.array("index", "labels_test"), fed.array("svm", row)
    aps = np.array([found["ap_11point"], found["ap_area"]], dtype=np.float64)
    means = np.array([found["map_11point"], found["map_area"]], dtype=np.float64)
    if scores.shape != labels.shape or aps.shape != (2, labels.shape[1]) or not np.isfinite(scores).all():
        return pair.judge.failure("metrics", f"{row} of {side}", "decision values and labels do not belong together")
    other = np.empty_like(aps)
    for column in range(labels.shape[1]):
        used = labels[:, column] != 0
        other[0, column] = ap_11point(scores[:, column], labels[:, column])
        other[1, column] = average_precision_score(labels[used, column] == 1, scores[used, column])
    worst = np.maximum(np.abs(other - aps).max(axis=1), np.abs(other.mean(axis=1) - means))
    detail = f"11-point {worst[0]:.1e}, area {worst[1]:.1e} from scikit-learn's"
    return pair.judge.check("metrics", "third_route", f"{row} of {side}", float(worst.max()), detail)


def rank_swaps(pair: Pair, row: str, columns: np.ndarray) -> dict[str, dict[str, Any]]:
    """For each class (column): which positive-negative pairs of test images the two sides rank otherwise.

    count : how many pairs; widest : the ids of the pair whose scores lie farthest apart on side a, and how far.
    """
    classes, ids = pair.a.json("index", "classes"), pair.a.json("index", "ids_test")
    labels = pair.a.array("index", "labels_test")
    scores_a, scores_b = (np.asarray(run.array("svm", row)) for run in (pair.a, pair.b))
    if misfit(scores_a, scores_b) or scores_a.shape != labels.shape:
        return {}
    found = {}
    for column in columns:
        positive, negative = (np.flatnonzero(labels[:, column] == label) for label in (1, -1))
        gaps_a, gaps_b = (s[positive, column][:, None] - s[negative, column] for s in (scores_a, scores_b))
        swapped = np.sign(gaps_a) != np.sign(gaps_b)
        told: dict[str, Any] = {"count": int(swapped.sum()), "of": swapped.size}
        if swapped.any():
            place = np.unravel_index(int(np.where(swapped, np.abs(gaps_a), -1).argmax()), swapped.shape)
            told["widest"] = [ids[positive[place[0]]], ids[negative[place[1]]], float(abs(gaps_a[place]))]
        found[classes[int(column)]] = told
    return found


def told_swaps(swaps: dict[str, Any] | None) -> str:
    """Rank swaps in words."""
    if not swaps or not swaps["count"]:
        return "no rank differs"
    positive, negative, gap = swaps["widest"]
    return (
        f"{swaps['count']} of {swaps['of']} pairs ranked otherwise, the widest {positive} over {negative} by {gap:.1e}"
    )
