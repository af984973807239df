"""Stage metrics: average precision of each class and their mean, for the three rows (paper 4.4)."""

from typing import Sequence

import numpy as np

from experiment.errors import UserError
from experiment.pipeline import Stage
from experiment.stages import ROWS

RECALL_STEPS = 10  # recall 0, 0.1 .. 1


def ap_11point(scores: np.ndarray, labels: np.ndarray) -> float:
    """VOC2007's average precision (D20): the mean over recall 0, 0.1 .. 1 of the best precision at that recall or more.

    Parameters
    ----------
    scores : (n,) float64, greater for the class; equal scores keep the order of the rows.
    labels : (n,) int8; 1 positive, -1 negative, 0 difficult and left out. At least one is 1.

    Source: VOC2007 devkit, VOCevalcls.m. Recall is compared with a tenth as a fraction, not as a float.
    """
    hits = labels[np.argsort(-scores, kind="stable")]
    hits = hits[hits != 0] == 1
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    positives = found[-1]
    best = [precision[found * RECALL_STEPS >= step * positives].max() for step in range(RECALL_STEPS + 1)]
    return float(np.sum(best) / len(best))


def ap_area(scores: np.ndarray, labels: np.ndarray) -> float:
    """The area under the precision-recall steps: the sum over distinct scores of precision times gained recall.

    Same parameters as `ap_11point`. Rows of equal score count together. Source: scikit-learn's definition of
    average_precision_score.
    """
    used = labels != 0
    order = np.argsort(-scores[used], kind="stable")
    sorted_scores = scores[used][order]
    found = np.cumsum(labels[used][order] == 1)
    last_of_score = np.append(np.flatnonzero(np.diff(sorted_scores)), len(order) - 1)
    precision = found[last_of_score] / (last_of_score + 1)
    gained = np.diff(found[last_of_score], prepend=0) / found[-1]
    return float(np.sum(precision * gained))


def check_scores(scores: np.ndarray, labels: np.ndarray, classes: Sequence[str], row: str) -> None:
    """Raise `UserError` where an average precision would be undefined."""
    for column, name in enumerate(classes):
        if not (labels[:, column] == 1).any():
            raise UserError(
                f"class {name} has no positive test image, so that its AP is undefined: add one to the test split, "
                "or take the class off the devkit's lists"
            )
    if not np.isfinite(scores).all():
        raise UserError(f"08-svm/{row}.npy has values that are not finite: delete 08-svm and run again")


def run(stage: Stage) -> None:
    """Both average precisions for each row and class, as fractions."""
    classes = stage.inputs.json("index", "classes")
    labels = np.array(stage.inputs.array("index", "labels_test"))
    result = {}
    for row in ROWS:
        scores = np.array(stage.inputs.array("svm", row))
        check_scores(scores, labels, classes, row)
        eleven, area = (
            [measure(scores[:, column], labels[:, column]) for column in range(len(classes))]
            for measure in (ap_11point, ap_area)
        )
        result[row] = {
            "ap_11point": eleven,
            "ap_area": area,
            "map_11point": float(np.mean(eleven)),
            "map_area": float(np.mean(area)),
        }
    stage.out.json("metrics", result)
