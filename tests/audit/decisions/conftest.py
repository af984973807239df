"""A small run, of which alternatives can be measured in seconds."""

import pytest

from tests.small_devkit import small_devkit
from tests.small_run import small_run

FEW_RESAMPLES = "compare.resamples=50"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """RUN, with a finished RUN/torch: the two tints are nearly alike."""
    devkit = small_devkit(tmp_path_factory.mktemp("devkit"), tint=9, difficult=())
    run = tmp_path_factory.mktemp("runs") / "small"
    small_run(run / "torch", devkit, FEW_RESAMPLES)
    return run
