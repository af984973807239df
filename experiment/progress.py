"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from typing import Iterable, Iterator, Optional, TypeVar

from tqdm import tqdm

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 10.0


def progress(items: Iterable[T], total: int, unit: str, label: str, step: int = 1) -> Iterator[T]:
    """Yield from `items` and show how far it is.

    Parameters
    ----------
    items : what is worked through.
    total : how many units there are in all.
    unit : what is counted, in the plural: "images", "iterations".
    label : the work's name, at the start of the line.
    step : units that one item stands for (a batch of 8 images: 8); the last item may stand for fewer.
    """
    if sys.stderr.isatty():
        with tqdm(total=total, unit=f" {unit}", desc=label, leave=False, dynamic_ncols=True) as bar:
            for item in items:
                yield item
                bar.update(min(step, total - bar.n))
        return
    started = last = time.monotonic()
    done = 0
    for item in items:
        yield item
        done = min(done + step, total)
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES and done < total:
            print(progress_line(label, unit, done, total, now - started), file=sys.stderr, flush=True)
            last = now


def progress_line(label: str, unit: str, done: int, total: int, seconds: float) -> str:
    """One plain line: done of total, the rate, and the time left if the rate holds."""
    rate = done / seconds if seconds > 0 else 0.0
    left: Optional[float] = (total - done) / rate if rate > 0 else None
    remaining = "unknown time" if left is None else f"{int(left) // 60}:{int(left) % 60:02d}"
    return f"{label}: {done}/{total} {unit}, {rate:.1f} {unit}/s, {remaining} left"
