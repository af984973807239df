"""Get a published file from the first of several sources that gives it: resumed where it stopped, and checked."""

import contextlib
import hashlib
import http.client
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import urlsplit

from experiment.errors import UserError
from experiment.progress import progress

CHUNK_BYTES = 1 << 18
MEGABYTE = 10**6
WORTH_ASKING_AGAIN = {408, 429}  # of the 4xx statuses: the request took too long, or there were too many


class Patience(NamedTuple):
    """Seconds that a silent source is waited for, tries in a row that may bring nothing, seconds between them."""

    timeout: float = 30.0
    tries: int = 3
    pause: float = 2.0


PATIENCE = Patience()


class NoSource(UserError):
    """None of the sources gave the file."""


class SourceFailed(Exception):
    """A source did not give what it was asked for; `lasting` where asking it once more is in vain."""

    def __init__(self, said: object, lasting: bool = False) -> None:
        super().__init__(str(said))
        self.lasting = lasting


def download(
    sources: Sequence[str], target: Path, size: int, digests: Mapping[str, str], patience: Patience = PATIENCE
) -> None:
    """Make `target` the published file; one that is there and right is left alone.

    What has come is kept in TARGET.part, also when the process is killed, and any source goes on from there. The
    file gets its name only once its size and digests are right.

    Parameters
    ----------
    sources : http or https addresses of the same file, in the order in which they are asked.
    size : bytes of the file.
    digests : hexadecimal digests by hashlib's name of the algorithm: {"sha256": ..., "md5": ...}; all must agree.
    patience : how long and how often a source is asked.

    Raises `UserError` where `target` is another file and where there is no room, and `NoSource` where no source gave
    the file; it then says what each of them said.
    """
    if target.exists():
        fault = difference(target, size, digests)
        if fault:
            raise UserError(f"{target} {fault}: delete it or move it away, and run again")
        return
    part = target.with_name(f"{target.name}.part")
    missing, free = size - length(part), shutil.disk_usage(target.parent).free
    if free < missing:
        raise UserError(f"{target.parent} has {free:,} bytes free and {target.name} needs {missing:,}: make room")
    said = []
    for source in sources:
        host = urlsplit(source).netloc
        print(f"{target.name}: {size / MEGABYTE:.0f} MB, asking {host}", file=sys.stderr)
        try:
            fetch(source, part, size, digests, patience)
        except SourceFailed as failure:
            said.append(f"{host}: {failure}")
            print(f"{target.name}: {said[-1]}", file=sys.stderr)
            continue
        os.replace(part, target)
        return
    raise NoSource(
        f"{target} could not be downloaded ({'; '.join(said)}): run again to go on from what has come, "
        "or get the file otherwise and put it there"
    )


def by_hand(sources: Sequence[str], target: Path, size: int, digests: Mapping[str, str]) -> list[str]:
    """What the user can do where no source gave the file: the lines that say where it is and where it goes."""
    told = ", ".join(f"{name} {digest}" for name, digest in digests.items())
    return [
        f"{target.name} ({size:,} bytes, {told}) may be had by hand, with a browser or on another machine:",
        *(f"  {source}" for source in sources),
        f"then put it into {target.parent} and run this again.",
    ]


def fetch(source: str, part: Path, size: int, digests: Mapping[str, str], patience: Patience) -> None:
    """Complete `part` from one source and check it.

    Wrong bytes may be an earlier source's, so they are thrown away and all is fetched anew, once.
    """
    while True:
        if length(part) > size:
            part.unlink()
        anew = length(part) == 0
        complete(source, part, size, patience)
        fault = difference(part, size, digests)
        if fault is None:
            return
        part.unlink()
        if anew:
            raise SourceFailed(f"its file {fault}", lasting=True)
        print(f"{part.name} {fault}: thrown away, and begun anew", file=sys.stderr)


def complete(source: str, part: Path, size: int, patience: Patience) -> None:
    """Append to `part` what is missing. Only tries that bring it no further than before are counted."""
    in_vain, furthest = 0, length(part)
    while length(part) < size:
        try:
            receive(source, part, size, patience.timeout)
        except SourceFailed as failure:
            in_vain = 0 if length(part) > furthest else in_vain + 1
            furthest = max(furthest, length(part))
            if failure.lasting or in_vain >= patience.tries:
                raise
            print(f"{part.name}: {failure}; trying again", file=sys.stderr)
            time.sleep(patience.pause)


def receive(source: str, part: Path, size: int, timeout: float) -> None:
    """Ask once for what is missing of `part`, and write what comes as it comes."""
    have = length(part)
    headers = {"User-Agent": "udft-audit", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with ask(urllib.request.Request(source, headers=headers), timeout) as answer:
        start = first_byte(answer, have, size)
        with open(part, "ab") as file:
            file.truncate(start)
            missing = size - start
            amounts = written(answer, file, missing)
            for _ in progress(amounts, total=-(-missing // MEGABYTE), unit="MB", label=part.stem):
                pass
            file.flush()
            os.fsync(file.fileno())


@contextlib.contextmanager
def ask(request: urllib.request.Request, timeout: float) -> Iterator[http.client.HTTPResponse]:
    """The source's answer, whose status is a success. Redirections are followed, but to http and https alone."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    try:
        answer = opener.open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        lasting = 400 <= error.code < 500 and error.code not in WORTH_ASKING_AGAIN
        raise SourceFailed(f"HTTP {error.code} {error.reason}", lasting) from None
    except (OSError, http.client.HTTPException) as error:
        raise SourceFailed(getattr(error, "reason", None) or error) from None
    with answer:
        yield answer


def first_byte(answer: http.client.HTTPResponse, have: int, size: int) -> int:
    """Where in the file the answer begins: at `have`, or at 0 from a source that ignores Range.

    Raises `SourceFailed` for another file, before anything that has come is given up for it.
    """
    if answer.status == 206:
        offered = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", "").strip())
        if offered is None or int(offered[1]) != have:
            raise SourceFailed("it sends another part than was asked for", lasting=True)
        start, total = have, offered[2]
    else:
        start, total = 0, answer.headers.get("Content-Length", "*")
    if total not in ("*", str(size)):
        raise SourceFailed(f"its file is {total} bytes long, not {size}", lasting=True)
    return start


def written(answer: http.client.HTTPResponse, file: IO[bytes], missing: int) -> Iterator[None]:
    """Write `missing` bytes of the answer to `file`; yields after each megabyte, and after the rest."""
    waiting = 0
    while missing:
        try:
            chunk = answer.read1(min(CHUNK_BYTES, missing))  # what is there: what came before a silence is kept
        except (OSError, http.client.HTTPException) as error:
            raise SourceFailed(error) from None
        if not chunk:
            raise SourceFailed(f"it stopped with {missing:,} bytes to come")
        file.write(chunk)
        missing -= len(chunk)
        waiting += len(chunk)
        while waiting >= MEGABYTE:
            waiting -= MEGABYTE
            yield
    if waiting:
        yield


def length(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def difference(path: Path, size: int, digests: Mapping[str, str]) -> str | None:
    """What a file has other than it should, in words, or None."""
    if length(path) != size:
        return f"is {length(path):,} bytes long, not {size:,}"
    sums = {name: hashlib.new(name, usedforsecurity=False) for name in digests}
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            for digest in sums.values():
                digest.update(chunk)
    for name, expected in digests.items():
        if sums[name].hexdigest() != expected:
            return f"has {name} {sums[name].hexdigest()}, not {expected}"
    return None
