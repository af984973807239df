"""Alternatives that another command than `make sensitivity` measures: what that found, in a phrase.

Every function takes `found`: "sensitivity", "controls", "table2" and "compare" to what sensitivity.json, controls.json,
table2.json and compare.json hold, the last of them whole or as docs/results keeps it; some may be missing.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from audit.decisions.effects import effect_text
from experiment.artifacts import sha256_json
from experiment.errors import UserError
from experiment.spec import read_profile
from paper.published import PERCENT
from paper.text import number

Found = Mapping[str, Any]
BASELINES = ("baseline_hr", "baseline_lr")
# By how much mAPs in percent of a baseline, in which nothing is drawn, may differ from one machine to another.
ROUNDING = 0.1


def cross_validated(found: Found) -> str:
    """D6: the controls whose C is chosen by cross-validation."""
    rows = {row["control"]: row for row in found["controls"]["rows"]}
    lr, ours = rows["lr_c_cv"]["minus_baseline_lr"], rows["ours_c_cv"]["minus_ours"]
    return f"Ours {effect_text(ours)}, Baseline-LR {effect_text(lr)}"


def by_split(found: Found) -> str:
    """D35: the N1 and N2 that a split of trainval chooses in the grid, and how far Ours is from the run's there."""
    table2, base = found["table2"], found.get("sensitivity")
    n1, n2 = table2["choices"]["fc2"]["split"]
    cells = {(entry["n1"], entry["n2"]): entry["map"] for entry in table2["entries"] if entry["feature"] == "fc2"}
    chosen = cells[n1, n2]
    text = f"N1 = {n1} and N2 = {n2}: Ours {number(chosen)} mAP"
    if not base:
        return text
    if (at := sizes(base)) and (own := cells.get(at)) is not None:
        return f"{text}, {number(chosen - own, signed=True)} to the grid's own of the run's N1 and N2, one seed each"
    return f"{text} of one seed, {number(chosen - base['base']['ours'], signed=True)} to the base's mean over seeds"


def sizes(sensitivity: Mapping[str, Any]) -> tuple[int, int] | None:
    """The N1 and N2 of the run that sensitivity.json is of; None where its specification is not just its profile's."""
    values, _ = read_profile(sensitivity["subject"]["profile"].partition(",")[0])
    plain = sha256_json(values) == sensitivity["spec_sha256"]
    return (values["transfer"]["n1"], values["transfer"]["n2"]) if plain else None


def other_seeds(found: Found) -> str:
    """D37: how far Ours spreads over seeds."""
    over = found["compare"]["end_to_end"]
    spread = [f"{side} {number(over['map'][key]['ours']['spread'])}" for key, side in (("a", "Caffe"), ("b", "port"))]
    return f"standard deviation of Ours over {over['seeds']} seeds: {', '.join(spread)}"


def other_margin(found: Found) -> str:
    """D25: the margins within which both sides' Ours would pass for equivalent: beyond both ends of the 90 % interval,
    as two one-sided tests have it."""
    low, high = found["compare"]["end_to_end"]["a_minus_b"]["ours"]["overall"]["interval_90"]
    return f"both sides' Ours would be equivalent within any margin above {number(max(-low, high))}"


# By the word in decisions.toml: the file, the command that makes it, and what is told of it.
ELSEWHERE: dict[str, tuple[str, str, Callable[[Found], str]]] = {
    "cross_validated": ("controls", "make controls", cross_validated),
    "by_split": ("table2", "make grid", by_split),
    "other_seeds": ("compare", "make seeds compare", other_seeds),
    "other_margin": ("compare", "make seeds compare", other_margin),
}


def told(name: str, found: Found) -> str:
    """What is known of an alternative; "" where its file is not there, has no such figure, or is of another run than
    sensitivity.json (`agrees`)."""
    file, _, phrase = ELSEWHERE[name]
    try:
        return phrase(found) if found.get(file) and agrees(file, found) else ""
    except (UserError, LookupError, TypeError, ValueError, AttributeError):
        return ""


def agrees(file: str, found: Found) -> bool:
    """Whether a file is of the run that sensitivity.json is of, or controls.json where that is not there: whether they
    agree in all that both say of it, which must be something. Where neither is there, it stands alone."""
    beside = found.get("sensitivity") or found.get("controls")
    try:
        one, other = about(found[file]), about(beside)
        common = one.keys() & other.keys()
        return (bool(common) or not beside) and all(
            math.isclose(one[key], other[key], abs_tol=ROUNDING) if key in BASELINES else one[key] == other[key]
            for key in common
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        return False


def about(content: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a file says of the run that it is of: specification, data, the remark that names its profile and counts its
    images, and the baselines' mAPs in percent. Not every file says all."""
    if not content:
        return {}
    remarks = content.get("remarks") or content.get("subject", {}).get("remarks") or []
    base = content.get("base") or content.get("baselines") or {}
    if "map" in content:
        base = {row: PERCENT * content["map"]["torch"][row]["map_11point"] for row in BASELINES}
    said = {
        "specification": content.get("spec_sha256"),
        "data": content.get("data"),
        "remark": next(iter(remarks), None),
    }
    return {
        key: value for key, value in (said | {row: base.get(row) for row in BASELINES}).items() if value is not None
    }
