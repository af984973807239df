"""20 SVMs of 5,011 x 2,048, their Gram matrix included: the port beside LIBSVM from rows."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from libsvm import svmutil
from scipy.sparse import csr_matrix

from bench.measure import PORT, Bench, Subject, Work
from bench.pooled import CLASSES, N, labels, pooled
from experiment.spec import read_profile
from torch_impl import svm

NAME = "20 SVMs"
ROUNDS = 3


def run(bench: Bench) -> None:
    """Measure it. LIBSVM from rows takes most of a minute a class, so it trains one, which counts for all."""
    spec = read_profile("paper")[0]["svm"]
    rows = pooled(N + 500).astype(np.float64)
    rows /= np.linalg.norm(rows[:N], axis=1).mean()  # D22, as in the stage svm
    train, test, y = rows[:N], rows[N:], labels(rows)[:N]
    expected = np.empty(len(test))

    def port() -> np.ndarray:
        """Decision values (500, 20)."""
        kernel = svm.Kernel(train @ train.T)
        with ThreadPoolExecutor(svm.at_once(N)) as pool:
            models = list(pool.map(lambda i: svm.train(kernel, y[:, i], spec["c"], spec["tolerance"]), range(CLASSES)))
        return test @ (np.stack([model.dual for model in models]) @ train).T - [model.rho for model in models]

    def libsvm() -> np.ndarray:
        """Decision values (500, 1) of the first class."""
        expected[:] = from_rows(train, y[:, 0], test, spec["c"], spec["tolerance"])
        return expected[:, None]

    subjects = [
        Subject(PORT, "float64", port),
        Subject("LIBSVM from rows, one class x 20", "float64", libsvm, parts=CLASSES),
    ]
    error = lambda found: float(np.abs(found[:, 0] - expected).max())  # noqa: E731
    bench.measure(Work(NAME, "s", subjects, error=error, rounds=ROUNDS))


def from_rows(train: np.ndarray, labels: np.ndarray, test: np.ndarray, c: float, tolerance: float) -> np.ndarray:
    """Decision values (m,) on test rows (m, d) of LIBSVM with its linear kernel, as `svm-train -t 0` trains it."""
    problem = svmutil.svm_problem(labels.astype(np.float64), csr_matrix(train))
    model = svmutil.svm_train(problem, svmutil.svm_parameter(f"-s 0 -t 0 -c {c} -e {tolerance} -m 500 -q"))
    support = np.array(model.get_sv_indices()) - 1
    normal = np.array(model.get_sv_coef())[:, 0] @ train[support]
    return model.get_labels()[0] * (test @ normal - model.rho[0])
