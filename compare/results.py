"""The README's results table: `python -m compare.results [--take NAME=RUN]... [--check]`.

`--take` copies the figures of a finished comparison into docs/results/<NAME>.json; the table in README.md is then
written from those files. `--check` writes nothing and exits 1 where the README, or the specification that a figure
was made with, is not the present one.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from experiment.artifacts import RunFolder, read_json, sha256_json, write_json
from experiment.errors import UserError, run_command
from experiment.spec import check_together, read_profile
from experiment.stages import ROWS, STAGES

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
README = ROOT / "README.md"
BEGIN, END = "<!-- results: written by `make results` -->\n", "<!-- end of results -->\n"
ROW_NAMES = {"baseline_hr": "Baseline-HR", "baseline_lr": "Baseline-LR", "ours": "Ours"}


def take(name: str, run: Path) -> None:
    """Write docs/results/<name>.json from runs/<...>: the three mAP rows of both sides, the verdict, the times."""
    comparison = read_json(run / "compare.json")
    sides = {side: RunFolder(run / side) for side in ("caffe", "torch")}
    spec = sides["caffe"].spec
    ids = {split: len(sides["caffe"].json("index", f"ids_{split}")) for split in ("trainval", "test")}
    result = {
        "profile": spec["profile"],
        "spec_sha256": spec["sha256"],
        "images": ids,
        "agrees": comparison["agrees"],
        "sentence": comparison["sentence"],
        "map": {side: run_.json("metrics", "metrics") for side, run_ in sides.items()},
        "seconds": {
            side: {stage: run_.require_manifest(stage)["seconds"] for stage in STAGES} for side, run_ in sides.items()
        },
        "versions": {side: run_.require_manifest("metrics")["versions"] for side, run_ in sides.items()},
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_json(RESULTS / f"{name}.json", result)


def table(results: dict[str, dict[str, Any]]) -> str:
    """The README's table in Markdown: mAP in percent, 11-point and area, of both sides."""
    lines = [
        "| data set | row | mAP 11-point, Caffe | port | mAP area, Caffe | port |",
        "|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        counts = f"{name} ({result['images']['trainval']} trainval, {result['images']['test']} test)"
        for row in ROWS:
            cells = [
                f"{100 * result['map'][side][row][variant]:.2f}"
                for variant in ("map_11point", "map_area")
                for side in ("caffe", "torch")
            ]
            lines.append(f"| {counts if row == ROWS[0] else ''} | {ROW_NAMES[row]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def stale_results(results: dict[str, dict[str, Any]]) -> list[str]:
    """The results that were made with another specification than the profile's present one."""
    stale = []
    for name, result in results.items():
        values, _ = read_profile(result["profile"])
        check_together(values, result["profile"])
        if sha256_json(values) != result["spec_sha256"]:
            stale.append(name)
    return stale


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m compare.results", description=__doc__)
    parser.add_argument("--take", action="append", default=[], metavar="NAME=RUN")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    for item in arguments.take:
        name, _, run = item.partition("=")
        take(name, Path(run))
    results = {path.stem: read_json(path) for path in sorted(RESULTS.glob("*.json"))}
    text = README.read_text()
    if BEGIN not in text or END not in text:
        raise UserError(f"{README} has lost the lines that frame the results: put them back")
    head, rest = text.split(BEGIN)
    written = head + BEGIN + table(results) + END + rest.split(END)[1]
    if arguments.check:
        problems = [f"docs/results/{name}.json is of another specification" for name in stale_results(results)]
        problems += ["README.md's table is not that of docs/results"] if written != text else []
        for problem in problems:
            print(f"stale: {problem}: run `make results`", file=sys.stderr)
        return 1 if problems else 0
    README.write_text(written)
    return 0


if __name__ == "__main__":
    run_command(main)
