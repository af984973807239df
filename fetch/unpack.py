"""Unpack tar, tar.gz and zip archives that are not trusted: plain files and folders only, all or nothing.

tarfile's own filters would do part of it, but Debian 12's Python 3.11.2 has none.
"""

import contextlib
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from experiment.errors import UserError
from fetch.folder import scratch

CHUNK_BYTES = 1 << 20
FILE, FOLDER = "a file", "a folder"
END_MARK = bytes(tarfile.BLOCKSIZE)  # the first of two such blocks
# Damaged offsets and names end in OSError and ValueError.
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    ValueError,
)


class Member(NamedTuple):
    """What an archive says of one entry, and how its bytes are read."""

    name: str
    kind: str  # FILE, FOLDER, or what else it is
    size: int  # bytes
    content: Callable[[], Iterator[bytes]]


def unpack(archives: Sequence[Path], target: Path, limit: int) -> None:
    """Unpack archives together into the new folder `target`; there is nothing under that name until all is done.

    Files get the user's usual permissions and the present time, whatever the archive says.

    Parameters
    ----------
    archives : tar, tar.gz or zip files.
    target : the folder to make; its parent must be there.
    limit : bytes that all files may have together.

    Raises `UserError`, which names archive and member, for a member that would leave the folder, is neither file
    nor folder, comes twice or lies below a file, for more than `limit` bytes, and for what is no whole archive.
    """
    if target.exists():
        raise UserError(f"{target} is already there: move it away, and run again")
    with scratch(target.with_name(f".{target.name}.partial")) as folder:
        files: set[PurePosixPath] = set()
        left = limit
        for archive in archives:
            for member in members(archive):
                path = safe_path(archive, member, files)
                if member.kind == FOLDER:
                    (folder / path).mkdir(parents=True, exist_ok=True)
                    continue
                if member.size > left:
                    raise refused(archive, member, f"would make more than {limit:,} bytes in all")
                write(archive, member, folder / path)
                files.add(path)
                left -= member.size
        os.rename(folder, target)


def safe_path(archive: Path, member: Member, files: set[PurePosixPath]) -> PurePosixPath:
    """Where below the target a member belongs; `files` is what has been unpacked before."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or any(character in member.name for character in "\\\0"):
        raise refused(archive, member, "would leave the folder")
    if member.kind not in (FILE, FOLDER):
        raise refused(archive, member, f"is {member.kind}, not a file or a folder")
    if not files.isdisjoint({path, *path.parents}):
        raise refused(archive, member, "stands where an earlier file does")
    return path


def write(archive: Path, member: Member, path: Path) -> None:
    """Write one file, which must be new and have just the bytes that the archive says."""
    if path.exists():  # a folder, since files are known
        raise refused(archive, member, "stands where an earlier folder does")
    path.parent.mkdir(parents=True, exist_ok=True)
    missing = member.size
    with open(path, "xb") as file:
        for chunk in member.content():
            missing -= len(chunk)
            if missing < 0:
                break
            file.write(chunk)
    if missing:
        raise refused(archive, member, "has not the size that the archive says")


def members(archive: Path) -> Iterator[Member]:
    """An archive's members in its order; what it is, its first bytes say."""
    with damage_named(archive):
        with open(archive, "rb") as file:
            start = file.read(4)
        if start == b"PK\x03\x04":
            yield from zip_members(archive)
        else:
            yield from tar_members(archive, gzipped=start[:2] == b"\x1f\x8b")


def tar_members(archive: Path, gzipped: bool) -> Iterator[Member]:
    """The members of a tar. tarfile takes a damaged header for the end, so the zero block there is looked for."""
    with tarfile.open(archive, "r:gz" if gzipped else "r:") as tar:
        for info in tar:
            yield Member(
                info.name, tar_kind(info), info.size, partial(content, archive, partial(tar.extractfile, info))
            )
        stream = tar.fileobj
        assert stream is not None
        stream.seek(tar.offset)
        end = stream.read(CHUNK_BYTES)  # a few kilobytes are usual; gzip's checksum is behind them
        if end[: len(END_MARK)] != END_MARK:
            raise tarfile.ReadError("it breaks off or is damaged before its end")
        if len(end) == CHUNK_BYTES:
            raise tarfile.ReadError("it goes on after its end")


def tar_kind(info: tarfile.TarInfo) -> str:
    """What a tar's member is. Not by isfile(), which takes sparse files for plain ones."""
    if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not info.issparse() and info.size >= 0:
        return FILE
    if info.isdir():
        return FOLDER
    return "a link" if info.issym() or info.islnk() else "a device or the like"


def zip_members(archive: Path) -> Iterator[Member]:
    """The members of a zip, by the names as they are written in it."""
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            yield Member(
                info.orig_filename, zip_kind(info), info.file_size, partial(content, archive, partial(file.open, info))
            )


def zip_kind(info: zipfile.ZipInfo) -> str:
    """What a zip's member is; the file type in the upper half of its attributes is 0 where Unix did not make it."""
    mode = info.external_attr >> 16
    if info.flag_bits & 1:
        return "encrypted"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a link" if stat.S_ISLNK(mode) else "a device or the like"
    return FOLDER if info.is_dir() else FILE


def refused(archive: Path, member: Member, fault: str) -> UserError:
    """The error for a member that is not unpacked."""
    return UserError(
        f"{archive}: its member {member.name!r} {fault}: delete the archive and get it from another source"
    )


def content(archive: Path, opened: Callable[[], IO[bytes] | None]) -> Iterator[bytes]:
    """A member's bytes, in chunks."""
    with damage_named(archive):
        source = opened()
        assert source is not None  # tarfile's answer for what is not a file
        with source:
            while chunk := source.read(CHUNK_BYTES):
                yield chunk


@contextlib.contextmanager
def damage_named(archive: Path) -> Iterator[None]:
    """Turn what the archive libraries raise for a damaged archive into a `UserError` that names it.

    Around the bodies of generators only: there it does not see what goes wrong where their values are used.
    """
    try:
        yield
    except DAMAGE as error:
        raise UserError(f"{archive} is no whole tar or zip archive ({error}): delete it and get it again") from None
