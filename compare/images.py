"""What is compared of the stages index and images."""

from collections.abc import Iterator

import numpy as np

from compare.check import Check
from compare.difference import Difference, difference, unequal_share
from compare.pair import Pair, named
from experiment.stages import RESOLUTIONS, SPLITS


def index(pair: Pair) -> Iterator[Check]:
    """Classes, ids, labels and the images' hashes, all of which must be the same."""
    for name in ("classes", "ids_trainval", "ids_test", "image_sha256"):
        first, second = pair.a.json("index", name), pair.b.json("index", name)
        differing = sum(1 for x, y in zip(first, second, strict=False) if x != y) + abs(len(first) - len(second))
        if isinstance(first, dict):
            differing = len({k for k in first.keys() | second.keys() if first.get(k) != second.get(k)})
        yield pair.judge.check("index", "unequal", name, float(differing), f"{differing} of {len(first)} differ")
    for split in SPLITS:
        name = f"labels_{split}"
        d = difference(pair.a.array("index", name), pair.b.array("index", name))
        if d.problem:
            yield pair.judge.failure("index", name, d.problem)
        else:
            yield pair.judge.check("index", "unequal", name, float(d.unequal), f"{d.unequal} of {d.total} differ")


def images(pair: Pair) -> Iterator[Check]:
    """How many grey levels differ and by how much, and the peak signal-to-noise ratio; the worst image named."""
    for split in SPLITS:
        ids = pair.a.json("index", f"ids_{split}")
        for resolution in RESOLUTIONS:
            name = f"{resolution}_{split}"
            read = named("images", name)

            def detail(d: Difference, ids: list[str] = ids) -> str:
                worst = ids[d.worst_row] if d.worst_row < len(ids) else "?"
                return f"{d.unequal} of {d.total} grey levels differ, PSNR {psnr(d):.1f} dB, worst image {worst}"

            yield (check := pair.array_check(
                "images", "max_abs", name, read, read, lambda d: d.max_abs, unequal_share, detail=detail,
                numbers=lambda d: {"psnr": psnr(d), **d.numbers()},
            ))  # fmt: skip
            if check.quantity != "present":
                share = check.numbers["unequal"] / check.numbers["total"]
                yield pair.judge.check("images", "unequal", name, share, check.detail)


def psnr(d: Difference) -> float:
    """The peak signal-to-noise ratio of 8-bit images, dB; infinite where they are equal."""
    return float(10 * np.log10(255**2 * d.total / d.square_error)) if d.square_error else float("inf")
