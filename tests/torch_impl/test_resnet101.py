"""The paper's architecture as committed: counts and shapes against the real Caffe, names as published."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from sklearn.datasets import load_sample_image

from experiment.artifacts import RunFolder
from experiment.pipeline import Stage
from prototxt import generate
from tests.conftest import PROJECT, caffe_case, make_stage, user_error
from torch_impl import resnet101
from torch_impl.caffe_net import CaffeNet
from torch_impl.caffe_proto import read_caffemodel

PROTOTXT = PROJECT / "prototxt" / "ResNet-101-deploy.prototxt"
caffe_case("resnet101", PROTOTXT.read_text(), outputs=[])


@pytest.fixture(scope="module")
def net() -> CaffeNet:
    return CaffeNet(PROTOTXT)


def counts(shapes: dict[str, list], types: dict[str, str]) -> tuple[int, int]:
    """Values in learnable layers, and in BatchNorm's statistics."""
    values = {name: sum(int(np.prod(shape)) for shape in blobs) for name, blobs in shapes.items()}
    statistics = sum(n for name, n in values.items() if types[name] == "BatchNorm")
    return sum(values.values()) - statistics, statistics


def test_parameters_are_those_of_resnet101(net, caffe):
    types = {layer.name: layer.type for layer in net.layers}
    assert counts(net.parameter_shapes, types) == (44_549_160, 105_448)
    shapes = caffe("resnet101").json("shapes.json")
    assert counts(shapes["parameters"], dict(shapes["layers"])) == (44_549_160, 105_448)


def test_parameter_shapes_are_caffes(net, caffe):
    shapes = caffe("resnet101").json("shapes.json")["parameters"]
    assert net.parameter_shapes == {name: [tuple(shape) for shape in blobs] for name, blobs in shapes.items()}


def test_blob_shapes_are_caffes(net, caffe):
    blobs = caffe("resnet101").json("shapes.json")["blobs"]
    expected = {name: tuple(shape) for name, shape in blobs.items() if "_split_" not in name}  # Caffe's own copies
    assert net.blob_shapes == expected
    assert list(net.blob_shapes) == list(expected)
    assert net.blob_shapes["pool5"] == (1, 2048, 1, 1)


def test_layers_are_caffes_in_order(net, caffe):
    layers = caffe("resnet101").json("shapes.json")["layers"]
    expected = [tuple(entry) for entry in layers if entry[1] not in ("Split", "Input")]
    assert [(layer.name, layer.type) for layer in net.layers] == expected


def test_layer_types_are_counted_as_published(net):
    """101 layers: conv1, 33 bottlenecks of three convolutions, fc1000; and four projections."""
    assert Counter(layer.type for layer in net.layers) == {
        "Convolution": 1 + 33 * 3 + 4,
        "BatchNorm": 104,
        "Scale": 104,
        "ReLU": 1 + 33 * 3,
        "Eltwise": 33,
        "Pooling": 2,
        "InnerProduct": 1,
        "Softmax": 1,
    }


def test_blocks_are_named_as_published(net):
    names = [layer.name for layer in net.layers]
    blocks = ["2a", "2b", "2c", "3a", "3b1", "3b2", "3b3", "4a", *(f"4b{i}" for i in range(1, 23)), "5a", "5b", "5c"]
    assert [layer.name for layer in net.layers if layer.type == "Eltwise"] == [f"res{block}" for block in blocks]
    assert names[:5] == ["conv1", "bn_conv1", "scale_conv1", "conv1_relu", "pool1"]
    assert names[-3:] == ["pool5", "fc1000", "prob"]
    for block in blocks:
        branches = ["2a", "2b", "2c", *(["1"] if block.endswith("a") else [])]
        for branch in branches:
            assert {f"{kind}{block}_branch{branch}" for kind in ("res", "bn", "scale")} <= set(names)
        assert f"res{block}_relu" in names and f"res{block}_branch2a_relu" in names
    assert ("res3b1_branch1" in names, "res2a_branch1" in names) == (False, True)


def test_strides_stand_where_the_published_net_has_them(net):
    """On the first 1x1 convolution of a stage and its projection, not on the 3x3."""
    strided = {
        layer.name: layer.convolution_param.stride[0]
        for layer in net.layers
        if layer.type == "Convolution" and layer.convolution_param.stride[0] != 1
    }
    assert strided == dict.fromkeys(
        ["conv1", *(f"res{stage}a_branch{branch}" for stage in (3, 4, 5) for branch in ("1", "2a"))], 2
    )


SMALL = generate.resnet("small", 36, 8, [4, 8], [2, 4], 10)  # the stage does not mind which net it is given
CROPS = [["china.jpg", 0, 0], ["china.jpg", 391, 604]]  # the second is the photograph's last corner


def small_stage(folder: Path, crops: list[list]) -> Stage:
    """The stage for a small net on scikit-learn's sample photographs."""
    spec = {"resnet101": {"crops": crops, "size": 36, "mean_bgr": [103.5, 116.0, 123.25]}}
    photographs = {"photographs": Path(sklearn.datasets.__file__).parent / "images"}
    return make_stage(folder, "resnet101", spec, external=photographs, prototxts={"resnet101.prototxt": SMALL})


def test_stage_draws_weights_that_keep_a_net_alive_and_leaves_every_blob(tmp_path):
    stage = small_stage(tmp_path, CROPS)
    resnet101.run(stage)
    stage.out.finish({})
    run = RunFolder(tmp_path)
    names = run.json("resnet101", "blob_names")
    assert names[0] == "data" and names[-1] == "prob"
    for i, name in enumerate(names):
        values = run.array("resnet101", f"blobs/{i:03d}-{name}")
        assert values.shape[0] == 2 and np.isfinite(values).all()
        assert 1e-3 < np.abs(values).mean() < 1e3, name
    china_bgr = load_sample_image("china.jpg")[:, :, ::-1]
    photographs = run.array("resnet101", "photographs")
    assert (photographs == np.stack([china_bgr[:36, :36], china_bgr[391:, 604:]])).all()
    data = run.array("resnet101", "blobs/000-data")
    assert (data == photographs.transpose(0, 3, 1, 2) - np.float32([103.5, 116, 123.25]).reshape(3, 1, 1)).all()
    drawn = read_caffemodel(run.file("resnet101", "weights"))
    assert set(drawn["bn_conv1"][2]) == {500}  # not 1, so that who forgets to divide by it is seen


@pytest.mark.parametrize("crop", [["china.jpg", 392, 0], ["china.jpg", 0, 605], ["china.jpg", -1, 0]])
def test_crop_that_leaves_the_photograph_is_refused(crop, tmp_path):
    with user_error("china.jpg", "crop"):
        resnet101.run(small_stage(tmp_path, [crop]))
