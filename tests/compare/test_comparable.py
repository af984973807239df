"""What stops a comparison before any number, with its name and its remedy; and what may differ and is listed."""

import json

import pytest
from fake_pair import SURROUNDINGS, change_spec, own, write_run, write_stage

from compare.comparable import ABSENT, may_differ, require_chained, require_comparable, require_current, require_fed_by
from experiment.artifacts import MANIFEST, RunFolder, write_json
from experiment.errors import UserError
from experiment.stages import STAGES


def refused(function, *arguments, **more) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def ab(runs):
    return RunFolder(runs.a), RunFolder(runs.b)


def test_equal_requests_are_comparable_and_what_is_equal_is_listed(ab):
    equal = require_comparable(*ab)
    assert {"spec.run.seed", "spec.transfer.snapshots", "devkit.ImageSets/Main", "weights.sha256",
            "photographs.sha256", "prototxt.solver.prototxt"} < set(equal)  # fmt: skip
    assert len(set(equal)) == len(equal) and "bytes of every image that both list" in equal
    assert not any("path" in name or "listing" in name for name in equal)


# What is changed in one run's spec.json that no stage of a run reads, and what is said: name, values, remedy.
DIFFERENCES = {
    "a value": (lambda s: s["values"]["compare"].update(margin=1.0), "spec.compare.margin is 0.5 and 1.0", "SET"),
    "a new value": (lambda s: s["values"]["compare"].update(y=2), "spec.compare.y is '-' and 2", "PROFILE"),
    "a new section": (lambda s: s["values"].update(more={"z": 1}), "spec.more.z is '-' and 1", "PROFILE"),
    "a value that is gone": (lambda s: s["values"]["compare"].pop("margin"), "spec.compare.margin is 0.5 and '-'",
                             "PROFILE"),
    "a list of images": (lambda s: s["external"]["devkit"]["content"].update({"ImageSets/Main": "9"}),
                         "devkit.ImageSets/Main is", "the same DEVKIT"),
    "annotations": (lambda s: s["external"]["devkit"]["content"].update(Annotations="9"), "devkit.Annotations is",
                    "the same DEVKIT"),
    "a prototxt that no stage reads": (lambda s: s["prototxt"].update({"more.prototxt": "9"}),
                                       "prototxt.more.prototxt is '-' and '9'", "run both sides again"),
    "a file from outside": (lambda s: s["external"].update(mean={"path": "/m", "sha256": "9"}),
                            "mean.sha256 is '-' and '9'", "the same MEAN"),
}  # fmt: skip


@pytest.mark.parametrize("case", DIFFERENCES)
def test_a_difference_of_what_was_asked_for_stops_with_its_name_and_remedy(ab, case):
    change, said, remedy = DIFFERENCES[case]
    change_spec(ab[1].path, change)
    if case == "a file from outside":
        write_stage(ab[1], "features")
    for runs, told in ((ab, said), (ab[::-1], said.split(" is ")[0])):
        message = refused(require_comparable, *runs)
        assert "are not comparable" in message and told in message and remedy in message
        assert all(str(run.path) in message for run in runs)


def test_where_a_folder_lies_and_when_its_files_were_written_may_differ(tmp_path, ab):
    b = RunFolder(tmp_path / "elsewhere")
    write_run(b.path, stages=[])
    change_spec(b.path, lambda s: s["external"]["devkit"].update(path="/other", listing="9" * 64))
    change_spec(b.path, lambda s: s["external"]["weights"].update(path="/other.caffemodel"))
    for stage in STAGES:
        write_stage(b, stage, side="torch")
    require_comparable(ab[0], b)


def test_other_weights_or_another_seed_stop_also_where_every_stage_was_made_with_them(tmp_path, ab):
    write_run(tmp_path / "seed", seed=8)
    assert "spec.run.seed is 7 and 8: run both sides with the same PROFILE and SET" in refused(
        require_comparable, ab[0], RunFolder(tmp_path / "seed")
    )
    require_comparable(ab[0], RunFolder(tmp_path / "seed"), but=("spec.run.seed",))
    weights = RunFolder(tmp_path / "weights")
    write_run(weights.path, stages=[])
    change_spec(weights.path, lambda s: s["external"]["weights"].update(sha256="9" * 64))
    for stage in STAGES:
        write_stage(weights, stage)
    message = refused(require_comparable, ab[0], weights, but=("spec.run.seed",))
    assert f"weights.sha256 is '{'e' * 64}' and '{'9' * 64}': run both sides with the same WEIGHTS" in message


def test_an_image_that_is_another_file_stops_with_its_name(ab):
    write_stage(ab[1], "index", {("index", "image_sha256"): lambda d: {**d, "test003": "9" * 64, "more": "0"}})
    message = refused(require_comparable, *ab)
    assert "image test003 is another file in each" in message and "the same DEVKIT" in message
    require_comparable(*ab, stages=["clusters"])  # where no image is looked at


def test_an_image_that_only_one_run_lists_does_not_stop(ab):
    write_stage(ab[1], "index", {("index", "image_sha256"): lambda d: {**d, "more": "9" * 64}})
    require_comparable(*ab)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("stage", STAGES)
