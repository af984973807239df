"""One artifact changed at a time: the comparison differs, and names that stage and that artifact first."""

import dataclasses
import math

import numpy as np
import pytest
from fake_pair import BLOBS, outputs, own, write_stage

from compare.difference import difference
from compare.stages import STAGE_CHECKS, compare_stage
from experiment.artifacts import MANIFEST, RunFolder, write_json
from experiment.stages import STAGES

ALL = [(stage, name) for stage, found in outputs().items() for name in found]
# What must be whole, and is not judged as it stands: a snapshot's history is, by the step that goes on from it.
UNJUDGED = {("resnet101", "weights")} | {("transfer", name) for name in outputs()["transfer"]
                                         if name.startswith("snapshots/") and name.endswith("_history")}  # fmt: skip
JUDGED = [pair for pair in ALL if pair not in UNJUDGED]
ARRAYS = [(stage, name) for stage, name in JUDGED if isinstance(outputs()[stage][name], np.ndarray)]


def items(stage: str, name: str) -> set[str]:
    """What the checks of a judged output are called."""
    if name.startswith("blobs/"):
        return {f"blob {name.partition('-')[2]}"}
    if name.endswith("_bias_initial"):
        return {name, "initial weights of b"}
    by_name = {"summary": {"inertia"} if stage == "clusters" else {"ours"}, "metrics": {"ours area", "ours of b"}}
    row = name.removesuffix("_dual")
    return by_name.get(name, {row, f"{row} of b"} if stage == "svm" else {name})


def itself(stage: str, name: str) -> str:
    """What the check of an array element by element is called."""
    (item,) = items(stage, name) - {"initial weights of b", f"{name} of b"} if not name.endswith("_dual") else {name}
    return item


def perturbed(value, name=""):
    """The value with one thing in it changed by more than any tolerance allows."""
    if isinstance(value, np.ndarray):
        if name.startswith("segments/"):  # where one row alone is forgiven
            return value + value.dtype.type(10)
        if name.endswith("_dual"):
            return (value == 0).astype(value.dtype)
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
    if name == "summary":
        machine = value["ours"]["cat"]
        return {**value, "ours": {**value["ours"], "cat": {**machine, "objective": machine["objective"] - 1e-3}}}
    if name == "metrics":
        ours = value["ours"]
        return {**value, "ours": {**ours, "ap_area": [*ours["ap_area"][:-1], 0.123], "map_area": 0.43}}
    return {**value, "test000": "f" * 64}


def failing(checks):
    return [check for check in checks if not check.agrees]


def test_there_are_checks_for_every_stage_in_order():
    assert list(STAGE_CHECKS) == list(STAGES)


def test_equal_runs_agree_in_every_check_and_every_quantity_has_a_tolerance(runs, pair_of, tolerances):
    for mode in ("isolated", "chained"):
        checks = [check for stage in STAGES for check in compare_stage(stage, pair_of(runs.a, runs.b, mode))]
        assert failing(checks) == []
        stages_alone = {name for name in tolerances.bounds if not name.startswith("end_to_end.")}
        found = {f"{check.stage}.{check.quantity}" for check in checks}
        if mode == "isolated":
            assert found == stages_alone and all(check.allowed is not None for check in checks)
        else:  # from its own snapshots no run goes on
            steps = ("step_relative_l2", "step_history", "step_relative_l2_all_rows", "step_history_all_rows")
            assert found == stages_alone - {f"transfer.{name}" for name in (*steps, "segment_relative_l2")}
        compared = {(check.stage, check.item.split(" ")[0]) for check in checks}
        for stage, name in JUDGED:
            if name not in ("blob_names", "metrics") and not (name.startswith("segments/") and mode == "chained"):
                assert {(stage, item.split(" ")[0]) for item in items(stage, name)} <= compared, f"{stage} {name}"


def few_of(names):
    """The names without most of those in folders of alike ones: a stage's whole comparison is made for each name."""
    return [name for name in names if not name.startswith(("snapshots/", "segments/")) or "/2/fc2_weight" in name]


