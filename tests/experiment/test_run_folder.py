"""Reading a run: everything that is missing, damaged or not ours is one clear error, never a value."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest

from experiment.artifacts import RunFolder, load_array
from experiment.errors import UserError
from experiment.stage_writer import StageWriter
from experiment.stages import STAGES

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def run(tmp_path) -> RunFolder:
    """A run with one finished stage of an array, a JSON value and a file."""
    folder = RunFolder(tmp_path / "run")
    writer = StageWriter(folder, "clusters")
    writer.array("centroids", VALUES)
    writer.json("summary", {"inertia": 1.5})
    writer.new_file("raw.bin").write_bytes(b"raw")
    writer.add_file("raw", "raw.bin")
    writer.finish({"stage": "clusters"})
    return folder


def array_path(run: RunFolder):
    return run.stage_path("clusters") / "centroids.npy"


def test_folders_are_numbered_in_the_order_of_the_stages(run):
    names = [run.stage_path(stage).name for stage in STAGES]
    assert names == sorted(names)
    assert [name.split("-", 1)[1] for name in names] == list(STAGES)


def test_an_unfinished_stage_is_named(run):
    with pytest.raises(UserError, match="05-pseudo_labels is unfinished"):
        run.array("pseudo_labels", "labels")


def test_a_folder_that_is_not_there_is_no_unfinished_run(tmp_path):
    with pytest.raises(UserError, match="there is no run .*/nowhere: make it first"):
        RunFolder(tmp_path / "nowhere").require_manifest("index")


def test_a_name_that_the_manifest_lacks_is_missing_even_if_the_file_is_there(run):
    np.save(run.stage_path("clusters") / "extra.npy", VALUES)
    with pytest.raises(UserError, match="extra is missing"):
        run.array("clusters", "extra")


def test_an_array_that_is_gone_is_missing(run):
    array_path(run).unlink()
    with pytest.raises(UserError, match=r"centroids\.npy is missing.*delete .*04-clusters and run again"):
        run.array("clusters", "centroids")


@pytest.mark.parametrize("kept", [0, 1, 7, 9, 60, 127, 128, 129, -1])
def test_a_truncated_array_is_refused(run, kept):
    data = array_path(run).read_bytes()
    array_path(run).write_bytes(data[:kept])
    with pytest.raises(UserError, match=r"centroids\.npy"):
        run.array("clusters", "centroids")


@pytest.mark.parametrize("mask", [0x01, 0x10, 0xFF])
def test_no_single_changed_byte_of_an_array_file_goes_unseen(run, mask):
    """Every byte in turn: it is refused, or (header padding) it still reads as the very same array."""
    data = array_path(run).read_bytes()
    refused = 0
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= mask
        array_path(run).write_bytes(changed)
        try:
            array = run.array("clusters", "centroids")
        except UserError as error:
            assert "centroids.npy" in str(error) and "delete" in str(error)
            refused += 1
        else:
            assert array.dtype == VALUES.dtype and np.array_equal(array, VALUES)
    assert refused >= VALUES.nbytes + 10  # all of the data and of the magic string


@pytest.mark.parametrize(
    "other", [VALUES + 1, VALUES.astype(np.float64), VALUES.reshape(4, 3), VALUES.reshape(3, 4, 1), VALUES[:2]]
)
def test_another_array_in_its_place_is_refused(run, other):
    np.save(array_path(run), other)
    with pytest.raises(UserError, match="not what its manifest records"):
        run.array("clusters", "centroids")


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("form", ["object array", "bare pickle"])
def test_a_pickle_is_refused_and_not_run(run, tmp_path, form):
    bomb = Bomb(str(tmp_path / "exploded"))
    buffer = io.BytesIO()
    if form == "object array":
        np.save(buffer, np.array([bomb, None], dtype=object), allow_pickle=True)  # the attack, not the project
    else:
        pickle.dump(bomb, buffer)
    array_path(run).write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match=r"centroids\.npy"):
        run.array("clusters", "centroids")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("kept", [None, 30])
def test_a_zip_archive_is_no_array(tmp_path, kept):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", b"x" * 50)
    path = tmp_path / "a.npy"
    path.write_bytes(buffer.getvalue()[:kept])
    with pytest.raises(UserError, match=r"a\.npy is not a"):
        load_array(path)


def test_errors_are_one_line(run):
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }" + " " * 20000 + "\n"
    array_path(run).write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(4))
    with pytest.raises(UserError) as error:
        run.array("clusters", "centroids")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", [b"", b'{"inertia": 1.5', b'{"inertia": 1.6}', b"\xff\xfe"])
def test_changed_json_is_refused(run, text):
    (run.stage_path("clusters") / "summary.json").write_bytes(text)
    with pytest.raises(UserError, match=r"summary\.json"):
        run.json("clusters", "summary")


def test_a_changed_file_is_refused(run):
    assert run.file("clusters", "raw").read_bytes() == b"raw"
    (run.stage_path("clusters") / "raw.bin").write_bytes(b"row")
    with pytest.raises(UserError, match=r"raw\.bin is not what its manifest records"):
        run.file("clusters", "raw")


@pytest.mark.parametrize("text", [b"", b"{", b"\x80"])
def test_a_manifest_that_is_no_json_is_an_error_not_an_unfinished_stage(run, text):
    (run.stage_path("clusters") / "manifest.json").write_bytes(text)
    with pytest.raises(UserError, match=r"manifest\.json cannot be read"):
        run.manifest("clusters")


@pytest.mark.parametrize("value", [[], {}, {"outputs": []}, "text", None])
def test_a_manifest_of_another_form_is_an_error(run, value):
    (run.stage_path("clusters") / "manifest.json").write_text(json.dumps(value))
    with pytest.raises(UserError, match=r"manifest\.json"):
        run.array("clusters", "centroids")


@pytest.mark.parametrize("name", ["nothing", "file"])
def test_a_run_without_a_spec_says_so(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"spec\.json is missing"):
        RunFolder(tmp_path / name).spec  # noqa: B018


def test_what_cannot_be_read_is_deleted_by_itself(tmp_path):
    """Not with its folder: that of a spec.json is the whole run."""
    (tmp_path / "spec.json").write_text("{")
    with pytest.raises(UserError, match=r"/spec\.json cannot be read \(.*\): delete this file and run again$"):
        RunFolder(tmp_path).spec  # noqa: B018
