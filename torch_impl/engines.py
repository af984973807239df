"""What computes the features: the port's own net, or a faster engine that gives the same to float32's rounding.

An engine, but for the port's own net, takes the layers with BatchNorm and Scale folded in (`folding`). Which one a run
has is in the manifest of its stage features and in that stage's key. One of a GPU, or of bfloat16, makes the training,
too.
"""

import importlib.metadata
import os
from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from experiment.errors import UserError
from experiment.stages import OF_THE_NET
from torch_impl.caffe_net import Arithmetic, CaffeNet

AUTO = "auto"
# Engine to the packages that it needs, the fastest first (`make bench`). All compute in float32 and pass the
# comparison; the first that is installed is taken where none is named.
ENGINES: dict[str, tuple[str, ...]] = {
    "openvino": ("openvino", "onnx"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "folded": (),
    "eager": (),
}
# A name with this ending rounds to 8 bits what each layer computes and what the training multiplies: only ever taken by
# name.
BFLOAT16 = "-bfloat16"
# `folded` on a GPU: only ever by name, since no comparison has been run on one.
CUDA = "cuda"
NAMES = (AUTO, *ENGINES, CUDA, *(f"{name}{BFLOAT16}" for name in ("openvino", "folded", CUDA)))
CPU = torch.device("cpu")


class Net(Protocol):
    """What computes blobs of a net."""

    def forward(self, inputs: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
        """See `CaffeNet.forward`."""


def choose(asked: str, variation: str = "") -> dict[str, str]:
    """The engine that is meant by a name, under "engine", and the versions of the packages or the GPU that it needs.

    Raises `UserError` for a name that is no engine's, and for an engine that is not installed or not this machine's.
    """
    if asked not in NAMES:
        raise UserError(f"there is no engine {asked!r}: ENGINE= can be {', '.join(NAMES)}")
    if variation in OF_THE_NET:
        asked = "eager"
    if asked == AUTO:
        asked = next(name for name in ENGINES if not missing(name))
    if lacking := missing(asked):
        install = "`.venv/bin/pip install '.[fast]'`, or " if set(lacking) <= set(needs(asked)) else ""
        raise UserError(f"engine {asked} needs {' and '.join(lacking)}: {install}pass another ENGINE=")
    if device_of(asked) != CPU:
        gpu = torch.cuda.get_device_name(device_of(asked))
        return {"engine": asked, "gpu": gpu, "cuda": str(torch.version.cuda)}
    return {"engine": asked, **{package: importlib.metadata.version(package) for package in needs(asked)}}


def device_of(engine: str) -> torch.device:
    """Where an engine computes; under torchrun each process of a machine has the GPU of its number, in turn."""
    if engine.removesuffix(BFLOAT16) != CUDA:
        return CPU
    return torch.device(CUDA, int(os.environ.get("LOCAL_RANK", 0)) % max(1, torch.cuda.device_count()))


def is_installed(package: str) -> bool:
    """Whether a package of that name is installed; a module without its distribution has no version to tell."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def needs(name: str) -> tuple[str, ...]:
    """The packages that an engine needs besides the port's own."""
    return ENGINES.get(name.removesuffix(BFLOAT16), ())


def missing(name: str) -> list[str]:
    """What an engine needs and this machine lacks."""
    if device_of(name) != CPU and not torch.cuda.is_available():
        return ["a GPU", "a PyTorch that is built for it"]
    packages = [package for package in needs(name) if not is_installed(package)]
    if name == f"openvino{BFLOAT16}" and not packages:
        from torch_impl.engine_openvino import has_bfloat16

        return [] if has_bfloat16() else ["a processor with AVX-512"]
    return packages


def build(name: str, net: CaffeNet, blob: str) -> Net:
    """What computes `blob` of a net, its parameters included, by an engine, with as many threads as PyTorch has."""
    if name == "eager":
        return net
    exact = CaffeNet(net.path, arithmetic=Arithmetic(torch.float64))
    exact.set_parameters({layer: [blob.numpy() for blob in blobs] for layer, blobs in net.parameters.items()})
    dtype = torch.bfloat16 if name.endswith(BFLOAT16) else torch.float32
    # Only the module of the engine that is used: the others' runtimes may not be installed.
    if name.startswith("openvino"):
        from torch_impl.engine_openvino import OpenVINONet

        return OpenVINONet(exact, blob, dtype)
    if name == "onnxruntime":
        from torch_impl.engine_onnxruntime import ONNXRuntimeNet

        return ONNXRuntimeNet(exact, blob)
    from torch_impl.engine_torch import FoldedNet

    return FoldedNet(exact, blob, dtype, device_of(name))
