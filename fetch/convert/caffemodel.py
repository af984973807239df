"""Write a descendant as a caffemodel for the Caffe net, and beside it what it was made from and where it differs."""

import hashlib
import os
from pathlib import Path
from types import ModuleType
from typing import Any

from experiment.artifacts import sha256_file, write_json
from experiment.errors import UserError
from fetch.convert import keras, matconvnet, pytorch
from fetch.convert.descendant import Descendant, blobs
from fetch.convert.layout import Layout, read_layout
from torch_impl.caffe_proto import write_caffemodel

VERSION = 1  # of the sidecar; raise it with any change to what is computed
READERS: dict[str, ModuleType] = {"keras": keras, "matconvnet": matconvnet, "torch": pytorch}


def convert(kind: str, file: Path, folder: Path, prototxt: Path) -> tuple[Path, dict[str, Any]]:
    """Convert `file`, a descendant of `kind` (a key of `READERS`), for the net of `prototxt`.

    Writes `folder`/ResNet-101-from-<kind>.caffemodel and the same with .json, whole or not at all, and returns the
    caffemodel's path and the sidecar: {"version", "converted_from" (format, file name, bytes, md5, sha256, whether it
    is the published file), "mean" (its own, BGR grey levels), "folded", "differences", "sha256" (the caffemodel's)}.
    Raises `UserError` for a file that is missing, damaged, or not that descendant.
    """
    if not file.is_file():
        raise UserError(f"FILE={file} is not a file: pass the {kind} weights to convert")
    layout = read_layout(prototxt)
    found = READERS[kind].read(file, layout)
    origin = identity(kind, file)
    path = folder / f"ResNet-101-from-{kind}.caffemodel"
    partial = path.with_name(f".{path.name}.partial")
    try:
        write_caffemodel(partial, "ResNet-101", blobs(found, layout))
        sidecar = {
            "version": VERSION,
            "converted_from": origin,
            "mean": {"bgr": list(found.mean_bgr), "unit": "grey level 0..255"},
            "folded": found.folded,
            "differences": differences(found, layout, origin),
            "sha256": sha256_file(partial),
        }
        write_json(path.with_suffix(".json"), sidecar)
        os.replace(partial, path)  # last: a caffemodel under its name has its sidecar
    finally:
        partial.unlink(missing_ok=True)
    return path, sidecar


def identity(kind: str, file: Path) -> dict[str, Any]:
    """What the descendant's file is, and whether it is the one that was published."""
    md5 = hashlib.md5(usedforsecurity=False)
    with open(file, "rb") as opened:
        while chunk := opened.read(1 << 20):
            md5.update(chunk)
    digests = {"md5": md5.hexdigest(), "sha256": sha256_file(file)}
    published = any(digests[name].startswith(begin) for name, begin in READERS[kind].PUBLISHED.items())
    return {"format": kind, "file name": file.name, "bytes": file.stat().st_size, **digests, "published": published}


def differences(found: Descendant, layout: Layout, origin: dict[str, Any]) -> list[str]:
    """All that the caffemodel, in the Caffe net, does otherwise than the descendant in its own body."""
    named = list(found.differences)
    if found.classifier is None:
        named.append(
            f"classifier: the file has none, so {layout.classifier} is zeros (what Caffe would leave) and its outputs "
            "say nothing; pool5 does not depend on it"
        )
    if not origin["published"]:
        named.append("file: its hash is not the published file's; it was converted as what it claims to be")
    return named
