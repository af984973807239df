"""What each decision's alternatives do to mAP: `python -m audit.decisions.sensitivity RUN [--seeds N] [--only D1 ...]`.

Each alternative of decisions.toml that can be measured is run by the port, once a seed, beside RUN/torch and with
what stays the same taken over. The runs go through Dask: processes of this machine, or the cluster that --scheduler
names, which must share its file system. It can be stopped at any moment and goes on where it was. Writes
RUN/sensitivity/sensitivity.json and prints it as a table.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit.decisions.cluster import run_all, say
from audit.decisions.decisions import Alternative, read_decisions
from audit.decisions.effects import Bootstrap, effect_text, instead_text, measured
from audit.decisions.otherwise.changes import CHANGES
from audit.decisions.variants import FOLDER, Variant, prepare
from audit.measured import stamp
from compare.end_to_end import LEAST_SEEDS
from compare.report import ROW_NAMES
from experiment.artifacts import RunFolder, write_json
from experiment.errors import UserError, run_command
from experiment.pipeline import locked
from experiment.stages import ROWS
from paper.published import PERCENT, read_published
from paper.standing import standing
from paper.text import markdown_table, number

FILE = "sensitivity.json"


@dataclass
class Plan:
    """What is to be measured.

    bases : the unchanged run of each seed. variants : of each alternative that can be measured its run of each seed.
    reasons : of each other, why it is not measured. failed : those of them that a run of this program is to blame for,
    and not the data or the specification. named : the alternatives that were asked for; the rest is only gathered where
    it is finished.
    """

    bases: list[Variant]
    variants: dict[Alternative, list[Variant]] = field(default_factory=dict)
    reasons: dict[Alternative, str] = field(default_factory=dict)
    failed: set[Alternative] = field(default_factory=set)
    named: set[Alternative] = field(default_factory=set)

    def runs(self) -> list[Variant]:
        """All runs that were asked for: bases first, then those whose stages other seeds take over, and of each seed
        those last that use another's run."""
        asked = [variant for one, them in self.variants.items() if one in self.named for variant in them]
        asked = [variant for variant in asked if variant not in self.bases]
        return [*self.bases, *sorted(asked, key=lambda variant: (variant.seed, variant.other is not None))]

    def forerunners(self, variant: Variant) -> list[Variant]:
        """The runs that a run takes stages over from or uses, besides RUN/torch."""
        if variant.alternative is None:
            return []
        found = [Variant(variant.root, variant.seed), variant.with_seed(1)]
        for one, them in self.variants.items():
            if one.folder == used(variant.alternative):
                found += [other for other in them if other.seed == variant.seed]
        return [other for other in found if other != variant]


def sensitivity(
    root: Path,
    seeds: int = LEAST_SEEDS,
    only: Sequence[str] = (),
    scheduler: str = "",
    workers: int = 0,
    mean: Path | None = None,
) -> tuple[dict[str, Any], int]:
    """Bring the runs up to date and gather RUN/sensitivity/sensitivity.json; beside it, how many runs or alternatives
    failed.

    only : run the alternatives of these decisions ("D1") alone; of the others, what is finished is gathered. mean : the
    mean file, for D2.

    Raises `UserError` where RUN/torch is not finished, its devkit or weights are gone, or a base cannot be run.
    """
    RunFolder(root / "torch").require_manifest("metrics")
    (root / FOLDER).mkdir(exist_ok=True)
    with locked(root / FOLDER):
        source = stamp(RunFolder(root / "torch"))  # before the runs: it may change while they go on
        plan = planned(root, seeds, only, mean)
        left = [variant for variant in plan.runs() if not variant.is_finished()]
        say(f"{FOLDER}: {len(plan.runs())} runs, {len(plan.runs()) - len(left)} are up to date")
        failed = run_all({variant: plan.forerunners(variant) for variant in left}, scheduler, workers)
        for base in plan.bases:
            if failed.get(base):
                raise UserError(f"{base.run.path}: the base of seed {base.seed} cannot be run: {failed[base]}")
        found = {**gathered(root, plan, failed), **source}
        write_json(root / FOLDER / FILE, found)
    return found, sum(map(bool, failed.values())) + len(plan.failed & plan.named)


def planned(root: Path, seeds: int, only: Sequence[str], mean: Path | None = None) -> Plan:
    """Resolve the bases, the alternatives of the decisions `only` (of all where it is empty), and those run before."""
    plan = Plan([Variant(root, seed) for seed in range(1, seeds + 1)])
    for base in plan.bases:
        prepare(base)
    spec = RunFolder(root / "torch").spec
    every = [one for decision in read_decisions() for one in decision.alternatives if not one.elsewhere]
    asked = [one for one in every if not only or one.decision in only]
    plan.named |= {one for one in every if one in asked or one.folder in map(used, asked)}
    for one in every:
        variants = [Variant(root, base.seed, one) for base in plan.bases]
        if one.reason:
            plan.reasons[one] = one.reason
        elif one.headline:
            plan.variants[one] = plan.bases
        elif unfit := one.fits(spec):
            plan.reasons[one] = unfit
        elif one in plan.named or all(variant.run.path.is_dir() for variant in variants):
            try:
                reason = next(filter(None, (prepare(variant, mean) for variant in variants)), "")
            except UserError as error:
                reason = str(error).replace(f"{root}/", "")
                plan.failed.add(one)
            if reason:
                plan.reasons[one] = reason
            else:
                plan.variants[one] = variants
    lacking = {one.folder: one for one in plan.reasons}
    for one, other in [(one, lacking[used(one)]) for one in plan.variants if used(one) in lacking]:
        plan.reasons[one] = plan.reasons[other]
        plan.failed |= {one} if other in plan.failed else set()
        del plan.variants[one]
    return plan


