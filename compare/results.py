"""The README's figures: `python -m compare.results [--take NAME=RUN]... [--check]`.

`--take` copies the figures of a finished comparison into docs/results/<NAME>.json; the blocks of README.md that are
marked as written by it are then made from those files and from embedded/backbone.json. `--check` writes nothing and
exits 1 where the README, or the specification that a figure was made with, is not the present one.
"""

import argparse
import math
import re
import sys
from pathlib import Path
from typing import Any

from compare.check import AT_LEAST, MODES, TOLERANCES, read_tolerances
from experiment.artifacts import RunFolder, read_json, sha256_json, write_json
from experiment.errors import UserError, run_command
from experiment.spec import read_profile
from experiment.stages import ROWS, STAGES

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
BACKBONE = ROOT / "embedded" / "backbone.json"
README = ROOT / "README.md"
ROW_NAMES = {"baseline_hr": "Baseline-HR", "baseline_lr": "Baseline-LR", "ours": "Ours"}
# What the README shows of a comparison: a check's "<stage>.<quantity>", and what it is in words.
AGREEMENT = {
    "images.max_abs": "images, greatest difference in grey levels",
    "features.blob_relative_l2": "backbone, worst blob, relative L2",
    "features.relative_l2": "features, relative L2",
    "clusters.agreement": "clusters, equal assignments",
    "pseudo_labels.agreement": "pseudo-labels, equal",
    "transfer.step_history": "transfer network, momentum after one step from Caffe's snapshots, relative L2",
    "transfer.segment_relative_l2": "transfer network, weights after at most 100 steps from them, relative L2",
    "transfer.relative_l2": "transfer network, the whole training, worst weight or snapshot, relative L2",
    "svm.decision_max_abs": "SVM, greatest difference of decision values",
    "metrics.map": "mAP, greatest difference (1 = 100 %)",
    "resnet101.blob_relative_l2": "ResNet-101 with seeded weights, worst of its blobs, relative L2",
    "resnet101.pool5_relative_l2": "ResNet-101's pool5, relative L2",
}


