"""docs/ledger.md, from decisions and measurements: `python -m audit.decisions.ledger [--take NAME=RUN] [--check]`.

The figures are those of docs/results/<name>/sensitivity.json and controls.json, which --take copies from a run, and of
what other commands left there of the same run.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audit.controls.text import mean_text
from audit.decisions import elsewhere
from audit.decisions.decisions import OWNERS, Alternative, Decision, read_decisions
from audit.decisions.effects import NOT_MEASURED, chance_text, effect_text, instead_text, told_rows
from audit.measured import SCHEMA_VERSION, read_current
from compare.report import ROW_NAMES
from experiment.artifacts import read_json, sha256_json, write_json
from experiment.errors import UserError, run_command
from experiment.spec import read_profile
from experiment.stages import ROWS
from paper.text import number, write_text

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
LEDGER = ROOT / "docs" / "ledger.md"
NAMES = ("embedded", "caltech20-voc")  # the data sets of the columns
FILES = ("sensitivity", "controls")  # RUN/<file>/<file>.json
TITLE = """# The ledger

What the paper leaves open or says twice, and where Caffe does otherwise than PyTorch's obvious way. The numbers stand
in the code, the profiles and the reports; a test checks that every number there stands here and the other way round.
`make ledger` writes this file from `audit/decisions/decisions.toml` and `docs/results/`.
"""


def ledger(decisions: Sequence[Decision], results: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of docs/ledger.md; results : data set, file ("sensitivity") to what it holds; what is not there is
    not measured."""
    parts = [TITLE, "## Decisions\n", owners_text(decisions), effects_text(results), decision_table(decisions, results)]
    parts += ["## Alternatives\n", alternatives_list(decisions)]
    if reasons := reasons_list(decisions):
        parts += ["## Not measured\n", reasons]
    parts += ["## Controls\n", controls_text(results)]
    return "\n".join(parts)


def owners_text(decisions: Sequence[Decision]) -> str:
    """How many decisions are whose."""
    counts = {owner: sum(decision.of == owner for decision in decisions) for owner in OWNERS}
    told = [f"{count} {OWNERS[owner]}" for owner, count in counts.items() if count]
    return f"Of {len(decisions)} decisions {', '.join(told[:-1])}, and {told[-1]}.\n"


def effects_text(results: Mapping[str, Mapping[str, Any]]) -> str:
    """How the measured columns are to be read, and what they are of."""
    lines = [
        "Measured: what the port's mAP, in percent, changes by where that one decision is taken otherwise and all",
        "others stay, with a 95 % interval by bootstrap over test photographs and seeds, both paired. An alternative",
        "that cannot be changed alone says [below](#alternatives) what changes with it. Ours always, the baselines",
        "where they move. A question mark: too few seeds stand behind it to say anything. Identical: decision values",
        "and labels are byte for byte those of the base, while 0 is a difference that was measured. The base draws by",
        "itself and is made on one thread, as every alternative is, so that its Ours is not just that of other tables.",
    ]
    for name in NAMES:
        if found := results.get(name, {}).get("sensitivity"):
            base = ", ".join(f"{ROW_NAMES[row]} {number(found['base'][row])}" for row in ROWS)
            lines += [
                "",
                f"`{name}`, {count_of(found['seeds'], 'seed')}: {base}. {chance_text(found['entries'])} "
                f"{' '.join(found['subject']['remarks'])}",
            ]
    return "\n".join(lines) + "\n"


def decision_table(decisions: Sequence[Decision], results: Mapping[str, Mapping[str, Any]]) -> str:
    """A row a decision, with the effects of its alternatives on each data set."""
    head = ["no.", "subject", "taken", "why", "instead", *(f"measured, {name}" for name in NAMES)]
    rows = [
        [one.number, one.subject, one.taken, one.why, one.instead]
        + [effects_cell(one.alternatives, results.get(name, {})) for name in NAMES]
        for one in decisions
    ]
    return table(head, rows)


