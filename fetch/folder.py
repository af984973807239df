"""The folder that data is put into: one process at a time, and nothing half done under a final name."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from experiment.errors import UserError
from experiment.pipeline import locked


@contextlib.contextmanager
def held(target: Path) -> Iterator[Path]:
    """Make the folder `target`, hold it for this process, and give its absolute path.

    Raises `UserError` where another process holds it, and for what the system refuses (no room, no permission).
    """
    folder = target.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            yield folder
    except OSError as error:
        raise UserError(f"{target} cannot be written ({error}): name another folder, or make room") from error


@contextlib.contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """An empty folder to work in; it is removed at the end, and what a killed process left of it at the start."""
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)  # it may have got its final name
