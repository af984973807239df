"""Features by two processes on one machine: the same files, bit for bit, as by one."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from experiment.artifacts import RunFolder, canonical_json, sha256_array
from experiment.resolve import resolve
from tests.conftest import PROJECT
from tests.small_devkit import small_devkit
from tests.small_run import OVERRIDES
from torch_impl.features import ARRAYS

TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "torch_impl.sharded"]
ONE = ["-m", "torch_impl"]


def run_port(start: list[str], run, *options: str) -> subprocess.CompletedProcess:
    """Run the port with one thread a process."""
    command = [sys.executable, *start, str(run), "--threads", "1", *options]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A run with images and no features. 27 trainval and 12 test images make a last batch that is not full, and
    batches that two processes do not share evenly."""
    folder = tmp_path_factory.mktemp("sharded")
    devkit = small_devkit(folder / "devkit", trainval=27, test=12)
    resolve("embedded", folder / "run", devkit, overrides=[*OVERRIDES, "features.batch_size=4"])
    assert run_port(ONE, folder / "run", "--only", "index", "--only", "images").returncode == 0
    return folder / "run"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["auto", "eager"])
def test_two_processes_make_the_features_of_one_bit_for_bit(engine, prepared, tmp_path):
    for name, start, only in (("one", ONE, ["--only", "features"]), ("two", TWO, [])):
        shutil.copytree(prepared, tmp_path / name)
        done = run_port(start, tmp_path / name, "--engine", engine, *only)
        assert done.returncode == 0, done.stderr
    one, two = (RunFolder(tmp_path / name) for name in ("one", "two"))
    for array in ARRAYS:
        np.testing.assert_array_equal(one.array("features", array), two.array("features", array))
    manifests = [run.require_manifest("features") for run in (one, two)]
    assert manifests[0]["outputs"] == manifests[1]["outputs"] and manifests[0]["key"] == manifests[1]["key"]
    done = run_port(ONE, tmp_path / "two", "--engine", engine, "--only", "features")
    assert "up to date" in done.stderr


@pytest.mark.slow
def test_two_processes_go_on_where_one_was_stopped(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "run")
    assert run_port(ONE, tmp_path / "run", "--only", "features").returncode == 0
    whole = {name: np.array(RunFolder(tmp_path / "run").array("features", name)) for name in ARRAYS}
    final = RunFolder(tmp_path / "run").stage_path("features")
    manifest = json.loads((final / "manifest.json").read_text())
    shutil.rmtree(final)
    partial = final.with_name(f".{final.name}.partial")
    partial.mkdir()
    # Two batches of the first array are there. The second is another's, which its digest cannot tell: it is kept.
    rows = np.lib.format.open_memmap(
        partial / f"{ARRAYS[0]}.npy", mode="w+", dtype=np.float32, shape=whole[ARRAYS[0]].shape
    )
    rows[:4] = whole[ARRAYS[0]][:4]
    rows[4:8] = whole[ARRAYS[0]][4:8] = -1
    rows.flush()
    lines = [{"key": manifest["key"]}, {"attempt": 1}]
    lines += [{"rows": ARRAYS[0], "start": s, "sha256": [sha256_array(rows[s : s + 4])]} for s in (0, 4)]
    (partial / "journal").write_bytes(b"".join(canonical_json(line) + b"\n" for line in lines))
    done = run_port(TWO, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    for name in ARRAYS:
        np.testing.assert_array_equal(RunFolder(tmp_path / "run").array("features", name), whole[name])
    assert RunFolder(tmp_path / "run").require_manifest("features")["attempts"] == 2


def test_outside_torchrun_it_says_how_to_start_it(prepared):
    done = run_port(["-m", "torch_impl.sharded"], prepared)
    assert done.returncode == 2 and "torchrun" in done.stderr and done.stderr.count("\n") == 1
