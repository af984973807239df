"""What `paper.grid` writes: Table 2 and the choice of N1 and N2, in Markdown, CSV and JSON. Everything in percent."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from experiment.artifacts import write_json
from paper.cells import BLOBS
from paper.choice import best
from paper.published import Published, read_published
from paper.standing import Standing
from paper.text import NONE, csv_text, markdown_table, number, write_text

FEATURES = {
    "fc2": "The second layer's N2 outputs, the feature that the paper describes (4.4)",
    "fc1": "The first layer's N1 outputs, after the ReLU",
}
FLAT_MARK = "*"


@dataclass(frozen=True)
class Entry:
    """One combination with one feature; mAPs are None where it could not be trained.

    map, area : mAP on the test images, 11-point and area. split : 11-point mAP by the split of trainval, None too where
    no class can be split. left_out : the classes that cannot. flat : in how many classes the decision values are all
    but constant. reason : why there is nothing.
    """

    map: float | None = None
    area: float | None = None
    split: float | None = None
    left_out: list[str] = field(default_factory=list)
    flat: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Grid:
    """Every combination: entries by feature ("fc2" or "fc1"), N1, N2.

    baselines : row of Table 1 to its mAP. classes : how many there are. failed : combinations that could not be trained
    although there are images enough.
    """

    n1s: list[int]
    n2s: list[int]
    entries: dict[tuple[str, int, int], Entry]
    baselines: dict[str, float]
    classes: int
    seed: int
    stands: Standing
    failed: int


def choices(grid: Grid, blob: str) -> dict[str, tuple[int, int] | None]:
    """The (N1, N2) that the test images choose, as in the paper, and the one that the split of trainval does."""
    scores: dict[str, Callable[[Entry], float | None]] = {"test": lambda e: e.map, "split": lambda e: e.split}
    return {
        by: best((n1, n2, score(entry)) for (of, n1, n2), entry in grid.entries.items() if of == blob)
        for by, score in scores.items()
    }


def table_of(grid: Grid, blob: str, published: Published) -> str:
    """One feature's table beside the paper's, columns N1, rows N2; below it the difference where it is comparable."""
    head = ["N2", *(f"N1 = {n1}" for n1 in grid.n1s), *(f"paper {n1}" for n1 in grid.n1s)]
    rows, differences = [], []
    for n2 in grid.n2s:
        entries = [grid.entries[blob, n1, n2] for n1 in grid.n1s]
        papers = [published.grid.get((n1, n2)) for n1 in grid.n1s]
        marks = [FLAT_MARK if 2 * entry.flat >= grid.classes and entry.map is not None else "" for entry in entries]
        cells = [number(entry.map) + mark for entry, mark in zip(entries, marks, strict=True)]
        rows.append([str(n2), *cells, *(number(paper, 1) for paper in papers)])
        pairs = zip(entries, papers, strict=True)
        differences.append(
            [str(n2), *(number(None if e.map is None or p is None else e.map - p, 2, True) for e, p in pairs)]
        )
    text = markdown_table(head, rows)
    if grid.stands.published:
        text += "\nDifference from the paper:\n\n" + markdown_table(head[: len(grid.n1s) + 1], differences)
    return text


def choice_table(grid: Grid, published: Published) -> str:
    """What each feature's choice is, by the test images and by the split, and what it scores on both."""
    rows = []
    for blob in BLOBS:
        for by, chosen in choices(grid, blob).items():
            told = {"test": "the test images, as in the paper", "split": "the split of trainval"}[by]
            if chosen is None:
                rows.append([blob, told, NONE, NONE, NONE, NONE, NONE])
                continue
            entry = grid.entries[(blob, *chosen)]
            assert entry.map is not None
            gain = number(entry.map - grid.baselines["baseline_lr"], 2, True)
            rows.append([blob, told, *map(str, chosen), number(entry.split), number(entry.map), gain])
    paper = published.grid[published.chosen]
    gain = number(paper - published.map["baseline_lr"], 1, True)
    rows.append(["the paper's", "the test images", *map(str, published.chosen), NONE, number(paper, 1), gain])
    head = ["feature", "chosen by", "N1", "N2", "mAP by the split", "mAP on test", "above Baseline-LR"]
    return markdown_table(head, rows, left=2)


