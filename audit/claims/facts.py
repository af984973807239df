"""Facts from outside the runs, read from audit/claims/facts.toml: the paper's words, counts of samples, others' APs."""

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment.errors import UserError
from experiment.spec import read_profile
from experiment.stages import SPLITS
from paper.published import count, percent, read_published, text

FACTS = Path(__file__).parent / "facts.toml"
COUNTS = Path(__file__).parents[2] / "fetch" / "voc2007_counts.toml"


@dataclass(frozen=True)
class Schedule:
    """How long the transfer network is trained, as the paper prints it (4.2); `stepsize` in iterations."""

    iterations: int
    batch: int
    epochs: int
    stepsize: int


@dataclass(frozen=True)
class Samples:
    """What a training set may be made of, how many there are, and who says so."""

    what: str
    count: int
    source: str


@dataclass(frozen=True)
class ImageLevel:
    """A published result of whole images on VOC2007 test: AP of each class in percent in Table 1's order, its mAP.

    network : whose features it is of; results of one network are no two witnesses.
    """

    title: str
    network: str
    ap: list[float]
    map: float
    source: str


@dataclass(frozen=True)
class Facts:
    """All of them.

    printed_images : the paper's number of images a split. images : VOC2007's own. dimension : of pool5.
    gain : the paper's words on Ours minus Baseline-LR, percent. losers : the classes in which Ours is said to lose, as
    the paper names them. samples : every candidate for the transfer network's training set. image_level : by name.
    """

    schedule: Schedule
    printed_images: dict[str, int]
    images: dict[str, int]
    dimension: int
    gain: int
    losers: list[str]
    samples: list[Samples]
    image_level: dict[str, ImageLevel]


def read_facts(path: Path = FACTS, counts: Path = COUNTS) -> Facts:
    """Read and check facts.toml and voc2007_counts.toml. Raises `UserError` where a value is missing or no fact."""
    transfer = read_profile("paper")[0]["transfer"]
    names = list(read_published().names.values())
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        voc2007 = tomllib.loads(counts.read_text(encoding="utf-8"))
        paper = document["paper"]
        losers = [text(name) for name in paper["losers"]]
        if not set(losers) <= set(names):
            raise ValueError("losers must be names of Table 1")
        image_level = {name: level(entry, len(names)) for name, entry in document["image_level"].items()}
        if len({one.network for one in image_level.values()}) < 2:
            raise ValueError("image_level needs results of two networks, or there is no likeness among them")
        return Facts(
            schedule=Schedule(
                transfer["max_iter"], transfer["batch_size"], count(paper["epochs"]), transfer["stepsize"]
            ),
            printed_images={split: count(paper["images"][split]) for split in SPLITS},
            images={split: count(voc2007["ids"][split]) for split in SPLITS},
            dimension=count(paper["dimension"]),
            gain=count(paper["gain"]),
            losers=losers,
            samples=[*counted(voc2007, counts.name), *map(samples, document["samples"])],
            image_level=image_level,
        )
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}): put it back") from None
    except KeyError as error:
        raise UserError(f"{path} or {counts} lacks {error}: put it back") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: {error}: put back what its sources say") from None


def counted(voc2007: dict[str, Any], source: str) -> list[Samples]:
    """What the counts of VOC2007's own lists give: the images of each split, and the labels of trainval."""
    images = [Samples(f"VOC2007 {split} images", count(voc2007["ids"][split]), source) for split in SPLITS]
    pairs = sum(count(entry["positive"]) for entry in voc2007["labels"]["trainval"].values())
    return [*images, Samples("VOC2007 trainval pairs of an image and a class in it", pairs, source)]


def samples(entry: dict[str, Any]) -> Samples:
    """One candidate of facts.toml; ValueError where it is none."""
    return Samples(text(entry["what"]), sum(map(count, entry["parts"])), text(entry["source"]))


def level(entry: dict[str, Any], classes: int) -> ImageLevel:
    """One published result; ValueError where its mAP is not the mean of its APs."""
    words = {word: text(entry[word]) for word in ("title", "network", "source")}
    found = ImageLevel(**words, ap=list(map(percent, entry["ap"])), map=percent(entry["map"]))
    # Both are rounded to one decimal.
    if len(found.ap) != classes or abs(math.fsum(found.ap) / classes - found.map) > 0.1:
        raise ValueError(f"{found.title} needs one AP for each class, whose mean is its mAP")
    return found
