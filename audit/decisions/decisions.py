"""What the paper leaves open: the decisions and their alternatives, read from audit/decisions/decisions.toml."""

import copy
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment.errors import UserError
from experiment.spec import SCHEMA, apply_override, read_profile

DECISIONS = Path(__file__).parent / "decisions.toml"
# Whose a decision is, and how it is told of several.
OWNERS = {
    "paper": "are choices that the paper leaves open, or says twice",
    "caffe": "are Caffe's and LIBSVM's own ways, which PyTorch's obvious ones are not",
    "audit": "are this comparison's own",
}
WORDS = ("subject", "of", "taken", "why", "instead")
WAYS = ("set", "devkit", "otherwise", "headline", "elsewhere", "reason")


@dataclass(frozen=True)
class Alternative:
    """One other way to take a decision, and how its effect is measured: by exactly one of six.

    set : overrides of the specification. devkit : a derived devkit (`audit.decisions.derive`). otherwise : stages of
    the port that run otherwise (`audit.decisions.otherwise.changes`). headline : "area", another AP of the same runs.
    elsewhere : another command measures it (`audit.decisions.elsewhere`). reason : why it is not measured.
    profile : the profile whose sizes `set` is made for; "" where it fits any. relative : whether `set` is so many times
    what the profile has.
    """

    decision: str
    name: str
    what: str
    set: tuple[str, ...] = ()
    devkit: str = ""
    otherwise: str = ""
    headline: str = ""
    elsewhere: str = ""
    reason: str = ""
    profile: str = ""
    relative: bool = False

    @property
    def folder(self) -> str:
        """Its folder's name under RUN/sensitivity."""
        return f"{self.decision}-{self.name}"

    @property
    def told(self) -> str:
        """What it is, in words and, where it is one, as a change of the specification."""
        return f"{self.what}: {', '.join(self.set)}" if self.set else self.what

    def fits(self, spec: Mapping[str, Any]) -> str:
        """Why it would not be what it is called beside a run: the run has it already, or other sizes; "" where it is.

        spec : the run's.
        """
        changed = copy.deepcopy(spec["values"])
        for override in self.set:
            apply_override(changed, {}, override)
        if self.set and changed == spec["values"]:
            return "the run takes it so already"
        profile, _, limit = spec["profile"].partition(", ")
        if self.profile not in ("", profile):
            return f"its sizes are made for PROFILE={self.profile} alone"
        if self.profile and limit:
            return f"its sizes are made for PROFILE={self.profile} without {limit}"
        if not (self.profile or self.relative):
            return ""
        plain, _ = read_profile(profile)
        keys = [override.partition("=")[0].split(".") for override in self.set]
        own = [f"{section}.{key}" for section, key in keys if spec["values"][section][key] != plain[section][key]]
        return f"the run has another {' and '.join(own)} than the profile {profile}" if own else ""


@dataclass(frozen=True)
class Decision:
    """One decision: its number in the code ("D1"), what is decided, whose it is (`OWNERS`), and the rest in words."""

    number: str
    subject: str
    of: str
    taken: str
    why: str
    instead: str
    alternatives: tuple[Alternative, ...]


def read_decisions(path: Path = DECISIONS) -> list[Decision]:
    """Every decision, in the order of the numbers.

    Raises `UserError` where the file is no TOML, a number is left out, a word is missing, an alternative is measured
    in no way or in several, or it overrides a key that the specification lacks.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): mend the TOML") from None
    if list(document) != [f"D{i}" for i in range(1, len(document) + 1)]:
        raise UserError(f"{path}: the decisions must be D1, D2 and so on, each once and in order")
    return [decision(number, table, f"{path}: {number}") for number, table in document.items()]


def decision(number: str, table: dict[str, Any], where: str) -> Decision:
    """One decision of the file; `where` begins the message of a `UserError`."""
    words = {name: table.get(name) for name in WORDS}
    entries = table.get("alternative")
    if set(table) != {*WORDS, "alternative"} or not isinstance(entries, list) or not entries:
        raise UserError(f"{where} must have {', '.join(WORDS)} and an alternative at least")
    if not all(isinstance(word, str) and word.strip() for word in words.values()) or words["of"] not in OWNERS:
        raise UserError(f"{where}: its words must not be empty, and `of` is one of {', '.join(OWNERS)}")
    alternatives = tuple(alternative(number, entry, where) for entry in entries)
    if len({one.name for one in alternatives}) < len(alternatives):
        raise UserError(f"{where}: two alternatives have one name")
    return Decision(number=number, alternatives=alternatives, **words)  # type: ignore[arg-type]


def alternative(number: str, entry: dict[str, Any], where: str) -> Alternative:
    """One alternative of a decision."""
    name = entry.get("name")
    if not isinstance(name, str) or not name.replace("_", "").isalnum() or not name.isascii():
        raise UserError(f"{where}: an alternative's name is letters, digits and _, and not {name!r}")
    ways = [way for way in WAYS if entry.get(way)]
    known = {"name", "what", "profile", "relative", *WAYS}
    if set(entry) - known or not entry.get("what") or len(ways) != 1:
        raise UserError(f"{where}, {name}: an alternative has a `what` and one of {', '.join(WAYS)}")
    if ways != ["set"] and (entry.get("profile") or entry.get("relative")):
        raise UserError(f"{where}, {name}: `profile` and `relative` say what a `set` fits, and there is none")
    if not isinstance(entry.get("relative", False), bool):
        raise UserError(f"{where}, {name}: `relative` is true or false")
    for override in entry.get("set", ()):
        section, _, key = override.partition("=")[0].partition(".")
        if key not in SCHEMA.get(section, {}):
            raise UserError(f"{where}, {name}: {section}.{key} is not a key of the specification (experiment/spec.py)")
    return Alternative(number, **{**entry, "set": tuple(entry.get("set", ()))})
