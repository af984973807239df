"""Runs of a toy size and the comparison's command line, run in this process."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_pair import write_run

from compare.__main__ import main
from experiment.errors import run_command
from experiment.stages import folder_name


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Iterator[Path]:
    """A finished run, not to be changed: the tests' runs share its files by hard links."""
    path = tmp_path_factory.mktemp("template") / "run"
    write_run(path)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    yield path
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


@pytest.fixture
def runs(request, tmp_path, template):
    """Three equal runs: a (the Caffe side's), b (the port's, chained) and isolated.

    A test of one stage (a parameter `stage`) that is not about the command is given just that stage and the index.
    """
    stage = getattr(request.node, "callspec", SimpleNamespace(params={})).params.get("stage")
    left_out = shutil.ignore_patterns("[0-9][0-9]-*") if stage and "compare" not in request.fixturenames else None
    paths = {name: tmp_path / name for name in ("a", "b", "isolated")}
    for path in paths.values():
        shutil.copytree(template, path, ignore=left_out, copy_function=os.link)
        for name in {"index", stage} if left_out else ():
            shutil.copytree(template / folder_name(name), path / folder_name(name), copy_function=os.link)
    return SimpleNamespace(**paths)


def refuse(name: str) -> None:
    raise AssertionError(f"compare.json holds {name}, which is no JSON")


@pytest.fixture
def compare(monkeypatch, capsys, tmp_path):
    """`compare(run_a, run_b, ...)`: exit code, stdout, stderr, and compare.json parsed, None where there is none."""

    def run(*arguments: object, target: Path = tmp_path / "compare.json"):
        monkeypatch.setattr(sys, "argv", ["compare", *map(str, arguments), "--json", str(target)])
        with pytest.raises(SystemExit) as end:
            run_command(main)
        captured = capsys.readouterr()
        result = json.loads(target.read_text(), parse_constant=refuse) if target.is_file() else None
        return SimpleNamespace(code=end.value.code, out=captured.out, err=captured.err, json=result)

    return run
