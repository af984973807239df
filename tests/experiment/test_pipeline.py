"""The pipeline: what is run again, what is skipped, what is taken over, and what stops it."""

import fcntl
import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from fake_side import FakeSide, downstream, write_module, write_spec

from experiment import pipeline
from experiment.errors import UserError
from experiment.pipeline import peak_memory
from experiment.stages import STAGES, VARIATIONS, VARIED_IMAGES
from experiment.threads import other_threads
from tests.conftest import PROJECT

SECTIONS = list(dict.fromkeys(section for info in STAGES.values() for section in info.sections))
PROTOTXTS = list(dict.fromkeys(name for info in STAGES.values() for name in info.prototxts))
DRAWING = [stage for stage, info in STAGES.items() if info.draws and stage != "resnet101"]


@pytest.fixture
def side(tmp_path) -> FakeSide:
    return FakeSide(tmp_path / "side", tmp_path / "run")


@pytest.fixture
def done(side) -> FakeSide:
    """A side whose every stage is finished."""
    assert side.reproduce() == list(STAGES)
    return side


def test_every_stage_reads_only_earlier_ones():
    order = list(STAGES)
    for stage, info in STAGES.items():
        assert all(order.index(earlier) < order.index(stage) for earlier in info.inputs)


def test_finished_stages_are_skipped(done, capsys):
    before = {stage: done.run.stage_path(stage).stat().st_mtime_ns for stage in STAGES}
    capsys.readouterr()
    assert done.reproduce() == []
    assert capsys.readouterr().err.splitlines() == [f"torch {stage}: up to date" for stage in STAGES]
    assert {stage: done.run.stage_path(stage).stat().st_mtime_ns for stage in STAGES} == before


@pytest.mark.parametrize("section", SECTIONS)
def test_a_changed_section_reruns_exactly_the_stages_downstream(done, section):
    write_spec(done.run.path, **{section: 7})
    expected = downstream(*(stage for stage, info in STAGES.items() if section in info.sections))
    assert done.reproduce() == expected
    assert done.reproduce() == []


def test_a_changed_seed_reruns_what_draws_and_all_downstream(done):
    before = done.drawn()
    write_spec(done.run.path, run=2)
    assert done.reproduce() == downstream(*(stage for stage, info in STAGES.items() if info.draws))
    assert all(before[name] != values for name, values in done.drawn().items())


@pytest.mark.parametrize("name", [*PROTOTXTS, "external weights", "external photographs"])
def test_a_changed_file_from_outside_reruns_the_stages_that_read_it(done, name):
    """The fake results do not depend on the files, so nothing further downstream is stale."""
    write_spec(done.run.path, **{name: 7})
    key = name.rpartition(" ")[2]
    assert done.reproduce() == [stage for stage, info in STAGES.items() if key in info.prototxts + info.external]


@pytest.mark.parametrize("change", ["new file", "new size", "new time"])
def test_a_changed_devkit_reruns_the_stages_that_read_it(side, change):
    folder = side.run.path.parent / "devkit" / "JPEGImages"
    (folder / "000001.jpg").write_bytes(b"a")
    side.reproduce()
    if change == "new time":
        os.utime(folder / "000001.jpg", ns=(1, 1))
    else:
        (folder / ("000002.jpg" if change == "new file" else "000001.jpg")).write_bytes(b"ab")
    assert side.reproduce() == ["index", "images"]


@pytest.mark.parametrize("stage", STAGES)
def test_changed_code_reruns_its_stage_and_those_downstream(done, stage):
    write_module(done.folder, stage, version=2)
    assert done.reproduce() == downstream(stage)


def test_code_that_changes_no_result_stops_at_its_stage(done):
    before = done.results()
    write_module(done.folder, "images", extra="\n# a comment\n")
    assert done.reproduce() == ["images"]
    assert done.results() == before


def test_a_changed_helper_of_the_package_reruns_everything(done):
    (done.folder / "helper.py").write_text("x = 1\n")
    assert done.reproduce() == list(STAGES)
    (done.folder / "helper.py").write_text("x = 2\n")
    assert done.reproduce() == list(STAGES)


def test_the_results_of_a_partial_rerun_are_those_of_a_fresh_run(done, tmp_path):
    write_spec(done.run.path, clusters=3)
    done.reproduce()
    fresh = FakeSide(tmp_path / "other_side", tmp_path / "fresh")
    write_spec(fresh.run.path, clusters=3)
    fresh.reproduce()
    assert done.results() == fresh.results()


