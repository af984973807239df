"""The profiles: every value known, typed, finite, with unit and source."""

import math
import re
import tomllib

import pytest

from experiment import spec
from experiment.errors import UserError
from experiment.spec import POSITIVE, PROFILES, SCHEMA, check_together, check_value, read_profile
from experiment.stages import STAGES

NAMES = sorted(path.stem for path in PROFILES.glob("*.toml"))
EVERY_KEY = [f"{section}.{key}" for section, keys in SCHEMA.items() for key in keys]
PAPER = (PROFILES / "paper.toml").read_text()


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """A function that reads a profile of the text given."""

    def read(text: str):
        (tmp_path / "mine.toml").write_text(text)
        monkeypatch.setattr(spec, "PROFILES", tmp_path)
        return read_profile("mine")

    return read


def line(key: str) -> str:
    """The line of the paper's profile that sets a key (of the first section that has it)."""
    return next(line for line in PAPER.splitlines() if line.startswith(f"{key} ="))


def test_there_are_the_two_profiles():
    assert {"embedded", "paper"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_value_of_a_profile_has_a_unit_and_a_source(name):
    document = tomllib.loads((PROFILES / f"{name}.toml").read_text())
    assert [f"{section}.{key}" for section, table in document.items() for key in table] == EVERY_KEY
    for section, table in document.items():
        for key, entry in table.items():
            assert set(entry) == {"value", "unit", "source"}, f"{section}.{key}"
            assert entry["unit"].strip() and entry["source"].strip(), f"{section}.{key}"


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_reads_and_fits_together(name):
    values, sources = read_profile(name)
    check_together(values, name)
    assert sorted(sources) == sorted(EVERY_KEY)


def test_every_section_is_seen_by_some_stage_or_is_the_runs_own_or_the_comparisons():
    seen = {section for info in STAGES.values() for section in info.sections}
    assert seen | {"run", "compare"} == set(SCHEMA)


def test_the_papers_numbers_are_the_papers():
    values, sources = read_profile("paper")
    wanted = {
        ("images", "hr_size"): 224, ("images", "lr_size"): 32, ("clusters", "k"): 100, ("transfer", "n1"): 4096,
        ("transfer", "n2"): 100, ("transfer", "base_lr"): 0.01, ("transfer", "stepsize"): 15000,
        ("transfer", "gamma"): 0.1, ("transfer", "momentum"): 0.9, ("transfer", "weight_decay"): 0.0005,
        ("transfer", "batch_size"): 1000, ("transfer", "max_iter"): 31561,
    }  # fmt: skip
    for (section, key), value in wanted.items():
        assert values[section][key] == value
        assert re.match(r"paper \d", sources[f"{section}.{key}"])


def test_the_embedded_profile_keeps_the_papers_ratio_and_two_steps_of_the_rate():
    values, _ = read_profile("embedded")
    assert values["images"]["hr_size"] / values["images"]["lr_size"] == 224 / 32
    transfer = values["transfer"]
    assert (transfer["max_iter"] - 1) // transfer["stepsize"] == 2


@pytest.mark.parametrize("name", ["", "Paper", "../paper", "paper.toml", "nothing"])
def test_an_unknown_profile_names_those_there_are(name):
    with pytest.raises(UserError, match="choose one of embedded, paper"):
        read_profile(name)


@pytest.mark.parametrize(
    "addition",
    [
        '[svm]\nkernel = { value = "linear", unit = "-", source = "ours" }',
        '[extra]\nkey = { value = 1, unit = "-", source = "ours" }',
        "[extra]",
    ],
)
def test_an_unknown_key_stops(profile, addition):
    text = PAPER.replace("[svm]\n", f"{addition}\n", 1) if addition.startswith("[svm]") else f"{PAPER}\n{addition}\n"
    with pytest.raises(UserError, match="not a (key|section) of the specification"):
        profile(text)


def test_a_value_outside_every_section_stops(profile):
    with pytest.raises(UserError, match="seed"):
        profile(f"seed = 3\n{PAPER}")


@pytest.mark.parametrize("name", EVERY_KEY)
def test_a_missing_key_stops_and_is_named(profile, name):
    section, key = name.split(".")
    head, rest = PAPER.split(f"[{section}]\n", 1)
    with pytest.raises(UserError, match=re.escape(f"{name} is missing")):
        profile(head + f"[{section}]\n" + re.sub(rf"(?m)^{key} = .*\n", "", rest, count=1))


@pytest.mark.parametrize(
    "entry",
    [
        "31561",
        "{ value = 31561 }",
        '{ value = 31561, unit = "iteration" }',
        '{ value = 31561, unit = "", source = "paper" }',
        '{ value = 31561, unit = "iteration", source = "" }',
        '{ value = 31561, unit = 1, source = "paper" }',
        '{ value = 31561, unit = "iteration", source = "paper", note = "x" }',
    ],
)
def test_a_value_without_unit_or_source_stops(profile, entry):
    text = PAPER.replace(line("max_iter"), "max_iter = KEPT").replace("max_iter = KEPT", line("max_iter"), 1)
    before, _, after = text.rpartition("max_iter = { value = 31561")
    with pytest.raises(UserError, match=r"transfer\.max_iter must be"):
        profile(f"{before}max_iter = {entry}\n{after.split(chr(10), 1)[1]}")


def test_broken_toml_is_one_line_that_names_the_file(profile):
    with pytest.raises(UserError, match=r"mine\.toml.*mend the TOML"):
        profile(PAPER + "\n[[[")


WRONG_TYPES = {int: [1.0, "1", True, [1], None], float: [1, "1.0", False], str: [1, ["a"]], bool: [0, "true", 1.0],
               list: [1, "a", {}]}  # fmt: skip


@pytest.mark.parametrize("name", EVERY_KEY)
def test_a_value_of_the_wrong_type_stops(name):
    section, key = name.split(".")
    expected = SCHEMA[section][key]
    wrong = ["no such choice", 1, ["x"]] if isinstance(expected, tuple) else WRONG_TYPES[expected]
    for value in wrong:
        with pytest.raises(UserError, match=re.escape(name)):
            check_value(name, value, "here")


@pytest.mark.parametrize("name", sorted(POSITIVE))
def test_a_size_that_is_not_positive_stops(name):
    section, key = name.split(".")
    expected = SCHEMA[section][key]
    for number in (0, -1):
        with pytest.raises(UserError, match="greater than 0"):
            check_value(name, [3, number] if expected is list else expected(number), "here")


@pytest.mark.parametrize(
    "name", [name for name in EVERY_KEY if SCHEMA[name.split(".")[0]][name.split(".")[1]] is float]
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_stops(name, value):
    with pytest.raises(UserError, match=re.escape(name)):
        check_value(name, value, "here")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("backbone.widths", [64, "128"]),
        ("backbone.widths", [64.0]),
        ("backbone.widths", [True]),
        ("backbone.blocks", [3, 0]),
        ("backbone.blocks", [[3]]),
        ("features.mean_bgr", ["103", "115", "123"]),
        ("features.mean_bgr", [math.nan, 1.0, 1.0]),
        ("transfer.snapshots", ["1"]),
        ("resnet101.mean_bgr", [None, 1.0, 1.0]),
        ("resnet101.crops", ["china.jpg"]),
        ("resnet101.crops", [["china.jpg", 0]]),
        ("resnet101.crops", [["china.jpg", "0", 0]]),
        ("resnet101.crops", [[0, 0, 0]]),
    ],
)
def test_a_list_of_the_wrong_things_stops(name, value):
    with pytest.raises(UserError, match=re.escape(name)):
        check_value(name, value, "here")