def used(one: Alternative) -> str:
    """The folder's name of the alternative whose runs those of this one use; "" where they use none."""
    return CHANGES[one.otherwise].uses if one.otherwise else ""


def gathered(root: Path, plan: Plan, failed: Mapping[Variant, str]) -> dict[str, Any]:
    """What sensitivity.json holds; mAPs and differences in percent."""
    run = RunFolder(root / "torch")
    spec = run.spec
    bootstrap = Bootstrap(
        plan.bases[0].run.json("index", "ids_test"), spec["values"]["compare"], spec["values"]["run"]["seed"]
    )
    entries = []
    for one in (*plan.variants, *plan.reasons):
        if not (reason := plan.reasons.get(one) or missing(plan.variants[one], failed)):
            say(f"{FOLDER}: {one.folder}: bootstrap")
            found = measured(bootstrap, plan.variants[one], plan.bases, one.headline)
        elif one in plan.named or one in plan.reasons:
            failed_here = one in plan.failed or one not in plan.reasons
            found = {"reason": reason, **({"failed": True} if failed_here else {})}
        else:
            continue
        entries.append({"decision": one.decision, "alternative": one.name, "what": one.told, **found})
    order = [(one.decision, one.name) for decision in read_decisions() for one in decision.alternatives]
    bases = [base.run.json("metrics", "metrics") for base in plan.bases]
    return {
        "subject": {
            "profile": spec["profile"],
            "weights": spec["external"]["weights"]["origin"],
            "remarks": standing(run, read_published()).remarks,
        },
        "seeds": [base.seed for base in plan.bases],
        "base": {row: PERCENT * sum(metrics[row]["map_11point"] for metrics in bases) / len(bases) for row in ROWS},
        "entries": sorted(entries, key=lambda entry: order.index((entry["decision"], entry["alternative"]))),
    }


def missing(variants: Sequence[Variant], failed: Mapping[Variant, str]) -> str:
    """Why an alternative's runs are not all there; "" where they are."""
    for variant in variants:
        if not variant.is_finished():
            return failed.get(variant) or "its run is of another version of the program or its packages than this one"
    return ""


def table(found: Mapping[str, Any]) -> str:
    """What was measured as a table, and below it why the rest was not."""
    measured_rows = [
        [entry["decision"], entry["alternative"], *(effect_text(entry["effect"][row]) for row in ROWS)]
        for entry in found["entries"]
        if not instead_text(entry)
    ]
    base = ["base", "mAP", *(number(found["base"][row]) for row in ROWS)]
    text = markdown_table(["decision", "alternative", *(ROW_NAMES[row] for row in ROWS)], [base, *measured_rows], 2)
    for entry in found["entries"]:
        if instead := instead_text(entry):
            text += f"{entry['decision']} {entry['alternative']}: {instead}\n"
    return text


def main() -> int:
    """The command line; returns the exit code: 1 where a run that can be made could not."""
    parser = argparse.ArgumentParser(prog="python -m audit.decisions.sensitivity", description=__doc__)
    parser.add_argument("run", type=Path, help="a run's folder, with a finished torch/ in it")
    parser.add_argument(
        "--seeds", type=int, default=LEAST_SEEDS, help=f"runs of each alternative (default: {LEAST_SEEDS})"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="D1", help="run these decisions' alternatives alone")
    parser.add_argument("--scheduler", default="", metavar="tcp://host:port", help="a Dask cluster on this file system")
    parser.add_argument("--mean", type=Path, help="the mean file, for the alternative of D2 that takes it")
    parser.add_argument("--workers", type=int, default=0, help="processes on this machine (default: one a core)")
    arguments = parser.parse_args()
    known = [decision.number for decision in read_decisions()]
    if unknown := [name for name in arguments.only if name not in known]:
        raise UserError(f"--only {unknown[0]} is not a decision: audit/decisions/decisions.toml has D1 to {known[-1]}")
    if arguments.scheduler and not re.fullmatch(r"[a-z]+://[^\s/]+:\d+", arguments.scheduler):
        raise UserError(f"--scheduler {arguments.scheduler} must be an address such as tcp://host:8786")
    if arguments.seeds < 1 or arguments.workers < 0:
        raise UserError("--seeds must be 1 or more, and --workers 0 or more")
    found, failed = sensitivity(
        arguments.run.absolute(),
        arguments.seeds,
        arguments.only,
        arguments.scheduler,
        arguments.workers,
        arguments.mean,
    )
    print(table(found), end="")
    return 1 if failed else 0


if __name__ == "__main__":
    run_command(main)
