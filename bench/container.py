"""A peer that works inside the container with Caffe, once for each line that it is sent."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.measure import Bench
from experiment.errors import UserError

PROJECT = Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def worker(bench: Bench, folder: Path, *command: str) -> Iterator[Callable[[], str]]:
    """Give what has the worker do its work once, and returns its answer.

    command : a script of `bench/` and its arguments. It writes "ready <version>" first, and then "done <answer>" for
    each line that it reads. folder : what it may write to. Raises `UserError` where no container runs.
    """
    folder.chmod(0o777)  # under sudo the container runs as the user who called sudo
    words = [str(PROJECT / "docker" / "run"), "--write", str(folder), "--", "python3", *command]
    process = subprocess.Popen(words, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    word, _, version = process.stdout.readline().strip().partition(" ")
    if word != "ready":
        process.stdin.close()
        process.wait()
        raise UserError("no container with Caffe runs here (make container)")
    bench.versions["python3-caffe"] = version

    def work() -> str:
        assert process.stdin is not None and process.stdout is not None
        print("go", file=process.stdin, flush=True)
        word, _, answer = process.stdout.readline().strip().partition(" ")
        if word != "done":
            raise UserError(f"{command[0]} stopped: what it said stands above")
        return answer

    try:
        yield work
    finally:
        process.stdin.close()
        process.wait()
