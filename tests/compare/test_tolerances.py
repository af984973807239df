"""Tolerances: k, a bound and a reason for all that is judged; and what agrees with a bound and a calibration."""

import itertools
import math
import tomllib

import pytest

from compare.calibration import Calibration
from compare.check import (
    AT_LEAST,
    AT_MOST,
    MODES,
    TOLERANCES,
    Judge,
    Tolerance,
    Tolerances,
    badness,
    json_number,
    read_tolerances,
)
from experiment.errors import UserError

K = 'k = 3.0\nk_reason = "because"\n'


def judge(mode: str, bound: Tolerance | None = None) -> Judge:
    """A judge of the quantity svm.x, where it has a tolerance."""
    return Judge(Tolerances(3.0, {"svm.x": bound} if bound else {}), mode)


def calibration(ratio: float, k: float = 3.0) -> Calibration:
    return Calibration(ratio, 1.0, {}, 1.0, ratio, k)


def test_every_tolerance_has_a_reason_and_what_both_runs_have_in_both_modes_is_judged_isolated(tolerances):
    for name, tolerance in tolerances.bounds.items():
        another = tolerance.reason.removeprefix("as ")
        assert len(tolerance.reason.split()) > 2 or another in tolerances.bounds, name
        assert name.startswith("end_to_end.") or tolerance.isolated is not None, name


def test_a_chained_bound_is_never_tighter_than_the_isolated_one(tolerances):
    for name, tolerance in tolerances.bounds.items():
        if tolerance.chained is not None and tolerance.isolated is not None:
            looser = tolerance.chained >= tolerance.isolated
            assert looser if tolerance.bound == AT_MOST else tolerance.chained <= tolerance.isolated, name


def test_the_bounds_that_were_promised(tolerances):
    """The promises: ResNet-101's blobs within 1e-5, pool5 within 1e-6, and so on."""
    promised = {
        "resnet101.blob_relative_l2": 1e-5, "resnet101.pool5_relative_l2": 1e-6, "features.relative_l2": 1e-5,
        "transfer.relative_l2": 5e-2, "transfer.step_relative_l2": 1e-6, "svm.decision_max_abs": 1e-4,
        "metrics.map": 1e-9,
    }  # fmt: skip
    for name, bound in promised.items():
        assert tolerances.bounds[name].isolated <= bound and tolerances.bounds[name].bound == AT_MOST


def test_what_a_tie_or_the_specification_decides_has_no_floors_or_no_number(tolerances):
    assert not tolerances.bounds["images.max_abs"].floors_judge  # one grey level is many floors
    margin = tolerances.bounds["end_to_end.least_map_difference"]
    assert (margin.isolated, margin.chained, margin.bound) == (None, None, AT_MOST)


@pytest.mark.parametrize(("bound", "worst_last"), [(AT_MOST, [-1.0, 0.0, 0.5, math.inf, math.nan]),
                                                   (AT_LEAST, [math.inf, 0.5, 0.0, -1.0, math.nan])])  # fmt: skip
def test_a_value_is_the_worse_the_farther_it_is_to_its_bounds_wrong_side_and_nan_is_the_worst(bound, worst_last):
    for values in itertools.permutations(worst_last):
        assert str(sorted(values, key=lambda value: badness(value, bound))) == str(worst_last)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("value", "bound", "agrees"),
    [
        (0.0, AT_MOST, True),
        (0.5, AT_MOST, True),
        (0.5000001, AT_MOST, False),
        (math.inf, AT_MOST, False),
        (math.nan, AT_MOST, False),
        (0.5, AT_LEAST, True),
        (0.4999999, AT_LEAST, False),
        (1.0, AT_LEAST, True),
        (math.nan, AT_LEAST, False),
    ],
)
def test_a_value_agrees_up_to_its_bound_and_nan_never(mode, value, bound, agrees):
    check = judge(mode, Tolerance(0.5, 0.5, bound, "because")).check("svm", "x", "ours", value)
    assert check.agrees is agrees and check.allowed == 0.5 and check.mode == mode and check.judged


