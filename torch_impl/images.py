"""Stage images: HR and LR versions of every image, resized by PyTorch."""

from functools import cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from experiment.pipeline import Stage
from experiment.progress import progress
from experiment.stages import SPLITS
from torch_impl.jpeg import read_bgr

CHUNK = 64  # images are kept so many at a time where the stage is stopped


def run(stage: Stage) -> None:
    """Write hr_<split> and lr_<split>, (n, S, S, 3) uint8 BGR."""
    devkit = stage.external("devkit")
    assert devkit is not None
    spec = stage.spec["images"]
    dtype = torch.float64 if stage.variation == "reference" else torch.float32
    sha256 = stage.inputs.json("index", "image_sha256")
    for split in SPLITS:
        ids = stage.inputs.json("index", f"ids_{split}")
        shape = (len(ids), spec["hr_size"], spec["hr_size"], 3)
        todo = stage.out.rows([f"hr_{split}", f"lr_{split}"], shape, "uint8", CHUNK)
        hr, lr = todo.arrays
        for rows in progress(todo, todo.count, "images", f"images {split}", step=CHUNK):
            for i in range(rows.start, rows.stop):
                original_bgr = read_bgr(devkit / "JPEGImages" / f"{ids[i]}.jpg", sha256[ids[i]])
                hr[i], lr[i] = make_pair(
                    original_bgr, spec["hr_size"], spec["lr_size"], spec["lr_from"], spec["antialias"], dtype
                )


def make_pair(
    original_bgr: np.ndarray,
    hr_size: int,
    lr_size: int,
    lr_from: str = "original",
    antialias: bool = False,
    dtype: torch.dtype = torch.float32,
) -> tuple[np.ndarray, np.ndarray]:
    """The HR and the LR version of a whole image (paper 4.1, D23), its aspect ratio given up.

    original_bgr: (h, w, 3) uint8. Returns two (hr_size, hr_size, 3) uint8 arrays. The LR one is resized down to
    lr_size (from the original, or from the HR version where lr_from is "hr"), rounded to uint8, and up again. `dtype`:
    what the four-tap kernel's rows are added in.
    """
    # D1: without antialiasing as OpenCV (a = -0.75, four taps), with it as Pillow (a = -0.5, widening kernel).
    bicubic = bicubic_antialiased if antialias else partial(bicubic_four_taps, dtype=dtype)
    image = torch.from_numpy(np.ascontiguousarray(original_bgr))
    hr = bicubic(image, hr_size)
    lr = bicubic(bicubic(hr if lr_from == "hr" else image, lr_size), hr_size)
    return hr.numpy(), lr.numpy()


def bicubic_four_taps(image: Tensor, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Resize (h, w, 3) uint8 to (size, size, 3) as OpenCV's INTER_CUBIC does for uint8 (imgproc/src/resize.cpp)."""
    columns, column_weights = cubic_taps(image.shape[1], size)
    rows, row_weights = cubic_taps(image.shape[0], size)
    across = (image[:, columns] * column_weights[:, :, None]).sum(2)  # (h, size, 4, 3) to (h, size, 3), exact
    taps = (across[rows].to(dtype) * row_weights.to(dtype)[:, :, None, None]).unbind(1)  # four of (size, size, 3)
    # OpenCV's vector code adds the four rows in float32, from the last to the first, and rounds halves to even.
    resized = taps[0] + (taps[1] + (taps[2] + taps[3]))
    return resized.round().clamp(0, 255).to(torch.uint8)


@cache
def cubic_taps(source: int, size: int, a: float = -0.75) -> tuple[Tensor, Tensor]:
    """The pixels that each of `size` new pixels of an axis is made from, (size, 4) int64, and their weights, (size, 4)
    float64; beyond the edge the last pixel repeats."""
    position = (torch.arange(size, dtype=torch.float64) + 0.5) * (source / size) - 0.5
    position = position.float()  # as OpenCV holds it
    first = position.floor()
    x = position - first
    near = [x, 1 - x]  # distances to the two middle taps
    middle = [((a + 2) * d - (a + 3)) * d * d + 1 for d in near]
    left = ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a
    weights = torch.stack([left, *middle, 1 - left - middle[0] - middle[1]], dim=1)
    pixels = (first.long()[:, None] + torch.arange(-1, 3)).clamp(0, source - 1)
    return pixels, (weights.double() * 2048).round() / 2048  # D24: OpenCV rounds each weight to 1/2048 for uint8


def bicubic_antialiased(image: Tensor, size: int) -> Tensor:
    """Resize (h, w, 3) uint8 to (size, size, 3) with a = -0.5 and a kernel that widens when shrinking, as Pillow."""
    planes = image.permute(2, 0, 1)[None]
    resized = F.interpolate(planes, (size, size), mode="bicubic", align_corners=False, antialias=True)
    return resized[0].permute(1, 2, 0).contiguous()
