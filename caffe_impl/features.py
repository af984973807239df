"""Stage features: the backbone's feature blob for HR and LR images of both splits."""

from typing import Iterable

import caffe
import numpy as np

from caffe_impl.net import all_blobs, forward_images, load_net, read_mean, write_blobs
from experiment.errors import UserError
from experiment.pipeline import Stage
from experiment.progress import progress
from experiment.stages import RESOLUTIONS, SPLITS


def extract_features(
    net: caffe.Net, images_bgr: np.ndarray, mean: np.ndarray, blob: str, features: np.ndarray, cuts: Iterable[slice]
) -> None:
    """Run images through a net, batch by batch, and keep one blob (paper 4.2).

    Parameters
    ----------
    images_bgr : (n, H, W, 3) uint8.
    mean : grey levels to subtract, float32, (3,) or (3, H, W), blue first.
    blob : the blob's name; it must have one row an image.
    features : (n, D) float32, filled with the blob's rows made flat.
    cuts : the batches.
    """
    for batch in cuts:
        forward_images(net, images_bgr[batch], mean)
        features[batch] = net.blobs[blob].data.reshape(batch.stop - batch.start, -1)


def feature_length(net: caffe.Net, blob: str) -> int:
    """How many values of a blob there are an image. Raises `UserError` where the net has no such blob."""
    if blob not in net.blobs:
        raise UserError(f"features.blob = {blob!r} is no blob of the backbone: SET=features.blob=<one of its tops>")
    return int(np.prod(net.blobs[blob].data.shape[1:]))


def run(stage: Stage) -> None:
    """Features of all images, and every blob of the first HR trainval images."""
    spec = stage.spec["features"]
    batch_size = stage.batch_size(spec["batch_size"])
    net = load_net(stage.prototxt("backbone.prototxt"), stage.external("weights"))
    mean = np.array(spec["mean_bgr"], np.float32)
    if spec["mean"] == "file":
        mean = read_mean(stage.external("mean"), tuple(net.blobs["data"].data.shape[1:]))
    for split in SPLITS:
        for resolution in RESOLUTIONS:
            name = f"{resolution}_{split}"
            images = stage.inputs.array("images", name)[: stage.limit]
            shape = (len(images), feature_length(net, spec["blob"]))
            todo = stage.out.rows([name], shape, "float32", batch_size)
            cuts = progress(todo, todo.count, "images", f"features {name}", step=batch_size)
            extract_features(net, images, mean, spec["blob"], todo.arrays[0], cuts)
    images = stage.inputs.array("images", "hr_trainval")[: spec["blob_images"]]
    write_blobs(stage.out, all_blobs(net, images, mean, stage.batch_size(len(images))))
