"""Runs of a toy size that were compared, for the report to be made of, and the report read back from its HTML."""

import csv
import io
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from audit.measured import stamp
from compare import __main__ as comparison
from experiment.artifacts import RunFolder, write_json
from experiment.spec import read_profile
from paper.published import read_published
from paper.standing import standing
from tests.compare import fake_pair

SCRIPT = "<script>alert(1)</script>"
CLASSES = ["=1+1", SCRIPT, 'train "a" & <b>']
# Twelve, so that an order by text is none by number.
BLOBS = {"data": (2, 3, 4, 4), **{f"conv{i}": (2, 2, 2, 2) for i in range(1, 11)}, "pool5": (2, 3, 1, 1)}
# By how much the port's blobs are off: conv1 beyond its bound, the others within it.
OFF = {1: 1e-2, 5: 5e-6, 6: 3e-7, 7: 8e-7}
DEPARTS = {
    ("features", f"blobs/{i:03d}-conv{i}"): lambda blob, off=off: (blob * (1 + off)).astype(blob.dtype)
    for i, off in OFF.items()
}
DIFFERENCE = {"difference": 1.25, "interval_95": [-0.5, 3.0], "certain": True}
UNCERTAIN = {"difference": -2.0, "interval_95": [-4.0, -0.25], "certain": False}
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}


def toy_spec() -> dict[str, Any]:
    """The embedded profile's specification, with what the toy runs need changed."""
    found = fake_spec()
    values, _ = read_profile("embedded")
    values["run"]["seed"] = fake_pair.SEED
    values["transfer"]["snapshots"] = fake_pair.SNAPSHOTS
    values["compare"]["resamples"] = 60
    return {**found, "profile": "embedded", "values": values, "sha256": fake_pair.sha256_json(values)}


fake_spec = fake_pair.spec


def make_run(path: Path, changes: Any = None) -> Path:
    """A finished run with its comparison; `changes` : of the port's outputs (`fake_pair.write_run`)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fake_pair, "CLASSES", CLASSES)
        patch.setattr(fake_pair, "BLOBS", BLOBS)
        patch.setattr(fake_pair, "spec", toy_spec)
        fake_pair.outputs.cache_clear()
        caffe = fake_pair.write_run(path / "caffe", side="caffe").path
        torch = fake_pair.write_run(path / "torch", changes, side="torch").path
        isolated = fake_pair.write_run(path / "isolated", changes, fed_by=RunFolder(caffe), side="torch").path
        reference = fake_pair.write_varied(path / "reference", caffe, "torch", "reference")
        varied = fake_pair.write_varied(path / "threads", caffe, "torch", "threads")
        options = ["--isolated", isolated, "--reference", reference, "--varied-b", varied]
        arguments = ["compare", caffe, torch, *options, "--json", path / "compare.json"]
        patch.setattr(sys, "argv", [str(word) for word in arguments])
        comparison.main()
    fake_pair.outputs.cache_clear()
    return path


def write_measured(run: Path, file: str, **content: Any) -> None:
    """A controls.json or sensitivity.json beside a run."""
    (run / file).mkdir(exist_ok=True)
    torch = RunFolder(run / "torch")
    about = stamp(torch)
    about |= {"seeds": [1, 2], "subject": {"remarks": ["A toy."]}}
    write_json(run / file / f"{file}.json", about | content)


def controls() -> dict[str, Any]:
    """What RUN/controls/controls.json holds besides."""
    row = {"what": "what it is", "drawn": True, "map": {"seeds": [40.0, 42.0], "mean": 41.0, "spread": 1.414}}
    rows = [
        {**row, "control": "initial_weights", "title": "Initial weights", "minus_baseline_lr": DIFFERENCE,
         "minus_ours": UNCERTAIN},
        {**row, "control": "evil", "title": SCRIPT, "minus_baseline_lr": UNCERTAIN, "minus_ours": DIFFERENCE},
    ]  # fmt: skip
    ours = {"mean": 43.0, "spread": 1.0, "seeds": [1, 2]}
    return {"baseline_lr": 39.75, "ours": ours, "rows": rows, "conclusions": ["No gain is of the labels."]}


def sensitivity() -> dict[str, Any]:
    """What RUN/sensitivity/sensitivity.json holds besides: the first decision's first alternative alone."""
    from audit.decisions.decisions import read_decisions

    one = next(one for decision in read_decisions() for one in decision.alternatives if not one.reason)
    zero = {"difference": 0.0, "interval_95": [0.0, 0.0], "certain": True}
    rows = {"baseline_hr": zero, "baseline_lr": DIFFERENCE, "ours": UNCERTAIN}
    entry = {"decision": one.decision, "alternative": one.name, "what": one.told, "effect": rows, "map": {}}
    return {"base": {"baseline_hr": 50.0, "baseline_lr": 40.0, "ours": 43.0}, "entries": [entry]}