@pytest.mark.parametrize(
    ("value", "ratio", "agrees"),
    [
        (0.4, 2.0, True),
        (0.4, 3.0, True),
        (0.4, 4.0, False),
        (0.6, 0.0, False),
        (0.4, math.nan, False),
        (0.6, 4.0, False),
    ],
)
def test_the_bound_and_the_calibration_must_both_be_kept(value, ratio, agrees):
    mine = judge("isolated", Tolerance(0.5, 0.5, AT_MOST, "because"))
    check = mine.check("svm", "x", "ours", value, calibration=calibration(ratio))
    assert check.agrees is agrees and check.allowed == 0.5
    assert check.as_json()["calibration"]["agrees"] is (ratio <= 3)


def test_without_a_bound_the_calibration_judges():
    mine = judge("chained", Tolerance(0.5, None, AT_MOST, "because"))
    assert mine.check("svm", "x", "ours", 9.0, calibration=calibration(2.0)).agrees
    check = mine.check("svm", "x", "ours", 9.0, calibration=calibration(4.0))
    assert check.allowed is None and check.judged and not check.agrees


def test_floors_that_do_not_judge_are_shown():
    bound = Tolerance(0.5, None, AT_MOST, "because", floors_judge=False)
    check = judge("isolated", bound).check("svm", "x", "ours", 0.4, calibration=calibration(4.0))
    assert check.agrees and check.calibration.ratio == 4.0 and not check.calibration.judged and check.judged
    assert not judge("isolated", bound).check("svm", "x", "ours", 0.6, calibration=calibration(1.0)).agrees
    shown = judge("chained", bound).check("svm", "x", "ours", 0.4, calibration=calibration(4.0))
    assert shown.agrees and not shown.judged


def test_what_is_only_shown_is_not_judged_and_an_own_bound_takes_the_tolerances_place():
    mine = judge("isolated", Tolerance(0.5, 0.5, AT_MOST, "because"))
    shown = mine.check("svm", "x", "ours", 9.0, only_shown=True)
    assert shown.agrees and shown.allowed is None and not shown.judged
    assert not mine.check("svm", "x", "ours", math.nan, only_shown=True).agrees
    own = mine.check("svm", "x", "ours", 9.0, allowed=10.0, more=1)
    assert own.agrees and own.allowed == 10.0 and own.numbers == {"more": 1}
    assert not mine.check("svm", "x", "ours", 0.4, allowed=0.0).agrees


def test_a_mode_without_a_bound_is_shown_but_a_missing_value_still_differs():
    mine = judge("chained", Tolerance(0.5, None, AT_MOST, "because"))
    assert mine.check("svm", "x", "ours", 1e9).agrees and mine.check("svm", "x", "ours", 1e9).allowed is None
    missing = mine.check("svm", "x", "ours", math.nan)
    assert not missing.agrees and missing.judged and not mine.check("svm", "x", "ours", 1e9).judged


def test_the_two_modes_have_bounds_of_their_own():
    tolerance = Tolerance(0.1, 0.9, AT_MOST, "because")
    assert [judge(mode, tolerance).check("svm", "x", "i", 0.5).agrees for mode in MODES] == [False, True]


def test_what_could_not_be_checked_never_agrees():
    failure = judge("isolated").failure("svm", "ours", "missing")
    assert not failure.agrees and failure.judged and failure.detail == "missing"


def test_a_quantity_without_a_tolerance_is_a_bug():
    for how in ({}, {"only_shown": True}, {"allowed": 1.0}):
        with pytest.raises(KeyError, match=r"svm\.unheard_of"):
            judge("isolated").check("svm", "unheard_of", "ours", 0.0, **how)


def test_json_has_no_nan():
    value = {"a": [math.nan, (math.inf, 1)], "b": -math.inf, "c": 0.5, "d": None, "e": "x"}
    assert json_number(value) == {"a": ["nan", ["inf", 1]], "b": "-inf", "c": 0.5, "d": None, "e": "x"}


