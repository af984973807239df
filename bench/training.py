"""An iteration of transfer training, 1,000 x 2048-4096-100, in float32 and in bfloat16: the port beside its peers, and
the same on a GPU where there is one.

What can be reached is the time of the five matrix products in it, which stand here as well: of the two layers forward,
of the second layer's bottom, and of both weights' gradients. Beside them stands what else the port spends on purpose:
in float32 the forward sums as its layers make them (by oneDNN in parts, which the comparison asks for) and the first
weights' update, in bfloat16 with their rounding and their gradient's conversion.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from bench.container import PROJECT, worker
from bench.measure import PORT, Bench, Subject, Work
from bench.pooled import DIMENSION, pooled
from experiment.errors import UserError
from torch_impl import engines, transfer
from torch_impl.caffe_net import FLOAT32, Arithmetic, CaffeNet
from torch_impl.caffe_proto import read_prototxt
from torch_impl.products import HAS_ONEDNN, by_onednn, linear, product, unrounded

NAME = "transfer training"
PROTOTXTS = ("transfer_train.prototxt", "solver.prototxt")
BATCH, N1, N2 = 1000, 4096, 100
ENDINGS = {"float32": "", "bfloat16": engines.BFLOAT16}  # type to the ending of the engines that train so

Multiply = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Run = Callable[[], float | None]  # makes an iteration and gives the loss before it


def run(bench: Bench) -> None:
    """Measure it. The error is that of the second iteration's loss: the first is made before anything is timed."""
    features = pooled()
    labels = np.random.default_rng(0).integers(0, N2, len(features)).astype(np.int32)
    first = first_weights()
    exact = port(features, labels, first, Arithmetic(torch.float64))
    exact()
    expected = exact()
    assert expected is not None

    def error(loss: float | None) -> float | None:
        return None if loss is None else abs(loss - expected) / expected

    with contextlib.ExitStack() as held:
        held.enter_context(transfer.memory_kept())  # as the stage has it; the peers in this process have the good of it
        runs: dict[str, dict[str, Run]] = {
            dtype: {PORT: port(features, labels, first, engine=f"folded{ending}")} for dtype, ending in ENDINGS.items()
        }
        try:
            runs["float32"]["pycaffe"] = held.enter_context(pycaffe(bench, features, labels, first))
        except UserError as problem:
            bench.leave_out(NAME, "pycaffe", str(problem))
        for dtype, of_type in runs.items():
            of_type["PyTorch eager"] = eager(features, labels, first, rounded=dtype != "float32")
            if not engines.missing(engines.CUDA):
                of_type |= on_gpu(features, labels, first, dtype)
            for step in of_type.values():
                step()
        if HAS_ONEDNN:
            runs["float32"]["the products alone, oneDNN"] = products(by_onednn)
        runs["float32"]["the products alone, torch.mm"] = products(by_pytorch)
        runs["float32"]["the products, summed as the port's"] = products(product, forward=by_layer)
        runs["float32"]["the products, summed as the port's, and the update"] = products(
            product, forward=by_layer, updated=True
        )
        runs["bfloat16"]["the products alone"] = products(by_pytorch, torch.bfloat16)
        runs["bfloat16"]["the products and the update"] = products(by_pytorch, torch.bfloat16, updated=True)
        for dtype, of_type in runs.items():
            subjects = [Subject(name, dtype, step) for name, step in of_type.items()]
            bench.measure(Work(NAME, "s an iteration", subjects, error=error))


def net_of(arithmetic: Arithmetic = FLOAT32) -> CaffeNet:
    """The port's training net."""
    shapes = {"data": (BATCH, DIMENSION), "label": (BATCH,)}
    return CaffeNet(PROJECT / "prototxt" / PROTOTXTS[0], shapes, arithmetic)


def first_weights() -> list[np.ndarray]:
    """Weights and biases drawn by the MSRA filler, in the order of `transfer.PARAMETERS`."""
    return transfer.draw_parameters(net_of(), "FAN_IN", 1)


def port(
    features: np.ndarray,
    labels: np.ndarray,
    first: list[np.ndarray],
    arithmetic: Arithmetic = FLOAT32,
    engine: str = "",
) -> Run:
    """The port's solver, with its batches."""
    net = net_of(transfer.arithmetic_by(engine, arithmetic))
    solver = transfer.SGDSolver(net, read_prototxt(PROJECT / "prototxt" / PROTOTXTS[1], "SolverParameter"), first)
    rows, targets = (net.arithmetic.take(torch.from_numpy(array)) for array in (features, labels))
    batches = transfer.hdf5_batches(len(rows), BATCH)

    def step() -> float:
        batch = next(batches)
        with unrounded():
            return solver.step(rows[batch], targets[batch])

    return step


