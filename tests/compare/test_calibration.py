"""Errors in noise floors: the arithmetic by hand, and what never agrees."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from fake_pair import write_run

from compare.calibration import ROUNDING, Calibration, Calibrator
from compare.difference import max_abs, relative_l2, trimmed_l2, unequal_share, worst_row_l2
from compare.pair import named
from experiment.errors import UserError

STAGE, NAME = "transfer_features", "test"
DISTANCES = (relative_l2, worst_row_l2, max_abs)


@pytest.fixture
def measure(tmp_path):
    """`measure(reference, a, b, floors_a, floors_b)`: the calibration of arrays that runs of one stage hold."""

    calls = itertools.count()

    def run(reference, a, b, floors_a=(), floors_b=(), k=3.0, distance=max_abs, of=(STAGE, NAME), **how):
        folder = tmp_path / str(next(calls))

        def written(name, array):
            return write_run(folder / name, {of: lambda _: np.asarray(array)}, [of[0]])

        runs = [written(name, array) for name, array in (("a", a), ("b", b), ("reference", reference))]
        floors = [[written(f"{side}{i}", array) for i, array in enumerate(arrays)]
                  for side, arrays in (("a-", floors_a), ("b-", floors_b))]  # fmt: skip
        return Calibrator(*runs, *floors, k).measure(of[0], named(*of), named(*of), distance, **how)

    return run


# Greatest differences: b's error 6, a's error 2, run a otherwise 1, run b otherwise 4 and 3.
REFERENCE, A, B = [[10.0, 20.0]], [[12.0, 20.0]], [[10.0, 26.0]]
FLOOR_A, FLOOR_B, FLOOR_B_TOO = [[12.0, 19.0]], [[14.0, 26.0]], [[10.0, 23.0]]


def test_an_error_is_told_in_the_greatest_of_all_floors(measure):
    found = measure(REFERENCE, A, B, [FLOOR_A], [FLOOR_B, FLOOR_B_TOO])
    assert (found.error, found.error_a, found.floor, found.ratio) == (6.0, 2.0, 4.0, 1.5)
    assert found.floors == {"a-0": 1.0, "b-0": 4.0, "b-1": 3.0}


def test_without_other_runs_the_floor_is_run_as_own_error(measure):
    found = measure(REFERENCE, A, B)
    assert (found.floors, found.floor, found.ratio) == ({}, 2.0, 3.0)


def test_relative_distances_are_relative_to_the_reference(measure):
    found = measure([[3.0, 4.0]], [[3.0, 4.5]], [[3.0, 6.0]], distance=relative_l2)
    assert (found.error, found.error_a, found.ratio) == pytest.approx((2 / 5, 0.5 / 5, 4.0))


def test_the_worst_image_of_a_run_made_otherwise_counts(measure):
    rows = np.array([[3.0, 4.0], [30.0, 40.0]])
    noisy = rows + [[0.0, 0.5], [0.0, 0.5]]
    found = measure(rows, rows, rows, [noisy], distance=worst_row_l2)
    assert found.floor == pytest.approx(0.5 / np.hypot(3.0, 4.5))


def test_a_run_made_otherwise_is_compared_with_its_own_side(measure):
    # Both floors' runs equal run b: that is no noise of b's, and 4 of a's.
    found = measure([[0.0]], [[1.0]], [[5.0]], [[[5.0]]], [[[5.0]]])
    assert found.floors == {"a-0": 4.0, "b-0": 0.0}


@pytest.mark.parametrize(
    ("otherwise", "floor"), [(4.0, 2.0), (1.0, 1.0), (0.0, 0.0), (6.0, 0.0), (-3.0, 3.0), (9.0, 3.0)]
)
def test_what_run_b_differs_from_itself_by_is_the_lesser_of_its_distances_to_run_b_and_to_the_reference(
    measure, otherwise, floor
):
    found = measure([[0.0]], [[2.0]], [[6.0]], floors_b=[[[otherwise]]])
    assert found.floors == {"b-0": floor} and found.floor == max(2.0, floor)


@pytest.mark.parametrize(
    ("error_a", "floors_a", "floors_b", "k", "floor"),
    [
        (1.0, [], [10.0], 3.0, 3.0),
        (1.0, [], [10.0], 2.0, 2.0),
        (1.0, [], [10.0, 20.0], 3.0, 3.0),  # all together, not each
        (1.0, [], [2.5, 10.0], 3.0, 3.0),
        (1.0, [], [2.5], 3.0, 2.5),
        (1.0, [4.0], [10.0], 3.0, 10.0),
        (1.0, [2.0], [10.0], 3.0, 6.0),
        (0.0, [], [10.0], 3.0, 3 * ROUNDING),
        (1.0, [9.0], [10.0], 0.5, 9.0),  # a's own are not capped
    ],
)
def test_run_bs_floors_count_up_to_k_times_what_run_a_accounts_for(measure, error_a, floors_a, floors_b, k, floor):
    far = 100.0  # from which b's floors are nearer to run b than to the reference
    varied_a, varied_b = ([[[base + by]] for by in floors] for base, floors in ((error_a, floors_a), (far, floors_b)))
    found = measure([[0.0]], [[error_a]], [[far]], varied_a, varied_b, k=k)
    assert found.floor == pytest.approx(floor, rel=1e-12)
    assert [found.floors[f"b-{i}"] for i in range(len(floors_b))] == floors_b  # told as they are


@pytest.mark.parametrize("otherwise", np.linspace(-20.0, 30.0, 11))
def test_no_varied_run_of_bs_excuses_an_error_of_more_than_k_times_k_of_run_as(measure, otherwise):
    assert not measure([[0.0]], [[1.0]], [[9.1]], floors_b=[[[otherwise]]]).agrees
    assert measure([[0.0]], [[1.0]], [[9.0]], floors_b=[[[12.0]]]).agrees


def test_where_run_a_has_no_like_its_floors_are_left_out(measure):
    found = measure(REFERENCE, A, B, [[[1000.0, 0.0]]], [FLOOR_B_TOO], floors_of_a=False)
    assert found.floors == {"b-0": 3.0} and found.floor == 3.0


def test_the_rounding_of_what_is_stored_is_the_least_floor(measure):
    found = measure([[1.0]], [[1.0]], [[1.0 + 2 * 2.0**-24]], [[[1.0]]])
    assert ROUNDING == 2.0**-24 and (found.error_a, found.floor, found.ratio) == (0.0, ROUNDING, 2.0)


def test_no_error_at_all_is_no_floors(measure):
    found = measure(A, A, A, [A], [A])
    assert (found.error, found.ratio, found.agrees) == (0.0, 0.0, True)


@pytest.mark.parametrize(("k", "agrees"), [(3.0, True), (math.nextafter(3.0, 0), False), (2.9, False), (3.1, True)])
def test_an_error_of_exactly_k_floors_agrees(measure, k, agrees):
    found = measure(REFERENCE, A, B, k=k)
    assert (found.ratio, found.k, found.agrees) == (3.0, k, agrees)
    assert found.as_json()["agrees"] is agrees and found.as_json()["ratio"] == 3.0


def test_of_a_run_with_the_first_images_only_these_are_compared(measure):
    many = np.arange(1.0, 11.0)[:, None] * [1.0, 1.0]
    a, b = many.copy(), many.copy()
    a[1, 0] += 0.5
    b[2, 1] += 0.25
    a[3:] += 100  # where the reference has no rows
    b[3:] -= 100
    floor = a[:2].copy()
    floor[0, 0] += 2.0
    found = measure(many[:3], a, b, [floor], of=("features", "hr_test"))
    assert (found.error, found.error_a, found.floors) == (0.25, 0.5, {"a-0": 2.0})


@pytest.mark.parametrize("who", ["reference", "floor"])
def test_only_the_stage_features_may_hold_fewer_rows(measure, who):
    whole = np.arange(1.0, 11.0)[:, None] * [1.0, 1.0]
    with pytest.raises(UserError, match="run it again"):
        measure(whole[:3] if who == "reference" else whole, whole, whole, [whole[:3]] if who == "floor" else [])


@pytest.mark.parametrize("spoil", [lambda x: x[:0], lambda x: np.repeat(x, 2, 0), lambda x: x[:, :1], lambda x: x[0]])
@pytest.mark.parametrize("who", ["reference", "floor"])
def test_an_array_that_does_not_fit_is_named(measure, who, spoil):
    fitting = np.array(REFERENCE)
    given = {"reference": [spoil(fitting), A, B, [A]], "floor": [fitting, A, B, [spoil(fitting)]]}[who]
    with pytest.raises(UserError, match=r"/a-0:|/reference:"):
        measure(*given)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("who", ["reference", "floor"])
def test_what_is_not_finite_never_agrees(measure, who, value, distance):
    bad = np.array([[1.0, 2.0], [value, 3.0]])
    good = np.array([[1.0, 2.0], [2.5, 3.0]])
    found = measure(*([bad, good, good] if who == "reference" else [good, good, good, [bad]]), distance=distance)
    assert not found.agrees


@pytest.mark.parametrize("distance", [*DISTANCES, trimmed_l2])
def test_a_varied_run_of_bs_with_nan_never_agrees(measure, distance):
    good = np.array([[1.0, 2.0], [2.5, 3.0]])
    bad = good.copy()
    bad[1, 0] = math.nan
    assert measure(good, good, good, floors_b=[good], distance=distance).agrees
    assert not measure(good, good, good, floors_b=[good, bad], distance=distance).agrees


@pytest.mark.parametrize("distance", [relative_l2, worst_row_l2])
def test_a_floor_without_bounds_is_no_floor(measure, distance):
    """A run of zeros is infinitely far from its base, relatively: nothing may be within so much noise."""
    base, zeros = np.ones((2, 3)), np.zeros((2, 3))
    assert not measure(base, base, 1.5 * base, [zeros], distance=distance).agrees


@pytest.mark.parametrize("others", [[], [1.0]])
def test_an_infinite_floor_of_run_bs_is_none_although_it_would_be_cut(measure, others):
    """Both sides err equally; run b otherwise is zeros, relatively infinitely far from all."""
    base = np.ones((2, 3))
    varied = [np.zeros((2, 3)), *(share * base for share in others)]
    assert measure(base, 1.5 * base, 1.5 * base, floors_b=varied[1:], distance=relative_l2).agrees
    found = measure(base, 1.5 * base, 1.5 * base, floors_b=varied, distance=relative_l2)
    assert math.isinf(found.floors["b-0"]) and math.isnan(found.ratio) and not found.agrees
    assert not replace(found, judged=False).agrees


@pytest.mark.parametrize("of", [np.float32, np.float16, np.int64])
def test_what_run_b_has_in_float32_the_reference_has_in_float64(measure, of):
    values = np.array([[1.0, 2.0]])
    with pytest.raises(UserError, match=rf"/reference/07-transfer_features is no float64 reference: .*{of.__name__}"):
        measure(values.astype(of), values, values.astype(np.float32))
    assert measure(values, values.astype(np.float32), values.astype(np.float32)).error == 0.0
    for own in (np.float64, np.uint8):  # where float32 is not what run b computes in
        assert measure(values.astype(of), values.astype(own), values.astype(own)).error == 0.0


def test_a_reference_of_zeros_agrees_with_nothing_else(measure):
    assert not measure(np.zeros((2, 3)), np.ones((2, 3)), np.ones((2, 3)), distance=relative_l2).agrees


def test_the_trimmed_distance_sees_nan_in_the_reference(measure):
    bad = np.ones((300, 2))
    bad[7, 1] = np.nan
    assert not measure(bad, np.ones((300, 2)), np.ones((300, 2)), distance=trimmed_l2).agrees


def test_of_images_the_share_of_grey_levels_is_counted(measure):
    image = np.zeros((1, 4, 4, 3), np.uint8)
    b = image.copy()
    b[0, 0, 0] = 255  # three of 48, from below: no difference may wrap
    assert measure(image, image, b, distance=unequal_share).error == 3 / 48


def test_a_ratio_that_is_no_number_never_agrees():
    assert not Calibration(1.0, 1.0, {}, math.nan, math.nan, 3.0).agrees
    assert not Calibration(math.inf, 1.0, {}, 1.0, math.inf, 3.0).agrees


@pytest.mark.parametrize(("ratio", "agrees"), [(9.0, True), (math.inf, True), (math.nan, False)])
def test_a_ratio_that_is_only_shown_agrees_where_there_is_one(ratio, agrees):
    shown = Calibration(9.0, 1.0, {}, 1.0, ratio, 3.0, judged=False)
    assert shown.agrees is agrees and shown.as_json() == {**vars(shown), "agrees": agrees}
