"""Stage images: HR and LR versions of every image, resized by PyTorch."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from experiment.errors import UserError
from experiment.pipeline import Stage
from experiment.progress import progress
from experiment.stages import SPLITS


def run(stage: Stage) -> None:
    """Write hr_<split> and lr_<split>, (n, S, S, 3) uint8 BGR."""
    devkit = stage.external("devkit")
    assert devkit is not None
    spec = stage.spec["images"]
    for split in SPLITS:
        ids = stage.inputs.json("index", f"ids_{split}")
        shape = (len(ids), spec["hr_size"], spec["hr_size"], 3)
        hr = stage.out.create(f"hr_{split}", shape, "uint8")
        lr = stage.out.create(f"lr_{split}", shape, "uint8")
        for i, image_id in enumerate(progress(ids, len(ids), "images", f"images {split}")):
            original_bgr = read_bgr(devkit / "JPEGImages" / f"{image_id}.jpg")
            hr[i], lr[i] = make_pair(original_bgr, spec["hr_size"], spec["lr_size"], spec["lr_from"], spec["antialias"])


def make_pair(
    original_bgr: np.ndarray, hr_size: int, lr_size: int, lr_from: str = "original", antialias: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The HR and the LR version of an image (paper 4.1).

    original_bgr: (h, w, 3) uint8. Returns two (hr_size, hr_size, 3) uint8 arrays. The LR one is resized down to
    lr_size (from the original, or from the HR version where lr_from is "hr"), rounded to uint8, and up again.
    """
    image = to_tensor(original_bgr)
    hr = bicubic(image, hr_size, antialias)
    small = bicubic(hr if lr_from == "hr" else image, lr_size, antialias)
    return to_array(hr), to_array(bicubic(small, hr_size, antialias))


def bicubic(image: Tensor, size: int, antialias: bool) -> Tensor:
    """Resize (1, 3, h, w) float32 grey levels 0..255 to size x size and round to whole grey levels.

    Without antialias the kernel has a = -0.75 and four taps whatever the scale, as OpenCV's; with it a = -0.5 and
    the kernel widens when shrinking, as Pillow's (D1).
    """
    resized = F.interpolate(image, (size, size), mode="bicubic", align_corners=False, antialias=antialias)
    return torch.floor(resized + 0.5).clamp_(0, 255)


def to_tensor(image: np.ndarray) -> Tensor:
    """(h, w, 3) uint8 to (1, 3, h, w) float32, grey levels unchanged."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()


def to_array(image: Tensor) -> np.ndarray:
    """(1, 3, h, w) of whole grey levels to (h, w, 3) uint8."""
    return image[0].permute(1, 2, 0).to(torch.uint8).numpy()


def read_bgr(path: Path) -> np.ndarray:
    """Decode a JPEG by Pillow: (h, w, 3) uint8, blue first, EXIF orientation ignored (D12).

    Raises `UserError` for a file that is missing, is no JPEG, or is cut short.
    """
    try:
        with Image.open(path, formats=["JPEG"]) as image:
            return np.asarray(image.convert("RGB"))[:, :, ::-1]
    except FileNotFoundError:
        raise UserError(f"{path} is missing: add the image or take it out of ImageSets/Main") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is not a whole JPEG ({error}): replace the file") from None
