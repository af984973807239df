"""One artifact changed at a time: the comparison differs, and names that stage and that artifact first."""

import dataclasses
import math

import numpy as np
import pytest
from fake_pair import BLOBS, outputs, write_stage

from compare.check import TOLERANCES, Judge, read_tolerances
from compare.difference import difference
from compare.stages import STAGE_CHECKS, compare_stage
from experiment.artifacts import MANIFEST, RunFolder, write_json
from experiment.stages import STAGES

ALL = [(stage, name) for stage, found in outputs().items() for name in found]
JUDGED = [(stage, name) for stage, name in ALL if not (stage == "svm" and (name.endswith("_dual") or name == "summary"))
          and (stage, name) != ("resnet101", "weights")]  # fmt: skip
ARRAYS = [(stage, name) for stage, name in JUDGED if isinstance(outputs()[stage][name], np.ndarray)]


def item(stage: str, name: str) -> str:
    """What a check of an output is called."""
    return f"blob {name.partition('-')[2]}" if name.startswith("blobs/") else name


def perturbed(value):
    """The value with one thing in it changed by more than any tolerance allows."""
    if isinstance(value, np.ndarray):
        value = value.copy()
        if value.dtype.kind == "f":
            value.flat[-1] += 10
        elif value.dtype == np.uint8:
            value.flat[-1] += 50
        else:
            value.flat[-1] = 1 if value.flat[-1] != 1 else 0
        return value
    if isinstance(value, list):
        return [*value[:-1], f"{value[-1]}x"]
    if "inertia" in value:
        return {**value, "inertia": 2 * value["inertia"]}
    if "ours" in value:
        return {**value, "ours": {**value["ours"], "ap_area": [0.4, 0.2, 0.7], "map_area": 0.43}}
    return {**value, "test000": "f" * 64}


@pytest.fixture(scope="module")
def judge():
    return Judge(read_tolerances(TOLERANCES), "isolated")


def failing(checks):
    return [check for check in checks if not check.agrees]


def test_there_are_checks_for_every_stage_in_order():
    assert list(STAGE_CHECKS) == list(STAGES)


def test_equal_runs_agree_in_every_check_and_every_quantity_has_a_tolerance(runs, judge):
    checks = [check for stage in STAGES for check in compare_stage(stage, RunFolder(runs.a), RunFolder(runs.b), judge)]
    assert failing(checks) == []
    assert {f"{check.stage}.{check.quantity}" for check in checks} == set(judge.tolerances)
    assert all(check.allowed is not None for check in checks)
    compared = {(check.stage, check.item.split(" ")[0]) for check in checks}
    for stage, name in JUDGED:
        if name not in ("blob_names", "metrics", "summary"):
            assert (stage, item(stage, name).split(" ")[0]) in compared, f"{stage} {name} is in no check"


@pytest.mark.parametrize(("stage", "name"), JUDGED)
def test_a_changed_artifact_is_the_first_departure(runs, judge, stage, name):
    b = RunFolder(runs.isolated)
    write_stage(b, stage, {(stage, name): perturbed})
    bad = failing(compare_stage(stage, RunFolder(runs.a), b, judge))
    named = {"summary": "inertia", "metrics": "ours area"}.get(name, item(stage, name))
    assert bad and bad[0].item == named and {check.item for check in bad} == {named}


@pytest.mark.parametrize("stage", STAGES)
def test_a_missing_or_damaged_artifact_is_never_agreement(runs, judge, stage):
    for number, name in enumerate(outputs()[stage]):
        readers = (runs.b,) if name.startswith("segments/") else (runs.a, runs.b)  # run a has snapshots instead
        for offset, folder in enumerate(readers):
            path = RunFolder(folder).output_path(stage, name)
            whole = path.read_bytes()
            path.unlink()  # never written in place: the file is shared
            damaged = (None, whole[:-1], whole[:-1] + bytes([whole[-1] ^ 85]))[(number + offset) % 3]
            if damaged is not None:
                path.write_bytes(damaged)
            bad = failing(compare_stage(stage, RunFolder(runs.a), RunFolder(runs.b), judge))
            assert len(bad) == 1 and path.name in bad[0].detail and math.isnan(bad[0].value)
            path.unlink(missing_ok=True)
            path.write_bytes(whole)
    assert failing(compare_stage(stage, RunFolder(runs.a), RunFolder(runs.b), judge)) == []


@pytest.mark.parametrize("stage", STAGES)
def test_an_artifact_that_the_manifest_lacks_is_never_agreement(runs, judge, stage):
    b = RunFolder(runs.b)
    manifest = b.require_manifest(stage)
    for name in outputs()[stage]:
        fewer = {other: entry for other, entry in manifest["outputs"].items() if other != name}
        write_json(b.stage_path(stage) / MANIFEST, {**manifest, "outputs": fewer})
        bad = failing(compare_stage(stage, RunFolder(runs.a), b, judge))
        assert len(bad) == 1 and name in bad[0].detail and math.isnan(bad[0].value)


OTHERS = [
    (lambda a: np.concatenate([a, a[:1]]), "shape"),
    (lambda a: a[..., None], "shape"),
    (lambda a: a.astype(np.float16), "dtype"),
    (lambda a: a[:0], "shape"),
]


