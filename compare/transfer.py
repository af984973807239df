"""What is compared of the stages transfer and transfer_features."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.stats import kstest

from compare.check import Check, Judge
from compare.difference import Difference, relative_l2, trimmed_l2
from compare.pair import Pair, named, own_draws
from experiment.artifacts import RunFolder
from experiment.stages import SPLITS, segments

PARAMETERS = [f"{layer}_{blob}" for layer in ("fc1", "fc2") for blob in ("weight", "bias")]


def transfer(pair: Pair) -> Iterator[Check]:
    """Initial weights, segments from run a's own snapshots (isolated), and the whole trajectory.

    A segment tells a wrong update from rounding that training has made grow: it starts anew from run a's state.
    """
    yield from initial_weights(pair)
    snapshots = pair.a.spec["values"]["transfer"]["snapshots"]
    if not pair.chained:
        if not any(end == start + 1 for start, end in segments(snapshots)):
            yield pair.judge.failure("transfer", "segments", "no two snapshots are neighbours: no step can be judged")
        for start, end in segments(snapshots):
            for name in PARAMETERS:
                yield from segment(pair, start, end, name)
    read = named("transfer", "loss")
    yield pair.array_check("transfer", "loss_relative_l2", "loss", read, read)
    for iteration in snapshots:
        for name in PARAMETERS:
            item = f"snapshots/{iteration}/{name}"
            read = named("transfer", item)
            yield pair.array_check("transfer", "relative_l2", item, read, read)
            for run in (pair.a, pair.b):
                run.array("transfer", f"{item}_history")  # what single steps go on from: whole at least
    for name in PARAMETERS:
        read = named("transfer", name)
        yield pair.array_check("transfer", "relative_l2", name, read, read)


def transfer_features(pair: Pair) -> Iterator[Check]:
    """The transferred features of both splits."""
    for split in SPLITS:
        read = named("transfer_features", split)
        yield pair.array_check("transfer_features", "relative_l2", split, read, read)


def initial_weights(pair: Pair) -> Iterator[Check]:
    """Equal where run b took them over; and both sides' against the MSRA filler's distribution."""
    own = own_draws(pair.a, pair.b, "transfer")
    detail = "each side drew its own" if own else ""
    for name in PARAMETERS:
        read = named("transfer", f"{name}_initial")
        how: dict[str, Any] = {"distance": None, "only_shown": own, "detail": detail}
        yield pair.array_check("transfer", "initial_relative_l2", f"{name}_initial", read, read, **how)
    variance_norm = pair.a.spec["values"]["transfer"]["variance_norm"]
    for side, run, _ in pair.sides():
        yield from drawn_weights(pair.judge, "transfer", run, f"initial weights of {side}", variance_norm)


def drawn_weights(judge: Judge, stage: str, run: RunFolder, item: str, variance_norm: str) -> Iterator[Check]:
    """Whether a run's initial weights are what Caffe's fillers draw: MSRA's distribution, and biases of 0."""
    p = min(msra_p_value(run, f"{layer}_weight_initial", variance_norm) for layer in ("fc1", "fc2"))
    yield judge.check(stage, "initial_p", item, p, "Kolmogorov-Smirnov against MSRA, the lesser of both layers'")
    biases = np.concatenate([np.ravel(run.array("transfer", f"{layer}_bias_initial")) for layer in ("fc1", "fc2")])
    yield judge.check(stage, "initial_bias", item, float(np.abs(biases).max()), "greatest of both layers'")


def msra_p_value(run: RunFolder, name: str, variance_norm: str) -> float:
    """The p-value of a Kolmogorov-Smirnov test of a weight matrix (n_out, n_in) against N(0, 2 / n) (He et al. 2015).

    n is what `variance_norm` names: the fan-in, the fan-out, or their mean (Caffe, filler.hpp).
    """
    weight = run.array("transfer", name)
    if weight.ndim != 2 or weight.size == 0:
        return math.nan
    fan_out, fan_in = weight.shape
    n = {"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}[variance_norm]
    if not np.isfinite(weight).all():
        return math.nan
    return float(kstest(np.ravel(weight), "norm", args=(0.0, math.sqrt(2 / n))).pvalue)


def segment(pair: Pair, start: int, end: int, name: str) -> Iterator[Check]:
    """What run b made of run a's snapshot at `start`, against run a's own at `end`; of one step the momentum too.

    Where a neuron's input is 0 but for rounding, its ReLU may open on one side only. That changes the neuron's row of
    fc1, and it alone; a wrong update changes all rows. So of fc1 the worst hundredth of the rows is set aside, and all
    rows together are held to a looser bound.
    """
    step = end == start + 1
    items = {name: "step_relative_l2" if step else "segment_relative_l2"}
    if step:  # after more steps the history is made of other gradients
        items[f"{name}_history"] = "step_history"
    aside = name.startswith("fc1_")
    # Of run a itself no second segment from the same state is there: its error to the reference has to do.
    how: dict[str, Any] = {"distance": trimmed_l2 if aside else relative_l2, "floors_of_a": False}
    for item, quantity in items.items():
        there, here = named("transfer", f"snapshots/{end}/{item}"), named("transfer", f"segments/{end}/{item}")
        told = f"segments/{end}/{item}"
        yield pair.array_check("transfer", quantity, told, there, here, trimmed if aside else whole, **how)
        if step and aside:
            yield pair.array_check("transfer", f"{quantity}_all_rows", told, there, here, whole, distance=None)


def trimmed(d: Difference) -> float:
    """The relative L2 without the worst hundredth of the rows."""
    return d.trimmed_l2


def whole(d: Difference) -> float:
    """The relative L2."""
    return d.relative_l2
