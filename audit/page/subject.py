"""A run that is reported: its folder, its comparison, and how its profile, data and weights stand to the paper's."""

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.measured import foreign
from audit.page.tables import Part, Table, words
from compare.check import SCHEMA_VERSION
from compare.pair import stage_digests
from experiment.artifacts import RunFolder, read_json
from experiment.errors import UserError
from experiment.spec import read_profile
from paper.published import Published, read_published
from paper.standing import Standing, differing_keys, lacks_annotations, standing

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
SIDES = {"caffe": "Caffe", "torch": "port"}
OWN, STAND_IN = "the paper's own", "a stand-in"
SHORTENED = ("index.limit", "transfer.stepsize", "transfer.max_iter", "transfer.snapshots", "clusters.k", "transfer.n2")


@dataclass(frozen=True)
class Subject:
    """One reported run.

    name : how the page calls it. suffix : what its anchors end in, "" for the first run. sides : "caffe" and "torch" to
    their folders. comparison : compare.json.
    """

    name: str
    suffix: str
    path: Path
    sides: dict[str, RunFolder]
    comparison: dict[str, Any]
    stands: Standing
    published: Published

    @property
    def spec(self) -> dict[str, Any]:
        """The specification, which both sides share."""
        return self.sides["caffe"].spec

    def anchor(self, name: str) -> str:
        """The id of this run's part of that name."""
        return name + self.suffix

    def command(self, *targets: str) -> str:
        """The line that makes `targets` of this run; where a file of the user's is needed, it names path/to/<file>."""
        spec = self.spec
        profile, _, limit = spec["profile"].partition(", ")
        variables = [] if profile == "embedded" else [f"PROFILE={profile}"]
        devkit, weights = (Path(spec["external"][name]["path"]) for name in ("devkit", "weights"))
        folder = devkit.parent.name if devkit.name == "VOC2007" else devkit.name
        default = profile
        if not (profile == "embedded" and folder == "embedded-devkit"):
            variables.append(f"DEVKIT=path/to/{folder}")
            default += f"-{folder}"
        if "shipped" not in spec["external"]["weights"].get("origin", ""):
            variables.append(f"WEIGHTS=path/to/{weights.name}")
        if mean := spec["external"].get("mean"):
            variables.append(f"MEAN=path/to/{Path(mean['path']).name}")
        if limit:
            variables.append(limit)
            default += f"-limit{limit.partition('=')[2]}"
        if overridden := overrides(spec):
            variables.append(f"SET={' '.join(overridden)}")
        if self.path.name != default:
            variables.append(f"RUN=runs/{self.path.name}")
        return shlex.join(["make", *targets, *variables])

    def optional(self, anchor: str, title: str, make: Callable[["Subject"], Part]) -> Part:
        """The part that `make` gives, or, where it cannot, one that says why."""
        try:
            return make(self)
        except UserError as error:
            return Part(self.anchor(anchor), title, missing=self.local(str(error)))

    def local(self, text: str) -> str:
        """A text with the paths of this run's folder told from that folder on."""
        for root in (str(self.path), str(Path(self.comparison["runs"]["a"][0]["path"]).parent)):
            text = text.replace(f"{root}/", "")
        return text

    def measured(self, file: str) -> tuple[dict[str, Any] | None, str]:
        """What `file` ("controls", "sensitivity") found of this run, and where it stands; None and what makes it where
        it was not measured of the run as it is now."""
        told = f"not measured yet: `{self.command(file)}` does it"
        for path, name in (
            (self.path / file / f"{file}.json", f"{file}/{file}.json of the run"),
            (RESULTS / self.name / f"{file}.json", f"docs/results/{self.name}/{file}.json"),
        ):
            if not path.is_file():
                continue
            found = read_json(path)
            if not (of := foreign(found, self.sides["torch"])):
                return found, name
            told = f"{name} is of {of}: `{self.command(file)}` measures it anew"
        return None, told


def read_subject(path: Path, first: bool = True) -> Subject:
    """A run's folder, with caffe/, torch/ and compare.json in it; `first` : whether the page begins with it.

    Raises `UserError` where one of these is missing, or compare.json is not of what lies there now.
    """
    path = path.absolute()
    file = path / "compare.json"
    if not file.is_file():
        raise UserError(f"{file} is missing: run `make compare` first, or name a run's folder such as runs/embedded")
    comparison = read_json(file)
    if not isinstance(comparison, dict) or comparison.get("schema_version") != SCHEMA_VERSION:
        raise UserError(f"{file} is of another version: run `make compare` again")
    sides = {side: RunFolder(path / side) for side in SIDES}
    for which, run in zip("ab", sides.values(), strict=True):
        if not (run.path / "spec.json").is_file():
            raise UserError(f"{run.path} is no run: its spec.json is missing; run `make compare` first")
        found = stage_digests(run)
        for stage, digest in comparison["runs"][which][0]["stages"].items():
            if found.get(stage) != digest:
                raise UserError(f"{file} is older than {run.stage_path(stage)}: run `make compare` again")
    spec, published = sides["caffe"].spec, read_published()
    if spec["sha256"] != comparison["spec_sha256"]:
        raise UserError(f"{file} is of another specification than {path / 'caffe'}: run `make compare` again")
    name = path.name.removeprefix(f"{spec['profile'].partition(',')[0]}-")
    suffix = "" if first else f"-{re.sub('[^A-Za-z0-9]+', '-', path.name)}"
    return Subject(name, suffix, path, sides, comparison, standing(sides["torch"], published), published)


def overrides(spec: dict[str, Any]) -> list[str]:
    """Every "section.key=value" that is not the profile's, but for those that LIMIT= changed."""
    profile, _, limit = spec["profile"].partition(",")
    values, _ = read_profile(profile)
    return [
        f"{section}.{key}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}"
        for section, table in spec["values"].items()
        for key, value in table.items()
        if value != values.get(section, {}).get(key) and not (limit and f"{section}.{key}" in SHORTENED)
    ]


def standing_of(subject: Subject) -> list[tuple[str, str, str, str]]:
    """Of profile, data and weights: what it is, `OWN` or not, and in what it differs from the paper's."""
    spec, index = subject.spec, subject.sides["torch"]
    ids = {split: len(index.json("index", f"ids_{split}")) for split in ("trainval", "test")}
    differing = differing_keys(spec["values"], ())
    differs = f"{len(differing)} values differ from the paper's: {', '.join(differing)}" if differing else ""
    complete = subject.stands.published and ids == subject.published.images and not lacks_annotations(index)
    data = f"{subject.name}: {len(subject.stands.classes)} classes, {ids['trainval']} + {ids['test']} images"
    remarks = "" if complete else " ".join(subject.stands.remarks[1:2])
    origin = spec["external"]["weights"].get("origin", "of unknown origin")
    own = origin == "the Model Zoo's own file"
    how = OWN if own else "converted from the paper's" if origin.startswith("converted") else STAND_IN
    return [
        ("profile", spec["profile"], STAND_IN if differing else OWN, differs),
        ("data", data, OWN if complete else STAND_IN, remarks),
        ("weights", origin, how, "" if own else f"sha256 {spec['external']['weights']['sha256']}"),
    ]


def standing_table(subjects: list[Subject]) -> Table:
    """Profile, data and weights of every run."""
    rows = []
    for subject in subjects:
        for what, value, stands, remark in standing_of(subject):
            mark = "good" if stands == OWN else "open"
            rows.append([words(subject.name), words(what), words(value), words(stands, mark), words(remark)])
    return Table("standing", "What was run, and how it stands to the paper", ["run", "", "is", "", "remark"], rows, 1)
