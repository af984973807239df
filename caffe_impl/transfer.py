"""Stage transfer: train the transfer network with Caffe's own solver on LR features and pseudo-labels."""

import contextlib
import math
import os
import shutil
from pathlib import Path
from typing import Iterator, Mapping, Optional, Sequence

import caffe
import h5py
import numpy as np
from caffe.proto import caffe_pb2

from experiment.errors import UserError
from experiment.pipeline import Stage
from experiment.progress import progress

HDF5_FILE = "transfer_train.h5"
HDF5_LIST = "transfer_train.txt"  # the source that transfer_train.prototxt names
PARAMETERS = ("fc1_weight", "fc1_bias", "fc2_weight", "fc2_bias")  # in the solver's order

Weights = dict[str, np.ndarray]


class Training:
    """Caffe's solver at work in a folder that holds solver.prototxt and transfer_train.prototxt.

    HDF5Data takes the rows in the order given and wraps at their end, in the middle of a batch (no shuffle, D8:
    Caffe's shuffle is not seeded). Everything is written to the folder, which Caffe has as working directory
    meanwhile; the HDF5 file is left there.

    Parameters
    ----------
    features : (n, D) float32; labels : (n,) int32, 0..N2-1.
    seed : Caffe's random seed, for the MSRA filler.
    initial : weights to start from in place of those that Caffe draws.

    Attributes
    ----------
    initial : the weights before the first iteration.
    """

    def __init__(
        self, folder: Path, features: np.ndarray, labels: np.ndarray, seed: int, initial: Optional[Weights] = None
    ) -> None:
        self.folder = folder
        self.n = len(features)
        write_hdf5(folder, features, labels)
        with working_directory(folder):
            caffe.set_mode_cpu()
            caffe.set_random_seed(seed)
            self.solver = caffe.get_solver("solver.prototxt")
        if initial is not None:
            for blob, name in zip(parameter_blobs(self.solver.net), PARAMETERS):
                blob.data[...] = initial[name]
        self.initial = self.weights()

    @property
    def iteration(self) -> int:
        """Updates done so far."""
        return int(self.solver.iter)

    def step(self) -> float:
        """One iteration; returns the loss of its batch before the update. Raises `UserError` where it is not finite."""
        with working_directory(self.folder):
            self.solver.step(1)
        loss = float(self.solver.net.blobs["loss"].data)
        if not np.isfinite(loss):
            raise UserError(f"{self.folder}: the loss is {loss} at iteration {self.iteration - 1}: lower "
                            "transfer.base_lr with SET=")  # fmt: skip
        return loss

    def weights(self) -> Weights:
        """Copies of the weights by name."""
        return {name: blob.data.copy() for name, blob in zip(PARAMETERS, parameter_blobs(self.solver.net))}

    def files(self) -> tuple[Path, Path]:
        """Caffe's own snapshot: a .solverstate, which names the .caffemodel, and that."""
        with working_directory(self.folder):
            self.solver.snapshot()
        state = self.folder / f"transfer_iter_{self.iteration}.solverstate"
        return state, state.with_suffix(".caffemodel")

    def snapshot(self) -> dict[str, bytes]:
        """The bytes of Caffe's two files by their names, from which `restore` goes on; the files are deleted."""
        content = {}
        for path in self.files():
            content[path.name] = path.read_bytes()
            path.unlink()
        return content

    def restore(self, content: Mapping[str, bytes]) -> None:
        """Go on from a snapshot, as if training had never stopped.

        Caffe's state knows nothing of where HDF5Data was, so the batches that were used are read past.
        """
        for name, data in content.items():
            (self.folder / name).write_bytes(data)
        with working_directory(self.folder):
            self.solver.restore(next(name for name in content if name.endswith(".solverstate")))
        for name in content:
            (self.folder / name).unlink()
        batch_size = len(self.solver.net.blobs["data"].data)
        for _ in range(self.iteration % (self.n // math.gcd(self.n, batch_size))):  # then it is where it began
            self.solver.net.forward(end="data")


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


def momentum_history(solverstate: bytes) -> Weights:
    """The solver's V of every parameter, as `<name>_history`, from what Caffe writes as .solverstate."""
    state = caffe_pb2.SolverState()
    state.ParseFromString(solverstate)
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
    training = Training(
        stage.out.path,
        np.array(stage.inputs.array("features", "lr_trainval")),
        np.array(stage.inputs.array("pseudo_labels", "labels")),
        stage.seed("transfer-init"),
        initial,
    )
    for name in PARAMETERS:
        stage.out.array(f"{name}_initial", training.initial[name])
    loss = np.empty(spec["max_iter"], np.float32)
    resume(stage, training, spec["snapshots"], loss)
    left = spec["max_iter"] - training.iteration
    for iteration in progress(range(training.iteration, spec["max_iter"]), left, "iterations", "transfer"):
        loss[iteration] = training.step()
        done = training.iteration
        if done in spec["snapshots"] or stage.out.checkpoint_is_due():
            content = training.snapshot()
            if done in spec["snapshots"]:
                history = momentum_history(content[f"transfer_iter_{done}.solverstate"])
                for name, array in {**training.weights(), **history}.items():
                    stage.out.array(f"snapshots/{done}/{name}", array)
            if stage.out.checkpoint_is_due():
                files = {name: np.frombuffer(data, np.uint8) for name, data in content.items()}
                stage.out.checkpoint({"loss": loss[:done], **files})
    for name, array in training.weights().items():
        stage.out.array(name, array)
    stage.out.array("loss", loss)
    for kind, path in zip(("solverstate", "weights"), training.files()):
        stage.out.add_file(kind, path.name)


def resume(stage: Stage, training: Training, snapshots: Sequence[int], loss: np.ndarray) -> None:
    """Go on from the last checkpoint where the snapshots before it are all there; fills `loss` so far."""
    state = stage.out.last_checkpoint()
    if state is None:
        return
    done = len(state["loss"])
    names = [name + kind for name in PARAMETERS for kind in ("", "_history")]
    if stage.out.has(*(f"snapshots/{i}/{name}" for i in snapshots if i <= done for name in names)):
        loss[:done] = state.pop("loss")
        training.restore({name: data.tobytes() for name, data in state.items()})
