"""What is compared of the stages transfer and transfer_features."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.stats import kstest

from compare.check import Check
from compare.difference import Difference, trimmed_l2
from compare.pair import Pair, named
from experiment.artifacts import RunFolder
from experiment.stages import SPLITS, segments

PARAMETERS = [f"{layer}_{blob}" for layer in ("fc1", "fc2") for blob in ("weight", "bias")]


def transfer(pair: Pair) -> Iterator[Check]:
    """Initial weights, segments from run a's own snapshots (isolated), and the whole trajectory.

    A segment tells a wrong update from rounding that training has made grow: it starts anew from run a's state.
    """
    yield from initial_weights(pair)
    snapshots = pair.a.spec["values"]["transfer"]["snapshots"]
    for start, end in segments(snapshots) if not pair.chained else ():
        step = end == start + 1
        for name in PARAMETERS:
            yield segment(pair, "step_relative_l2" if step else "segment_relative_l2", end, name)
            if step:  # after more steps the history is made of other gradients
                yield segment(pair, "step_history", end, f"{name}_history")
    read = named("transfer", "loss")
    yield pair.array_check("transfer", "loss_relative_l2", "loss", read, read)
    for iteration in snapshots:
        for name in PARAMETERS:
            item = f"snapshots/{iteration}/{name}"
            read = named("transfer", item)
            yield pair.array_check("transfer", "relative_l2", item, read, read)
            yield history(pair, item)
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
    own = pair.drew_itself("transfer")
    detail = "each side drew its own" if own else ""
    for name in PARAMETERS:
        read = named("transfer", f"{name}_initial")
        how: dict[str, Any] = {"distance": None, "only_shown": own, "detail": detail}
        yield pair.array_check("transfer", "initial_relative_l2", f"{name}_initial", read, read, **how)
    variance_norm = pair.a.spec["values"]["transfer"].get("variance_norm", "FAN_IN")
    for side, run in (("a", pair.a), ("b", pair.b)):
        for name in ("fc1_weight_initial", "fc2_weight_initial"):
            p = msra_p_value(run, name, variance_norm)
            yield pair.judge.check("transfer", "initial_p", f"{name} of {side}", p, "Kolmogorov-Smirnov against MSRA")


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


def segment(pair: Pair, quantity: str, end: int, name: str) -> Check:
    """What run b made of run a's previous snapshot, against run a's own next one.

    Where a neuron's input is 0 but for rounding, its ReLU may open on one side only. That changes the neuron's row,
    and it alone; a wrong update changes all rows. So the worst hundredth of the rows is set aside.
    """
    there, here = named("transfer", f"snapshots/{end}/{name}"), named("transfer", f"segments/{end}/{name}")

    def detail(d: Difference) -> str:
        return f"with every row {d.relative_l2:.2e}, max abs {d.max_abs:.2e} at {d.index}"

    # Of run a itself no second segment from the same state is there: its error to the reference has to do.
    how: dict[str, Any] = {"distance": trimmed_l2, "floors_of_a": False, "detail": detail}
    return pair.array_check("transfer", quantity, f"segments/{end}/{name}", there, here, lambda d: d.trimmed_l2, **how)


def history(pair: Pair, weight: str) -> Check:
    """The difference of momentum histories as a share of the weights that they are about to move."""
    moved = float(np.linalg.norm(pair.a.array("transfer", weight).astype(np.float64)))

    def share(d: Difference) -> float:
        return d.square_error**0.5 / moved if moved else math.inf

    read = named("transfer", f"{weight}_history")
    return pair.array_check("transfer", "history_of_weight", f"{weight}_history", read, read, share, distance=None)