def test_the_file_is_read_as_it_stands():
    document = tomllib.loads(TOLERANCES.read_text())
    read = read_tolerances(TOLERANCES)
    assert read.k == document.pop("k") and len(document.pop("k_reason").split()) > 5
    assert set(read.bounds) == {f"{stage}.{quantity}" for stage, table in document.items() for quantity in table}
    for name, tolerance in read.bounds.items():
        stage, quantity = name.split(".")
        entry = document[stage][quantity]
        assert (tolerance.isolated, tolerance.chained) == (entry.get("isolated"), entry.get("chained"))
        assert (tolerance.bound, tolerance.reason) == (entry.get("bound", "<="), entry["reason"])
        assert tolerance.floors_judge is entry.get("floors_judge", True)


def named(quantities) -> str:
    """A file of bounds that says of each quantity only that it is shown."""
    return K.replace("3.0", "2") + "".join(f'[{name}]\nreason = "shown"\n' for name in quantities)


def test_k_and_a_table_of_every_quantity_are_all_that_is_needed(tmp_path, tolerances):
    (tmp_path / "mine.toml").write_text(named(tolerances.bounds))
    read = read_tolerances(tmp_path / "mine.toml")
    shown = dict.fromkeys(tolerances.bounds, Tolerance(None, None, AT_MOST, "shown"))
    assert read == Tolerances(2.0, shown) and type(read.k) is float


@pytest.mark.parametrize(
    ("gone", "more"), [("svm.objective", None), (None, "svm.unheard_of"), ("svm.objective", "svm.objectives")]
)
def test_another_file_names_the_same_quantities(tmp_path, tolerances, gone, more):
    names = [name for name in tolerances.bounds if name != gone] + [more] * bool(more)
    (tmp_path / "mine.toml").write_text(named(names))
    with pytest.raises(UserError, match=rf"mine\.toml: \[{gone or more}\] is missing, or is no quantity"):
        read_tolerances(tmp_path / "mine.toml")


@pytest.mark.parametrize(
    "text",
    ["", 'k_reason = "r"', "k = 3.0", 'k = 3.0\nk_reason = ""', "k = 3.0\nk_reason = 3"]
    + [f'k = {k}\nk_reason = "r"' for k in ('"3"', "true", "0", "-1.0", "inf", "nan")],
)
def test_a_file_without_a_k_and_its_reason_is_refused(tmp_path, text):
    (tmp_path / "mine.toml").write_text(text + '\n[svm.x]\nisolated = 1.0\nreason = "r"\n')
    with pytest.raises(UserError, match=r"mine\.toml: k must be a number above 0"):
        read_tolerances(tmp_path / "mine.toml")


@pytest.mark.parametrize(
    "text",
    [
        "[svm.x",
        "[svm.x]\nisolated = 1.0",
        '[svm.x]\nisolated = 1.0\nreason = "r"\nbound = "<"',
        '[svm.x]\nisolated = 1.0\nreason = "r"\nmode = 3',
        '[svm.x]\nisolated = "1.0"\nreason = "r"',
        '[svm.x]\nisolated = true\nreason = "r"',
        '[svm.x]\nisolated = nan\nreason = "r"',
        '[svm.x]\nchained = [1.0]\nreason = "r"',
        '[svm.x]\nisolated = 1.0\nreason = ""',
        '[svm.x]\nchained = 1.0\nfloor_factor = 2.0\nreason = "r"',
        '[svm.x]\nisolated = 1.0\nfloors_judge = 1\nreason = "r"',
        '[svm.x]\nisolated = 1.0\nfloors_judge = "no"\nreason = "r"',
        "[svm.x]\nisolated = 1.0\nreason = 3",
        "[svm]\nx = 1.0",
        "x = 1.0",
        "\x00",
    ],
)
def test_a_malformed_file_is_one_line_that_names_it(tmp_path, text):
    (tmp_path / "mine.toml").write_text(K + text)
    with pytest.raises(UserError, match=r"mine\.toml") as caught:
        read_tolerances(tmp_path / "mine.toml")
    assert "\n" not in str(caught.value) and "k must be" not in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.toml"):
        read_tolerances(tmp_path / "gone.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"bytes\.toml"):
        read_tolerances(tmp_path / "bytes.toml")
