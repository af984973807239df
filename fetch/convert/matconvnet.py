"""Read MatConvNet's imagenet-resnet-101-dag.mat, which was imported from the Caffe model.

vlfeat/matconvnet, utils/import-caffe.py and layers.py, made it: layers and parameters keep Caffe's names; filters are
(height, width, n_in, n_out); conv1 was turned from BGR to RGB; each Scale was merged into its BatchNorm, whose third
parameter holds the mean and sigma = sqrt(variance + eps) as two columns, which vl_nnbnorm uses as they are (so the
layer's own epsilon plays no part); the pooling's padding was corrected to Caffe's rounding up. The file holds the
architecture, too, which must be the Caffe net's.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.io

from experiment.errors import UserError
from fetch.convert.descendant import Arrays, Descendant, Norm
from fetch.convert.layout import Layout, Unit

PUBLISHED = {"md5": ("16ff04c36c7bd33510e4a81db6dc764b",)}  # doc/site/docs/pretrained.md
REMEDY = "get imagenet-resnet-101-dag.mat again from MatConvNet's page of pretrained models"
# Caffe's windows; the padding is that of top, bottom, left, right.
POOL1 = {"method": "max", "poolSize": [3, 3], "stride": [2, 2], "pad": [0, 1, 0, 1]}
SETTINGS = {"stride", "pad", "poolSize", "method"}


class DagLayer(NamedTuple):
    """A layer of the file: its parameters' names, and its block's settings in numbers and words."""

    parameters: list[str]
    settings: dict[str, list[float] | str]


def read(file: Path, layout: Layout) -> Descendant:
    """The descendant that a dagnn file holds.

    Raises `UserError` where it is no MATLAB 5 file or no such net, for another architecture, and for a parameter
    that is missing, superfluous, of another shape, or damaged.
    """
    try:
        content = scipy.io.loadmat(file, variable_names=("layers", "params", "meta"))
    except Exception as error:  # scipy lets its parser's own errors through, whatever the damage makes them
        raise UserError(f"{file} is no whole MATLAB 5 file ({type(error).__name__}: {error}): {REMEDY}") from None
    try:
        layers = {text(layer["name"]): dag_layer(layer) for layer in content["layers"].ravel()}
        values = {text(param["name"]): np.asarray(param["value"]) for param in content["params"].ravel()}
        average_rgb = np.asarray(member(member(content["meta"], "normalization"), "averageImage"), np.float64)
    except (KeyError, IndexError, TypeError, ValueError) as error:  # a field that is not there, or is another thing
        raise UserError(f"{file} is no dagnn net ({type(error).__name__}: {error}): {REMEDY}") from None
    arrays = Arrays(file, values, REMEDY)
    check_architecture(arrays, layers, layout)
    return take(arrays, layers, layout, average_rgb)


def dag_layer(layer: Any) -> DagLayer:
    """A layer from scipy's struct of it."""
    block = np.asarray(layer["block"])
    settings: dict[str, list[float] | str] = {}
    for name in SETTINGS & set(block.dtype.names or ()):
        value = np.asarray(member(block, name)).ravel()
        settings[name] = text(value) if name == "method" else [float(number) for number in value]
    return DagLayer([text(name) for name in np.asarray(layer["params"]).ravel()], settings)


def text(cell: Any) -> str:
    """A string, which scipy gives as an array of one."""
    return str(np.asarray(cell).ravel()[0])


def member(struct: Any, name: str) -> Any:
    """A field of a MATLAB struct of one element."""
    return np.asarray(struct)[name].ravel()[0]


def check_architecture(arrays: Arrays, layers: dict[str, DagLayer], layout: Layout) -> None:
    """Raise `UserError` where the file's own net is not the Caffe net."""
    expected = {unit.name: 1 for unit in layout.units} | {layout.classifier: 1}
    expected |= {unit.batch_norm: 3 for unit in layout.units}
    found = {name for name, layer in layers.items() if layer.parameters}
    for name in sorted(expected.keys() ^ found):
        raise arrays.refused(f"has layer {name} too many" if name in found else f"has no layer {name}")
    for name, least in expected.items():
        if not least <= len(layers[name].parameters) <= max(least, 2):  # a convolution may have a bias
            raise arrays.refused(f"has layer {name} with {len(layers[name].parameters)} parameters")
    for unit in layout.units:
        settings = layers[unit.name].settings
        if set(settings.get("stride", ())) != {unit.stride} or set(settings.get("pad", ())) != {unit.pad}:
            raise arrays.refused(f"has layer {unit.name} with another stride or padding than the Caffe net's")
    if "pool1" not in layers or layers["pool1"].settings != POOL1:
        raise arrays.refused("has no layer pool1 with the Caffe net's windows, which weights cannot express")


def take(arrays: Arrays, layers: dict[str, DagLayer], layout: Layout, average_rgb: np.ndarray) -> Descendant:
    """Every parameter in the Caffe net's terms. `average_rgb`: (height, width, 3)."""
    if average_rgb.shape[-1:] != (3,) or not average_rgb.size or not np.isfinite(average_rgb).all():
        raise arrays.refused("has no averageImage of three channels")
    mean_rgb = average_rgb.reshape(-1, 3).mean(0)
    found = Descendant(mean_bgr=tuple(round(float(value), 4) for value in mean_rgb[::-1]))
    for unit in layout.units:
        kernel, bias = convolution(arrays, layers[unit.name], unit.shape)
        found.kernels[unit.name] = kernel[:, ::-1] if unit.stage == 1 else kernel  # RGB to BGR
        found.norms[unit.name] = batch_norm(arrays, layers[unit.batch_norm], unit, bias)
    kernel, bias = convolution(arrays, layers[layout.classifier], (layout.classes, layout.features, 1, 1))
    found.classifier = kernel[:, :, 0, 0], bias
    arrays.finish()
    found.folded = [
        "conv1's channels are turned from RGB to BGR",
        "BatchNorm's sigma, which has eps in it, is the variance sigma^2 - 1e-05",
        "gamma and beta, which MatConvNet keeps in the BatchNorm, are the Scale's",
    ]
    found.differences = [
        "mean: MatConvNet subtracts averageImage, a mean for each pixel; `mean` has its channel means",
        "variance: recovered from a float32 sigma, exact to about 1e-7 of variance + eps",
    ]
    return found


def convolution(arrays: Arrays, layer: DagLayer, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A layer's kernel (n_out, n_in, height, width) and bias (n_out,), which is 0 where it has none."""
    k, c, height, width = shape
    names = layer.parameters
    kernel = arrays.take(names[0], (height, width, c, k)).transpose(3, 2, 0, 1)
    bias = vector(arrays, names[1], k) if len(names) > 1 else np.zeros(k)
    return kernel, bias


def batch_norm(arrays: Arrays, layer: DagLayer, unit: Unit, bias: np.ndarray) -> Norm:
    """A BatchNorm with the bias of its convolution in the mean."""
    gamma, beta, moments = layer.parameters
    k = unit.shape[0]
    mean, sigma = arrays.take(moments, (k, 2)).astype(np.float64).T
    if (sigma <= 0).any():
        raise arrays.refused(f"has a sigma in {moments} that is not positive")
    return Norm(mean - bias, sigma**2, vector(arrays, gamma, k), vector(arrays, beta, k))


def vector(arrays: Arrays, name: str, length: int) -> np.ndarray:
    """An array that MATLAB keeps as a column (or as a row)."""
    return arrays.take(name, (length, 1), (1, length)).reshape(length).astype(np.float64)
