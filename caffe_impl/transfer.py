"""Stage transfer: train the transfer network with Caffe's own solver on LR features and pseudo-labels."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Optional, Sequence

import caffe
import h5py
import numpy as np
from caffe.proto import caffe_pb2

from experiment.errors import UserError
from experiment.pipeline import Stage
from experiment.progress import progress

HDF5_FILE = "transfer_train.h5"
HDF5_LIST = "transfer_train.txt"  # the source that transfer_train.prototxt names
WEIGHTS_FILE = "transfer.caffemodel"
PARAMETERS = ("fc1_weight", "fc1_bias", "fc2_weight", "fc2_bias")  # in the solver's order

Weights = dict[str, np.ndarray]


class Training(NamedTuple):
    """What training leaves: weights before and after, loss (max_iter,) float32, snapshots by iteration."""

    initial: Weights
    final: Weights
    loss: np.ndarray
    snapshots: dict[int, Weights]


def train(
    folder: Path,
    features: np.ndarray,
    labels: np.ndarray,
    max_iter: int,
    snapshot_iterations: Sequence[int],
    seed: int,
    initial: Optional[Weights] = None,
    show: Callable[[range], Iterator[int]] = iter,
) -> Training:
    """Train with the solver.prototxt and transfer_train.prototxt in `folder`, one iteration at a time.

    HDF5Data takes the rows in the order given and wraps at their end, in the middle of a batch (no shuffle, D8:
    Caffe's shuffle is not seeded). Everything is written to `folder`, which Caffe has as working directory
    meanwhile; transfer.caffemodel and the HDF5 file are left there.

    Parameters
    ----------
    features : (n, D) float32; labels : (n,) int32, 0..N2-1.
    snapshot_iterations : after how many iterations weights and momentum history (`<name>_history`) are kept.
    seed : Caffe's random seed, for the MSRA filler.
    initial : weights to start from in place of those that Caffe draws.
    show : wraps the range of iterations (a progress bar).

    Raises `UserError` where the loss stops being finite.
    """
    write_hdf5(folder, features, labels)
    with working_directory(folder):
        caffe.set_mode_cpu()
        caffe.set_random_seed(seed)
        solver = caffe.get_solver("solver.prototxt")
        if initial is not None:
            for blob, name in zip(parameter_blobs(solver.net), PARAMETERS):
                blob.data[...] = initial[name]
        drawn = weights_of(solver.net)
        loss = np.empty(max_iter, np.float32)
        snapshots = {}
        for iteration in show(range(max_iter)):
            solver.step(1)
            loss[iteration] = solver.net.blobs["loss"].data
            if not np.isfinite(loss[iteration]):
                raise UserError(f"{folder}: the loss is {loss[iteration]} at iteration {iteration}: lower "
                                "transfer.base_lr with SET=")  # fmt: skip
            if iteration + 1 in snapshot_iterations:
                snapshots[iteration + 1] = {**weights_of(solver.net), **momentum_history(solver, iteration + 1)}
        solver.net.save(WEIGHTS_FILE)
        return Training(drawn, weights_of(solver.net), loss, snapshots)


def write_hdf5(folder: Path, features: np.ndarray, labels: np.ndarray) -> None:
    """The rows as HDF5Data reads them (`data` and `label`, both float32), and the list that names the file."""
    with h5py.File(str(folder / HDF5_FILE), "w") as file:
        file.create_dataset("data", data=features.astype(np.float32))
        file.create_dataset("label", data=labels.astype(np.float32))
    (folder / HDF5_LIST).write_text(f"{HDF5_FILE}\n")


@contextlib.contextmanager
def working_directory(folder: Path) -> Iterator[None]:
    """Be in `folder` for a while: Caffe takes the paths in prototxts relative to where the process is."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def parameter_blobs(net: caffe.Net) -> list:
    """fc1's and fc2's weight and bias, in the order of `PARAMETERS`."""
    return [blob for layer in ("fc1", "fc2") for blob in net.params[layer]]


def weights_of(net: caffe.Net) -> Weights:
    """Copies of the net's weights by name."""
    return {name: blob.data.copy() for name, blob in zip(PARAMETERS, parameter_blobs(net))}


def momentum_history(solver: caffe.SGDSolver, iteration: int) -> Weights:
    """The solver's V of every parameter, by way of the .solverstate that Caffe writes; its files are deleted."""
    solver.snapshot()
    state_file = Path(f"transfer_iter_{iteration}.solverstate")
    state = caffe_pb2.SolverState()
    state.ParseFromString(state_file.read_bytes())
    state_file.unlink()
    state_file.with_suffix(".caffemodel").unlink()
    return {
        f"{name}_history": np.array(blob.data, np.float32).reshape(tuple(blob.shape.dim))
        for name, blob in zip(PARAMETERS, state.history)
    }


def last_bit_changed(array: np.ndarray, seed: int) -> np.ndarray:
    """float32 values moved to one of their two neighbours, by chance; zeros stay zero."""
    up = np.random.RandomState(seed).random_sample(array.shape) < 0.5
    neighbours = np.nextafter(array, np.where(up, np.inf, -np.inf).astype(np.float32))
    return np.where(array == 0, array, neighbours)


def run(stage: Stage) -> None:
    """Train in the stage's own folder, with the run's prototxts copied there unchanged."""
    spec = stage.spec["transfer"]
    for name in ("transfer_train.prototxt", "solver.prototxt"):
        shutil.copyfile(stage.prototxt(name), stage.out.new_file(name))
    initial = None
    drawn = [stage.draw(f"{name}_initial") for name in PARAMETERS]
    if all(array is not None for array in drawn):
        if stage.variation == "last-bit":
            drawn = [last_bit_changed(array, stage.seed("transfer-last-bit")) for array in drawn]
        initial = dict(zip(PARAMETERS, drawn))
    training = train(
        stage.out.path,
        np.array(stage.inputs.array("features", "lr_trainval")),
        np.array(stage.inputs.array("pseudo_labels", "labels")),
        spec["max_iter"],
        spec["snapshots"],
        stage.seed("transfer-init"),
        initial,
        lambda iterations: progress(iterations, spec["max_iter"], "iterations", "transfer"),
    )
    for name in PARAMETERS:
        stage.out.array(f"{name}_initial", training.initial[name])
        stage.out.array(name, training.final[name])
    stage.out.array("loss", training.loss)
    for iteration, arrays in training.snapshots.items():
        for name, array in arrays.items():
            stage.out.array(f"snapshots/{iteration}/{name}", array)
    stage.out.add_file("weights", WEIGHTS_FILE)
