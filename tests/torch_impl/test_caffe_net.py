"""Whole nets against the real Caffe, from caffemodels that Caffe itself saved; what a caffemodel must fit."""

import numpy as np
import pytest
import torch

from experiment.artifacts import batches
from prototxt import generate
from tests.conftest import caffe_case, relative_l2, user_error
from torch_impl.caffe_net import CaffeNet, arithmetic_of
from torch_impl.caffe_proto import write_caffemodel
from torch_impl.features import extract
from torch_impl.net_io import to_input
from torch_impl.transfer_features import transfer

# A few layers of float32 sums in another order (6e-8 for each rounding): about 1e-7 to 3e-7 relative L2.
NETS = 1e-6
RANDOM = np.random.default_rng(6)

# An image size and a depth at which pool1 clips its last window and blocks are named both ways (2a 2b, 3a 3b1 3b2 3b3).
RESNET = generate.resnet("small", 36, 8, [4, 8], [2, 4], 10)
PHOTOGRAPHS_BGR = RANDOM.integers(0, 256, (3, 36, 36, 3), dtype=np.uint8)
MEAN_BGR = np.array([103.5, 115.25, 123], np.float32)
caffe_case(
    "residual-net",
    RESNET,
    {"data": PHOTOGRAPHS_BGR.transpose(0, 3, 1, 2) - MEAN_BGR.reshape(3, 1, 1)},
    outputs=["blobs", "caffemodel"],
    draw=True,
)

CHAIN = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "y" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "bn" type: "BatchNorm" bottom: "y" top: "y" }
layer { name: "scale" type: "Scale" bottom: "y" top: "y" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }
layer { name: "pool" type: "Pooling" bottom: "y" top: "z" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "y" top: "last" inner_product_param { num_output: 2 } }
layer { name: "last_relu" type: "ReLU" bottom: "last" top: "last" relu_param { negative_slope: 0.5 } }
"""
CHAIN_INPUT = RANDOM.standard_normal((2, 3, 6, 6)).astype(np.float32)
caffe_case("in-place-chain", CHAIN, {"x": CHAIN_INPUT}, outputs=["blobs", "caffemodel"], draw=True)

TRANSFER = {"n1": 8, "n2": 4, "batch_size": 5, "bias_lr_mult": 1, "bias_decay_mult": 1, "variance_norm": "FAN_IN"}
ROWS = RANDOM.standard_normal((5, 6)).astype(np.float32)
WEIGHTS = {
    "fc1": [RANDOM.standard_normal(shape).astype(np.float32) for shape in ((8, 6), (8,))],
    "fc2": [RANDOM.standard_normal(shape).astype(np.float32) for shape in ((4, 8), (4,))],
}
caffe_case("transfer-deploy", generate.transfer_deploy(TRANSFER, 6), {"data": ROWS}, WEIGHTS)


EACH_NET = pytest.mark.parametrize(
    ("name", "text", "inputs"),
    [
        ("residual-net", RESNET, {"data": to_input(PHOTOGRAPHS_BGR, MEAN_BGR)}),
        ("in-place-chain", CHAIN, {"x": torch.from_numpy(CHAIN_INPUT)}),
    ],
)


def write_net(folder, text: str) -> CaffeNet:
    """The port's net of a prototxt text."""
    (folder / "net.prototxt").write_text(text)
    return CaffeNet(folder / "net.prototxt")


@EACH_NET
def test_every_blob_is_caffes_after_the_whole_pass(name, text, inputs, caffe, tmp_path):
    result = caffe(name)
    net = write_net(tmp_path, text).load(result.path / "saved.caffemodel")
    blobs = net.forward(inputs)
    # Caffe copies a blob that several layers read to <blob>_<layer>_0_split_<number>; the copies are no blobs of ours.
    assert list(blobs) == [blob for blob in result.json("shapes.json")["blobs"] if "_split_" not in blob]
    for blob, values in blobs.items():
        expected = result.array(f"blobs/{blob}")
        assert np.abs(expected).max() > 0, f"{blob} is zero: the case shows nothing"
        assert relative_l2(values.numpy(), expected) <= NETS, blob


@EACH_NET
def test_a_single_wanted_blob_is_the_same_as_among_all(name, text, inputs, caffe, tmp_path):
    """Blobs are let go as early as possible; none may be let go, or overwritten, too early."""
    result = caffe(name)
    net = write_net(tmp_path, text).load(result.path / "saved.caffemodel")
    for blob in net.blob_shapes:
        outputs = net.forward(inputs, [blob])
        assert list(outputs) == [blob]
        assert relative_l2(outputs[blob].numpy(), result.array(f"blobs/{blob}")) <= NETS, blob


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
def test_features_do_not_depend_on_the_batch_size(batch_size, caffe, tmp_path):
    result = caffe("residual-net")
    net = write_net(tmp_path, RESNET).load(result.path / "saved.caffemodel")
    features = np.full((3, 32), np.nan, np.float32)
    extract(net, PHOTOGRAPHS_BGR, MEAN_BGR, "pool5", features, batches(len(PHOTOGRAPHS_BGR), batch_size))
    assert relative_l2(features, result.array("blobs/pool5").reshape(3, 32)) <= NETS


