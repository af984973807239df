"""Runs in the container: `python3 -m tests.caffe_impl.cases FOLDER` computes every case below.

FOLDER/prototxt/<net>/ holds the generated prototxts. Each case returns a dict: its arrays go to
FOLDER/<case>.npz, the rest to FOLDER/<case>.json; an exception goes to FOLDER/<case>.error.
"""

# ruff: noqa: B905 (zip has no strict= under Python 3.9)

import json
import os
import shutil
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.update({"GLOG_minloglevel": "2"})

import caffe
import cv2
import numpy as np
from caffe.proto import caffe_pb2

from caffe_impl import clusters, features, net, resnet101, svm, transfer, transfer_features
from experiment.artifacts import batches
from experiment.errors import UserError

PIXELS = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 6 dim: 4 } } }
layer { name: "mean" type: "Pooling" bottom: "data" top: "mean" pooling_param { pool: AVE global_pooling: true } }
"""


def refused(function):
    """The message of the UserError that a call ends with, or "accepted"."""
    try:
        function()
    except UserError as error:
        return str(error)
    return "accepted"


def weights_that_do_not_fit(folder):
    """Every way in which a caffemodel can be wrong for a net, and some in which it is not."""
    prototxt = folder / "prototxt/small/backbone.prototxt"
    drawn = net.load_net(prototxt)
    resnet101.draw_weights(drawn, 7)
    good_file = folder / "small.caffemodel"
    drawn.save(str(good_file))
    good = caffe_pb2.NetParameter()
    good.ParseFromString(good_file.read_bytes())

    def attempt(name, change):
        model = caffe_pb2.NetParameter()
        model.CopyFrom(good)
        change(model, {layer.name: layer for layer in model.layer})
        path = folder / f"{name}.caffemodel"
        path.write_bytes(model.SerializeToString())
        return refused(lambda: net.load_net(prototxt, path))

    def legacy(model, layers):
        for layer in model.layer:
            for blob in layer.blobs:
                dims = [1] * (4 - len(blob.shape.dim)) + list(blob.shape.dim)
                blob.num, blob.channels, blob.height, blob.width = dims
                blob.ClearField("shape")

    cut = folder / "cut.caffemodel"
    cut.write_bytes(good_file.read_bytes()[:-100])
    found = {
        "good": attempt("good", lambda model, layers: None),
        "legacy": attempt("legacy", legacy),
        "extra": attempt("extra", lambda model, layers: model.layer.add(name="unknown", type="ReLU")),
        "missing": attempt("missing", lambda model, layers: model.layer.remove(layers["bn3b_branch2b"])),
        "renamed": attempt("renamed", lambda model, layers: setattr(layers["conv1"], "name", "conv_1")),
        "shape": attempt("shape", lambda model, layers: layers["fc5"].blobs[0].shape.dim.__setitem__(0, 6)),
        "values": attempt("values", lambda model, layers: layers["scale_conv1"].blobs[1].data.pop()),
        "count": attempt("count", lambda model, layers: layers["bn_conv1"].blobs.__delitem__(2)),
        "nan": attempt("nan", lambda model, layers: layers["fc5"].blobs[1].data.__setitem__(0, float("nan"))),
        "cut": refused(lambda: net.load_net(prototxt, cut)),
        "text": refused(lambda: net.load_net(prototxt, prototxt)),
        "absent": refused(lambda: net.load_net(prototxt, folder / "absent.caffemodel")),
    }
    same = True
    for path in (good_file, folder / "legacy.caffemodel"):
        loaded = net.load_net(prototxt, path)
        for layer, blobs in drawn.params.items():
            for ours, theirs in zip(blobs, loaded.params[layer]):
                same = same and bool((ours.data == theirs.data).all())
    return {"found": found, "loaded_values_are_the_saved": same}


def feature_batches(folder):
    """Features of the small backbone in batches of every size, and one image at a time."""
    backbone = net.load_net(folder / "prototxt/small/backbone.prototxt")
    resnet101.draw_weights(backbone, 3)
    images = np.random.RandomState(0).randint(0, 256, (7, 32, 32, 3)).astype(np.uint8)
    mean = np.array([100, 110, 120], np.float32)
    result = {f"batch_{size}": features_of(backbone, images, mean, "pool5", size) for size in (1, 2, 3, 7, 20)}
    result["wrong_blob"] = refused(lambda: features_of(backbone, images, mean, "pool6", 2))
    result["wrong_size"] = refused(lambda: features_of(backbone, np.zeros((2, 32, 31, 3), np.uint8), mean, "pool5", 2))
    return result


def mean_subtraction(folder):
    """What a net sees of an image: the mean over the pixels of its data blob, by channel means and by mean image."""
    prototxt = folder / "pixels.prototxt"
    prototxt.write_text(PIXELS)
    pixels = net.load_net(prototxt)
    random = np.random.RandomState(1)
    images = random.randint(0, 256, (5, 6, 4, 3)).astype(np.uint8)
    mean_image = random.uniform(90, 130, (3, 6, 4)).astype(np.float32)
    path = folder / "mean.binaryproto"
    path.write_bytes(caffe.io.array_to_blobproto(mean_image[np.newaxis]).SerializeToString())
    channels = np.array([1.5, 20.25, 100.0], np.float32)
    cut = folder / "cut.binaryproto"
    cut.write_bytes(path.read_bytes()[:-10])
    by_channels = features_of(pixels, images, channels, "mean", 2)
    data = pixels.blobs["data"].data.copy()
    return {
        "images": images,
        "mean_image": mean_image,
        "channels": channels,
        "by_channels": by_channels,
        "last_batch": data,
        "by_image": features_of(pixels, images, net.read_mean(path, (3, 6, 4)), "mean", 2),
        "mean_of_another_size": refused(lambda: net.read_mean(path, (3, 4, 6))),
        "mean_cut_short": refused(lambda: net.read_mean(cut, (3, 6, 4))),
        "mean_absent": refused(lambda: net.read_mean(folder / "absent", (3, 6, 4))),
    }


def features_of(network, images, mean, blob, batch_size):
    """All images' features, in batches of that size."""
    found = np.empty((len(images), features.feature_length(network, blob)), np.float32)
    features.extract_features(network, images, mean, blob, found, batches(len(images), batch_size))
    return found


