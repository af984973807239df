"""Stage svm: one binary linear C-SVC a class by LIBSVM, from one Gram matrix for all classes."""

import ctypes
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import torch
from libsvm import svm as libsvm
from libsvm import svmutil

from experiment.artifacts import sha256_array, sha256_json
from experiment.errors import UserError
from experiment.pipeline import Stage
from experiment.progress import progress

REFERENCE_TOLERANCE = 0.1  # times the specification's; at a hundredth LIBSVM does not end (its kernel is float32)
NODE = np.dtype([("index", np.int32), ("value", np.float64)], align=True)  # struct svm_node
BYTES_PER_PAIR = 4  # of training rows: a class's kernel values in LIBSVM's cache
KERNELS_BYTES = 1.0e9  # that all classes which are trained at once may take


@dataclass
class LinearSVM:
    """A trained classifier in its dual form: f(x) = sum_i dual[i] <x_i, x> - rho, positive for the class.

    dual: (n,) float64, label times alpha of each row, 0 for rows that are no support vectors or were left out.
    objective: 1/2 a'Qa - e'a, as LIBSVM prints it.
    """

    dual: np.ndarray
    rho: float
    objective: float


@dataclass
class Row:
    """What one row of Table 1 becomes.

    values: (m, k) float64 decision values of the test images for each class; dual: (k, n) float64.
    """

    values: np.ndarray
    dual: np.ndarray
    summary: dict[str, dict[str, float]]


# Within `sharing_baselines`: the baselines that were trained there, by what they are made from.
_baselines: ContextVar[dict[str, Row]] = ContextVar("baselines")


@contextmanager
def sharing_baselines() -> Iterator[None]:
    """Within: train the baselines of the same features once for all runs of the stage, as for Table 2's networks."""
    token = _baselines.set({})
    try:
        yield
    finally:
        _baselines.reset(token)


def run(stage: Stage) -> None:
    """Write the decision values and dual coefficients of the three rows, and a summary."""
    # All is float64 already; the reference stops nearer the optimum.
    spec = dict(stage.spec["svm"])
    spec["tolerance"] *= REFERENCE_TOLERANCE if stage.variation == "reference" else 1
    labels = stage.inputs.array("index", "labels_trainval")
    classes = stage.inputs.json("index", "classes")
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for name, (source, trainval, test) in {
        "baseline_hr": ("features", "hr_trainval", "hr_test"),
        "baseline_lr": ("features", "lr_trainval", "lr_test"),
        "ours": ("transfer_features", "trainval", "test"),
    }.items():
        if stage.out.has(name, f"{name}_dual"):
            summary[name] = stage.out.remembered(name)
            continue
        train_rows, test_rows = (stage.inputs.array(source, split) for split in (trainval, test))
        known = _baselines.get(None) if source == "features" else None
        arguments = (train_rows, test_rows, labels, classes, spec, name, source)
        if known is None:
            row = classify(*arguments)
        else:
            made_from = sha256_json([*map(sha256_array, (train_rows, test_rows, labels)), classes, spec])
            row = known[made_from] = known.get(made_from) or classify(*arguments)
        summary[name] = row.summary
        stage.out.remember(name, row.summary)  # first, so that arrays that are there are never without it
        stage.out.array(name, row.values)
        stage.out.array(f"{name}_dual", row.dual)
    stage.out.json("summary", summary)


