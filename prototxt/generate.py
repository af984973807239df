"""Write the nets and the solver as Caffe reads them, from a specification's values.

`python -m prototxt.generate` rewrites the committed files: the paper's in this folder, the embedded profile's in
embedded/. A run gets its own copies through `experiment.resolve`.

Names, types and parameters of the residual nets are those of the Model Zoo's ResNet-101-deploy.prototxt, so that
its caffemodel loads into ours by layer name.
"""

from pathlib import Path
from typing import Any

HDF5_LIST = "transfer_train.txt"  # names the HDF5 file; Caffe opens both relative to its working directory


def prototxts(values: dict[str, dict[str, Any]]) -> dict[str, str]:
    """All files that a run needs, name to text, from the spec's values."""
    backbone = values["backbone"]
    transfer = values["transfer"]
    size = values["images"]["hr_size"]
    feature_dim = 4 * backbone["widths"][-1]
    return {
        "backbone.prototxt": resnet(
            backbone["name"],
            size,
            backbone["conv1_channels"],
            backbone["widths"],
            backbone["blocks"],
            backbone["classes"],
        ),
        "transfer_train.prototxt": transfer_train(transfer),
        "transfer_deploy.prototxt": transfer_deploy(transfer, feature_dim),
        "solver.prototxt": solver(transfer),
        "resnet101.prototxt": resnet101(values["resnet101"]["size"]),
    }


def resnet101(size: int = 224) -> str:
    """ResNet-101 for ILSVRC2012, as the Model Zoo has it."""
    return resnet("ResNet-101", size, 64, [64, 128, 256, 512], [3, 4, 23, 3], 1000)


def message(name: str, fields: list[tuple[str, Any]], indent: int = 0) -> str:
    """A protobuf message in text format. A list as value is a nested message, a string is quoted unless it is
    an enum's name (upper case), a bool is true or false."""
    pad = "  " * indent
    lines = [f"{pad}{name} {{"]
    for key, value in fields:
        if isinstance(value, list):
            lines.append(message(key, value, indent + 1))
        elif isinstance(value, bool):
            lines.append(f"{pad}  {key}: {str(value).lower()}")
        elif isinstance(value, str) and not value.isupper():
            lines.append(f'{pad}  {key}: "{value}"')
        else:
            lines.append(f"{pad}  {key}: {value}")
    return "\n".join([*lines, f"{pad}}}"])


def layer(name: str, type_: str, bottoms: list[str], top: str, *fields: tuple[str, Any]) -> str:
    """One layer of a net."""
    return message("layer", [("name", name), ("type", type_), *(("bottom", b) for b in bottoms), ("top", top), *fields])


