"""A kept report stands for the very comparison that was asked for, and for nothing that was touched since."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from fake_pair import change_spec, link_run, own

from compare import __main__ as command
from compare import kept
from compare.stages import compare_stage
from experiment.artifacts import MANIFEST
from experiment.errors import UserError, run_command

ASKED = "PROFILE=toy SEEDS=5"


@pytest.fixture
def program(tmp_path, monkeypatch) -> Path:
    """A project that may be changed, with this one's comparison in it."""
    root = tmp_path / "project"
    shutil.copytree(kept.ROOT / "compare", root / "compare")
    (root / "Makefile").write_text("compare:\n")
    monkeypatch.setattr(kept, "ROOT", root)
    return root


@pytest.fixture
def run(tmp_path, templates, monkeypatch) -> Path:
    """RUN, with both sides and an isolated run in it, and data and weights from outside."""
    run, data = tmp_path / "run", tmp_path / "data"
    weights = tmp_path / "weights.caffemodel"
    weights.write_bytes(b"weights")
    for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (data / folder).mkdir(parents=True)
        (data / folder / "000001").write_bytes(b"first")
    for side, template in (("caffe", "caffe"), ("torch", "torch"), ("torch-isolated", "isolated")):
        link_run(templates[template], run / side)
        own(run / side, "index"), own(run / side, "svm")
    change_spec(run / "caffe", lambda spec: spec["external"]["weights"].update(path=str(weights)))
    change_spec(run / "caffe", lambda spec: spec["external"]["devkit"].update(path=str(data)))
    return run


@pytest.fixture
def make(monkeypatch, capsys, run, program):
    """`make()`: what `make compare` does where it looked in vain; gives exit code and stdout. Two stages will do.

    `during` happens while the runs are made.
    """
    few = ("index", "svm")
    monkeypatch.setattr(
        command, "compare_stage", lambda stage, pair: compare_stage(stage, pair) if stage in few else []
    )

    def compare(during=lambda: None) -> tuple[int, str]:
        files = ["--json", run / "compare.json", "--junit", run / "compare.xml"]
        (run / kept.BEGAN).touch()
        time.sleep(0.02)  # the file system's clock has ticks
        during()
        words = [run / "caffe", run / "torch", "--isolated", run / "torch-isolated", *files, "--keep", run, ASKED]
        return ended(monkeypatch, capsys, command.main, words)

    return compare


@pytest.fixture
def look(monkeypatch, capsys, run):
    """`look(asked)`: what is found by `python -m compare.kept`; exit code and stdout."""
    return lambda asked=ASKED: ended(monkeypatch, capsys, kept.main, [run, asked])


