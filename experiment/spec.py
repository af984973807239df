"""The schema of a specification, and the reading of a profile: TOML and overrides in, checked values out.

Host only (the container's Python has no TOML reader); the container reads the spec.json that `resolve` writes.
"""

import math
import re
import tomllib
from pathlib import Path
from typing import Any

from experiment.errors import UserError

PROFILES = Path(__file__).parent / "profiles"

# Section -> key -> the type of the value, or the tuple of the values allowed.
SCHEMA: dict[str, dict[str, type | tuple[Any, ...]]] = {
    "run": {"seed": int},
    "index": {"trainval": str, "test": str, "limit": int},
    "images": {"hr_size": int, "lr_size": int, "lr_from": ("original", "hr"), "antialias": bool},
    "backbone": {
        "name": str,
        "conv1_channels": int,
        "widths": list,
        "blocks": list,
        "classes": int,
        "weights_file": str,
        "weights_sha256": str,
    },
    "features": {
        "blob": ("pool5",),
        "mean": ("channels", "file"),
        "mean_bgr": list,
        "batch_size": int,
        "blob_images": int,
    },
    "clusters": {"k": int, "init": ("k-means++", "random"), "max_iter": int, "tolerance": float},
    "pseudo_labels": {"assign": ("nearest", "twin")},
    "transfer": {
        "n1": int,
        "n2": int,
        "base_lr": float,
        "gamma": float,
        "stepsize": int,
        "max_iter": int,
        "momentum": float,
        "weight_decay": float,
        "batch_size": int,
        "variance_norm": ("FAN_IN", "FAN_OUT", "AVERAGE"),
        "bias_lr_mult": float,
        "bias_decay_mult": float,
        "snapshots": list,
    },
    "transfer_features": {"blob": ("fc2", "fc1", "prob")},
    "svm": {"scale": ("mean_norm", "none"), "c": float, "tolerance": float},
    "resnet101": {"crops": list, "size": int, "mean_bgr": list},
    "compare": {"margin": float, "resamples": int},
}
# What each item of a list is; for resnet101.crops the parts of an item: file, top pixel, left pixel.
ITEMS: dict[str, type | tuple[type, ...]] = {
    "backbone.widths": int,
    "backbone.blocks": int,
    "features.mean_bgr": float,
    "transfer.snapshots": int,
    "resnet101.crops": (str, int, int),
    "resnet101.mean_bgr": float,
}
POSITIVE = {
    "images.hr_size", "images.lr_size", "backbone.conv1_channels", "backbone.widths", "backbone.blocks",
    "backbone.classes", "features.batch_size", "features.blob_images", "clusters.k", "clusters.max_iter",
    "transfer.n1", "transfer.n2", "transfer.base_lr", "transfer.stepsize", "transfer.max_iter", "transfer.batch_size",
    "svm.c", "svm.tolerance", "resnet101.size", "compare.margin", "compare.resamples",
}  # fmt: skip


def read_profile(name: str) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """A profile's values by section and key, and the source of each by "section.key".

    Raises `UserError` for a profile that is not there, a key that the schema lacks or that the profile lacks, a
    value without unit or source, or one of the wrong type.
    """
    path = PROFILES / f"{name}.toml"
    known = sorted(file.stem for file in PROFILES.glob("*.toml"))
    if name not in known:
        raise UserError(f"PROFILE={name} is not a profile: choose one of {', '.join(known)}")
    try:
        document = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: {error}: mend the TOML") from None
    values: dict[str, dict[str, Any]] = {section: {} for section in SCHEMA}
    sources: dict[str, str] = {}
    for section, table in document.items():
        if section not in SCHEMA or not isinstance(table, dict):
            raise UserError(f"{path}: {section} is not a section of the specification (experiment/spec.py lists them)")
        for key, entry in table.items():
            if not isinstance(entry, dict) or set(entry) != {"value", "unit", "source"}:
                raise UserError(f"{path}: {section}.{key} must be {{ value = , unit = , source = }}")
            if not all(isinstance(entry[part], str) and entry[part].strip() for part in ("unit", "source")):
                raise UserError(f"{path}: {section}.{key} must be given a unit and a source, '-' where it has no unit")
            check_value(f"{section}.{key}", entry["value"], str(path))
            values[section][key] = entry["value"]
            sources[f"{section}.{key}"] = entry["source"]
    for section, keys in SCHEMA.items():
        if missing := sorted(keys.keys() - values[section].keys()):
            raise UserError(f"{path}: {section}.{missing[0]} is missing: give it a value, a unit and a source")
    return values, sources


def check_value(name: str, value: Any, where: str) -> None:
    """Raise `UserError` where `section.key` is not in the schema or its value is not of the kind allowed."""
    section, _, key = name.partition(".")
    expected = SCHEMA.get(section, {}).get(key)
    if expected is None:
        raise UserError(f"{where}: {name} is not a key of the specification (experiment/spec.py lists them)")
    if isinstance(expected, tuple):
        if value not in expected:
            raise UserError(f"{where}: {name} = {value!r} must be one of {', '.join(map(repr, expected))}")
    elif type(value) is not expected:
        raise UserError(f"{where}: {name} = {value!r} must be of type {expected.__name__}")
    items = value if isinstance(value, list) else [value]
    kind = ITEMS.get(name)
    if kind is not None and not all(is_item(item, kind) for item in items):
        told = kind.__name__ if isinstance(kind, type) else f"[{', '.join(part.__name__ for part in kind)}]"
        raise UserError(f"{where}: {name} = {value!r} must be a list of {told}")
    if any(isinstance(item, float) and not math.isfinite(item) for item in items):
        raise UserError(f"{where}: {name} = {value!r} must be finite")
    if name in POSITIVE and any(item <= 0 for item in items):
        raise UserError(f"{where}: {name} = {value!r} must be greater than 0")


