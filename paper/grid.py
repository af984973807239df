"""Table 2: `python -m paper.grid RUN [--n1 ...] [--n2 ...] [--out FOLDER] [--threads N]`.

Trains every combination of N1 and N2 with the port, from RUN/torch's features, and prints the mAPs beside the paper's.
It can be stopped at any moment and goes on where it was; what is up to date is not trained again. Writes table2.md,
table2.csv and table2.json.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from compare.svm import FLAT
from experiment.artifacts import RunFolder
from experiment.errors import UserError, run_command
from experiment.plan import time_text
from paper.cells import BLOBS, Cell, bring_up_to_date, cell, resolve_cell, source_of, up_to_date
from paper.choice import validation
from paper.grid_page import Entry, Grid, write
from paper.published import PERCENT, read_published
from paper.standing import standing
from paper.table1 import OUT
from torch_impl.svm import sharing_baselines

VARIED_OF_PAPER = ("transfer.n1", "transfer.n2", "clusters.k", "transfer_features.blob")


def grid(path: Path, n1s: Sequence[int], n2s: Sequence[int], threads: int = 0) -> Grid:
    """Bring every combination under RUN/grid up to date and gather what came out.

    Raises `UserError` where RUN/torch has no index yet, or its devkit or weights are gone. A combination that cannot
    be trained stops no other: its entries give the reason.
    """
    base = RunFolder(path / "torch")
    n_trainval = len(base.json("index", "ids_trainval"))
    n_classes = len(base.json("index", "classes"))
    if min(*n1s, *n2s) < 1:
        raise UserError("--n1 and --n2 must be numbers of neurons above 0, as in --n1 256 512")
    # Each once, ascending: the smallest combinations come first, and with them a first estimate of the time.
    n1s, n2s = sorted(set(n1s)), sorted(set(n2s))
    cells = [cell(path, n1, n2) for n1, n2 in itertools.product(n1s, n2s)]
    impossible = {
        one: f"k-means cannot make {one.n2} clusters of {n_trainval} trainval images"
        for one in cells
        if one.n2 > n_trainval
    }
    with sharing_baselines():
        failed = train([one for one in cells if one not in impossible], base, threads)
    entries = {}
    for blob, one in itertools.product(BLOBS, cells):
        reason = impossible.get(one) or failed.get(one)
        entries[blob, one.n1, one.n2] = Entry(reason=reason) if reason else measured(one.run(blob), threads)
    first = next((one.run(BLOBS[0]) for one in cells if one not in impossible and one not in failed), base)
    metrics = first.json("metrics", "metrics")
    return Grid(
        n1s=n1s,
        n2s=n2s,
        entries=entries,
        baselines={row: PERCENT * metrics[row]["map_11point"] for row in ("baseline_hr", "baseline_lr")},
        classes=n_classes,
        seed=base.spec["values"]["run"]["seed"],
        stands=standing(base, read_published(), VARIED_OF_PAPER),
        failed=len(failed),
    )


def train(cells: Sequence[Cell], base: RunFolder, threads: int) -> dict[Cell, str]:
    """Train what is not up to date; returns the combinations that could not be trained, with the reason."""
    for one, blob in itertools.product(cells, BLOBS):
        resolve_cell(base, one, blob)
    finished = [one for one in cells if all(up_to_date(one.run(blob)) for blob in BLOBS)]
    left = [one for one in cells if one not in finished]
    say(f"grid: {len(cells)} combinations, {len(finished)} are up to date")
    dimension = base.array("features", "lr_trainval").shape[1]
    weights = [one.weights(dimension) for one in left]
    failed: dict[Cell, str] = {}
    seconds: list[float] = []
    for i, one in enumerate(left):
        say(f"grid: N1 = {one.n1}, N2 = {one.n2} ({i + 1} of {len(left)})")
        started = time.monotonic()
        try:
            bring_up_to_date(one, source_of(one, finished, base), threads)
            finished.append(one)
        except UserError as error:
            failed[one] = str(error).replace(str(base.path.parent), base.path.parent.name)
            say(f"grid: N1 = {one.n1}, N2 = {one.n2} cannot be trained: {error}")
        seconds.append(time.monotonic() - started)
        to_come = time_left(weights[: i + 1], seconds, weights[i + 1 :])
        say(f"grid: {time_text(sum(seconds))} so far, about {time_text(to_come)} left")
    return failed


def time_left(done: Sequence[int], seconds: Sequence[float], to_come: Sequence[int]) -> float:
    """The seconds that networks of so many weights will take, if a network takes a + b weights, a and b >= 0."""
    (start, each), _ = nnls(np.column_stack([np.ones(len(done)), done]), np.array(seconds))
    return float(sum(start + each * weights for weights in to_come))


def measured(run: RunFolder, threads: int) -> Entry:
    """What came out of one of a combination's runs."""
    ours = run.json("metrics", "metrics")["ours"]
    spread = np.array(run.array("svm", "ours")).std(axis=0)
    split = validation(run, run.path.parent / "choice.json", threads)
    return Entry(
        map=PERCENT * ours["map_11point"],
        area=PERCENT * ours["map_area"],
        split=None if split["map"] is None else PERCENT * split["map"],
        left_out=split["left_out"],
        flat=int((spread < FLAT * run.spec["values"]["svm"]["tolerance"]).sum()),
    )


def say(line: str) -> None:
    """A line among those of the stages."""
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """The command line; returns the exit code: 1 where a combination that can be could not be trained."""
    published = read_published()
    parser = argparse.ArgumentParser(prog="python -m paper.grid", description=__doc__)
    parser.add_argument("run", type=Path, help="a run's folder, with torch/ in it")
    parser.add_argument("--n1", type=int, nargs="+", default=published.n1, help="default: the paper's")
    parser.add_argument("--n2", type=int, nargs="+", default=published.n2, help="default: the paper's")
    parser.add_argument("--out", type=Path, help="where to write (default: RUN/paper)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    arguments = parser.parse_args()
    path = arguments.run.absolute()
    found = grid(path, arguments.n1, arguments.n2, arguments.threads)
    print(write(found, arguments.out or path / OUT, path.name))
    return 1 if found.failed else 0


if __name__ == "__main__":
    run_command(main)
