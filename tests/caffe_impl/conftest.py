"""One start of the container computes all of cases.py; tests ask for a case's results by name."""

import copy
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from experiment.spec import read_profile
from prototxt.generate import prototxts

ROOT = Path(__file__).resolve().parent.parent.parent

# A net of 32 x 32 images and a transfer network of 5 and 3 neurons on batches of 3, its lr stepping twice.
SMALL = {
    "images": {"hr_size": 32, "lr_size": 8},
    "backbone": {"conv1_channels": 4, "widths": [2, 3], "blocks": [1, 2], "classes": 5},
    "transfer": {
        "n1": 5,
        "n2": 3,
        "batch_size": 3,
        "base_lr": 0.2,
        "gamma": 0.1,
        "stepsize": 4,
        "max_iter": 10,
        "momentum": 0.9,
        "weight_decay": 0.01,
        "bias_lr_mult": 2.0,
        "bias_decay_mult": 0.0,
    },
}


def values_with(changes):
    """The embedded profile's values with some changed, {section: {key: value}}."""
    values = copy.deepcopy(read_profile("embedded")[0])
    for section, keys in changes.items():
        values[section].update(keys)
    return values


def wide(variance_norm):
    """A transfer network wide enough to measure the spread of its initial weights."""
    return {"transfer": {"n1": 1000, "n2": 200, "batch_size": 2, "variance_norm": variance_norm}}


NETS = {
    "small": SMALL,
    "diverging": {**SMALL, "transfer": {**SMALL["transfer"], "base_lr": 1e30}},
    **{f"wide-{norm}": wide(norm) for norm in ("FAN_IN", "FAN_OUT", "AVERAGE")},
}


def in_container(*command, read=(), write=()):
    """Run a command through docker/run and return the finished process, its output as text."""
    paths = [word for option, group in (("--read", read), ("--write", write)) for path in group
             for word in (option, str(path))]  # fmt: skip
    return subprocess.run(
        [ROOT / "docker" / "run", *paths, "--", *map(str, command)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="session")
def case_folder(tmp_path_factory):
    """Where cases.py has written its results, and small.caffemodel."""
    folder = tmp_path_factory.mktemp("caffe-cases")
    for name, changes in NETS.items():
        target = folder / "prototxt" / name
        target.mkdir(parents=True)
        for file, text in prototxts(values_with(changes)).items():
            (target / file).write_text(text)
    folder.chmod(0o777)  # under sudo the container runs as the user who called sudo
    finished = in_container("python3", "-m", "tests.caffe_impl.cases", folder, write=[folder])
    assert finished.returncode == 0, finished.stderr[-3000:]
    return folder


@pytest.fixture(scope="session")
def case(case_folder):
    """A function from a case's name to its results; a case that failed shows its traceback."""

    def results(name):
        error = case_folder / f"{name}.error"
        assert not error.exists(), error.read_text()
        with np.load(case_folder / f"{name}.npz") as arrays:
            return {**json.loads((case_folder / f"{name}.json").read_text()), **arrays}

    return results
