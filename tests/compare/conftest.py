"""Runs of a toy size and the comparison's command line, run in this process."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_pair import link_run, write_run, write_varied

from compare import __main__ as command
from compare.check import TOLERANCES, Judge, Tolerances, read_tolerances
from compare.pair import FinishedRun, Pair
from compare.stages import compare_stage
from experiment.artifacts import RunFolder
from experiment.errors import run_command


@pytest.fixture(scope="session")
def templates(tmp_path_factory) -> Iterator[dict[str, Path]]:
    """Finished runs, not to be changed (the tests' runs link to their stages): one of each side, fed ones, varied ones.

    The isolated and the varied ones were fed by the Caffe side's.
    """
    folder = tmp_path_factory.mktemp("templates")
    paths = {side: write_run(folder / side, side=side).path for side in ("caffe", "torch")}
    paths["isolated"] = write_run(folder / "isolated", fed_by=RunFolder(paths["caffe"]), side="torch").path
    for side, variation in (("torch", "reference"), ("caffe", "batch"), ("torch", "threads")):
        paths[variation] = write_varied(folder / variation, paths["caffe"], side, variation)
    files = [file for file in folder.rglob("*") if file.is_file()]
    before = {file: file.read_bytes() for file in files}
    yield paths
    assert {file: file.read_bytes() for file in files} == before


@pytest.fixture
def runs(tmp_path, templates):
    """Three equal runs: a (the Caffe side's), b (the port's, chained) and isolated. See `fake_pair.own`."""
    sides = {"a": "caffe", "b": "torch", "isolated": "isolated"}
    return SimpleNamespace(**{name: link_run(templates[side], tmp_path / name) for name, side in sides.items()})


@pytest.fixture(scope="session")
def tolerances() -> Tolerances:
    return read_tolerances(TOLERANCES)


@pytest.fixture
def pair_of(tolerances):
    """`pair_of(path_a, path_b, mode)`: two runs under comparison, as they are now."""

    def pair(a: Path, b: Path, mode: str = "isolated") -> Pair:
        return Pair(FinishedRun(a), FinishedRun(b), Judge(tolerances, mode))

    return pair


def refuse(name: str) -> None:
    raise AssertionError(f"compare.json holds {name}, which is no JSON")


@pytest.fixture
def compare(monkeypatch, capsys, tmp_path):
    """`compare(run_a, run_b, ...)`: exit code, stdout, stderr, and compare.json parsed, None where there is none.

    only : the stages whose checks are made, where a test is about some of them; all without it.
    """

    def run(*arguments: object, target: Path = tmp_path / "compare.json", only: tuple[str, ...] = ()):
        if only:
            monkeypatch.setattr(
                command, "compare_stage", lambda stage, p: compare_stage(stage, p) if stage in only else []
            )
        monkeypatch.setattr(sys, "argv", ["compare", *map(str, arguments), "--json", str(target)])
        with pytest.raises(SystemExit) as end:
            run_command(command.main)
        captured = capsys.readouterr()
        result = json.loads(target.read_text(), parse_constant=refuse) if target.is_file() else None
        return SimpleNamespace(code=end.value.code, out=captured.out, err=captured.err, json=result)

    return run
