"""The port's command line: `python -m torch_impl RUN [--inputs RUN] [--draws RUN] [--only STAGE]`.

PyTorch takes seconds to import, so that is left to what needs it: --help and a mistyped option are answered at once.
"""

import argparse
import importlib
import importlib.metadata
import platform
from collections.abc import Iterator, Mapping
from types import ModuleType

from experiment.artifacts import RunFolder
from experiment.errors import run_command
from experiment.pipeline import main
from experiment.stages import STAGES

PACKAGES = ("torch", "numpy", "pillow", "protobuf", "libsvm-official")


class StageModules(Mapping[str, ModuleType]):
    """Stage name to the port's module of that name, which is imported when it is asked for."""

    def __getitem__(self, stage: str) -> ModuleType:
        if stage not in STAGES:
            raise KeyError(stage)
        return importlib.import_module(f"torch_impl.{stage}")

    def __iter__(self) -> Iterator[str]:
        return iter(STAGES)

    def __len__(self) -> int:
        return len(STAGES)


MODULES = StageModules()


def versions() -> dict[str, str]:
    """The versions of what computes, for the manifest."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found, "blas": blas()}


def blas() -> str:
    """What multiplies matrices: PyTorch's BLAS and convolutions, and numpy's BLAS."""
    import numpy
    import torch

    built = [line.strip(" -") for line in torch.__config__.show().splitlines()]
    found = [line.partition(" (")[0] for line in built if "Math Kernel Library" in line or "MKL-DNN" in line]
    numpy_blas = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return "; ".join([*found, f"numpy: {numpy_blas['name']} {numpy_blas['version']}"])


def set_threads(arguments: argparse.Namespace) -> None:
    """Use the number of threads that was asked for."""
    if arguments.threads:
        import torch

        torch.set_num_threads(arguments.threads)


def seconds_of_stages(run: RunFolder, counts: Mapping[str, int], engine: str) -> dict[str, float]:
    """As `torch_impl.speed` measures them."""
    from torch_impl import speed

    return speed.seconds_of_stages(run, counts, engine)


if __name__ == "__main__":
    run_command(lambda: main("torch", MODULES, versions, before=set_threads, measure=seconds_of_stages))
