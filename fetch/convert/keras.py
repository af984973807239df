"""Read Keras's ResNet101, resnet101_weights_tf_dim_ordering_tf_kernels.h5 (with or without its top).

The body is that of keras-team/keras-applications, keras_applications/resnet_common.py: layers conv1_conv and conv1_bn,
then conv<stage>_block<number>_<branch>_conv and _bn with branch 0 the projection and 1 to 3 the convolutions; kernels
are (height, width, n_in, n_out), convolutions have biases, BatchNorm's epsilon is 1.001e-5. The stride stands on
the first 1x1 convolution, as in Caffe. Images are BGR grey levels minus 103.939 / 116.779 / 123.68 (imagenet_utils.py,
mode "caffe"), so conv1 keeps its order of channels.
"""

from pathlib import Path

import h5py
import numpy as np

from experiment.errors import UserError
from fetch.convert.descendant import Arrays, Descendant, Norm
from fetch.convert.layout import Layout, Unit

# With top and without: WEIGHTS_HASHES of resnet_common.py.
PUBLISHED = {"md5": ("f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21")}
EPSILON = 1.001e-5
MEAN_BGR = (103.939, 116.779, 123.68)
BRANCHES = {"1": 0, "2a": 1, "2b": 2, "2c": 3}
CLASSIFIERS = ("predictions", "probs")  # its name since 2020, and before
REMEDY = "get resnet101_weights_tf_dim_ordering_tf_kernels.h5 again (the .h5 layout before Keras 3)"


def read(file: Path, layout: Layout) -> Descendant:
    """The descendant that a Keras weights file (or a whole saved model) holds.

    Raises `UserError` where it is no HDF5 file, and for a layer that is missing, superfluous, of another shape, or
    damaged.
    """
    try:
        with h5py.File(file, "r") as h5:
            return take(Arrays(file, weights(h5), REMEDY), layout)
    except (OSError, RuntimeError, KeyError) as error:  # h5py's, for what is damaged
        raise UserError(f"{file} is no whole HDF5 file ({error}): {REMEDY}") from None


def weights(h5: h5py.File) -> dict[str, h5py.Dataset]:
    """<layer>/<weight> to dataset. Neither links nor data in other files are followed."""
    root = "model_weights/" if "model_weights" in h5 else ""  # a saved model has them one level down
    found = {}

    def visit(path: str, node: object) -> None:
        if isinstance(node, h5py.Dataset) and path.startswith(root) and not (node.external or node.is_virtual):
            parts = path.removeprefix(root).split("/")
            if parts[0] != "optimizer_weights":
                found[f"{parts[0]}/{parts[-1].removesuffix(':0')}"] = node

    h5.visititems(visit)
    return found


def take(arrays: Arrays, layout: Layout) -> Descendant:
    """Every weight in the Caffe net's terms."""
    found = Descendant(mean_bgr=MEAN_BGR)
    for unit in layout.units:
        layer = keras_name(unit)
        k, c, height, width = unit.shape
        kernel = arrays.take(f"{layer}_conv/kernel", (height, width, c, k))
        found.kernels[unit.name] = kernel.transpose(3, 2, 0, 1)
        bias = arrays.take(f"{layer}_conv/bias", (k,)).astype(np.float64)
        found.norms[unit.name] = Norm(
            mean=arrays.take(f"{layer}_bn/moving_mean", (k,)) - bias,
            sigma2=arrays.variance(f"{layer}_bn/moving_variance", (k,)) + EPSILON,
            gamma=arrays.take(f"{layer}_bn/gamma", (k,)),
            beta=arrays.take(f"{layer}_bn/beta", (k,)),
        )
    for name in CLASSIFIERS:
        if f"{name}/kernel" in arrays and found.classifier is None:
            weight = arrays.take(f"{name}/kernel", (layout.features, layout.classes))
            found.classifier = weight.T, arrays.take(f"{name}/bias", (layout.classes,))
    arrays.finish()
    found.folded = [
        "the convolutions' biases are in the BatchNorm means",
        f"BatchNorm's epsilon {EPSILON:g} is in the variances, for Caffe's 1e-05",
    ]
    found.differences = [
        "pool1: Keras pads one pixel on every side and rounds down, Caffe pads none and rounds up, so that the "
        "windows lie one pixel apart; weights cannot express it, and the caffemodel computes with Caffe's windows",
        "mean: Keras subtracts 103.939 / 116.779 / 123.68; the features depend on which mean is subtracted",
        "origin: Keras does not say where these weights come from; its reported errors (23.580 / 7.214 %) are close to "
        "those of the Caffe model (23.6 / 7.1 %)",
    ]
    return found


def keras_name(unit: Unit) -> str:
    """The beginning of the names of a unit's two layers."""
    if unit.stage == 1:
        return "conv1"
    return f"conv{unit.stage}_block{unit.block + 1}_{BRANCHES[unit.branch]}"
