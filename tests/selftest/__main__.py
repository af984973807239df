"""Plant the catalogue's changes in the port, one by one, and see what the comparison says: `python -m tests.selftest`.

RUN holds the finished runs of a small data set (`make compare-selftest` makes them). For each entry, the stages that
the changed module can touch are run anew, fed by the Caffe side, and compared; all others are the unchanged port's,
which must agree.

A mistake is judged by the hard bounds alone. Beside them the comparison also judges the error to the float64
reference, but in real life a mistaken port makes its own reference, with the mistake in it: only the hard bounds do
not depend on the port. A harmless change is judged by both, with the unchanged port's reference and noise floors:
that is the strictest judge there is.

Exit code 0: every mistake was caught and located, and no harmless change was flagged; 1: not so; 2: could not be run.
"""

import argparse
import copy
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from compare.calibration import Calibrator
from compare.check import TOLERANCES, Check, Judge, Tolerances, read_tolerances
from compare.comparable import require_comparable, require_fed_by
from compare.pair import FinishedRun, Pair
from compare.stages import compare_stage
from experiment.artifacts import write_json
from experiment.errors import UserError, run_command
from experiment.stages import STAGES
from tests.selftest.catalogue import CATALOGUE, ROOT, Entry
from tests.selftest.touched import touched_stages

SCHEMA_VERSION = 1
FLOORS_OF_CAFFE = ("caffe-threads", "caffe-batch", "caffe-last-bit")
FLOORS_OF_PORT = ("torch-threads", "torch-layout")
AT_ONCE = 2  # entries; the port has one thread in each


@dataclass(frozen=True)
class Bench:
    """What every entry is judged with.

    caffe : the Caffe side's run, which feeds every stage. calibrator : of the unchanged port.
    """

    caffe: FinishedRun
    tolerances: Tolerances
    calibrator: Calibrator


def main() -> int:
    """The command line; returns the exit code."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(prog="python -m tests.selftest", description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="the folder of the finished runs: caffe, torch-isolated, ...")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    arguments = parser.parse_args()
    if arguments.json:
        if not arguments.json.parent.is_dir():
            raise UserError(f"--json {arguments.json}: its folder is not there: make it, or name another")
        arguments.json.unlink(missing_ok=True)  # so that an older verdict never stands for this one
    for entry in CATALOGUE:
        if entry.old:
            entry.patched(entry.path.read_text(encoding="utf-8"))  # raises where the catalogue is out of date
    bench = set_up(arguments.run)
    rows = try_all(bench, arguments.run / "planted")
    agrees = all(row["found"] == row["expected"] for row in rows)
    seconds = time.monotonic() - started
    print_table(rows)
    if arguments.json:
        result = {"schema_version": SCHEMA_VERSION, "agrees": agrees, "rows": rows, "seconds": round(seconds, 1)}
        write_json(arguments.json, result)
    print(f"{sentence(rows)}, in {seconds:.0f} s")
    return 0 if agrees else 1


def set_up(folder: Path) -> Bench:
    """Open the finished runs. Raises `UserError` where the unchanged port departs by itself."""
    tolerances = read_tolerances(TOLERANCES)
    caffe, port, reference = (FinishedRun(folder / name) for name in ("caffe", "torch-isolated", "torch-reference"))
    for run, variation in ((port, ""), (reference, "reference")):
        require_comparable(caffe, run)
        require_fed_by(caffe, run, STAGES, variation)
    floors = [[FinishedRun(folder / name) for name in names] for names in (FLOORS_OF_CAFFE, FLOORS_OF_PORT)]
    calibrator = Calibrator(caffe, port, reference, *floors, tolerances.k)
    print("comparing the unchanged port", file=sys.stderr)
    for stage in STAGES:
        check = first_departure(stage, Pair(caffe, port, Judge(tolerances, "isolated"), calibrator))
        if check is not None:
            raise UserError(
                f"{port.path} departs with no mistake planted, at {place(check)} ({check.quantity}: {check.detail}): "
                "nothing can be tested before the port agrees"
            )
    return Bench(caffe, tolerances, calibrator)


def try_all(bench: Bench, folder: Path) -> list[dict[str, Any]]:
    """The table's rows; `folder` is made, and removed again."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    places = [folder / str(number) for number in range(len(CATALOGUE))]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        rows = list(pool.map(lambda entry, place: try_entry(bench, entry, place), CATALOGUE, places))
    shutil.rmtree(folder)
    return rows