def training_folder(folder, net_name):
    """A new folder with a net's training prototxts."""
    target = folder / f"train-{net_name}-{len(list(folder.glob('train-*')))}"
    target.mkdir()
    for name in ("transfer_train.prototxt", "solver.prototxt"):
        shutil.copyfile(str(folder / "prototxt" / net_name / name), str(target / name))
    return target


def run_training(target, rows, labels, count, seed, initial=None):
    """A training after `count` iterations, its losses, and after each the weights and momentum history."""
    training = transfer.Training(target, rows, labels, seed, initial)
    losses, states = [], {}
    for iteration in range(1, count + 1):
        losses.append(training.step())
        history = transfer.momentum_history(training.snapshot()[f"transfer_iter_{iteration}.solverstate"])
        states[iteration] = {**training.weights(), **history}
    return training, losses, states


def five_rows(folder):
    """Five rows in batches of three over a schedule with two lr steps, every iteration's weights and history kept."""
    random = np.random.RandomState(5)
    rows, labels = random.normal(size=(5, 12)).astype(np.float32), np.array([0, 2, 1, 1, 0], np.int32)
    target = training_folder(folder, "small")
    before = os.getcwd()
    trained, losses, states = run_training(target, rows, labels, 10, 11)
    result = {
        "rows": rows,
        "labels": labels,
        "loss": np.array(losses, np.float32),
        "left": sorted(path.name for path in target.iterdir()),
        "working_directory_kept": os.getcwd() == before,
    }
    result.update({f"initial/{name}": array for name, array in trained.initial.items()})
    result.update({f"final/{name}": array for name, array in trained.weights().items()})
    for iteration, arrays in states.items():
        result.update({f"{iteration}/{name}": array for name, array in arrays.items()})
    saved = net.load_net(folder / "prototxt/small/transfer_deploy.prototxt", trained.files()[1])
    result["saved/fc1_weight"] = saved.params["fc1"][0].data
    given = {name: np.full_like(array, 0.01) for name, array in trained.initial.items()}
    again = transfer.Training(training_folder(folder, "small"), rows, labels, 11, given)
    result["given/fc1_weight"] = again.initial["fc1_weight"]
    # Stopped after every iteration and gone on with from Caffe's own snapshot, in a solver made anew each time.
    content = None
    for iteration in range(1, 11):
        training = transfer.Training(training_folder(folder, "small"), rows, labels, 11)
        if content is not None:
            training.restore(content)
        training.step()
        content = training.snapshot()
        history = transfer.momentum_history(content[f"transfer_iter_{iteration}.solverstate"])
        for name, array in {**training.weights(), **history}.items():
            result[f"resumed/{iteration}/{name}"] = array
    return result


