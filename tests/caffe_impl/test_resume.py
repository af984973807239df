"""Both sides killed again and again: in the end they leave, bit for bit, what a run leaves that was never stopped.

The process ends itself by SIGKILL, at random: as it writes down for the n-th time that something is whole, or a random
while after. It is the same in every container, and no handler, no `finally` runs.
"""

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiment.artifacts import RunFolder
from experiment.stages import STAGES
from tests.caffe_impl.conftest import in_container
from tests.caffe_impl.test_run import devkit, resolve_run  # noqa: F401

pytestmark = [pytest.mark.caffe, pytest.mark.slow]

PROJECT = Path(__file__).resolve().parents[2]
KILLS = 5  # a side

# Arguments: the side, after how many notes to kill (0: never), how many seconds later, and the command line.
SCRIPT = """
import os, runpy, signal, sys, threading
from experiment import stage_writer
side, notes, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
stage_writer.CHECKPOINT_SECONDS = 0.01
note, count = stage_writer.StageWriter._note, 0
def counted(self, entry):
    global count
    note(self, entry)
    count += 1
    if count == notes and not seconds:
        os.kill(os.getpid(), signal.SIGKILL)
    if count == notes:
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
stage_writer.StageWriter._note = counted
sys.argv = [side + "_impl", *sys.argv[4:]]
runpy.run_module(side + "_impl", run_name="__main__")
"""


def reproduce(
    side: str, run: Path, notes: int = 0, seconds: float = 0.0, read=(), only=()
) -> subprocess.CompletedProcess:
    """A side's command line, killed `seconds` after it wrote down for the `notes`-th time that something is whole."""
    stages = [word for stage in only for word in ("--only", stage)]
    arguments = ["-c", SCRIPT, side, str(notes), str(seconds), str(run), "--threads", "1", *stages]
    if side == "caffe":
        return in_container("python3", *arguments, read=[*read], write=[run])
    return subprocess.run([sys.executable, *arguments], cwd=PROJECT, capture_output=True, text=True)


def digests(run: RunFolder) -> dict[str, str]:
    """What every output of every stage is."""
    found = {}
    for stage in STAGES:
        for name, entry in run.require_manifest(stage)["outputs"].items():
            (run.array if entry["kind"] == "array" else run.file)(stage, name)  # whole on the disk
            found[f"{stage}/{name}"] = entry["sha256"]
    return found


@pytest.mark.parametrize("side", ["caffe", "torch"])
def test_a_side_that_is_killed_at_random_ends_with_the_same_bits(side, tmp_path, devkit, case_folder):  # noqa: F811
    weights = case_folder / "small.caffemodel"
    runs = [RunFolder(tmp_path / name / side) for name in ("whole", "killed")]
    for run in runs:
        run.path.parent.mkdir()
        run.path.mkdir()
        resolve_run(run.path, devkit, weights)
    done = reproduce(side, runs[0].path, read=[devkit, weights])
    assert done.returncode == 0, done.stderr[-2000:]
    chance = random.Random(f"resume/{side}")
    killed = 0
    for _ in range(KILLS):
        kill = chance.randint(2, 60), chance.choice([0.0, chance.uniform(0, 0.3)])
        done = reproduce(side, runs[1].path, *kill, read=[devkit, weights])
        killed += done.returncode != 0
        assert "Traceback" not in done.stderr, done.stderr[-2000:]
    done = reproduce(side, runs[1].path, read=[devkit, weights])
    assert done.returncode == 0, done.stderr[-2000:]
    assert killed >= KILLS // 2
    attempts = {stage: runs[1].require_manifest(stage)["attempts"] for stage in STAGES}
    assert max(attempts.values()) > 1, attempts
    assert digests(runs[1]) == digests(runs[0])
    assert not [path.name for path in runs[1].path.iterdir() if path.name.startswith(".")]
    # A row of the stage svm is two arrays and a summary: killed after each of these, it goes on all the same.
    for notes in (2, 3, 4):
        shutil.rmtree(runs[1].stage_path("svm"))
        assert reproduce(side, runs[1].path, notes, only=["svm"]).returncode != 0
        done = reproduce(side, runs[1].path, only=["svm"])
        assert done.returncode == 0, done.stderr[-2000:]
        assert runs[1].require_manifest("svm")["attempts"] == 2
        assert digests(runs[1]) == digests(runs[0])
