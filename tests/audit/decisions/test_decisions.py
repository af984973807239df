"""audit/decisions/decisions.toml: complete, and every alternative is one that the program can really be given."""

import pytest

from audit.decisions.decisions import read_decisions
from audit.decisions.derive import DERIVATIONS
from experiment.spec import apply_override, check_together, read_profile
from tests.conftest import user_error

SNAPSHOTS = "transfer.snapshots=[1, 2]"  # as every run of the sensitivity has them
LEAST_CHOICES = 20
ALTERNATIVES = [one for decision in read_decisions() for one in decision.alternatives]
ENTRY = """
[D1]
subject = "s"
of = "paper"
taken = "t"
why = "w"
instead = "i"
[[D1.alternative]]
name = "other"
what = "the other"
set = ["svm.c=2.0"]
"""
TWIN = '[[D1.alternative]]\nname = "other"\nwhat = "the same"\nreason = "none"\n'


def test_the_paper_leaves_twenty_choices_open_at_least():
    assert sum(decision.of == "paper" for decision in read_decisions()) >= LEAST_CHOICES


@pytest.mark.parametrize("one", [one for one in ALTERNATIVES if one.set], ids=lambda one: one.folder)
def test_an_alternative_changes_the_keys_that_it_names_and_no_other(one):
    profile = one.profile or "embedded"
    plain, _ = read_profile(profile)
    values, sources = read_profile(profile)
    for override in (SNAPSHOTS, *one.set):
        apply_override(values, sources, override)
    check_together(values, one.folder)
    differing = {f"{s}.{k}" for s in plain for k in plain[s] if values[s][k] != plain[s][k]} - {"transfer.snapshots"}
    assert differing == {override.partition("=")[0] for override in one.set}


def test_every_derivation_is_an_alternative_and_the_other_way_round():
    assert {one.devkit for one in ALTERNATIVES if one.devkit} == set(DERIVATIONS)


def test_a_decision_is_read_as_it_is_written(tmp_path):
    path = tmp_path / "decisions.toml"
    path.write_text(ENTRY)
    (found,) = read_decisions(path)
    assert (found.number, found.subject, found.of, found.taken, found.why, found.instead) == (
        "D1",
        "s",
        "paper",
        *"twi",
    )
    (one,) = found.alternatives
    assert (one.folder, one.told, one.set) == ("D1-other", "the other: svm.c=2.0", ("svm.c=2.0",))


@pytest.mark.parametrize(
    "before, after, says",
    [
        ("[D1]", "[D2]", "each once and in order"),
        ("[D1]", "[D1", "mend the TOML"),
        ('why = "w"\n', "", "must have subject"),
        ('why = "w"', 'why = " "', "must not be empty"),
        ('"paper"', '"nobody"', "`of` is one of"),
        ('name = "other"', 'name = "../other"', "letters, digits"),
        ('set = ["svm.c=2.0"]', "", "one of set, devkit, otherwise"),
        ('set = ["svm.c=2.0"]', 'set = ["svm.c=2.0"]\nreason = "none"', "one of set, devkit, otherwise"),
        ("svm.c", "svm.gamma", "svm.gamma is not a key"),
        ('set = ["svm.c=2.0"]', 'effect = "+2"', "one of set, devkit, otherwise"),
        ("[[D1.alternative]]", TWIN + "[[D1.alternative]]", "one name"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_refused_in_a_line(tmp_path, before, after, says):
    path = tmp_path / "decisions.toml"
    text = ENTRY.replace(before, after)
    assert text != ENTRY
    path.write_text(text)
    with user_error(path, says):
        read_decisions(path)
