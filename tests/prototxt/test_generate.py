"""The generated nets and solver: the committed bytes, the paper's numbers, the Model Zoo's ResNet-101."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
from text_format import one, parse

from experiment.spec import read_profile
from prototxt.generate import block_names, prototxts, resnet, resnet101

FOLDER = Path(__file__).resolve().parents[2] / "prototxt"
COMMITTED = {"paper": FOLDER, "embedded": FOLDER / "embedded"}


def layers(text: str) -> list[dict]:
    return parse(text)["layer"]


def named(text: str) -> dict[str, dict]:
    found = {one(layer, "name"): layer for layer in layers(text)}
    assert len(found) == len(layers(text)), "a layer's name is used twice"
    return found


@pytest.fixture(scope="module")
def resnet_101() -> dict[str, dict]:
    return named((FOLDER / "ResNet-101-deploy.prototxt").read_text())


@pytest.mark.parametrize("profile", COMMITTED)
def test_regenerating_gives_the_committed_bytes(profile):
    texts = prototxts(read_profile(profile)[0])
    texts.pop("resnet101.prototxt")
    if profile == "paper":
        texts["ResNet-101-deploy.prototxt"] = texts.pop("backbone.prototxt")
    committed = {path.name: path.read_bytes() for path in COMMITTED[profile].glob("*.prototxt")}
    assert {name: text.encode() for name, text in texts.items()} == committed


def test_the_command_rewrites_exactly_these_files(tmp_path):
    """Run on a copy of the generator, so that the committed files are not touched."""
    for package in ("prototxt", "experiment"):
        for source in (FOLDER.parent / package).rglob("*"):
            if source.suffix in (".py", ".toml"):
                target = tmp_path / source.relative_to(FOLDER.parent)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
    subprocess.run([sys.executable, "-m", "prototxt.generate"], cwd=tmp_path, check=True)
    written = {path.relative_to(tmp_path / "prototxt"): path.read_bytes() for path in tmp_path.rglob("*.prototxt")}
    assert written == {path.relative_to(FOLDER): path.read_bytes() for path in FOLDER.rglob("*.prototxt")}


def test_the_solver_has_the_papers_numbers():
    solver = parse((FOLDER / "solver.prototxt").read_text())
    wanted = {
        "base_lr": 0.01,
        "stepsize": 15000,
        "gamma": 0.1,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "max_iter": 31561,
    }
    assert {name: float(one(solver, name)) for name in wanted} == wanted
    assert (one(solver, "type"), one(solver, "lr_policy")) == ("SGD", "step")
    assert one(solver, "net") == "transfer_train.prototxt"


def test_the_papers_transfer_network_is_trained_as_the_paper_says():
    net = named((FOLDER / "transfer_train.prototxt").read_text())
    assert [one(layer, "type") for layer in net.values()] == [
        "HDF5Data", "InnerProduct", "ReLU", "InnerProduct", "SoftmaxWithLoss",
    ]  # fmt: skip
    assert one(net["data"], "hdf5_data_param", "batch_size") == "1000"
    for name, neurons in (("fc1", "4096"), ("fc2", "100")):
        assert one(net[name], "inner_product_param", "num_output") == neurons
        assert one(net[name], "inner_product_param", "weight_filler", "type") == "msra"
        assert one(net[name], "inner_product_param", "weight_filler", "variance_norm") == "FAN_IN"
    assert net["relu1"]["bottom"] == net["relu1"]["top"] == ["fc1"]
    assert net["loss"]["bottom"] == ["fc2", "label"]


@pytest.mark.parametrize("profile", COMMITTED)
def test_deployment_has_the_layers_that_were_trained(profile):
    train, deploy = (
        named((COMMITTED[profile] / f"transfer_{name}.prototxt").read_text()) for name in ("train", "deploy")
    )
    for name in ("fc1", "relu1", "fc2"):
        assert train[name] == deploy[name]
    widths = read_profile(profile)[0]["backbone"]["widths"]
    assert one(deploy["data"], "input_param", "shape")["dim"] == ["1", str(4 * widths[-1])]
    assert one(deploy["prob"], "type") == "Softmax"


def test_a_bias_multiplier_reaches_the_biases_alone():
    values = read_profile("paper")[0]
    values["transfer"].update(bias_lr_mult=2.0, bias_decay_mult=0.0)
    net = named(prototxts(values)["transfer_train.prototxt"])
    for name in ("fc1", "fc2"):
        weight, bias = net[name]["param"]
        assert (float(one(weight, "lr_mult")), float(one(weight, "decay_mult"))) == (1, 1)
        assert (float(one(bias, "lr_mult")), float(one(bias, "decay_mult"))) == (2, 0)


def test_resnet101_is_as_deep_as_its_name(resnet_101):
    types = [one(layer, "type") for layer in resnet_101.values()]
    main_path = [n for n, layer in resnet_101.items() if one(layer, "type") == "Convolution" and "branch1" not in n]
    assert len(main_path) + types.count("InnerProduct") == 101
    assert types.count("Convolution") == types.count("BatchNorm") == types.count("Scale") == 100 + 4
    assert types.count("Eltwise") == 3 + 4 + 23 + 3


def test_resnet101_has_the_published_number_of_parameters(resnet_101):
    """44,549,160 learnable ones: convolutions without bias, a scale and a shift per channel, fc1000."""
    channels, learnable = {"data": 3}, 0
    for layer in resnet_101.values():
        top, kind = one(layer, "top"), one(layer, "type")
        into = channels.get(layer.get("bottom", ["data"])[0])
        if kind == "Convolution":
            parameter = one(layer, "convolution_param")
            assert parameter["bias_term"] == ["false"]
            channels[top] = int(one(parameter, "num_output"))
            learnable += channels[top] * into * int(one(parameter, "kernel_size")) ** 2
        elif kind == "InnerProduct":
            learnable += 1000 * into + 1000
        else:
            channels[top] = into
            learnable += 2 * into if kind == "Scale" else 0
    assert learnable == 44_549_160
    assert channels["pool5"] == 2048


def test_blocks_have_the_model_zoos_names(resnet_101):
    blocks = [name[3:] for name, layer in resnet_101.items() if one(layer, "type") == "Eltwise"]
    assert blocks == [
        "2a", "2b", "2c", "3a", "3b1", "3b2", "3b3", "4a", *(f"4b{i}" for i in range(1, 23)), "5a", "5b", "5c",
    ]  # fmt: skip
    assert block_names(2, 1) == ["2a"] and block_names(3, 2) == ["3a", "3b"] and block_names(9, 4)[-1] == "9b3"


def test_every_layer_has_its_batchnorm_scale_and_relu_in_place(resnet_101):
    for name, layer in resnet_101.items():
        if one(layer, "type") != "Convolution":
            continue
        suffix = name.removeprefix("res") if name.startswith("res") else f"_{name}"
        for prefix, kind in (("bn", "BatchNorm"), ("scale", "Scale")):
            partner = resnet_101[prefix + suffix]
            assert one(partner, "type") == kind and partner["bottom"] == partner["top"] == [name]
        assert one(resnet_101[f"bn{suffix}"], "batch_norm_param", "use_global_stats") == "true"
        assert one(resnet_101[f"scale{suffix}"], "scale_param", "bias_term") == "true"
        relu = resnet_101.get(f"{name}_relu")
        assert (relu is None) == name.endswith(("branch1", "branch2c"))
        assert relu is None or relu["bottom"] == relu["top"] == [name]


def test_stride_2_is_on_the_first_1x1_convolution_and_on_the_projection(resnet_101):
    strided = {n for n, layer in resnet_101.items() if layer.get("convolution_param", [{}])[0].get("stride") == ["2"]}
    assert strided == {"conv1"} | {f"res{stage}a_branch{branch}" for stage in (3, 4, 5) for branch in ("1", "2a")}


def test_each_block_adds_its_branch_to_its_bottom_or_the_projection(resnet_101):
    bottom = "pool1"
    for name, layer in resnet_101.items():
        if one(layer, "type") != "Eltwise":
            continue
        shortcut = f"{name}_branch1" if f"{name}_branch1" in resnet_101 else bottom
        assert (f"{name}_branch1" in resnet_101) == (name[4:] == "a")
        assert layer["bottom"] == [shortcut, f"{name}_branch2c"]
        chain = [resnet_101[f"{name}_branch2{part}"]["bottom"] for part in "abc"]
        assert chain == [[bottom], [f"{name}_branch2a"], [f"{name}_branch2b"]]
        bottom = name
    assert resnet_101["pool5"]["bottom"] == [bottom] == ["res5c"]


def test_pool1_is_3_by_3_without_pad(resnet_101):
    assert resnet_101["pool1"]["pooling_param"] == [{"pool": ["MAX"], "kernel_size": ["3"], "stride": ["2"]}]


def test_every_bottom_is_a_top_that_came_before(resnet_101):
    tops: set[str] = set()
    for layer in resnet_101.values():
        assert set(layer.get("bottom", [])) <= tops
        tops |= set(layer["top"])


def windows(size: int, kernel: int, stride: int, pad: int, up: bool) -> int:
    """How many windows fit, by putting them one after the other: all inside, or (up) until the end is covered."""
    count, start = 0, -pad
    while start + kernel <= size + pad:
        count, start = count + 1, start + stride
    covered = start - stride + kernel >= size + pad
    return count + (up and not covered)


def side_before_pool5(text: str, size: int) -> int:
    """The side of the last block's output, walked layer by layer along the main path."""
    sides = {"data": size}
    for layer in layers(text):
        kind, top = one(layer, "type"), one(layer, "top")
        side = sides[layer["bottom"][0]] if "bottom" in layer else size
        if one(layer, "name") == "pool5":
            return side
        parameter = layer.get("convolution_param", layer.get("pooling_param", [None]))[0]
        if parameter is not None:
            kernel, stride = int(one(parameter, "kernel_size")), int(one(parameter, "stride"))
            side = windows(side, kernel, stride, int(parameter.get("pad", ["0"])[0]), kind == "Pooling")
        sides[top] = side
    raise AssertionError("no pool5")


@pytest.mark.parametrize("blocks", [[1], [1, 1, 1], [1, 1, 1, 1]])
def test_pool5_covers_what_remains_of_the_image(blocks):
    for size in [*range(5, 69), 111, 112, 223, 224, 225]:
        text = resnet("n", size, 4, [2] * len(blocks), blocks, 3)
        pool5 = one(named(text)["pool5"], "pooling_param")
        assert int(one(pool5, "kernel_size")) == side_before_pool5(text, size) > 0, size
        assert one(pool5, "pool") == "AVE"


def test_pool5_of_resnet101_is_7_by_7(resnet_101):
    assert one(resnet_101["pool5"], "pooling_param", "kernel_size") == "7" and math.ceil(224 / 32) == 7
    assert resnet101() == (FOLDER / "ResNet-101-deploy.prototxt").read_text()
