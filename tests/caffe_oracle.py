"""Runs inside the container: computes cases with Caffe. `python3 tests/caffe_oracle.py CASES RESULTS`.

A case is a folder with case.json, whose "kind" is a function below, and what that function reads: net.prototxt,
inputs/<blob>.npy, parameters/<layer>.<number>.npy, any other file that its prototxts name. It is copied to RESULTS
and computed there, in a process of its own, because Caffe aborts the whole process where it refuses something: the
exit status goes to the result's `status`, what was printed to `stderr`.
"""

import json
import os
import shutil
import sys
import traceback
from pathlib import Path

import caffe
import numpy as np
from caffe.io import blobproto_to_array
from caffe.proto import caffe_pb2


def net(settings):
    """Load net.prototxt, set inputs and parameters (where `draw` is true, random ones), write what `outputs` names.

    outputs: "blobs" (after a forward pass), "gradients" (of the loss by the parameters, after a backward pass),
    "parameters", "caffemodel". Shapes and layer types are always written.
    """
    caffe.set_random_seed(settings.get("seed", 1))
    weights = [settings["weights"]] if "weights" in settings else []
    built = caffe.Net("net.prototxt", *weights, caffe.TEST)
    set_parameters(built)
    if settings.get("draw"):
        draw_parameters(built)
    for path in sorted(Path("inputs").glob("*.npy")):
        array = np.load(str(path))
        built.blobs[path.stem].reshape(*array.shape)
        built.blobs[path.stem].data[...] = array
    built.reshape()
    outputs = settings["outputs"]
    if "blobs" in outputs:
        built.forward()
        save_arrays("blobs", {name: blob.data for name, blob in built.blobs.items()})
    if "gradients" in outputs:
        built.clear_param_diffs()
        built.backward()
        save_arrays("gradients", numbered(built, lambda blob: blob.diff))
    if "parameters" in outputs:
        save_arrays("parameters_out", numbered(built, lambda blob: blob.data))
    if "caffemodel" in outputs:
        built.save("saved.caffemodel")
    shapes = {
        "blobs": {name: list(blob.data.shape) for name, blob in built.blobs.items()},
        "layers": [[name, layer.type] for name, layer in built.layer_dict.items()],
        "parameters": {name: [list(blob.data.shape) for blob in blobs] for name, blobs in built.params.items()},
    }
    Path("shapes.json").write_text(json.dumps(shapes))


def solver(settings):
    """Train by solver.prototxt for `steps` iterations, keeping parameters and history after those in `keep`.

    Writes per_iteration/loss, rate and data: what each iteration had at its update.
    """
    caffe.set_random_seed(settings.get("seed", 1))
    trained = caffe.get_solver("solver.prototxt")
    set_parameters(trained.net)
    loss, rate, data = [], [], []
    for iteration in range(1, settings["steps"] + 1):
        rate.append(trained.lr)
        trained.step(1)
        loss.append(trained.net.blobs["loss"].data.copy())
        data.append(trained.net.blobs["data"].data.copy())
        if iteration in settings["keep"]:
            trained.snapshot()
            state = caffe_pb2.SolverState()
            state.ParseFromString(Path(f"snapshot_iter_{iteration}.solverstate").read_bytes())
            parameters = numbered(trained.net, lambda blob: blob.data)
            save_arrays(f"{iteration}/parameters", parameters)
            for i, name in enumerate(parameters):
                save_arrays(f"{iteration}/history", {name: blobproto_to_array(state.history[i])})
    save_arrays("per_iteration", {"loss": np.array(loss), "rate": np.array(rate), "data": np.array(data)})


def binaryproto(settings):
    """Write mean.npy as a mean file by caffe.io."""
    blob = caffe.io.array_to_blobproto(np.load("mean.npy"))
    Path("mean.binaryproto").write_bytes(blob.SerializeToString())


def set_parameters(built):
    """Copy parameters/<layer>.<number>.npy into the net; another shape than the net's is an error."""
    for path in sorted(Path("parameters").glob("*.npy")):
        layer, number = path.stem.rsplit(".", 1)
        array = np.load(str(path))
        blob = built.params[layer][int(number)]
        if blob.data.shape != array.shape:
            raise ValueError(f"{path}: Caffe's shape is {blob.data.shape}, the case has {array.shape}")
        blob.data[...] = array


def draw_parameters(built):
    """Random parameters that keep a deep net's activations near 1; BatchNorm's are sums over its scale factor."""
    random = np.random.RandomState(0)
    for layer in built.layer_dict.values():
        for i, blob in enumerate(layer.blobs):
            values = random.standard_normal(blob.data.shape)
            if layer.type == "BatchNorm":
                values = [values * 50, (values**2 + 0.5) * 500, np.array([500])][i]
            elif i == 0 and layer.type != "Scale":
                values /= np.sqrt(values[0].size)
            blob.data[...] = values


def numbered(built, value):
    """<layer>.<number> to a value of each parameter blob, in Caffe's order."""
    return {f"{layer}.{i}": value(blob) for layer, blobs in built.params.items() for i, blob in enumerate(blobs)}


def save_arrays(folder, arrays):
    """Write arrays as <folder>/<name>.npy."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(f"{folder}/{name}.npy", array)


def run_case(folder):
    """Compute the case in `folder` in a child process; returns its exit status as waitpid gives it."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        os.chdir(folder)
        os.dup2(os.open("stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), 2)
        settings = json.loads(Path("case.json").read_text())
        KINDS[settings["kind"]](settings)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


KINDS = {"net": net, "solver": solver, "binaryproto": binaryproto}

if __name__ == "__main__":
    caffe.set_mode_cpu()
    for case in sorted(Path(sys.argv[1]).iterdir()):
        result = Path(sys.argv[2]) / case.name
        shutil.copytree(str(case), str(result))
        (result / "status").write_text(str(run_case(str(result))))
