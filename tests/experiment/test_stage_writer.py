"""What a stage writes: whole under its own name, or not at all; and names that stay inside the folder."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from experiment.artifacts import RunFolder, write_json
from experiment.stage_writer import StageWriter, link_stage, replace_folder


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def finished(run: RunFolder, stage: str, **arrays: np.ndarray) -> None:
    """Write and finish a stage of nothing but arrays."""
    writer = StageWriter(run, stage)
    for name, array in arrays.items():
        writer.array(name, array)
    writer.finish({"stage": stage})


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int32).reshape(2, 3),
        np.asfortranarray(np.random.default_rng(0).normal(size=(4, 5))),
        np.zeros((0, 3), np.float32),
        np.zeros((3, 0), np.float32),
        np.array(2.5, np.float64),
        np.arange(5, dtype=">f4"),
        np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)[::2, 1::3],
    ],
    ids=["c", "fortran", "no rows", "no columns", "0-d", "big-endian", "strided"],
)
def test_an_array_comes_back_as_it_was_written(run, array):
    finished(run, "clusters", result=array)
    back = run.array("clusters", "result")
    assert back.dtype == array.dtype and back.shape == array.shape
    assert np.array_equal(back, array)
    assert not back.flags.writeable
    on_disk = np.load(run.stage_path("clusters") / "result.npy", allow_pickle=False)
    assert on_disk.flags.c_contiguous


def test_an_array_filled_piece_by_piece_is_hashed_when_finished(run):
    writer = StageWriter(run, "images")
    (array,) = writer.rows(["hr_test"], (3, 2), "uint8", 1).arrays
    for row in range(3):
        array[row] = row + 1
    writer.finish({})
    assert run.array("images", "hr_test").tolist() == [[1, 1], [2, 2], [3, 3]]


def test_json_and_files_come_back_as_they_were_written(run):
    writer = StageWriter(run, "resnet101")
    writer.json("blob_names", ["data", "Ω"])
    writer.new_file("net.caffemodel").write_bytes(b"\x00\x01weights")
    writer.add_file("weights", "net.caffemodel")
    writer.finish({"key": "k"})
    assert run.json("resnet101", "blob_names") == ["data", "Ω"]
    assert run.file("resnet101", "weights").read_bytes() == b"\x00\x01weights"
    assert run.require_manifest("resnet101")["key"] == "k"


def test_names_may_hold_folders(run):
    finished(run, "transfer", **{"snapshots/10/fc1_weight": np.ones(3, np.float32)})
    assert (run.stage_path("transfer") / "snapshots" / "10" / "fc1_weight.npy").is_file()
    assert run.array("transfer", "snapshots/10/fc1_weight").sum() == 3


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/tmp/out", "..", "", ".", "a/.."])
@pytest.mark.parametrize("kind", ["array", "rows", "json", "new_file"])
def test_a_name_that_leaves_the_folder_is_refused(run, name, kind):
    writer = StageWriter(run, "clusters")
    before = sorted(run.path.parent.rglob("*"))
    arguments = {"array": (np.ones(1),), "rows": ((1,), "uint8", 1), "json": (1,), "new_file": ()}[kind]
    with pytest.raises(ValueError, match="inside"):
        getattr(writer, kind)([name] if kind == "rows" else name, *arguments)
    assert sorted(run.path.parent.rglob("*")) == before


def test_a_name_is_given_once(run):
    writer = StageWriter(run, "clusters")
    writer.array("a", np.ones(1))
    writer.rows(["b"], (1,), "uint8", 1)
    for name in "ab":
        with pytest.raises(ValueError, match="new name"):
            writer.array(name, np.ones(1))


def test_an_array_of_objects_is_refused(run):
    writer = StageWriter(run, "clusters")
    with pytest.raises(ValueError):
        writer.array("a", np.array([{}], dtype=object))


def test_nothing_stands_under_the_final_name_before_finish(run):
    writer = StageWriter(run, "clusters")
    writer.array("centroids", np.ones(3))
    writer.rows(["assignments"], (4,), "int32", 1)
    writer.json("summary", {})
    assert not run.stage_path("clusters").exists()
    assert run.manifest("clusters") is None
    writer.finish({})
    assert run.manifest("clusters") is not None
    assert [path.name for path in run.path.iterdir()] == [run.stage_path("clusters").name]


def test_a_folder_is_whole_when_it_takes_the_stages_name(run, monkeypatch):
    rename, seen = os.rename, []

    def watch(source, target):
        if os.fspath(target) == os.fspath(run.stage_path("clusters")):
            seen.append(sorted(path.name for path in Path(source).iterdir()))
        rename(source, target)

    monkeypatch.setattr(os, "rename", watch)
    finished(run, "clusters", result=np.zeros(2))
    finished(run, "clusters", result=np.ones(2))
    assert seen == [["manifest.json", "result.npy"]] * 2


def test_an_old_folder_is_replaced_whole(run):
    finished(run, "clusters", old=np.zeros(2), both=np.zeros(2))
    finished(run, "clusters", both=np.ones(2))
    folder = run.stage_path("clusters")
    assert sorted(path.name for path in folder.iterdir()) == ["both.npy", "manifest.json"]
    assert run.array("clusters", "both").sum() == 2


def test_a_writer_that_was_interrupted_leaves_the_old_folder_and_no_trace_in_the_next(run):
    finished(run, "clusters", result=np.zeros(2))
    half = StageWriter(run, "clusters")
    half.array("left_over", np.ones(2))
    assert run.array("clusters", "result").sum() == 0
    finished(run, "clusters", result=np.ones(2))
    assert sorted(p.name for p in run.stage_path("clusters").iterdir()) == ["manifest.json", "result.npy"]


def test_a_crash_between_the_two_renames_leaves_no_finished_stage_and_is_mended_by_the_next(run, monkeypatch):
    finished(run, "clusters", result=np.zeros(2))
    rename, calls = os.rename, []

    def crash_second(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", crash_second)
    with pytest.raises(KeyboardInterrupt):
        finished(run, "clusters", result=np.ones(2))
    monkeypatch.setattr(os, "rename", rename)
    assert run.manifest("clusters") is None
    finished(run, "clusters", result=np.full(2, 2.0))
    finished(run, "clusters", result=np.full(2, 3.0))
    assert run.array("clusters", "result").tolist() == [3.0, 3.0]
    assert [path.name for path in run.path.iterdir()] == [run.stage_path("clusters").name]


def test_json_is_whole_or_absent(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises((TypeError, ValueError)):
        write_json(tmp_path / "a.json", {"x": object()})
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"x": float("inf")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_stage_taken_over_is_a_whole_copy_that_survives_its_source(tmp_path):
    source, run = RunFolder(tmp_path / "source"), RunFolder(tmp_path / "run")
    finished(source, "transfer", **{"loss": np.arange(3.0), "snapshots/1/fc1_bias": np.ones(2)})
    finished(run, "transfer", old=np.zeros(1))
    link_stage(source, run, "transfer")
    finished(source, "transfer", loss=np.zeros(3))
    assert run.array("transfer", "loss").tolist() == [0, 1, 2]
    assert run.array("transfer", "snapshots/1/fc1_bias").tolist() == [1, 1]
    assert "old" not in run.require_manifest("transfer")["outputs"]


def test_a_stage_is_copied_where_the_disk_has_no_hard_links(tmp_path, monkeypatch):
    source, run = RunFolder(tmp_path / "source"), RunFolder(tmp_path / "run")
    finished(source, "clusters", result=np.arange(4))

    def refuse(*_):
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    link_stage(source, run, "clusters")
    first, second = (r.stage_path("clusters") / "result.npy" for r in (source, run))
    assert first.stat().st_ino != second.stat().st_ino
    assert run.array("clusters", "result").tolist() == [0, 1, 2, 3]


def test_replacing_a_folder_removes_what_an_earlier_crash_left(tmp_path):
    for name in ("new", "final", ".final.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    replace_folder(tmp_path / "new", tmp_path / "final")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["final", "final/new"]
