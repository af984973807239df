"""What stops a comparison before any number, with its name and its remedy; and what may differ and is listed."""

import json

import pytest
from fake_pair import SURROUNDINGS, change_parts, change_spec, digest_of, feed, link_run, own, write_run, write_stage

from compare.comparable import (
    ABSENT,
    may_differ,
    require_chained,
    require_comparable,
    require_current,
    require_fed_by,
    require_same_program,
)
from experiment.artifacts import MANIFEST, RunFolder, sha256_json, write_json
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
    "a prototxt that no stage reads": (lambda s: s["prototxt"].update({"more.prototxt": digest_of(b"more")}),
                                       f"prototxt.more.prototxt is '-' and '{digest_of(b'more')}'",
                                       "run both sides again"),
    "a file from outside": (lambda s: s["external"].update(mean={"path": "/m", "sha256": "9"}),
                            "mean.sha256 is '-' and '9'", "the same MEAN"),
    "sample photographs": (lambda s: s["external"]["photographs"].update(sha256="9"),
                           f"photographs.sha256 is '{'f' * 64}' and '9'", "the same scikit-learn"),
}  # fmt: skip


@pytest.mark.parametrize("case", DIFFERENCES)
def test_a_difference_of_what_was_asked_for_stops_with_its_name_and_remedy(ab, case):
    change, said, remedy = DIFFERENCES[case]
    ab[1].prototxt("more.prototxt").write_text("more")
    change_spec(ab[1].path, change)
    for stage in ("features", "resnet101"):  # which read files from outside, of now
        write_stage(ab[1], stage)
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
    "transfer": (lambda s: s["prototxt"].update({"solver.prototxt": digest_of(b"other")}), "solver.prototxt"),
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
        if stage == "transfer":
            run.prototxt("solver.prototxt").write_text("other")
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
    said = refused(require_fed_by, a, b, ["svm"], "threads", option="--varied-a")
    assert "is not varied, where --varied-a needs one that is threads" in said


# ---------------------------------------------------------------- started from run a's draws

DRAWS = [(stage, name) for stage, info in STAGES.items() for name in info.draws]


@pytest.fixture
def fed(runs):
    """Run a, and a run that it fed."""
    return RunFolder(runs.a), RunFolder(runs.isolated)


@pytest.mark.parametrize("digest", [None, "0" * 64])
@pytest.mark.parametrize(("stage", "name"), DRAWS)
def test_a_run_that_drew_anything_by_itself_was_not_fed_by_run_a(fed, stage, name, digest):
    a, run = fed
    require_fed_by(a, run, STAGES)
    change_parts(run.path, stage, lambda parts: parts["draws"].update({name: digest}))
    said = f"{run.stage_path(stage)} did not start from what {a.stage_path(stage)} drew, as --varied-b must"
    assert said in refused(require_fed_by, a, run, STAGES, option="--varied-b")
    require_fed_by(a, run, [other for other in STAGES if other != stage])


@pytest.mark.parametrize(("stage", "name"), [("clusters", "initial_centroids"), ("transfer", "fc1_weight_initial")])
def test_the_draws_are_run_as_present_ones(fed, stage, name):
    a, run = fed
    write_stage(a, stage, {(stage, name): lambda array: array[::-1]})
    feed(a.path)
    feed(run.path, fed_by=a.path)
    assert f"did not start from what {a.stage_path(stage)} drew" in refused(require_fed_by, a, run, STAGES)
    require_fed_by(a, a, STAGES)  # whatever it drew is its own


def test_segments_go_on_from_run_as_present_snapshots_or_there_are_none(fed):
    a, run = fed
    found = run.require_manifest("transfer")["key_parts"]["forced"]
    assert found == sha256_json({name: e["sha256"] for name, e in a.require_manifest("transfer")["outputs"].items()})
    for forced, agrees in ((None, True), ("0" * 64, False), ("", False), (found, True)):
        change_parts(run.path, "transfer", lambda parts, forced=forced: parts.update(forced=forced))
        if agrees:
            require_fed_by(a, run, STAGES)
        else:
            assert "did not start from what" in refused(require_fed_by, a, run, STAGES)
    write_stage(a, "transfer", {("transfer", "snapshots/2/fc1_bias"): lambda bias: bias + 1})
    feed(a.path)
    assert "did not start from what" in refused(require_fed_by, a, run, ["transfer"])


# ---------------------------------------------------------------- made by this version


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    "part", ["spec", "inputs", "variation", "external", "prototxt", "draws", "forced", "code", "versions"]
)
def test_a_stage_whose_key_lacks_a_part_was_made_by_another_version(ab, which, part):
    change_parts(ab[which].path, "clusters", lambda parts: parts.pop(part))
    path = ab[which].stage_path("clusters") / MANIFEST
    assert f"{path} was made by another version: run this side again" in refused(require_comparable, *ab)


@pytest.mark.parametrize("parts", [None, [], "x", {}])
def test_a_stage_without_the_parts_of_its_key_was_made_by_another_version(ab, parts):
    path = own(ab[1].path, "svm").stage_path("svm") / MANIFEST
    write_json(path, {**json.loads(path.read_text()), "key_parts": parts})
    assert f"{path} was made by another version" in refused(require_comparable, *ab)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("found", [None, [], ["0" * 64], "x", 3])