def test_only_the_stages_named_are_run(done):
    write_spec(done.run.path, index=3)
    assert done.reproduce("--only", "index") == ["index"]
    assert done.reproduce("--only", "svm", "--only", "images") == ["images", "svm"]


@pytest.mark.parametrize(("name", "variation"), [(side, name) for side in VARIATIONS for name in VARIATIONS[side]])
def test_a_varied_run_is_of_its_own_kind_and_holds_what_the_variation_touches(tmp_path, name, variation):
    side = FakeSide(tmp_path / "side", tmp_path / "run", side=name)
    side.reproduce()
    options = ("--vary", variation, "--inputs", side.run.path, "--draws", side.run.path)
    varied = FakeSide(side.folder, tmp_path / "varied", side=name)
    assert varied.reproduce(*options) == list(VARIATIONS[name][variation])
    for stage in VARIATIONS[name][variation]:
        assert all(given.variation == variation and given.limit == VARIED_IMAGES for given in varied.stages(stage))
        assert varied.run.require_manifest(stage)["key_parts"]["variation"] == variation
    assert varied.reproduce(*options) == []
    # Neither stands for the other.
    assert varied.reproduce("--inputs", side.run.path, "--draws", side.run.path) == list(STAGES)
    assert all(given.variation == "" and given.limit is None for given in varied.stages("features"))


def test_only_the_batch_variation_changes_the_batch(side, tmp_path):
    caffe = FakeSide(tmp_path / "caffe_side", tmp_path / "caffe", side="caffe")
    caffe.reproduce()
    assert [caffe.stages("features")[0].batch_size(size) for size in (1, 2, 9)] == [1, 2, 9]
    varied = FakeSide(caffe.folder, tmp_path / "varied", side="caffe")
    varied.reproduce("--vary", "batch", "--inputs", caffe.run.path, "--draws", caffe.run.path)
    assert [varied.stages("features")[0].batch_size(size) for size in (1, 2, 9)] == [2, 1, 4]


def test_only_where_threads_are_varied_another_number_of_them_is_another_result(tmp_path):
    side = FakeSide(tmp_path / "side", tmp_path / "run")
    side.reproduce("--threads", "2")
    assert side.reproduce("--threads", "1") == [] and other_threads(side.run) == 1
    varied = FakeSide(side.folder, tmp_path / "varied")
    options = ("--vary", "threads", "--inputs", side.run.path, "--draws", side.run.path)
    assert varied.reproduce(*options, "--threads", "1") == list(VARIATIONS["torch"]["threads"])
    assert varied.reproduce(*options, "--threads", "1") == []
    assert varied.reproduce(*options, "--threads", "3") == list(VARIATIONS["torch"]["threads"])


def test_the_other_number_of_threads_is_one_that_no_stage_had(side):
    side.reproduce("--threads", "1")
    assert other_threads(side.run) == 2
    write_spec(side.run.path, svm=3)
    side.reproduce("--threads", "2")  # svm and metrics alone
    assert other_threads(side.run) == 3


def test_a_varied_run_needs_the_inputs_of_another(side):
    with pytest.raises(UserError, match="--vary threads needs --inputs"):
        side.reproduce("--vary", "threads")


@pytest.mark.parametrize("variation", ["last-bit", "batch", "unheard-of"])
def test_a_side_has_its_own_variations(side, variation):
    with pytest.raises(SystemExit):
        side.reproduce("--vary", variation)


def test_an_isolated_run_goes_on_from_the_other_sides_own_outputs(side, tmp_path):
    caffe = FakeSide(tmp_path / "caffe_side", tmp_path / "caffe", side="caffe")
    caffe.reproduce()
    side.reproduce("--draws", caffe.run.path)
    assert all(stage.forced("result") is None for stage in side.stages("transfer"))
    isolated = FakeSide(side.folder, tmp_path / "isolated")
    isolated.reproduce("--inputs", caffe.run.path, "--draws", caffe.run.path)
    (stage,) = isolated.stages("transfer")
    assert stage.forced("fc1_bias_initial").tolist() == caffe.drawn()["fc1_bias_initial"]
    (stage,) = isolated.stages("clusters")
    assert stage.forced("initial_centroids") is None  # only where the table of stages says so


def test_draws_of_another_specification_are_not_taken(side, tmp_path, capsys):
    caffe = FakeSide(tmp_path / "caffe_side", tmp_path / "caffe", side="caffe")
    write_spec(caffe.run.path, transfer=5)
    caffe.reproduce()
    side.reproduce("--draws", caffe.run.path)
    assert "transfer: " in capsys.readouterr().err
    assert side.drawn()["initial_centroids"] == caffe.drawn()["initial_centroids"]
    assert all(stage.draw("fc1_bias_initial") is None for stage in side.stages("transfer"))


