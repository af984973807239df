"""What a run's figures can be held against: the paper's, or nothing, because its data are a stand-in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiment.artifacts import RunFolder, sha256_json
from experiment.spec import read_profile
from experiment.stages import SPLITS
from paper.published import Published

NO_ANNOTATIONS = sha256_json({})  # what experiment.resolve records of a devkit without any
KEPT_ONLY = ("transfer.snapshots", "features.blob_images", "backbone.weights_file")  # say what is kept, or where it is


@dataclass(frozen=True)
class Standing:
    """How a run stands to the paper.

    classes : the run's own names of its classes, in the order in which they are shown. names : what is shown instead.
    columns : for each of them its column in the run's labels and APs.
    published : whether the paper's numbers are of these classes.
    remarks : sentences that must stand with every figure of the run.
    """

    classes: list[str]
    names: list[str]
    columns: list[int]
    published: bool
    remarks: list[str]


def standing(run: RunFolder, published: Published, varied: Sequence[str] = ()) -> Standing:
    """How a run stands to the paper; `varied`: keys that differ from the paper's profile by purpose.

    Raises `UserError` where the run has no index yet.
    """
    classes = run.json("index", "classes")
    images = {split: len(run.json("index", f"ids_{split}")) for split in SPLITS}
    spec = run.spec
    remarks = [
        f"Profile {spec['profile']}, specification {spec['sha256'][:12]}; {images['trainval']} trainval and "
        f"{images['test']} test images."
    ]
    if set(classes) != set(published.names):
        remarks.append(
            "A stand-in: neither the classes nor the photographs are VOC2007's, so these figures say nothing of the "
            "paper's, and no difference from them is taken."
        )
        return Standing(classes, classes, list(range(len(classes))), False, remarks)
    if images != published.images:
        remarks.append(
            f"VOC2007's classes, but not its {published.images['trainval']} trainval and {published.images['test']} "
            "test images: a difference from the paper's figures is one of the data as well."
        )
    if lacks_annotations(run):
        remarks.append(
            "The devkit has no annotations, so that it is not the published one: a difference from the paper's figures "
            "is one of the data as well."
        )
    if differing := differing_keys(spec["values"], varied):
        remarks.append(
            f"Not the paper's specification: {', '.join(differing)} differ, so a difference from the paper's figures "
            "is no verdict on the paper."
        )
    ordered = list(published.names)
    return Standing(ordered, list(published.names.values()), [classes.index(name) for name in ordered], True, remarks)


def lacks_annotations(run: RunFolder) -> bool:
    """Whether a run's devkit has no annotations, as the one that `make stand-in` draws for VOC2007's real lists."""
    return run.spec.get("external", {}).get("devkit", {}).get("content", {}).get("Annotations") == NO_ANNOTATIONS


def differing_keys(values: dict[str, dict[str, Any]], varied: Sequence[str]) -> list[str]:
    """Every "section.key" in which values differ from the paper's profile and that can change a figure."""
    paper, _ = read_profile("paper")
    return [
        f"{section}.{key}"
        for section, keys in paper.items()
        if section not in ("run", "compare", "resnet101")
        for key, value in keys.items()
        if f"{section}.{key}" not in (*KEPT_ONLY, *varied) and values.get(section, {}).get(key) != value
    ]
