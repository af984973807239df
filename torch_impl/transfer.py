"""Stage transfer: train the two-layer network on LR features and pseudo-labels, with Caffe's SGD."""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.sgd import sgd

from experiment.errors import UserError
from experiment.pipeline import Stage
from experiment.progress import progress
from experiment.stage_writer import StageWriter
from experiment.stages import segments
from torch_impl import engines
from torch_impl.caffe_net import FLOAT32, Arithmetic, CaffeNet, arithmetic_of
from torch_impl.caffe_proto import read_prototxt
from torch_impl.products import unrounded

PARAMETERS = ("fc1_weight", "fc1_bias", "fc2_weight", "fc2_bias")
STATE = (*PARAMETERS, *(f"{name}_history" for name in PARAMETERS))
ROWS_AT_ONCE = 512  # of what is updated and rounded: at the paper's size 4 MiB of each float32 array


def engine(asked: str, variation: str) -> dict[str, str]:
    """The engine that was named, as `engines.choose` tells it, where it makes the training, too: one of bfloat16 or of
    a GPU. Raises `UserError`."""
    chosen = engines.choose(asked, variation)
    named = chosen["engine"]
    if engines.device_of(named) != engines.CPU:
        return chosen
    return {"engine": named} if named.endswith(engines.BFLOAT16) else {}


def arithmetic_by(engine: str, arithmetic: Arithmetic = FLOAT32) -> Arithmetic:
    """How the training net computes by that engine: on its device, and where it is one of bfloat16, in that type."""
    is_rounded = engine.endswith(engines.BFLOAT16) and arithmetic.dtype == torch.float32  # not the float64 reference
    dtype = torch.bfloat16 if is_rounded else arithmetic.dtype
    return replace(arithmetic, dtype=dtype, device=engines.device_of(engine))


def run(stage: Stage) -> None:
    """Write the initial and final weights, the loss of each iteration, the snapshots, and (isolated) segments."""
    with unrounded(), memory_kept():
        train(stage)


@contextmanager
def memory_kept() -> Iterator[None]:
    """Within: the GNU C library, if it is the one, keeps what is freed for what is asked for next; no result changes.

    By itself it gives arrays of more than 32 MiB back, so that the gradients of every iteration would get new pages,
    which the system must clear first.
    """
    library = ctypes.CDLL(None)
    limit = getattr(library, "mallopt", lambda option, value: 0)  # 0: it does not do that
    of_mapping, of_trimming = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD in its malloc.h
    kept = limit(of_mapping, 2**30) and limit(of_trimming, 2**30)
    try:
        yield
    finally:
        if kept:
            limit(of_mapping, 2**25)  # the most that it comes to by itself
            limit(of_trimming, 2**26)
            library.malloc_trim(0)


def train(stage: Stage) -> None:
    """`run`, within what it holds for that long."""
    rows = stage.inputs.array("features", "lr_trainval")
    settings = read_prototxt(stage.prototxt("solver.prototxt"), "SolverParameter")
    net, batch_size = training_net(stage, rows.shape[1])
    features, labels = (
        net.arithmetic.take(torch.from_numpy(np.array(array)))
        for array in (rows, stage.inputs.array("pseudo_labels", "labels"))
    )
    initial = [array for name in PARAMETERS if (array := stage.draw(f"{name}_initial")) is not None]
    if len(initial) < len(PARAMETERS):
        initial = draw_parameters(net, stage.spec["transfer"]["variance_norm"], stage.seed("transfer-init"))
    solver = SGDSolver(net, settings, initial)
    for name, tensor in zip(PARAMETERS, solver.parameters, strict=True):
        stage.out.array(f"{name}_initial", tensor.numpy(force=True))
    del initial  # the solver has copies
    loss = np.empty(settings.max_iter, net.arithmetic.at_least_float32.dtype_name)
    snapshots = stage.spec["transfer"]["snapshots"]
    solver = resumed(stage.out, net, settings, snapshots, loss) or solver
    left = range(solver.iteration, settings.max_iter)
    batches = hdf5_batches(len(features), batch_size, solver.iteration)
    for i in progress(left, len(left), "iterations", "transfer"):
        batch = next(batches)
        loss[i] = solver.step(features[batch], labels[batch])
        if not np.isfinite(loss[i]):
            raise UserError(f"{stage.out.path}: the loss is {loss[i]} at iteration {i}: lower transfer.base_lr (SET=)")
        if solver.iteration in snapshots:
            for name, array in state_of(solver).items():
                stage.out.array(f"snapshots/{solver.iteration}/{name}", array)
        if stage.out.checkpoint_is_due():
            stage.out.checkpoint({"loss": loss[: solver.iteration], **state_of(solver)})
    stage.out.array("loss", loss)
    for name, tensor in zip(PARAMETERS, solver.parameters, strict=True):
        stage.out.array(name, tensor.numpy(force=True))
    for start, end in segments(snapshots):
        forced = [stage.forced(f"snapshots/{start}/{name}") for name in STATE]
        names = [f"segments/{end}/{name}" for name in STATE]
        if any(array is None for array in forced) or stage.out.has(*names):  # not isolated, or done already
            continue
        solver = SGDSolver(net, settings, forced, start)
        for batch in islice(hdf5_batches(len(features), batch_size, start), end - start):
            solver.step(features[batch], labels[batch])
        for name, array in state_of(solver).items():
            stage.out.array(f"segments/{end}/{name}", array)


