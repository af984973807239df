"""The report's tables: what a cell is, how it is told, and the same as CSV in a data: address.

A number is told rounded and kept whole: the CSV and the sorting have the whole one.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from paper.text import NONE, number

Value = str | int | float | None
# What a spreadsheet takes for the beginning of a formula (OWASP, "CSV Injection").
FORMULA = ("=", "+", "-", "@", "\t", "\r")
SENTENCE, SENTENCES = 40, 140  # characters of a text that wants more room, and of one that wants much
URI_SAFE = "!*'();:@&=+$,/?[]"  # what a data: address may hold as it is; a # would end it


@dataclass(frozen=True)
class Cell:
    """One cell: its value, None where there is none, how it is told, and its look.

    mark : a class of the style sheet, "" for none. href : an anchor of the page that the text links to. across : over
    how many columns it is drawn; the cells after it that it covers are empty.
    """

    value: Value
    text: str
    mark: str = ""
    href: str = ""
    across: int = 1

    @property
    def numeric(self) -> bool:
        """Whether it is sorted as a number, and stands on the right."""
        return isinstance(self.value, (int, float))


@dataclass(frozen=True)
class Table:
    """A table of the page.

    anchor : its id, and its CSV file's name. merged : of so many leading columns a cell that is that of the row above
    is drawn once; such a table cannot be sorted. filtered : what its filter asks for, "" for no filter. folded :
    whether it is shown on demand only.
    """

    anchor: str
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    merged: int = 0
    filtered: str = ""
    folded: bool = False

    @property
    def numeric(self) -> list[bool]:
        """Of each column whether it holds numbers."""
        return [any(row[i].numeric for row in self.rows) for i in range(len(self.head))]

    @property
    def room(self) -> list[str]:
        """Of each column how much room its longest text wants: a class of the style sheet."""
        longest = [
            max((len(row[i].text) for row in self.rows if row[i].across == 1), default=0) for i in range(len(self.head))
        ]
        return ["" if length < SENTENCE else "long" if length < SENTENCES else "longer" for length in longest]

    def drawn(self) -> list[list[tuple[int, Cell, int]]]:
        """Of each row what is drawn: column, cell and rowspan, without the cells that others cover."""
        rows = []
        for row, spans in zip(self.rows, self.spans(), strict=True):
            found, free = [], 0
            for i, cell in enumerate(row):
                span = spans[i] if i < self.merged else 1
                if i >= free and span:
                    found.append((i, cell, span))
                    free = i + cell.across
            rows.append(found)
        return rows

    def spans(self) -> list[list[int]]:
        """Of each row the rowspan of its first `merged` cells; 0 where the cell above reaches down to it."""
        spans = [[1] * self.merged for _ in self.rows]
        for i in range(len(self.rows) - 1, 0, -1):
            for j in range(self.merged):
                if self.rows[i][: j + 1] != self.rows[i - 1][: j + 1]:
                    break
                spans[i - 1][j] += spans[i][j]
                spans[i][j] = 0
        return spans

    def csv(self) -> str:
        """The whole table as CSV, a line a row; no cell of it is a formula."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow([csv_value(name) for name in self.head])
        writer.writerows([csv_value(cell.value) for cell in row] for row in self.rows)
        return buffer.getvalue()

    @property
    def uri(self) -> str:
        """The CSV as a data: address."""
        return f"data:text/csv;charset=utf-8,{quote(self.csv(), safe=URI_SAFE)}"


def csv_value(value: Value) -> str:
    """A value as a CSV cell: numbers whole, "" for None; a text that a spreadsheet would compute gets an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA) and not is_number(value) else value
    return repr(value)


def is_number(text: str) -> bool:
    """Whether a text is a plain number."""
    try:
        return text == text.strip() and math.isfinite(float(text))
    except ValueError:
        return False


def words(text: Any, mark: str = "", href: str = "") -> Cell:
    """A cell of text; `NONE` and nothing are no value."""
    told = str(text)
    return Cell(None if told in ("", NONE) else told, told or NONE, mark, href)


def decimal(value: float | None, decimals: int = 2, signed: bool = False, mark: str = "") -> Cell:
    """A number to so many decimals; differences are `signed`."""
    return Cell(value, number(value, decimals, signed), mark)


def whole(value: int | None) -> Cell:
    """A count."""
    return Cell(value, NONE if value is None else f"{value:,}")


def small(value: float | None, mark: str = "") -> Cell:
    """An error or a tolerance, three digits; what is no number stays a word."""
    if value is None:
        return Cell(None, NONE, mark)
    return Cell(value if math.isfinite(value) else str(value), f"{value:.3g}", mark)


def interval(found: Mapping[str, Any]) -> list[Cell]:
    """Four cells of a difference: itself, both ends of its 95 % interval, and whether enough seeds stand behind it."""
    low, high = found["interval_95"]
    cells = [decimal(value, 2, signed=True) for value in (found["difference"], low, high)]
    return [*cells, words("yes" if found["certain"] else "no", "" if found["certain"] else "open")]


INTERVAL_HEAD = ("difference", "95 % from", "to", "enough seeds")


@dataclass(frozen=True)
class Chart:
    """A picture of the page. Either `svg`, an element, or `uri`, a data: address of a picture from a file.

    alt : what it shows, in words. caption : what is written below, `alt` where it is "". anchor : an id of its own, ""
    for none.
    """

    alt: str
    svg: str = ""
    uri: str = ""
    anchor: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Part:
    """A section of the page: sentences, pictures, and the tables with their numbers.

    body : rows of one picture or table, or of a picture and a table that stand beside each other in a wide window.
    missing : what it lacks and the command that makes that, "" where it is whole. commands : lines for a terminal.
    points : a list before the sentences. inner : ids that links lead to and that nothing of the body has.
    """

    anchor: str
    title: str
    notes: Sequence[str] = ()
    body: Sequence[Sequence[Chart | Table]] = ()
    missing: str = ""
    commands: Sequence[str] = ()
    points: Sequence[str] = ()
    inner: Sequence[str] = ()