def notes(grid: Grid) -> list[str]:
    """What must be known to read the tables."""
    lines = [
        f"The port alone, seed {grid.seed}: each combination draws its own k-means start and first weights from the "
        "seed's streams, so that combinations of one N2 share their clusters. One seed each: neighbouring mAPs may "
        "differ by chance, and the greatest of many is too good by it.",
        "The split: SVMs trained on every other trainval image, AP on the rest. The transfer network has seen all "
        "trainval images, but no labels. Of equal mAPs the least N1, then the least N2 is taken.",
    ]
    left_out = sorted({name for entry in grid.entries.values() for name in entry.left_out})
    if left_out:
        lines.append(
            f"The split leaves out {len(left_out)} of {grid.classes} classes, which lack a positive or a negative "
            f"image in a half: {', '.join(left_out)}."
        )
    if any(entry.map is not None and 2 * entry.flat >= grid.classes for entry in grid.entries.values()):
        lines.append(
            f"{FLAT_MARK}: in half of the classes or more the SVM's decision values are all but constant, and the "
            "ranks are where the solver stopped; such an mAP says little."
        )
    reasons: dict[str, list[str]] = {}
    for (_, n1, n2), entry in grid.entries.items():
        if entry.reason and (named := f"{n1} x {n2}") not in reasons.setdefault(entry.reason, []):
            reasons[entry.reason].append(named)
    return lines + [f"{NONE}: {reason} (N1 x N2: {', '.join(cells)})." for reason, cells in reasons.items()]


def markdown(grid: Grid, title: str) -> str:
    """The whole page."""
    published = read_published()
    baselines = ", ".join(
        f"{name} {number(grid.baselines[row])}"
        for row, name in (("baseline_hr", "Baseline-HR"), ("baseline_lr", "Baseline-LR"))
    )
    parts = [
        f"# Table 2: {title}",
        "mAP in percent on the test images, VOC2007's 11-point one, for N1 neurons in the first layer and N2 = k in "
        f"the second. Without the transfer network: {baselines}. The paper's numbers are of VOC2007.",
        "\n".join(f"- {remark}" for remark in grid.stands.remarks),
    ]
    for blob, what in FEATURES.items():
        parts += [f"## {what}", table_of(grid, blob, published).rstrip()]
    parts += ["## The choice of N1 and N2", choice_table(grid, published).rstrip()]
    parts.append("\n".join(f"- {note}" for note in notes(grid)))
    return "\n\n".join(parts) + "\n"


def csv_of(grid: Grid, published: Published) -> str:
    """A line for each feature and combination."""
    lines = []
    for (blob, n1, n2), entry in grid.entries.items():
        paper = published.grid.get((n1, n2))
        comparable = grid.stands.published and entry.map is not None and paper is not None
        difference = entry.map - paper if comparable else None  # type: ignore[operator]
        measures = [entry.map, entry.area, paper, difference, entry.split]
        lines.append([blob, n1, n2, *measures, len(entry.left_out), entry.flat, entry.reason])
    head = ["feature", "n1", "n2", "map_11point", "map_area", "published", "difference", "map_split"]
    return csv_text([*head, "classes_left_out", "classes_flat", "reason"], lines)


def write(grid: Grid, out: Path, title: str) -> str:
    """Write table2.md, table2.csv and table2.json into `out`; returns the page."""
    page = markdown(grid, title)
    write_text(out / "table2.md", page)
    write_text(out / "table2.csv", csv_of(grid, read_published()))
    entries = [{"feature": b, "n1": n1, "n2": n2, **asdict(e)} for (b, n1, n2), e in grid.entries.items()]
    summary = {
        "remarks": grid.stands.remarks,
        "seed": grid.seed,
        "baselines": grid.baselines,
        "choices": {blob: choices(grid, blob) for blob in BLOBS},
        "entries": entries,
    }
    write_json(out / "table2.json", summary)
    return page
