"""A finished run is read once; and whose draws a stage started from."""

import numpy as np
import pytest
from fake_pair import outputs, own, write_stage

from compare.pair import FinishedRun
from experiment import artifacts
from experiment.artifacts import MANIFEST, RunFolder, write_json
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


def test_a_stage_drew_itself_where_it_was_given_none_of_its_draws(runs, pair_of):
    def drew(stage="transfer"):
        return pair_of(runs.a, runs.b).drew_itself(stage)

    assert not drew()
    write_stage(RunFolder(runs.b), "transfer", drew_itself=True)
    assert drew() and not drew("clusters")
    assert not drew("svm")  # which draws nothing
    run = RunFolder(runs.b)
    manifest = run.require_manifest("transfer")
    manifest["key_parts"]["draws"]["fc1_bias_initial"] = "0" * 64
    write_json(run.stage_path("transfer") / MANIFEST, manifest)
    assert not drew()
