"""A finished run of the port on three dozen images, with the shipped backbone, for the grid and the figures."""

import pytest

from tests.small_devkit import TRAINVAL, small_devkit
from tests.small_run import small_run


@pytest.fixture(scope="session")
def devkit(tmp_path_factory):
    """A third class has one positive image a split, and image 5 two classes."""
    return small_devkit(tmp_path_factory.mktemp("devkit"), rare=(5, TRAINVAL + 1))


@pytest.fixture(scope="session")
def finished(tmp_path_factory, devkit):
    """RUN, with a finished RUN/torch in it."""
    run = tmp_path_factory.mktemp("runs") / "small"
    small_run(run / "torch", devkit)
    return run
