"""The controls as text: a mean over seeds, a difference with its interval, and the whole table."""

from collections.abc import Mapping
from typing import Any

from paper.text import markdown_table, number


def table(found: Mapping[str, Any]) -> str:
    """The controls as a table, and below it what they allow one to conclude; found : what controls.json holds."""
    of_ours = found["ours"]
    lines = [["Baseline-LR", number(found["baseline_lr"]), "", ""]]
    lines.append(["Ours", mean_text(of_ours), difference_text(of_ours["minus_baseline_lr"]), ""])
    for row in found["rows"]:
        differences = [difference_text(row[key]) for key in ("minus_baseline_lr", "minus_ours")]
        lines.append([row["title"], mean_text(row["map"]), *differences])
    text = markdown_table(["", "mAP", "minus Baseline-LR", "minus Ours"], lines)
    return text + "".join(f"- {sentence}\n" for sentence in found["conclusions"])


def mean_text(values: Mapping[str, Any]) -> str:
    """A mean in percent with its spread over the seeds, where there are several."""
    return number(values["mean"]) + ("" if values["spread"] is None else f" ± {number(values['spread'])}")


def difference_text(judged: Mapping[str, Any]) -> str:
    """A difference with its 95 % interval, and a question mark where too few seeds stand behind it."""
    low, high = judged["interval_95"]
    return f"{number(judged['difference'], signed=True)} [{low:+.2f}, {high:+.2f}]{'' if judged['certain'] else ' ?'}"
