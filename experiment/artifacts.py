"""What a stage leaves behind: arrays as .npy, everything else JSON or a named file, and a manifest last.

Runs under Python 3.9 with numpy 1.19 (in the container) and on the host alike. Nothing here computes.
"""

import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

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
    """Read JSON that this project wrote; a file that is not JSON is a `UserError`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run the command that makes it first") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): delete its folder and run again") from None


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
        raise UserError(f"{path} is not a whole .npy array ({error}): delete its folder and run again") from None
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path} is not a .npy array: delete its folder and run again")
    return array


class StageWriter:
    """Writes one stage's outputs under a temporary name; `finish` makes them the stage, all at once."""

    def __init__(self, run: RunFolder, stage: str) -> None:
        self.final = run.stage_path(stage)
        self.path = self.final.with_name(f".{self.final.name}.partial")
        if self.path.exists():
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True)
        self.outputs: Dict[str, Dict[str, Any]] = {}
        self._open: Dict[str, Tuple[np.memmap, Path]] = {}

    def _claim(self, name: str, suffix: str) -> Path:
        """The path for an output; names may hold `/` for folders but never leave the stage's folder."""
        path = self.path / f"{name}{suffix}"
        parts = Path(name).parts
        if name in self.outputs or name in self._open or not parts or ".." in parts or Path(name).is_absolute():
            raise ValueError(f"{name!r} is not a new name inside the stage's folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def array(self, name: str, array: np.ndarray) -> None:
        """Write one array."""
        path = self._claim(name, ".npy")
        np.save(path, np.asarray(array, order="C"), allow_pickle=False)
        self._record_array(name, path, array)

    def create(self, name: str, shape: Tuple[int, ...], dtype: str) -> np.ndarray:
        """An array on disk to be filled piece by piece; it is hashed and closed by `finish`."""
        path = self._claim(name, ".npy")
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
        self._open[name] = (array, path)
        return array

    def json(self, name: str, value: Any) -> None:
        """Write one JSON value as `<name>.json`."""
        path = self._claim(name, ".json")
        write_json(path, value)
        self.outputs[name] = {"kind": "json", "file": f"{name}.json", "sha256": sha256_file(path)}

    def new_file(self, file_name: str) -> Path:
        """A path for a file that something else writes (a caffemodel, an HDF5 file); see `add_file`."""
        return self._claim(file_name, "")

    def add_file(self, name: str, file_name: str) -> None:
        """Record a file already written in the stage's folder under the output's `name`."""
        self.outputs[name] = {"kind": "file", "file": file_name, "sha256": sha256_file(self.path / file_name)}

    def _record_array(self, name: str, path: Path, array: np.ndarray) -> None:
        self.outputs[name] = {
            "kind": "array",
            "file": str(path.relative_to(self.path)),
            "dtype": array.dtype.str,
            "shape": [int(n) for n in array.shape],
            "sha256": sha256_array(array),
        }

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Close and hash what is open, write the manifest last, and put the folder in its place."""
        for name, (array, path) in self._open.items():
            array.flush()
            self._record_array(name, path, array)
        self._open.clear()
        write_json(self.path / MANIFEST, {**manifest, "outputs": self.outputs})
        replace_folder(self.path, self.final)


def replace_folder(new: Path, final: Path) -> None:
    """Rename `new` to `final`; an old `final` is moved aside first and deleted after."""
    old = final.with_name(f".{final.name}.old")
    if old.exists():
        shutil.rmtree(old)
    if final.exists():
        os.rename(final, old)
    os.rename(new, final)
    if old.exists():
        shutil.rmtree(old)


def link_stage(source: RunFolder, run: RunFolder, stage: str) -> None:
    """Take over a finished stage of another run of the same side, by hard links where the disk allows it."""
    final = run.stage_path(stage)
    partial = final.with_name(f".{final.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)

    def link_or_copy(src: str, dst: str) -> None:
        try:
            os.link(src, dst)
        except OSError:
            shutil.copy2(src, dst)

    shutil.copytree(source.stage_path(stage), partial, copy_function=link_or_copy)
    replace_folder(partial, final)


def batches(n: int, size: int) -> Iterator[slice]:
    """Slices that cut n rows into batches of `size`; the last may be smaller."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
