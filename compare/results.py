"""The README's figures: `python -m compare.results [--take NAME=RUN]... [--selftest FILE] [--check]`.

`--take` copies the figures of a finished comparison into docs/results/<NAME>.json, `--selftest` a selftest.json into
docs/; the blocks of README.md that are marked as written by it are then made from those files and from
embedded/backbone.json. `--check` writes nothing and
exits 1 where the README, or the specification that a figure was made with, is not the present one.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from compare.check import AT_MOST, MODES, SCHEMA_VERSION, TOLERANCES, badness, read_tolerances
from compare.end_to_end import LEAST_SEEDS, claim
from compare.pair import stage_digests
from compare.report import ROW_NAMES, difference_cells, mean_text
from experiment.artifacts import RunFolder, read_json, sha256_file, sha256_json, write_json
from experiment.errors import UserError, run_command
from experiment.spec import read_profile
from experiment.stages import ROWS, STAGES

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
SELFTEST = ROOT / "docs" / "selftest.json"
BACKBONE = ROOT / "embedded" / "backbone.json"
README = ROOT / "README.md"
# What the README shows of a comparison: a check's "<stage>.<quantity>", and what it is in words.
AGREEMENT = {
    "images.max_abs": "images, greatest difference in grey levels",
    "features.blob_relative_l2": "backbone, worst blob of the worst image, relative L2",
    "features.relative_l2": "features, worst image, relative L2",
    "clusters.agreement": "clusters, equal assignments",
    "pseudo_labels.agreement": "pseudo-labels, equal",
    "transfer.step_relative_l2": "transfer network, weights after one step from Caffe's snapshots, relative L2",
    "transfer.step_history": "transfer network, momentum after one step from Caffe's snapshots, relative L2",
    "transfer.segment_relative_l2": "transfer network, weights after at most 100 steps from them, relative L2",
    "transfer.relative_l2": "transfer network, the whole training, worst weight or snapshot, relative L2",
    "svm.decision_max_abs": "SVM, greatest difference of decision values",
    "metrics.map": "mAP, greatest difference (1 = 100 %)",
    "resnet101.blob_relative_l2": "ResNet-101 with seeded weights, worst of its blobs, relative L2",
    "resnet101.pool5_relative_l2": "ResNet-101's pool5, relative L2",
}

# The runs, besides a and b, without which a comparison is none to be shown: what `make seeds compare` makes.
NEEDED = {"isolated": 1, "reference": 1, "varied_a": 3, "varied_b": 2, "seeds_a": LEAST_SEEDS, "seeds_b": LEAST_SEEDS}


def take(name: str, run: Path) -> None:
    """Write docs/results/<name>.json from runs/<...>: both sides' metrics, every measured difference, the times.

    Raises `UserError` where compare.json is of other stages than the run has now, or was made without calibration.
    """
    comparison = read_json(run / "compare.json")
    sides = {side: RunFolder(run / side) for side in ("caffe", "torch")}
    if comparison.get("schema_version") != SCHEMA_VERSION:
        raise UserError(f"{run / 'compare.json'} is of another version: run `make compare` again")
    runs = comparison["runs"]
    for used in (entry for entries in runs.values() for entry in entries):
        folder = RunFolder(Path(used["path"]))
        found = stage_digests(folder)
        for stage, digest in used["stages"].items():
            if found[stage] != digest:
                raise UserError(
                    f"{run / 'compare.json'} is older than {folder.stage_path(stage)}: run `make compare` again"
                )
    if comparison["tolerances_sha256"] != sha256_file(TOLERANCES):
        raise UserError(f"{run / 'compare.json'} was judged by other tolerances: run `make compare` again")
    if [Path(runs[which][0]["path"]) for which in "ab"] != [side.path for side in sides.values()]:
        raise UserError(f"{run / 'compare.json'} is of other runs than those beside it: run `make compare` again")
    if comparison["subject"]["profile"] != (known := comparison["subject"]["profile"].partition(",")[0]):
        raise UserError(
            f"{run / 'compare.json'} is of a shortened run: run `make compare PROFILE={known}` without LIMIT="
        )
    missing = [name for name, count in NEEDED.items() if len({entry["path"] for entry in runs[name]}) < count]
    if missing or comparison["end_to_end"] is None:
        told = missing[0] if missing else "end_to_end"
        raise UserError(f"{run / 'compare.json'} lacks some of {told}: run `make seeds compare` first")
    spec = sides["caffe"].spec
    ids = {split: len(sides["caffe"].json("index", f"ids_{split}")) for split in ("trainval", "test")}
    result = {
        "profile": spec["profile"],
        "spec_sha256": spec["sha256"],
        "tolerances_sha256": comparison["tolerances_sha256"],
        "images": ids,
        "classes": sides["caffe"].json("index", "classes"),
        "agrees": comparison["agrees"],
        "sentence": comparison["sentence"],
        "k": comparison["k"],
        "measured": measured(comparison["checks"]),
        "end_to_end": comparison["end_to_end"],
        "map": {side: run_.json("metrics", "metrics") for side, run_ in sides.items()},
        "seconds": {
            side: {stage: run_.require_manifest(stage)["seconds"] for stage in STAGES} for side, run_ in sides.items()
        },
        "versions": {side: run_.require_manifest("metrics")["versions"] for side, run_ in sides.items()},
        "machine": sides["caffe"].require_manifest("metrics")["machine"],
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_json(RESULTS / f"{name}.json", result)


def measured(checks: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The worst value of each quantity, with its bound, by "<stage>.<quantity>" and mode; and the most noise floors."""
    found: dict[str, dict[str, Any]] = {}
    # In order of badness, so that the worst comes last and stays; JSON holds "nan" and "inf" as strings.
    for check in sorted(checks, key=lambda check: badness(float(check["value"]), check["bound"])):
        entry = found.setdefault(f"{check['stage']}.{check['quantity']}", {"bound": check["bound"]})
        entry[check["mode"]] = {key: check[key] for key in ("value", "allowed", "item")}
    calibrated = [check for check in checks if check["calibration"]]
    for check in sorted(calibrated, key=lambda check: badness(float(check["calibration"]["ratio"]), AT_MOST)):
        entry = found[f"{check['stage']}.{check['quantity']}"]
        entry["floors"] = {"ratio": check["calibration"]["ratio"], "item": check["item"]}
    return found


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
    """For each data set the headline differences of both modes, what is allowed, and errors in noise floors."""
    tolerances = read_tolerances(TOLERANCES)
    columns = [f"{name}, {what}" for name in results for what in (*MODES, "floors")]
    lines = [f"| quantity | allowed, isolated | {' | '.join(columns)} |", "|---|---|" + "---|" * len(columns)]
    for quantity, words in AGREEMENT.items():
        tolerance = tolerances.bounds[quantity]
        cells = []
        for result in results.values():
            entry = result["measured"][quantity]
            cells += [f"{float(entry[mode]['value']):.3g}" if mode in entry else "-" for mode in MODES]
            cells.append(f"{float(entry['floors']['ratio']):.2g}" if "floors" in entry else "-")
        lines.append(f"| {words} | {tolerance.bound} {tolerance.isolated:g} | {' | '.join(cells)} |")
    sentences = [f"`{name}`: {result['sentence']}." for name, result in results.items()]
    return "\n".join(lines) + "\n\n" + "\n".join(sentences) + "\n"


