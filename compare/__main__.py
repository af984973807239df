"""Compare two runs stage by stage: `python -m compare RUN_A RUN_B [options]`.

Exit code 0: they agree, 1: they differ, 2: they could not be compared.
"""

import argparse
import contextlib
import io
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from compare.calibration import Calibrator
from compare.check import SCHEMA_VERSION, TOLERANCES, Check, Judge, json_number, read_tolerances
from compare.comparable import (
    may_differ,
    require_chained,
    require_comparable,
    require_current,
    require_fed_by,
    require_same_program,
)
from compare.end_to_end import checks as end_to_end_checks
from compare.end_to_end import end_to_end, seed_pairs
from compare.junit import write_junit
from compare.kept import changed_meanwhile, keep, state
from compare.pair import FinishedRun, Pair, stage_digests
from compare.report import print_report
from compare.stages import MALFORMED, compare_stage
from experiment.artifacts import RunFolder, sha256_file, write_json
from experiment.errors import UserError, run_command
from experiment.pipeline import check_spec
from experiment.stages import ROWS, STAGES, VARIATIONS

# What every file of ours holds, and no other.
OURS = {"--json": (b'"first_departure": {', b'"spec_sha256": "'), "--junit": (b'<testsuites name="udft-audit"',)}


def main() -> int:
    """The command line; returns the exit code."""
    started = time.monotonic()
    arguments = parse()
    kept_for = Path(arguments.keep[0]) if arguments.keep else None
    before = state(kept_for, arguments.keep[1]) if kept_for else ""
    tolerances = read_tolerances(arguments.tolerances)
    if arguments.json and arguments.junit and arguments.json.resolve() == arguments.junit.resolve():
        raise UserError(f"--json and --junit both name {arguments.json}: name two files")
    for option, target in (("--json", arguments.json), ("--junit", arguments.junit)):
        if target:
            make_way(option, target)
    a, b = FinishedRun(arguments.run_a), FinishedRun(arguments.run_b)
    if a.path.resolve() == b.path.resolve():
        raise UserError(f"{a.path} would be compared with itself: name two runs")
    equal = require_comparable(a, b)
    for run in (a, b):
        require_chained(run)
    isolated_run, calibrator = isolated_runs(arguments, a, b, tolerances.k)
    pairs = seed_pairs(arguments.seeds, a, b) if arguments.seeds else [(a, b)]

    chained = compare_runs(Pair(a, b, Judge(tolerances, "chained")))
    isolated = compare_runs(Pair(a, isolated_run, Judge(tolerances, "isolated"), calibrator)) if isolated_run else []
    summary: dict[str, Any] = {}
    try:
        summary = end_to_end(a, pairs)
        chained += end_to_end_checks(summary, pairs, Judge(tolerances, "chained"), bool(arguments.seeds))
    except (UserError, *MALFORMED) as error:  # what is missing or does not fit is a departure already
        chained.append(Judge(tolerances, "chained").failure("end_to_end", "map", str(error)))
    differing = may_differ(a, b)
    subject = subject_of(a)
    used: dict[str, list[RunFolder]] = {
        "a": [a],
        "b": [b],
        "isolated": [isolated_run] if isolated_run else [],
        "reference": [calibrator.reference] if calibrator else [],
        "varied_a": [*calibrator.varied_a] if calibrator else [],
        "varied_b": [*calibrator.varied_b] if calibrator else [],
        "seeds_a": [one for one, _ in pairs] if arguments.seeds else [],
        "seeds_b": [other for _, other in pairs] if arguments.seeds else [],
    }
    result = {
        **verdict(a, b, isolated, chained, summary),
        "tolerances_sha256": sha256_file(arguments.tolerances),
        "runs": {
            name: [{"path": str(run.path), "stages": stage_digests(run)} for run in runs] for name, runs in used.items()
        },
        "subject": subject,
        "k": tolerances.k,
        "comparability": {"equal": equal, "differing": differing},
        "end_to_end": summary or None,
    }

    sides = [run.require_manifest("index")["side"] for run in (a, b)]

    def tell() -> None:
        print_report(subject, isolated, chained, differing, summary)
        if isolated and calibrator is None:
            print("not calibrated: without --reference only the hard bounds judge")
        elif calibrator is not None and not (calibrator.varied_a and calibrator.varied_b):
            print("not fully calibrated: without --varied-a and --varied-b a side's own unsteadiness is not measured")
        if sides == ["torch", "caffe"]:
            print("run b is the Caffe side's: name it first, so that what follows from its draws is judged, too")
        print(result["sentence"])

    if arguments.json:
        write_json(arguments.json, json_number(result))
    if arguments.junit:
        write_junit(arguments.junit, [*isolated, *chained], time.monotonic() - started)
    tell()
    code = 0 if result["agrees"] else 1
    if kept_for and not changed_meanwhile(kept_for):
        with contextlib.redirect_stdout(io.StringIO()) as plain:  # for no terminal in particular
            tell()
        keep(kept_for, before, plain.getvalue(), code, [path for path in (arguments.json, arguments.junit) if path])
    return code