def take(name: str, run: Path) -> None:
    """Write docs/results/<name>.json from runs/<...>: both sides' metrics, every measured difference, the times."""
    comparison = read_json(run / "compare.json")
    sides = {side: RunFolder(run / side) for side in ("caffe", "torch")}
    spec = sides["caffe"].spec
    ids = {split: len(sides["caffe"].json("index", f"ids_{split}")) for split in ("trainval", "test")}
    result = {
        "profile": spec["profile"],
        "spec_sha256": spec["sha256"],
        "images": ids,
        "classes": sides["caffe"].json("index", "classes"),
        "agrees": comparison["agrees"],
        "sentence": comparison["sentence"],
        "measured": measured(comparison["checks"]),
        "map": {side: run_.json("metrics", "metrics") for side, run_ in sides.items()},
        "seconds": {
            side: {stage: run_.require_manifest(stage)["seconds"] for stage in STAGES} for side, run_ in sides.items()
        },
        "versions": {side: run_.require_manifest("metrics")["versions"] for side, run_ in sides.items()},
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_json(RESULTS / f"{name}.json", result)


def measured(checks: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The worst value of each quantity, with its bound, by "<stage>.<quantity>" and mode."""
    found: dict[str, dict[str, Any]] = {}
    for check in sorted(checks, key=badness):  # so that the worst comes last and stays
        entry = found.setdefault(f"{check['stage']}.{check['quantity']}", {"bound": check["bound"]})
        entry[check["mode"]] = {key: check[key] for key in ("value", "allowed", "item")}
    return found


def badness(check: dict[str, Any]) -> tuple[bool, float]:
    """Greater for a worse check of a quantity; NaN (a string in JSON, as infinity is) is worse than every number."""
    value = float(check["value"])
    return math.isnan(value), 0.0 if math.isnan(value) else -value if check["bound"] == AT_LEAST else value


def map_table(results: dict[str, dict[str, Any]]) -> str:
    """mAP in percent, 11-point and area, of both sides, in Markdown."""
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


def agreement_table(results: dict[str, dict[str, Any]]) -> str:
    """The headline differences of both modes for each data set, and what is allowed, in Markdown.

    A cell says so where more is allowed in it, because run a's own floor is higher (`Tolerance.floor_factor`).
    """
    tolerances = read_tolerances(TOLERANCES)
    columns = [f"{name}, {mode}" for name in results for mode in MODES]
    lines = [f"| quantity | allowed, isolated | {' | '.join(columns)} |", "|---|---|" + "---|" * len(columns)]
    for quantity, words in AGREEMENT.items():
        entries = [result["measured"][quantity] for result in results.values()]
        tolerance = tolerances[quantity]
        cells = []
        for entry in entries:
            raised = entry["isolated"]["allowed"] != tolerance.isolated
            more = f" (allowed {entry['isolated']['allowed']:.3g})" if raised else ""
            cells.append(f"{float(entry['isolated']['value']):.3g}{more}")
            cells.append(f"{float(entry['chained']['value']):.3g}" if "chained" in entry else "-")
        lines.append(f"| {words} | {tolerance.bound} {tolerance.isolated:g} | {' | '.join(cells)} |")
    sentences = [f"`{name}`: {result['sentence']}." for name, result in results.items()]
    return "\n".join(lines) + "\n\n" + "\n".join(sentences) + "\n"


def backbone_text(record: dict[str, Any]) -> str:
    """What the embedded backbone is and how well it does on photographs that it was not trained on."""
    hr, lr = (record["accuracy"][resolution] for resolution in ("hr", "lr"))
    return (
        f"On {hr['of']} held-out photographs of its {record['photographs']['classes']} classes it is right on "
        f"{hr['correct']} at HR ({100 * hr['fraction']:.1f} %) and on {lr['correct']} at LR "
        f"({100 * lr['fraction']:.1f} %).\n\n"
        f"- trained by `{record['command']}` on {record['photographs']['count']} photographs\n"
        f"- `embedded/backbone.caffemodel`: {record['caffemodel']['bytes']:,} bytes, sha256\n"
        f"  `{record['caffemodel']['sha256']}`\n"
    )


def with_blocks(text: str, blocks: dict[str, str]) -> str:
    """`text` with what stands between each block's two marks replaced. Raises `UserError` where a mark is missing."""
    for name, content in blocks.items():
        begin, end = f"<!-- {name}: written by `make results` -->\n", f"<!-- end of {name} -->\n"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise UserError(f"{README} has lost the two lines that frame its {name}: put them back")
        before, after = pattern.split(text)
        text = before + begin + content + end + after
    return text


def stale_results(results: dict[str, dict[str, Any]]) -> list[str]:
    """The results that were made with another specification than the profile's present one."""
    return [
        name
        for name, result in results.items()
        if sha256_json(read_profile(result["profile"])[0]) != result["spec_sha256"]
    ]


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m compare.results", description=__doc__)
    parser.add_argument("--take", action="append", default=[], metavar="NAME=RUN")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    for item in arguments.take:
        name, _, run = item.partition("=")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise UserError(f"--take {item}: a result's name is letters, digits, - and _, as in --take embedded=RUN")
        take(name, Path(run))
    results = {path.stem: read_json(path) for path in sorted(RESULTS.glob("*.json"), reverse=True)}
    if not results:
        raise UserError(f"{RESULTS} holds no results yet: run `make compare`, then `make results`")
    text = README.read_text(encoding="utf-8")
    blocks = {
        "results": map_table(results),
        "agreement": agreement_table(results),
        "backbone": backbone_text(read_json(BACKBONE)),
    }
    written = with_blocks(text, blocks)
    if arguments.check:
        problems = [f"docs/results/{name}.json is of another specification" for name in stale_results(results)]
        problems += ["README.md's figures are not those of docs/results"] if written != text else []
        for problem in problems:
            print(f"stale: {problem}: run `make results`", file=sys.stderr)
        return 1 if problems else 0
    README.write_text(written, encoding="utf-8")
    return 0


if __name__ == "__main__":
    run_command(main)
