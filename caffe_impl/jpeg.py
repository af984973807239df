"""A JPEG decoded by OpenCV, after it has been proved to be the whole file."""

import hashlib
import re
from pathlib import Path

import cv2
import numpy as np

from experiment.errors import UserError

# ITU-T T.81, table B.1 and B.1.1.2: what ends entropy-coded data is a marker that is neither a stuffed zero nor a
# restart; 0xFF may be repeated before a marker's code.
END_OF_SCAN = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
MARKER = re.compile(rb"\xff+([^\x00\xff])")
START_OF_IMAGE, END_OF_IMAGE, START_OF_SCAN = 0xD8, 0xD9, 0xDA
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}


def read_jpeg(path: Path, sha256: str = "") -> np.ndarray:
    """Decode a JPEG to (h, w, 3) uint8 BGR; an EXIF orientation is not applied.

    Raises `UserError` for a file that is missing, is not the one with that `sha256` (where given), is cut short,
    or cannot be decoded.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): put the image back") from None
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise UserError(f"{path} has changed since the index stage: delete the run's 01-index and run again")
    # OpenCV decodes a file that is cut short and fills the rest with grey, so its success proves nothing.
    if not is_whole_jpeg(data):
        raise UserError(f"{path} is not a whole JPEG (its end is missing): replace it, or take it off the lists")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None:
        raise UserError(f"{path} cannot be decoded: replace it, or take it off the lists")
    return image


def is_whole_jpeg(data: bytes) -> bool:
    """Whether the markers lead from the start of the image through a scan to the end of the image.

    Segments are skipped by their length, so a thumbnail's own end marker is not taken for the image's.
    """
    position = 2
    scans = 0
    while data[:2] == b"\xff\xd8":
        found = MARKER.match(data, position)
        if found is None:
            return False
        marker = found.group(1)[0]
        position = found.end()
        if marker == END_OF_IMAGE:
            return scans > 0
        if marker in WITHOUT_LENGTH:
            continue
        position += int.from_bytes(data[position : position + 2], "big")
        if marker == START_OF_SCAN:
            scans += 1
            end = END_OF_SCAN.search(data, position)
            if end is None:
                return False
            position = end.start()
    return False
