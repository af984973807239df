"""Clusters and the transfer network made otherwise (D3, D11, D13, D14, D21, D26, D29, D30, D36)."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from audit.controls.features import unit_rows
from audit.decisions.otherwise.replacing import Load, first_half, replaced, seen
from experiment.artifacts import RunFolder
from torch_impl import caffe_net, clusters, transfer

STARTS = 10
DROPPED = 0.5  # Caffe's default ratio, and that of Hinton et al. 2012


@contextmanager
def clusters_of_unit_rows() -> Iterator[None]:
    """D3: k-means sees HR rows of length 1; pseudo-labels are then of LR rows of length 1, since the centroids are."""
    with seen({("features", name): unit(name) for name in ("hr_trainval", "lr_trainval")}):
        yield


@contextmanager
def ten_starts(seed: int, limits: Mapping[str, Any]) -> Iterator[None]:
    """D29: of ten starts, the stage's own and nine more drawn alike, the one whose clusters have the least inertia.

    limits : the specification's section clusters.
    """
    plain = clusters.draw_centroids

    def draw_centroids(features: Tensor, k: int, init: str, own_seed: int) -> Tensor:
        seeds = (own_seed, *(STARTS * seed + i for i in range(1, STARTS)))
        starts = [plain(features, k, init, one) for one in seeds]
        return min(
            starts, key=lambda start: clusters.kmeans(features, start, limits["max_iter"], limits["tolerance"])[2]
        )

    with replaced(clusters, "draw_centroids", draw_centroids):
        yield


@contextmanager
def input_of_unit_rows() -> Iterator[None]:
    """D30: the network's rows are brought to length 1."""
    with seen({("features", name): unit(name) for name in ("lr_trainval", "lr_test")}):
        yield


def unit(name: str) -> Callable[[Load], np.ndarray]:
    """A feature set with rows of length 1."""
    return lambda load: unit_rows(load("features", name))


@contextmanager
def standardised_input() -> Iterator[None]:
    """D30: each of the network's inputs has mean 0 and variance 1 over trainval, or variance 0 where it is constant."""

    def standardised(name: str) -> Callable[[Load], np.ndarray]:
        def made(load: Load) -> np.ndarray:
            train = load("features", "lr_trainval").astype(np.float64)
            spread = train.std(axis=0)
            scaled = (load("features", name) - train.mean(axis=0)) / np.where(spread > 0, spread, 1)
            return scaled.astype(np.float32)

        return made

    with seen({("features", name): standardised(name) for name in ("lr_trainval", "lr_test")}):
        yield


@contextmanager
def trained_on(run: RunFolder) -> Iterator[None]:
    """D21: clusters, pseudo-labels and the network are of another run's images; the SVMs are of this one's."""
    arrays = {name: np.array(run.array("features", name)) for name in ("hr_trainval", "lr_trainval")}
    with seen({("features", name): lambda load, array=array: array for name, array in arrays.items()}):  # type: ignore[misc]
        yield


@contextmanager
def half_the_rows() -> Iterator[None]:
    """D36: clusters, pseudo-labels and the network are of one half of the trainval images."""

    def half(name: str) -> Callable[[Load], np.ndarray]:
        def made(load: Load) -> np.ndarray:
            rows = load("features", name)
            return rows[first_half(len(rows))]

        return made

    with seen({("features", name): half(name) for name in ("hr_trainval", "lr_trainval")}):
        yield


@contextmanager
def loss_unclamped() -> Iterator[None]:
    """D11: PyTorch's own cross entropy."""

    def loss(layer: Any, bottoms: list[Tensor], blobs: list[Tensor]) -> Tensor:
        return F.cross_entropy(bottoms[0], bottoms[1].long())

    with replaced(caffe_net.LAYERS, "SoftmaxWithLoss", loss):
        yield


@contextmanager
def last_batch_dropped() -> Iterator[None]:
    """D13: rows at the end that do not fill a batch are left out."""
    with batches_of(lambda n, size: [(i * size, (i + 1) * size) for i in range(n // size)]):
        yield


@contextmanager
def last_batch_shortened() -> Iterator[None]:
    """D13: rows at the end that do not fill a batch are one by themselves."""
    with batches_of(lambda n, size: [(start, min(start + size, n)) for start in range(0, n, size)]):
        yield


@contextmanager
def batches_of(epoch: Callable[[int, int], list[tuple[int, int]]]) -> Iterator[None]:
    """The batches of an epoch, first row and end of each, given the rows and the batch size, come again and again."""

    def hdf5_batches(n: int, batch_size: int, iteration: int = 0) -> Iterator[Tensor]:
        ends = epoch(n, batch_size) or [(0, n)]  # of fewer rows than a batch has, all
        while True:
            yield torch.arange(*ends[iteration % len(ends)])
            iteration += 1

    with replaced(transfer, "hdf5_batches", hdf5_batches):
        yield


@contextmanager
def rate_outside() -> Iterator[None]:
    """D14: `V = m V + g + wd W`, `W -= lr V`: then a drop of the rate shrinks what the history has gathered, too."""

    class Outside(transfer.SGDSolver):
        def step(self, features: Tensor, labels: Tensor) -> float:
            if self.iteration and self.iteration % self.settings.stepsize == 0:
                for history in self.history:  # Caffe's history is lr V, and lr is gamma times what it was
                    history.mul_(self.settings.gamma)
            return super().step(features, labels)

    with replaced(transfer, "SGDSolver", Outside):
        yield


@contextmanager
def no_relu() -> Iterator[None]:
    """D26: the hidden layer has no activation, so that the network is linear."""
    with replaced(caffe_net.LAYERS, "ReLU", lambda layer, bottoms, blobs: bottoms[0]):
        yield


@contextmanager
def dropout(seed: int) -> Iterator[None]:
    """D26: half of the hidden layer's outputs, drawn anew in each iteration, are 0 in training, and the others twice
    what they are, as Caffe's Dropout has it."""
    plain = caffe_net.relu

    class Drawing(transfer.SGDSolver):
        def step(self, features: Tensor, labels: Tensor) -> float:
            # What is drawn depends on seed and iteration alone, so that a training goes on as if it never stopped.
            torch.manual_seed(seed * 10**6 + self.iteration)
            return super().step(features, labels)

    def dropped(layer: Any, bottoms: list[Tensor], blobs: list[Tensor]) -> Tensor:
        top = plain(layer, bottoms, blobs)
        return top if top.is_meta else F.dropout(top, DROPPED)

    with replaced(transfer, "SGDSolver", Drawing), replaced(caffe_net.LAYERS, "ReLU", dropped):
        yield