@pytest.mark.parametrize("blob", ["fc1", "fc2", "prob"])
def test_transfer_features_are_caffes(blob, caffe, tmp_path):
    net = write_net(tmp_path, generate.transfer_deploy(TRANSFER, 6))
    net.set_parameters(WEIGHTS)
    assert relative_l2(transfer(net, ROWS, blob), caffe("transfer-deploy").array(f"blobs/{blob}")) <= NETS


def test_images_are_grey_levels_minus_the_mean():
    image_bgr = np.array([[[10, 20, 30], [40, 50, 60]]], np.uint8)
    expected = [[[10 - 1, 40 - 1]], [[20 - 2, 50 - 2]], [[30 - 3, 60 - 3]]]
    assert to_input(image_bgr[None], np.array([1, 2, 3], np.float32)).tolist() == [expected]
    mean_image = np.arange(6, dtype=np.float32).reshape(3, 1, 2)
    expected = [[[10 - 0, 40 - 1]], [[20 - 2, 50 - 3]], [[30 - 4, 60 - 5]]]
    assert to_input(image_bgr[None], mean_image).tolist() == [expected]
    with user_error("mean file is 5x7"):
        to_input(image_bgr[None], np.zeros((3, 5, 7), np.float32))


def test_layers_that_the_net_lacks_are_left_out(tmp_path):
    net = write_net(tmp_path, generate.transfer_deploy(TRANSFER, 6))
    layers = [(name, "InnerProduct", blobs) for name, blobs in (WEIGHTS | {"fc1000": WEIGHTS["fc2"]}).items()]
    write_caffemodel(tmp_path / "more.caffemodel", "more", layers)
    net.load(tmp_path / "more.caffemodel")
    assert list(net.parameters) == ["fc1", "fc2"]
    np.testing.assert_array_equal(net.parameters["fc2"][0].numpy(), WEIGHTS["fc2"][0])


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ({}, "nothing"),
        ({"fc1": WEIGHTS["fc1"]}, "layer fc2"),
        ({"fc1": WEIGHTS["fc1"][:1], "fc2": WEIGHTS["fc2"]}, "layer fc1"),
        ({"fc1": [WEIGHTS["fc1"][0].T, WEIGHTS["fc1"][1]], "fc2": WEIGHTS["fc2"]}, "(6, 8)"),
    ],
)
def test_caffemodel_that_does_not_fit_is_refused(layers, says, tmp_path):
    net = write_net(tmp_path, generate.transfer_deploy(TRANSFER, 6))
    file = tmp_path / "other.caffemodel"
    write_caffemodel(file, "other", [(name, "InnerProduct", blobs) for name, blobs in layers.items()])
    with user_error(file, says):
        net.load(file)


def test_blob_that_the_net_lacks_is_refused(tmp_path):
    net = write_net(tmp_path, generate.transfer_deploy(TRANSFER, 6))
    net.set_parameters(WEIGHTS)
    with user_error(net.path, "fc7"):
        net.forward({"data": torch.from_numpy(ROWS)}, ["fc7"])


def test_layer_that_reads_a_blob_of_a_later_layer_is_refused(tmp_path):
    with user_error(tmp_path / "net.prototxt", "reads z"):
        write_net(tmp_path, 'layer { name: "relu" type: "ReLU" bottom: "z" top: "y" }')


@pytest.mark.parametrize("variation", ["reference", "layout"])
def test_a_varied_net_computes_the_same_in_its_own_arithmetic(variation, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(RESNET)
    plain = CaffeNet(path)
    random = np.random.default_rng(1)
    drawn = {
        name: [random.uniform(0.5, 1.5, shape).astype(np.float32) / max(1, np.prod(shape[1:])) for shape in shapes]
        for name, shapes in plain.parameter_shapes.items()
    }
    varied = CaffeNet(path, arithmetic=arithmetic_of(variation))
    blobs = []
    for net in (plain, varied):
        net.set_parameters(drawn)
        blobs.append(net.forward({"data": to_input(PHOTOGRAPHS_BGR, MEAN_BGR)}))
    wanted = {"reference": torch.float64, "layout": torch.float32}[variation]
    assert {blob.dtype for blob in blobs[1].values()} == {wanted}
    assert {blob.dtype for blob in blobs[0].values()} == {torch.float32}
    if variation == "layout":
        assert varied.parameters["conv1"][0].is_contiguous(memory_format=torch.channels_last)
        assert blobs[1]["conv1"].is_contiguous(memory_format=torch.channels_last)
    for name, blob in blobs[0].items():
        assert relative_l2(blobs[1][name].numpy(), blob.numpy()) <= NETS
    if variation == "reference":
        assert all((blobs[1][name] != blob).any() for name, blob in blobs[0].items() if name not in ("data", "prob"))
