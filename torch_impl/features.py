"""Stage features: the backbone's feature blob for HR and LR images of both splits."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from experiment.errors import UserError
from experiment.pipeline import Stage
from experiment.progress import progress
from experiment.stages import RESOLUTIONS, SPLITS
from torch_impl.caffe_net import CaffeNet, arithmetic_of
from torch_impl.caffe_proto import read_binaryproto
from torch_impl.net_io import save_blobs, to_input


def run(stage: Stage) -> None:
    """Write <resolution>_<split> (n, D) float32, and every blob of the first HR trainval images."""
    spec = stage.spec["features"]
    batch_size = spec["batch_size"]
    weights = stage.external("weights")
    assert weights is not None
    net = CaffeNet(stage.prototxt("backbone.prototxt"), arithmetic=arithmetic_of(stage.variation)).load(weights)
    mean_bgr = read_mean(spec["mean"], spec["mean_bgr"], stage.external("mean"))
    for split in SPLITS:
        for resolution in RESOLUTIONS:
            images_bgr = stage.inputs.array("images", f"{resolution}_{split}")[: stage.limit]
            shape = (len(images_bgr), *feature_shape(net, spec["blob"]))
            name = f"{resolution}_{split}"
            todo = stage.out.rows([name], shape, net.arithmetic.dtype_name, batch_size)
            cuts = progress(todo, todo.count, "images", f"features {name}", step=batch_size)
            extract(net, images_bgr, mean_bgr, spec["blob"], todo.arrays[0], cuts)
    first = stage.inputs.array("images", "hr_trainval")[: spec["blob_images"]]
    save_blobs(stage.out, net.forward({"data": to_input(first, mean_bgr)}))


def feature_shape(net: CaffeNet, blob: str) -> tuple[int]:
    """The feature's length: the blob of one image, flattened."""
    if blob not in net.blob_shapes:
        raise UserError(f"features.blob = {blob!r} is no blob of {net.path}")
    return (int(np.prod(net.blob_shapes[blob][1:])),)


@torch.inference_mode()
def extract(
    net: CaffeNet,
    images_bgr: np.ndarray,
    mean_bgr: np.ndarray,
    blob: str,
    features: np.ndarray,
    cuts: Iterable[slice],
) -> None:
    """Fill `features` (n, D) float32 with a blob of the net for images_bgr (n, h, w, 3) uint8, batch by batch."""
    for rows in cuts:
        outputs = net.forward({"data": to_input(images_bgr[rows], mean_bgr)}, [blob])
        features[rows] = outputs[blob].flatten(1).numpy()


def read_mean(kind: str, mean_bgr: list[float], path: Path | None) -> np.ndarray:
    """The mean to subtract, float32: (3,) channel means, or the mean file's (3, h, w)."""
    if kind == "channels":
        return np.array(mean_bgr, dtype=np.float32)
    assert path is not None  # resolve refuses features.mean = "file" without a file
    return read_binaryproto(path)
