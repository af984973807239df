"""What a grid's mAP does along N1 and N2, and whose pattern Table 2's is, on grids with known answers."""

import json
from itertools import product

import numpy as np
import pytest

from audit.claims.pattern import best, fits, read_grid, sentence, shape, turns
from paper.published import read_published
from tests.conftest import user_error

PAPER = read_published().grid
N1S, N2S = sorted({n1 for n1, _ in PAPER}), sorted({n2 for _, n2 in PAPER})


def grid_of(value):
    """A grid of Table 2's sizes; value : of the places of N1 and N2."""
    return {(n1, n2): float(value(i, j)) for (i, n1), (j, n2) in product(enumerate(N1S), enumerate(N2S))}


LIKE_PAPER = grid_of(lambda i, j: 30 + 2 * i + 0.1 * j)
BY_N2 = grid_of(lambda i, j: 30 + 0.1 * i + 2 * j)
FALLING = grid_of(lambda i, j: 30 - 2 * i + 0.1 * j)


def test_the_paper_s_table_rises_along_n1_at_every_step_and_spreads_little_along_n2():
    found = shape(PAPER, PAPER)
    table = np.array([[PAPER[n1, n2] for n1 in N1S] for n2 in N2S])
    assert found.rise == pytest.approx((table[:, -1] - table[:, 0]).mean()) and found.rise == pytest.approx(
        8.0833, abs=1e-3
    )
    assert found.spread == pytest.approx(np.ptp(table, axis=0).mean()) and found.spread == pytest.approx(1.16)
    assert (found.up, found.steps, found.common) == (24, 24, 30)
    assert found.likeness == pytest.approx(1) and found.shows


def test_a_shape_of_a_known_grid():
    found = shape(LIKE_PAPER, PAPER)
    assert (found.rise, found.spread) == (pytest.approx(8), pytest.approx(0.5)) and (found.up, found.steps) == (24, 24)
    assert found.shows
    other = shape(BY_N2, PAPER)
    assert (other.rise, other.spread) == (pytest.approx(0.4), pytest.approx(10)) and other.shows is False


def test_a_rise_between_the_ends_alone_is_not_the_pattern():
    found = shape(grid_of(lambda i, j: [30, 20, 10, 5, 31][i] + 0.01 * j), PAPER)
    assert found.rise == pytest.approx(1) and found.spread == pytest.approx(0.05)
    assert found.likeness < 0.5 and found.shows is False


def test_missing_combinations_are_left_out_and_too_few_are_not_judged():
    holes = {cell: value for cell, value in LIKE_PAPER.items() if cell != (256, 20) and cell[0] != 512}
    found = shape(holes, PAPER)
    assert found.rise == pytest.approx(8) and found.common == 23 and found.shows
    assert found.steps == 6 * 3 - 1  # a hole is stepped over, except at the end
    assert shape({}, PAPER).shows is None and shape({(256, 20): 1.0}, PAPER).shows is None
    elsewhere = {(3, 2): 1.0, (5, 2): 2.0, (3, 4): 1.0, (5, 4): 2.5}  # no size of the paper's
    assert shape(elsewhere, PAPER).shows is None and shape(elsewhere, PAPER).rise == pytest.approx(1.25)
    assert shape(grid_of(lambda i, j: 1), PAPER).shows is None  # equal throughout: no order to compare


@pytest.mark.parametrize(
    ("fc2", "fc1", "answer", "says"),
    [
        (LIKE_PAPER, BY_N2, "fc2", "fits the second layer's N2 outputs alone"),
        (BY_N2, LIKE_PAPER, "fc1", "fits the first layer's N1 outputs alone"),
        (LIKE_PAPER, LIKE_PAPER, "undecided", "both of the features show it"),
        (BY_N2, FALLING, "undecided", "neither of the features shows it"),
        (LIKE_PAPER, {}, "undecided", "too few combinations can be judged"),
    ],
)
def test_the_pattern_is_the_one_feature_s_that_shows_it_alone(fc2, fc1, answer, says):
    shapes = {"fc2": shape(fc2, PAPER), "fc1": shape(fc1, PAPER)}
    assert fits(shapes) == answer
    told = sentence(shapes, shape(PAPER, PAPER))
    assert told.lower().endswith(f"{says.lower()}.") and "+8.08 over N1 (24 of 24 steps up), by 1.16 over N2" in told


def test_noise_seldom_shows_the_pattern():
    random = np.random.default_rng(0)
    shown = [shape(grid_of(lambda i, j: random.normal()), PAPER).shows for _ in range(200)]
    assert sum(shown) <= 2


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ([1, 2, 1], True),
        ([1, 2, 2, 1], True),
        ([1, 1, 2, 1, 1], True),
        ([1, 2, 3], False),
        ([3, 2, 1], False),
        ([1, 1, 1], False),
        ([2, 1, 3, 1], False),
        ([1, 3, 1, 2], False),
        ([2, 2, 1], False),
    ],
)
def test_turning_is_rising_and_then_falling(values, answer):
    assert turns(values) is answer


def test_every_best_combination_is_told():
    assert best(PAPER) == [(4096, 20), (4096, 100), (4096, 200)]
    assert best({(1, 2): 3.0, (2, 1): 4.0}) == [(2, 1)]


def entry(**changes):
    """A combination as `paper.grid` writes it."""
    return {"feature": "fc2", "n1": 3, "n2": 2, "map": 40.0, "flat": 0, "area": 1.0, "reason": ""} | changes


def test_combinations_without_an_map_or_with_constant_decision_values_are_left_out(tmp_path):
    path = tmp_path / "table2.json"
    entries = [
        entry(),
        entry(n1=5, map=None),
        entry(n1=6, flat=2),
        entry(n1=7, flat=1),
        entry(feature="fc1", map=41.5),
    ]
    path.write_text(json.dumps({"remarks": ["one", "two"], "entries": entries}))
    grids, remarks = read_grid(path, classes=4)
    assert grids == {"fc2": {(3, 2): 40.0, (7, 2): 40.0}, "fc1": {(3, 2): 41.5}} and remarks == ["one", "two"]


@pytest.mark.parametrize(
    "document", [[], {"entries": []}, {"entries": [{}], "remarks": []}, {"entries": 3, "remarks": []}]
)
def test_a_grid_of_another_form_is_one_line_that_names_the_file(tmp_path, document):
    path = tmp_path / "table2.json"
    path.write_text(json.dumps(document))
    with user_error(path, "run `make grid` again"):
        read_grid(path, 4)