def make_way(option: str, target: Path) -> None:
    """Delete an older verdict, so that it never stands for this one; stop where the file is another one."""
    if target.is_dir() or not target.parent.is_dir():
        raise UserError(f"{option} {target} is a folder, or is in one that is not there: name a file")
    if not target.exists():
        return
    if not target.is_file() or any(mark not in target.read_bytes() for mark in OURS[option]):
        raise UserError(f"{option} {target} is there and was not written by this command: name another file")
    target.unlink()


def parse() -> argparse.Namespace:
    """The arguments. Raises `UserError` for options that need others."""
    parser = argparse.ArgumentParser(prog="python -m compare", description=__doc__)
    parser.add_argument("run_a", type=Path, help="the run that is compared against: the Caffe side's")
    parser.add_argument("run_b", type=Path, help="the run that is compared: the port's")
    parser.add_argument("--isolated", type=Path, help="a run of b's side in which every stage was fed by run_a")
    parser.add_argument("--reference", type=Path, help="the same in float64: what errors are measured by")
    told = "run_{}'s side run otherwise, fed by run_a (repeatable): its difference from {} is noise"
    parser.add_argument("--varied-a", type=Path, action="append", default=[], help=told.format("a", "run_a"))
    parser.add_argument("--varied-b", type=Path, action="append", default=[], help=told.format("b", "the isolated run"))
    told = "folders named by a seed, each with runs that drew from it, called as run_a and run_b are"
    parser.add_argument("--seeds", type=Path, nargs="+", default=[], metavar="SEED", help=told)
    parser.add_argument(
        "--json", type=Path, help="compare.json's file (docs/compare.schema.json); an older one is deleted"
    )
    parser.add_argument("--junit", type=Path, help="the checks as JUnit XML; an older file is deleted")
    told = "keep the report in RUN, for `python -m compare.kept RUN ASKED`"
    parser.add_argument("--keep", nargs=2, metavar=("RUN", "ASKED"), help=told)
    parser.add_argument("--tolerances", type=Path, default=TOLERANCES, help="other bounds than compare/tolerances.toml")
    arguments = parser.parse_args()
    if arguments.reference and not arguments.isolated:
        raise UserError("--reference needs --isolated: the reference was fed by run_a, so what it judges must be too")
    if (arguments.varied_a or arguments.varied_b) and not arguments.reference:
        raise UserError("--varied-a and --varied-b need --reference: they are what an error to it is measured in")
    return arguments


