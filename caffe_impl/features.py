"""Stage features: the backbone's feature blob for HR and LR images of both splits."""

import caffe
import numpy as np

from caffe_impl.net import all_blobs, forward_images, load_net, read_mean, write_blobs
from experiment.artifacts import batches
from experiment.errors import UserError
from experiment.pipeline import Stage
from experiment.progress import progress
from experiment.stages import RESOLUTIONS, SPLITS


def extract_features(
    net: caffe.Net, images_bgr: np.ndarray, mean: np.ndarray, blob: str, batch_size: int, label: str = "features"
) -> np.ndarray:
    """Run images through a net in batches, the last one smaller, and keep one blob (paper 4.2).

    Parameters
    ----------
    images_bgr : (n, H, W, 3) uint8.
    mean : grey levels to subtract, float32, (3,) or (3, H, W), blue first.
    blob : the blob's name; it must have one row an image.

    Returns (n, D) float32, the blob's rows made flat. Raises `UserError` where the net has no such blob.
    """
    if blob not in net.blobs:
        raise UserError(f"features.blob = {blob!r} is no blob of the backbone: SET=features.blob=<one of its tops>")
    n = len(images_bgr)
    rows = []
    for batch in progress(batches(n, batch_size), n, "images", label, step=batch_size):
        forward_images(net, images_bgr[batch], mean)
        rows.append(net.blobs[blob].data.reshape(batch.stop - batch.start, -1).copy())
    return np.concatenate(rows)


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
            features = extract_features(net, images, mean, spec["blob"], batch_size, f"features {name}")
            stage.out.array(name, features)
    images = stage.inputs.array("images", "hr_trainval")[: spec["blob_images"]]
    write_blobs(stage.out, all_blobs(net, images, mean, stage.batch_size(len(images))))
