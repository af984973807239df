"""The port's command line before it computes anything."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiment.stages import STAGES
from torch_impl.__main__ import MODULES

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), (["RUN", "--only", "nothing"], 2)])
def test_what_needs_no_pytorch_does_not_import_it(arguments, status):
    """It and scikit-learn take seconds."""
    command = [sys.executable, "-X", "importtime", "-m", "torch_impl", *arguments]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == status and "usage: python -m torch_impl" in found.stdout + found.stderr
    imported = {line.rpartition("|")[2].strip() for line in found.stderr.splitlines() if "import time:" in line}
    assert "experiment.pipeline" in imported
    assert not imported & {"torch", "sklearn", "scipy", "cv2", "libsvm"}


def test_every_stage_has_its_module():
    assert list(MODULES) == list(STAGES) and len(MODULES) == len(STAGES)
    for stage, module in MODULES.items():
        assert module.__name__ == f"torch_impl.{stage}" and callable(module.run)
    with pytest.raises(KeyError):
        MODULES["speed"]
