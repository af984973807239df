"""Stage svm: one binary linear C-SVC a class by LIBSVM, on HR, LR and transferred features (paper 4.4)."""

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import svm as libsvm  # python3-libsvm's own modules, not this one

from experiment.errors import UserError
from experiment.pipeline import Stage
from experiment.progress import progress
from experiment.stages import ROWS

NODE = np.dtype([("index", np.int32), ("value", np.float64)], align=True)  # struct svm_node


class Classifier(NamedTuple):
    """One class's machine, signed so that a positive decision value speaks for the class.

    decision: (n_test,) float64; dual: (n_trainval,) float64, label times alpha; objective of the dual,
    1/2 a'Qa - e'a.
    """

    decision: np.ndarray
    dual: np.ndarray
    rho: float
    objective: float


class Nodes:
    """Rows as LIBSVM's svm_node arrays: made once, and shared by every class."""

    def __init__(self, rows: np.ndarray) -> None:
        n, dimension = rows.shape
        self.rows = rows.astype(np.float64)
        self.nodes = np.zeros((n, dimension + 1), NODE)
        self.nodes["index"][:, :-1] = np.arange(1, dimension + 1)
        self.nodes["index"][:, -1] = -1  # ends a row
        self.nodes["value"][:, :-1] = rows
        first = self.nodes.ctypes.data
        stride = self.nodes.strides[0]
        pointer = ctypes.POINTER(libsvm.svm_node)
        self.pointers = [ctypes.cast(first + row * stride, pointer) for row in range(n)]


def linear_parameter(c: float, tolerance: float) -> libsvm.svm_parameter:
    """LIBSVM's parameter for a C-SVC with a linear kernel that says nothing.

    c : the cost of a margin error. tolerance : the stopping criterion (-e). The object holds the callback that
    LIBSVM prints by, in every thread, so it must outlive all training.
    """
    return libsvm.svm_parameter(f"-s 0 -t 0 -c {c!r} -e {tolerance!r} -q")


def train_class(train: Nodes, labels: np.ndarray, test: Nodes, parameter: libsvm.svm_parameter) -> Classifier:
    """Train one class and give its decision values on the test rows.

    labels: (n_trainval,) int8; rows with label 0 (only difficult instances) take no part. Both 1 and -1 occur.
    """
    used = np.flatnonzero(labels)
    problem = ctypes.Structure.__new__(libsvm.svm_problem)  # its own __init__ converts rows one number at a time
    problem.l = len(used)
    targets = (ctypes.c_double * len(used))(*labels[used])
    rows = (ctypes.POINTER(libsvm.svm_node) * len(used))(*(train.pointers[row] for row in used))
    problem.y = targets
    problem.x = rows
    model = libsvm.toPyModel(libsvm.libsvm.svm_train(problem, parameter))
    # LIBSVM's decision speaks for the label that it met first.
    sign = float(model.get_labels()[0])
    dual = np.zeros(len(labels))
    support = used[np.array(model.get_sv_indices()) - 1]
    dual[support] = sign * np.array(model.get_sv_coef()).reshape(-1)
    decision = np.empty(len(test.pointers))
    value = ctypes.c_double()
    for row, nodes in enumerate(test.pointers):
        libsvm.libsvm.svm_predict_values(model, nodes, ctypes.byref(value))
        decision[row] = sign * value.value
    normal = dual[support] @ train.rows[support]
    objective = 0.5 * float(normal @ normal) - float(np.abs(dual).sum())
    return Classifier(decision, dual, sign * model.rho[0], objective)


def mean_length(rows: np.ndarray) -> np.float64:
    """The mean Euclidean length of rows (n, D). Raises `UserError` where all are zero."""
    length = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64)).mean()
    if length == 0:
        raise UserError(
            "every feature of a trainval row is 0, so no SVM can be trained: the backbone's weights are dead"
        )
    return length


def threads() -> int:
    """How many classes are trained at once: LIBSVM itself uses one thread, and ctypes lets others run."""
    return int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)


def run(stage: Stage) -> None:
    """Three rows of machines: on HR features, on LR features, on transferred features."""
    spec = stage.spec["svm"]
    classes = stage.inputs.json("index", "classes")
    labels = np.array(stage.inputs.array("index", "labels_trainval"))
    sources = (("features", "hr_"), ("features", "lr_"), ("transfer_features", ""))
    parameter = linear_parameter(spec["c"], spec["tolerance"])
    summary = {}
    for row, (earlier, prefix) in zip(ROWS, sources):
        if stage.out.has(row, f"{row}_dual"):
            summary[row] = stage.out.remembered(row)
            continue
        rows = stage.inputs.array(earlier, f"{prefix}trainval")
        unit = mean_length(rows) if spec["scale"] == "mean_norm" else 1.0
        train = Nodes(rows / unit)
        test = Nodes(stage.inputs.array(earlier, f"{prefix}test") / unit)

        def fit(column: int, train: Nodes = train, test: Nodes = test) -> Classifier:
            return train_class(train, labels[:, column], test, parameter)

        with ThreadPoolExecutor(threads()) as pool:
            fitted = pool.map(fit, range(len(classes)))
            machines = list(progress(fitted, len(classes), "classes", f"svm {row}"))
        summary[row] = {
            name: {
                "support_vectors": int(np.count_nonzero(machine.dual)),
                "rho": machine.rho,
                "objective": machine.objective,
            }
            for name, machine in zip(classes, machines)
        }
        stage.out.remember(row, summary[row])  # first, so that arrays that are there are never without it
        stage.out.array(row, np.stack([machine.decision for machine in machines], axis=1))
        stage.out.array(f"{row}_dual", np.stack([machine.dual for machine in machines]))
    stage.out.json("summary", summary)
