"""What a stage leaves behind: arrays as .npy, everything else JSON or a named file, and a manifest last.

Runs under Python 3.9 with numpy 1.19 (in the container) and on the host alike. Nothing here computes.
"""

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

import numpy as np

from experiment.errors import UserError
from experiment.stages import folder_name

MANIFEST = "manifest.json"
HASH_CHUNK_BYTES = 1 << 24


def canonical_json(value: Any) -> bytes:
    """The one byte form of a JSON value: sorted keys, no spaces, UTF-8. What is hashed is always this."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_json(value: Any) -> str:
    """sha256 of a JSON value in its canonical form."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def sha256_file(path: Path) -> str:
    """sha256 of a file's bytes, read in chunks."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(HASH_CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_array(array: np.ndarray) -> str:
    """sha256 of what an array IS: dtype, shape and C-order bytes.

    Not of the .npy file: numpy 1.19 and numpy 2 pad its header differently, so equal arrays make unequal files.
    """
    if array.dtype.hasobject:
        raise ValueError("an array of objects is not an artifact")
    digest = hashlib.sha256(f"{array.dtype.str}{tuple(int(n) for n in array.shape)}".encode())
    if array.ndim == 0:
        digest.update(array.tobytes())
        return digest.hexdigest()
    rows = max(1, HASH_CHUNK_BYTES // max(1, array.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))))
    for start in range(0, array.shape[0], rows):
        digest.update(np.ascontiguousarray(array[start : start + rows]).data)
    return digest.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people (indented) through a temporary name, so that the file is whole or absent."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def read_json(path: Path) -> Any:
    """Read JSON that this project wrote; a file that is missing or not JSON is a `UserError`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path} is missing: run the command that makes it first") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): delete this file and run again") from None


class RunFolder:
    """One run, `runs/<name>/<side>/`: its spec.json, prototxts and finished stages. Reads only."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path).absolute()

    @property
    def spec(self) -> Dict[str, Any]:
        """The resolved specification: {"profile", "values", "sources", "sha256", "external"}."""
        return read_json(self.path / "spec.json")

    def stage_path(self, stage: str) -> Path:
        """The folder of a stage, finished or not."""
        return self.path / folder_name(stage)

    def prototxt(self, name: str) -> Path:
        """A net or solver definition as both sides read it."""
        return self.path / "prototxt" / name

    def manifest(self, stage: str) -> Optional[Dict[str, Any]]:
        """The stage's manifest, or None where the stage has not been finished."""
        path = self.stage_path(stage) / MANIFEST
        if not path.is_file():
            return None
        manifest = read_json(path)
        if not isinstance(manifest, dict) or not isinstance(manifest.get("outputs"), dict):
            raise UserError(f"{path} is not a manifest: delete {path.parent} and run again")
        return manifest

    def require_manifest(self, stage: str) -> Dict[str, Any]:
        """The stage's manifest; a `UserError` where the stage has not been finished."""
        manifest = self.manifest(stage)
        if manifest is None and not self.path.is_dir():
            raise UserError(f"there is no run {self.path}: make it first, or name another folder")
        if manifest is None:
            raise UserError(f"{self.stage_path(stage)} is unfinished: run this side's reproduce command first")
        return manifest

    def output_path(self, stage: str, name: str) -> Path:
        """The path of a finished stage's output, which must be in its manifest and on disk."""
        entry = self.require_manifest(stage)["outputs"].get(name)
        path = self.stage_path(stage) / (entry["file"] if entry else name)
        if entry is None or not path.is_file():
            raise UserError(f"{path} is missing from the run: delete {self.stage_path(stage)} and run again")
        return path

    def array(self, stage: str, name: str) -> np.ndarray:
        """An output array, memory-mapped read-only.

        Raises `UserError` where the file is missing, is not an array, or does not have the dtype, shape and sha256
        that the manifest records.
        """
        path = self.output_path(stage, name)
        array = load_array(path)
        entry = self.require_manifest(stage)["outputs"][name]
        recorded = (entry["dtype"], tuple(entry["shape"]))
        if (array.dtype.str, array.shape) != recorded or sha256_array(array) != entry["sha256"]:
            raise UserError(f"{path} is not what its manifest records: delete {path.parent} and run again")
        return array

    def json(self, stage: str, name: str) -> Any:
        """An output JSON value, checked against the manifest's sha256."""
        path = self.file(stage, name)
        return read_json(path)

    def file(self, stage: str, name: str) -> Path:
        """The path of an output file, checked against the manifest's sha256."""
        path = self.output_path(stage, name)
        if sha256_file(path) != self.require_manifest(stage)["outputs"][name]["sha256"]:
            raise UserError(f"{path} is not what its manifest records: delete {path.parent} and run again")
        return path


def load_array(path: Path) -> np.ndarray:
    """A .npy file, memory-mapped read-only; a file that is none, or holds objects, is a `UserError`."""
    try:
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError:  # numpy cannot map an array with no bytes (a zero in its shape)
            array = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy names no set: a damaged header ends in EOFError, TokenError, BadZipFile ...
        told = str(error).partition(". If you trust")[0]  # numpy goes on with how to load it all the same
        raise UserError(f"{path} is not a whole .npy array ({told}): delete its folder and run again") from None
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path} is not a .npy array: delete its folder and run again")
    return array


def batches(n: int, size: int) -> Iterator[slice]:
    """Slices that cut n rows into batches of `size`; the last may be smaller."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
