"""How a stage's outputs come to be: written under a temporary name, put in their place all at once, resumed.

Runs under Python 3.9 with numpy 1.19 (in the container) and on the host alike. Nothing here computes.
"""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from experiment.artifacts import (
    MANIFEST,
    RunFolder,
    batches,
    canonical_json,
    load_array,
    sha256_array,
    sha256_file,
    write_json,
)
from experiment.errors import UserError

JOURNAL = "journal"  # of a stage that is not finished: a JSON value a line
CHECKPOINT = "checkpoint.npz"
CHECKPOINT_SECONDS = 60.0  # between two: what is lost at most where a stage is stopped


class StageWriter:
    """Writes one stage's outputs under a temporary name; `finish` makes them the stage, all at once.

    A stage that was stopped goes on where it was: what is whole is written down in a journal as it comes, with its
    hash, and a later attempt of the same key takes over what its hash proves to be still there.
    """

    def __init__(self, run: RunFolder, stage: str, key: str = "") -> None:
        """key : what the outputs depend on; without one, or with another, nothing is taken over."""
        self.final = run.stage_path(stage)
        self.path = self.final.with_name(f".{self.final.name}.partial")
        self.outputs: Dict[str, Dict[str, Any]] = {}
        self._open: Dict[str, Tuple[np.ndarray, Path]] = {}
        entries = read_journal(self.path / JOURNAL)
        if not key or not entries or entries[0] != {"key": key}:
            if self.path.exists():
                shutil.rmtree(self.path)
            self.path.mkdir(parents=True)
            entries = [{"key": key}]
            write_synced(self.path / JOURNAL, canonical_json(entries[0]) + b"\n")
        self._before = entries[1:]
        self.attempts = 1 + sum("attempt" in entry for entry in self._before)
        self._note({"attempt": self.attempts})
        self._kept = time.monotonic()  # when the last checkpoint was

    def _note(self, entry: Mapping[str, Any]) -> None:
        """Add a line to the journal."""
        with open(self.path / JOURNAL, "ab") as file:
            file.write(canonical_json(entry) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _last(self, kind: str, name: str) -> Optional[Dict[str, Any]]:
        """The last line of an earlier attempt that tells of `name`."""
        return next((entry for entry in reversed(self._before) if entry.get(kind) == name), None)

    def _claim(self, name: str, suffix: str) -> Path:
        """The path for an output; names may hold `/` for folders but never leave the stage's folder."""
        path = self.path / f"{name}{suffix}"
        parts = Path(name).parts
        if name in self.outputs or name in self._open or not parts or ".." in parts or Path(name).is_absolute():
            raise ValueError(f"{name!r} is not a new name inside the stage's folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def has(self, *names: str) -> bool:
        """Whether an earlier attempt left all of these outputs, and they are still whole; they are then taken over."""
        found = {}
        for name in names:
            entry = self._last("output", name)
            if entry is None or not is_whole(self.path, entry["is"]):
                return False
            found[name] = entry["is"]
        self.outputs.update(found)
        return True

    def _finished(self, name: str, entry: Dict[str, Any]) -> None:
        self.outputs[name] = entry
        self._note({"output": name, "is": entry})

    def array(self, name: str, array: np.ndarray) -> None:
        """Write one array."""
        path = self._claim(name, ".npy")
        np.save(path, np.asarray(array, order="C"), allow_pickle=False)
        self._finished(name, self._array_entry(path, array))

    def rows(self, names: Sequence[str], shape: Tuple[int, ...], dtype: str, step: int) -> "Rows":
        """Arrays of one shape on disk, to be filled together, `step` rows at a time; what is filled already is kept.

        They are hashed and closed by `finish`.
        """
        key = "/".join(names)
        digests = {entry["start"]: entry["sha256"] for entry in self._before if entry.get("rows") == key}
        arrays = []
        for name in names:
            path = self._claim(name, ".npy")
            array = open_rows(path, shape, dtype) if digests else None
            if array is None:
                digests = {}
                array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
            self._open[name] = (array, path)
            arrays.append(array)

        def hashes(cut: slice) -> List[str]:
            return [sha256_array(array[cut]) for array in arrays]

        def filled(cut: slice) -> None:
            self._note({"rows": key, "start": cut.start, "sha256": hashes(cut)})

        left = [cut for cut in batches(shape[0], step) if digests.get(cut.start) != hashes(cut)]
        return Rows(arrays, left, filled)

    def json(self, name: str, value: Any) -> None:
        """Write one JSON value as `<name>.json`."""
        path = self._claim(name, ".json")
        write_json(path, value)
        self.add_file(name, f"{name}.json", "json")

    def new_file(self, file_name: str) -> Path:
        """A path for a file that something else writes (a caffemodel, an HDF5 file); see `add_file`."""
        return self._claim(file_name, "")

    def add_file(self, name: str, file_name: str, kind: str = "file") -> None:
        """Record a file already written in the stage's folder under the output's `name`."""
        self._finished(name, {"kind": kind, "file": file_name, "sha256": sha256_file(self.path / file_name)})

    def remember(self, name: str, value: Any) -> None:
        """Keep a small JSON value for a later attempt."""
        self._note({"remembered": name, "value": value})

    def remembered(self, name: str) -> Any:
        """What an earlier attempt kept under that name; None where there is nothing."""
        entry = self._last("remembered", name)
        return None if entry is None else entry["value"]

    def checkpoint_is_due(self) -> bool:
        """Whether the last checkpoint, or the start, is `CHECKPOINT_SECONDS` ago."""
        return time.monotonic() - self._kept >= CHECKPOINT_SECONDS

    def checkpoint(self, state: Mapping[str, np.ndarray]) -> None:
        """Keep a state from which a later attempt can go on, in place of an earlier one."""
        partial = self.path / f".{CHECKPOINT}"
        with open(partial, "wb") as file:
            np.savez(file, **dict(state))  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        digest = sha256_file(partial)
        os.replace(partial, self.path / CHECKPOINT)
        self._note({"checkpoint": CHECKPOINT, "sha256": digest})
        self._kept = time.monotonic()

    def last_checkpoint(self) -> Optional[Dict[str, np.ndarray]]:
        """The state that an earlier attempt kept; None where there is none that is whole."""
        path = self.path / CHECKPOINT
        digests = {entry["sha256"] for entry in self._before if "checkpoint" in entry}
        if not path.is_file() or sha256_file(path) not in digests:
            return None
        with np.load(path, allow_pickle=False) as state:
            return {name: state[name] for name in state.files}

    def _array_entry(self, path: Path, array: np.ndarray) -> Dict[str, Any]:
        return {
            "kind": "array",
            "file": str(path.relative_to(self.path)),
            "dtype": array.dtype.str,
            "shape": [int(n) for n in array.shape],
            "sha256": sha256_array(array),
        }

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Close and hash what is open, write the manifest last, and put the folder in its place.

        All is on the disk before the folder gets its name, so that not even a power failure leaves half a stage there.
        """
        for name, (array, path) in self._open.items():
            if isinstance(array, np.memmap):
                array.flush()
            self.outputs[name] = self._array_entry(path, array)
        self._open.clear()
        write_json(self.path / MANIFEST, {**manifest, "attempts": self.attempts, "outputs": self.outputs})
        for name in (CHECKPOINT, JOURNAL):
            if (self.path / name).exists():
                (self.path / name).unlink()
        for path in (*self.path.rglob("*"), self.path):
            sync(path)
        replace_folder(self.path, self.final)
        sync(self.final.parent)


class Rows:
    """Arrays that are being filled: iterate over the slices that are left, and fill each before asking for the next.

    arrays : the whole arrays, on disk. left : the slices that are still to be filled.
    """

    def __init__(self, arrays: List[np.ndarray], left: List[slice], filled: Callable[[slice], None]) -> None:
        self.arrays = arrays
        self.left = left
        self._filled = filled

    @property
    def count(self) -> int:
        """How many rows are left."""
        return sum(cut.stop - cut.start for cut in self.left)

    def __iter__(self) -> Iterator[slice]:
        for cut in self.left:
            yield cut
            self._filled(cut)


def read_journal(path: Path) -> List[Dict[str, Any]]:
    """The journal's lines; the last one may have been cut off and is then left out."""
    entries = []
    for line in path.read_bytes().split(b"\n") if path.is_file() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            break
        if not isinstance(entry, dict):
            break
        entries.append(entry)
    return entries


def open_rows(path: Path, shape: Tuple[int, ...], dtype: str) -> Optional[np.ndarray]:
    """An array that an earlier attempt left, writable; None where it is not there or is another one."""
    try:
        array = np.load(path, mmap_mode="r+", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = array.shape == tuple(shape) and array.dtype == np.dtype(dtype) and array.flags.c_contiguous
    return array if fits else None


def is_whole(folder: Path, entry: Mapping[str, Any]) -> bool:
    """Whether an output is what an entry of the manifest's form says."""
    path = folder / entry["file"]
    try:
        if entry["kind"] != "array":
            return sha256_file(path) == entry["sha256"]
        return sha256_array(load_array(path)) == entry["sha256"]
    except (OSError, UserError):
        return False


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    path.write_bytes(data)
    sync(path)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
