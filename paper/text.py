"""Tables in Markdown and CSV, and files that are whole or absent."""

import csv
import io
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiment.errors import UserError

NONE = "-"  # a cell that has no value


def number(value: float | None, decimals: int = 2, signed: bool = False) -> str:
    """A number to so many decimals, with its sign where it is a difference, which is plain 0 where nothing differs;
    `NONE` where there is none."""
    if value is None:
        return NONE
    if signed and value == 0:
        return "0"
    # Adding 0 turns a -0 that rounding left into 0.
    return f"{round(value, decimals) + 0.0:{'+' if signed else ''}.{decimals}f}"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table whose columns are padded, so that a terminal shows it as well; `left` columns are of words."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = "|".join("-" * (width + 2) if i < left else "-" * (width + 1) + ":" for i, width in enumerate(widths))
    return "\n".join([line(head), f"|{rule}|", *map(line, rows)]) + "\n"


def csv_text(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The same as CSV; None becomes an empty cell, numbers are rounded to a millionth."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        writer.writerow([round(value, 6) + 0.0 if isinstance(value, float) else value for value in row])
    return buffer.getvalue()


def write_text(path: Path, text: str) -> None:
    """Write a text file through a temporary name. Raises `UserError` where the folder cannot be written."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error}): name another folder with --out") from None
