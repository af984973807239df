"""A run that is reported: its folder, its comparison, and how its profile, data and weights stand to the paper's."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.claims.commands import command, complete
from audit.claims.optional import Made, read_optional
from audit.measured import foreign, made_from
from audit.page.tables import Part, Table, words
from compare.check import SCHEMA_VERSION
from compare.pair import stage_digests
from experiment.artifacts import RunFolder, read_json
from experiment.errors import UserError
from paper.published import Published, read_published
from paper.standing import Standing, differing_keys, lacks_annotations, standing

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
SIDES = {"caffe": "Caffe", "torch": "port"}
OWN, STAND_IN = "the paper's own", "a stand-in"


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
        """The line that makes `targets` of this run (`audit.claims.commands.command`)."""
        return command(self.path, self.spec, *targets)

    def optional(self, anchor: str, title: str, make: Callable[["Subject"], Part], inner: Sequence[str] = ()) -> Part:
        """The part that `make` gives, or, where it cannot, one that says why; `inner` : anchors that it has inside."""
        try:
            return make(self)
        except UserError as error:
            anchors = [self.anchor(name) for name in inner]
            return Part(self.anchor(anchor), title, missing=self.local(str(error)), inner=anchors)

    def local(self, text: str) -> str:
        """A text with the paths of this run's folder told from that folder on, and its commands whole."""
        for root in (str(self.path), str(Path(self.comparison["runs"]["a"][0]["path"]).parent)):
            text = text.replace(f"{root}/", "")
        return complete(text, self.path, self.spec)

    def measured(self, file: str, make: Callable[[dict[str, Any], str], Made]) -> tuple[Made | None, str]:
        """What `make` makes of what `file` ("controls", "sensitivity") found of this run and where it stands, and that
        place; None and what makes the file where it is malformed, or was not measured of the run as it is now.

        The project's own figures of the same data and specification stand in where the run has none.
        """
        problems = []
        for path, name in (
            (self.path / file / f"{file}.json", f"{file}/{file}.json of the run"),
            (RESULTS / self.name / f"{file}.json", f"docs/results/{self.name}/{file}.json"),
        ):
            if not path.is_file():
                continue

            def read(found: dict[str, Any], path: Path = path, name: str = name) -> tuple[Made | None, str]:
                torch = self.sides["torch"]
                found["schema_version"]  # what has none is malformed, and not of another version
                if of := foreign(found, torch, copied=path.is_relative_to(RESULTS)):
                    return None, f"{name} is of {of}: `{self.command(file)}` measures it anew"
                if found["made_from"] != made_from(torch):
                    name += ", which is of another run of the same data and specification"
                return make(found, name), name

            try:
                made, told = read_optional(path, read, file)
            except UserError as error:
                return None, self.local(str(error).replace(str(path), name))
            if made is not None:
                return made, told
            problems.append(told)
        return None, (problems or [f"not measured yet: `{self.command(file)}` does it"])[0]


def read_subject(path: Path, position: int = 1) -> Subject:
    """A run's folder, with caffe/, torch/ and compare.json in it; `position` : which one of the page it is, from 1.

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
    # The position keeps ids apart: names may be alike but for their signs, or make an id that a part has inside.
    suffix = "" if position == 1 else f"-{position}-{re.sub('[^A-Za-z0-9]+', '-', path.name)}"
    return Subject(name, suffix, path, sides, comparison, standing(sides["torch"], published), published)


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
