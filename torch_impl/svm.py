"""Stage svm: one binary linear C-SVC a class by LIBSVM, from one Gram matrix for all classes."""

from dataclasses import dataclass

import numpy as np
from libsvm import svmutil

from experiment.errors import UserError
from experiment.pipeline import Stage
from experiment.progress import progress


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
    labels = stage.inputs.array("index", "labels_trainval")
    classes = stage.inputs.json("index", "classes")
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for row, (source, trainval, test) in {
        "baseline_hr": ("features", "hr_trainval", "hr_test"),
        "baseline_lr": ("features", "lr_trainval", "lr_test"),
        "ours": ("transfer_features", "trainval", "test"),
    }.items():
        train_rows = np.array(stage.inputs.array(source, trainval), dtype=np.float64)
        test_rows = np.array(stage.inputs.array(source, test), dtype=np.float64)
        if spec["scale"] == "mean_norm":
            # D22: one factor for all rows, so that C means the same for 100-D and for 2048-D features.
            length = np.linalg.norm(train_rows, axis=1).mean()
            train_rows, test_rows = train_rows / length, test_rows / length
        gram = train_rows @ train_rows.T
        dual = np.zeros((len(classes), len(labels)))
        rho = np.zeros(len(classes))
        summary[row] = {}
        for i, name in enumerate(progress(classes, len(classes), "classes", f"svm {row}")):
            model = train(gram, labels[:, i], spec["c"], spec["tolerance"], name)
            dual[i], rho[i] = model.dual, model.rho
            summary[row][name] = {
                "support_vectors": int(np.count_nonzero(model.dual)),
                "rho": model.rho,
                "objective": model.objective,
            }
        stage.out.array(row, test_rows @ (dual @ train_rows).T - rho)
        stage.out.array(f"{row}_dual", dual)
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
    numbered = np.hstack([np.arange(1, len(used) + 1)[:, None], kernel])
    problem = svmutil.svm_problem(y, numbered, isKernel=True)
    model = svmutil.svm_train(problem, svmutil.svm_parameter(f"-s 0 -t 4 -c {c} -e {tolerance} -m 500 -q"))
    # D16: LIBSVM's decision value is positive for the label that came first in the data.
    sign = float(model.get_labels()[0])
    coefficients = np.array([value[0] for value in model.get_sv_coef()])
    dual = np.zeros(len(labels))
    dual[used[np.array(model.get_sv_indices()) - 1]] = sign * coefficients
    a = dual[used]
    return LinearSVM(dual, sign * model.rho[0], float(0.5 * a @ kernel @ a - np.abs(a).sum()))
