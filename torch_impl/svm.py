"""Stage svm: one binary linear C-SVC a class by LIBSVM, from one Gram matrix for all classes."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from libsvm import svmutil
from scipy.sparse import csr_matrix

from experiment.errors import UserError
from experiment.pipeline import Stage
from experiment.progress import progress

REFERENCE_TOLERANCE = 0.1  # times the specification's; at a hundredth LIBSVM does not end (its kernel is float32)
BYTES_PER_PAIR = 44  # of training rows: what a class's kernel takes as numbered rows, sparse matrix and LIBSVM's nodes
KERNELS_BYTES = 2.5e9  # that all classes which are trained at once may take, so that memory stays under 4 GiB


@dataclass
class LinearSVM:
    """A trained classifier in its dual form: f(x) = sum_i dual[i] <x_i, x> - rho, positive for the class.

    dual: (n,) float64, label times alpha of each row, 0 for rows that are no support vectors or were left out.
    objective: 1/2 a'Qa - e'a, as LIBSVM prints it.
    """

    dual: np.ndarray
    rho: float
    objective: float


def run(stage: Stage) -> None:
    """Write the decision values and dual coefficients of the three rows, and a summary."""
    spec = stage.spec["svm"]
    # All is float64 already; the reference stops nearer the optimum.
    tolerance = spec["tolerance"] * (REFERENCE_TOLERANCE if stage.variation == "reference" else 1)
    labels = stage.inputs.array("index", "labels_trainval")
    classes = stage.inputs.json("index", "classes")
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for row, (source, trainval, test) in {
        "baseline_hr": ("features", "hr_trainval", "hr_test"),
        "baseline_lr": ("features", "lr_trainval", "lr_test"),
        "ours": ("transfer_features", "trainval", "test"),
    }.items():
        if stage.out.has(row, f"{row}_dual") and stage.out.remembered(row) is not None:
            summary[row] = stage.out.remembered(row)
            continue
        train_rows = np.array(stage.inputs.array(source, trainval), dtype=np.float64)
        test_rows = np.array(stage.inputs.array(source, test), dtype=np.float64)
        if spec["scale"] == "mean_norm":
            # D22: one factor for all rows, so that C means the same for 100-D and for 2048-D features.
            length = np.linalg.norm(train_rows, axis=1).mean()
            if length == 0:
                raise UserError(f"every {source} row of trainval is 0, so no SVM can be trained: the weights are dead")
            train_rows, test_rows = train_rows / length, test_rows / length
        gram = train_rows @ train_rows.T

        def fit(i: int, gram: np.ndarray = gram) -> LinearSVM:
            return train(gram, labels[:, i], spec["c"], tolerance, classes[i])

        # LIBSVM uses one thread, and lets others run meanwhile.
        at_once = min(torch.get_num_threads(), max(1, int(KERNELS_BYTES / (BYTES_PER_PAIR * len(gram) ** 2))))
        with ThreadPoolExecutor(at_once) as pool:
            fitted = pool.map(fit, range(len(classes)))
            models = list(progress(fitted, len(classes), "classes", f"svm {row}"))
        dual = np.stack([model.dual for model in models])
        rho = np.array([model.rho for model in models])
        summary[row] = {
            name: {
                "support_vectors": int(np.count_nonzero(model.dual)),
                "rho": model.rho,
                "objective": model.objective,
            }
            for name, model in zip(classes, models, strict=True)
        }
        stage.out.array(row, test_rows @ (dual @ train_rows).T - rho)
        stage.out.array(f"{row}_dual", dual)
        stage.out.remember(row, summary[row])
    stage.out.json("summary", summary)


def train(gram: np.ndarray, labels: np.ndarray, c: float, tolerance: float, name: str = "") -> LinearSVM:
    """Train one class by LIBSVM with a precomputed kernel.

    gram: (n, n) float64 inner products of the rows; labels: (n,) of 1, -1 and 0; rows labelled 0 (difficult)
    are left out (D15). Raises `UserError` where there is nothing to tell apart.
    """
    used = np.flatnonzero(labels != 0)
    y = labels[used].astype(np.float64)
    if len(set(y)) < 2:
        missing = "negative" if (y > 0).all() and len(y) else "positive"
        raise UserError(f"class {name} has no {missing} trainval image: its list needs both labels 1 and -1")
    kernel = gram[np.ix_(used, used)]
    n = len(used)
    numbered = np.hstack([np.arange(1, n + 1)[:, None], kernel])  # LIBSVM wants a row's number before its kernel values
    # A sparse matrix with every entry stored: LIBSVM converts that by numpy, a dense one number by number.
    every = np.tile(np.arange(n + 1), n), np.arange(n + 1) * (n + 1)
    problem = svmutil.svm_problem(y, csr_matrix((numbered.ravel(), *every), (n, n + 1)), isKernel=True)
    model = svmutil.svm_train(problem, svmutil.svm_parameter(f"-s 0 -t 4 -c {c} -e {tolerance} -m 500 -q"))
    # D16: LIBSVM's decision value is positive for the label that its model lists first.
    sign = float(model.get_labels()[0])
    coefficients = np.array([value[0] for value in model.get_sv_coef()])
    dual = np.zeros(len(labels))
    dual[used[np.array(model.get_sv_indices()) - 1]] = sign * coefficients
    a = dual[used]
    return LinearSVM(dual, sign * model.rho[0], float(0.5 * a @ kernel @ a - np.abs(a).sum()))
