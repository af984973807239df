"""audit/decisions/decisions.toml: complete, and every alternative is one that the program can really be given."""

import pytest

from audit.decisions.decisions import Alternative, read_decisions
from audit.decisions.derive import DERIVATIONS
from experiment.spec import apply_override, check_together, read_profile, shorten
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
        ('set = ["svm.c=2.0"]', 'reason = "none"\nrelative = true', "what a `set` fits"),
        ('set = ["svm.c=2.0"]', 'reason = "none"\nprofile = "paper"', "what a `set` fits"),
        ('set = ["svm.c=2.0"]', 'set = ["svm.c=2.0"]\nrelative = "no"', "true or false"),
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


def spec_of(*sets, profile="embedded", limit=0):
    """What spec.json says of a run resolved with SET= and LIMIT=."""
    values, sources = read_profile(profile)
    if limit:
        shorten(values, sources, limit, 400)
    for override in sets:
        apply_override(values, sources, override)
    return {"profile": f"{profile}, LIMIT={limit}" if limit else profile, "values": values}


HALF = Alternative("D1", "half", "half of both", set=("transfer.n1=256", "clusters.k=20"), profile="embedded")
TENTH = Alternative("D1", "tenth", "a tenth", set=("svm.c=0.1",), relative=True)
PLAIN = Alternative("D1", "plain", "a value of its own", set=("svm.tolerance=0.001",))


@pytest.mark.parametrize(
    "one, spec, reason",
    [
        (HALF, spec_of(), ""),
        (HALF, spec_of("svm.c=2.0"), ""),
        (HALF, spec_of(profile="paper"), "its sizes are made for PROFILE=embedded alone"),
        (HALF, spec_of(limit=64), "its sizes are made for PROFILE=embedded without LIMIT=64"),
        (HALF, spec_of("transfer.n1=128"), "the run has another transfer.n1 than the profile embedded"),
        (
            HALF,
            spec_of("transfer.n1=128", "clusters.k=10"),
            "the run has another transfer.n1 and clusters.k than the profile embedded",
        ),
        (TENTH, spec_of(), ""),
        (TENTH, spec_of(profile="paper", limit=64), ""),
        (TENTH, spec_of("svm.c=2.0"), "the run has another svm.c than the profile embedded"),
        (PLAIN, spec_of("svm.tolerance=0.01", profile="paper"), ""),
        (PLAIN, spec_of("svm.tolerance=0.001"), "the run takes it so already"),
    ],
)
def test_an_alternatives_sizes_fit_a_run_that_has_the_profiles_own_values(one, spec, reason):
    assert one.fits(spec) == reason


@pytest.mark.parametrize("profile", ["embedded", "paper"])
def test_of_the_profiles_themselves_only_sizes_of_the_other_do_not_fit(profile):
    for one in ALTERNATIVES:
        assert (one.fits(spec_of(profile=profile)) == "") == (one.profile in ("", profile))


def test_multiples_of_c_are_none_of_another_c():
    refused = {one.folder for one in ALTERNATIVES if one.fits(spec_of("svm.c=2.0"))}
    assert refused - {one.folder for one in ALTERNATIVES if one.fits(spec_of())} == {"D6-tenth", "D6-tenfold"}