def classify(
    train_rows: np.ndarray,
    test_rows: np.ndarray,
    labels: np.ndarray,
    classes: list[str],
    spec: dict,
    name: str,
    source: str,
) -> Row:
    """Train a classifier a class on train_rows (n, d) with labels (n, k), and apply it to test_rows (m, d).

    spec: the specification's section svm; name, source: the row's and its stage's, for progress and errors.
    """
    train_rows, test_rows = train_rows.astype(np.float64), test_rows.astype(np.float64)
    if spec["scale"] == "mean_norm":
        # D22: one factor for all rows, so that C means the same for 100-D and for 2048-D features.
        length = np.linalg.norm(train_rows, axis=1).mean()
        if length == 0:
            raise UserError(f"every {source} row of trainval is 0, so no SVM can be trained: the weights are dead")
        train_rows, test_rows = train_rows / length, test_rows / length
    gram = train_rows @ train_rows.T
    kernel = Kernel(gram)

    def fit(i: int) -> LinearSVM:
        return train(kernel, labels[:, i], spec["c"], spec["tolerance"], classes[i])

    with ThreadPoolExecutor(at_once(len(gram))) as pool:
        models = list(progress(pool.map(fit, range(len(classes))), len(classes), "classes", f"svm {name}"))
    dual = np.stack([model.dual for model in models])
    rho = np.array([model.rho for model in models])
    summary = {
        label: {
            "support_vectors": int(np.count_nonzero(model.dual)),
            "rho": model.rho,
            "objective": model.objective,
        }
        for label, model in zip(classes, models, strict=True)
    }
    return Row(test_rows @ (dual @ train_rows).T - rho, dual, summary)


class Kernel:
    """One Gram matrix as LIBSVM's nodes, which all classes share: made once, and never copied.

    LIBSVM finds the kernel's value of rows i and j as the node of row i that row j's first node numbers. So a class
    that leaves rows out has just their pointers left out.

    Attributes
    ----------
    gram : (n, n) float64 inner products of the rows.
    """

    def __init__(self, gram: np.ndarray) -> None:
        n = len(gram)
        self.gram = gram
        self.nodes = np.zeros((n, n + 1), NODE)
        self.nodes["value"][:, 0] = np.arange(1, n + 1)
        self.nodes["value"][:, 1:] = gram

    def problem(self, used: np.ndarray, y: np.ndarray) -> libsvm.svm_problem:
        """LIBSVM's problem of some of the rows: used: (m,) row numbers, y: (m,) their labels."""
        problem = libsvm.svm_problem.__new__(libsvm.svm_problem)  # its __init__ copies every value
        addresses = self.nodes.ctypes.data + used * self.nodes.strides[0]
        problem.l, problem.n, problem.x_space = len(used), len(self.nodes), self.nodes
        problem.x = (ctypes.POINTER(libsvm.svm_node) * len(used)).from_buffer_copy(addresses.astype(np.uintp))
        problem.y = (ctypes.c_double * len(used))(*y)
        return problem


def at_once(n: int) -> int:
    """How many classes are trained at once on n rows: LIBSVM uses one thread, and lets others run meanwhile."""
    return min(torch.get_num_threads(), max(1, int(KERNELS_BYTES / (BYTES_PER_PAIR * n**2))))


def train(kernel: Kernel, labels: np.ndarray, c: float, tolerance: float, name: str = "") -> LinearSVM:
    """Train one class by LIBSVM with a precomputed kernel of n rows.

    labels: (n,) of 1, -1 and 0; rows labelled 0 (difficult) are left out (D15). Raises `UserError` where there is
    nothing to tell apart.
    """
    used = np.flatnonzero(labels != 0)
    y = labels[used].astype(np.float64)
    if len(set(y)) < 2:
        missing = "negative" if (y > 0).all() and len(y) else "positive"
        raise UserError(f"class {name} has no {missing} trainval image: its list needs both labels 1 and -1")
    problem = kernel.problem(used, y)
    model = svmutil.svm_train(problem, svmutil.svm_parameter(f"-s 0 -t 4 -c {c} -e {tolerance} -m 500 -q"))
    # D16: LIBSVM's decision value is positive for the label that its model lists first.
    sign = float(model.get_labels()[0])
    support = used[np.array(model.get_sv_indices()) - 1]
    a = sign * np.array([value[0] for value in model.get_sv_coef()])
    dual = np.zeros(len(labels))
    dual[support] = a
    objective = 0.5 * a @ kernel.gram[np.ix_(support, support)] @ a - np.abs(a).sum()
    return LinearSVM(dual, sign * model.rho[0], float(objective))
