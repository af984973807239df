"""The SVMs trained otherwise (D16, D22, D27, D28, D36)."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from audit.controls.features import unit_rows
from audit.decisions.otherwise.replacing import Load, first_half, replaced, seen
from torch_impl import svm

# The rows of Table 1: where their training and test rows are.
SOURCES = (
    ("features", "hr_trainval", "hr_test"),
    ("features", "lr_trainval", "lr_test"),
    ("transfer_features", "trainval", "test"),
)
NEGLIGIBLE = 1e-12  # of the greatest eigenvalue: what is smaller is rounding


@contextmanager
def rows_of_length_1() -> Iterator[None]:
    """D22: every row of the three is divided by its length."""

    def unit(stage: str, name: str) -> Callable[[Load], np.ndarray]:
        return lambda load: unit_rows(load(stage, name))

    with seen({(stage, name): unit(stage, name) for stage, *names in SOURCES for name in names}):
        yield


@contextmanager
def rbf() -> Iterator[None]:
    """D27: exp(-gamma |x - y|^2) with gamma = 1 / dimension of rows as they come, as `svm-train -t 2` does by itself.

    A linear SVM of rows whose inner products are the kernel is the kernel's own: such rows are given to the stage.
    """
    with seen({(stage, name): view for stage, *names in SOURCES for name, view in embedded(stage, *names).items()}):
        yield


def embedded(stage: str, train: str, test: str) -> dict[str, Callable[[Load], np.ndarray]]:
    """Training and test rows, (n, r) and (m, r) float64, whose inner products with the training ones are the kernel's
    values, by its eigenvectors."""
    found: list[tuple[np.ndarray, ...]] = []  # trainval's rows, eigenvectors and scales: both sets lie in one basis

    def made(load: Load, name: str) -> np.ndarray:
        if not found:
            rows = load(stage, train).astype(np.float64)
            values, vectors = np.linalg.eigh(rbf_kernel(rows, rows))
            kept = values > NEGLIGIBLE * values[-1]
            found.append((rows, vectors[:, kept], np.sqrt(values[kept])))
        ((rows, vectors, scales),) = found
        return rbf_kernel(load(stage, name).astype(np.float64), rows) @ vectors / scales

    return {name: partial(made, name=name) for name in (train, test)}


def rbf_kernel(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(m, n) float64 of rows (m, d) and (n, d)."""
    squared = (one**2).sum(1)[:, None] - 2 * one @ other.T + (other**2).sum(1)
    return np.exp(-squared.clip(min=0) / one.shape[1])


@contextmanager
def positives_twice() -> Iterator[None]:
    """D28: -w1 2."""
    with weighted(lambda positive, negative: (2.0, 1.0)):
        yield


@contextmanager
def balanced() -> Iterator[None]:
    """D28: each class counts as much as the other, n / 2 of its number; scikit-learn calls it "balanced"."""
    with weighted(lambda positive, negative: tuple((positive + negative) / (2 * n) for n in (positive, negative))):
        yield


@contextmanager
def weighted(weights: Callable[[int, int], tuple[float, ...]]) -> Iterator[None]:
    """LIBSVM is told the weights of the labels 1 and -1, given how many rows have them."""
    plain = svm.svmutil.svm_train

    def svm_train(problem: Any, parameter: Any) -> Any:
        positive = int(np.count_nonzero(np.array(problem.y[: problem.l]) > 0))
        parameter.nr_weight = 2
        parameter.weight_label = (ctypes.c_int * 2)(1, -1)
        parameter.weight = (ctypes.c_double * 2)(*weights(positive, problem.l - positive))
        return plain(problem, parameter)

    with replaced(svm.svmutil, "svm_train", svm_train):
        yield


@contextmanager
def sign_as_it_comes() -> Iterator[None]:
    """D16: LIBSVM's decision values as they are, whatever label its model lists first."""
    plain = svm.svmutil.svm_train

    def svm_train(problem: Any, parameter: Any) -> Any:
        model = plain(problem, parameter)
        model.get_labels = lambda: [1, -1]
        return model

    with replaced(svm.svmutil, "svm_train", svm_train):
        yield


@contextmanager
def other_half_of_labels() -> Iterator[None]:
    """D36: the SVMs are trained on the images that `training.half_the_rows` leaves out."""

    def labels(load: Load) -> np.ndarray:
        found = load("index", "labels_trainval")
        found[first_half(len(found))] = 0  # what is labelled 0 trains no SVM (D15)
        return found

    with seen({("index", "labels_trainval"): labels}):
        yield
