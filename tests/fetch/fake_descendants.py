"""The three descendants with random weights, in their own files' layouts, and each one's own way of computing.

A descendant here is its stored arrays (by the names in its file). `forward` runs them as that framework does: its own
order of axes and channels, biases, eps or sigma, its own scaling of images. Only pooling and the place of the stride
are Caffe's, which is where the bodies differ and the weights cannot tell. Nothing here is the converters'.
"""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import scipy.io
import torch
import torch.nn.functional as F
from torch import Tensor

from prototxt.generate import block_names

CLASSES = 1000
Arrays = dict[str, np.ndarray]


class Size(NamedTuple):
    """A bottleneck residual net: channels of conv1, and of each stage; blocks of each stage."""

    conv1: int
    widths: list[int]
    blocks: list[int]


FULL = Size(64, [64, 128, 256, 512], [3, 4, 23, 3])
THIN = Size(8, [8, 6, 5, 7], FULL.blocks)  # unequal, so that no axis passes for another
SHORT = Size(8, [8, 6], [2, 4])


class Part(NamedTuple):
    """One convolution with its norm: stage 2 to 5 (1 is conv1), block from 1, part 0 (projection) to 3."""

    stage: int
    block: int
    blocks: int  # of its stage
    part: int
    n_out: int
    n_in: int
    kernel: int


def parts(size: Size) -> list[Part]:
    """All convolutions of the net, 104 of ResNet-101."""
    found, n_in = [Part(1, 1, 1, 1, size.conv1, 3, 7)], size.conv1
    for stage, (width, count) in enumerate(zip(size.widths, size.blocks, strict=True), start=2):
        for block in range(1, count + 1):
            if block == 1:
                found.append(Part(stage, block, count, 0, 4 * width, n_in, 1))
            found.append(Part(stage, block, count, 1, width, n_in, 1))
            found.append(Part(stage, block, count, 2, width, width, 3))
            found.append(Part(stage, block, count, 3, 4 * width, width, 1))
            n_in = 4 * width
    return found


class Drawn(NamedTuple):
    """Random values of one part that keep a net's activations near 1 while each of them matters."""

    kernel: np.ndarray  # (n_out, n_in, k, k)
    bias: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray


def draw(random: np.random.Generator, part: Part, input_deviation: float = 60.0) -> Drawn:
    """Some variances are below every eps, so that a wrong eps shows; gamma undoes the gain."""
    n = part.n_out
    kernel = random.standard_normal((n, part.n_in, part.kernel, part.kernel), np.float32)
    kernel *= np.float32(np.sqrt(2 / kernel[0].size) / (input_deviation if part.stage == 1 else 1))
    variance = np.where(np.arange(n) % 3 == 0, random.uniform(0, 1e-6, n), random.uniform(0.5, 1.5, n))
    gain = 0.2 if part.part == 3 else 1.0
    gamma = gain * random.uniform(0.8, 1.2, n) * np.sqrt(variance + 1e-5)
    normal = random.normal(0, 0.3, (3, n))
    values = (normal[0], normal[1], variance, gamma, normal[2])
    return Drawn(kernel, *(value.astype(np.float32) for value in values))


def caffe_name(part: Part) -> str:
    """The blob that this part writes in the Caffe net."""
    if part.stage == 1:
        return "conv1"
    label = block_names(part.stage, part.blocks)[part.block - 1]
    return f"res{label}_branch" + ("1" if part.part == 0 else "2" + "abc"[part.part - 1])


