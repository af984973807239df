"""The controls' SVMs: the port's, for any rows, and with C chosen by cross-validation on trainval."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from compare.bootstrap import ap_11point
from experiment.errors import UserError
from torch_impl import svm

# Hsu, Chang, Lin, "A practical guide to support vector classification" (LIBSVM's guide), 3.2, as far as 2^7: beyond,
# LIBSVM takes minutes on transferred features, which lie close to a few directions.
C_GRID = tuple(2.0**exponent for exponent in range(-5, 8, 2))
FOLDS = 3  # facebookresearch/fair_self_supervision_benchmark, tools/svm/train_svm_kfold.py
# LIBSVM's default, for the choice and for the SVM that is chosen: where C is great, it does not get to the
# specification's.
CHOSEN_TOLERANCE = 1e-3


def decisions_on(
    train: np.ndarray,
    test: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    settings: dict[str, Any],
    choose: bool = False,
) -> tuple[np.ndarray, float]:
    """Decision values (m, C) float64 on test rows (m, d), and the C of all classes' SVMs.

    train : (n, d). labels : (n, C) of 1, 0 and -1; images labelled 0 (difficult) are left out (D15). settings : as the
    specification's svm; where `choose` is true, `chosen_c` and `CHOSEN_TOLERANCE` replace its C and tolerance.

    Raises `UserError` where every training row is 0, or a class has nothing to tell apart.
    """
    train, test = np.asarray(train, np.float64), np.asarray(test, np.float64)
    if settings["scale"] == "mean_norm":
        # D22, as in the stage svm.
        length = np.linalg.norm(train, axis=1).mean()
        if length == 0:
            raise UserError("every trainval row of a control is 0, so no SVM can be trained: the network is dead")
        train, test = train / length, test / length
    kernel = svm.Kernel(train @ train.T)
    with ThreadPoolExecutor(svm.at_once(len(train))) as pool:
        c, tolerance = settings["c"], settings["tolerance"]
        if choose:
            c, tolerance = chosen_c(kernel, labels, pool), CHOSEN_TOLERANCE

        def fit(i: int) -> svm.LinearSVM:
            return svm.train(kernel, labels[:, i], c, tolerance, classes[i])

        models = list(pool.map(fit, range(len(classes))))
    dual = np.stack([model.dual for model in models])
    return test @ (dual @ train).T - np.array([model.rho for model in models]), c


def chosen_c(kernel: svm.Kernel, labels: np.ndarray, pool: ThreadPoolExecutor) -> float:
    """The C of `C_GRID` with the greatest 11-point AP, the mean of classes and folds; of equals the least.

    One C for all classes, as LIBSVM's default, which it takes the place of, is one: a choice for each class would rest
    on the few positive images of a fold. kernel : of trainval's rows; no fold computes it anew.

    Raises `UserError` where no class has a positive and a negative image for every fold.
    """
    usable = [i for i in range(labels.shape[1]) if min((labels[:, i] == sign).sum() for sign in (1, -1)) >= FOLDS]
    if not usable:
        raise UserError(f"no class has {FOLDS} positive and {FOLDS} negative trainval images: C cannot be chosen")

    def score(i: int) -> list[float]:
        """The mean AP of a class for each C."""
        held = folds(labels[:, i])
        return [float(np.mean([fold_ap(kernel, labels[:, i], held == f, c) for f in range(FOLDS)])) for c in C_GRID]

    scores = np.mean(list(pool.map(score, usable)), axis=0)
    return C_GRID[int(np.argmax(np.round(scores, 12)))]  # what differs by less is equal, but for the order of a sum


def folds(labels: np.ndarray) -> np.ndarray:
    """The fold (n,) of each image for one class: its positives are dealt out in turn, and so are its negatives.

    Difficult images, whose label is 0, are in no fold (-1).
    """
    fold = np.full(len(labels), -1)
    for sign in (1, -1):
        members = np.flatnonzero(labels == sign)
        fold[members] = np.arange(len(members)) % FOLDS
    return fold


def fold_ap(kernel: svm.Kernel, labels: np.ndarray, held: np.ndarray, c: float) -> float:
    """The AP of one class on the images `held` (n,) bool by an SVM of the others: labels (n,) of 1, 0 and -1."""
    model = svm.train(kernel, np.where(held, 0, labels), c, CHOSEN_TOLERANCE)  # it leaves out what is labelled 0
    return ap_11point(kernel.gram[held] @ model.dual - model.rho, labels[held])
