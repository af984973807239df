"""The paper's printed tables, read from published.toml: percent, in the paper's order."""

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment.errors import UserError
from experiment.stages import ROWS

PUBLISHED = Path(__file__).parent / "published.toml"
PERCENT = 100.0


@dataclass(frozen=True)
class Published:
    """What the paper printed; every AP and mAP in percent.

    names : the paper's name of each class by VOC2007's name, in the order of Table 1.
    images : how many images VOC2007's splits have.
    ap : row of Table 1 to the AP of each class, in that order. map : row to the printed mAP.
    n1, n2 : the columns and the rows of Table 2. grid : (N1, N2) to mAP. chosen : the paper's (N1, N2).
    """

    names: dict[str, str]
    images: dict[str, int]
    ap: dict[str, list[float]]
    map: dict[str, float]
    n1: list[int]
    n2: list[int]
    grid: dict[tuple[int, int], float]
    chosen: tuple[int, int]


def read_published(path: Path = PUBLISHED) -> Published:
    """Read and check the data file. Raises `UserError` where a value is missing, of another type or out of range."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        names = {text(entry["voc"]): text(entry["printed"]) for entry in document["classes"]}
        rows = {row: document["table1"][row] for row in ROWS}
        ap = {row: [percent(value) for value in entry["ap"]] for row, entry in rows.items()}
        second = document["table2"]
        n1, n2 = ([count(value) for value in second[key]] for key in ("n1", "n2"))
        table = [[percent(PERCENT * value) for value in line] for line in second["map"]]
        shapes = {len(line) for line in table} == {len(n1)} and len(table) == len(n2)
        if len(names) != len(document["classes"]) or {len(values) for values in ap.values()} != {len(names)}:
            raise ValueError("table1 needs one AP for each class, and each class once")
        if not shapes or len(set(n1)) != len(n1) or len(set(n2)) != len(n2):
            raise ValueError("table2.map needs a line for each n2 and in it a value for each n1")
        return Published(
            names=names,
            images={split: count(document["voc2007"][split]) for split in ("trainval", "test")},
            ap=ap,
            map={row: percent(entry["map"]) for row, entry in rows.items()},
            n1=n1,
            n2=n2,
            grid={(one, two): table[j][i] for j, two in enumerate(n2) for i, one in enumerate(n1)},
            chosen=(count(second["chosen"]["n1"]), count(second["chosen"]["n2"])),
        )
    except FileNotFoundError:
        raise UserError(f"{path} is missing: put it back") from None
    except KeyError as error:
        raise UserError(f"{path} lacks {error}: put it back") from None
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}: put back what the paper printed") from None


def text(value: Any) -> str:
    """A name as it is; ValueError where it is none."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} must be a name")
    return value


def count(value: Any) -> int:
    """A whole number above 0; ValueError where it is none."""
    if type(value) is not int or value < 1:
        raise ValueError(f"{value!r} must be a whole number above 0")
    return value


def percent(value: Any) -> float:
    """A number from 0 to 100, rounded to a ten-thousandth; ValueError where it is none."""
    if type(value) is not float or not math.isfinite(value) or not 0 <= value <= PERCENT:
        raise ValueError(f"{value!r} must be a number of percent with a decimal point")
    return round(value, 4)  # 100 * 0.704 is not 70.4 to the last bit
