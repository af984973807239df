"""Tolerances: a bound and a reason for all that is judged; and what agrees with a bound."""

import math
import tomllib

import pytest

from compare.check import AT_LEAST, AT_MOST, MODES, TOLERANCES, Judge, Tolerance, json_number, read_tolerances
from experiment.errors import UserError


def test_every_tolerance_has_a_reason_and_a_mode():
    for name, tolerance in read_tolerances(TOLERANCES).items():
        assert len(tolerance.reason.split()) > 2, name
        assert tolerance.isolated is not None, f"{name}: the port fed with the same inputs is always judged"


def test_a_chained_bound_is_never_tighter_than_the_isolated_one():
    for name, tolerance in read_tolerances(TOLERANCES).items():
        if tolerance.chained is not None:
            looser = tolerance.chained >= tolerance.isolated
            assert looser if tolerance.bound == AT_MOST else tolerance.chained <= tolerance.isolated, name


def test_the_bounds_that_were_promised():
    """The promises: ResNet-101's blobs within 1e-5, pool5 within 1e-6, and so on."""
    tolerances = read_tolerances(TOLERANCES)
    promised = {
        "resnet101.blob_relative_l2": 1e-5, "resnet101.pool5_relative_l2": 1e-6, "features.relative_l2": 1e-5,
        "transfer.relative_l2": 1e-3, "svm.decision_max_abs": 1e-4, "metrics.map": 1e-9,
    }  # fmt: skip
    for name, bound in promised.items():
        assert tolerances[name].isolated <= bound and tolerances[name].bound == AT_MOST


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
    judge = Judge({"svm.x": Tolerance(0.5, 0.5, bound, "because")}, mode)
    check = judge.check("svm", "x", "ours", value)
    assert check.agrees is agrees and check.allowed == 0.5 and check.mode == mode


def test_a_floor_raises_the_isolated_bound_and_never_lowers_it():
    judge = Judge({"svm.x": Tolerance(0.5, 0.5, AT_MOST, "because", 2.0)}, "isolated")
    for floor, allowed in ((0.1, 0.5), (0.4, 0.8), (None, 0.5), (math.inf, 0.5), (math.nan, 0.5)):
        check = judge.check("svm", "x", "ours", 0.6, floor=floor)
        assert check.allowed == allowed and check.agrees is (allowed > 0.6)
        assert check.numbers == ({"floor": floor} if floor in (0.1, 0.4) else {})
    plain = Judge({"svm.x": Tolerance(0.5, 0.5, AT_MOST, "because")}, "isolated")
    assert plain.check("svm", "x", "ours", 0.6, floor=9.0).allowed == 0.5


def test_a_mode_without_a_bound_is_shown_but_a_missing_value_still_differs():
    judge = Judge({"svm.x": Tolerance(0.5, None, AT_MOST, "because")}, "chained")
    assert judge.check("svm", "x", "ours", 1e9).agrees and judge.check("svm", "x", "ours", 1e9).allowed is None
    assert not judge.check("svm", "x", "ours", math.nan).agrees


def test_the_two_modes_have_bounds_of_their_own():
    tolerances = {"svm.x": Tolerance(0.1, 0.9, AT_MOST, "because")}
    assert [Judge(tolerances, mode).check("svm", "x", "i", 0.5).agrees for mode in MODES] == [False, True]


def test_what_could_not_be_checked_never_agrees():
    failure = Judge({}, "isolated").failure("svm", "ours", "missing")
    assert not failure.agrees and failure.detail == "missing"


def test_a_quantity_without_a_tolerance_is_a_bug():
    with pytest.raises(KeyError, match=r"svm\.unheard_of"):
        Judge({}, "isolated").check("svm", "unheard_of", "ours", 0.0)


def test_json_has_no_nan():
    value = {"a": [math.nan, (math.inf, 1)], "b": -math.inf, "c": 0.5, "d": None, "e": "x"}
    assert json_number(value) == {"a": ["nan", ["inf", 1]], "b": "-inf", "c": 0.5, "d": None, "e": "x"}


def test_the_file_is_read_as_it_stands():
    document = tomllib.loads(TOLERANCES.read_text())
    read = read_tolerances(TOLERANCES)
    assert set(read) == {f"{stage}.{quantity}" for stage, table in document.items() for quantity in table}
    for name, tolerance in read.items():
        stage, quantity = name.split(".")
        entry = document[stage][quantity]
        assert (tolerance.isolated, tolerance.chained) == (entry.get("isolated"), entry.get("chained"))
        assert tolerance.floor_factor == entry.get("floor_factor")


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
        '[svm.x]\nisolated = 1.0\nfloor_factor = "2"\nreason = "r"',
        '[svm.x]\nisolated = 1.0\nbound = ">="\nfloor_factor = 2.0\nreason = "r"',
        "[svm.x]\nisolated = 1.0\nreason = 3",
        "[svm]\nx = 1.0",
        "x = 1.0",
        "\x00",
    ],
)
def test_a_malformed_file_is_one_line_that_names_it(tmp_path, text):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UserError, match=r"mine\.toml"):
        read_tolerances(tmp_path / "mine.toml")


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.toml"):
        read_tolerances(tmp_path / "gone.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"bytes\.toml"):
        read_tolerances(tmp_path / "bytes.toml")
