"""What goes into a net, and the writing of all that it holds."""

import numpy as np
import torch
from torch import Tensor

from experiment.errors import UserError
from experiment.stage_writer import StageWriter


def to_input(images_bgr: np.ndarray, mean_bgr: np.ndarray) -> Tensor:
    """(n, h, w, 3) uint8 BGR to the net's (n, 3, h, w) float64: grey levels 0..255 minus the mean, not scaled.

    Exact, as the mean is float32: the net rounds it to the type in which it computes.
    """
    if mean_bgr.ndim == 3 and mean_bgr.shape[1:] != images_bgr.shape[1:3]:
        raise UserError(
            f"the mean file is {mean_bgr.shape[1]}x{mean_bgr.shape[2]}, the images are "
            f"{images_bgr.shape[1]}x{images_bgr.shape[2]}: use features.mean = 'channels'"
        )
    mean = torch.from_numpy(mean_bgr if mean_bgr.ndim == 3 else mean_bgr.reshape(3, 1, 1))
    return torch.from_numpy(np.array(images_bgr)).permute(0, 3, 1, 2).contiguous().double() - mean


def save_blobs(out: StageWriter, blobs: dict[str, Tensor]) -> None:
    """Write every blob and their names in forward order."""
    out.json("blob_names", list(blobs))
    for i, (name, blob) in enumerate(blobs.items()):
        out.array(f"blobs/{i:03d}-{name}", blob.numpy())