def divergence(folder):
    """A learning rate far too great."""
    target = training_folder(folder, "diverging")
    rows = np.random.RandomState(5).normal(size=(5, 4)).astype(np.float32)
    labels = np.array([0, 2, 1, 1, 0], np.int32)
    before = os.getcwd()
    message = refused(lambda: run_training(target, rows, labels, 50, 1))
    return {"message": message, "working_directory_kept": os.getcwd() == before}


def filler(folder):
    """Initial weights of wide layers by each variance_norm, and by equal and different seeds."""
    rows, labels = np.zeros((4, 400), np.float32), np.zeros(4, np.int32)
    result = {}
    for name, seed in (("FAN_IN", 1), ("FAN_OUT", 1), ("AVERAGE", 1), ("FAN_IN", 2)):
        initial = transfer.Training(training_folder(folder, f"wide-{name}"), rows, labels, seed).initial
        result.update({f"{name}/{seed}/{key}": array for key, array in initial.items()})
    again = transfer.Training(training_folder(folder, "wide-FAN_IN"), rows, labels, 1).initial
    result["repeated"] = all(bool((array == result[f"FAN_IN/1/{key}"]).all()) for key, array in again.items())
    return result


def transferred(folder):
    """The deployed transfer network over more rows than one batch holds."""
    network = net.load_net(folder / "prototxt/small/transfer_deploy.prototxt")
    random = np.random.RandomState(2)
    result = {}
    for layer in ("fc1", "fc2"):
        for blob, kind in zip(network.params[layer], ("weight", "bias")):
            blob.data[...] = random.normal(size=blob.data.shape)
            result[f"{layer}_{kind}"] = blob.data.copy()
    dimension = network.blobs["data"].data.shape[1]
    rows = random.normal(size=(transfer_features.ROWS_PER_BATCH + 7, dimension)).astype(np.float32)
    result["rows"] = rows
    for blob in ("fc1", "fc2", "prob"):
        result[blob] = transfer_features.apply_transfer(network, rows, blob)
    return result


def kmeans(folder):
    """k-means from drawn centroids, and the warning-free case of a few far groups."""
    rows = np.random.RandomState(3).normal(size=(200, 5)).astype(np.float32)
    rows[::3] += 2
    initial = clusters.draw_centroids(rows, 6, "random", 1)
    centroids, assignments, inertia, iterations = clusters.fit_clusters(rows, initial, 300, 0.0)
    one_iteration = clusters.fit_clusters(rows, initial, 1, 0.0)[0]
    return {
        "rows": rows,
        "initial": initial,
        "centroids": centroids,
        "assignments": assignments,
        "inertia": inertia,
        "iterations": iterations,
        "one_iteration": one_iteration,
    }


