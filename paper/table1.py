"""Table 1 of a finished run: `python -m paper.table1 RUN [--out FOLDER]`.

AP per class of both sides in percent, beside the paper's with the difference where the classes are VOC2007's twenty.
Prints the table, and writes table1.md and table1.csv.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compare.report import ROW_NAMES
from experiment.artifacts import RunFolder
from experiment.errors import UserError, run_command
from experiment.stages import ROWS
from paper.published import PERCENT, read_published
from paper.standing import Standing, standing
from paper.text import csv_text, markdown_table, number, write_text

SIDES = {"caffe": "Caffe", "torch": "port"}
OUT = "paper"  # the folder in a run that holds what this package writes, unless --out says otherwise


@dataclass(frozen=True)
class Table1:
    """Both sides' AP in percent, in the order in which it is shown.

    ap : row of the table, side ("caffe", "torch", and "published" where it is comparable) to the AP of each class and
    then their mean, the mAP. area : row, side to the mAP by the area under the curve, which the paper does not give.
    """

    ap: dict[str, dict[str, list[float]]]
    area: dict[str, dict[str, float]]
    stands: Standing


def table1(path: Path) -> Table1:
    """Read Table 1 from a run's folder, which holds caffe/ and torch/.

    Raises `UserError` where a side is not finished, or the sides are of other specifications or other test labels.
    """
    published = read_published()
    runs = {side: RunFolder(path / side) for side in SIDES}
    facts = {side: (run.spec["sha256"], labels_of(run)) for side, run in runs.items()}
    if facts["caffe"] != facts["torch"]:
        raise UserError(f"{path}: caffe/ and torch/ are not of one specification and one devkit: run `make compare`")
    stands = standing(runs["torch"], published)
    metrics = {side: run.json("metrics", "metrics") for side, run in runs.items()}
    ap: dict[str, dict[str, list[float]]] = {}
    for row in ROWS:
        ap[row] = {side: in_order(found[row], stands) for side, found in metrics.items()}
        if stands.published:
            ap[row]["published"] = [*published.ap[row], published.map[row]]
    area = {row: {side: PERCENT * found[row]["map_area"] for side, found in metrics.items()} for row in ROWS}
    return Table1(ap, area, stands)


def labels_of(run: RunFolder) -> dict[str, str]:
    """The hashes of a run's classes and labels."""
    outputs = run.require_manifest("index")["outputs"]
    return {name: outputs[name]["sha256"] for name in ("classes", "labels_trainval", "labels_test")}


def in_order(measures: dict[str, Any], stands: Standing) -> list[float]:
    """The 11-point APs of one row in percent in the order shown, the mAP last."""
    values = [measures["ap_11point"][column] for column in stands.columns] + [measures["map_11point"]]
    return [PERCENT * value for value in values]


def lines_of(sides: dict[str, list[float]]) -> list[tuple[str, list[float], bool]]:
    """The lines of one row: what it is, its values, and whether they are differences."""
    caffe, torch = sides["caffe"], sides["torch"]
    lines = [("Caffe", caffe, False), ("port", torch, False), ("port - Caffe", minus(torch, caffe), True)]
    if paper := sides.get("published"):
        lines.insert(0, ("paper", paper, False))
        lines += [("Caffe - paper", minus(caffe, paper), True), ("port - paper", minus(torch, paper), True)]
    return lines


def minus(a: list[float], b: list[float]) -> list[float]:
    """a - b, value by value."""
    return [x - y for x, y in zip(a, b, strict=True)]


def markdown(table: Table1, title: str) -> str:
    """The whole page; percent, one decimal as the paper prints it, differences with their sign."""
    rows = []
    for row, sides in table.ap.items():
        for what, values, signed in lines_of(sides):
            area = table.area[row].get({"Caffe": "caffe", "port": "torch"}.get(what, ""))
            cells = [number(value, 1, signed) for value in values]
            rows.append([ROW_NAMES[row] if what == lines_of(sides)[0][0] else "", what, *cells, number(area, 1)])
    head = ["", "", *table.stands.names, "mAP", "mAP area"]
    return "\n".join(
        [
            f"# Table 1: {title}",
            "",
            "Average precision in percent, VOC2007's 11-point one; the last column is the mean of the area under the "
            "curve, which the paper does not give.",
            "",
            *(f"- {remark}" for remark in table.stands.remarks),
            "",
            markdown_table(head, rows, left=2),
        ]
    )


def csv_of(table: Table1) -> str:
    """A line for each row and class; percent. Where there is no published value the cells are empty."""
    lines = []
    for row, sides in table.ap.items():
        for i, (name, shown) in enumerate(
            zip([*table.stands.classes, "mAP"], [*table.stands.names, "mAP"], strict=True)
        ):
            values = {side: sides[side][i] if side in sides else None for side in ("published", *SIDES)}
            paper, caffe, torch = values["published"], values["caffe"], values["torch"]
            assert caffe is not None and torch is not None
            against = [None if paper is None else value - paper for value in (caffe, torch)]
            lines.append([row, name, shown, paper, caffe, torch, *against, torch - caffe])
    head = ["row", "class", "shown", "published", "caffe", "torch"]
    return csv_text([*head, "caffe_minus_published", "torch_minus_published", "torch_minus_caffe"], lines)


def write(path: Path, out: Path, title: str) -> str:
    """Write table1.md and table1.csv of a run's folder into `out`; returns the page."""
    table = table1(path)
    page = markdown(table, title)
    write_text(out / "table1.md", page)
    write_text(out / "table1.csv", csv_of(table))
    return page


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m paper.table1", description=__doc__)
    parser.add_argument("run", type=Path, help="a run's folder, with caffe/ and torch/ in it")
    parser.add_argument("--out", type=Path, help="where to write (default: RUN/paper)")
    arguments = parser.parse_args()
    print(write(arguments.run, arguments.out or arguments.run / OUT, arguments.run.absolute().name))
    return 0


if __name__ == "__main__":
    run_command(main)
