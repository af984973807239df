"""A finished run is read once; and whose draws a stage started from."""

import numpy as np
import pytest
from fake_pair import change_parts, outputs, own, write_stage

from compare.pair import FinishedRun, own_draws
from experiment import artifacts
from experiment.artifacts import MANIFEST, RunFolder
from experiment.errors import UserError


def test_an_array_is_hashed_once_and_a_manifest_and_the_specification_are_read_once(runs, monkeypatch):
    hashed, read = [], []

    def counting(calls, function):
        return lambda argument: calls.append(argument) or function(argument)

    monkeypatch.setattr(artifacts, "sha256_array", counting(hashed, artifacts.sha256_array))
    monkeypatch.setattr(artifacts, "read_json", counting(read, artifacts.read_json))
    run = FinishedRun(runs.a)
    for _ in range(3):
        array = run.array("clusters", "centroids")
        np.testing.assert_array_equal(array, outputs()["clusters"]["centroids"])
        assert isinstance(array, np.memmap) and not array.flags.writeable
        assert run.array("clusters", "assignments").shape == (6,)
        assert run.spec["profile"] == "toy" and run.manifest("clusters")["stage"] == "clusters"
    assert [array.shape for array in hashed] == [(3, 3), (6,)]
    assert sorted(path.name for path in read) == ["manifest.json", "spec.json"]


def test_a_stage_that_is_not_finished_is_none(runs):
    (own(runs.a, "svm").stage_path("svm") / MANIFEST).unlink()
    assert FinishedRun(runs.a).manifest("svm") is None


def test_a_damaged_array_is_refused_each_time(runs):
    path = own(runs.a, "clusters").output_path("clusters", "centroids")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    run = FinishedRun(runs.a)
    for _ in "12":
        with pytest.raises(UserError, match="centroids.npy"):
            run.array("clusters", "centroids")


def test_draws_are_run_bs_own_where_any_of_them_is_not_run_as(runs):
    def own(stage="transfer"):
        return own_draws(RunFolder(runs.a), RunFolder(runs.b), stage)

    assert not own() and not own("svm")  # which draws nothing
    for digest in ("0" * 64, None):  # another run's, or none
        change_parts(runs.b, "transfer", lambda parts, d=digest: parts["draws"].update(fc1_bias_initial=d))
        assert own() and not own("clusters")
    write_stage(RunFolder(runs.b), "transfer", drew_itself=False)
    assert not own()
    write_stage(RunFolder(runs.a), "transfer", {("transfer", "fc2_weight_initial"): lambda w: -w})
    assert own()  # run a's of now
