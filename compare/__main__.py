"""Compare two runs stage by stage: `python -m compare RUN_A RUN_B [--isolated RUN [--floor RUN]] [--json FILE]`.

Exit code 0: they agree, 1: they differ, 2: they could not be compared.
"""

import argparse
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from compare.check import TOLERANCES, Check, Judge, read_tolerances
from compare.report import print_table
from compare.stages import compare_stage
from experiment.artifacts import RunFolder, sha256_json, write_json
from experiment.errors import UserError, run_command
from experiment.stages import FLOOR_STAGES, ROWS, STAGES

SCHEMA_VERSION = 1


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m compare", description=__doc__)
    parser.add_argument("run_a", type=Path, help="the run that is compared against: the Caffe side's")
    parser.add_argument("run_b", type=Path, help="the run that is compared: the port's")
    parser.add_argument("--isolated", type=Path, help="a run of b's side in which every stage was fed by run_a")
    parser.add_argument("--floor", type=Path, help="run_a's side from drawn weights with changed last bits (--floor)")
    parser.add_argument("--json", type=Path, help="where to write compare.json")
    parser.add_argument("--tolerances", type=Path, default=TOLERANCES)
    arguments = parser.parse_args()
    tolerances = read_tolerances(arguments.tolerances)
    if arguments.json:
        if not arguments.json.parent.is_dir():
            raise UserError(f"--json {arguments.json}: its folder is not there: make it, or name another")
        arguments.json.unlink(missing_ok=True)  # so that an older verdict never stands for this one
    a, b = RunFolder(arguments.run_a), RunFolder(arguments.run_b)
    isolated_run = RunFolder(arguments.isolated) if arguments.isolated else None
    floor_run = RunFolder(arguments.floor) if arguments.floor else None
    for run, stages in ((b, STAGES), (isolated_run, STAGES), (floor_run, FLOOR_STAGES)):
        if run is not None:
            require_comparable(a, run, stages)
    for run, stages in ((isolated_run, STAGES), (floor_run, FLOOR_STAGES)):
        if run is not None:
            require_fed_by(a, run, stages, floor=run is floor_run)
    chained = compare_runs(a, b, Judge(tolerances, "chained"))
    isolated = compare_runs(a, isolated_run, Judge(tolerances, "isolated", floor_run)) if isolated_run else []
    print_table(isolated, chained)
    result = verdict(a, b, isolated, chained)
    for row in ROWS:
        sides = [maps[row] if maps else None for maps in result["map_11point"].values()]
        told = " and ".join("none" if value is None else f"{100 * value:.2f}" for value in sides)
        print(f"mAP (11-point, each side by itself) {row}: {told}")
    if not isolated:
        print("chained only: without --isolated the stages' own arithmetic is not judged")
    if arguments.json:
        write_json(arguments.json, result)
    print(result["sentence"])
    return 0 if result["agrees"] else 1


def require_comparable(a: RunFolder, b: RunFolder, stages: Iterable[str] = STAGES) -> None:
    """Stop where the runs were asked for different things, or where `stages` of them are not finished."""
    first, second = (
        {f"{section}.{key}": value for section, values in run.spec["values"].items() for key, value in values.items()}
        for run in (a, b)
    )
    for name in [*first, *second]:
        if first.get(name) != second.get(name):
            raise UserError(
                f"{a.path} and {b.path} are not comparable: {name} is {first.get(name)!r} and {second.get(name)!r}: "
                "run both sides with the same PROFILE and SET"
            )
    if a.spec["prototxt"] != b.spec["prototxt"]:
        raise UserError(f"{a.path} and {b.path} are not comparable: their prototxts differ: run both sides again")
    for run in (a, b):
        for stage in stages:
            recorded = run.require_manifest(stage)["key_parts"]["spec"]
            if any(run.spec["values"].get(section) != values for section, values in recorded.items()):
                raise UserError(
                    f"{run.stage_path(stage)} is older than the run's specification: run this side's reproduce command"
                )


def require_fed_by(a: RunFolder, run: RunFolder, stages: Iterable[str], floor: bool) -> None:
    """Stop where a stage of `run` did not read run a's present outputs, or is no floor's although it must be."""
    for stage in stages:
        parts = run.require_manifest(stage)["key_parts"]
        for earlier, digest in parts["inputs"].items():
            outputs = a.require_manifest(earlier)["outputs"]
            if digest != sha256_json({name: entry["sha256"] for name, entry in outputs.items()}):
                raise UserError(f"{run.stage_path(stage)} was not fed by {a.stage_path(earlier)}: run `make compare`")
        if parts["floor"] != floor:
            raise UserError(f"{run.stage_path(stage)} is {'no' if floor else 'a'} floor: see --floor and --isolated")


def compare_runs(a: RunFolder, b: RunFolder, judge: Judge) -> list[Check]:
    """Every check of every stage, in forward order."""
    checks = []
    for stage in STAGES:
        print(f"comparing {stage}, {judge.mode}", file=sys.stderr)
        checks += compare_stage(stage, a, b, judge)
    return checks


def first_departure(checks: list[Check]) -> Check | None:
    """The first check, in forward order, that does not agree."""
    return next((check for check in checks if not check.agrees), None)


def verdict(a: RunFolder, b: RunFolder, isolated: list[Check], chained: list[Check]) -> dict[str, Any]:
    """What compare.json holds: the verdict, where the runs first depart, both sides' mAP, and every check."""
    departures = {"isolated": first_departure(isolated), "chained": first_departure(chained)}
    agrees = all(departure is None for departure in departures.values())
    judged = [check for check in [*isolated, *chained] if check.allowed is not None or not check.agrees]
    if agrees:
        sentence = f"agree: {len(judged)} judged checks are within their tolerances"
    else:
        parts = [
            f"{mode} at {check.stage}, {check.quantity} of {check.item} ({check.detail})"
            for mode, check in departures.items()
            if check is not None
        ]
        failed = sum(not check.agrees for check in judged)
        sentence = f"differ: {failed} of {len(judged)} judged checks; first departure {'; '.join(parts)}"
    return {
        "schema_version": SCHEMA_VERSION,
        "agrees": agrees,
        "sentence": sentence,
        "runs": {"a": str(a.path), "b": str(b.path)},
        "spec_sha256": a.spec["sha256"],
        "first_departure": {mode: check.as_json() if check else None for mode, check in departures.items()},
        "map_11point": {"a": maps(a), "b": maps(b)},
        "checks": [check.as_json() for check in [*isolated, *chained]],
    }


def maps(run: RunFolder) -> dict[str, float] | None:
    """The run's mAP by row; None where the metrics cannot be read, which is a departure of its own."""
    try:
        metrics = run.json("metrics", "metrics")
    except UserError:
        return None
    return {row: metrics[row]["map_11point"] for row in ROWS}


def main_or_trouble() -> int:
    """`main`, with a bug of our own told from a difference: its traceback is printed and the exit code is 2."""
    try:
        return main()
    except UserError:
        raise
    except Exception:
        traceback.print_exc()
        return 2


if __name__ == "__main__":
    run_command(main_or_trouble)