def resumed(
    out: StageWriter, net: CaffeNet, settings: Any, snapshots: Sequence[int], loss: np.ndarray
) -> "SGDSolver | None":
    """A solver that goes on from the last checkpoint, with `loss` filled so far; None where there is nothing to take.

    Nothing is taken either where a snapshot before the checkpoint is not whole.
    """
    state = out.last_checkpoint()
    if state is None:
        return None
    done = len(state["loss"])
    if not out.has(*(f"snapshots/{i}/{name}" for i in snapshots if i <= done for name in STATE)):
        return None
    loss[:done] = state["loss"]
    return SGDSolver(net, settings, [state[name] for name in STATE], done)


def training_net(stage: Stage, dimension: int) -> tuple[CaffeNet, int]:
    """The network as it is trained, for features of that dimension, and its batch size."""
    path = stage.prototxt("transfer_train.prototxt")
    data = next(layer for layer in read_prototxt(path).layer if layer.type == "HDF5Data").hdf5_data_param
    if data.shuffle:
        raise UserError(f"{path}: shuffle: true cannot be followed: take it away")
    shapes = {"data": (data.batch_size, dimension), "label": (data.batch_size,)}
    arithmetic = arithmetic_by(stage.engine, arithmetic_of(stage.variation))
    return CaffeNet(path, shapes, arithmetic), data.batch_size


def state_of(solver: "SGDSolver") -> dict[str, np.ndarray]:
    """The weights and the momentum histories, in the order of `STATE`; no copies where they are on the CPU."""
    tensors = [*solver.parameters, *solver.history]
    return {name: tensor.numpy(force=True) for name, tensor in zip(STATE, tensors, strict=True)}


