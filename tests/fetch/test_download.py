"""A file is fetched whole, from wherever it can be had, or not at all."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiment.errors import UserError
from fetch.download import Patience, download

ROOT = Path(__file__).resolve().parents[2]
CONTENT = random.Random(1).randbytes(300_000)
SIZE = len(CONTENT)
DIGESTS = {"sha256": hashlib.sha256(CONTENT).hexdigest(), "md5": hashlib.md5(CONTENT).hexdigest()}
QUICK = Patience(timeout=1.0, tries=3, pause=0.01)
DEAD = "http://127.0.0.1:9/file.tar"  # the discard port, where nothing listens


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "file.tar"


def get(target: Path, *sources: str) -> None:
    download(sources, target, SIZE, DIGESTS, QUICK)


def part_of(target: Path) -> Path:
    return target.with_name("file.tar.part")


def assert_whole(target: Path) -> None:
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["file.tar"]


@pytest.mark.parametrize("behaviour", ["well", "unannounced", "elsewhere"])
def test_a_file_is_fetched_whole(serve, target, behaviour):
    get(target, serve(CONTENT, behaviour, "well").url)
    assert_whole(target)


def test_a_right_file_is_not_fetched_again(serve, target):
    target.write_bytes(CONTENT)
    server = serve(CONTENT)
    get(target, server.url)
    assert server.ranges == []


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"x", b""])
def test_another_file_under_that_name_is_refused_and_kept(serve, target, content):
    target.write_bytes(content)
    server = serve(CONTENT)
    with pytest.raises(UserError, match=r"file\.tar .*delete it or move it away"):
        get(target, server.url)
    assert target.read_bytes() == content and server.ranges == []


def test_a_part_is_gone_on_from(serve, target):
    part_of(target).write_bytes(CONTENT[:1234])
    server = serve(CONTENT)
    get(target, server.url)
    assert_whole(target)
    assert server.ranges == ["bytes=1234-"]


def test_a_complete_part_needs_no_network(target):
    part_of(target).write_bytes(CONTENT)
    get(target, DEAD)
    assert_whole(target)


def test_a_server_that_ignores_range_restarts(serve, target):
    part_of(target).write_bytes(CONTENT[:1234])
    server = serve(CONTENT, "ignores range")
    get(target, server.url)
    assert_whole(target)
    assert len(server.ranges) == 1


@pytest.mark.parametrize("fault", ["drops", "stalls"])
def test_a_connection_that_breaks_is_gone_on_from_where_it_stopped(serve, target, fault):
    server = serve(CONTENT, fault, fault, "well")
    get(target, server.url)
    assert_whole(target)
    third = SIZE // 3
    assert server.ranges == [None, f"bytes={third}-", f"bytes={third + (SIZE - third) // 3}-"]


def test_tries_that_bring_something_are_not_counted(serve, target):
    server = serve(CONTENT, *["drops"] * (3 * QUICK.tries), "well")
    get(target, server.url)
    assert_whole(target)


def test_a_server_that_ignores_range_and_always_breaks_off_is_given_up(serve, target):
    class IgnoringAndDropping(type(serve(CONTENT))):
        def answer(self, request):
            del request.headers["Range"]
            super().answer(request)

    server = IgnoringAndDropping(CONTENT, "drops")
    try:
        with pytest.raises(UserError, match="bytes to come"):
            get(target, server.url)
        assert len(server.ranges) == 1 + QUICK.tries
    finally:
        server.close()


@pytest.mark.parametrize("left", [b"x" * 1234, b"x" * SIZE, CONTENT + b"x"], ids=["wrong start", "wrong", "too long"])
def test_a_wrong_part_is_thrown_away_and_begun_anew(serve, target, left):
    part_of(target).write_bytes(left)
    get(target, serve(CONTENT).url)
    assert_whole(target)


def test_a_source_with_wrong_bytes_is_left_for_the_next_which_starts_anew(serve, target):
    wrong, right = serve(CONTENT, "wrong"), serve(CONTENT)
    get(target, wrong.url, right.url)
    assert_whole(target)
    assert wrong.ranges == [None] and right.ranges == [None]


def test_a_part_of_one_source_is_gone_on_from_by_the_next(serve, target):
    first, second = serve(CONTENT, "drops", 404), serve(CONTENT)
    get(target, first.url, second.url)
    assert_whole(target)
    assert second.ranges == [f"bytes={SIZE // 3}-"]


@pytest.mark.parametrize(
    ("behaviour", "requests"),
    [(404, 1), (403, 1), (500, 3), (503, 3), (429, 3), ("longer", 1), ("shifted", 1), ("ftp", 3)],
)
def test_a_source_that_does_not_give_the_file_is_asked_no_more_often_than_makes_sense(
    serve, target, behaviour, requests
):
    part_of(target).write_bytes(CONTENT[:10])  # a whole file offered where only a part of it is
    server = serve(CONTENT, behaviour)
    with pytest.raises(UserError):
        get(target, server.url)
    assert len(server.ranges) == requests
    assert part_of(target).read_bytes() == CONTENT[:10]  # kept for the next source


def test_the_error_is_one_line_with_the_file_and_what_each_source_said(serve, target):
    missing, broken, wrong = serve(CONTENT, 404), serve(CONTENT, 500), serve(CONTENT, "wrong")
    with pytest.raises(UserError) as raised:
        get(target, missing.url, broken.url, wrong.url, DEAD)
    text = str(raised.value)
    for said in (str(target), "HTTP 404", "HTTP 500", "sha256", "refused", "run again", str(missing.http.server_port)):
        assert said in text
    assert not target.exists() and "\n" not in text


def test_one_wrong_digest_of_two_is_enough(serve, target):
    with pytest.raises(UserError, match="has md5"):
        download([serve(CONTENT).url], target, SIZE, {**DIGESTS, "md5": "0" * 32}, QUICK)
    assert list(target.parent.iterdir()) == []


def test_a_file_that_there_is_no_room_for_is_not_begun(serve, target):
    server = serve(CONTENT)
    with pytest.raises(UserError, match="make room"):
        download([server.url], target, 10**18, DIGESTS, QUICK)
    assert server.ranges == []


def test_what_has_come_outlives_a_killed_process(serve, target):
    server = serve(CONTENT, "stalls", "well")
    code = f"from fetch.download import download; from pathlib import Path; download([{server.url!r}], " + (
        f"Path({str(target)!r}), {SIZE}, {DIGESTS!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not (part_of(target).exists() and part_of(target).stat().st_size == SIZE // 3):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    get(target, server.url)
    assert_whole(target)
    assert server.ranges == [None, f"bytes={SIZE // 3}-"]