def write_optional(run: Path) -> None:
    """Everything optional beside a run, with texts that must not become elements of the page."""
    write_measured(run, "controls", **controls())
    write_measured(run, "sensitivity", **sensitivity())
    (run / "paper").mkdir()
    remarks = standing(RunFolder(run / "torch"), read_published()).remarks
    entries = [
        {"feature": blob, "n1": n1, "n2": n2, "map": n1 / 100 + n2 / 1000 if n2 == 20 else None, "flat": 0,
         "reason": SCRIPT}
        for blob in ("fc2", "fc1") for n1 in (256, 512) for n2 in (20, 100)
    ]  # fmt: skip
    write_json(run / "paper" / "table2.json", {"remarks": remarks, "seed": 1, "entries": entries})
    numbers = {"dimension": 3, "images": 5, "classes": 2, "knn": 0.25, "chance": 0.5, "silhouette": None}
    panels = {"figures": {"figure1": [{"features": SCRIPT, **numbers}]}, "neighbours": 5, "remarks": remarks}
    write_json(run / "paper" / "figures.json", panels)
    for name in ("figure1", "figure3"):
        svg = f"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(2)</script><path d='M1.23456 2'/>{name}</svg>"
        (run / "paper" / f"{name}.svg").write_text(svg)


@dataclass
class Node:
    """An element of the page."""

    tag: str
    attributes: dict[str, str]
    children: list[Any] = field(default_factory=list)

    def walk(self):
        """Itself and every element in it."""
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.walk()

    def all(self, *tags: str) -> list["Node"]:
        """Every element of these kinds in it."""
        return [node for node in self.walk() if node.tag in tags]

    @property
    def text(self) -> str:
        """Its text."""
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def has(self, name: str) -> bool:
        """Whether it is of a class of the style sheet."""
        return name in self.attributes.get("class", "").split()


class Page(HTMLParser):
    """A page's elements; `root` holds all. An element that is not closed, or closed twice, is an error."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("", {})
        self._open = [self.root]
        self.feed(text)
        self.close()
        assert self._open == [self.root], self._open[-1].tag

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes), attributes
        node = Node(tag, {name: value or "" for name, value in attributes})
        self._open[-1].children.append(node)
        if tag not in VOID:
            self._open.append(node)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self._open[-1].tag == tag, f"</{tag}> in <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data):
        self._open[-1].children.append(data)

    def by_id(self, name: str) -> Node:
        """The one element of an id."""
        (found,) = [node for node in self.root.walk() if node.attributes.get("id") == name]
        return found

    def cells(self, anchor: str) -> list[list[str]]:
        """A table's body: whole numbers where there are some, else texts."""
        (body,) = self.by_id(anchor).all("tbody")
        return [[cell.attributes.get("data-value", cell.text) for cell in row.all("td")] for row in body.all("tr")]

    def csv(self, anchor: str) -> list[list[str]]:
        """What a table's link to its CSV holds, the head first."""
        (link,) = [node for node in self.by_id(anchor).all("a") if node.has("csv")]
        head, _, content = link.attributes["href"].partition(",")
        assert head == "data:text/csv;charset=utf-8"
        return list(csv.reader(io.StringIO(unquote(content))))
