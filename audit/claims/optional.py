"""The files beside a run that may be missing: a malformed one costs what rests on it, and nothing else."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from experiment.errors import UserError

Made = TypeVar("Made")


def read_optional(path: Path, make: Callable[[Any], Made], target: str) -> Made:
    """What `make` makes of a JSON file that `make <target>` writes.

    Raises `UserError`, which names file and command, where it is no JSON or `make` meets another form than it expects.
    """
    try:
        return make(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError) as error:
        raise UserError(f"{path} is malformed ({error!r}): run `make {target}` again") from None


def finite(value: Any) -> float:
    """A number of such a file; ValueError or TypeError where it is none or not finite."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is no figure")
    return float(value)
