"""Runs that were compared, and the report of them, for the tests of the page."""

from types import SimpleNamespace

import pytest

from audit.page import report
from tests.audit.page.report_run import DEPARTS, make_run, write_optional


@pytest.fixture(scope="session")
def reported(tmp_path_factory):
    """Two runs: `whole`, in which the sides are the same and everything optional is there, and `departs`, in which the
    port departs at blob conv1 and nothing optional is. Not to be changed."""
    folder = tmp_path_factory.mktemp("runs")
    whole = make_run(folder / 'it\'s "q" & <i>')
    write_optional(whole)
    return SimpleNamespace(whole=whole, departs=make_run(folder / "embedded-departs", DEPARTS))


@pytest.fixture(scope="session")
def html(reported):
    """The page of both."""
    return report.page([reported.whole, reported.departs])
