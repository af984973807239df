"""The audit report of finished runs: `python -m audit.page.report RUN... [--out FOLDER]`.

Writes FOLDER/index.html: one file that opens from disk, with no network. The first run is what the page begins with;
claims, decisions and controls stand beside each other for all runs, then comes each run's comparison.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from audit.decisions.decisions import read_decisions
from audit.page import evidence, findings, outcome, paper_parts
from audit.page.own_figures import arithmetic_part
from audit.page.provenance import run_part
from audit.page.subject import Subject, read_subject, standing_of, standing_table
from audit.page.tables import Part
from experiment.errors import UserError, run_command
from paper.text import write_text

TEMPLATES = Path(__file__).parent / "templates"
OUT = Path("report")
FILE = "index.html"


@dataclass(frozen=True)
class Chapter:
    """Parts under one heading; several of them where there are several runs."""

    anchor: str
    title: str
    parts: Sequence[Part]


def page(paths: Sequence[Path]) -> str:
    """The whole page of runs' folders.

    Raises `UserError` where a run lacks a side or its compare.json, or two are called the same.
    """
    subjects = [read_subject(path, i) for i, path in enumerate(paths, start=1)]
    if len({subject.name for subject in subjects}) < len(subjects):
        raise UserError(f"two runs are called {', '.join(subject.name for subject in subjects)}: name each once")
    checked = [findings.check(subject) for subject in subjects]
    chapters = [
        Chapter("paper", "The paper", [findings.claims_part(checked), arithmetic_part(checked)]),
        Chapter("choices", "The choices", [findings.decisions_part(read_decisions(), subjects)]),
        Chapter("sources", "Where a gain comes from", [findings.controls_part(subjects)]),
        *(comparison_chapter(subject) for subject in subjects),
    ]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["code"] = code
    return environment.get_template("report.html.j2").render(
        title=f"Audit report: {', '.join(subject.name for subject in subjects)}",
        verdicts=[verdict(one) for one in checked],
        standing=standing_table(subjects),
        chapters=chapters,
        # Both are this project's own; </ would end the element that holds them.
        css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        js=Markup((TEMPLATES / "report.js").read_text(encoding="utf-8")),
    )


def verdict(checked: findings.Checked) -> dict[str, object]:
    """What the page begins with: the run's name, whether the sides agree, the sentence, and what it is of."""
    subject = checked.subject
    sentence = subject.local(subject.comparison["sentence"])
    return {
        "name": subject.name,
        "agrees": subject.comparison["agrees"],
        "sentence": f"Caffe and the port {sentence}. {findings.claims_text(checked.claims)}",
        "of": "; ".join(f"{what}: {value} ({stands})" for what, value, stands, _ in standing_of(subject)),
    }


def comparison_chapter(subject: Subject) -> Chapter:
    """What one run gives; a part that cannot be made says why, and stops no other."""
    makers = (
        ("stages", "Stage by stage", evidence.stages),
        ("layers-features", "Error by layer", partial(evidence.layers, stage="features")),
        ("layers-resnet101", "Error by layer, ResNet-101", partial(evidence.layers, stage="resnet101")),
        ("loss", "Training of the transfer network", outcome.loss),
        ("table1", "Table 1: AP per class", paper_parts.per_class),
        ("end-to-end", "End to end", outcome.end_to_end),
        ("table2", "Table 2: N1 and N2", paper_parts.table2),
        ("figures", "Figures 1 and 3", paper_parts.figures),
        ("run", "What was run", run_part),
    )
    inner = {"table1": [paper_parts.PER_CLASS]}
    parts = [subject.optional(anchor, title, make, inner.get(anchor, ())) for anchor, title, make in makers]
    return Chapter(subject.anchor("comparison"), f"The comparison: {subject.name}", parts)


def code(text: str) -> Markup:
    """A text, escaped, with what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m audit.page.report", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run's folder, such as runs/embedded")
    parser.add_argument("--out", type=Path, default=OUT, help="where to write index.html (default: report)")
    arguments = parser.parse_args()
    target = arguments.out / FILE
    write_text(target, page(arguments.runs))
    print(f"{target}: open it in a browser", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_command(main)