@pytest.mark.parametrize(("stage", "name"), [(s, n) for s in STAGES for n in few_of(outputs()[s]) if (s, n) in JUDGED])
def test_a_changed_artifact_is_the_first_departure(runs, pair_of, stage, name):
    write_stage(RunFolder(runs.isolated), stage, {(stage, name): lambda value: perturbed(value, name)})
    bad = failing(compare_stage(stage, pair_of(runs.a, runs.isolated)))
    assert bad and {check.item for check in bad} == items(stage, name)
    assert all(check.quantity != "present" for check in bad) or name == "blob_names"


@pytest.mark.parametrize("stage", STAGES)
def test_a_missing_or_damaged_artifact_is_never_agreement(runs, pair_of, stage):
    for number, name in enumerate(few_of(outputs()[stage])):
        readers = (runs.b,) if name.startswith("segments/") else (runs.a, runs.b)  # run a has snapshots instead
        for offset, folder in enumerate(readers):
            path = own(folder, stage).output_path(stage, name)
            whole = path.read_bytes()
            path.unlink()
            damaged = (None, whole[:-1], whole[:-1] + bytes([whole[-1] ^ 85]))[(number + offset) % 3]
            if damaged is not None:
                path.write_bytes(damaged)
            bad = failing(compare_stage(stage, pair_of(runs.a, runs.b)))
            assert bad and all(path.name in check.detail and math.isnan(check.value) for check in bad)
            path.write_bytes(whole)
    assert failing(compare_stage(stage, pair_of(runs.a, runs.b))) == []


@pytest.mark.parametrize("stage", STAGES)
def test_an_artifact_that_the_manifest_lacks_is_never_agreement(runs, pair_of, stage):
    b = own(runs.b, stage)
    manifest = b.require_manifest(stage)
    for name in few_of(outputs()[stage]):
        fewer = {other: entry for other, entry in manifest["outputs"].items() if other != name}
        write_json(b.stage_path(stage) / MANIFEST, {**manifest, "outputs": fewer})
        bad = failing(compare_stage(stage, pair_of(runs.a, runs.b)))
        assert bad and all(name in check.detail and math.isnan(check.value) for check in bad)


OTHERS = [
    (lambda a: np.concatenate([a, a[:1]]), "shape"),
    (lambda a: a[..., None], "shape"),
    (lambda a: a.astype(np.float16), "dtype"),
    (lambda a: a[:0], "shape"),
]


@pytest.mark.parametrize(("change", "said"), OTHERS)
@pytest.mark.parametrize("stage", STAGES)
def test_another_shape_or_dtype_is_never_agreement(runs, pair_of, stage, change, said):
    names = [name for place, name in ARRAYS if place == stage]
    # Without them other checks of their stage cannot be made, which ends it: they are spoilt one by one.
    alone = [name for name in names if stage in ("clusters", "svm") or name.endswith("_bias_initial")]
    for spoilt in [*([name] for name in alone), [name for name in names if name not in alone]]:
        write_stage(RunFolder(runs.b), stage, {(stage, name): change for name in spoilt})
        bad = failing(compare_stage(stage, pair_of(runs.a, runs.b)))
        named = {check.item for check in bad if check.quantity == "present" and check.detail.startswith(said)}
        called = {itself(stage, name) for name in spoilt}
        ended = bool(bad) and bad[-1].item == "artifact" and spoilt[0].endswith(("_dual", "assignments"))
        assert named == called or ended


@pytest.mark.parametrize("mode", ["isolated", "chained"])
@pytest.mark.parametrize(
    ("stage", "name"), [("clusters", "centroids"), ("transfer", "fc1_weight_initial"), ("svm", "ours")]
)
def test_what_is_matched_tested_or_ranked_may_have_any_shape(runs, pair_of, stage, name, mode):
    """Such an array is read by checks of its stage, and of later ones, that do not compare it element by element."""
    for change in (lambda a: a[..., None], lambda a: a[:, :-1], lambda a: a[:-1], lambda a: a[:0]):
        write_stage(RunFolder(runs.b), stage, {(stage, name): change})
        assert any(
            check.quantity == "present" for check in failing(compare_stage(stage, pair_of(runs.a, runs.b, mode)))
        )