def resnet(name: str, size: int, conv1: int, widths: list[int], blocks: list[int], classes: int) -> str:
    """A bottleneck residual net for (batch, 3, size, size) images (He et al. 2016, table 1).

    Caffe's arrangement: no bias in convolutions, BatchNorm and Scale in place, stride 2 on the first 1x1
    convolution of a stage, pool1 3/2 with no padding (Caffe rounds up), pool5 over all that is left.
    """
    layers = [
        f'name: "{name}"',
        message("layer", [("name", "data"), ("type", "Input"), ("top", "data"), ("input_param", [
            ("shape", [("dim", 1), ("dim", 3), ("dim", size), ("dim", size)])])]),
        *convolution("conv1", "data", conv1, 7, stride=2, pad=3, norm="_conv1", relu="conv1_relu"),
        layer("pool1", "Pooling", ["conv1"], "pool1",
              ("pooling_param", [("pool", "MAX"), ("kernel_size", 3), ("stride", 2)])),
    ]  # fmt: skip
    bottom = "pool1"
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True), start=2):
        for index, block in enumerate(block_names(stage, count)):
            stride = 2 if index == 0 and stage > 2 else 1
            layers += bottleneck(block, bottom, width, stride, project=index == 0)
            bottom = f"res{block}"
    pooled = (size - 1) // 2 + 1  # conv1
    pooled = -(-(pooled - 3) // 2) + 1  # pool1 rounds up
    for _ in blocks[1:]:
        pooled = (pooled - 1) // 2 + 1
    layers += [
        layer("pool5", "Pooling", [bottom], "pool5",
              ("pooling_param", [("pool", "AVE"), ("kernel_size", pooled), ("stride", 1)])),
        layer(f"fc{classes}", "InnerProduct", ["pool5"], f"fc{classes}",
              ("inner_product_param", [("num_output", classes)])),
        layer("prob", "Softmax", [f"fc{classes}"], "prob"),
    ]  # fmt: skip
    return "\n".join(layers) + "\n"


def block_names(stage: int, count: int) -> list[str]:
    """The Model Zoo's block names: 2a 2b 2c where there are at most three, 3a 3b1 3b2 ... where there are more."""
    if count <= 3:
        return [f"{stage}{letter}" for letter in "abc"[:count]]
    return [f"{stage}a", *(f"{stage}b{index}" for index in range(1, count))]


def convolution(
    name: str, bottom: str, channels: int, kernel: int, stride: int, pad: int, norm: str, relu: str = ""
) -> list[str]:
    """A convolution with its BatchNorm, Scale and, where it has a name, ReLU, all in place."""
    convolution_param = [
        ("num_output", channels),
        ("kernel_size", kernel),
        ("pad", pad),
        ("stride", stride),
        ("bias_term", False),
    ]
    layers = [
        layer(name, "Convolution", [bottom], name, ("convolution_param", convolution_param)),
        layer(f"bn{norm}", "BatchNorm", [name], name, ("batch_norm_param", [("use_global_stats", True)])),
        layer(f"scale{norm}", "Scale", [name], name, ("scale_param", [("bias_term", True)])),
    ]
    return [*layers, layer(relu, "ReLU", [name], name)] if relu else layers


def bottleneck(block: str, bottom: str, width: int, stride: int, project: bool) -> list[str]:
    """One bottleneck: branch1 is a projection (or the bottom itself), branch2 is 1x1, 3x3, 1x1."""
    layers = []
    shortcut = bottom
    if project:
        shortcut = f"res{block}_branch1"
        layers += convolution(shortcut, bottom, 4 * width, 1, stride, 0, f"{block}_branch1")
    for part, channels, kernel, part_stride in (("2a", width, 1, stride), ("2b", width, 3, 1), ("2c", 4 * width, 1, 1)):
        name = f"res{block}_branch{part}"
        relu = "" if part == "2c" else f"{name}_relu"
        layers += convolution(name, bottom, channels, kernel, part_stride, kernel // 2, f"{block}_branch{part}", relu)
        bottom = name
    return [
        *layers,
        layer(f"res{block}", "Eltwise", [shortcut, bottom], f"res{block}"),
        layer(f"res{block}_relu", "ReLU", [f"res{block}"], f"res{block}"),
    ]


def inner_product(name: str, bottom: str, neurons: int, transfer: dict[str, Any]) -> str:
    """A fully connected layer with the MSRA filler and the learning-rate and decay multipliers spelled out."""
    return layer(
        name,
        "InnerProduct",
        [bottom],
        name,
        ("param", [("lr_mult", 1), ("decay_mult", 1)]),
        ("param", [("lr_mult", transfer["bias_lr_mult"]), ("decay_mult", transfer["bias_decay_mult"])]),
        (
            "inner_product_param",
            [
                ("num_output", neurons),
                ("weight_filler", [("type", "msra"), ("variance_norm", transfer["variance_norm"])]),
                ("bias_filler", [("type", "constant"), ("value", 0)]),
            ],
        ),
    )


def transfer_layers(transfer: dict[str, Any]) -> list[str]:
    """What training and deployment share: InnerProduct N1, ReLU (D26), InnerProduct N2 (paper 4.2, 4.3)."""
    return [
        inner_product("fc1", "data", transfer["n1"], transfer),
        layer("relu1", "ReLU", ["fc1"], "fc1"),
        inner_product("fc2", "fc1", transfer["n2"], transfer),
    ]


def transfer_train(transfer: dict[str, Any]) -> str:
    """The transfer network as it is trained: HDF5 rows, as they come (D30), and pseudo-labels in, softmax loss out."""
    source = [("source", HDF5_LIST), ("batch_size", transfer["batch_size"])]
    tops = [("top", "data"), ("top", "label")]
    data = message("layer", [("name", "data"), ("type", "HDF5Data"), *tops, ("hdf5_data_param", source)])
    loss = layer("loss", "SoftmaxWithLoss", ["fc2", "label"], "loss")
    return "\n".join(['name: "transfer"', data, *transfer_layers(transfer), loss]) + "\n"


def transfer_deploy(transfer: dict[str, Any], feature_dim: int) -> str:
    """The transfer network as it is applied: features in, fc2 and its softmax out."""
    shape = [("shape", [("dim", 1), ("dim", feature_dim)])]
    data = message("layer", [("name", "data"), ("type", "Input"), ("top", "data"), ("input_param", shape)])
    prob = layer("prob", "Softmax", ["fc2"], "prob")
    return "\n".join(['name: "transfer"', data, *transfer_layers(transfer), prob]) + "\n"


def solver(transfer: dict[str, Any]) -> str:
    """SGD as the paper says (4.2): base_lr, steps of stepsize, momentum, weight decay, max_iter."""
    fields = [
        ("net", '"transfer_train.prototxt"'),
        ("type", '"SGD"'),
        ("base_lr", transfer["base_lr"]),
        ("lr_policy", '"step"'),
        ("gamma", transfer["gamma"]),
        ("stepsize", transfer["stepsize"]),
        ("momentum", transfer["momentum"]),
        ("weight_decay", transfer["weight_decay"]),
        ("max_iter", transfer["max_iter"]),
        ("display", 0),
        ("snapshot_prefix", '"transfer"'),
        ("solver_mode", "CPU"),
    ]
    return "".join(f"{key}: {value}\n" for key, value in fields)


def main() -> None:
    """Rewrite the committed files from the two profiles."""
    from experiment.spec import read_profile

    folder = Path(__file__).parent
    paper = prototxts(read_profile("paper")[0])
    del paper["resnet101.prototxt"]
    paper["ResNet-101-deploy.prototxt"] = paper.pop("backbone.prototxt")
    embedded = prototxts(read_profile("embedded")[0])
    del embedded["resnet101.prototxt"]
    for target, texts in ((folder, paper), (folder / "embedded", embedded)):
        target.mkdir(exist_ok=True)
        for name, text in texts.items():
            (target / name).write_text(text)


if __name__ == "__main__":
    main()
