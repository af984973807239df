"""A JPEG decoded by Pillow."""

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image

from experiment.errors import UserError


def read_bgr(path: Path, sha256: str = "") -> np.ndarray:
    """Decode a JPEG by Pillow: (h, w, 3) uint8, blue first, EXIF orientation ignored (D12).

    Raises `UserError` for a file that is missing, is not the one with that `sha256` (where given), is no JPEG, or
    is cut short.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is missing: add the image or take it out of ImageSets/Main") from None
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise UserError(f"{path} has changed since the index stage: delete the run's 01-index and run again")
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            return np.asarray(image.convert("RGB"))[:, :, ::-1]
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is not a whole JPEG ({error}): replace the file") from None