def draw_parameters(net: CaffeNet, variance_norm: str, seed: int) -> list[np.ndarray]:
    """In the order of `PARAMETERS`, float32: weights from Caffe's MSRA filler, N(0, 2 / n), n the fan-in, fan-out or
    their mean; biases 0."""
    generator = torch.Generator().manual_seed(seed)
    arrays = []
    for weight, bias in net.parameter_shapes.values():
        fan_out, fan_in = weight
        # D4: Caffe's default is the fan-in, a Gaussian.
        n = {"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}[variance_norm]
        values = torch.randn(weight, generator=generator) * (2 / n) ** 0.5
        arrays += [values.numpy(), np.zeros(bias, np.float32)]
    return arrays


def hdf5_batches(n: int, batch_size: int, iteration: int = 0) -> Iterator[Tensor]:
    """Row numbers of batch after batch from an iteration on, as HDF5Data gives them: in order, no shuffling (D8).

    D13: at the end of the data a batch goes on with the first rows; it is neither shortened nor dropped.
    """
    start = iteration * batch_size % n
    while True:
        yield torch.arange(start, start + batch_size) % n
        start = (start + batch_size) % n


class SGDSolver:
    """Caffe's SGDSolver (src/caffe/solvers/sgd_solver.cpp) with the "step" policy.

    Attributes
    ----------
    iteration : updates done so far.
    parameters, history : what is trained and its momentum history, in the order of `PARAMETERS`; of float32 at least.
    operands : what the net computes with: the parameters themselves, or, in a net of bfloat16, rounded copies.
    """

    def __init__(self, net: CaffeNet, settings: Any, state: Sequence[np.ndarray], iteration: int = 0) -> None:
        """A solver that goes on after `iteration` updates from a state: the parameters, or what `STATE` names."""
        if settings.type != "SGD" or settings.lr_policy != "step":
            raise UserError(f"a solver of type {settings.type} with lr_policy {settings.lr_policy} is not supported")
        self.net = net
        self.settings = settings
        self.iteration = iteration
        trained = net.arithmetic.at_least_float32
        shapes = [shape for blobs in net.parameter_shapes.values() for shape in blobs] * (len(state) // len(PARAMETERS))
        tensors = [
            trained.take(torch.from_numpy(np.array(array)).reshape(shape))
            for array, shape in zip(state, shapes, strict=True)
        ]
        self.parameters, history = tensors[: len(PARAMETERS)], tensors[len(PARAMETERS) :]
        self.history = history or [torch.zeros_like(tensor) for tensor in self.parameters]
        self.operands = [net.arithmetic.take(tensor).requires_grad_() for tensor in self.parameters]
        net.parameters |= {"fc1": self.operands[:2], "fc2": self.operands[2:]}
        by_name = {layer.name: layer for layer in net.layers}
        multipliers = [
            by_name[layer].param[i] if by_name[layer].param else None for layer in ("fc1", "fc2") for i in (0, 1)
        ]
        # D5: both multipliers are 1 where the prototxt does not say otherwise, for biases too.
        self.lr_mult = [m.lr_mult if m is not None else 1.0 for m in multipliers]
        self.decay_mult = [m.decay_mult if m is not None else 1.0 for m in multipliers]

    def rate(self) -> float:
        """The learning rate of the iteration to come: base_lr gamma^floor(iteration / stepsize), in float32."""
        drops = self.iteration // self.settings.stepsize
        return float(np.float32(self.settings.base_lr * self.settings.gamma**drops))

    def step(self, features: Tensor, labels: Tensor) -> float:
        """One iteration on a batch, features (b, D) and labels (b,); returns the loss before the update."""
        loss = self.net.forward({"data": features, "label": labels}, ["loss"])["loss"]
        gradients = torch.autograd.grad(loss, self.operands)
        rate = self.rate()
        with torch.no_grad():
            for i, (parameter, gradient) in enumerate(zip(self.parameters, gradients, strict=True)):
                update(
                    parameter,
                    self.operands[i],
                    gradient,
                    self.history[i],
                    rate * self.lr_mult[i],
                    self.settings.momentum,
                    self.settings.weight_decay * self.decay_mult[i],
                )
        self.iteration += 1
        return loss.item()


def update(
    parameter: Tensor,
    operand: Tensor,
    gradient: Tensor,
    history: Tensor,
    rate: float,
    momentum: float,
    weight_decay: float,
) -> None:
    """Caffe's update of a parameter and its momentum history in place, within `torch.no_grad`; all have one shape.

    D14: with lr, the rate, V = m V + lr (g + wd W); W -= V. The rate is inside the history, so that a drop of the rate
    does not shrink what has been gathered. PyTorch, which has V = m V + (1 - dampening) (g + wd W); W -= lr V, keeps it
    outside: a dampening of 1 - lr and a rate of 1 make its update Caffe's. With a momentum of 0 it leaves the history
    out, which is therefore made 0 and kept whole.

    operand : the parameter itself, or its copy in a smaller type, which is rounded anew. gradient : of the loss by the
    operand, of the operand's type.
    """
    if not momentum:
        history.zero_()
    is_rounded = operand is not parameter
    # A part at a time, so that a rounded gradient is widened and the parameter rounded while it is in the cache.
    rows = ROWS_AT_ONCE if is_rounded and parameter.device == engines.CPU else len(parameter)
    tensors = (parameter, operand, gradient, history)
    for weights, rounded, slope, past in zip(*(tensor.split(rows) for tensor in tensors), strict=True):
        sgd(
            [weights],
            [slope.to(weights.dtype).contiguous()],  # the fused update does not look at strides
            [past],
            weight_decay=weight_decay,
            momentum=momentum or 1.0,
            dampening=1 - rate,
            lr=1.0,
            nesterov=False,
            maximize=False,
            fused=True,  # one pass over the weights where the formula's operations would be four
        )
        if is_rounded:
            rounded.copy_(weights)
