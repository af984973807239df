"""What is compared of the stages that run a backbone, features and resnet101: every blob in forward order."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from compare.check import Check
from compare.difference import Difference, difference, worst_row_l2
from compare.pair import Pair, named, own_draws
from experiment.stages import RESOLUTIONS, SPLITS, STAGES


def features(pair: Pair) -> Iterator[Check]:
    """Every blob of the backbone in forward order, then the features; the worst image of each is judged."""
    yield from blobs(pair, "features", "backbone.prototxt")
    for split in SPLITS:
        ids = pair.a.json("index", f"ids_{split}")
        for resolution in RESOLUTIONS:
            name = f"{resolution}_{split}"

            def detail(d: Difference, ids: list[str] = ids) -> str:
                worst = ids[d.worst_row] if d.worst_row < len(ids) else "?"
                return f"all together {d.relative_l2:.2e}, worst image {worst}"

            yield by_image(pair, "features", "relative_l2", name, name, detail)


def resnet101(pair: Pair) -> Iterator[Check]:
    """The photographs, and every blob of ResNet-101 with seeded weights."""
    d = difference(pair.a.array("resnet101", "photographs"), pair.b.array("resnet101", "photographs"))
    if d.problem:
        yield pair.judge.failure("resnet101", "photographs", d.problem)
    else:
        detail = f"{d.unequal} differ"
        yield pair.judge.check("resnet101", "photographs_max_abs", "photographs", d.max_abs, detail, **d.numbers())
    yield from blobs(pair, "resnet101", "resnet101.prototxt")


def blobs(pair: Pair, stage: str, prototxt: str) -> Iterator[Check]:
    """Each blob, its worst image judged, with the layers that write it: the net departs where the first one fails."""
    names, others = pair.a.json(stage, "blob_names"), pair.b.json(stage, "blob_names")
    if names != others or not names:
        odd = sorted(set(names) ^ set(others))
        problem = f"the nets have different blobs: {', '.join(odd) or 'another order'}"
        yield pair.judge.failure(stage, "blob_names", problem)
        return
    layers = writers(pair.a.prototxt(prototxt))
    for i, name in enumerate(names):

        def detail(d: Difference, name: str = name) -> str:
            by = f", written by {', '.join(layers[name])}" if name in layers else ""
            return (
                f"worst image {d.worst_row}, max abs {d.max_abs:.2e} at {d.index}, p99 {d.percentiles['p99']:.2e}{by}"
            )

        quantity = "pool5_relative_l2" if stage == "resnet101" and name == "pool5" else "blob_relative_l2"
        yield by_image(pair, stage, quantity, f"blobs/{i:03d}-{name}", f"blob {name}", detail)


def by_image(pair: Pair, stage: str, quantity: str, name: str, item: str, detail: Callable[[Difference], str]) -> Check:
    """The check of an array with a row an image: the relative L2 of the worst image, the error likewise."""
    read = named(stage, name)
    own = bool(STAGES[stage].draws) and own_draws(pair.a, pair.b, stage)  # then the weights are other ones
    return pair.array_check(
        stage, quantity, item, read, read, lambda d: d.worst_row_l2, None if own else worst_row_l2, detail=detail,
        only_shown=own,
    )  # fmt: skip


def writers(prototxt: Path) -> dict[str, list[str]]:
    """Blob name to the layers that write it, in their order (all but the first work in place); {} without the file."""
    if not prototxt.is_file():
        return {}
    found: dict[str, list[str]] = {}
    for layer in re.split(r"(?m)^layer \{", prototxt.read_text(encoding="utf-8"))[1:]:
        name = re.search(r'(?m)^  name: "([^"]*)"', layer)
        for top in re.findall(r'(?m)^  top: "([^"]*)"', layer):
            found.setdefault(top, []).append(name[1] if name else "?")
    return found
