"""A check: one quantity of one stage, its value and its tolerance; and the reading of the tolerances."""

import math
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiment.artifacts import RunFolder
from experiment.errors import UserError

TOLERANCES = Path(__file__).parent / "tolerances.toml"
MODES = ("isolated", "chained")
AT_MOST, AT_LEAST = "<=", ">="


@dataclass(frozen=True)
class Tolerance:
    """The bound of a quantity in both modes, and the reason for it. None: the quantity is shown, not judged.

    floor_factor : isolated, the bound is at least this times the floor: how far run a's own result moves when its
        drawn weights change in their last bit. Rounding that the work makes grow is then not called a departure.
    """

    isolated: float | None
    chained: float | None
    bound: str
    reason: str
    floor_factor: float | None = None


@dataclass(frozen=True)
class Check:
    """One quantity compared.

    stage, quantity : what it is of and what it is; the tolerance's name is "<stage>.<quantity>".
    item : which array, row of Table 1 or blob.
    mode : "isolated" (the port fed with the Caffe side's inputs) or "chained" (with its own).
    value : the number that is judged; NaN where there is none, which never agrees.
    allowed : the tolerance, None where the quantity is only shown.
    agrees : whether value is within it (True where it is only shown and there is a value).
    detail : what a reader wants beside the number: how many differ, where the worst stands, or what is missing.
    numbers : the other measures, for compare.json.
    """

    stage: str
    quantity: str
    item: str
    mode: str
    value: float
    allowed: float | None
    bound: str
    agrees: bool
    detail: str
    numbers: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """For compare.json: numbers that JSON cannot hold (NaN, infinity) become strings."""
        return {key: json_number(value) for key, value in asdict(self).items()}


def json_number(value: Any) -> Any:
    """A value with floats that JSON has no form for turned into their names."""
    if isinstance(value, dict):
        return {key: json_number(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_number(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


class Judge:
    """Makes checks of one mode against the tolerances; `floor_run` is run a's with changed last bits, isolated only."""

    def __init__(self, tolerances: dict[str, Tolerance], mode: str, floor_run: RunFolder | None = None) -> None:
        self.tolerances = tolerances
        self.mode = mode
        self.floor_run = floor_run if mode == "isolated" else None

    def floor_for(self, stage: str, quantity: str) -> RunFolder | None:
        """The floor run where there is one and the quantity's bound depends on it."""
        return self.floor_run if self.tolerances[f"{stage}.{quantity}"].floor_factor is not None else None

    def check(
        self,
        stage: str,
        quantity: str,
        item: str,
        value: float,
        detail: str = "",
        floor: float | None = None,
        **numbers: Any,
    ) -> Check:
        """A check of a value that there is; `floor` is how far run a's own result moves, where measured.

        Raises `KeyError` where no tolerance is written for the quantity.
        """
        tolerance = self.tolerances[f"{stage}.{quantity}"]
        allowed = getattr(tolerance, self.mode)
        if floor is not None and tolerance.floor_factor is not None and math.isfinite(floor):
            numbers["floor"] = floor
            allowed = max(allowed, tolerance.floor_factor * floor)
        agrees = not math.isnan(value)
        if allowed is not None and agrees:
            agrees = value <= allowed if tolerance.bound == AT_MOST else value >= allowed
        return Check(stage, quantity, item, self.mode, value, allowed, tolerance.bound, agrees, detail, numbers)

    def failure(self, stage: str, item: str, problem: str) -> Check:
        """A check that could not be made: something is missing or has another shape. It never agrees."""
        return Check(stage, "present", item, self.mode, math.nan, None, "", False, problem, {})


def read_tolerances(path: Path) -> dict[str, Tolerance]:
    """The tolerances by "<stage>.<quantity>", from TOML. Raises `UserError` for a file that is not as it must be."""
    try:
        document = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:  # no TOML, or no text
        raise UserError(f"{path}: {error}: mend the tolerances") from None
    tolerances = {}
    for stage, quantities in document.items():
        if not isinstance(quantities, dict):
            raise UserError(f"{path}: {stage} is not a table [{stage}.<quantity>]: mend the tolerances")
        for quantity, entry in quantities.items():
            if not is_tolerance(entry):
                raise UserError(
                    f"{path}: [{stage}.{quantity}] needs numbers for isolated and chained (or one of them left out), "
                    f"a reason, bound {AT_MOST} or {AT_LEAST}, and floor_factor, if any, a number with isolated"
                )
            tolerances[f"{stage}.{quantity}"] = Tolerance(
                entry.get("isolated"),
                entry.get("chained"),
                entry.get("bound", AT_MOST),
                entry["reason"],
                entry.get("floor_factor"),
            )
    return tolerances


def is_tolerance(entry: Any) -> bool:
    """Whether a table of the file has a reason, finite bounds, and nothing that is unknown."""
    if not isinstance(entry, dict) or set(entry) - {*MODES, "bound", "reason", "floor_factor"}:
        return False
    bounds = [entry[key] for key in (*MODES, "floor_factor") if key in entry]
    if "floor_factor" in entry and ("isolated" not in entry or entry.get("bound", AT_MOST) != AT_MOST):
        return False
    finite = all(type(bound) in (int, float) and math.isfinite(bound) for bound in bounds)
    reason = entry.get("reason")
    told = isinstance(reason, str) and bool(reason.strip())
    return finite and told and entry.get("bound", AT_MOST) in (AT_MOST, AT_LEAST)
