"""Blob after blob: the worst image is judged, and the layers that write a blob are named."""

from pathlib import Path

import numpy as np
import pytest
from fake_pair import BLOBS, outputs, write_stage

from compare.backbone import writers
from compare.calibration import Calibrator
from compare.check import Judge
from compare.pair import FinishedRun, Pair
from compare.stages import compare_stage
from experiment.artifacts import RunFolder
from torch_impl.caffe_proto import read_prototxt

PROTOTXT = Path(__file__).resolve().parents[2] / "prototxt"


@pytest.mark.parametrize("name", ["embedded/backbone.prototxt", "ResNet-101-deploy.prototxt"])
def test_the_writers_of_a_blob_are_those_that_protobuf_reads(name):
    expected: dict[str, list[str]] = {}
    for layer in read_prototxt(PROTOTXT / name).layer:
        for top in layer.top:
            expected.setdefault(top, []).append(layer.name)
    assert writers(PROTOTXT / name) == expected and len(expected["conv1"]) > 2  # in-place layers among them


def test_a_net_whose_prototxt_is_not_there_has_no_writers(tmp_path):
    assert writers(tmp_path / "backbone.prototxt") == {}


@pytest.mark.parametrize(
    ("stage", "prototxt"), [("features", "backbone.prototxt"), ("resnet101", "resnet101.prototxt")]
)
def test_the_worst_image_of_a_blob_is_judged_and_its_layers_are_named(runs, pair_of, stage, prototxt):
    (runs.a / "prototxt" / prototxt).write_text(
        'layer {\n  name: "first"\n  type: "Convolution"\n  top: "conv1"\n}\n'
        'layer {\n  name: "relu"\n  bottom: "conv1"\n  top: "conv1"\n}\nlayer {\n  name: "p"\n  top: "pool5"\n}\n'
    )
    blob = outputs()[stage]["blobs/001-conv1"].astype(float)
    by = np.zeros(BLOBS["conv1"])
    by[1, 0, 1, 0] = 0.25
    write_stage(RunFolder(runs.b), stage, {(stage, "blobs/001-conv1"): lambda x: (x + by).astype(np.float32)})
    bad = [check for check in compare_stage(stage, pair_of(runs.a, runs.b)) if not check.agrees]
    assert [check.item for check in bad] == ["blob conv1"]
    assert bad[0].value == pytest.approx(0.25 / np.linalg.norm(blob[1]), rel=1e-6)
    assert bad[0].detail.startswith("worst image 1, max abs 2.50e-01 at (1, 0, 1, 0), p99 2.50e-01")
    assert bad[0].detail.endswith(", written by first, relu")


def test_resnet101s_pool5_has_a_bound_of_its_own(runs, pair_of, tolerances):
    quantities = {c.item: c.quantity for c in compare_stage("resnet101", pair_of(runs.a, runs.b))}
    assert quantities["blob pool5"] == "pool5_relative_l2" and quantities["blob conv1"] == "blob_relative_l2"
    write_stage(RunFolder(runs.b), "resnet101", {
        ("resnet101", f"blobs/{i:03d}-{name}"): lambda x: (x * (1 + 5e-6)).astype(np.float32)
        for i, name in enumerate(BLOBS)
    })  # fmt: skip
    bad = [check.item for check in compare_stage("resnet101", pair_of(runs.a, runs.b)) if not check.agrees]
    assert bad == ["blob pool5"]


@pytest.mark.parametrize("stage", ["features", "resnet101"])
def test_a_net_without_blobs_never_agrees(runs, pair_of, stage):
    for run in (runs.a, runs.b):
        write_stage(RunFolder(run), stage, {(stage, "blob_names"): lambda _: []})
    bad = [check for check in compare_stage(stage, pair_of(runs.a, runs.b)) if not check.agrees]
    assert [(check.quantity, check.item) for check in bad] == [("present", "blob_names")]


@pytest.mark.parametrize("mode", ["isolated", "chained"])
def test_the_probes_blobs_are_only_shown_where_its_weights_are_other_ones(runs, pair_of, templates, tolerances, mode):
    """Of other weights neither the bound nor the floors can judge; the photographs are the same, and judged still."""
    change = {("resnet101", f"blobs/{i:03d}-{name}"): lambda blob: 2 * blob for i, name in enumerate(BLOBS)}
    change |= {("resnet101", "photographs"): lambda photographs: photographs + np.uint8(1)}
    for drew_itself in (False, True):
        write_stage(RunFolder(runs.b), "resnet101", change, drew_itself=drew_itself)
        a, b, reference = (FinishedRun(path) for path in (runs.a, runs.b, templates["reference"]))
        pair = Pair(a, b, Judge(tolerances, mode), Calibrator(a, b, reference, [], [], 3.0))
        checks = [check for check in compare_stage("resnet101", pair) if check.item.startswith("blob ")]
        assert len(checks) == len(BLOBS) and all(check.value == pytest.approx(1.0) for check in checks)
        for check in checks:
            assert check.agrees is drew_itself and (check.allowed is None) is drew_itself
            assert (check.calibration is None) is drew_itself
        photographs = compare_stage("resnet101", pair)[0]
        assert photographs.item == "photographs" and not photographs.agrees


def test_of_the_backbone_which_draws_nothing_no_blob_is_only_shown(runs, pair_of):
    for stage in ("clusters", "transfer", "resnet101"):
        write_stage(RunFolder(runs.b), stage, drew_itself=True)
    checks = compare_stage("features", pair_of(runs.a, runs.b))
    assert all(check.allowed == 1e-5 for check in checks)


def test_the_worst_image_of_the_features_is_named_by_its_id(runs, pair_of):
    def change(features):
        features = features.copy()
        features[4] *= 2
        return features

    write_stage(RunFolder(runs.b), "features", {("features", "lr_test"): change})
    (bad,) = [check for check in compare_stage("features", pair_of(runs.a, runs.b)) if not check.agrees]
    assert bad.item == "lr_test" and bad.value == pytest.approx(1.0) and bad.detail.endswith("worst image test004")
