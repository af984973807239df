"""The commands that are printed: pasted into a shell, make gets the variables that the run was resolved from."""

import subprocess
from pathlib import Path

import pytest

from audit.claims.commands import ROOT, command, complete, overrides, report_command
from experiment.spec import apply_override, read_profile, shorten

GENERATED = "/elsewhere/data/embedded-devkit/VOC2007"


def spec(profile="embedded", devkit=GENERATED, sets=(), limit=0, origin="shipped, backbone", **external):
    values, sources = read_profile(profile)
    if limit:
        shorten(values, sources, limit, 400)
    for override in sets:
        apply_override(values, sources, override)
    found = {"devkit": {"path": devkit}, "weights": {"path": "/w/net.caffemodel", "origin": origin}}
    found |= {name: {"path": path} for name, path in external.items()}
    told = f"{profile}, LIMIT={limit}" if limit else profile
    return {"profile": told, "values": values, "sources": sources, "external": found}


def pasted(line, tmp_path):
    """What make gets of a line that is pasted into a shell: its variables by name."""
    names = ("PROFILE", "DEVKIT", "WEIGHTS", "MEAN", "SET", "RUN", "LIMIT")
    makefile = "".join(f"$(file >{name},$({name}))" for name in names)
    (tmp_path / "Makefile").write_text(f"{makefile}\ngrid compare report:\n\t@true\n")
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True)
    found = {name: (tmp_path / name).read_text().rstrip("\n") for name in names}
    return {name: value for name, value in found.items() if value}


def test_a_run_in_its_own_place_needs_no_variable():
    assert command(ROOT / "runs/embedded", spec(), "grid") == "make grid"
    line = command(ROOT / "runs/embedded-mine", spec(devkit=str(ROOT / "data/mine/VOC2007")), "seeds", "compare")
    assert line == "make seeds compare DEVKIT=data/mine"


@pytest.mark.parametrize("name", ["plain", "it's", "a$b", "$(x)", "a;b", "a#b", "a*b", '"q"', "<i>&"])
def test_a_run_elsewhere_is_named_by_its_path_and_quoted(tmp_path, name):
    run = tmp_path / name
    assert pasted(command(run, spec(), "grid"), tmp_path) == {"RUN": str(run)}
    assert pasted(report_command(run), tmp_path) == {"RUN": str(run)}


def test_every_variable_that_a_run_was_resolved_from_is_named(tmp_path):
    found = spec("paper", "/voc/VOCdevkit/VOC2007", ("svm.c=0.5", 'images.lr_from="hr"'), 64, "other", mean="/w/m")
    assert pasted(command(tmp_path / "runs/mine", found, "grid"), tmp_path) == {
        "PROFILE": "paper",
        "DEVKIT": "/voc/VOCdevkit",
        "WEIGHTS": "/w/net.caffemodel",
        "MEAN": "/w/m",
        "LIMIT": "64",
        "SET": "images.lr_from=hr svm.c=0.5",
        "RUN": str(tmp_path / "runs/mine"),
    }
    assert "RUN=" not in command(ROOT / "runs/paper-VOCdevkit-limit64", found, "grid")


def test_a_folder_called_as_the_generated_devkit_is_named():
    assert "DEVKIT=/mine/embedded-devkit" in command(Path("/r"), spec(devkit="/mine/embedded-devkit"), "grid")


@pytest.mark.parametrize("sets", [("transfer.max_iter=100", "transfer.snapshots=[1,2]"), ("index.limit=0",), ()])
def test_what_set_changed_after_limit_is_named_and_what_limit_made_is_not(sets):
    found = spec("paper", sets=sets, limit=64)
    assert sorted(overrides(found)) == sorted(sets)
    values, sources = read_profile("paper")
    shorten(values, sources, 64, 400)
    for override in overrides(found):
        apply_override(values, sources, override)
    assert values == found["values"]


def test_commands_of_a_run_in_a_text_are_completed_and_no_others():
    text = "run `make seeds compare`, or `make data`; `make grid RUN=x` and `grid` stay"
    assert complete(text, Path("/r"), spec()) == (
        "run `make seeds compare RUN=/r`, or `make data`; `make grid RUN=x` and `grid` stay"
    )
