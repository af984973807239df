"""The port's command line with one line of one module changed: `python -m tests.selftest.patched_port NAME ...`.

NAME is an entry of the catalogue, what follows are the arguments of `python -m torch_impl`. The module is changed as
it is imported: no file is, and nothing of the changed module is kept.
"""

import importlib.machinery
import importlib.util
import runpy
import sys
from collections.abc import Sequence
from types import CodeType, ModuleType

from experiment.errors import UserError, run_command
from tests.selftest.catalogue import CATALOGUE, Entry


class PatchedLoader(importlib.machinery.SourceFileLoader):
    """Loads a module from its file with an entry's change in it."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry.module, str(entry.path))
        self.entry = entry

    def get_data(self, path: str) -> bytes:
        """The file's bytes, changed."""
        return self.entry.patched(super().get_data(path).decode("utf-8")).encode("utf-8")

    def get_code(self, fullname: str) -> CodeType:
        """The code of the changed source: the bytecode that Python keeps beside the file is of the unchanged one."""
        return self.source_to_code(self.get_data(self.path), self.path)


class PatchingFinder:
    """Finds the entry's module, and leaves all others to Python."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's spec with the loader that changes it."""
        if name != self.entry.module:
            return None
        return importlib.util.spec_from_file_location(name, self.entry.path, loader=PatchedLoader(self.entry))


def patch(entry: Entry) -> None:
    """Have the entry's module changed when it is imported. Raises `UserError` where it was imported already."""
    if entry.module in sys.modules:
        raise UserError(f"{entry.module} was imported before it could be changed: run patched_port by itself")
    sys.meta_path.insert(0, PatchingFinder(entry))


def main() -> int:
    """Change the module and run the port; returns where the port does not exit itself."""
    sys.dont_write_bytecode = True
    name, *arguments = sys.argv[1:] or [""]
    entry = next((entry for entry in CATALOGUE if entry.name == name), None)
    if entry is None:
        raise UserError(f"{name!r} is no entry of tests/selftest/catalogue.py: name one")
    if entry.old:
        patch(entry)
    sys.argv = ["torch_impl", *arguments]
    runpy.run_module("torch_impl", run_name="__main__")
    return 0


if __name__ == "__main__":
    run_command(main)
