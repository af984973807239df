"""Each layer type against the real Caffe, with random parameters and awkward shapes."""

import zlib

import numpy as np
import pytest
import torch

from tests.conftest import caffe_case, relative_l2, user_error
from torch_impl.caffe_net import CaffeNet

# Both sides add up to a hundred float32 numbers, in another order. A rounding is 2^-24 = 6e-8 at most, and they cancel
# in part: relative L2 differences of 1e-8 to 1e-7 are what that gives, and no mistake is as small as 1e-6.
SUMS = 1e-6
EXACT = 0.0  # a maximum, a product and a comparison do not depend on any order


def random(name: str, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Normal values of the given shapes, seeded by a name."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    return [generator.standard_normal(shape).astype(np.float32) for shape in shapes]


def net_text(bottoms: dict[str, tuple[int, ...]], *layers: str) -> str:
    """A prototxt with Input layers of these shapes and the given layers."""
    inputs = [
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
        f"{' '.join(f'dim: {n}' for n in shape)} }} }} }}"
        for name, shape in bottoms.items()
    ]
    return "\n".join([*inputs, *layers]) + "\n"


def layer(type_: str, settings: str = "", bottoms: str = 'bottom: "x"', top: str = "y", name: str = "layer") -> str:
    """One layer in text format."""
    return f'layer {{ name: "{name}" type: "{type_}" {bottoms} top: "{top}" {settings} }}'


NETS: dict[str, tuple[str, dict[str, np.ndarray], dict[str, list[np.ndarray]], float]] = {}


def add(
    name: str, text: str, inputs: dict[str, np.ndarray], parameters: dict[str, list[np.ndarray]], tolerance: float
) -> None:
    """Register a net that both sides compute; `tolerance` is the relative L2 difference of each of its blobs."""
    NETS[name] = (text, inputs, parameters, tolerance)
    caffe_case(name, text, inputs, parameters)


def add_layer(
    name: str,
    type_: str,
    settings: str = "",
    shapes: tuple[tuple[int, ...], ...] = ((2, 6, 7, 8),),
    parameters: list[np.ndarray] | None = None,
    tolerance: float = SUMS,
) -> None:
    """Register one layer whose bottoms x0, x1 .. have the given shapes."""
    bottoms = {f"x{i}": shape for i, shape in enumerate(shapes)}
    text = net_text(bottoms, layer(type_, settings, " ".join(f'bottom: "{b}"' for b in bottoms)))
    inputs = dict(zip(bottoms, random(name, *shapes), strict=True))
    add(name, text, inputs, {"layer": parameters} if parameters else {}, tolerance)


for method, allowed in (("MAX", EXACT), ("AVE", SUMS)):
    for pad in (0, 1):
        for size in (6, 7, 8, 9):
            add_layer(
                f"pooling-{method}-pad{pad}-{size}",
                "Pooling",
                f"pooling_param {{ pool: {method} kernel_size: 3 stride: 2 pad: {pad} }}",
                ((2, 3, size, size + 3),),
                tolerance=allowed,
            )
    add_layer(f"pooling-{method}-stride1", "Pooling", f"pooling_param {{ pool: {method} kernel_size: 7 }}")
    for size in (8, 9):  # 8: the last window would start in the padding, and is dropped
        add_layer(
            f"pooling-{method}-stride3-{size}",
            "Pooling",
            f"pooling_param {{ pool: {method} kernel_size: 2 stride: 3 pad: 1 }}",
            ((1, 2, size, size),),
            tolerance=allowed,
        )
    add_layer(f"pooling-{method}-global", "Pooling", f"pooling_param {{ pool: {method} global_pooling: true }}")
    add_layer(
        f"pooling-{method}-floor",
        "Pooling",
        f"pooling_param {{ pool: {method} kernel_size: 3 stride: 2 round_mode: FLOOR }}",
        ((2, 3, 8, 10),),
        tolerance=allowed,
    )

for scale_factor in (0.0, 1.0, 999.98):  # 0: the sums, whatever they hold, count as 0
    mean, variance = random(f"bn{scale_factor}", (6,), (6,))
    sums = np.float32(scale_factor or 1)
    add_layer(
        f"batchnorm-factor-{scale_factor}",
        "BatchNorm",
        parameters=[mean * sums, (variance**2 + np.float32(0.1)) * sums, np.array([scale_factor], np.float32)],
    )
add_layer(
    "batchnorm-eps",
    "BatchNorm",
    "batch_norm_param { use_global_stats: true eps: 0.5 }",
    parameters=[np.zeros(6, np.float32), np.full(6, 0.1, np.float32), np.ones(1, np.float32)],
)
add_layer("scale", "Scale", parameters=random("scale gamma", (6,)))
add_layer("scale-bias", "Scale", "scale_param { bias_term: true }", parameters=random("scale both", (6,), (6,)))
add_layer("scale-of-rows", "Scale", shapes=((5, 6),), parameters=random("scale rows", (6,)))
add_layer("relu", "ReLU", tolerance=EXACT)
add_layer("relu-slope", "ReLU", "relu_param { negative_slope: 0.25 }", tolerance=EXACT)

three = ((2, 6, 7, 8),) * 3
add_layer("eltwise-sum", "Eltwise", shapes=three)
add_layer("eltwise-coefficients", "Eltwise", "eltwise_param { coeff: 1 coeff: -0.5 coeff: 2 }", three)
add_layer("eltwise-product", "Eltwise", "eltwise_param { operation: PROD }", three, tolerance=EXACT)
add_layer("eltwise-maximum", "Eltwise", "eltwise_param { operation: MAX }", three, tolerance=EXACT)

add_layer(
    "innerproduct-of-images", "InnerProduct", "inner_product_param { num_output: 5 }", ((2, 3, 4, 5),),
    random("ip", (5, 60), (5,)),
)  # fmt: skip
add_layer(
    "innerproduct-no-bias", "InnerProduct", "inner_product_param { num_output: 5 bias_term: false }", ((3, 7),),
    random("ip no bias", (5, 7)),
)  # fmt: skip
for name, settings, shapes in (
    ("plain", "kernel_size: 3", [(4, 6, 3, 3), (4,)]),
    ("stride-pad", "kernel_size: 3 stride: 2 pad: 1 bias_term: false", [(4, 6, 3, 3)]),
    ("group", "kernel_size: 3 group: 2", [(4, 3, 3, 3), (4,)]),
    ("dilation", "kernel_size: 3 dilation: 2 pad: 2", [(4, 6, 3, 3), (4,)]),
    ("1x1-stride", "kernel_size: 1 stride: 2", [(4, 6, 1, 1), (4,)]),
):
    add_layer(
        f"convolution-{name}",
        "Convolution",
        f"convolution_param {{ num_output: 4 {settings} }}",
        parameters=random(name, *shapes),
    )
add_layer("softmax", "Softmax", shapes=((4, 9),))
add_layer("softmax-of-images", "Softmax", shapes=((2, 5, 3, 4),))
add_layer("softmax-last-axis", "Softmax", "softmax_param { axis: 3 }", shapes=((2, 5, 3, 4),))

# Scores whose softmax is above FLT_MIN (1.18e-38), denormal, and 0: the loss stops at -log(FLT_MIN) = 87.34.
EXTREME_SCORES = np.array([[0, 5, 1], [0, 86, 0], [0, 95, 0], [0, 300, 0], [-3e4, 3e4, 0]], np.float32)
EXTREME_LABELS = np.array([1, 0, 0, 2, 0], np.float32)
for row in range(len(EXTREME_SCORES)):
    add(
        f"loss-of-extreme-scores-{row}",
        net_text({"x": (1, 3), "label": (1,)}, layer("SoftmaxWithLoss", "", 'bottom: "x" bottom: "label"')),
        {"x": EXTREME_SCORES[[row]], "label": EXTREME_LABELS[[row]]},
        {},
        SUMS,
    )


@pytest.mark.parametrize("name", NETS)
def test_layer_gives_what_caffe_gives(name, caffe, tmp_path):
    text, inputs, parameters, tolerance = NETS[name]
    (tmp_path / "net.prototxt").write_text(text)
    net = CaffeNet(tmp_path / "net.prototxt")
    net.set_parameters(parameters)
    blobs = net.forward({blob: torch.from_numpy(array) for blob, array in inputs.items()})
    expected = caffe(name).array("blobs/y")
    assert net.blob_shapes["y"] == expected.shape
    assert relative_l2(blobs["y"].numpy(), expected) <= tolerance


def test_loss_stops_at_the_least_normal_float(caffe):
    """Guards the cases above: the extreme scores do reach Caffe's clamp, and one of them only just does not."""
    clamp = -np.log(np.finfo(np.float32).tiny)
    losses = [caffe(f"loss-of-extreme-scores-{row}").array("blobs/y") for row in range(len(EXTREME_SCORES))]
    assert losses[0] < 1 and 85 < losses[1] < clamp - 1
    assert np.allclose(losses[2:], clamp)


# What the port refuses because it would compute it otherwise than Caffe: (type, settings, bottoms, said).
REFUSED = {
    "unknown type": ("LRN", "", 1, "LRN"),
    "kernel of two sizes": ("Convolution", "convolution_param { kernel_size: 3 kernel_size: 5 }", 1, "3, 5"),
    "stochastic pooling": ("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 }", 1, "STOCHASTIC"),
    "windows outside the image": ("Pooling", "pooling_param { kernel_size: 2 stride: 3 }", 1, "stride"),
    "batch statistics": ("BatchNorm", "batch_norm_param { use_global_stats: false }", 1, "statistics"),
    "scale of another axis": ("Scale", "scale_param { axis: 2 }", 1, "axes"),
    "scale by a bottom": ("Scale", "", 2, "bottom"),
    "transposed weight": ("InnerProduct", "inner_product_param { num_output: 2 transpose: true }", 1, "transposed"),
    "coefficients of a product": ("Eltwise", "eltwise_param { operation: PROD coeff: 1 coeff: 2 }", 2, "coeff"),
    "too few coefficients": ("Eltwise", "eltwise_param { coeff: 1 }", 2, "coeff"),
    "loss weight": ("Softmax", "loss_weight: 2", 1, "loss_weight"),
    "shared parameters": ("InnerProduct", 'param { name: "w" } inner_product_param { num_output: 2 }', 1, "name"),
    "kernel greater than the image": ("Convolution", "convolution_param { num_output: 2 kernel_size: 99 }", 1, "fit"),
    "no bottom": ("ReLU", "", 0, "layer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_layer_that_the_port_lacks_is_refused(name, tmp_path):
    type_, settings, bottoms, says = REFUSED[name]
    names = " ".join(f'bottom: "x{i}"' for i in range(bottoms))
    shapes = {f"x{i}": (2, 6, 7, 8) for i in range(2)}
    (tmp_path / "net.prototxt").write_text(net_text(shapes, layer(type_, settings, names)))
    with user_error(tmp_path / "net.prototxt", says):
        CaffeNet(tmp_path / "net.prototxt")


def test_bottoms_of_different_shapes_are_refused(tmp_path):
    text = net_text({"a": (1, 2), "b": (1, 3)}, layer("Eltwise", "", 'bottom: "a" bottom: "b"'))
    (tmp_path / "net.prototxt").write_text(text)
    with user_error(tmp_path / "net.prototxt", "shape"):
        CaffeNet(tmp_path / "net.prototxt")