def machines(folder):
    """SVMs on overlapping classes; the label that comes first in the list is 1, -1 and 0 in turn."""
    random = np.random.RandomState(4)
    train, test = random.normal(size=(80, 6)).astype(np.float32), random.normal(size=(30, 6)).astype(np.float32)
    labels = np.where(train @ random.normal(size=(6, 3)) + random.normal(size=(80, 3)) > 0.7, 1, -1).astype(np.int8)
    labels[random.permutation(80)[:10]] = 0
    labels[0] = (1, -1, 0)
    parameter = svm.linear_parameter(0.5, 1e-9)
    train_nodes, test_nodes = svm.Nodes(train), svm.Nodes(test)

    def fit(column):
        return svm.train_class(train_nodes, labels[:, column], test_nodes, parameter)

    one_by_one = [fit(column) for column in range(3)]
    start = threading.Barrier(3)

    def fit_together(column):
        start.wait()
        return fit(column)

    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(fit_together, range(3)))
    return {
        "train": train,
        "test": test,
        "labels": labels,
        "decision": np.stack([machine.decision for machine in one_by_one]),
        "dual": np.stack([machine.dual for machine in one_by_one]),
        "rho": np.array([machine.rho for machine in one_by_one]),
        "objective": np.array([machine.objective for machine in one_by_one]),
        "threads_change_nothing": all(
            bool((a.decision == b.decision).all() and (a.dual == b.dual).all()) for a, b in zip(one_by_one, together)
        ),
    }


def seeded_resnet101(folder):
    """The full ResNet-101 with drawn weights on one image of noise: what its blobs look like."""
    network = net.load_net(folder / "prototxt/small/resnet101.prototxt")
    resnet101.draw_weights(network, 1)
    image = np.random.RandomState(1).randint(0, 256, (1, 224, 224, 3)).astype(np.uint8)
    net.forward_images(network, image, np.array([103, 116, 123], np.float32))
    smaller = net.load_net(folder / "prototxt/small/backbone.prototxt")
    drawn = []
    for seed in (1, 1, 2):
        resnet101.draw_weights(smaller, seed)
        drawn.append(np.concatenate([blob.data.ravel() for blobs in smaller.params.values() for blob in blobs]))
    return {
        "greatest": {name: float(np.abs(blob.data).max()) for name, blob in network.blobs.items()},
        "spread": {name: float(blob.data.std()) for name, blob in network.blobs.items()},
        "prob": network.blobs["prob"].data.ravel(),
        "factors": sorted({float(blobs[2].data) for blobs in network.params.values() if len(blobs) == 3}),
        "same_seed_same_weights": bool((drawn[0] == drawn[1]).all()),
        "other_seed_other_weights": float((drawn[0] != drawn[2]).mean()),
    }


def jpeg_cut_short(folder):
    """What the container's OpenCV makes of a JPEG that is cut short."""
    smooth = cv2.GaussianBlur(np.random.RandomState(2).randint(0, 256, (60, 80, 3)).astype(np.uint8), (0, 0), 2)
    data = cv2.imencode(".jpg", smooth)[1].ravel()
    whole, cut = (cv2.imdecode(part, cv2.IMREAD_COLOR) for part in (data, data[: len(data) * 3 // 4]))
    return {"whole": whole, "cut": cut}


CASES = (
    weights_that_do_not_fit,
    feature_batches,
    mean_subtraction,
    five_rows,
    divergence,
    filler,
    transferred,
    kmeans,
    machines,
    seeded_resnet101,
    jpeg_cut_short,
)


def main(folder):
    """Compute all cases; one that fails does not keep the others from their turn."""
    for case in CASES:
        try:
            result = case(folder)
        except Exception:
            (folder / f"{case.__name__}.error").write_text(traceback.format_exc())
            continue
        arrays = {name: value for name, value in result.items() if isinstance(value, np.ndarray)}
        np.savez(str(folder / f"{case.__name__}.npz"), **arrays)
        rest = {name: value for name, value in result.items() if name not in arrays}
        (folder / f"{case.__name__}.json").write_text(json.dumps(rest))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
