"""Stage images: HR and LR versions of every image, resized by PyTorch."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
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
    threads = torch.get_num_threads()

    def make(image_id: str) -> tuple[np.ndarray, np.ndarray]:
        original_bgr = read_bgr(devkit / "JPEGImages" / f"{image_id}.jpg", sha256[image_id])
        return make_pair(original_bgr, spec["hr_size"], spec["lr_size"], spec["lr_from"], spec["antialias"], dtype)

    try:  # an image a thread: one is too little work for several
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            fill(stage, spec["hr_size"], lambda ids: pool.map(make, ids))
    finally:
        torch.set_num_threads(threads)  # some libraries have taken the threads' number for all


def fill(stage: Stage, size: int, make: Callable[[list[str]], Iterable[tuple[np.ndarray, np.ndarray]]]) -> None:
    """Write both versions of every image; `make` gives those of a list of ids, in its order."""
    for split in SPLITS:
        ids = stage.inputs.json("index", f"ids_{split}")
        todo = stage.out.rows([f"hr_{split}", f"lr_{split}"], (len(ids), size, size, 3), "uint8", CHUNK)
        hr, lr = todo.arrays
        for rows in progress(todo, todo.count, "images", f"images {split}", step=CHUNK):
            for i, pair in enumerate(make(ids[rows]), rows.start):
                hr[i], lr[i] = pair


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
    # A plane at a time: numpy takes five times as long to copy pixels whose channels lie backwards.
    image = torch.from_numpy(np.stack([*original_bgr.transpose(2, 0, 1)], axis=2))
    hr = bicubic(image, hr_size)
    lr = bicubic(bicubic(hr if lr_from == "hr" else image, lr_size), hr_size)
    return hr.numpy(), lr.numpy()


def bicubic_four_taps(image: Tensor, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Resize (h, w, 3) uint8 to (size, size, 3) as OpenCV's INTER_CUBIC does for uint8 (imgproc/src/resize.cpp)."""
    h, w, _ = image.shape
    # The axis that is resized stands first, so that a tap takes a whole run of memory.
    columns = image.permute(1, 2, 0).contiguous().float().view(w, 3 * h)
    pixels, weights = cubic_taps(w, size)
    # Exact in whatever order: grey levels have 8 bits and weights 12, their sums less than float32's 24.
    across = F.embedding_bag(pixels, columns, per_sample_weights=weights.float(), mode="sum")
    rows = across.view(size * 3, h).T.contiguous().to(dtype)
    pixels, weights = cubic_taps(h, size)
    taps = [rows.index_select(0, pixels[:, i]).mul_(weights[:, i, None].to(dtype)) for i in range(4)]
    # OpenCV's vector code adds the four rows in float32, from the last to the first, and rounds halves to even.
    resized = taps[3].add_(taps[2]).add_(taps[1]).add_(taps[0])
    return resized.round_().clamp_(0, 255).to(torch.uint8).view(size, size, 3)


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