def effects_cell(alternatives: Sequence[Alternative], files: Mapping[str, Any]) -> str:
    """What one data set says of a decision's alternatives; files : by name, what they hold."""
    found = files.get("sensitivity", {"entries": []})["entries"]
    entries = {(entry["decision"], entry["alternative"], entry["what"]): entry for entry in found}
    told = []
    for one in alternatives:
        entry = entries.get((one.decision, one.name, one.told))
        if one.elsewhere:
            told.append(f"`{one.name}` {elsewhere.told(one.elsewhere, files) or NOT_MEASURED}")
        elif one.reason:
            told.append(f"`{one.name}` {NOT_MEASURED} ([why](#not-measured))")
        elif entry is None:
            told.append(f"`{one.name}` {NOT_MEASURED}")
        elif instead := instead_text(entry):
            told.append(f"`{one.name}` {instead}")
        else:
            effects = entry["effect"]
            rows = [f"{ROW_NAMES[row]} {effect_text(effects[row])}" for row in told_rows(effects)]
            told.append(f"`{one.name}` {', '.join(rows)}")
    return "; ".join(told)


def alternatives_list(decisions: Sequence[Decision]) -> str:
    """What each alternative's name stands for."""
    return "".join(f"- {one.decision} `{one.name}`: {one.told}.\n" for d in decisions for one in d.alternatives)


def reasons_list(decisions: Sequence[Decision]) -> str:
    """Why alternatives are not measured, whatever the data."""
    lines = [
        f"- {one.decision} `{one.name}` ({one.what}): {one.reason}."
        for d in decisions
        for one in d.alternatives
        if one.reason
    ]
    return "\n".join(lines) + "\n" if lines else ""


def controls_text(results: Mapping[str, Mapping[str, Any]]) -> str:
    """A row a control and data set, and what the controls allow one to conclude."""
    head = ["data set", "control", "what", "mAP", "minus Baseline-LR", "minus Ours"]
    rows, conclusions = [], []
    for name in NAMES:
        found = results.get(name, {}).get("controls")
        for row in found["rows"] if found else ():
            mean = mean_text(row["map"])
            differences = [effect_text(row[key]) for key in ("minus_baseline_lr", "minus_ours")]
            seeds = f" ({count_of(row['map']['seeds'], 'seed')})" if row["drawn"] else ""
            rows.append([name, row["title"], row["what"], mean + seeds, *differences])
        conclusions += [f"- `{name}`: {sentence}" for sentence in found["conclusions"]] if found else []
        if not found:
            rows.append([name, NOT_MEASURED, *[""] * (len(head) - 2)])
    return "\n".join([table(head, rows), *conclusions]).rstrip("\n") + "\n"


