"""The paper's tables and figures of a run, as parts of the report: Table 1, Table 2, figures 1 and 3."""

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from audit.claims.optional import Made, read_optional
from audit.page import charts
from audit.page.subject import SIDES, Subject
from audit.page.tables import Chart, Part, Table, decimal, whole, words
from compare.report import ROW_NAMES
from experiment.errors import UserError
from paper.published import PERCENT
from paper.table1 import OUT, minus, table1
from paper.text import NONE

PUBLISHED = "paper"
FIGURES = "Figures 1 and 3: t-SNE of the features"
BLOB_NAMES = {"fc2": "second layer, N2-D", "fc1": "first layer, N1-D"}
PER_CLASS = "per-class"  # the id of Table 1's picture


def per_class(subject: Subject) -> Part:
    """Table 1: AP per class of both sides, and of the paper where it is of the same classes."""
    found = table1(subject.path)
    series = {side: name for side, name in {**SIDES, "published": PUBLISHED}.items() if side in found.ap["ours"]}
    names = [*found.stands.names, "mAP"]
    columns: dict[str, tuple[list[float], bool]] = {}
    for row, sides in found.ap.items():
        for side, name in series.items():
            columns[f"{ROW_NAMES[row]}, {name}"] = sides[side], False
        columns[f"{ROW_NAMES[row]}, port - Caffe"] = minus(sides["torch"], sides["caffe"]), True
        if "published" in series:
            columns[f"{ROW_NAMES[row]}, Caffe - paper"] = minus(sides["caffe"], sides["published"]), True
    rows = [
        [words(name), *(decimal(values[i], 2 if signed else 1, signed) for values, signed in columns.values())]
        for i, name in enumerate(names)
    ]
    area = [
        [words(ROW_NAMES[row]), *(decimal(found.area[row][side]) for side in SIDES)] for row in found.area
    ]  # fmt: skip
    panels = {
        ROW_NAMES[row]: {name: sides[side] for side, name in series.items()} for row, sides in found.ap.items()
    }  # fmt: skip
    told = "; ".join(
        f"{ROW_NAMES[row]}: " + ", ".join(f"{name} {sides[side][-1]:.1f}" for side, name in series.items())
        for row, sides in found.ap.items()
    )
    worst, where = max((abs(b - a), f"{name}, {ROW_NAMES[row]}") for row, sides in found.ap.items()
                       for name, a, b in zip(names, sides["caffe"], sides["torch"], strict=True))  # fmt: skip
    alt = (
        f"11-point AP in percent of {len(names) - 1} classes and their mean. mAP, {told}. Port and Caffe are "
        f"{worst:.2f} apart at most ({where})."
    )
    anchor = subject.anchor("table1")
    chart = Chart(alt, charts.dots(anchor, names, panels), anchor=subject.anchor(PER_CLASS))
    tables = [
        Table(subject.anchor("ap"), "AP per class, 11-point, percent", ["class", *columns], rows),
        Table(subject.anchor("area"), "mAP by the area under the curve, percent", ["", *SIDES.values()], area),
    ]
    return Part(anchor, "Table 1: AP per class", found.stands.remarks, [[chart, tables[0]], [tables[1]]])


def table2(subject: Subject) -> Part:
    """Table 2: mAP for every N1 and N2, of the feature that the paper describes and of the first layer's."""
    found = own_table2(subject, partial(grid_part, subject))
    if found is None:
        told = f"The grid has not been trained yet: `{subject.command('grid')}` writes {OUT}/table2.json of the run."
        return Part(subject.anchor("table2"), "Table 2: N1 and N2", missing=told)
    return found


def own_table2(subject: Subject, make: Callable[[dict[str, Any]], Made]) -> Made | None:
    """What `make` makes of the run's table2.json; None where there is none.

    Raises `UserError` where it is malformed or of another run.
    """
    path = subject.path / OUT / "table2.json"

    def read(found: dict[str, Any]) -> Made:
        require_own(subject, found["remarks"], path, "grid")
        return make(found)

    return read_optional(path, read, "grid") if path.is_file() else None


def require_own(subject: Subject, remarks: Sequence[str], path: Path, target: str) -> None:
    """Stop where a file is not of the run's specification and images, which its first remark tells."""
    if list(remarks[:1]) != subject.stands.remarks[:1]:
        raise UserError(f"{path} is of another specification or other images: `{subject.command(target)}`")


