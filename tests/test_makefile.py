"""The front door: what it refuses before anything runs, and what its commands are made of. Nothing is run but `help`."""

import os
import subprocess

import pytest

from tests.conftest import PROJECT


@pytest.fixture
def make(tmp_path):
    """A function that gives what `make -n` prints in a folder without runs and data; `status` is its exit status."""

    def run(*arguments: str, status: int = 0, options: tuple[str, ...] = ("-n",)) -> str:
        command = ["make", "-f", PROJECT / "Makefile", *options, "-o", tmp_path / ".venv" / ".ready", *arguments]
        # Neither the variables of the `make test` that runs this nor the user's.
        environment = {"PATH": os.environ["PATH"]}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stderr if status else done.stdout

    return run


def test_the_papers_profile_takes_what_the_same_command_downloads(make, tmp_path):
    (line,) = [
        line
        for line in make("data", "weights", "caffe-reproduce", "PROFILE=paper").splitlines()
        if "experiment.resolve" in line
    ]
    assert "--devkit 'data/voc2007/VOCdevkit' --weights 'data/weights/ResNet-101-model.caffemodel'" in line
    assert line.endswith(f"--run '{tmp_path}/runs/paper-VOCdevkit/caffe'")
    named = make("caffe-reproduce", "PROFILE=paper", "DEVKIT=mine", "WEIGHTS=w", "LIMIT=5")
    assert "--devkit 'mine' --weights 'w'" in named and "/runs/paper-mine-limit5/caffe'" in named


@pytest.mark.parametrize(
    ("target", "module"),
    [
        ("controls", "audit.controls.controls"),
        ("sensitivity", "audit.decisions.sensitivity"),
        ("report", "audit.page.report"),
        ("grid", "paper.grid"),
    ],
)
def test_the_papers_run_is_the_one_that_is_audited(make, tmp_path, target, module):
    assert f"-m {module} '{tmp_path}/runs/paper-VOCdevkit'" in make(target, "PROFILE=paper")