def test_a_damaged_draw_stops_in_one_line(side, tmp_path):
    caffe = FakeSide(tmp_path / "caffe_side", tmp_path / "caffe", side="caffe")
    caffe.reproduce()
    path = caffe.run.output_path("clusters", "initial_centroids")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="initial_centroids"):
        side.reproduce("--draws", caffe.run.path)


def test_other_versions_of_what_computes_rerun_everything(done):
    assert done.reproduce(versions={"fake": "2"}) == list(STAGES)
    assert done.reproduce(versions={"fake": "2"}) == []


def test_a_stage_without_its_inputs_stops(side):
    with pytest.raises(UserError, match="01-index is unfinished"):
        side.reproduce("--only", "images")
    assert side.run.manifest("images") is None


def test_inputs_come_from_another_run_when_it_is_given(done, tmp_path):
    write_module(done.folder, "index", version=5)
    isolated = FakeSide(tmp_path / "isolated_side", tmp_path / "isolated")
    done.reproduce()
    assert isolated.reproduce("--inputs", done.run.path) == list(STAGES)
    same = {stage for stage in STAGES if isolated.results()[stage] == done.results()[stage]}
    assert same == set(STAGES) - {"index"}  # fed alike, so only the changed stage itself differs
    write_module(done.folder, "features", version=5)
    done.reproduce()
    stale = [stage for stage, info in STAGES.items() if set(downstream("features")) & set(info.inputs)]
    assert isolated.reproduce("--inputs", done.run.path) == stale


def test_draws_come_from_another_run_when_it_is_given(side, tmp_path):
    other = FakeSide(tmp_path / "caffe_side", tmp_path / "caffe", side="caffe")
    for stage in DRAWING:
        write_module(other.folder, stage, version=2)
    write_module(other.folder, "resnet101", version=2)
    side.reproduce()
    own = side.drawn()
    assert side.reproduce("--draws", other.run.path) == []  # it holds no draws yet
    other.reproduce()
    assert own != other.drawn()
    assert set(side.reproduce("--draws", other.run.path)) == set(downstream(*DRAWING, "resnet101"))
    assert side.drawn() == other.drawn()
    assert side.reproduce("--draws", other.run.path) == []


def test_streams_have_seeds_of_their_own_in_31_bits(side):
    side.reproduce()
    seeds = [value for values in side.drawn().values() for value in values]
    assert len(set(seeds)) == len(seeds) > 1
    assert all(0 <= seed < 2**31 for seed in seeds)
    digest = hashlib.sha256(b"1/initial_centroids").digest()
    assert side.drawn()["initial_centroids"] == [int.from_bytes(digest[:4], "big") % 2**31]


def test_stages_that_would_be_the_same_are_taken_over(done, tmp_path, capsys):
    second = FakeSide(done.folder, tmp_path / "second")
    write_spec(second.run.path, svm=5)
    capsys.readouterr()
    assert second.reproduce("--reuse", done.run.path) == ["svm", "metrics"]
    lines = capsys.readouterr().err.splitlines()
    assert "torch index: the same as in run" in lines
    assert second.results() == {**done.results(), **{s: second.results()[s] for s in ("svm", "metrics")}}
    assert second.reproduce() == []


def test_another_sides_stages_are_not_taken_over(done, tmp_path):
    other = FakeSide(done.folder, tmp_path / "other", side="caffe")
    assert other.reproduce("--reuse", done.run.path) == list(STAGES)


def test_a_run_in_use_is_refused(done):
    folder = os.open(done.run.path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with pytest.raises(UserError, match="in use"):
        done.reproduce()
    os.close(folder)
    assert done.reproduce() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec["values"]["svm"].update(x=1),
        lambda spec: spec["values"].pop("svm"),
        lambda spec: spec.update(sha256="0" * 64),
        lambda spec: spec.pop("values"),
        lambda spec: spec.pop("external"),
        lambda spec: spec["prototxt"].update({"solver.prototxt": "0" * 64}),
        lambda spec: spec["prototxt"].update({"other.prototxt": "0" * 64}),
        lambda spec: spec.clear(),
    ],
)
def test_a_spec_changed_by_hand_is_refused(done, change):
    path = done.run.path / "spec.json"
    spec = json.loads(path.read_text())
    change(spec)
    path.write_text(json.dumps(spec))
    with pytest.raises(UserError, match=r"spec\.json"):
        done.reproduce()


