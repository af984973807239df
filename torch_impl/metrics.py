"""Stage metrics: average precision per class and its mean, for the three rows of Table 1."""

import numpy as np
import torch
from torch import Tensor

from experiment.errors import UserError
from experiment.pipeline import Stage
from experiment.stages import ROWS


def run(stage: Stage) -> None:
    """Write metrics: row to ap_11point, ap_area (lists in class order), map_11point, map_area; fractions."""
    labels = torch.from_numpy(np.array(stage.inputs.array("index", "labels_test")))
    classes = stage.inputs.json("index", "classes")
    metrics = {}
    for row in ROWS:
        decisions = torch.from_numpy(np.array(stage.inputs.array("svm", row)))
        for i, name in enumerate(classes):
            if not (labels[:, i] == 1).any():
                raise UserError(f"class {name} has no positive test image, so it has no AP: mend its test list")
        eleven = [ap_11point(decisions[:, i], labels[:, i]) for i in range(len(classes))]
        area = [ap_area(decisions[:, i], labels[:, i]) for i in range(len(classes))]
        metrics[row] = {
            "ap_11point": eleven,
            "ap_area": area,
            "map_11point": float(np.mean(eleven)),
            "map_area": float(np.mean(area)),
        }
    stage.out.json("metrics", metrics)


def precision_recall(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Precision and recall (m,) float64 after each image in order of falling score, and the scores in that order.

    scores: (n,), labels: (n,) of 1, 0, -1; images labelled 0 (difficult) are left out, as in VOCevalcls.m (D15).
    Equal scores keep the order of the images.
    """
    counted = labels != 0
    order = torch.argsort(scores[counted], descending=True, stable=True)
    positive = (labels[counted][order] == 1).double()
    found = positive.cumsum(0)
    return found / torch.arange(1, len(found) + 1), found / positive.sum(), scores[counted][order]


def ap_11point(scores: Tensor, labels: Tensor) -> float:
    """VOC2007's AP (D20): the mean over recall 0, 0.1 .. 1 of the best precision at that recall or beyond."""
    precision, recall, _ = precision_recall(scores, labels)
    best = [precision[recall >= step / 10].max().item() for step in range(11)]
    return float(np.mean(best))


def ap_area(scores: Tensor, labels: Tensor) -> float:
    """The area under the precision-recall curve as scikit-learn defines it: a step for each distinct score."""
    precision, recall, ordered = precision_recall(scores, labels)
    last_of_equals = torch.cat([ordered[1:] != ordered[:-1], torch.ones(1, dtype=torch.bool)])
    precision, recall = precision[last_of_equals], recall[last_of_equals]
    return float((torch.diff(recall, prepend=torch.zeros(1, dtype=recall.dtype)) * precision).sum())
