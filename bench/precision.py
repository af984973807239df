"""What bfloat16 costs in mAP: `python -m bench.precision RUN [--engine folded] [--seeds N] [--of features] ...`.

Runs the port by an engine and by the same engine in bfloat16, once a seed each, from the same draws and with
RUN/torch's images, and prints by how much the mAPs differ on its test images: in bfloat16 are the features and the
training, or the features alone. Choose N beforehand: going on until the verdict pleases makes it worth less. What is
finished is not made again by the same command. Writes RUN/precision/<what is in bfloat16>.json.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scipy.stats import t

from audit.beside import resolve_beside
from audit.measured import stamp
from compare.bootstrap import SIGNIFICANCE
from compare.end_to_end import LEAST_SEEDS, PERCENT
from compare.report import ROW_NAMES
from experiment.artifacts import RunFolder, write_json
from experiment.errors import UserError, run_command
from experiment.stages import ROWS
from paper.cells import CELL_STAGES, make_stages
from paper.text import NONE, markdown_table, number
from torch_impl import engines
from torch_impl.svm import sharing_baselines

FOLDER = "precision"
MARGIN = 0.2  # percent of mAP: what bfloat16 may cost; narrower than the margin between reproductions (D25)
FEATURES, ALL = OF = ("features", "features-and-training")  # what is in bfloat16
EXACT = [name for name in engines.NAMES if name + engines.BFLOAT16 in engines.NAMES]


@dataclass(frozen=True)
class Cost:
    """What bfloat16 does to a row of Table 1, in percent of mAP.

    exact, rounded : the mean mAP over the seeds. difference : their mean difference. deviation : of one seed's
    difference. interval_90 : of the mean difference over all seeds, by Student's t, on these test images. verdict :
    "within" where it lies within `MARGIN` on both sides, "beyond" where it lies beyond it on one, else "undecided", as
    it always is for Ours of fewer than `LEAST_SEEDS` seeds. No seed has a part in the baselines: there the interval is
    the difference itself. One seed of Ours has neither deviation nor interval.
    """

    row: str
    exact: float
    rounded: float
    difference: float
    deviation: float | None
    interval_90: tuple[float, float] | None
    verdict: str


def cost(row: str, exact: Sequence[float], rounded: Sequence[float]) -> Cost:
    """Of the mAPs in percent, a seed each, of the runs that compute exactly and in bfloat16.

    The 90 % interval within the margin is what two one-sided tests of 5 % each ask for.
    """
    differences = [other - one for one, other in zip(exact, rounded, strict=True)]
    n, mean = len(differences), statistics.fmean(differences)
    deviation, interval, verdict = None, None, "undecided"
    if row != "ours":
        deviation, interval = 0.0, (mean, mean)
    elif n > 1:
        deviation = statistics.stdev(differences)
        half = float(t.ppf(1 - SIGNIFICANCE, n - 1)) * deviation / n**0.5
        interval = (mean - half, mean + half)
    if interval and (row != "ours" or n >= LEAST_SEEDS):
        low, high = interval
        if low > -MARGIN and high < MARGIN:
            verdict = "within"
        elif low > MARGIN or high < -MARGIN:
            verdict = "beyond"
    return Cost(row, statistics.fmean(exact), statistics.fmean(rounded), mean, deviation, interval, verdict)


def precision(root: Path, engine: str, seeds: int, threads: int = 0, of: str = ALL) -> list[Cost]:
    """Bring the runs of both types up to date, seed by seed, and compare them; root : RUN, with a finished torch/; of :
    what is in bfloat16, one of `OF`.

    Raises `UserError` where RUN/torch is not finished or an engine cannot be run in both types.
    """
    if engine not in EXACT:
        raise UserError(f"engine {engine} has no bfloat16: --engine can be {', '.join(EXACT)}")
    base = RunFolder(root / "torch")
    base.require_manifest("metrics")
    rounded = engine + engines.BFLOAT16
    pair = (engine, rounded)
    for name in pair:
        engines.choose(name)
    source = stamp(base)
    maps: dict[str, dict[str, list[float]]] = {name: {row: [] for row in ROWS} for name in pair}
    with sharing_baselines():
        for seed in range(1, seeds + 1):
            print(f"{FOLDER}: seed {seed} of {seeds}", file=sys.stderr, flush=True)
            for name in pair:
                run = made(root, seed, threads, name, name if of == ALL else engine)
                for row, found in run.json("metrics", "metrics").items():
                    maps[name][row].append(PERCENT * found["map_11point"])
    costs = [cost(row, *(maps[name][row] for name in pair)) for row in ROWS]
    told = {"of": of, "engines": list(pair), "margin": MARGIN, "maps": maps}
    write_json(root / FOLDER / f"{of}.json", {**source, **told, "costs": [asdict(one) for one in costs]})
    return costs


def made(root: Path, seed: int, threads: int, of_features: str, of_training: str) -> RunFolder:
    """The run by these engines that draws from that seed, brought up to date.

    It is RUN/precision/<engine of the features>/<seed>/torch, or RUN/precision/<the same>-features/<seed>/torch where
    the training has another.
    """
    base = RunFolder(root / "torch")
    folder = root / FOLDER / (of_features if of_training == of_features else f"{of_features}-{FEATURES}")
    run = resolve_beside(base, folder / str(seed) / "torch", seed)
    reuse = base if seed == 1 else RunFolder(folder / "1" / "torch")  # what no seed touches is made for the first
    trained = CELL_STAGES.index("transfer")
    make_stages(run, of_features, threads, reuse, CELL_STAGES[:trained])
    make_stages(run, of_training, threads, reuse, CELL_STAGES[trained:])
    return run


def table(costs: Sequence[Cost], engine: str, seeds: int, of: str = ALL) -> str:
    """The costs in Markdown."""
    other = f"{of.replace('-', ' ')} in bfloat16"
    head = ["mAP in %", engine, other, "difference", "deviation", "90 % interval", f"{MARGIN}?"]
    rows = [
        [
            ROW_NAMES[one.row],
            number(one.exact),
            number(one.rounded),
            number(one.difference, signed=True),
            number(one.deviation),
            "[{}, {}]".format(*(number(end, signed=True) for end in one.interval_90)) if one.interval_90 else NONE,
            one.verdict,
        ]
        for one in costs
    ]
    return f"{seeds} seed{'s' * (seeds > 1)}\n\n{markdown_table(head, rows)}"


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.precision", description=__doc__)
    parser.add_argument("run", type=Path, help="a run's folder, with a finished torch/ in it")
    parser.add_argument("--engine", default="folded", help=f"{', '.join(EXACT)} (default: folded)")
    parser.add_argument("--seeds", type=int, default=LEAST_SEEDS, help=f"runs of each (default: {LEAST_SEEDS})")
    parser.add_argument("--of", choices=OF, default=ALL, help=f"what is in bfloat16 (default: {ALL})")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    arguments = parser.parse_args()
    if arguments.seeds < 1:
        raise UserError("--seeds must be 1 or more")
    root, engine, seeds, of = arguments.run.absolute(), arguments.engine, arguments.seeds, arguments.of
    costs = precision(root, engine, seeds, arguments.threads, of)
    print(table(costs, engine, seeds, of), end="")
    return 0


if __name__ == "__main__":
    run_command(main)