@pytest.mark.parametrize("change", ["edit", "delete"])
def test_a_prototxt_changed_by_hand_is_refused(done, change):
    path = done.run.prototxt("solver.prototxt")
    path.write_text("base_lr: 1\n") if change == "edit" else path.unlink()
    with pytest.raises(UserError, match=r"solver\.prototxt is not what spec\.json records"):
        done.reproduce()


def test_a_run_that_was_never_resolved_is_refused(done):
    (done.run.path / "spec.json").unlink()
    with pytest.raises(UserError, match=r"spec\.json is missing"):
        done.reproduce()


def test_the_manifest_records_what_was_used(done):
    manifest = done.run.require_manifest("transfer")
    assert manifest["stage"] == "transfer" and manifest["side"] == "torch"
    assert manifest["versions"] == {"fake": "1"}
    assert manifest["spec_sha256"] == done.run.spec["sha256"]
    assert manifest["seconds"] >= 0 and manifest["threads"] >= 1
    assert manifest["machine"]["cores"] == os.cpu_count() and manifest["machine"]["cpu"]
    assert manifest["attempts"] == 1 and manifest["peak_memory"] > 1 << 20 and manifest["origins"] == {}
    assert set(manifest["key_parts"]["inputs"]) == {"features", "pseudo_labels"}
    assert set(manifest["outputs"]) == {"result", *STAGES["transfer"].draws}


@pytest.mark.parametrize("changed", ["index", "clusters", "svm"])
def test_what_is_announced_is_what_will_be_made(changed, done, monkeypatch):
    """Finished stages of another specification are not counted as done; nothing is told where nothing is left."""
    told = []
    monkeypatch.setattr(pipeline, "announce", lambda run, left, measure, engine: told.append(left))
    assert done.reproduce("--plan") == [] and told == []
    write_spec(done.run.path, **{changed: 1})
    made = done.reproduce("--plan")
    assert made[0] == changed and told == [made]


def test_the_processor_is_what_linux_tells_of_the_first_core(monkeypatch):
    """As /proc/cpuinfo is written: a block a core, with a blank line behind each."""
    cores = ["processor\t: 0", "vendor_id\t: GenuineIntel", "power management:", "", "processor\t: 1", ""]
    monkeypatch.setattr(pipeline, "lines_of", lambda path: cores)
    assert pipeline.processor() == {"processor": "0", "vendor_id": "GenuineIntel", "power management": ""}
    monkeypatch.setattr(pipeline, "lines_of", lambda path: [])
    assert pipeline.processor() == {}


def test_peak_memory_is_of_this_process_alone():
    """getrusage's would be no less than what the process that starts it holds."""
    held = np.ones(2**28, np.uint8)
    code = "from experiment.pipeline import peak_memory; print(peak_memory())"
    peak = int(subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, check=True).stdout)
    assert 1 << 20 < peak < held.nbytes < peak_memory()


ENGINE = """
def engine(asked, variation):
    from experiment.errors import UserError
    if asked == "none":
        raise UserError("there is no engine 'none'")
    return {"engine": "plain" if variation else {"auto": "fast"}.get(asked, asked), "package": "1"}
"""


def test_another_engine_runs_its_stage_again_and_is_recorded(tmp_path):
    side = FakeSide(tmp_path / "side", tmp_path / "run")
    write_module(side.folder, "features", extra=ENGINE)
    side.reproduce()
    assert [given.engine for stage in ("features", "svm") for given in side.stages(stage)] == ["fast", ""]
    manifest = side.run.require_manifest("features")
    assert manifest["versions"] == {"fake": "1", "engine": "fast", "package": "1"}
    assert manifest["key_parts"]["engine"] == {"engine": "fast", "package": "1"}
    assert "engine" not in side.run.require_manifest("svm")["key_parts"]
    assert side.reproduce("--engine", "fast") == []
    assert side.reproduce("--engine", "slow") == ["features"]
    assert side.stages("features")[0].engine == "slow"


def test_an_engine_that_is_refused_stops_the_run_before_its_first_stage(tmp_path):
    side = FakeSide(tmp_path / "side", tmp_path / "run")
    write_module(side.folder, "features", extra=ENGINE)
    with pytest.raises(UserError, match="no engine 'none'"):
        side.reproduce("--engine", "none")
    assert side.called == []


def test_the_caffe_side_has_no_engines(tmp_path):
    with pytest.raises(SystemExit):
        FakeSide(tmp_path / "side", tmp_path / "run", side="caffe").reproduce("--engine", "auto")
