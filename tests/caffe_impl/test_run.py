"""The whole literal side on a devkit of a few images, through its command line in the container."""

import json
import re

import numpy as np
import pytest

from experiment.artifacts import RunFolder, sha256_file
from experiment.resolve import resolve
from experiment.stages import STAGES, VARIATIONS, folder_name
from tests.caffe_impl.conftest import in_container
from tests.small_devkit import small_devkit

pytestmark = pytest.mark.caffe

TRAINVAL, TEST, SIZE, FEATURES, CLUSTERS, N1 = 14, 9, 32, 12, 3, 5
OVERRIDES = (
    "images.hr_size=32", "images.lr_size=8", "backbone.conv1_channels=4", "backbone.widths=[2, 3]",
    "backbone.blocks=[1, 2]", "backbone.classes=5", "features.batch_size=4", "features.blob_images=2", "clusters.k=3",
    "transfer.n1=5", "transfer.n2=3", "transfer.batch_size=10", "transfer.stepsize=8", "transfer.max_iter=20",
    "transfer.snapshots=[1, 2, 20]", 'resnet101.crops=[["china.jpg", 0, 0]]',
)  # fmt: skip


@pytest.fixture(scope="module")
def devkit(tmp_path_factory):
    """One image is difficult, and one class is called train, as a list of VOC2007's is."""
    return small_devkit(tmp_path_factory.mktemp("devkit"), TRAINVAL, TEST, ("train", "warm"))


def resolve_run(run, devkit, weights):
    """Write a run's spec.json for the devkit and the weights."""
    digest = sha256_file(weights)
    resolve("embedded", run, devkit, weights, overrides=(*OVERRIDES, f"backbone.weights_sha256={digest}"))
    run.chmod(0o777)  # under sudo the container runs as the user who called sudo


def reproduce(run, devkit, weights, *options):
    """The side's command line in the container."""
    return in_container(
        "python3", "-m", "caffe_impl", run, "--threads", 2, *options, read=[devkit, weights], write=[run]
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory, devkit, case_folder):
    """A finished run, and the process that made it."""
    run = tmp_path_factory.mktemp("run") / "caffe"
    weights = case_folder / "small.caffemodel"
    resolve_run(run, devkit, weights)
    process = reproduce(run, devkit, weights)
    assert process.returncode == 0, process.stderr[-3000:]
    return RunFolder(run), process


