"""Archives are unpacked whole and inside their folder, or refused with nothing in place."""

import io
import random
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from experiment.errors import UserError
from fetch.unpack import unpack

LIMIT = 10**6
FILES = {"top.txt": b"top", "a/one.jpg": b"one" * 1000, "a/b/two.jpg": b"", "a/b/three.bin": bytes(range(256)) * 50}


def tar_of(path: Path, entries, mode: str = "w") -> Path:
    """A tar of (name, content) and of TarInfo."""
    with tarfile.open(path, mode) as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry, io.BytesIO(bytes(entry.size)))
            else:
                tar.addfile(of_type(entry[0], tarfile.REGTYPE, size=len(entry[1])), io.BytesIO(entry[1]))
    return path


def of_type(name: str, kind: bytes, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def zip_of(path: Path, entries) -> Path:
    """A zip of (name or ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def zip_info(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def place(tmp_path) -> Path:
    """An otherwise empty folder, whose target is `place / "out"`."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def assert_refused(place: Path, archive: Path, match: str, limit: int = LIMIT) -> None:
    with pytest.raises(UserError, match=match) as raised:
        unpack([archive], place / "out", limit)
    assert str(archive) in str(raised.value)
    assert list(place.iterdir()) == []
    assert sorted(path.name for path in place.parent.iterdir()) == sorted({"place", archive.name})


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_what_went_in_comes_out(tmp_path, place, kind):
    archive = tmp_path / "archive"  # its name says nothing
    if kind == "zip":
        zip_of(archive, [("a/", b""), *FILES.items()])
    else:
        tar_of(archive, [of_type("a", tarfile.DIRTYPE), *FILES.items()], "w:gz" if kind == "tar.gz" else "w")
    unpack([archive], place / "out", LIMIT)
    assert contents(place / "out") == FILES
    assert [path.name for path in place.iterdir()] == ["out"]


def test_two_archives_fill_one_folder(tmp_path, place):
    one = tar_of(tmp_path / "1.tar", [of_type("VOC/Lists", tarfile.DIRTYPE), ("VOC/Lists/a.txt", b"a")])
    two = tar_of(tmp_path / "2.tar", [of_type("VOC/Lists", tarfile.DIRTYPE), ("./VOC/Lists/b.txt", b"b")])
    unpack([one, two], place / "out", LIMIT)
    assert contents(place / "out") == {"VOC/Lists/a.txt": b"a", "VOC/Lists/b.txt": b"b"}


def test_two_archives_never_write_the_same_file(tmp_path, place):
    one, two = (tar_of(tmp_path / f"{n}.tar", [("a.txt", b"%d" % n)]) for n in (1, 2))
    with pytest.raises(UserError, match=r"2\.tar.*'a\.txt'.*earlier file"):
        unpack([one, two], place / "out", LIMIT)
    assert list(place.iterdir()) == []


def test_permissions_and_owners_are_the_users(tmp_path, place):
    info = of_type("run", tarfile.REGTYPE, size=1)
    info.mode, info.uid = 0o6777, 12345
    unpack([tar_of(tmp_path / "a.tar", [info])], place / "out", LIMIT)
    found = (place / "out" / "run").stat()
    assert found.st_mode & (stat.S_ISUID | stat.S_ISGID | 0o111) == 0
    assert found.st_uid == place.stat().st_uid


HOSTILE = {
    "climbs": [("good.txt", b"good"), ("../evil.txt", b"evil")],
    "climbs back in": [("a/../../place/evil.txt", b"evil")],
    "absolute": [("/tmp/evil.txt", b"evil")],
    "backslashes": [("..\\evil.txt", b"evil")],
    "duplicate": [("a.txt", b"1"), ("b.txt", b"2"), ("a.txt", b"3")],
    "duplicate in other words": [("a/b.txt", b"1"), ("./a//b.txt", b"2")],
    "file below a file": [("a", b"1"), ("a/b", b"2")],
    "file on a folder": [("a/b", b"1"), ("a", b"2")],
    "file without a name": [(".", b"1")],
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("make", [tar_of, zip_of])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_would_write_elsewhere_or_twice_is_refused(tmp_path, place, make, name):
    assert_refused(place, make(tmp_path / "archive", HOSTILE[name]), "its member '.*(leave|earlier)")


SPECIAL = {
    "symbolic link": [of_type("link", tarfile.SYMTYPE, "..")],
    "file through a symbolic link": [of_type("link", tarfile.SYMTYPE, ".."), ("link/evil.txt", b"evil")],
    "absolute symbolic link": [of_type("link", tarfile.SYMTYPE, "/etc/passwd")],
    "hard link": [("a.txt", b"a"), of_type("b.txt", tarfile.LNKTYPE, "a.txt")],
    "hard link outside": [of_type("b.txt", tarfile.LNKTYPE, "/etc/passwd")],
    "character device": [of_type("null", tarfile.CHRTYPE)],
    "block device": [of_type("disk", tarfile.BLKTYPE)],
    "pipe": [of_type("pipe", tarfile.FIFOTYPE)],
    "contiguous file": [of_type("contiguous", tarfile.CONTTYPE)],
}


@pytest.mark.parametrize("name", SPECIAL)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, place, name):
    assert_refused(place, tar_of(tmp_path / "archive", SPECIAL[name]), "is a (link|device or the like), not a file")


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_in_a_zip_are_refused(tmp_path, place, mode):
    entries = [(zip_info("link", mode | 0o777), b".."), ("link/evil.txt", b"evil")]
    assert_refused(place, zip_of(tmp_path / "archive", entries), "is a (link|device or the like), not a file")


def test_an_encrypted_member_is_refused(tmp_path, place):
    data = bytearray(zip_of(tmp_path / "archive", [("a.txt", b"a")]).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    (tmp_path / "archive").write_bytes(data)
    assert_refused(place, tmp_path / "archive", "is encrypted")


def test_a_sparse_file_is_refused(tmp_path, place):
    info = of_type("sparse", tarfile.GNUTYPE_SPARSE, size=512)
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"00000000000\x0000000001000\x00"  # one piece: at 0, 512 bytes
    header[483:495] = b"77777777777\x00"  # of what is said to be 8 GiB
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\x00 " % sum(header)
    (tmp_path / "archive").write_bytes(bytes(header) + bytes(512 + 1024))
    assert_refused(place, tmp_path / "archive", "is a device or the like")


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_more_bytes_than_the_limit_are_refused(tmp_path, place, make):
    archive = make(tmp_path / "archive", [("a", bytes(600)), ("b", bytes(400)), ("c", b"x")])
    assert_refused(place, archive, "'c' would make more than 1,000 bytes", limit=1000)
    unpack([archive], place / "out", 1001)


def test_the_limit_holds_for_all_archives_together(tmp_path, place):
    archives = [tar_of(tmp_path / f"{n}.tar", [(str(n), bytes(600))]) for n in (1, 2)]
    with pytest.raises(UserError, match=r"2\.tar.*more than 1,000 bytes"):
        unpack(archives, place / "out", 1000)
    assert list(place.iterdir()) == []


def test_a_huge_declared_size_is_refused_without_reading(tmp_path, place):
    header = of_type("huge", tarfile.REGTYPE, size=1 << 60).tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "archive").write_bytes(header + bytes(2048))
    assert_refused(place, tmp_path / "archive", "'huge' would make more than")


def test_a_zip_member_that_unpacks_to_more_than_it_says_is_refused(tmp_path, place):
    data = bytearray(zip_of(tmp_path / "archive", [("bomb", bytes(10**6))]).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(signature) + offset
        data[at : at + 4] = (10).to_bytes(4, "little")
    (tmp_path / "archive").write_bytes(data)
    assert_refused(place, tmp_path / "archive", "bomb|no whole", limit=1000)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b"not an archive" * 1000,
        b"<html>404</html>",
        b"PK\x03\x04" + bytes(99),
        b"\x1f\x8b" + bytes(99),
    ],
)
def test_what_is_no_archive_is_refused(tmp_path, place, content):
    (tmp_path / "archive").write_bytes(content)
    assert_refused(place, tmp_path / "archive", "no whole tar or zip archive")


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_an_archive_cut_short_anywhere_is_refused(tmp_path, place, kind):
    """Also between two members, where tarfile itself sees nothing wrong."""
    archive = tmp_path / "archive"
    entries = [(f"{n}.bin", random.Random(n).randbytes(700)) for n in range(4)]
    zip_of(archive, entries) if kind == "zip" else tar_of(archive, entries, "w:gz" if kind == "tar.gz" else "w")
    data = archive.read_bytes()
    last = len(data) if kind != "tar" else 4 * 3 * 512 + 511  # less than one block of the end's mark
    for size in [*range(0, last, 97), *(range(0, last, 512) if kind == "tar" else []), last - 1]:
        archive.write_bytes(data[:size])
        assert_refused(place, archive, "no whole tar or zip archive|has not the size")


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_a_damaged_archive_is_refused_or_unpacked_but_never_a_traceback(tmp_path, place, kind):
    archive = tmp_path / "archive"
    entries = [(f"folder/{n}.bin", random.Random(n).randbytes(90)) for n in range(3)]
    zip_of(archive, entries) if kind == "zip" else tar_of(archive, entries, "w:gz" if kind == "tar.gz" else "w")
    data = archive.read_bytes()
    draw = random.Random(2019)
    for n in range(100):
        damaged = bytearray(data)
        for _ in range(draw.choice([1, 1, 3, 20])):
            damaged[draw.randrange(min(len(data), 3072))] = draw.randrange(256)
        archive.write_bytes(damaged)
        try:
            unpack([archive], place / str(n), LIMIT)
        except UserError:
            assert not (place / str(n)).exists()
    assert {path.name for path in place.parent.iterdir()} == {"place", "archive"}


def test_an_interruption_leaves_nothing_under_the_final_name(tmp_path, place, monkeypatch):
    archive = tar_of(tmp_path / "archive", FILES.items())
    real = tarfile.TarFile.extractfile

    def stop_at_the_third(tar, info):
        if info.name == "a/b/two.jpg":
            raise KeyboardInterrupt
        return real(tar, info)

    monkeypatch.setattr(tarfile.TarFile, "extractfile", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        unpack([archive], place / "out", LIMIT)
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_is_no_part_of_the_next_unpacking(tmp_path, place):
    (place / ".out.partial" / "a").mkdir(parents=True)
    (place / ".out.partial" / "a" / "old.txt").write_text("old")
    unpack([tar_of(tmp_path / "archive", FILES.items())], place / "out", LIMIT)
    assert contents(place / "out") == FILES


def test_a_folder_that_is_there_is_kept(tmp_path, place):
    (place / "out").mkdir()
    with pytest.raises(UserError, match="already there"):
        unpack([tar_of(tmp_path / "archive", FILES.items())], place / "out", LIMIT)
    assert list((place / "out").iterdir()) == []
