"""Average precision against brute force and scikit-learn, with ties and difficult images."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from experiment.artifacts import RunFolder
from tests.conftest import make_stage, user_error
from torch_impl import metrics
from torch_impl.metrics import ap_11point, ap_area


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels 1, 0, -1 of some images, at least one of them positive; every other case with many ties."""
    random = np.random.default_rng(seed)
    n = int(random.integers(1, 60))
    labels = random.choice([1, 0, -1], n, p=[0.3, 0.2, 0.5])
    labels[random.integers(n)] = 1
    scores = random.normal(0, 1, n) + labels
    return (np.round(scores) if seed % 2 else scores), labels.astype(np.int8)


def brute_force_11point(scores: np.ndarray, labels: np.ndarray) -> float:
    """The definition (Everingham et al. 2010, 4.2): for each recall r of 0, 0.1 .. 1 the greatest precision of any
    list of the first images that reaches r, counted image by image; difficult images do not count."""
    ranked = sorted((i for i in range(len(scores)) if labels[i] != 0), key=lambda i: -scores[i])
    positives = sum(labels[i] == 1 for i in ranked)
    best = [0.0] * 11
    for length in range(1, len(ranked) + 1):
        found = sum(labels[i] == 1 for i in ranked[:length])
        for step in range(11):
            if found * 10 >= step * positives:
                best[step] = max(best[step], found / length)
    return sum(best) / 11


@pytest.mark.parametrize("seed", range(60))
def test_11point_ap_is_the_definitions(seed):
    scores, labels = random_case(seed)
    found = ap_11point(torch.from_numpy(scores), torch.from_numpy(labels))
    assert found == pytest.approx(brute_force_11point(scores, labels), abs=1e-12)


@pytest.mark.parametrize("seed", range(60))
def test_area_ap_is_scikit_learns(seed):
    scores, labels = random_case(seed)
    expected = average_precision_score(labels[labels != 0] == 1, scores[labels != 0])
    assert ap_area(torch.from_numpy(scores), torch.from_numpy(labels)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("positives", range(1, 60))
def test_a_recall_of_exactly_a_tenth_counts_as_reached(positives):
    """The first tenth of the positives stands first, the others last behind as many negatives: wherever 0.1 k is
    reached exactly, a recall that is off by a rounding would show."""
    first = positives // 10
    labels = np.array([1] * first + [-1] * positives + [1] * (positives - first))
    scores = np.arange(len(labels))[::-1].astype(float)
    found = ap_11point(torch.from_numpy(scores), torch.from_numpy(labels))
    assert found == pytest.approx(brute_force_11point(scores, labels), abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([3, 2, 1], [1, -1, -1], 1.0),
        ([1, 2, 3], [1, -1, -1], 1 / 3),
        ([3, 2, 1], [1, -1, 1], (6 * 1 + 5 * 2 / 3) / 11),
        ([3, 2, 1], [0, 1, -1], 1.0),
        ([2, 2], [1, -1], 1.0),  # of equals the first comes first
        ([2, 2], [-1, 1], 0.5),
    ],
)
def test_11point_ap_by_hand(scores, labels, expected):
    assert ap_11point(torch.tensor(scores, dtype=torch.float64), torch.tensor(labels)) == pytest.approx(expected)


def test_many_equal_scores_keep_the_order_of_the_images():
    """A sort that is not stable shows only in long lists."""
    random = np.random.default_rng(0)
    scores, labels = random.integers(0, 3, 5000).astype(float), random.choice([1, -1], 5000)
    ranked = np.argsort(-scores, kind="stable")
    precision = np.cumsum(labels[ranked] == 1) / np.arange(1, 5001)
    recall = np.cumsum(labels[ranked] == 1) / (labels == 1).sum()
    expected = np.mean([precision[recall >= step / 10].max() for step in range(11)])
    assert ap_11point(torch.from_numpy(scores), torch.from_numpy(labels)) == pytest.approx(expected, abs=1e-12)


def write_stage(folder, decisions: dict[str, np.ndarray], labels: np.ndarray):
    """The stage with decision values of three rows and two classes."""
    return make_stage(
        folder,
        "metrics",
        {"metrics": {}},
        {"index": {"labels_test": labels, "classes": ["cat", "cow"]}, "svm": decisions},
    )


def test_stage_gives_each_class_and_the_mean(tmp_path):
    random = np.random.default_rng(5)
    labels = random.choice([1, 0, -1], (30, 2)).astype(np.int8)
    decisions = {row: random.normal(0, 1, (30, 2)) for row in ("baseline_hr", "baseline_lr", "ours")}
    stage = write_stage(tmp_path, decisions, labels)
    metrics.run(stage)
    stage.out.finish({})
    found = RunFolder(tmp_path).json("metrics", "metrics")
    assert list(found) == sorted(decisions)
    for row, values in decisions.items():
        eleven = [brute_force_11point(values[:, i], labels[:, i]) for i in range(2)]
        assert found[row]["ap_11point"] == pytest.approx(eleven)
        assert found[row]["map_11point"] == pytest.approx(sum(eleven) / 2)
        assert found[row]["map_area"] == pytest.approx(sum(found[row]["ap_area"]) / 2)


def test_class_without_a_positive_test_image_is_refused(tmp_path):
    labels = np.array([[1, 0], [-1, -1]], np.int8)
    decisions = dict.fromkeys(("baseline_hr", "baseline_lr", "ours"), np.zeros((2, 2)))
    with user_error("class cow"):
        metrics.run(write_stage(tmp_path, decisions, labels))