def eager(
    features: np.ndarray,
    labels: np.ndarray,
    first: list[np.ndarray],
    rounded: bool,
    device: torch.device = engines.CPU,
) -> Run:
    """What a user of PyTorch would write; rounded: with its autocast to bfloat16."""
    model = torch.nn.Sequential(torch.nn.Linear(DIMENSION, N1), torch.nn.ReLU(), torch.nn.Linear(N1, N2))
    with torch.no_grad():
        for parameter, array in zip(model.parameters(), first, strict=True):
            parameter.copy_(torch.from_numpy(array))
    model.to(device)
    solver = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    rows, targets = torch.from_numpy(features).to(device), torch.from_numpy(labels).long().to(device)
    batches = transfer.hdf5_batches(len(rows), BATCH)

    def step() -> float:
        batch = next(batches)
        solver.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, rounded):
            loss = torch.nn.functional.cross_entropy(model(rows[batch]), targets[batch])
        loss.backward()
        solver.step()
        return loss.item()

    return step


def on_gpu(features: np.ndarray, labels: np.ndarray, first: list[np.ndarray], dtype: str) -> dict[str, Run]:
    """The port and what a user of PyTorch would write, by name, and the products alone, all on the GPU and without its
    ways to round more."""
    engine = engines.CUDA + ENDINGS[dtype]
    device = engines.device_of(engine)
    multiply = products(by_pytorch, getattr(torch, dtype), device)
    users = eager(features, labels, first, dtype != "float32", device)

    def multiplied() -> None:
        with unrounded():
            multiply()
            torch.cuda.synchronize()

    def trained() -> float | None:
        with unrounded():
            return users()

    return {
        f"{PORT}, {engines.CUDA}": port(features, labels, first, engine=engine),
        f"PyTorch eager, {engines.CUDA}": trained,
        f"the products alone, {engines.CUDA}": multiplied,
    }


@contextlib.contextmanager
def pycaffe(bench: Bench, features: np.ndarray, labels: np.ndarray, first: list[np.ndarray]) -> Iterator[Run]:
    """Caffe's own solver, in the container. Raises `UserError` where none runs."""
    with tempfile.TemporaryDirectory(prefix="udft-bench-") as scratch:
        folder = Path(scratch)
        for name in PROTOTXTS:
            shutil.copyfile(PROJECT / "prototxt" / name, folder / name)
        arrays = dict(zip(transfer.PARAMETERS, first, strict=True))
        for name, array in {**arrays, "features": features, "labels": labels}.items():
            np.save(folder / f"{name}.npy", array)
        with worker(bench, folder, "bench/caffe_training.py", scratch) as work:
            yield lambda: float(work())


def by_pytorch(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """one @ other.T by what PyTorch takes for it."""
    return one @ other.T


def by_layer(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """one @ other.T as the port's layers make it; where that is by oneDNN, in parts."""
    return linear(other, one, None).T


def products(
    multiply: Multiply,
    dtype: torch.dtype = torch.float32,
    device: torch.device = engines.CPU,
    forward: Multiply | None = None,
    updated: bool = False,
) -> Run:
    """The five products of an iteration, each of one matrix and another's transpose.

    forward : what makes the two layers' own, if not `multiply`. updated : with the update of the first weights, which
    the port has in float32. What the hidden layer gives lies transposed, so that oneDNN has to copy no great matrix; in
    parts it has to.
    """
    forward = forward or multiply
    shapes = (BATCH, DIMENSION), (N1, BATCH), (BATCH, N2), (N2, N1)
    data, hidden, scores, fc2 = (torch.rand(*shape).to(device, dtype) for shape in shapes)
    fc1 = torch.rand(N1, DIMENSION).to(device)
    operand, history = fc1.to(dtype), torch.zeros_like(fc1)

    def step() -> None:
        forward(operand, data)
        forward(fc2, hidden.T)
        multiply(fc2.T, scores)
        multiply(scores.T, hidden)
        gradient = multiply(hidden, data.T)
        if updated:
            transfer.update(fc1, operand, gradient, history, rate=0.01, momentum=0.9, weight_decay=5e-4)

    return step