@pytest.mark.parametrize(("number", "stage", "name"), [(i, *pair) for i, pair in enumerate(ARRAYS)])
def test_another_shape_or_dtype_is_never_agreement(runs, judge, number, stage, name):
    change, said = OTHERS[number % len(OTHERS)]
    write_stage(RunFolder(runs.b), stage, {(stage, name): change})
    bad = failing(compare_stage(stage, RunFolder(runs.a), RunFolder(runs.b), judge))
    assert [check.item for check in bad] == [item(stage, name)] and bad[0].detail.startswith(said)


def test_nan_on_both_sides_is_never_agreement(runs, judge):
    def spoil(array):
        array = array.copy()
        array.flat[0] = np.nan
        return array

    for stage in STAGES:
        floats = [name for place, name in ARRAYS if place == stage and outputs()[stage][name].dtype.kind == "f"]
        for run in (runs.a, runs.b):
            write_stage(RunFolder(run), stage, {(stage, name): spoil for name in floats})
        bad = failing(compare_stage(stage, RunFolder(runs.a), RunFolder(runs.b), judge))
        assert sorted(check.item for check in bad) == sorted(item(stage, name) for name in floats)
        assert all("nan" in check.detail for check in bad)


@pytest.mark.parametrize("stage", ["features", "resnet101"])
def test_nets_with_other_blobs_are_not_compared_blob_by_blob(runs, judge, stage):
    for change, said in ((lambda names: names[::-1], "another order"), (lambda names: [*names, "fc1000"], "fc1000")):
        write_stage(RunFolder(runs.b), stage, {(stage, "blob_names"): change})
        bad = failing(compare_stage(stage, RunFolder(runs.a), RunFolder(runs.b), judge))
        assert [check.item for check in bad] == ["blob_names"] and said in bad[0].detail


def test_blobs_are_checked_in_forward_order(runs, judge):
    checks = compare_stage("features", RunFolder(runs.a), RunFolder(runs.b), judge)
    assert [check.item for check in checks][: len(BLOBS)] == [f"blob {name}" for name in BLOBS]


def test_an_id_that_is_missing_or_added_is_counted(runs, judge):
    for change, count in ((lambda ids: ids[:-2], 2), (lambda ids: [*ids, "new"], 1), (lambda ids: ids[::-1], 4)):
        write_stage(RunFolder(runs.b), "index", {("index", "ids_test"): change})
        (bad,) = failing(compare_stage("index", RunFolder(runs.a), RunFolder(runs.b), judge))
        assert bad.value == count
    write_stage(RunFolder(runs.b), "index", {("index", "image_sha256"): lambda d: {**d, "more": "0", "test000": "1"}})
    (bad,) = failing(compare_stage("index", RunFolder(runs.a), RunFolder(runs.b), judge))
    assert (bad.item, bad.value) == ("image_sha256", 2)


def test_psnr_and_the_worst_image_are_those_of_the_definition(runs, judge):
    random = np.random.default_rng(5)

    def change(image):
        return (image + random.integers(0, 3, image.shape)).astype(np.uint8)

    write_stage(RunFolder(runs.b), "images", {("images", "hr_test"): change})
    a, b = (np.array(RunFolder(run).array("images", "hr_test"), float) for run in (runs.a, runs.b))
    check = next(c for c in compare_stage("images", RunFolder(runs.a), RunFolder(runs.b), judge) if c.item == "hr_test")
    assert check.numbers["psnr"] == pytest.approx(20 * math.log10(255) - 10 * math.log10(np.mean((a - b) ** 2)))
    worst = max(range(len(a)), key=lambda i: np.linalg.norm(a[i] - b[i]) / np.linalg.norm(a[i]))
    assert f"worst image test{worst:03d}" in check.detail
    assert check.value == np.abs(a - b).max()


def test_black_images_have_a_psnr_too(runs, judge):
    write_stage(RunFolder(runs.a), "images", {("images", "lr_test"): np.zeros_like})
    write_stage(RunFolder(runs.b), "images", {("images", "lr_test"): np.ones_like})
    checks = compare_stage("images", RunFolder(runs.a), RunFolder(runs.b), judge)
    check = next(check for check in checks if check.item == "lr_test")
    assert check.numbers["psnr"] == pytest.approx(20 * math.log10(255))


def test_a_fraction_of_labels_is_the_fraction_that_is_equal(runs, judge):
    write_stage(RunFolder(runs.b), "pseudo_labels", {("pseudo_labels", "labels"): perturbed})
    (check,) = compare_stage("pseudo_labels", RunFolder(runs.a), RunFolder(runs.b), judge)
    assert check.value == 1 - 1 / 6 and not check.agrees and "1 of 6 differ" in check.detail


def test_the_numbers_of_a_check_are_those_of_the_difference(runs, judge):
    write_stage(RunFolder(runs.b), "clusters", {("clusters", "centroids"): perturbed})
    a, b = RunFolder(runs.a), RunFolder(runs.b)
    check = next(check for check in compare_stage("clusters", a, b, judge) if check.item == "centroids")
    d = dataclasses.asdict(difference(a.array("clusters", "centroids"), b.array("clusters", "centroids")))
    assert check.value == d["relative_l2"]
    assert all(d[name] == value for name, value in check.numbers.items())
