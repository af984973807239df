"""An iteration of transfer training, 1,000 x 2048-4096-100: the port beside pycaffe and eager PyTorch.

What can be reached is the time of the five matrix products in it, which stand here as well: of the two layers forward,
of the second layer's bottom, and of both weights' gradients.
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
from torch_impl import transfer
from torch_impl.caffe_net import FLOAT32, Arithmetic, CaffeNet
from torch_impl.caffe_proto import read_prototxt
from torch_impl.products import product

NAME = "transfer training"
PROTOTXTS = ("transfer_train.prototxt", "solver.prototxt")
BATCH, N1, N2 = 1000, 4096, 100

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
        runs: dict[str, Run] = {PORT: port(features, labels, first)}
        try:
            runs["pycaffe"] = held.enter_context(pycaffe(bench, features, labels, first))
        except UserError as problem:
            bench.leave_out(NAME, "pycaffe", str(problem))
        runs["PyTorch eager"] = eager(features, labels, first)
        for step in runs.values():
            step()
        runs["the products alone, oneDNN"] = products(product)
        runs["the products alone, torch.mm"] = products(lambda one, other: one @ other.T)
        subjects = [Subject(name, "float32", step) for name, step in runs.items()]
        bench.measure(Work(NAME, "s an iteration", subjects, error=error))


def net_of(arithmetic: Arithmetic = FLOAT32) -> CaffeNet:
    """The port's training net."""
    shapes = {"data": (BATCH, DIMENSION), "label": (BATCH,)}
    return CaffeNet(PROJECT / "prototxt" / PROTOTXTS[0], shapes, arithmetic)


def first_weights() -> list[np.ndarray]:
    """Weights and biases drawn by the MSRA filler, in the order of `transfer.PARAMETERS`."""
    net = net_of()
    transfer.draw_parameters(net, "FAN_IN", 1)
    return [tensor.numpy().copy() for tensor in transfer.parameters_of(net)]


def port(features: np.ndarray, labels: np.ndarray, first: list[np.ndarray], arithmetic: Arithmetic = FLOAT32) -> Run:
    """The port's solver, with its batches."""
    net = net_of(arithmetic)
    transfer.set_parameters(net, first)
    solver = transfer.SGDSolver(net, read_prototxt(PROJECT / "prototxt" / PROTOTXTS[1], "SolverParameter"))
    rows, targets = torch.from_numpy(features), torch.from_numpy(labels)
    batches = transfer.hdf5_batches(len(rows), BATCH)

    def step() -> float:
        batch = next(batches)
        return solver.step(rows[batch], targets[batch])

    return step


def eager(features: np.ndarray, labels: np.ndarray, first: list[np.ndarray]) -> Run:
    """What a user of PyTorch would write."""
    model = torch.nn.Sequential(torch.nn.Linear(DIMENSION, N1), torch.nn.ReLU(), torch.nn.Linear(N1, N2))
    with torch.no_grad():
        for parameter, array in zip(model.parameters(), first, strict=True):
            parameter.copy_(torch.from_numpy(array))
    solver = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    rows, targets = torch.from_numpy(features), torch.from_numpy(labels).long()
    batches = transfer.hdf5_batches(len(rows), BATCH)

    def step() -> float:
        batch = next(batches)
        solver.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(rows[batch]), targets[batch])
        loss.backward()
        solver.step()
        return loss.item()

    return step


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


def products(multiply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Run:
    """The five products of an iteration, each of one matrix and another's transpose, and nothing else."""
    data, hidden, scores = (torch.rand(BATCH, width) for width in (DIMENSION, N1, N2))
    fc1, fc2 = torch.rand(N1, DIMENSION), torch.rand(N2, N1)

    def step() -> None:
        for one, other in ((data, fc1), (hidden, fc2), (scores, fc2.T), (scores.T, hidden.T), (hidden.T, data.T)):
            multiply(one, other)

    return step