def try_entry(bench: Bench, entry: Entry, folder: Path) -> dict[str, Any]:
    """Run the port with an entry's change in `folder`, which is made, and removed again; returns the row."""
    started = time.monotonic()
    check = departure(bench, entry, folder)
    shutil.rmtree(folder)
    found = place(check) if check is not None else ""
    row = {"name": entry.name, "harmful": entry.harmful, "caught": bool(found), "expected": entry.expected}
    row["found"] = found
    told = f" ({check.quantity} {check.value:.2e}: {check.detail})" if check is not None else ""
    print(f"{entry.name}: {verdict(row)}{told}, {time.monotonic() - started:.0f} s", file=sys.stderr)
    return row


def departure(bench: Bench, entry: Entry, folder: Path) -> Check | None:
    """The first check that fails, in forward order; of a mistake, stages behind it are not run any more."""
    stages = touched_stages(entry.module)
    make_run(bench.calibrator.b.path, folder)
    for group in [[stage] for stage in stages] if entry.harmful else [stages]:
        run_port(entry, folder, bench.caffe.path, group)
        pair = pair_of(bench, entry, FinishedRun(folder))
        for stage in group:
            if (check := first_departure(stage, pair)) is not None:
                return check
    return None


def make_run(like: Path, folder: Path) -> None:
    """A run of the same specification in which no stage is finished."""
    folder.mkdir()
    shutil.copy(like / "spec.json", folder)
    shutil.copytree(like / "prototxt", folder / "prototxt")


def run_port(entry: Entry, folder: Path, caffe: Path, stages: list[str]) -> None:
    """Run stages of the changed port; one that stops leaves its stage unfinished, which no comparison lets pass."""
    command = [sys.executable, "-m", "tests.selftest.patched_port", entry.name, str(folder), "--inputs", str(caffe)]
    command += ["--engine", "eager"]
    command += ["--draws", str(caffe)] if entry.draws else []
    command += [*(entry.options or ("--threads", "1")), *(part for stage in stages for part in ("--only", stage))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or "nothing").splitlines()[-1]
        print(f"{entry.name}: the port stopped and said: {last}", file=sys.stderr)


def pair_of(bench: Bench, entry: Entry, run: FinishedRun) -> Pair:
    """The changed port's run beside the Caffe side's, with the judge that the entry needs.

    A port that drew its own weights is judged as a chained one is: no weight can be compared.
    """
    judge = Judge(bench.tolerances, "isolated" if entry.draws else "chained")
    if entry.harmful or not entry.draws:
        return Pair(bench.caffe, run, judge)
    calibrator = copy.copy(bench.calibrator)  # its reference and its floors stay the unchanged port's
    calibrator.b = run
    return Pair(bench.caffe, run, judge, calibrator)


def first_departure(stage: str, pair: Pair) -> Check | None:
    """The first check of a stage that does not agree."""
    return next((check for check in compare_stage(stage, pair) if not check.agrees), None)


def place(check: Check) -> str:
    """Where a check stands, as the catalogue names it."""
    return f"{check.stage} {check.item}"


def verdict(row: dict[str, Any]) -> str:
    """What became of an entry, in a word or two."""
    if not row["harmful"]:
        return "FLAGGED" if row["caught"] else "passed"
    if not row["caught"]:
        return "MISSED"
    return "caught" if row["found"] == row["expected"] else "LOCATED WRONGLY"


def sentence(rows: list[dict[str, Any]]) -> str:
    """The numbers of mistakes caught and located, and of harmless changes passed."""
    mistakes = [row for row in rows if row["harmful"]]
    harmless = [row for row in rows if not row["harmful"]]
    return (
        f"{sum(row['caught'] for row in mistakes)} of {len(mistakes)} mistakes caught, "
        f"{sum(row['found'] == row['expected'] for row in mistakes)} located; "
        f"{sum(not row['caught'] for row in harmless)} of {len(harmless)} harmless changes passed"
    )


def print_table(rows: list[dict[str, Any]]) -> None:
    """All rows, mistakes first."""
    table = Table("change", "expected at", "found at", "verdict")
    for row in rows:
        found = "as expected" if row["found"] == row["expected"] else row["found"] or "-"
        table.add_row(row["name"], row["expected"] or "-", found, verdict(row))
    Console(width=150).print(table)


if __name__ == "__main__":
    run_command(main)
