"""Alternatives that another command than `make sensitivity` measures: what that found, in a phrase."""

from collections.abc import Callable, Mapping
from typing import Any

from audit.decisions.effects import effect_text
from paper.text import number


def cross_validated(controls: Mapping[str, Any]) -> str:
    """D6: the controls whose C is chosen by cross-validation."""
    rows = {row["control"]: row for row in controls["rows"]}
    lr, ours = rows["lr_c_cv"]["minus_baseline_lr"], rows["ours_c_cv"]["minus_ours"]
    return f"Ours {effect_text(ours)}, Baseline-LR {effect_text(lr)}"


def by_split(table2: Mapping[str, Any]) -> str:
    """D35: the N1 and N2 that a split of trainval chooses in the grid."""
    n1, n2 = table2["choices"]["fc2"]["split"]
    cells = {(entry["n1"], entry["n2"]): entry["map"] for entry in table2["entries"] if entry["feature"] == "fc2"}
    return f"N1 = {n1} and N2 = {n2}: Ours {number(cells[n1, n2])} mAP"


def other_seeds(compare: Mapping[str, Any]) -> str:
    """D37: how far Ours spreads over seeds."""
    found = compare["end_to_end"]
    spread = [f"{side} {number(found['map'][key]['ours']['spread'])}" for key, side in (("a", "Caffe"), ("b", "port"))]
    return f"standard deviation of Ours over {found['seeds']} seeds: {', '.join(spread)}"


def other_margin(compare: Mapping[str, Any]) -> str:
    """D25: the margins within which both sides' Ours would pass for equivalent: beyond both ends of the 90 % interval,
    as two one-sided tests have it."""
    low, high = compare["end_to_end"]["a_minus_b"]["ours"]["overall"]["interval_90"]
    return f"both sides' Ours would be equivalent within any margin above {number(max(-low, high))}"


# By the word in decisions.toml: the file, the command that makes it, and what is told of it.
ELSEWHERE: dict[str, tuple[str, str, Callable[[Mapping[str, Any]], str]]] = {
    "cross_validated": ("controls", "make controls", cross_validated),
    "by_split": ("table2", "make grid", by_split),
    "other_seeds": ("compare", "make seeds compare", other_seeds),
    "other_margin": ("compare", "make seeds compare", other_margin),
}


def told(name: str, found: Mapping[str, Any]) -> str:
    """What is known of an alternative; "" where its file is not there, or has no such figure.

    found : "controls", "table2" and "compare" to what controls.json, table2.json and compare.json hold, the last of
    them whole or as docs/results keeps it.
    """
    file, _, phrase = ELSEWHERE[name]
    try:
        return phrase(found[file]) if found.get(file) else ""
    except (KeyError, TypeError):
        return ""