def ended(monkeypatch, capsys, main, words) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["compare", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        run_command(main)
    return int(end.value.code), capsys.readouterr().out


def test_untouched_the_report_is_the_same_again(make, look, run):
    assert look() == (kept.NOT_KEPT, "")
    made = make()
    assert made[0] == 0 and made[1].splitlines()[-1].startswith("agree: ")
    assert look() == made and look() == made


def test_a_report_that_the_runs_differ_is_kept_with_its_exit_code(make, look, run):
    table = run / "torch" / "08-svm"
    manifest = json.loads((table / MANIFEST).read_text())
    (table / manifest["outputs"]["ours"]["file"]).unlink()
    made = make()
    assert made[0] == 1 and "differ: " in made[1]
    assert look() == made


def rewritten(path: Path) -> None:
    """One byte changed; size, name and mtime stay."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replaced(path: Path) -> None:
    """Another file in its place."""
    other = path.with_name(path.name + ".other")
    shutil.copy2(path, other)
    os.replace(other, path)


TOUCHED = {
    "an array": lambda run, _: rewritten(next((run / "torch" / "08-svm").glob("ours*.npy"))),
    "an array of the isolated run": lambda run, _: rewritten(next((run / "torch-isolated" / "08-svm").glob("*.npy"))),
    "a manifest": lambda run, _: rewritten(run / "caffe" / "01-index" / MANIFEST),
    "an array that is put there anew": lambda run, _: replaced(next((run / "caffe" / "08-svm").glob("*.npy"))),
    "a stage that is gone": lambda run, _: shutil.rmtree(run / "torch" / "08-svm"),
    "a prototxt": lambda run, _: rewritten(next((run / "caffe" / "prototxt").iterdir())),
    "a specification": lambda run, _: rewritten(run / "torch" / "spec.json"),
    "a run that is new": lambda run, _: (run / "caffe-threads").mkdir() or (run / "caffe-threads" / "x").touch(),
    "seeds": lambda run, _: (run / "seeds").mkdir() or (run / "seeds" / "x").touch(),
    "compare.json": lambda run, _: rewritten(run / "compare.json"),
    "compare.xml": lambda run, _: (run / "compare.xml").unlink(),
    "the tolerances": lambda _, root: rewritten(root / "compare" / "tolerances.toml"),
    "the comparison's code": lambda _, root: rewritten(root / "compare" / "svm.py"),
    "the Makefile": lambda _, root: rewritten(root / "Makefile"),
    "the weights": lambda run, _: rewritten(run.parent / "weights.caffemodel"),
    "a photograph": lambda run, _: (run.parent / "data" / "JPEGImages" / "000001").write_bytes(b"other"),
    "the data": lambda run, _: (run.parent / "data" / "Annotations" / "000002").touch(),
    "the report": lambda run, _: (run / kept.FILE).write_text("{}"),
    "half a report": lambda run, _: (run / kept.FILE).write_text("{"),
}


@pytest.mark.parametrize("what", TOUCHED)
def test_no_report_stands_where_something_was_touched(what, make, look, run, program):
    make()
    assert look()[0] == 0
    TOUCHED[what](run, program)
    assert look() == (kept.NOT_KEPT, "")


@pytest.mark.parametrize("asked", ["", ASKED + "0", "PROFILE=paper SEEDS=5"])
def test_no_report_stands_for_another_question(asked, make, look):
    make()
    assert look(asked) == (kept.NOT_KEPT, "")


def test_no_report_stands_for_other_packages_or_another_python(make, look, monkeypatch, tmp_path):
    make()
    with monkeypatch.context() as changed:
        changed.setattr(sys, "version", sys.version + "+")
        assert look()[0] == kept.NOT_KEPT
    (tmp_path / "numpy-1.0.dist-info").mkdir()
    monkeypatch.setattr(kept.sysconfig, "get_path", lambda name: str(tmp_path))
    assert look()[0] == kept.NOT_KEPT


def test_what_changes_while_the_runs_are_read_is_noticed(make, look, run, monkeypatch):
    """The state is that from before: whoever writes to a run meanwhile makes the report one of no state."""
    plain = command.compare_runs

    def meanwhile(pair):
        rewritten(run / "torch" / "01-index" / MANIFEST)
        rewritten(run / "torch" / "01-index" / MANIFEST)  # back to what it was
        return plain(pair)

    monkeypatch.setattr(command, "compare_runs", meanwhile)
    assert make()[0] == 0
    assert look()[0] == kept.NOT_KEPT


@pytest.mark.parametrize("what", ["the comparison's code", "the Makefile", "the weights", "a photograph", "the data"])
def test_no_report_is_kept_where_the_program_or_the_data_change_while_the_runs_are_made(what, make, look, run, program):
    """They may be of what was there before, though the comparison finds them finished."""
    assert make(lambda: TOUCHED[what](run, program))[0] == 0
    assert look() == (kept.NOT_KEPT, "")


def test_no_report_is_kept_of_runs_that_could_not_be_compared(make, look, run):
    make()
    shutil.rmtree(run / "torch" / "01-index")
    assert make()[0] == 2 and look()[0] == kept.NOT_KEPT


def test_bytecode_is_no_change(make, look, program):
    made = make()
    (program / "compare" / "__pycache__").mkdir(exist_ok=True)
    (program / "compare" / "__pycache__" / "x.pyc").touch()
    assert look() == made


def test_without_runs_there_is_nothing(tmp_path):
    assert kept.kept(tmp_path, ASKED) is None
    with pytest.raises(UserError, match="spec.json is missing"):
        kept.state(tmp_path, ASKED)
