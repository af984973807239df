"""What a stage that was stopped takes over from its earlier attempt, and what it does not trust."""

import json

import numpy as np
import pytest

from experiment.artifacts import RunFolder
from experiment.stage_writer import CHECKPOINT, JOURNAL, StageWriter

SHAPE, STEP = (10, 3), 4  # slices 0-4, 4-8, 8-10


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return RunFolder(tmp_path)


def attempt(run: RunFolder, key: str = "key") -> StageWriter:
    return StageWriter(run, "features", key)


def fill(writer: StageWriter, slices: int, names=("a",), value: float = 1.0) -> list[int]:
    """Fill that many slices of what is left, as a stage that is then stopped; returns where each began."""
    todo = writer.rows(names, SHAPE, "float32", STEP)
    started = []
    for cut in todo:
        if len(started) == slices:  # asked for, not filled
            break
        for array in todo.arrays:
            array[cut] = value + np.arange(cut.start, cut.stop)[:, None]
        started.append(cut.start)
    return started


def finish(writer: StageWriter) -> None:
    writer.finish({"stage": "features"})


def expected(value: float = 1.0) -> np.ndarray:
    return np.repeat(value + np.arange(10.0)[:, None], 3, axis=1).astype(np.float32)


def test_rows_that_were_filled_are_not_asked_for_again(run):
    assert fill(attempt(run), 2) == [0, 4]
    again = attempt(run)
    assert fill(again, 9) == [8]
    finish(again)
    assert np.array_equal(run.array("features", "a"), expected())
    assert run.require_manifest("features")["attempts"] == 2


def test_a_slice_that_was_asked_for_and_not_filled_is_asked_for_again(run):
    todo = attempt(run).rows(["a"], SHAPE, "float32", STEP)
    cut = next(iter(todo))
    todo.arrays[0][cut] = 5  # stopped here
    assert fill(attempt(run), 9) == [0, 4, 8]


def test_what_is_left_is_counted_in_rows(run):
    fill(attempt(run), 1)
    assert attempt(run).rows(["a"], SHAPE, "float32", STEP).count == 6


def test_rows_that_changed_on_the_disk_are_filled_again(run):
    fill(attempt(run), 3)
    path = run.path / ".03-features.partial" / "a.npy"
    np.load(path, mmap_mode="r+")[5] += 1
    assert fill(attempt(run), 9) == [4]


def test_arrays_that_are_filled_together_are_taken_over_together(run):
    fill(attempt(run), 2, names=("a", "b"))
    path = run.path / ".03-features.partial" / "b.npy"
    np.load(path, mmap_mode="r+")[0] += 1
    assert fill(attempt(run), 9, names=("a", "b")) == [0, 8]
    path.unlink()
    assert fill(attempt(run), 9, names=("a", "b")) == [0, 4, 8]


@pytest.mark.parametrize("other", ["another key", ""])
def test_nothing_is_taken_over_from_another_key(run, other):
    writer = attempt(run)
    fill(writer, 2)
    writer.array("whole", np.ones(3))
    writer.checkpoint({"x": np.ones(2)})
    again = attempt(run, other)
    assert not again.has("whole") and again.last_checkpoint() is None and again.attempts == 1
    assert fill(again, 9) == [0, 4, 8]


def test_without_a_key_nothing_is_taken_over(run):
    fill(attempt(run, ""), 2)
    assert fill(attempt(run, ""), 9) == [0, 4, 8]


@pytest.mark.parametrize("shape", [(10, 4), (11, 3)])
def test_an_array_of_another_shape_is_begun_anew(run, shape):
    fill(attempt(run), 3)
    assert len(attempt(run).rows(["a"], shape, "float32", STEP).left) == 3


def test_a_journal_whose_last_line_was_cut_off_is_read_up_to_it(run):
    fill(attempt(run), 2)
    journal = run.path / ".03-features.partial" / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-7])
    assert fill(attempt(run), 9) == [4, 8]


@pytest.mark.parametrize("content", [b"", b"\n", b"[1]\n", b'{"key":"ke', b"\xff\xfe\n"])
def test_a_journal_that_is_none_is_begun_anew(run, content):
    fill(attempt(run), 2)
    (run.path / ".03-features.partial" / JOURNAL).write_bytes(content)
    assert fill(attempt(run), 9) == [0, 4, 8]


def test_outputs_that_were_finished_are_taken_over_where_all_are_whole(run):
    writer = attempt(run)
    writer.array("x", np.arange(3))
    writer.json("y", {"z": 1})
    writer.new_file("f.bin").write_bytes(b"file")
    writer.add_file("f", "f.bin")
    again = attempt(run)
    assert not again.has("x", "more") and "x" not in again.outputs
    assert again.has("x", "y", "f")
    finish(again)
    assert run.array("features", "x").tolist() == [0, 1, 2] and run.json("features", "y") == {"z": 1}
    assert run.file("features", "f").read_bytes() == b"file"


@pytest.mark.parametrize("spoil", [lambda p: p.unlink(), lambda p: p.write_bytes(b"1"), lambda p: np.save(p, [9])])
def test_an_output_that_is_not_whole_any_more_is_not_taken_over(run, spoil):
    attempt(run).array("x", np.arange(3))
    spoil(run.path / ".03-features.partial" / "x.npy")
    again = attempt(run)
    assert not again.has("x")
    again.array("x", np.arange(4))
    finish(again)
    assert len(run.array("features", "x")) == 4


def test_what_is_remembered_is_the_last_that_was_said(run):
    writer = attempt(run)
    for value in (1, {"a": [2]}):
        writer.remember("row", value)
    assert attempt(run).remembered("row") == {"a": [2]} and attempt(run).remembered("other") is None


def test_a_checkpoint_is_kept_with_its_bits(run):
    writer = attempt(run)
    state = {"w": np.float32([1 / 3, -0.0, np.inf]), "bytes": np.frombuffer(b"\0\1", np.uint8)}
    writer.checkpoint({"w": np.zeros(1)})
    writer.checkpoint(state)
    found = attempt(run).last_checkpoint()
    assert found is not None and {k: v.tobytes() for k, v in found.items()} == {
        k: v.tobytes() for k, v in state.items()
    }


def test_a_checkpoint_that_is_damaged_is_none(run):
    attempt(run).checkpoint({"w": np.ones(100)})
    path = run.path / ".03-features.partial" / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert attempt(run).last_checkpoint() is None
    path.unlink()
    assert attempt(run).last_checkpoint() is None


def test_a_checkpoint_is_due_when_its_time_has_passed(run, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("experiment.stage_writer.time.monotonic", lambda: now[0])
    writer = attempt(run)
    now[0] += 59
    assert not writer.checkpoint_is_due()
    now[0] += 1
    assert writer.checkpoint_is_due()
    writer.checkpoint({"w": np.ones(1)})
    assert not writer.checkpoint_is_due()


def test_a_finished_stage_holds_neither_journal_nor_checkpoint(run):
    writer = attempt(run)
    writer.array("x", np.ones(2))
    writer.checkpoint({"w": np.ones(1)})
    finish(writer)
    folder = run.stage_path("features")
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "x.npy"]
    assert json.loads((folder / "manifest.json").read_text())["attempts"] == 1
