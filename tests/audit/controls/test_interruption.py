"""The controls are killed again and again, and end as if nothing had happened."""

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from audit.controls.controls import FILE, FOLDER
from tests.small_devkit import small_devkit
from tests.small_run import small_run

PROJECT = Path(__file__).resolve().parents[3]
KILLS = 4
pytestmark = pytest.mark.slow  # each process imports all that the port needs


def at_work(root):
    """The command on RUN, as soon as it has said a first line: what it imports takes longer than what it does."""
    command = [sys.executable, "-m", "audit.controls.controls", str(root), "--seeds", "1", "--threads", "1"]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    process.stderr.readline()
    return process


def finish(process):
    """Wait for its end, which must be a good one."""
    _, told = process.communicate()
    assert process.returncode == 0, told


def finished(root):
    """What is finished in RUN/controls: results, and stages of trainings."""
    found = [*(root / FOLDER).glob("*/*.npz"), *(root / FOLDER).glob("*/*/torch/[0-9]*/manifest.json")]
    return {str(path.relative_to(root)) for path in found}


def test_killed_at_random_moments_the_command_ends_as_an_undisturbed_one(tmp_path):
    whole, killed = tmp_path / "whole" / "small", tmp_path / "killed" / "small"
    small_run(whole / "torch", small_devkit(tmp_path), "compare.resamples=40")
    shutil.copytree(whole, killed)
    process, begun = at_work(whole), time.monotonic()
    finish(process)
    seconds = time.monotonic() - begun
    # A moment in each quarter of the time that it takes: what was kept makes a later start come farther.
    moments = [random.uniform(i, i + 1) * seconds / KILLS for i in range(KILLS)]
    left = []
    for moment in moments:
        process = at_work(killed)
        time.sleep(moment)
        process.kill()
        process.communicate()
        left.append(finished(killed))
    assert left[0] < finished(whole), moments  # it was killed before the end
    finish(at_work(killed))
    assert finished(killed) == finished(whole), moments
    assert (killed / FOLDER / FILE).read_bytes() == (whole / FOLDER / FILE).read_bytes(), moments
