"""Features computed otherwise (D9, D10, D38)."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from audit.decisions.otherwise.replacing import replaced
from torch_impl import caffe_net, features
from torch_impl.engines import Net


@contextmanager
def blob_2_ignored() -> Iterator[None]:
    """D9: BatchNorm takes its stored mean and variance as they stand in the file."""

    def batch_norm(layer: Any, bottoms: list[Tensor], blobs: list[Tensor]) -> Tensor:
        return F.batch_norm(bottoms[0], blobs[0], blobs[1], eps=layer.batch_norm_param.eps)

    with replaced(caffe_net.LAYERS, "BatchNorm", batch_norm):
        yield


@contextmanager
def pooling_rounded_down() -> Iterator[None]:
    """D10: the sizes of pooled blobs are rounded down."""
    plain = caffe_net.pooling

    def pooling(layer: Any, bottoms: list[Tensor], blobs: list[Tensor]) -> Tensor:
        down = type(layer)()
        down.CopyFrom(layer)
        down.pooling_param.round_mode = down.pooling_param.FLOOR
        return plain(down, bottoms, blobs)

    with replaced(caffe_net.LAYERS, "Pooling", pooling):
        yield


@contextmanager
def mirrored_too() -> Iterator[None]:
    """D38: a feature is the mean of the image's and its mirror image's."""
    plain = features.extract

    def extract(
        net: Net, images_bgr: np.ndarray, mean_bgr: np.ndarray, blob: str, found: np.ndarray, cuts: Iterable[slice]
    ) -> None:
        for rows in cuts:
            views = [images_bgr[rows], images_bgr[rows, :, ::-1]]
            means = np.zeros_like(found[rows])
            for view in views:
                one = np.empty_like(means)
                plain(net, np.ascontiguousarray(view), mean_bgr, blob, one, [slice(0, len(one))])
                means += one / len(views)
            found[rows] = means

    with replaced(features, "extract", extract):
        yield
