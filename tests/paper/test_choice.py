"""The choice by a split of trainval, against scikit-learn's SVM and a count of every recall step."""

import numpy as np
import pytest
from sklearn.svm import SVC

from experiment.artifacts import RunFolder, read_json, write_json
from paper import choice
from paper.choice import best, validate
from tests.brute_force import brute_force_ap

SETTINGS = {"scale": "mean_norm", "c": 3.0, "tolerance": 1e-9}


def problem(n=60, dimensions=4):
    """Features of three classes, each a cloud of its own, with a few difficult images."""
    random = np.random.default_rng(4)
    labels = random.choice([1, -1], (n, 3)).astype(np.int8)
    features = 20 * random.normal(size=(n, dimensions)) + 10 * labels @ random.normal(size=(3, dimensions))
    labels[random.random((n, 3)) < 0.1] = 0
    return features, labels


@pytest.mark.parametrize("scale", ["mean_norm", "none"])
def test_the_split_trains_on_even_rows_and_tests_on_odd_ones(scale):
    features, labels = problem()
    found = validate(features, labels, ["a", "b", "c"], {**SETTINGS, "scale": scale})
    length = np.linalg.norm(features[::2], axis=1).mean() if scale == "mean_norm" else 1
    for i, name in enumerate("abc"):
        y = labels[::2, i]
        machine = SVC(C=3.0, kernel="linear", tol=1e-9).fit(features[::2][y != 0] / length, y[y != 0])
        scores = machine.decision_function(features[1::2] / length)
        assert found["ap"][name] == pytest.approx(brute_force_ap(scores, labels[1::2, i]), abs=1e-12)
    assert found["map"] == pytest.approx(np.mean(list(found["ap"].values()))) and found["left_out"] == []


def test_a_class_without_both_labels_in_a_half_is_left_out_and_named():
    features, labels = problem()
    labels[:, 0] = np.where(np.arange(60) % 2, -1, labels[:, 0])  # no positive in the second half
    labels[::2, 2] = 1  # no negative in the first
    found = validate(features, labels, ["a", "b", "c"], SETTINGS)
    assert found["left_out"] == ["a", "c"] and list(found["ap"]) == ["b"] and found["map"] == found["ap"]["b"]
    assert validate(features, np.ones_like(labels), ["a", "b", "c"], SETTINGS)["map"] is None


def test_the_best_is_the_greatest_and_of_equals_the_smallest_network():
    random = np.random.default_rng(1)
    for _ in range(50):
        scores = [(n1, n2, float(random.integers(3))) for n1 in (5, 3, 9) for n2 in (8, 2)]
        random.shuffle(scores)
        top = max(score for _, _, score in scores)
        expected = next((int(a), int(b)) for a in (3, 5, 9) for b in (2, 8) if (a, b, top) in map(tuple, scores))
        assert best([(int(a), int(b), s) for a, b, s in scores]) == expected
    assert best([(1, 1, None), (2, 2, 0.1)]) == (2, 2)
    assert best([(1, 1, None)]) is None


def test_what_was_kept_is_taken_only_where_it_was_made_from_the_same(finished, tmp_path, monkeypatch):
    run, cache = RunFolder(finished / "torch"), tmp_path / "choice.json"
    found = choice.validation(run, cache)
    assert found["left_out"] == ["rare"] and 0 < found["map"] <= 1
    kept = read_json(cache)
    write_json(cache, {**kept, "validation": {"map": 0.0}})
    assert choice.validation(run, cache) == {"map": 0.0}
    write_json(cache, {"key": "of other features", "validation": {"map": 0.0}})
    assert choice.validation(run, cache) == found and read_json(cache) == kept