ARRAYS = {
    "index": {"labels_trainval": ((TRAINVAL, 2), "|i1"), "labels_test": ((TEST, 2), "|i1")},
    "images": {
        f"{resolution}_{split}": ((n, SIZE, SIZE, 3), "|u1")
        for resolution in ("hr", "lr")
        for split, n in (("trainval", TRAINVAL), ("test", TEST))
    },
    "features": {
        f"{resolution}_{split}": ((n, FEATURES), "<f4")
        for resolution in ("hr", "lr")
        for split, n in (("trainval", TRAINVAL), ("test", TEST))
    },
    "clusters": {
        "initial_centroids": ((CLUSTERS, FEATURES), "<f4"),
        "centroids": ((CLUSTERS, FEATURES), "<f4"),
        "assignments": ((TRAINVAL,), "<i4"),
    },
    "pseudo_labels": {"labels": ((TRAINVAL,), "<i4")},
    "transfer": {
        "loss": ((20,), "<f4"),
        **{
            f"{place}{name}{suffix}": (shape, "<f4")
            for name, shape in (
                ("fc1_weight", (N1, FEATURES)),
                ("fc1_bias", (N1,)),
                ("fc2_weight", (CLUSTERS, N1)),
                ("fc2_bias", (CLUSTERS,)),
            )
            for place, suffix in (
                ("", ""), ("", "_initial"),
                *((f"snapshots/{iteration}/", kind) for iteration in (1, 2, 20) for kind in ("", "_history")),
            )
        },
    },
    "transfer_features": {"trainval": ((TRAINVAL, CLUSTERS), "<f4"), "test": ((TEST, CLUSTERS), "<f4")},
    "svm": {
        f"{row}{suffix}": (shape, "<f8")
        for row in ("baseline_hr", "baseline_lr", "ours")
        for suffix, shape in (("", (TEST, 2)), ("_dual", (2, TRAINVAL)))
    },
    "metrics": {},
    "resnet101": {"photographs": ((1, 224, 224, 3), "|u1")},
}  # fmt: skip
JSON = {
    "index": {"classes", "ids_trainval", "ids_test", "image_sha256"},
    "features": {"blob_names"},
    "clusters": {"summary"},
    "svm": {"summary"},
    "metrics": {"metrics"},
    "resnet101": {"blob_names"},
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_leaves_the_artifacts_of_the_contract(finished, stage):
    run = finished[0]
    manifest = run.require_manifest(stage)
    assert manifest["stage"] == stage and manifest["side"] == "caffe" and manifest["threads"] == 2
    for name, (shape, dtype) in ARRAYS[stage].items():
        array = run.array(stage, name)
        assert (array.shape, array.dtype.str) == (shape, dtype), name
        assert np.isfinite(array).all(), name
    found = {name for name, entry in manifest["outputs"].items() if entry["kind"] == "json"}
    assert found == JSON.get(stage, set())
    arrays = {name for name, entry in manifest["outputs"].items() if entry["kind"] == "array"}
    assert {name for name in arrays if not name.startswith("blobs/")} == set(ARRAYS[stage])


@pytest.mark.parametrize(("stage", "images", "last"), [("features", 2, "prob"), ("resnet101", 1, "prob")])
def test_every_blob_of_the_net_is_kept_in_forward_order(finished, stage, images, last):
    run = finished[0]
    names = run.json(stage, "blob_names")
    assert names[0] == "data" and names[1] == "conv1" and names[-1] == last
    for position, name in enumerate(names):
        assert len(run.array(stage, f"blobs/{position:03d}-{name}")) == images
    # conv1's ReLU is in place: what is kept is what comes after it.
    assert run.array(stage, "blobs/001-conv1").min() == 0
    features = run.array(stage, f"blobs/{names.index('pool5'):03d}-pool5").reshape(images, -1)
    if stage == "features":
        assert np.allclose(features, run.array(stage, "hr_trainval")[:images], rtol=1e-5, atol=1e-6)


def test_labels_ids_and_hashes_are_the_devkit_s(finished, devkit):
    run = finished[0]
    assert run.json("index", "classes") == ["train", "warm"]
    labels = run.array("index", "labels_trainval").tolist()
    assert labels[0] == [1, -1] and labels[1] == [-1, 1] and labels[3] == [0, -1]
    hashes = run.json("index", "image_sha256")
    assert len(hashes) == TRAINVAL + TEST
    assert hashes["000005"] == sha256_file(devkit / "JPEGImages/000005.jpg")


def test_summaries_say_what_the_contract_asks(finished):
    run = finished[0]
    assert set(run.json("clusters", "summary")) == {"inertia", "iterations"}
    svm = run.json("svm", "summary")
    assert set(svm) == {"baseline_hr", "baseline_lr", "ours"} and set(svm["ours"]) == {"train", "warm"}
    for row, classes in svm.items():
        for position, name in enumerate(("train", "warm")):
            assert set(classes[name]) == {"support_vectors", "rho", "objective"}
            assert classes[name]["support_vectors"] == np.count_nonzero(run.array("svm", f"{row}_dual")[position])
    for measures in run.json("metrics", "metrics").values():
        assert measures["map_11point"] == pytest.approx(np.mean(measures["ap_11point"]))
        assert measures["map_area"] == pytest.approx(np.mean(measures["ap_area"]))
        assert all(0 < ap <= 1 for ap in measures["ap_11point"] + measures["ap_area"])


def test_manifests_name_what_computed_and_the_blas_is_openblas(finished):
    versions = finished[0].require_manifest("features")["versions"]
    assert {"python", "numpy", "caffe", "opencv", "scikit-learn", "scipy", "h5py", "libsvm", "openblas"} <= set(
        versions
    )
    assert versions["caffe"].startswith("1.0.0+git20180821") and versions["python"].startswith("3.9.")
    assert "libopenblas" in versions["blas"] and "absent" not in versions.values()


def test_progress_and_stages_are_plain_lines(finished):
    stderr = finished[1].stderr
    assert "\r" not in stderr and "\x1b" not in stderr
    assert [name for name in STAGES if re.search(rf"^caffe {name}: [\d.]+ s$", stderr, re.M)] == list(STAGES)


def test_a_second_run_finds_everything_up_to_date(finished, devkit, case_folder):
    run = finished[0]
    before = run.require_manifest("svm")
    process = reproduce(run.path, devkit, case_folder / "small.caffemodel")
    assert process.returncode == 0
    assert process.stderr.count("up to date") == len(STAGES)
    assert run.require_manifest("svm") == before


def test_the_same_seed_gives_the_same_draws_again(finished, devkit, case_folder, tmp_path):
    again = RunFolder(tmp_path / "caffe")
    weights = case_folder / "small.caffemodel"
    resolve_run(again.path, devkit, weights)
    only = [word for stage in list(STAGES)[:6] for word in ("--only", stage)]
    assert reproduce(again.path, devkit, weights, *only).returncode == 0
    for stage, name in (("clusters", "initial_centroids"), ("transfer", "fc1_weight_initial")):
        assert (again.array(stage, name) == finished[0].array(stage, name)).all()


@pytest.fixture(scope="module")
def varied(finished, devkit, case_folder, tmp_path_factory):
    """Variation to the run that was fed by the finished one."""
    runs, weights = {}, case_folder / "small.caffemodel"
    for name in VARIATIONS["caffe"]:
        run = tmp_path_factory.mktemp("varied") / "caffe"
        resolve_run(run, devkit, weights)
        from_finished = ("--inputs", finished[0].path, "--draws", finished[0].path)
        read = [devkit, weights, finished[0].path]
        options = ("--vary", name, *from_finished, "--threads", 1)
        process = in_container("python3", "-m", "caffe_impl", run, *options, read=read, write=[run])
        assert process.returncode == 0, process.stderr[-3000:]
        runs[name] = RunFolder(run)
    return runs


def test_other_threads_and_batches_change_rounding_alone(finished, varied):
    for name in ("threads", "batch"):
        for stage in VARIATIONS["caffe"][name]:
            for output, entry in varied[name].require_manifest(stage)["outputs"].items():
                if entry["kind"] == "array":
                    found, expected = (run.array(stage, output) for run in (varied[name], finished[0]))
                    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert varied["threads"].require_manifest("features")["threads"] == 1


def test_the_last_bits_of_the_drawn_weights_are_changed_and_no_more(finished, varied):
    for name in ("fc1_weight_initial", "fc2_weight_initial"):
        found, drawn = (run.array("transfer", name) for run in (varied["last-bit"], finished[0]))
        steps = (found.view(np.int32) - drawn.view(np.int32)).ravel()
        assert set(steps[drawn.ravel() != 0].tolist()) == {-1, 1}
    assert varied["last-bit"].manifest("features") is None


def assert_refused(process, run, stage, *named):
    """Exit code 2, one line that names what is at fault, no traceback, and no folder for the stage."""
    assert process.returncode == 2
    errors = [line for line in process.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and all(word in errors[0] for word in named)
    assert "Traceback" not in process.stderr and "Check failed" not in process.stderr
    assert not (run / folder_name(stage)).exists()


def test_a_caffemodel_of_another_net_stops_the_run(devkit, case_folder, tmp_path):
    weights = case_folder / "missing.caffemodel"
    resolve_run(tmp_path / "caffe", devkit, weights)
    process = reproduce(tmp_path / "caffe", devkit, weights)
    assert_refused(process, tmp_path / "caffe", "features", "missing.caffemodel", "bn3b_branch2b")


def test_a_jpeg_cut_short_stops_the_run_and_mending_it_lets_it_go_on(devkit, case_folder, tmp_path):
    weights = case_folder / "small.caffemodel"
    jpeg = devkit / "JPEGImages" / "000016.jpg"
    whole = jpeg.read_bytes()
    jpeg.write_bytes(whole[: len(whole) // 2])
    run = tmp_path / "caffe"
    resolve_run(run, devkit, weights)
    try:
        process = reproduce(run, devkit, weights, "--only", "index", "--only", "images")
    finally:
        jpeg.write_bytes(whole)
    assert_refused(process, run, "images", "000016.jpg", "not a whole JPEG")
    assert reproduce(run, devkit, weights, "--only", "index", "--only", "images").returncode == 0
    assert json.loads((run / "02-images/manifest.json").read_text())["outputs"].keys() == ARRAYS["images"].keys()
