"""Read cnnimageretrieval-pytorch's imagenet-caffe-resnet101-features-10a101d.pth.

filipradenovic/cnnimageretrieval-pytorch, issue #18: the weights of the Caffe model, imported. Its
cirtorch/networks/imageretrievalnet.py loads them into the first eight children of torchvision's resnet101, so names
begin with 0 (conv1), 1 (bn1) and 4 to 7 (layer1 to layer4); aosokin/os2d, models/, has the same table. There is no
classifier. Images are RGB in 0..1 (pil_loader, ToTensor) minus 0.485 / 0.456 / 0.406, over 0.229 / 0.224 / 0.225.
"""

from pathlib import Path

import numpy as np
import torch

from experiment.errors import UserError
from fetch.convert.descendant import Arrays, Descendant, Norm
from fetch.convert.layout import Layout, Unit

PUBLISHED = {"sha256": ("10a101d",)}  # by torch.utils.model_zoo's convention for file names
EPSILON = 1e-5  # torch.nn.BatchNorm2d's default
WHITE = 255.0  # ToTensor divides by it
MEAN_RGB = (0.485, 0.456, 0.406)
STD_RGB = (0.229, 0.224, 0.225)
PARTS = {
    "1": ("downsample.0", "downsample.1"),
    "2a": ("conv1", "bn1"),
    "2b": ("conv2", "bn2"),
    "2c": ("conv3", "bn3"),
}
GREY_LEVELS = 15.0  # an input's standard deviation above this is no normalised input's
REMEDY = "get imagenet-caffe-resnet101-features-10a101d.pth again"


def read(file: Path, layout: Layout) -> Descendant:
    """The descendant that a state_dict holds.

    Raises `UserError` where the file is damaged or holds anything but tensors by name (it is read without running
    code), and for a tensor that is missing, superfluous, of another shape, or damaged.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror or error}): {REMEDY}") from None
    except Exception as error:
        # torch lets its parsers' own errors through, whatever the damage makes of them, and gives advice of its own.
        raise UserError(
            f"{file} is no whole file of tensors alone ({type(error).__name__}): it is damaged, in another format, or "
            f"holds code, which is not run: {REMEDY}"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise UserError(f"{file} is no state_dict, tensors by name: {REMEDY}")
    arrays = {name: numpy_array(file, name, tensor) for name, tensor in state.items() if not is_counter(name)}
    return take(Arrays(file, arrays, REMEDY), layout)


def is_counter(name: str) -> bool:
    """Whether it is BatchNorm's count of batches, which plays no part in computing."""
    return name.endswith(".num_batches_tracked")


def numpy_array(file: Path, name: str, tensor: object) -> np.ndarray:
    """A tensor's values, not copied."""
    if (
        not isinstance(tensor, torch.Tensor)
        or tensor.dtype not in (torch.float32, torch.float64)
        or tensor.layout != torch.strided
        or not tensor.is_cpu
    ):
        raise UserError(f"{file} has {name}, which is no plain tensor of floats: {REMEDY}")
    return tensor.detach().numpy()


def take(arrays: Arrays, layout: Layout) -> Descendant:
    """Every tensor in the Caffe net's terms."""
    found = Descendant(mean_bgr=tuple(round(WHITE * value, 4) for value in MEAN_RGB[::-1]))
    for unit in layout.units:
        convolution, norm = torch_names(unit)
        k = unit.shape[:1]
        found.kernels[unit.name] = arrays.take(f"{convolution}.weight", unit.shape)
        found.norms[unit.name] = Norm(
            mean=arrays.take(f"{norm}.running_mean", k).astype(np.float64),
            sigma2=arrays.variance(f"{norm}.running_var", k) + EPSILON,
            gamma=arrays.take(f"{norm}.weight", k).astype(np.float64),
            beta=arrays.take(f"{norm}.bias", k).astype(np.float64),
        )
    arrays.finish()
    first = layout.units[0].name
    spread = input_deviation(found.kernels[first], found.norms[first])
    # (x_rgb / 255 - m) / s = (x_rgb - 255 m) / (255 s), and the padding is 0 after it on both sides.
    per_grey_level = found.kernels[first] / (WHITE * np.array(STD_RGB)).reshape(1, 3, 1, 1)
    found.kernels[first] = per_grey_level[:, ::-1]  # RGB to BGR
    found.folded = [
        "conv1 is divided by 255 x 0.229 / 0.224 / 0.225, for grey levels that are not scaled",
        "conv1's channels are turned from RGB to BGR",
    ]
    found.differences = [
        "stride: torchvision's body, in which cnnimageretrieval runs these weights, has stride 2 on the 3x3 "
        "convolution of layer2 to layer4, the Caffe net on the 1x1 before it; weights cannot express it",
        "pool1: torchvision pads one pixel on every side and rounds down, Caffe pads none and rounds up, so that the "
        "windows lie one pixel apart; weights cannot express it, and the caffemodel computes with Caffe's windows",
        "mean: cnnimageretrieval subtracts 103.53 / 116.28 / 123.675; the features depend on which mean is subtracted",
        f"input: conv1 and its BatchNorm belong to inputs of a standard deviation of roughly {spread:.2g}"
        + (": they look made for grey levels, not for inputs normalised as above" if spread > GREY_LEVELS else ""),
    ]
    return found


def input_deviation(kernel: np.ndarray, norm: Norm) -> float:
    """The standard deviation of white inputs that would give the median channel its stored variance.

    Images are not white, so this tells 1 from 60 and no more: whether a file's conv1 was made for normalised inputs.
    """
    energy = np.square(kernel, dtype=np.float64).sum((1, 2, 3))
    return float(np.sqrt(np.median(norm.sigma2 / np.maximum(energy, np.finfo(np.float64).tiny))))


def torch_names(unit: Unit) -> tuple[str, str]:
    """The names of a unit's convolution and BatchNorm in the Sequential."""
    if unit.stage == 1:
        return "0", "1"
    convolution, norm = PARTS[unit.branch]
    return f"{unit.stage + 2}.{unit.block}.{convolution}", f"{unit.stage + 2}.{unit.block}.{norm}"