def end_to_end_table(results: dict[str, dict[str, Any]]) -> str:
    """mAP over the seeds, the sides' difference with its interval and verdict, and the paper's claim, in Markdown."""
    lines = ["| data set | | Caffe | port | difference | 95 % interval | |", "|---|---|---|---|---|---|---|"]
    for name, result in results.items():
        found = result["end_to_end"]
        first = f"{name}, {found['seeds']} seeds a side"
        for row, entry in found["a_minus_b"].items():
            means = [mean_text(found["map"][side][row]) for side in "ab"]
            cells = [first, ROW_NAMES[row], *means, *difference_cells(entry), entry["overall"]["verdict"]]
            lines.append(f"| {' | '.join(cells)} |")
            first = ""
        for side, who in (("a", "Caffe"), ("b", "port")):
            entry = found["ours_minus_baseline_lr"][side]
            cells = ["", f"Ours minus Baseline-LR, {who}", "", "", *difference_cells(entry), claim(entry)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def selftest_table(record: dict[str, Any]) -> str:
    """Every mistake and every harmless change of the self-test, and what became of it, in Markdown."""
    harmful = [row for row in record["rows"] if row["harmful"]]
    harmless = [row for row in record["rows"] if not row["harmful"]]
    located = sum(row["caught"] and row["found"] == row["expected"] for row in harmful)
    passed = sum(not row["caught"] for row in harmless)
    lines = [
        f"{sum(row['caught'] for row in harmful)} of {len(harmful)} mistakes are caught, {located} located where they "
        f"are; {passed} of {len(harmless)} harmless changes pass.",
        "",
        "| mistake | first departure |",
        "|---|---|",
    ]
    for row in harmful:
        right = row["found"] == row["expected"]
        told = row["found"] if right else f"**{row['found'] or 'not caught'}**, expected {row['expected']}"
        lines.append(f"| {row['name']} | {told} |")
    lines += ["", "| harmless change | |", "|---|---|"]
    lines += [
        f"| {row['name']} | {'**flagged** at ' + row['found'] if row['caught'] else 'passes'} |" for row in harmless
    ]
    return "\n".join(lines) + "\n"


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
    """The results that were made with another specification than the profile's now, or with other tolerances."""
    return [
        name
        for name, result in results.items()
        if sha256_json(read_profile(result["profile"])[0]) != result["spec_sha256"]
        or result["tolerances_sha256"] != sha256_file(TOLERANCES)
    ]


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m compare.results", description=__doc__)
    parser.add_argument("--take", action="append", default=[], metavar="NAME=RUN")
    parser.add_argument("--selftest", type=Path, help="a selftest.json to take into docs/")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    for item in arguments.take:
        name, _, run = item.partition("=")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or not run:
            raise UserError(f"--take {item} is not NAME=RUN, as in embedded=runs/embedded")
        take(name, Path(run))
    if arguments.selftest:
        write_json(SELFTEST, read_json(arguments.selftest))
    results = {path.stem: read_json(path) for path in sorted(RESULTS.glob("*.json"), reverse=True)}
    if not results:
        raise UserError(f"{RESULTS} holds no results yet: run `make compare`, then `make results`")
    text = README.read_text(encoding="utf-8")
    blocks = {
        "results": map_table(results),
        "agreement": agreement_table(results),
        "end-to-end": end_to_end_table(results),
        "selftest": selftest_table(read_json(SELFTEST)),
        "backbone": backbone_text(read_json(BACKBONE)),
    }
    written = with_blocks(text, blocks)
    if arguments.check:
        problems = [
            f"docs/results/{name}.json is of another specification or other tolerances"
            for name in stale_results(results)
        ]
        problems += ["README.md's figures are not those of docs/results"] if written != text else []
        for problem in problems:
            print(f"stale: {problem}: run `make results`", file=sys.stderr)
        return 1 if problems else 0
    README.write_text(written, encoding="utf-8")
    return 0


if __name__ == "__main__":
    run_command(main)