@pytest.mark.parametrize("stage", STAGES)
def test_nan_on_both_sides_is_never_agreement(runs, pair_of, stage):
    def spoil(array):
        array = array.copy()
        array.flat[0] = np.nan
        return array

    floats = [name for place, name in ARRAYS if place == stage and outputs()[stage][name].dtype.kind == "f"]
    floats = [name for name in floats if not name.endswith("_dual")]  # of which only the zeros count
    for run in (runs.a, runs.b):
        write_stage(RunFolder(run), stage, {(stage, name): spoil for name in floats})
    bad = failing(compare_stage(stage, pair_of(runs.a, runs.b)))
    named = [check for check in bad if check.quantity == "present"]
    assert {check.item for check in named} == {itself(stage, name) for name in floats}
    assert all("nan" in check.detail for check in named) and all(math.isnan(check.value) for check in bad)


@pytest.mark.parametrize("stage", ["features", "resnet101"])
def test_nets_with_other_blobs_are_not_compared_blob_by_blob(runs, pair_of, stage):
    for change, said in ((lambda names: names[::-1], "another order"), (lambda names: [*names, "fc1000"], "fc1000")):
        write_stage(RunFolder(runs.b), stage, {(stage, "blob_names"): change})
        bad = failing(compare_stage(stage, pair_of(runs.a, runs.b)))
        assert [check.item for check in bad] == ["blob_names"] and said in bad[0].detail


@pytest.mark.parametrize("stage", ["features", "resnet101"])
def test_blobs_are_checked_in_forward_order(runs, pair_of, stage):
    checks = compare_stage(stage, pair_of(runs.a, runs.b))
    assert [check.item for check in checks if check.item.startswith("blob ")] == [f"blob {name}" for name in BLOBS]


def test_an_id_that_is_missing_or_added_is_counted(runs, pair_of):
    for change, count in ((lambda ids: ids[:-2], 2), (lambda ids: [*ids, "new"], 1), (lambda ids: ids[::-1], 8)):
        write_stage(RunFolder(runs.b), "index", {("index", "ids_test"): change})
        (bad,) = failing(compare_stage("index", pair_of(runs.a, runs.b)))
        assert bad.value == count
    write_stage(RunFolder(runs.b), "index", {("index", "image_sha256"): lambda d: {**d, "more": "0", "test000": "1"}})
    (bad,) = failing(compare_stage("index", pair_of(runs.a, runs.b)))
    assert (bad.item, bad.value) == ("image_sha256", 2)


def test_psnr_the_share_of_grey_levels_and_the_worst_image_are_those_of_the_definition(runs, pair_of):
    random = np.random.default_rng(5)

    def change(image):
        return (image + random.integers(0, 3, image.shape)).astype(np.uint8)

    write_stage(RunFolder(runs.b), "images", {("images", "hr_test"): change})
    a, b = (np.array(RunFolder(run).array("images", "hr_test"), float) for run in (runs.a, runs.b))
    checks = [check for check in compare_stage("images", pair_of(runs.a, runs.b)) if check.item == "hr_test"]
    greatest, share = checks
    assert greatest.numbers["psnr"] == pytest.approx(20 * math.log10(255) - 10 * math.log10(np.mean((a - b) ** 2)))
    worst = max(range(len(a)), key=lambda i: np.linalg.norm(a[i] - b[i]) / np.linalg.norm(a[i]))
    assert f"worst image test{worst:03d}" in greatest.detail
    assert (greatest.quantity, greatest.value) == ("max_abs", np.abs(a - b).max())
    assert (share.quantity, share.value) == ("unequal", np.mean(a != b)) and not share.agrees


def test_black_images_have_a_psnr_too(runs, pair_of):
    write_stage(RunFolder(runs.a), "images", {("images", "lr_test"): np.zeros_like})
    write_stage(RunFolder(runs.b), "images", {("images", "lr_test"): np.ones_like})
    check = next(check for check in compare_stage("images", pair_of(runs.a, runs.b)) if check.item == "lr_test")
    assert check.numbers["psnr"] == pytest.approx(20 * math.log10(255))


def test_a_fraction_of_labels_is_the_fraction_that_is_equal(runs, pair_of):
    write_stage(RunFolder(runs.b), "pseudo_labels", {("pseudo_labels", "labels"): perturbed})
    check, _ = compare_stage("pseudo_labels", pair_of(runs.a, runs.b))
    assert check.value == 1 - 1 / 6 and not check.agrees and "1 of 6 differ" in check.detail