def count_of(items: Sequence[Any], word: str) -> str:
    """`1 seed`, `5 seeds`."""
    return f"{len(items)} {word}{'' if len(items) == 1 else 's'}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, unpadded; a bar or a line's end in a cell cannot break it."""
    lines = [[" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in (head, *rows)]
    first, *others = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([first, f"|{'---|' * len(head)}", *others]) + "\n"


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """The measured files of every data set. Raises `UserError` for one that is no such file or of another version."""
    found: dict[str, dict[str, Any]] = {}
    for name in NAMES:
        for file in FILES:
            path = folder / name / f"{file}.json"
            if path.is_file():
                content = read_json(path)
                if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
                    raise UserError(f"{path} is of another version: run `make {file} ledger` for its run")
                found.setdefault(name, {})[file] = content
        # What other commands wrote there, which `audit.decisions.elsewhere` asks.
        for file, path in (("table2", folder / name / "table2.json"), ("compare", folder / f"{name}.json")):
            if path.is_file():
                found.setdefault(name, {})[file] = read_json(path)
    return found


def stale(decisions: Sequence[Decision], results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What was measured by another specification than its profile's now, or of alternatives that are no more."""
    known = {(one.decision, one.name, one.told) for decision in decisions for one in decision.alternatives}
    problems = []
    for name, files in results.items():
        for file, content in ((file, files[file]) for file in FILES if file in files):
            profile = content["subject"]["profile"]
            if profile.partition(",")[0] != profile or sha256_json(read_profile(profile)[0]) != content["spec_sha256"]:
                problems.append(f"docs/results/{name}/{file}.json is of another specification than the profile's")
        entries = files.get("sensitivity", {}).get("entries", ())
        if any((e["decision"], e["alternative"], e["what"]) not in known for e in entries):
            problems.append(
                f"docs/results/{name}/sensitivity.json has alternatives that audit/decisions/decisions.toml lacks"
            )
        for path, file, command in (
            (f"{name}/table2.json", "table2", "make grid render"),
            (f"{name}.json", "compare", "make compare results"),
        ):
            if file in files and not elsewhere.agrees(file, files):
                problems.append(
                    f"docs/results/{path}, which `{command}` writes, is of another run than {name}/ otherwise"
                )
    return problems


def unmeasured(decisions: Sequence[Decision], results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The alternatives that can be measured and of which a data set's sensitivity.json has neither a figure nor why
    the data offer none; that a run failed is no such reason."""
    problems = []
    for name, found in ((name, files["sensitivity"]) for name, files in results.items() if "sensitivity" in files):
        profile = found["subject"]["profile"]
        answered = {
            (entry["decision"], entry["alternative"], entry["what"])
            for entry in found["entries"]
            if entry.get("effect") or (entry.get("reason") and not entry.get("failed"))
        }
        lacking = [
            f"{one.decision} {one.name}"
            for decision in decisions
            for one in decision.alternatives
            if not (one.reason or one.elsewhere)
            and one.profile in ("", profile)
            and (one.decision, one.name, one.told) not in answered
        ]
        if lacking:
            problems.append(f"docs/results/{name}/sensitivity.json has no figure for {', '.join(lacking)}")
    return problems


def take(item: str) -> None:
    """Copy what a run has of sensitivity.json and controls.json into docs/results; item : NAME=RUN.

    Raises `UserError` where it has neither, or one is not of RUN/torch as that is now; then nothing is copied.
    """
    name, _, run = item.partition("=")
    if name not in NAMES or not run:
        raise UserError(
            f"--take {item}: a data set and its run, as in --take {NAMES[0]}=RUN; known are {', '.join(NAMES)}"
        )
    there = {file: Path(run, file, f"{file}.json") for file in FILES}
    if not any(path.is_file() for path in there.values()):
        raise UserError(f"--take {item}: {run} has neither of {', '.join(map(str, there.values()))}")
    found = {file: read_current(Path(run), file) for file, path in there.items() if path.is_file()}
    (RESULTS / name).mkdir(parents=True, exist_ok=True)
    for file, content in found.items():
        write_json(RESULTS / name / f"{file}.json", content)


def main() -> int:
    """The command line; returns the exit code: 1 where --check finds something stale."""
    parser = argparse.ArgumentParser(prog="python -m audit.decisions.ledger", description=__doc__)
    parser.add_argument("--take", action="append", default=[], metavar="NAME=RUN")
    parser.add_argument("--check", action="store_true", help="write nothing; say what is stale")
    arguments = parser.parse_args()
    for item in arguments.take:
        take(item)
    decisions, results = read_decisions(), read_results(RESULTS)
    text = ledger(decisions, results)
    if not arguments.check:
        write_text(LEDGER, text)
        return 0
    problems = stale(decisions, results)
    problems += ["docs/ledger.md is not what its sources say"] if LEDGER.read_text(encoding="utf-8") != text else []
    for problem in problems:
        print(f"stale: {problem}: run `make ledger`", file=sys.stderr)
    for problem in (lacking := unmeasured(decisions, results)):
        print(f"unmeasured: {problem}: run `make sensitivity ledger`", file=sys.stderr)
    return 1 if problems or lacking else 0


if __name__ == "__main__":
    run_command(main)
