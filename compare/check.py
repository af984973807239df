"""A check: one quantity of one stage, its value, its tolerance and its calibration; and the tolerances' reading."""

import math
import tomllib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from compare.calibration import Calibration
from experiment.errors import UserError

TOLERANCES = Path(__file__).parent / "tolerances.toml"
SCHEMA_VERSION = 3  # of compare.json, which holds checks
MODES = ("isolated", "chained")
AT_MOST, AT_LEAST = "<=", ">="


@dataclass(frozen=True)
class Tolerance:
    """The hard bound of a quantity in both modes, and the reason for it. None: it is shown, not judged.

    floors_judge : whether its error may be at most k noise floors; otherwise that is only shown.
    """

    isolated: float | None
    chained: float | None
    bound: str
    reason: str
    floors_judge: bool = True


@dataclass(frozen=True)
class Tolerances:
    """The hard bounds by "<stage>.<quantity>", and k: how many noise floors an error may be."""

    k: float
    bounds: dict[str, Tolerance]


@dataclass(frozen=True)
class Check:
    """One quantity compared.

    stage, quantity : what it is of and what it is; the tolerance's name is "<stage>.<quantity>".
    item : which array, row of Table 1 or blob.
    mode : "isolated" (the port fed with the Caffe side's inputs) or "chained" (with its own).
    value : the number that is judged; NaN where there is none, which never agrees.
    allowed : the hard bound, None where the quantity is only shown.
    calibration : the error to the reference in noise floors, None where it was not measured.
    agrees : whether value is within the hard bound and the error within k floors (True where it is only shown and
        there is a value).
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
    calibration: Calibration | None = None

    @property
    def judged(self) -> bool:
        """Whether the check decides anything: it has a bound or a calibration, or could not be made."""
        by_floors = self.calibration is not None and self.calibration.judged
        return self.allowed is not None or by_floors or not self.agrees

    def as_json(self) -> dict[str, Any]:
        """For compare.json: numbers that JSON cannot hold (NaN, infinity) become strings."""
        calibration = self.calibration.as_json() if self.calibration else None
        return json_number({**asdict(self), "calibration": calibration})


def badness(value: float, bound: str) -> tuple[bool, float]:
    """Greater for a worse value of a quantity; what is no number is worse than every number."""
    missing = math.isnan(value)
    return missing, 0.0 if missing else -value if bound == AT_LEAST else value


def json_number(value: Any) -> Any:
    """A value with floats that JSON has no form for turned into their names."""
    if isinstance(value, dict):
        return {key: json_number(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_number(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


class Judge:
    """Makes checks of one mode against the tolerances."""

    def __init__(self, tolerances: Tolerances, mode: str) -> None:
        self.tolerances = tolerances
        self.mode = mode

    def check(
        self,
        stage: str,
        quantity: str,
        item: str,
        value: float,
        detail: str = "",
        calibration: Calibration | None = None,
        only_shown: bool = False,
        allowed: float | None = None,
        **numbers: Any,
    ) -> Check:
        """A check of a value that there is; `allowed` in place of the tolerance's bound.

        Raises `KeyError` where no tolerance is written for the quantity.
        """
        tolerance = self.tolerances.bounds[f"{stage}.{quantity}"]
        if allowed is None and not only_shown:
            allowed = getattr(tolerance, self.mode)
        agrees = not math.isnan(value)
        if allowed is not None and agrees:
            agrees = value <= allowed if tolerance.bound == AT_MOST else value >= allowed
        if calibration is not None:
            calibration = replace(calibration, judged=tolerance.floors_judge)
            agrees = agrees and calibration.agrees
        bound = tolerance.bound
        return Check(stage, quantity, item, self.mode, value, allowed, bound, agrees, detail, numbers, calibration)

    def failure(self, stage: str, item: str, problem: str) -> Check:
        """A check that could not be made: something is missing or has another shape. It never agrees."""
        return Check(stage, "present", item, self.mode, math.nan, None, "", False, problem, {})


def read_tolerances(path: Path) -> Tolerances:
    """The tolerances from TOML: k and its reason, and a table a quantity. Raises `UserError` for another file."""
    try:
        document = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:  # no TOML, or no text
        raise UserError(f"{path}: {error}: mend the tolerances") from None
    k, reason = document.pop("k", None), document.pop("k_reason", None)
    if type(k) not in (int, float) or not (math.isfinite(k) and k > 0) or not is_text(reason):
        raise UserError(f"{path}: k must be a number above 0 (how many noise floors an error may be), with a k_reason")
    bounds = {}
    for stage, quantities in document.items():
        if not isinstance(quantities, dict):
            raise UserError(f"{path}: {stage} is not a table [{stage}.<quantity>]: mend the tolerances")
        for quantity, entry in quantities.items():
            if not is_tolerance(entry):
                raise UserError(
                    f"{path}: [{stage}.{quantity}] needs numbers for isolated and chained (or one of them left out), "
                    f"a reason, bound {AT_MOST} or {AT_LEAST}, and floors_judge, if any, true or false"
                )
            bound = entry.get("bound", AT_MOST)
            judge = entry.get("floors_judge", True)
            bounds[f"{stage}.{quantity}"] = Tolerance(
                entry.get("isolated"), entry.get("chained"), bound, entry["reason"], judge
            )
    if path != TOLERANCES and (odd := sorted(bounds.keys() ^ read_tolerances(TOLERANCES).bounds.keys())):
        raise UserError(
            f"{path}: [{odd[0]}] is missing, or is no quantity: name those of {TOLERANCES.name}, all of them"
        )
    return Tolerances(float(k), bounds)


def is_tolerance(entry: Any) -> bool:
    """Whether a table of the file has a reason, finite bounds, and nothing that is unknown."""
    if not isinstance(entry, dict) or set(entry) - {*MODES, "bound", "reason", "floors_judge"}:
        return False
    if type(entry.get("floors_judge", True)) is not bool:
        return False
    bounds = [entry[key] for key in MODES if key in entry]
    finite = all(type(bound) in (int, float) and math.isfinite(bound) for bound in bounds)
    return finite and is_text(entry.get("reason")) and entry.get("bound", AT_MOST) in (AT_MOST, AT_LEAST)


def is_text(value: Any) -> bool:
    """Whether a value is a string that says something."""
    return isinstance(value, str) and bool(value.strip())
