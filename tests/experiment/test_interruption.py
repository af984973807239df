"""A stage that ends before its time leaves nothing that could be taken for a result."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fake_side import FakeSide, write_module, write_spec

from experiment.stages import STAGES

PROJECT = Path(__file__).resolve().parents[2]

# Half the work: one output finished, one half filled, then the end.
BREAKS_OFF = """
def run(stage):
    stage.out.json("result", "half")
    stage.out.rows(["half"], (1000,), "float32", 10).arrays[0][:10] = 1
    {end}
"""

# A shell without job control starts what it leaves in the background with SIGINT ignored, and children inherit that.
SCRIPT = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path[:0] = [{project!r}, {tests!r}]
from fake_side import load_modules
from experiment.errors import run_command
from experiment.pipeline import main
run_command(lambda: main("torch", load_modules(Path({folder!r})), lambda: {{"fake": "1"}}, [{run!r}]))
"""


@pytest.fixture
def side(tmp_path) -> FakeSide:
    return FakeSide(tmp_path / "side", tmp_path / "run")


def finished(side: FakeSide) -> list[str]:
    """The stages that have a folder under their own name; each must then be whole."""
    stages = [stage for stage in STAGES if side.run.stage_path(stage).exists()]
    for stage in stages:
        for name, entry in side.run.require_manifest(stage)["outputs"].items():
            (side.run.array if entry["kind"] == "array" else side.run.file)(stage, name)
    return stages


def folders(side: FakeSide) -> list[str]:
    """Everything in the run that starts like a stage's folder."""
    return sorted(path.name for path in side.run.path.iterdir() if path.name[:1].isdigit())


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "RuntimeError('a bug')", "MemoryError", "SystemExit(3)"])
def test_an_exception_in_a_stage_leaves_it_unfinished(side, error):
    write_module(side.folder, "clusters", extra=BREAKS_OFF.format(end=f"raise {error}"))
    with pytest.raises((KeyboardInterrupt, RuntimeError, MemoryError, SystemExit)):
        side.reproduce()
    assert finished(side) == ["index", "images", "features"]
    assert folders(side) == ["01-index", "02-images", "03-features"]


def test_an_exception_in_a_stage_that_is_done_again_keeps_the_old_one(side):
    side.reproduce()
    before = side.results()
    write_spec(side.run.path, clusters=4)
    write_module(side.folder, "clusters", extra=BREAKS_OFF.format(end="raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        side.reproduce()
    assert finished(side) == list(STAGES)
    assert side.results() == before


def test_the_run_goes_on_where_it_was_interrupted(side, tmp_path):
    write_module(side.folder, "transfer", extra=BREAKS_OFF.format(end="raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        side.reproduce()
    write_module(side.folder, "transfer")
    assert side.reproduce() == ["transfer", "transfer_features", "svm", "metrics", "resnet101"]
    fresh = FakeSide(tmp_path / "fresh_side", tmp_path / "fresh")
    fresh.reproduce()
    assert side.results() == fresh.results()
    assert "half" not in side.run.require_manifest("transfer")["outputs"]
    assert [path.name for path in side.run.path.iterdir() if "partial" in path.name] == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_process_that_is_killed_leaves_no_half_written_stage(side, tmp_path, number):
    wait = "print('half', flush=True); import time; time.sleep(60)"
    write_module(side.folder, "clusters", extra=BREAKS_OFF.format(end=wait))
    script = SCRIPT.format(
        project=str(PROJECT), tests=str(Path(__file__).parent), folder=str(side.folder), run=str(side.run.path)
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "half\n"
        process.send_signal(number)
        status = process.wait(timeout=30)
        errors = process.stderr.read()
    assert status == (130 if number == signal.SIGINT else -number)
    assert "Traceback" not in errors
    assert finished(side) == ["index", "images", "features"]
    write_module(side.folder, "clusters")
    assert side.reproduce() == list(STAGES)[3:]  # the lock died with the process
    assert finished(side) == list(STAGES)