def test_an_unfinished_stage_of_either_run_stops(runs, ab, which, stage):
    (own(ab[which].path, stage).stage_path(stage) / MANIFEST).unlink()
    message = refused(require_comparable, *ab)
    assert f"{ab[which].stage_path(stage)} is unfinished" in message
    require_comparable(*ab, stages=[other for other in STAGES if other != stage])


STALE = {
    "svm": (lambda s: s["values"]["svm"].update(x=2), "svm"),
    "transfer": (lambda s: s["prototxt"].update({"solver.prototxt": "9"}), "solver.prototxt"),
    "features": (lambda s: s["external"]["weights"].update(sha256="9"), "weights"),
    "index": (lambda s: s["external"]["devkit"].update(listing="9"), "devkit"),
    "clusters": (lambda s: s["values"]["run"].update(seed=8), "run"),
    "resnet101": (lambda s: s["external"].pop("photographs"), "photographs"),
}


@pytest.mark.parametrize("stage", STALE)
def test_a_stage_that_is_older_than_its_runs_specification_stops(ab, stage):
    change, said = STALE[stage]
    for run in ab:
        change_spec(run.path, change)
    for run in ab:
        message = refused(require_current, run, stage)
        assert f"{run.stage_path(stage)} is older than the run's {said}" in message
    assert "is older than" in refused(require_comparable, *ab)
    write_stage(ab[0], stage)
    require_current(ab[0], stage)


# ---------------------------------------------------------------- fed by run a


def test_a_run_is_fed_by_the_run_whose_present_outputs_it_read(ab):
    a, b = ab
    require_fed_by(a, b, STAGES)
    write_stage(a, "features", {("features", "hr_test"): lambda f: f * 2})
    require_fed_by(a, b, ["index", "images", "features", "metrics"])
    for stage in ("clusters", "pseudo_labels", "transfer", "transfer_features", "svm"):
        message = refused(require_fed_by, a, b, [stage])
        assert str(b.stage_path(stage)) in message and f"not fed by {a.stage_path('features')}" in message
        write_stage(b, stage, fed_by=a)
        require_fed_by(a, b, [stage])


def test_a_run_must_be_varied_as_it_is_said_to_be(ab):
    a, b = ab
    write_stage(b, "transfer", variation="threads")
    require_fed_by(a, b, ["transfer"], "threads")
    assert "is threads, where --isolated needs one that is not varied" in refused(require_fed_by, a, b, ["transfer"])
    said = refused(require_fed_by, a, b, ["transfer"], "reference", option="--reference")
    assert "is threads, where --reference needs one that is reference" in said
    said = refused(require_fed_by, a, b, ["svm"], "threads", option="--floor-a")
    assert "is not varied, where --floor-a needs one that is threads" in said


# ---------------------------------------------------------------- what may differ


def test_what_may_differ_and_does_is_listed(ab):
    torch, caffe = SURROUNDINGS["torch"], SURROUNDINGS["caffe"]
    assert may_differ(*ab) == [
        {"name": "side", "a": "caffe", "b": "torch"},
        {"name": "version.caffe", "a": caffe["versions"]["caffe"], "b": ABSENT},
        {"name": "version.numpy", "a": caffe["versions"]["numpy"], "b": torch["versions"]["numpy"]},
        {"name": "version.torch", "a": ABSENT, "b": torch["versions"]["torch"]},
    ]
    assert may_differ(ab[0], ab[0]) == []


def test_threads_and_machine_that_differ_are_listed_by_stage_where_a_run_is_not_of_one(ab):
    write_stage(ab[1], "svm", threads=16, machine={"cpu": "other", "cores": 2})
    found = {entry["name"]: entry for entry in may_differ(*ab)}
    others = ", ".join(stage for stage in STAGES if stage != "svm")
    assert found["threads"] == {"name": "threads", "a": "2", "b": f"2 ({others}); 16 (svm)"}
    assert found["machine.cpu"]["b"] == f"toy ({others}); other (svm)"
    assert "machine.cores" not in found


def test_an_unfinished_stage_has_no_surroundings(ab):
    write_stage(ab[1], "svm", threads=16)
    (ab[1].stage_path("svm") / MANIFEST).unlink()
    assert "threads" not in {entry["name"] for entry in may_differ(*ab)}


def test_older_manifests_without_a_machine_can_be_listed(ab):
    path = own(ab[1].path, "index").stage_path("index") / MANIFEST
    write_json(path, {k: v for k, v in json.loads(path.read_text()).items() if k != "machine"})
    assert "machine.cpu" not in {entry["name"] for entry in may_differ(*ab)}


def test_a_run_that_was_varied_or_fed_by_another_is_told_where_it_belongs(tmp_path):
    require_chained(write_run(tmp_path / "plain"))
    write_run(tmp_path / "varied", variation="threads")
    assert "is threads" in refused(require_chained, RunFolder(tmp_path / "varied"))
    run = write_run(tmp_path / "isolated")
    path = run.stage_path("transfer") / MANIFEST
    manifest = json.loads(path.read_text())
    write_json(path, {**manifest, "key_parts": {**manifest["key_parts"], "forced": "0" * 64}})
    assert "give it to --isolated" in refused(require_chained, run)
