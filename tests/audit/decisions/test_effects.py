"""Whether an alternative differs from the base at all, on toy runs: told by the bytes, and not by its effect."""

import numpy as np
import pytest

from audit.decisions.decisions import Alternative
from audit.decisions.effects import IDENTICAL, Bootstrap, chance_text, identical, measured, told_instead
from audit.decisions.variants import Variant
from experiment.stage_writer import StageWriter
from experiment.stages import ROWS

ONE = Alternative("D1", "one", "w", set=("svm.c=2.0",))
IDS = [f"image{i}" for i in range(40)]  # so many that no resample lacks a class
LABELS = np.where(np.arange(80).reshape(40, 2) % 3, -1, 1).astype(np.int8)
SCORES = np.random.default_rng(1).normal(size=(40, 2))


def write(root, seed, alternative, row="", **changed):
    """A toy run that differs from every other in what is named: the decision values of a row, labels or ids."""
    variant = Variant(root, seed, alternative)
    variant.run.path.mkdir(parents=True)
    for stage, outputs in {
        "index": {"ids_test": IDS, "labels_test": LABELS},
        "svm": {name: SCORES * (2 if name == row else 1) for name in ROWS},
    }.items():
        writer = StageWriter(variant.run, stage)
        for name, value in {name: changed.get(name, value) for name, value in outputs.items()}.items():
            (writer.array if isinstance(value, np.ndarray) else writer.json)(name, value)
        writer.finish({"stage": stage})
    return variant


@pytest.fixture
def bases(tmp_path):
    return [write(tmp_path, seed, None) for seed in (1, 2)]


def measure(variants, bases, headline=""):
    return measured(Bootstrap(IDS, {"resamples": 20, "margin": 0.5}, 5), variants, bases, headline)


def test_runs_of_the_bases_bytes_are_identical(tmp_path, bases):
    found = measure([write(tmp_path, seed, ONE) for seed in (1, 2)], bases)
    assert found["identical"] is True and found["effect"]["ours"]["difference"] == 0
    assert told_instead(found) == IDENTICAL


@pytest.mark.parametrize(
    "change",
    [
        *({"row": row} for row in ROWS),
        {"labels_test": np.where(LABELS == -1, LABELS, -LABELS)},
        {"ids_test": IDS[::-1]},
    ],
    ids=lambda change: next(iter(change.values())) if "row" in change else next(iter(change)),
)
def test_one_seeds_other_values_are_enough_though_no_map_moves(tmp_path, bases, change):
    variants = [write(tmp_path, 1, ONE), write(tmp_path, 2, ONE, **change)]
    assert not identical(variants, bases)
    if "row" in change:  # twice the decision values: the ranks are the same, and so is every mAP
        found = measure(variants, bases)
        assert "identical" not in found and found["effect"][change["row"]]["interval_95"] == [0, 0]
        assert told_instead(found) == ""


def test_another_headline_of_the_same_runs_is_not_identical(bases):
    assert identical(bases, bases) and "identical" not in measure(bases, bases, "area")


def test_a_failure_is_told_as_one():
    assert told_instead({"reason": "no box"}) == "no box"
    assert told_instead({"reason": "no memory", "failed": True}) == "failed: no memory"


def test_intervals_that_leave_0_out_are_counted_beside_what_chance_would_give():
    def entry(low, high, **more):
        return {
            "effect": {"ours": {"difference": (low + high) / 2, "interval_95": [low, high], "certain": True}},
            **more,
        }

    entries = [entry(-1, 1)] * 36 + [entry(0.5, 1), entry(-2, -1), entry(0, 1), entry(-1, 0)]
    entries += [entry(0, 0, identical=True), {"reason": "no data"}]
    assert chance_text(entries) == ("Of 40 intervals of Ours 2 leave 0 out; by chance alone about 2 would.")
