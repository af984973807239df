"""A run beside RUN/torch takes over everything of it but what it is there to vary."""

import shutil
from pathlib import Path

import pytest

from audit.beside import resolve_beside
from audit.decisions.decisions import Alternative
from audit.decisions.variants import Variant, prepare
from experiment.artifacts import RunFolder, write_json
from experiment.resolve import resolve
from tests.conftest import user_error
from tests.small_devkit import small_devkit
from tests.small_run import OVERRIDES


@pytest.fixture
def base(tmp_path):
    """RUN/torch of a shortened profile with overrides, resolved and no more."""
    devkit = small_devkit(tmp_path)
    run = RunFolder(tmp_path / "small" / "torch")
    resolve("embedded", run.path, devkit, overrides=(*OVERRIDES, "svm.c=7.0"), limit=20)
    return run


def differing(one, other):
    values = [run.spec["values"] for run in (one, other)]
    return {f"{s}.{k}" for s in values[0] for k in values[0][s] if values[0][s][k] != values[1][s][k]}


def test_it_differs_in_seed_snapshots_and_overrides_and_nothing_else(base, tmp_path):
    run = resolve_beside(base, tmp_path / "run" / "torch", 9, ["svm.tolerance=0.5"])
    assert differing(run, base) == {"run.seed", "transfer.snapshots", "svm.tolerance"}
    assert run.spec["values"]["run"]["seed"] == 9 and run.spec["values"]["svm"]["c"] == 7.0
    assert run.spec["external"]["weights"] == base.spec["external"]["weights"]
    assert run.spec["external"]["devkit"] == base.spec["external"]["devkit"]


def test_it_is_what_the_sensitivity_prepares_of_the_same_seed_and_alternative(base, tmp_path):
    for one in (None, Alternative("D1", "svm", "another C", set=("svm.c=0.5",))):
        variant = Variant(base.path.parent, 3, one)
        assert prepare(variant) == ""
        run = resolve_beside(base, tmp_path / "run" / "torch", 3, one.set if one else ())
        found, expected = run.spec, variant.run.spec
        assert found["external"].pop("photographs") != expected["external"].pop("photographs")  # a folder in each run
        assert found == expected


def test_another_devkit_takes_the_place_of_the_bases(base, tmp_path):
    other = tmp_path / "other" / "VOC2007"
    shutil.copytree(Path(base.spec["external"]["devkit"]["path"]), other)
    run = resolve_beside(base, tmp_path / "run" / "torch", 1, devkit=other)
    assert run.spec["external"]["devkit"]["path"] == str(other) and run.prototxt("solver.prototxt").is_file()


def test_what_cannot_be_resolved_is_the_users_to_mend(base, tmp_path):
    with user_error("clusters.k"):
        resolve_beside(base, tmp_path / "run" / "torch", 1, ["clusters.k=5"])
    spec = base.spec
    del spec["values"]["svm"]["c"]
    write_json(base.path / "spec.json", spec)
    with user_error("spec.json", "make torch-reproduce"):
        resolve_beside(base, tmp_path / "run" / "torch", 1)
