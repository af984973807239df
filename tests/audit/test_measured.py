"""Figures of an older run are told from those of the run that is there."""

import numpy as np
import pytest

from audit.measured import FIGURES, foreign, read_current, stamp
from experiment.artifacts import RunFolder, write_json
from experiment.stage_writer import StageWriter
from experiment.stages import STAGES
from tests.conftest import user_error


def write_stage(run, stage, value):
    """A finished stage with an array and a JSON value."""
    out = StageWriter(run, stage)
    out.array("array", np.full(3, value, np.float32))
    out.json("value", value)
    out.finish({"stage": stage, "key": "any", "seconds": value})


@pytest.fixture
def run(tmp_path):
    """RUN/torch, all of whose stages are finished."""
    run = RunFolder(tmp_path / "small" / "torch")
    run.path.mkdir(parents=True)
    write_json(run.path / "spec.json", {"sha256": "a"})
    for stage in STAGES:
        write_stage(run, stage, 1)
    return run


def measured(run, **changes):
    return {**stamp(run), "seeds": [1, 2], **changes}


@pytest.mark.parametrize("stage", FIGURES)
def test_what_any_stage_up_to_the_metrics_left_is_part_of_it(run, stage):
    kept = measured(run)
    write_stage(run, stage, 2)
    assert foreign(kept, run) == ("other data" if stage == "index" else "other results than torch/ holds now")
    # Figures of the same data and specification, as docs/results has them, may be of another machine's rounding.
    assert foreign(kept, run, copied=True) == ("other data" if stage == "index" else "")
    write_stage(run, stage, 1)
    assert foreign(kept, run) == ""
    (run.stage_path(stage) / "manifest.json").unlink()
    assert foreign(kept, run) != ""


def test_what_no_figure_depends_on_is_no_part_of_it(run):
    kept = measured(run)
    write_stage(run, "resnet101", 2)
    assert foreign(kept, run) == ""


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"schema_version": 1}, "version"),
        ({"spec_sha256": "b"}, "specification"),
        ({"made_from": "0"}, "results"),
        ({"data": "0"}, "data"),
    ],
)
def test_a_file_of_something_else_is_refused_with_the_command_that_measures_it_anew(run, changes, says):
    root = run.path.parent
    (root / "controls").mkdir()
    path = root / "controls" / "controls.json"
    write_json(path, measured(run))
    assert read_current(root, "controls") == measured(run)
    write_json(path, measured(run, **changes))
    with user_error(path, f"python -m audit.controls.controls {root} --seeds 2`"):
        read_current(root, "controls")
    assert says in foreign(measured(run, **changes), run)


def test_a_file_that_holds_no_figures_is_of_another_version(run):
    assert "version" in foreign([], run) and "version" in foreign({}, run)
    root = run.path.parent
    (root / "sensitivity").mkdir()
    write_json(root / "sensitivity" / "sensitivity.json", [])
    with user_error("sensitivity.json", f"python -m audit.decisions.sensitivity {root}`"):
        read_current(root, "sensitivity")