def grid_part(subject: Subject, found: dict[str, Any]) -> Part:
    """The part, from table2.json."""
    entries = {(e["feature"], e["n1"], e["n2"]): e for e in found["entries"]}
    n1s, n2s = (sorted({key[i] for key in entries}) for i in (1, 2))
    published = subject.published.grid
    panels: dict[str, dict[str, list[float | None]]] = {}
    rows = []
    for blob, name in BLOB_NAMES.items():
        told = {n2: [entries.get((blob, n1, n2), {}) for n1 in n1s] for n2 in n2s}
        panels[name] = {f"N2 = {n2}": [e.get("map") for e in line] for n2, line in told.items()}
        rows += [[words(name), whole(n2), *(decimal(e.get("map")) for e in line)] for n2, line in told.items()]
    panels["the paper, VOC2007"] = {f"N2 = {n2}": [published.get((n1, n2)) for n1 in n1s] for n2 in n2s}
    rows += [
        [words("the paper, VOC2007"), whole(n2), *(decimal(published.get((n1, n2)), 1) for n1 in n1s)] for n2 in n2s
    ]
    sentences = []
    for name, series in panels.items():
        values = {(n1, n2): v for n2, line in zip(n2s, series.values(), strict=True)
                  for n1, v in zip(n1s, line, strict=True) if v is not None}  # fmt: skip
        if values:
            best = max(values, key=lambda key: values[key])
            sentences.append(f"{name}: from {min(values.values()):.1f} to {values[best]:.1f}, the greatest at N1 = "
                             f"{best[0]}, N2 = {best[1]}")  # fmt: skip
    alt = f"mAP in percent over N1, a line for each N2. {'. '.join(sentences)}."
    anchor = subject.anchor("table2")
    chart = Chart(alt, charts.lines(anchor, n1s, panels))
    head = ["feature", "N2", *(f"N1 = {n1}" for n1 in n1s)]
    table = Table(subject.anchor("grid"), "mAP on the test images, 11-point, percent", head, rows)
    notes = [*found["remarks"], f"The port alone, seed {found['seed']}; one seed a combination."]
    notes += reasons(found["entries"])
    return Part(anchor, "Table 2: N1 and N2", notes, [[chart, table]])


def reasons(entries: Iterable[dict[str, Any]]) -> list[str]:
    """Why combinations have no mAP, each reason once."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        if entry.get("map") is None and (named := f"{entry['n1']} x {entry['n2']}") not in found.setdefault(
            entry.get("reason") or "not trained", []
        ):
            found[entry.get("reason") or "not trained"].append(named)
    return [f"{NONE}: {reason} (N1 x N2: {', '.join(cells)})." for reason, cells in found.items()]


def figures(subject: Subject) -> Part:
    """Figures 1 and 3, t-SNE of the features, and what stands beside them in the original space."""
    folder = subject.path / OUT
    pictures = {name: folder / f"{name}.svg" for name in ("figure1", "figure3")}
    if not all(path.is_file() for path in (folder / "figures.json", *pictures.values())):
        told = f"Not drawn yet: `{subject.command('figures')}` writes {OUT}/figure1.svg, figure3.svg and figures.json."
        return Part(subject.anchor("figures"), FIGURES, missing=told)
    return read_optional(folder / "figures.json", lambda found: figures_part(subject, found, pictures), "figures")


def figures_part(subject: Subject, found: dict[str, Any], pictures: Mapping[str, Path]) -> Part:
    """The part, from figures.json; pictures : figure to its file."""
    require_own(subject, found["remarks"], subject.path / OUT / "figures.json", "figures")
    rows, alts = [], {}
    for figure, panels in found["figures"].items():
        sentences = []
        for p in panels:
            knn, chance = PERCENT * p["knn"], PERCENT * p["chance"]
            counts = [whole(p[key]) for key in ("dimension", "images", "classes")]
            measures = [decimal(knn, 1), decimal(chance, 1), decimal(p["silhouette"], 3)]
            rows.append([words(figure), words(p["features"]), *counts, *measures])
            silhouette = "" if p["silhouette"] is None else f", silhouette {p['silhouette']:+.3f}"
            sentences.append(
                f"{p['features']}: {found['neighbours']}-NN {knn:.1f} %, chance {chance:.1f} %{silhouette}"
            )
        name = figure.replace("figure", "Figure ")
        alts[figure] = f"{name}, t-SNE pictures of {len(panels)} feature sets. {'; '.join(sentences)}."
    drawn = [Chart(alts.get(name, name), uri=picture_uri(path.read_text("utf-8"))) for name, path in pictures.items()]
    head = ["figure", "features", "dimension", "images", "classes", f"{found['neighbours']}-NN, %", "chance, %"]
    table = Table(subject.anchor("separation"), "Separation in the original space", [*head, "silhouette"], rows)
    note = "t-SNE makes clusters out of noise as well; what counts are the numbers, which are of the original space."
    notes = [*found["remarks"], note]
    return Part(subject.anchor("figures"), FIGURES, notes, [*[[one] for one in drawn], [table]])


def picture_uri(svg: str) -> str:
    """An SVG file as a data: address for an <img>, in which no script of it runs and nothing is fetched.

    Its coordinates are rounded to hundredths of a unit of 1/72 inch.
    """
    short = re.sub(r"-?\d+\.\d{3,}", lambda match: f"{float(match[0]):.2f}", svg)
    return "data:image/svg+xml;base64," + base64.b64encode(short.encode()).decode()
