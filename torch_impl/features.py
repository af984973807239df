"""Stage features: the backbone's feature blob for HR and LR images of both splits."""

from collections.abc import Iterable
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch

from experiment.errors import UserError
from experiment.pipeline import Stage
from experiment.progress import progress
from experiment.stages import RESOLUTIONS, SPLITS
from torch_impl import engines, shards
from torch_impl.caffe_net import CaffeNet, arithmetic_of
from torch_impl.caffe_proto import read_binaryproto
from torch_impl.net_io import save_blobs, to_input

ARRAYS = [f"{resolution}_{split}" for split, resolution in product(SPLITS, RESOLUTIONS)]


def engine(asked: str, variation: str) -> dict[str, str]:
    """The versions of the engine that computes the features, its name among them. Raises `UserError`."""
    return engines.choose(asked, variation)


def run(stage: Stage) -> None:
    """Write <resolution>_<split> (n, D) float32, and every blob of the first HR trainval images.

    The features are the engine's; the blobs are always the port's own net's, since a folded net has not all of them.
    Where there are other processes (`torch_impl.sharded`), they compute their batches.
    """
    spec = stage.spec["features"]
    batch_size = spec["batch_size"]
    net, computing, mean_bgr = prepare(stage)
    for job, name in enumerate(ARRAYS):
        images_bgr = images_of(stage, name)
        shape = (len(images_bgr), *feature_shape(net, spec["blob"]))
        todo = stage.out.rows([name], shape, net.arithmetic.dtype_name, batch_size)
        cuts = progress(todo, todo.count, "images", f"features {name}", step=batch_size)
        if shards.count() == 1:
            extract(computing, images_bgr, mean_bgr, spec["blob"], todo.arrays[0], cuts)
        else:
            batch = partial(features_of, computing, images_bgr, mean_bgr, spec["blob"])
            shards.lead(job, todo.left, cuts, todo.arrays[0], batch)
    first = stage.inputs.array("images", "hr_trainval")[: spec["blob_images"]]
    save_blobs(stage.out, net.forward({"data": to_input(first, mean_bgr)}))


def serve(stage: Stage) -> None:
    """Compute batches for the process that runs the stage, until it lets this one go."""
    _, computing, mean_bgr = prepare(stage)
    for job, cuts in shards.jobs():
        images_bgr = images_of(stage, ARRAYS[job])
        shards.follow(cuts, partial(features_of, computing, images_bgr, mean_bgr, stage.spec["features"]["blob"]))


def prepare(stage: Stage) -> tuple[CaffeNet, engines.Net, np.ndarray]:
    """The port's own net, what computes the features, and the mean to subtract."""
    spec = stage.spec["features"]
    weights = stage.external("weights")
    assert weights is not None
    net = CaffeNet(stage.prototxt("backbone.prototxt"), arithmetic=arithmetic_of(stage.variation)).load(weights)
    feature_shape(net, spec["blob"])  # first, as it says what is wrong with a blob that there is not
    computing = engines.build(stage.engine, net, spec["blob"])
    return net, computing, read_mean(spec["mean"], spec["mean_bgr"], stage.external("mean"))


def images_of(stage: Stage, name: str) -> np.ndarray:
    """The images that an array of features is of, (n, h, w, 3) uint8."""
    return stage.inputs.array("images", name)[: stage.limit]


def feature_shape(net: CaffeNet, blob: str) -> tuple[int]:
    """The feature's length: the blob of one image, flattened."""
    if blob not in net.blob_shapes:
        raise UserError(f"features.blob = {blob!r} is no blob of {net.path}")
    return (int(np.prod(net.blob_shapes[blob][1:])),)


def extract(
    net: engines.Net,
    images_bgr: np.ndarray,
    mean_bgr: np.ndarray,
    blob: str,
    features: np.ndarray,
    cuts: Iterable[slice],
) -> None:
    """Fill `features` (n, D) float32 with a blob of the net for images_bgr (n, h, w, 3) uint8, batch by batch."""
    for rows in cuts:
        features[rows] = features_of(net, images_bgr, mean_bgr, blob, rows)


@torch.inference_mode()
def features_of(net: engines.Net, images_bgr: np.ndarray, mean_bgr: np.ndarray, blob: str, rows: slice) -> np.ndarray:
    """A blob of the net for some of the images, (rows, D)."""
    outputs = net.forward({"data": to_input(images_bgr[rows], mean_bgr)}, [blob])
    return outputs[blob].flatten(1).numpy()


def read_mean(kind: str, mean_bgr: list[float], path: Path | None) -> np.ndarray:
    """The mean to subtract, float32: (3,) channel means, or the mean file's (3, h, w)."""
    if kind == "channels":
        return np.array(mean_bgr, dtype=np.float32)
    assert path is not None  # resolve refuses features.mean = "file" without a file
    return read_binaryproto(path)
