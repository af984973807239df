"""Progress: a plain line now and then where there is no terminal, a bar where there is one; exact arithmetic."""

import io
import sys
from types import SimpleNamespace

import pytest

from experiment import progress as module
from experiment.errors import UserError, run_command
from experiment.progress import progress, progress_line


class Clock:
    """A clock that moves on by `seconds` whenever an item is taken."""

    def __init__(self, seconds: float) -> None:
        self.now, self.seconds = 100.0, seconds

    def items(self, count: int):
        for item in range(count):
            self.now += self.seconds
            yield item


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock(4.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.mark.parametrize(
    ("done", "total", "seconds", "line"),
    [
        (8, 24, 4.0, "x: 8/24 images, 2.0 images/s, 0:08 left"),
        (1, 601, 1.0, "x: 1/601 images, 1.0 images/s, 10:00 left"),
        (30, 60, 60.0, "x: 30/60 images, 0.5 images/s, 1:00 left"),
        (10, 10, 5.0, "x: 10/10 images, 2.0 images/s, 0:00 left"),
        (100, 31561, 52.0, "x: 100/31561 images, 1.9 images/s, 272:39 left"),
        (0, 10, 3.0, "x: 0/10 images, 0.0 images/s, unknown time left"),
        (5, 10, 0.0, "x: 5/10 images, 0.0 images/s, unknown time left"),
    ],
)
def test_a_line_says_how_far_how_fast_and_how_long_yet(done, total, seconds, line):
    assert progress_line("x", "images", done, total, seconds) == line


def test_off_a_terminal_there_are_plain_lines_ten_seconds_apart(clock, capsys):
    assert list(progress(clock.items(8), 64, "images", "features", step=8)) == list(range(8))
    out, err = capsys.readouterr()
    assert out == ""
    # Items take 4 s: lines after 12, 24 s; the one at 36 s would come after the end at 32 s.
    assert err.splitlines() == [
        "features: 24/64 images, 2.0 images/s, 0:20 left",
        "features: 48/64 images, 2.0 images/s, 0:08 left",
    ]


def test_a_last_batch_that_is_short_does_not_overshoot_and_the_end_is_no_line(clock, capsys):
    clock.seconds = 20.0
    list(progress(clock.items(3), 20, "images", "x", step=8))
    assert capsys.readouterr().err.splitlines() == [
        "x: 8/20 images, 0.4 images/s, 0:30 left",
        "x: 16/20 images, 0.4 images/s, 0:10 left",
    ]


def test_short_work_says_nothing(clock, capsys):
    clock.seconds = 0.1
    list(progress(clock.items(50), 50, "iterations", "x"))
    assert capsys.readouterr().err == ""


def test_items_are_taken_one_at_a_time(clock):
    taken = []
    for item in progress((taken.append(i) or i for i in range(5)), 5, "images", "x"):
        assert taken == list(range(item + 1))


def test_on_a_terminal_there_is_a_bar_that_ends_full(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    counts = []

    class Bar(module.tqdm):
        def update(self, n=1):
            result = super().update(n)
            counts.append(self.n)
            return result

    monkeypatch.setattr(module, "tqdm", Bar)
    assert list(progress(range(3), 20, "images", "features", step=8)) == [0, 1, 2]
    assert counts == [8, 16, 20]
    assert "features" in terminal.getvalue() and "images" in terminal.getvalue()


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (UserError("a.jpg is broken: delete it"), 2, "error: a.jpg is broken: delete it\n"),
        (UserError("a.jpg:\nline 2\r\nline 3"), 2, "error: a.jpg: line 2 line 3\n"),
        (KeyboardInterrupt(), 130, "interrupted: what is finished is kept; the same command goes on where it was\n"),
    ],
)
def test_what_the_user_can_mend_is_one_line(capsys, raised, code, said):
    def main():
        raise raised

    with pytest.raises(SystemExit) as end:
        run_command(main)
    assert end.value.code == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("status", [0, 1])
def test_the_exit_status_is_mains(status):
    with pytest.raises(SystemExit) as end:
        run_command(lambda: status)
    assert end.value.code == status


def test_a_bug_keeps_its_traceback():
    def main():
        raise KeyError("bug")

    with pytest.raises(KeyError):
        run_command(main)
