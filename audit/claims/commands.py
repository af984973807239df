"""The `make` commands of a run, such as can be pasted into a terminal in the project's folder."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

from experiment.spec import read_profile

ROOT = Path(__file__).resolve().parents[2]
RUNS = ROOT / "runs"
GENERATED = ("data", "embedded-devkit", "VOC2007")  # where `make devkit` puts the embedded profile's, in any checkout
TARGETS = ("caffe-reproduce", "torch-reproduce", "compare", "seeds", "table1", "grid", "figures", "controls",
           "sensitivity")  # fmt: skip
BARE = re.compile(r"`make ([a-z0-9 -]+)`")


def command(run: Path, spec: dict[str, Any], *targets: str) -> str:
    """The line that makes `targets` of a run, quoted for a shell.

    run : the run's folder, with caffe/ and torch/ in it. spec : of either side. Named are the devkit, the weights and
    the values that it was resolved from, and its folder where that is not the one that they give by themselves. Paths
    in the project's folder are told from there on. The Makefile takes none with a blank, and says what to do.
    """
    profile, _, limit = spec["profile"].partition(", ")
    external = {name: Path(entry["path"]) for name, entry in spec["external"].items() if "path" in entry}
    devkit = external["devkit"]
    variables, default = ([] if profile == "embedded" else [f"PROFILE={profile}"]), profile
    if not (profile == "embedded" and devkit.parts[-3:] == GENERATED):
        folder = devkit.parent if devkit.name == "VOC2007" else devkit
        variables.append(f"DEVKIT={near(folder)}")
        default += f"-{folder.name}"
    if "shipped" not in spec["external"]["weights"].get("origin", ""):
        variables.append(f"WEIGHTS={near(external['weights'])}")
    if "mean" in external:
        variables.append(f"MEAN={near(external['mean'])}")
    if limit:
        variables.append(limit)
        default += f"-limit{limit.partition('=')[2]}"
    if overridden := overrides(spec):
        variables.append(f"SET={' '.join(overridden)}")
    if run.absolute() != RUNS / default:
        variables.append(f"RUN={near(run.absolute())}")
    return line(*targets, *variables)


def report_command(run: Path) -> str:
    """The line that writes the report of this run alone."""
    return line("report", f"RUN={near(run.absolute())}")


def line(*words: str) -> str:
    """A `make` with these words, quoted for a shell and for make's own variables."""
    return shlex.join(["make", *(word.replace("$", "$$") for word in words)])


def near(path: Path) -> Path:
    """A path as it is told: from the project's folder on where it is in it."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def complete(text: str, run: Path, spec: dict[str, Any]) -> str:
    """A text in which every bare `make grid` between backticks is the line that does it for this run."""

    def whole(found: re.Match[str]) -> str:
        targets = found[1].split()
        return f"`{command(run, spec, *targets)}`" if set(targets) <= set(TARGETS) else found[0]

    return BARE.sub(whole, text)


def overrides(spec: dict[str, Any]) -> list[str]:
    """Every "section.key=value" that SET= gave, or that is otherwise not the profile's and not what LIMIT= made."""
    values, _ = read_profile(spec["profile"].partition(",")[0])
    found = []
    for section, table in spec["values"].items():
        for key, value in table.items():
            source = spec.get("sources", {}).get(f"{section}.{key}", "")
            if source == "SET" or (value != values.get(section, {}).get(key) and not source.startswith("LIMIT=")):
                told = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
                found.append(f"{section}.{key}={told}")
    return found