def test_the_numbers_of_a_check_are_those_of_the_difference(runs, pair_of):
    write_stage(RunFolder(runs.b), "transfer_features", {("transfer_features", "test"): perturbed})
    pair = pair_of(runs.a, runs.b)
    check = next(check for check in compare_stage("transfer_features", pair) if check.item == "test")
    d = dataclasses.asdict(
        difference(pair.a.array("transfer_features", "test"), pair.b.array("transfer_features", "test"))
    )
    assert check.value == d["relative_l2"]
    assert {"percentiles", "ulp", "trimmed_l2"} < check.numbers.keys()
    assert all(d[name] == value for name, value in check.numbers.items())


MALFORMED = [
    ("index", "ids_test", lambda ids: None),
    ("index", "classes", lambda names: None),
    ("index", "classes", lambda names: 3),
    ("features", "blob_names", lambda names: None),
    ("resnet101", "blob_names", lambda names: None),
    ("clusters", "summary", lambda summary: None),
    ("clusters", "summary", lambda summary: {**summary, "inertia": None}),
    ("clusters", "summary", lambda summary: {**summary, "inertia": []}),
    ("clusters", "summary", lambda summary: {}),
    ("clusters", "summary", lambda summary: [1]),
    ("clusters", "summary", lambda summary: {**summary, "inertia": "none at all"}),
    ("svm", "summary", lambda summary: []),
    ("svm", "summary", lambda summary: None),
    ("svm", "summary", lambda summary: dict.fromkeys(summary)),
    ("svm", "summary", lambda summary: dict.fromkeys(summary, [])),
    ("svm", "summary", lambda summary: {**summary, "ours": {}}),
    ("svm", "summary", lambda summary: {**summary, "ours": dict.fromkeys(summary["ours"], {})}),
    ("svm", "summary", lambda summary: {**summary, "ours": dict.fromkeys(summary["ours"], None)}),
    ("svm", "summary", lambda summary: {**summary, "ours": dict.fromkeys(summary["ours"], {"rho": "x"})}),
    ("metrics", "metrics", lambda metrics: {}),
    ("metrics", "metrics", lambda metrics: [metrics]),
    ("metrics", "metrics", lambda metrics: []),
    ("metrics", "metrics", lambda metrics: None),
    ("metrics", "metrics", lambda metrics: dict.fromkeys(metrics)),
    ("metrics", "metrics", lambda metrics: dict.fromkeys(metrics, [])),
    ("metrics", "metrics", lambda metrics: {**metrics, "ours": {**metrics["ours"], "ap_area": ["x"]}}),
    ("metrics", "metrics", lambda metrics: {**metrics, "ours": {**metrics["ours"], "map_area": None}}),
]


@pytest.mark.parametrize("mode", ["isolated", "chained"])
@pytest.mark.parametrize(("stage", "name", "change"), MALFORMED)
def test_outputs_that_make_no_sense_are_a_departure_of_their_stage(runs, pair_of, stage, name, change, mode):
    for spoilt in ([runs.a], [runs.a, runs.b], [runs.b]):
        for run in (runs.a, runs.b):
            write_stage(RunFolder(run), stage, {(stage, name): change} if run in spoilt else {})
        (bad,) = [
            check for check in failing(compare_stage(stage, pair_of(runs.a, runs.b, mode))) if check.item == "artifact"
        ]
        assert bad.stage == stage and math.isnan(bad.value)
        assert bad.detail.startswith(f"not a {stage} stage's outputs (")


@pytest.mark.parametrize("error", [KeyError, IndexError, TypeError, ValueError, AttributeError, ZeroDivisionError])
def test_what_was_compared_before_an_output_made_no_sense_is_kept(runs, pair_of, monkeypatch, error):
    def one_check_and_no_more(pair):
        yield pair.judge.check("index", "unequal", "classes", 0.0)
        raise error("two\nlines")

    monkeypatch.setitem(STAGE_CHECKS, "index", one_check_and_no_more)
    kept, bad = compare_stage("index", pair_of(runs.a, runs.b))
    assert kept.agrees and not bad.agrees and "two" in bad.detail and "\n" not in bad.detail