def test_hashes_of_images_that_are_no_table_stop(ab, which, found):
    write_stage(ab[which], "index", {("index", "image_sha256"): lambda _: found})
    assert "image_sha256 must be a table of images in both" in refused(require_comparable, *ab)
    require_comparable(*ab, stages=["clusters"])


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
    plain = write_run(tmp_path / "plain")
    require_chained(plain)
    write_run(tmp_path / "varied", variation="threads")
    assert "is threads" in refused(require_chained, RunFolder(tmp_path / "varied"))
    run = write_run(tmp_path / "isolated")
    change_parts(run.path, "transfer", lambda parts: parts.update(forced="0" * 64))
    assert "give it to --isolated" in refused(require_chained, run)


@pytest.mark.parametrize("stage", [stage for stage, info in STAGES.items() if info.inputs])
def test_a_run_of_which_one_stage_was_fed_by_another_is_not_chained(tmp_path, ab, stage):
    other = write_run(tmp_path / "other", {("index", "classes"): lambda names: names[::-1]} | {
        (earlier, name): lambda array: array + 1
        for earlier, name in (("images", "hr_test"), ("features", "hr_test"), ("clusters", "centroids"),
                              ("pseudo_labels", "labels"), ("transfer", "loss"), ("transfer_features", "test"),
                              ("svm", "ours"))
    })  # fmt: skip
    require_chained(ab[0])
    write_stage(ab[0], stage, fed_by=other)
    change_parts(ab[0].path, "transfer", lambda parts: parts.update(forced=None))
    assert f"{ab[0].stage_path(stage)} was not fed by {ab[0].path}/" in refused(require_chained, ab[0])
    feed(ab[0].path)
    require_chained(ab[0])


# ---------------------------------------------------------------- the specification as it was resolved


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec["values"]["compare"].update(margin=99.0),
        lambda spec: spec["values"].clear(),
        lambda spec: spec.update(sha256="0" * 64),
        lambda spec: spec.pop("external"),
        lambda spec: spec.update(external=[]),
        lambda spec: spec.update(external=None),
        lambda spec: spec.pop("prototxt"),
        lambda spec: spec.update(prototxt=[]),
        lambda spec: spec.update(prototxt="solver.prototxt"),
        lambda spec: spec.update(values=[]),
        lambda spec: spec.clear(),
    ],
)
def test_a_specification_that_was_changed_by_hand_stops(ab, which, change):
    path = ab[which].path / "spec.json"
    spec = json.loads(path.read_text())
    change(spec)
    path.write_text(json.dumps(spec))
    assert f"{path} was changed by hand" in refused(require_comparable, *ab)


@pytest.mark.parametrize("text", ["[]", "null", '"spec"'])
def test_a_specification_that_is_none_stops(ab, text):
    (ab[0].path / "spec.json").write_text(text)
    assert f"{ab[0].path / 'spec.json'} was changed by hand" in refused(require_comparable, *ab)


def test_a_prototxt_that_is_not_the_recorded_one_stops(ab):
    path = ab[1].prototxt("solver.prototxt")
    path.write_text("base_lr: 1")
    assert f"{path} is not what spec.json records" in refused(require_comparable, *ab)
    path.unlink()
    assert f"{path} is not what spec.json records" in refused(require_comparable, *ab)


# ---------------------------------------------------------------- the same program


@pytest.mark.parametrize("part", ["side", "code", "versions"])
def test_runs_of_different_programs_are_told_apart_in_each_of_their_stages(ab, part):
    a, _ = ab
    other = RunFolder(link_run(a.path, a.path.parent / "other"))
    require_same_program(a, other, STAGES)
    change_parts(other.path, "svm", lambda parts: parts.update({part: "another"}))
    for one, two in ((a, other), (other, a)):
        said = refused(require_same_program, one, two, STAGES)
        assert f"{one.stage_path('svm')} is of other {part} than {two.stage_path('svm')}" in said
    require_same_program(a, other, [stage for stage in STAGES if stage != "svm"])


def test_the_same_program_may_have_another_number_of_threads(ab):
    a, _ = ab
    other = RunFolder(link_run(a.path, a.path.parent / "other"))
    write_stage(other, "svm", threads=16)
    require_same_program(a, other, STAGES)


def test_features_of_another_engine_are_another_program_unless_the_ports_own_net_is_varied(ab):
    a, _ = ab
    other = RunFolder(link_run(a.path, a.path.parent / "other"))
    change_parts(other.path, "features", lambda parts: parts.update({"engine": {"engine": "fast"}}))
    said = refused(require_same_program, other, a, STAGES)
    assert f"{other.stage_path('features')} is of other engine than {a.stage_path('features')}" in said
    for variation, same in (("reference", True), ("layout", True), ("threads", False)):
        change_parts(a.path, "features", lambda parts, told=variation: parts.update({"variation": told}))
        if same:
            require_same_program(a, other, STAGES)
        else:
            assert "other engine" in refused(require_same_program, a, other, STAGES)
