"""The port's command line: `python -m torch_impl RUN [--inputs RUN] [--draws RUN] [--only STAGE]`."""

import argparse
import importlib.metadata
import platform

import numpy
import torch

from experiment.errors import run_command
from experiment.pipeline import main
from torch_impl import (
    clusters,
    features,
    images,
    index,
    metrics,
    pseudo_labels,
    resnet101,
    svm,
    transfer,
    transfer_features,
)
from torch_impl.speed import seconds_of_stages

MODULES = {
    "index": index,
    "images": images,
    "features": features,
    "clusters": clusters,
    "pseudo_labels": pseudo_labels,
    "transfer": transfer,
    "transfer_features": transfer_features,
    "svm": svm,
    "metrics": metrics,
    "resnet101": resnet101,
}
PACKAGES = ("torch", "numpy", "pillow", "protobuf", "libsvm-official")


def versions() -> dict[str, str]:
    """The versions of what computes, for the manifest."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found, "blas": blas()}


def blas() -> str:
    """What multiplies matrices: PyTorch's BLAS and convolutions, and numpy's BLAS."""
    built = [line.strip(" -") for line in torch.__config__.show().splitlines()]
    found = [line.partition(" (")[0] for line in built if "Math Kernel Library" in line or "MKL-DNN" in line]
    numpy_blas = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return "; ".join([*found, f"numpy: {numpy_blas['name']} {numpy_blas['version']}"])


def set_threads(arguments: argparse.Namespace) -> None:
    """Use the number of threads that was asked for."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)


if __name__ == "__main__":
    run_command(lambda: main("torch", MODULES, versions, before=set_threads, measure=seconds_of_stages))