def residual_net(x: Tensor, size: Size, unit: Callable[[Part, Tensor, int, int], Tensor]) -> dict[str, Tensor]:
    """The Caffe net's blobs by name, where `unit(part, x, stride, pad)` is a convolution with its norm."""
    todo = parts(size)
    blobs = {"conv1": torch.relu(unit(todo[0], x, 2, 3))}
    x = blobs["pool1"] = F.max_pool2d(blobs["conv1"], 3, 2, ceil_mode=True)
    by_block: dict[tuple[int, int], list[Part]] = OrderedDict()
    for part in todo[1:]:
        by_block.setdefault((part.stage, part.block), []).append(part)
    for (stage, block), members in by_block.items():
        stride = 2 if block == 1 and stage > 2 else 1
        shortcut = y = x
        for part in members:
            if part.part == 0:
                shortcut = blobs[caffe_name(part)] = unit(part, x, stride, 0)
                continue
            y = unit(part, y, stride if part.part == 1 else 1, part.kernel // 2)
            y = blobs[caffe_name(part)] = torch.relu(y) if part.part < 3 else y
        x = blobs[caffe_name(members[-1]).removesuffix("_branch2c")] = torch.relu(shortcut + y)
    blobs["pool5"] = x.mean((2, 3), keepdim=True)
    return blobs


def float64(array: np.ndarray) -> Tensor:
    """An array as the reference computes with it."""
    return torch.from_numpy(np.ascontiguousarray(array)).double()


# Keras: kernels (h, w, in, out), biases, eps 1.001e-5, BGR.


def keras_layer(part: Part) -> str:
    return "conv1" if part.stage == 1 else f"conv{part.stage}_block{part.block}_{part.part}"


def keras_arrays(size: Size, classifier: str = "predictions") -> Arrays:
    random, arrays = np.random.default_rng(1), {}
    for part in parts(size):
        drawn, layer = draw(random, part), keras_layer(part)
        arrays[f"{layer}_conv/kernel:0"] = np.ascontiguousarray(drawn.kernel.transpose(2, 3, 1, 0))
        arrays[f"{layer}_conv/bias:0"] = drawn.bias
        arrays[f"{layer}_bn/gamma:0"], arrays[f"{layer}_bn/beta:0"] = drawn.gamma, drawn.beta
        arrays[f"{layer}_bn/moving_mean:0"], arrays[f"{layer}_bn/moving_variance:0"] = drawn.mean, drawn.variance
    if classifier:
        features = 4 * size.widths[-1]
        kernel = random.standard_normal((features, CLASSES)) / np.sqrt(features)
        arrays[f"{classifier}/kernel:0"] = kernel.astype(np.float32)
        arrays[f"{classifier}/bias:0"] = random.standard_normal(CLASSES).astype(np.float32)
    return arrays


def write_keras(file: Path, arrays: Arrays, root: str = "/") -> None:
    """As Keras saves weights: a group a layer, in it a group of that name, in it the weights."""
    with h5py.File(file, "w") as h5:
        group = h5.require_group(root)
        group.attrs["layer_names"] = sorted({name.split("/")[0].encode() for name in arrays})
        group.create_group("conv1_relu")  # layers without weights are there, too
        for name, array in arrays.items():
            group[f"{name.split('/')[0]}/{name}"] = array
        if root != "/":
            h5["optimizer_weights/iterations:0"] = np.int64(3)


def keras_forward(arrays: Arrays, size: Size, images_bgr: np.ndarray) -> dict[str, Tensor]:
    def unit(part: Part, x: Tensor, stride: int, pad: int) -> Tensor:
        layer = keras_layer(part)
        kernel = float64(arrays[f"{layer}_conv/kernel:0"]).permute(3, 2, 0, 1)
        x = F.conv2d(x, kernel, float64(arrays[f"{layer}_conv/bias:0"]), stride, pad)
        names = ("moving_mean", "moving_variance", "gamma", "beta")
        values = (float64(arrays[f"{layer}_bn/{name}:0"]) for name in names)
        return F.batch_norm(x, *values, eps=1.001e-5)

    mean = np.array([103.939, 116.779, 123.68]).reshape(3, 1, 1)
    blobs = residual_net(float64(images_bgr - mean), size, unit)
    for name in ("predictions", "probs"):
        if f"{name}/kernel:0" in arrays:
            kernel, bias = float64(arrays[f"{name}/kernel:0"]), float64(arrays[f"{name}/bias:0"])
            blobs["fc1000"] = blobs["pool5"].flatten(1) @ kernel + bias
            blobs["prob"] = torch.softmax(blobs["fc1000"], 1)
    return blobs


# MatConvNet: filters (h, w, in, out), mean and sigma with eps in it, RGB.


def dag_layer(part: Part) -> tuple[str, str]:
    name = caffe_name(part)
    return name, "bn_conv1" if name == "conv1" else f"bn{name.removeprefix('res')}"


def matconvnet_arrays(size: Size) -> Arrays:
    random, arrays = np.random.default_rng(2), {}
    for part in parts(size):
        drawn, (layer, norm) = draw(random, part), dag_layer(part)
        arrays[f"{layer}_filter"] = np.asfortranarray(drawn.kernel.transpose(2, 3, 1, 0))
        arrays[f"{norm}_mult"], arrays[f"{norm}_bias"] = drawn.gamma[:, None], drawn.beta[:, None]
        sigma = np.sqrt(drawn.variance + np.float32(1e-5))
        sigma[1] = 2e-3  # below the root of Caffe's eps, where no variance gives it
        arrays[f"{norm}_mult"][1] = 2e-3
        arrays[f"{norm}_moments"] = np.stack([drawn.mean, sigma], 1)
    features = 4 * size.widths[-1]
    arrays["fc1000_filter"] = (random.standard_normal((1, 1, features, CLASSES)) / np.sqrt(features)).astype(np.float32)
    arrays["fc1000_bias"] = random.standard_normal((CLASSES, 1)).astype(np.float32)
    return arrays


AVERAGE_RGB = np.random.default_rng(3).uniform(95, 130, (224, 224, 3)).astype(np.float32)


def records(rows: list[dict]) -> np.ndarray:
    """A MATLAB struct array, as utils/layers.py makes them."""
    array = np.empty((1, len(rows)), [(name, object) for name in rows[0]])
    for i, row in enumerate(rows):
        array[0, i] = tuple(row.values())
    return array


def dag_layers(size: Size) -> list[dict]:
    """The file's layers; activations and sums are left out but for two, pool1 and prob stand for the rest."""

    def layer(name: str, kind: str, params: list[str], block: dict) -> dict:
        cells = np.array(params, object).reshape(1, -1)
        return {"name": name, "type": f"dagnn.{kind}", "params": cells, "block": records([block]) if block else []}

    def conv(name: str, part: Part, params: list[str], stride: int) -> dict:
        pad = [float(part.kernel // 2)] * 4
        block = {"hasBias": len(params) > 1, "pad": np.array([pad]), "stride": np.array([[float(stride)] * 2])}
        return layer(name, "Conv", params, block)

    layers = []
    for part in parts(size):
        name, norm = dag_layer(part)
        stride = 2 if part.stage == 1 or (part.stage > 2 and part.block == 1 and part.part < 2) else 1
        layers.append(conv(name, part, [f"{name}_filter"], stride))
        layers.append(layer(norm, "BatchNorm", [f"{norm}_{p}" for p in ("mult", "bias", "moments")], {"epsilon": 1e-5}))
        if part.stage == 1:
            layers.append(layer("conv1_relu", "ReLU", [], {"leak": 0.0}))
            pool = {"method": "max", "poolSize": [[3.0, 3.0]], "stride": [[2.0, 2.0]], "pad": [[0.0, 1.0, 0.0, 1.0]]}
            layers.append(layer("pool1", "Pooling", [], pool))
    layers.append(layer("res2a", "Sum", [], {}))
    classifier = Part(6, 1, 1, 1, CLASSES, 4 * size.widths[-1], 1)
    layers.append(conv("fc1000", classifier, ["fc1000_filter", "fc1000_bias"], 1))
    return [*layers, layer("prob", "SoftMax", [], {})]


def write_matconvnet(file: Path, arrays: Arrays, layers: list[dict]) -> None:
    """As utils/import-caffe.py saves a net; `learningRate` is what MatConvNet itself adds when it saves one."""
    params = records([{"name": name, "value": value, "learningRate": 1.0} for name, value in arrays.items()])
    meta = {"normalization": {"averageImage": AVERAGE_RGB, "imageSize": np.array([[224.0, 224.0, 3.0]])}}
    scipy.io.savemat(file, {"layers": records(layers), "params": params, "meta": meta}, oned_as="column")


def matconvnet_forward(arrays: Arrays, size: Size, images_bgr: np.ndarray) -> dict[str, Tensor]:
    def unit(part: Part, x: Tensor, stride: int, pad: int) -> Tensor:
        layer, norm = dag_layer(part)
        x = F.conv2d(x, float64(arrays[f"{layer}_filter"]).permute(3, 2, 0, 1), None, stride, pad)
        gamma, beta = (float64(arrays[f"{norm}_{name}"]).reshape(1, -1, 1, 1) for name in ("mult", "bias"))
        mu, sigma = (column.reshape(1, -1, 1, 1) for column in float64(arrays[f"{norm}_moments"]).T)
        return gamma * (x - mu) / sigma + beta

    mean = AVERAGE_RGB.mean((0, 1), dtype=np.float64).reshape(3, 1, 1)
    blobs = residual_net(float64(images_bgr[:, ::-1] - mean), size, unit)
    kernel, bias = float64(arrays["fc1000_filter"]).permute(3, 2, 0, 1), float64(arrays["fc1000_bias"]).flatten()
    blobs["fc1000"] = F.conv2d(blobs["pool5"], kernel, bias).flatten(1)
    blobs["prob"] = torch.softmax(blobs["fc1000"], 1)
    return blobs


# PyTorch: a state_dict of torchvision's children, eps 1e-5, RGB in 0..1 over std, no classifier.


def torch_layer(part: Part) -> tuple[str, str]:
    if part.stage == 1:
        return "0", "1"
    block = f"{part.stage + 2}.{part.block - 1}"
    if part.part == 0:
        return f"{block}.downsample.0", f"{block}.downsample.1"
    return f"{block}.conv{part.part}", f"{block}.bn{part.part}"


def torch_arrays(size: Size) -> Arrays:
    random, arrays = np.random.default_rng(4), {}
    for part in parts(size):
        drawn, (layer, norm) = draw(random, part, input_deviation=1.0), torch_layer(part)
        arrays[f"{layer}.weight"] = drawn.kernel
        arrays[f"{norm}.weight"], arrays[f"{norm}.bias"] = drawn.gamma, drawn.beta
        arrays[f"{norm}.running_mean"], arrays[f"{norm}.running_var"] = drawn.mean, drawn.variance
    return arrays


def write_torch(file: Path, arrays: Arrays, zipped: bool = False) -> None:
    """The published file is older than PyTorch's zip format, and has no counters."""
    state = OrderedDict((name, torch.from_numpy(array)) for name, array in arrays.items())
    if zipped:
        state["1.num_batches_tracked"] = torch.tensor(0)
    torch.save(state, file, _use_new_zipfile_serialization=zipped)


def torch_forward(arrays: Arrays, size: Size, images_bgr: np.ndarray) -> dict[str, Tensor]:
    def unit(part: Part, x: Tensor, stride: int, pad: int) -> Tensor:
        layer, norm = torch_layer(part)
        x = F.conv2d(x, float64(arrays[f"{layer}.weight"]), None, stride, pad)
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(float64(arrays[f"{norm}.{name}"]) for name in names), eps=1e-5)

    mean, std = (np.array(v).reshape(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    return residual_net(float64((images_bgr[:, ::-1] / 255 - mean) / std), size, unit)
