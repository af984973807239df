"""LR images made otherwise (D24, D31, D32). HR images stay as they are, except where the kernel itself is another."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
        return to_grey_levels(bicubic(image, size))

    with replaced(images, "bicubic_four_taps", four_taps):
        yield


@contextmanager
def bilinear_up() -> Iterator[None]:
    """D31: OpenCV's bilinear sizes up."""
    with lr_by(up=by_opencv(cv2.INTER_LINEAR)):
        yield


@contextmanager
def nearest_up() -> Iterator[None]:
    """D31: OpenCV's nearest pixel sizes up."""
    with lr_by(up=by_opencv(cv2.INTER_NEAREST)):
        yield


@contextmanager
def area_down() -> Iterator[None]:
    """D31: OpenCV's mean of each pixel's area sizes down."""
    with lr_by(down=by_opencv(cv2.INTER_AREA)):
        yield


def by_opencv(kernel: int) -> Resize:
    """A resize of OpenCV's."""
    return lambda image, size: cv2.resize(image, (size, size), interpolation=kernel)


@contextmanager
def real_grey_levels() -> Iterator[None]:
    """D32: the small image is neither rounded nor clamped; the kernels and their weights are the stage's own."""

    def resize(image: np.ndarray, size: int, antialias: bool) -> Tensor:
        if antialias:
            return bicubic(torch.from_numpy(image), size, antialias=True)
        columns, column_weights = images.cubic_taps(image.shape[1], size)
        rows, row_weights = images.cubic_taps(image.shape[0], size)
        across = (torch.from_numpy(image).double()[:, columns] * column_weights[:, :, None]).sum(2)
        return (across[rows] * row_weights[:, :, None, None]).sum(1)

    def lr(image: np.ndarray, hr_size: int, lr_size: int, antialias: bool) -> np.ndarray:
        small = resize(image, lr_size, antialias)
        return to_grey_levels(resize(small.numpy(), hr_size, antialias)).numpy()

    with lr_made(lr):
        yield


def bicubic(image: Tensor, size: int, antialias: bool = False) -> Tensor:
    """PyTorch's bicubic of (h, w, 3), in float64 and not rounded."""
    planes = image.permute(2, 0, 1)[None].double()
    resized = F.interpolate(planes, (size, size), mode="bicubic", align_corners=False, antialias=antialias)
    return resized[0].permute(1, 2, 0)


def to_grey_levels(image: Tensor) -> Tensor:
    """Rounded to uint8."""
    return image.round().clamp(0, 255).to(torch.uint8)


def own(antialias: bool) -> Resize:
    """The stage's own bicubic."""
    resize = images.bicubic_antialiased if antialias else images.bicubic_four_taps
    return lambda image, size: resize(torch.from_numpy(np.ascontiguousarray(image)), size).numpy()


@contextmanager
def lr_by(down: Resize | None = None, up: Resize | None = None) -> Iterator[None]:
    """LR is resized by these two, or by the stage's own."""

    def lr(image: np.ndarray, hr_size: int, lr_size: int, antialias: bool) -> np.ndarray:
        small = (down or own(antialias))(image, lr_size)
        return (up or own(antialias))(small, hr_size)

    with lr_made(lr):
        yield


@contextmanager
def lr_made(lr: Callable[[np.ndarray, int, int, bool], np.ndarray]) -> Iterator[None]:
    """LR is made by `lr`, from what the specification says (D17); HR as ever."""

    def make_pair(
        original_bgr: np.ndarray,
        hr_size: int,
        lr_size: int,
        lr_from: str = "original",
        antialias: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[np.ndarray, np.ndarray]:
        original_bgr = np.ascontiguousarray(original_bgr)
        hr = own(antialias)(original_bgr, hr_size)
        return hr, lr(hr if lr_from == "hr" else original_bgr, hr_size, lr_size, antialias)

    with replaced(images, "make_pair", make_pair):
        yield