def isolated_runs(
    arguments: argparse.Namespace, a: RunFolder, chained: RunFolder, k: float
) -> tuple[RunFolder | None, Calibrator | None]:
    """The isolated run and what calibrates it, each proved to be fed by run a and to be what it is taken for."""
    if not arguments.isolated:
        return None, None
    b = FinishedRun(arguments.isolated)
    require_comparable(a, b)
    require_fed_by(a, b, STAGES, option="--isolated")
    require_same_program(b, chained, STAGES)
    if not arguments.reference:
        return b, None
    reference = FinishedRun(arguments.reference)
    require_comparable(a, reference)
    require_fed_by(a, reference, STAGES, "reference", option="--reference")
    require_same_program(reference, b, STAGES)
    varied_a, varied_b = ([FinishedRun(path) for path in paths] for paths in (arguments.varied_a, arguments.varied_b))
    for base, runs in ((a, varied_a), (b, varied_b)):
        for run in runs:
            stages, variation = how_varied(run, base)
            require_comparable(a, run, stages)
            require_fed_by(a, run, stages, variation, option="--varied-a and --varied-b")
            require_same_program(run, base, stages)
    return b, Calibrator(a, b, reference, varied_a, varied_b, k)


def how_varied(run: RunFolder, base: RunFolder) -> tuple[tuple[str, ...], str]:
    """Which stages a varied run must have, and how it was varied; its side and its base's must be one."""
    manifests = [manifest for stage in STAGES if (manifest := run.manifest(stage)) is not None]
    if not manifests:
        raise UserError(f"{run.path} has no finished stage: run `make compare`")
    check_spec(run)
    for stage in STAGES:
        if run.manifest(stage) is not None:
            require_current(run, stage)
    side, variation = manifests[0]["side"], manifests[0]["key_parts"]["variation"]
    stages = VARIATIONS[side].get(variation)
    if stages is None or variation == "reference":
        raise UserError(f"{run.path} is no run with --vary, so its difference is no noise: see --varied-a")
    for stage in stages:
        here, there = run.require_manifest(stage), base.require_manifest(stage)
        if here["side"] != there["side"]:
            raise UserError(f"{run.path} is of side {here['side']}, {base.path} of {there['side']}: swap them")
        if variation == "threads" and here["threads"] == there["threads"]:
            raise UserError(f"{run.path} had as many threads as {base.path}: run it again with other --threads")
    return stages, variation


def compare_runs(pair: Pair) -> list[Check]:
    """Every check of every stage, in forward order."""
    checks = []
    for stage in STAGES:
        print(f"comparing {stage}, {pair.judge.mode}", file=sys.stderr)
        checks += compare_stage(stage, pair)
    return checks


def first_departure(checks: list[Check]) -> Check | None:
    """The first check, in forward order, that does not agree."""
    return next((check for check in checks if not check.agrees), None)


def verdict(
    a: RunFolder, b: RunFolder, isolated: list[Check], chained: list[Check], summary: dict[str, Any]
) -> dict[str, Any]:
    """What compare.json holds of the checks: the verdict, where the runs first depart, both sides' mAP, every check."""
    departures = {"isolated": first_departure(isolated), "chained": first_departure(chained)}
    agrees = all(departure is None for departure in departures.values())
    judged = [check for check in [*isolated, *chained] if check.judged]
    if agrees:
        sentence = f"agree: {len(judged)} judged checks are within their tolerances"
        sentence += "" if isolated else " (chained only: the stages' own arithmetic is not judged)"
        apart = [row for row, found in summary["a_minus_b"].items() if found["overall"]["verdict"] == "different"]
        if apart:
            sentence += f"; but mAP is different beyond the margin, at 95 %, for {', '.join(apart)}"
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
        "spec_sha256": a.spec["sha256"],
        "first_departure": {mode: check.as_json() if check else None for mode, check in departures.items()},
        "map_11point": {"a": maps(a), "b": maps(b)},
        "checks": [check.as_json() for check in [*isolated, *chained]],
    }


def subject_of(run: RunFolder) -> dict[str, str]:
    """What a run is of: the profile (with LIMIT where it was shortened), and where its weights come from."""
    weights = run.spec["external"].get("weights", {})
    return {"profile": str(run.spec.get("profile")), "weights": weights.get("origin", "unknown")}


def maps(run: RunFolder) -> dict[str, float] | None:
    """The run's mAP by row; None where the metrics cannot be read, which is a departure of its own."""
    try:
        metrics = run.json("metrics", "metrics")
        return {row: float(metrics[row]["map_11point"]) for row in ROWS}
    except (UserError, *MALFORMED):
        return None


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
