"""A descendant of the Caffe model as its file holds it, and its arithmetic in the Caffe net's terms.

Folding is exact but for one rounding to float32:

- a convolution's bias b goes into the BatchNorm's mean: (Wx + b) - mean = Wx - (mean - b);
- another eps goes into the variance: var + eps = (var + eps - eps_caffe) + eps_caffe;
- where var + eps is below Caffe's eps, no variance gives it, so the variance is 0 and gamma takes the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiment.errors import UserError
from fetch.convert.layout import Layout, Unit


@dataclass
class Norm:
    """A descendant's BatchNorm: gamma (x - mean) / sqrt(sigma2) + beta, each (channels,)."""

    mean: np.ndarray
    sigma2: np.ndarray  # variance with the descendant's own eps in it
    gamma: np.ndarray
    beta: np.ndarray


@dataclass
class Descendant:
    """What a descendant's file says, by the Caffe net's convolutions.

    Kernels are (n_out, n_in, height, width) and conv1 reads BGR grey levels minus `mean_bgr`; `classifier` is the
    weight (classes, features) and the bias (classes,), or None where the file has none.
    """

    kernels: dict[str, np.ndarray] = field(default_factory=dict)
    norms: dict[str, Norm] = field(default_factory=dict)
    classifier: tuple[np.ndarray, np.ndarray] | None = None
    mean_bgr: tuple[float, ...] = ()
    folded: list[str] = field(default_factory=list)  # what of it is expressed by other numbers in the caffemodel
    differences: list[str] = field(default_factory=list)  # where its own body computes otherwise than the Caffe net


class Arrays:
    """A file's arrays by name (anything with `shape` and `dtype` that numpy can read), each to be taken once."""

    def __init__(self, file: Path, arrays: Mapping[str, Any], remedy: str) -> None:
        self.file, self.remedy = file, remedy
        self._left = dict(arrays)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, *shapes: tuple[int, ...]) -> np.ndarray:
        """An array, which must be there, floating-point, of one of the shapes and finite, or a `UserError` says so."""
        if name not in self._left:
            raise self.refused(f"has no {name}")
        stored = self._left.pop(name)
        if tuple(stored.shape) not in shapes:  # before it is read: a damaged file may claim any size
            raise self.refused(f"has {name} of shape {tuple(stored.shape)}, and the net needs {shapes[0]}")
        if np.dtype(stored.dtype).kind != "f":
            raise self.refused(f"has {name} of type {stored.dtype}, not floating-point")
        array = np.asarray(stored)
        if not np.isfinite(array).all():
            raise self.refused(f"has values in {name} that are not finite")
        return array

    def finish(self) -> None:
        """Raise `UserError` where something was not taken: the file then belongs to another net."""
        if self._left:
            raise self.refused(f"has {sorted(self._left)[0]}, which the net has not")

    def variance(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A variance in float64; a `UserError` where one is negative."""
        array = self.take(name, shape).astype(np.float64)
        if (array < 0).any():
            raise self.refused(f"has a negative variance in {name}")
        return array

    def refused(self, fault: str) -> UserError:
        """The error for a file that is not what it should be."""
        return UserError(f"{self.file} {fault}: {self.remedy}")


def blobs(found: Descendant, layout: Layout) -> list[tuple[str, str, list[np.ndarray]]]:
    """The caffemodel's layers (name, type, float32 blobs) that compute what the descendant does.

    Without a classifier its blobs are zeros, as Caffe's own filler would leave them.
    """
    layers = []
    for unit in layout.units:
        batch_norm, scale = folded_norm(found.norms[unit.name], unit)
        layers.append((unit.name, "Convolution", [found.kernels[unit.name].astype(np.float32)]))
        layers.append((unit.batch_norm, "BatchNorm", batch_norm))
        layers.append((unit.scale, "Scale", scale))
    weight, bias = found.classifier or (np.zeros((layout.classes, layout.features)), np.zeros(layout.classes))
    layers.append((layout.classifier, "InnerProduct", [weight.astype(np.float32), bias.astype(np.float32)]))
    return layers


def folded_norm(norm: Norm, unit: Unit) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """BatchNorm's blobs (mean, variance, scale factor 1) and Scale's (gamma, beta), float32."""
    variance = norm.sigma2 - unit.eps
    gamma = np.where(variance < 0, norm.gamma * np.sqrt(unit.eps / norm.sigma2), norm.gamma)
    batch_norm = [norm.mean, np.maximum(variance, 0), np.ones(1)]
    return [b.astype(np.float32) for b in batch_norm], [b.astype(np.float32) for b in (gamma, norm.beta)]