def is_item(item: Any, kind: type | tuple[type, ...]) -> bool:
    """Whether a list's item is of the kind that `ITEMS` gives; an int is no float, a bool is no int."""
    if isinstance(kind, type):
        return type(item) is kind
    return isinstance(item, list) and [type(part) for part in item] == list(kind)


def apply_override(values: dict[str, dict[str, Any]], sources: dict[str, str], text: str) -> None:
    """Apply one `section.key=value` to values and sources.

    The value is as in TOML; a bare word is a string, and so is whatever is given to a key that holds one.
    """
    match = re.fullmatch(r"([a-z0-9_]+\.[a-z0-9_]+)=(.+)", text)
    if match is None:
        raise UserError(f"SET={text} is not of the form section.key=value, as in SET=transfer.n1=256")
    name, literal = match.groups()
    try:
        value = tomllib.loads(f"value = {literal}")["value"]
    except tomllib.TOMLDecodeError:
        value = literal
    section, _, key = name.partition(".")
    kind = SCHEMA.get(section, {}).get(key)
    if kind is float and type(value) is int:
        value = float(value)
    if kind is str and type(value) is not str:
        value = literal
    if ITEMS.get(name) is float and isinstance(value, list):
        value = [float(item) if type(item) is int else item for item in value]
    check_value(name, value, f"SET={text}")
    values[section][key] = value
    sources[name] = "SET"


def shorten(values: dict[str, dict[str, Any]], sources: dict[str, str], limit: int, n_trainval: int) -> None:
    """Take the first `limit` images of each split, and shorten the schedule in proportion to the trainval images."""
    share = min(1.0, limit / max(n_trainval, 1))
    transfer = values["transfer"]
    drops = max(2, round(transfer["stepsize"] * share))
    end = max(2 * drops + 1, round(transfer["max_iter"] * share))
    snapshots = sorted({1, 2, *(at for drop in (drops, 2 * drops) for at in (drop - 1, drop, drop + 1)), end})
    for section, key, value in (
        ("index", "limit", limit),
        ("transfer", "stepsize", drops),
        ("transfer", "max_iter", end),
        ("transfer", "snapshots", snapshots),
        ("clusters", "k", min(values["clusters"]["k"], limit)),
        ("transfer", "n2", min(transfer["n2"], limit)),
    ):
        values[section][key] = value
        sources[f"{section}.{key}"] = f"LIMIT={limit}"


def check_together(values: dict[str, dict[str, Any]], where: str) -> None:
    """Raise `UserError` where values that are fine alone contradict each other."""
    transfer, images, backbone = values["transfer"], values["images"], values["backbone"]
    if transfer["n2"] != values["clusters"]["k"]:
        raise UserError(
            f"{where}: transfer.n2 = {transfer['n2']} must equal clusters.k = {values['clusters']['k']}: "
            "the second layer has one neuron a pseudo-label (paper 4.3)"
        )
    if values["index"]["limit"] < 0:
        raise UserError(f"{where}: index.limit must not be negative; 0 is all")
    if images["lr_size"] > images["hr_size"]:
        raise UserError(f"{where}: images.lr_size must not be greater than images.hr_size")
    if len(backbone["widths"]) != len(backbone["blocks"]) or not backbone["blocks"]:
        raise UserError(f"{where}: backbone.widths and backbone.blocks must be of one length, a stage each")
    for section in ("features", "resnet101"):
        if len(values[section]["mean_bgr"]) != 3:
            raise UserError(f"{where}: {section}.mean_bgr must hold three values, blue first")
    if not 0 <= transfer["momentum"] < 1 or transfer["weight_decay"] < 0:
        raise UserError(f"{where}: transfer.momentum must lie in [0, 1) and transfer.weight_decay not be negative")
    if not values["resnet101"]["crops"]:
        raise UserError(f"{where}: resnet101.crops must name one crop at least")
    if any(top < 0 or left < 0 for _, top, left in values["resnet101"]["crops"]):
        raise UserError(f"{where}: resnet101.crops must not begin before pixel 0")
    outside = [i for i in transfer["snapshots"] if not 1 <= i <= transfer["max_iter"]]
    if outside:
        raise UserError(f"{where}: transfer.snapshots has {outside[0]}, which is not an iteration of the schedule")
    steps = [end - start for start, end in zip(transfer["snapshots"], transfer["snapshots"][1:], strict=False)]
    if any(step < 1 for step in steps) or 1 not in steps:
        raise UserError(
            f"{where}: transfer.snapshots must ascend, and hold two neighbouring iterations at least: one step between "
            "them is what tells whether the port's update is Caffe's"
        )
