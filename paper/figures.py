"""Figures 1 and 3 of a finished run: `python -m paper.figures RUN [--out FOLDER]`.

Figure 1: t-SNE of the trainval images' HR and LR features. Figure 3: of the test images' HR, LR and transferred
features. Beside each picture stand numbers from the original space. Writes figure1.svg, figure3.svg, and figures.md,
figures.csv and figures.json with the numbers.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np

from experiment.artifacts import RunFolder, write_json
from experiment.errors import UserError, run_command
from paper.draw import LEAST_IMAGES, Panel, draw
from paper.published import PERCENT, read_published
from paper.separation import NEIGHBOURS, separation, single_label
from paper.standing import Standing, standing
from paper.table1 import OUT
from paper.text import NONE, csv_text, markdown_table, number, write_text

# Figure to its panels: title, stage, output. The split is the last part of the output's name.
FIGURES = {
    "figure1": (
        ("HR, trainval", "features", "hr_trainval"),
        ("LR, trainval", "features", "lr_trainval"),
    ),
    "figure3": (
        ("HR, test", "features", "hr_test"),
        ("LR, test", "features", "lr_test"),
        ("LR transferred, test", "transfer_features", "test"),
    ),
}
HEAD = ("figure", "features", "dimension", "images", "classes", f"{NEIGHBOURS}-NN", "chance", "silhouette")


def panels(run: RunFolder, columns: list[int]) -> dict[str, list[Panel]]:
    """Every figure's panels; columns : the run's class columns in the order in which they are shown.

    Only images of one class are shown. Raises `UserError` where a split has too few of them, or a stage is unfinished.
    """
    shown = {}
    for split in ("trainval", "test"):
        labels = np.array(run.array("index", f"labels_{split}"))[:, columns]
        rows, classes = single_label(labels)
        if len(rows) < LEAST_IMAGES:
            raise UserError(
                f"{run.path}: {len(rows)} {split} images have one class and no other, too few to be drawn: "
                "take a greater devkit or LIMIT="
            )
        shown[split] = rows, classes
    figures: dict[str, list[Panel]] = {}
    for figure, members in FIGURES.items():
        figures[figure] = []
        for title, stage, output in members:
            rows, classes = shown[output.rpartition("_")[2]]
            features = np.array(run.array(stage, output)[rows])
            figures[figure].append(Panel(title, features, classes, separation(features, classes)))
    return figures


def number_rows(figures: dict[str, list[Panel]]) -> list[list[str]]:
    """The table of numbers; kNN and chance in percent."""
    return [
        [
            figure,
            panel.title,
            *(str(count) for count in (panel.numbers.dimension, panel.numbers.images, panel.numbers.classes)),
            number(PERCENT * panel.numbers.knn, 1),
            number(PERCENT * panel.numbers.chance, 1),
            number(panel.numbers.silhouette, 3),
        ]
        for figure, members in figures.items()
        for panel in members
    ]


def markdown(figures: dict[str, list[Panel]], stands: Standing, title: str) -> str:
    """The page with both pictures and the table of numbers."""
    lines = [
        f"# Figures 1 and 3: {title}",
        "",
        *(f"- {remark}" for remark in stands.remarks),
        "- The port's features. Only images that have one class and no other are shown and measured.",
        f"- {NEIGHBOURS}-NN: the share of images, in percent, whose {NEIGHBOURS} nearest others by Euclidean distance "
        "have their class in the majority; chance: the share of the most frequent class. Both it and the silhouette "
        "are taken in the original space, not in the picture: t-SNE makes clusters out of noise as well.",
        "",
        markdown_table(HEAD, number_rows(figures), left=2),
    ]
    for figure in figures:
        lines += [f"![{figure}]({figure}.svg)", ""]
    return "\n".join(lines)


def write(path: Path, out: Path, title: str) -> str:
    """Write the figures and their numbers of a run's folder into `out`; returns the table of numbers."""
    run = RunFolder(path / "torch")
    stands = standing(run, read_published())
    figures = panels(run, stands.columns)
    pictures = {figure: draw(members, stands.names) for figure, members in figures.items()}
    for figure, picture in pictures.items():
        write_text(out / f"{figure}.svg", picture.decode())
    write_text(out / "figures.md", markdown(figures, stands, title))
    write_text(
        out / "figures.csv", csv_text(HEAD, [[None if c == NONE else c for c in r] for r in number_rows(figures)])
    )
    found = {
        figure: [{"features": panel.title, **asdict(panel.numbers)} for panel in members]
        for figure, members in figures.items()
    }
    write_json(out / "figures.json", {"remarks": stands.remarks, "neighbours": NEIGHBOURS, "figures": found})
    return markdown_table(HEAD, number_rows(figures), left=2)


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m paper.figures", description=__doc__)
    parser.add_argument("run", type=Path, help="a run's folder, with torch/ in it")
    parser.add_argument("--out", type=Path, help="where to write (default: RUN/paper)")
    arguments = parser.parse_args()
    path = arguments.run.absolute()
    print(write(path, arguments.out or path / OUT, path.name))
    return 0


if __name__ == "__main__":
    run_command(main)
