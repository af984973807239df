"""LR images made otherwise (D24, D31, D32). HR images stay as they are, except where the kernel itself is another."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from audit.decisions.otherwise.replacing import replaced
from torch_impl import images

Resize = Callable[[np.ndarray, int], np.ndarray]  # (h, w, 3) to (size, size, 3)


@contextmanager
def unrounded() -> Iterator[None]:
    """D24: the four taps' weights are not rounded to 1/2048; PyTorch's bicubic has the same kernel, a = -0.75."""

    def four_taps(image: Tensor, size: int, dtype: torch.dtype = torch.float64) -> Tensor:
        planes = image.permute(2, 0, 1)[None].double()
        resized = F.interpolate(planes, (size, size), mode="bicubic", align_corners=False)
        return resized[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8)

    with replaced(images, "bicubic_four_taps", four_taps):
        yield


@contextmanager
def bilinear_up() -> Iterator[None]:
    """D31: OpenCV's bilinear sizes up."""
    with lr_by(taps, lambda image, size: cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)):
        yield


@contextmanager
def area_down() -> Iterator[None]:
    """D31: OpenCV's mean of each pixel's area sizes down."""
    with lr_by(lambda image, size: cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA), taps):
        yield


@contextmanager
def real_grey_levels() -> Iterator[None]:
    """D32: the small image is neither rounded nor clamped; the four taps and their weights are the stage's own."""

    def real(image: np.ndarray, size: int) -> np.ndarray:
        columns, column_weights = images.cubic_taps(image.shape[1], size)
        rows, row_weights = images.cubic_taps(image.shape[0], size)
        across = (torch.from_numpy(image).double()[:, columns] * column_weights[:, :, None]).sum(2)
        return (across[rows] * row_weights[:, :, None, None]).sum(1).numpy()

    with lr_by(real, lambda image, size: np.rint(real(image, size)).clip(0, 255).astype(np.uint8)):
        yield


def taps(image: np.ndarray, size: int) -> np.ndarray:
    """The stage's own bicubic."""
    return images.bicubic_four_taps(torch.from_numpy(image), size).numpy()


@contextmanager
def lr_by(down: Resize, up: Resize) -> Iterator[None]:
    """LR is resized by these two; HR as ever."""
    plain = images.make_pair

    def make_pair(original_bgr: np.ndarray, hr_size: int, lr_size: int, *others: Any) -> tuple[np.ndarray, np.ndarray]:
        original_bgr = np.ascontiguousarray(original_bgr)
        hr, _ = plain(original_bgr, hr_size, lr_size, *others)
        return hr, up(down(original_bgr, lr_size), hr_size)

    with replaced(images, "make_pair", make_pair):
        yield
