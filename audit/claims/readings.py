"""What a run offers to the claims: both sides' figures, their intervals, the grid, the numbers beside the figures."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from audit.claims.facts import Facts, read_facts
from audit.claims.optional import finite, read_optional
from audit.claims.pattern import read_grid
from compare.check import SCHEMA_VERSION
from compare.end_to_end import claim as gain_or_loss
from compare.pair import stage_digests
from compare.report import mean_text
from experiment.artifacts import RunFolder
from experiment.errors import UserError
from experiment.stages import ROWS, SPLITS
from paper.published import Published, read_published
from paper.standing import Standing, differing_keys, lacks_annotations, standing
from paper.table1 import OUT, SIDES, in_order, labels_of

LETTERS = {"caffe": "a", "torch": "b"}  # the sides' names in compare.json
Grids = dict[str, dict[tuple[int, int], float]]
Figures = dict[str, list[dict[str, Any]]]
Part = TypeVar("Part")


@dataclass(frozen=True)
class Readings:
    """A run's figures, in percent; a side ("caffe", "torch"), or a part, that is not there yet is missing.

    path, spec : the run's folder and its specification. caveat : why nothing follows for the paper from the run's
    figures; empty where its data, weights and specification are the paper's own. margin : how far a mAP may be from the
    printed one.
    ap : side, row to the AP of each class as `stands` orders them, then the mAP. end_to_end : of compare.json.
    grids : feature to the grid of `paper.grid`. figures : of figures.json, each figure's panels.
    dimensions : side to those of the LR feature and of the transferred one. pool5 : side to that of ResNet-101's.
    lacking : "metrics", "end_to_end", "grid", "figures" to what makes the part that is missing or malformed, in a
    sentence without its stop.
    """

    path: Path
    spec: dict[str, Any]
    published: Published
    facts: Facts
    stands: Standing
    caveat: str
    margin: float
    images: dict[str, int]
    ap: dict[str, dict[str, list[float]]]
    dimensions: dict[str, tuple[int, int]]
    pool5: dict[str, int]
    end_to_end: dict[str, Any] | None = None
    grids: Grids | None = None
    figures: Figures | None = None
    lacking: dict[str, str] = field(default_factory=dict)

    def map(self, side: str, row: str) -> dict[str, Any] | None:
        """A side's mAP of a row: "mean" and, over several seeds, "spread" and "seeds"; None where it is not there."""
        if self.end_to_end is not None:
            return self.end_to_end["map"][LETTERS[side]][row]
        return {"mean": self.ap[side][row][-1], "spread": None, "seeds": []} if side in self.ap else None

    def gain(self, side: str) -> dict[str, Any] | None:
        """Ours minus Baseline-LR on a side, as compare.json has it; None where there is no comparison."""
        return None if self.end_to_end is None else self.end_to_end["ours_minus_baseline_lr"][LETTERS[side]]


def read_run(path: Path) -> Readings:
    """Read a run's folder, with caffe/ or torch/ in it, or both.

    Raises `UserError` where neither side has an index, the sides are of other specifications or labels, or an index is
    damaged. What is merely missing, malformed, or older than the run, is in `lacking`.
    """
    path, published, facts = path.absolute(), read_published(), read_facts()
    runs = {side: RunFolder(path / side) for side in SIDES}
    runs = {side: run for side, run in runs.items() if (run.path / "spec.json").is_file() and run.manifest("index")}
    if not runs:
        raise UserError(f"{path} holds no run: run `make caffe-reproduce torch-reproduce`, or name runs/embedded, say")
    of = [(run.spec["sha256"], labels_of(run)) for run in runs.values()]
    if any(other != of[0] for other in of):
        raise UserError(f"{path}: caffe/ and torch/ are not of one specification and one devkit: run `make compare`")
    run = runs.get("torch") or runs["caffe"]
    stands = standing(run, published)
    images = {split: len(run.json("index", f"ids_{split}")) for split in SPLITS}
    finished = {side: one for side, one in runs.items() if one.manifest("metrics")}
    ap, lacking = aps_of(finished, stands)
    end_to_end, lacking_comparison = comparison(path, finished)
    grids, lacking_grid = grids_of(path / OUT, stands)
    figures, lacking_figures = figures_of(path / OUT, stands)
    return Readings(
        path=path,
        spec=run.spec,
        published=published,
        facts=facts,
        stands=stands,
        caveat=caveat(run, stands, images, published),
        margin=run.spec["values"]["compare"]["margin"],
        images=images,
        ap=ap,
        dimensions={
            side: (width(one, "features", "lr_test"), width(one, "transfer_features", "test"))
            for side, one in finished.items()
        },
        pool5={side: pool5 for side, one in runs.items() if (pool5 := width(one, "resnet101", "-pool5"))},
        end_to_end=end_to_end,
        grids=grids,
        figures=figures,
        lacking={**lacking, **lacking_comparison, **lacking_grid, **lacking_figures},
    )


def caveat(run: RunFolder, stands: Standing, images: dict[str, int], published: Published) -> str:
    """Why nothing follows for the paper from a run's figures, in a sentence; empty where it is the paper's own."""
    if not stands.published:
        return "The data are a stand-in, from which nothing follows for the paper."
    reasons = []
    if images != published.images:
        reasons.append("its images are not all of VOC2007's")
    if lacks_annotations(run):
        reasons.append("its devkit has no annotations, so that it is not the published one")
    if differing := differing_keys(run.spec["values"], ()):
        told = ", ".join(differing[:3]) + (f" and {len(differing) - 3} more" if len(differing) > 3 else "")
        reasons.append(f"its specification is not the paper's ({told})")
    return f"Not the paper's own run: {'; '.join(reasons)}. So nothing follows for the paper." if reasons else ""


def aps_of(
    finished: dict[str, RunFolder], stands: Standing
) -> tuple[dict[str, dict[str, list[float]]], dict[str, str]]:
    """Side, row to the APs of the sides that are finished, and what makes those of the others."""
    ap, lacking = {}, {}
    if absent := [side for side in SIDES if side not in finished]:
        targets = " ".join(f"{side}-reproduce" for side in absent)
        lacking["metrics"] = f"Not finished on both sides: run `make {targets}`"
    for side, run in finished.items():
        try:
            found = run.json("metrics", "metrics")
            ap[side] = {row: in_order(found[row], stands) for row in ROWS}
        except UserError as error:
            lacking["metrics"] = str(error)
    return ap, lacking


def comparison(path: Path, runs: dict[str, RunFolder]) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """compare.json's end-to-end figures, where it is of what lies in the run's folder now; else what makes it."""
    file, remedy = path / "compare.json", "run `make seeds compare`"
    if not file.is_file():
        return None, {"end_to_end": f"Not compared yet: {remedy}"}

    def read(found: Any) -> tuple[dict[str, Any] | None, str]:
        if found["schema_version"] != SCHEMA_VERSION:
            return None, f"compare.json is of another version: {remedy}"
        for side, letter in LETTERS.items():
            if side not in runs or found["runs"][letter][0]["stages"] != stage_digests(runs[side]):
                return None, f"compare.json is of another run than {side}/: {remedy}"
        if not (summary := found["end_to_end"]):
            return None, f"compare.json has no end-to-end figures: {remedy}"
        int(summary["seeds"])
        for letter in LETTERS.values():
            for row in ROWS:
                mean_text(summary["map"][letter][row]), len(summary["map"][letter][row]["seeds"])
            entry = summary["ours_minus_baseline_lr"][letter]
            list(map(finite, (entry["difference"], *entry["overall"]["interval_95"]))), entry["certain"]
            gain_or_loss(entry)
        return summary, ""

    return or_why(lambda: read_optional(file, read, "compare"), "end_to_end")


def grids_of(out: Path, stands: Standing) -> tuple[Grids | None, dict[str, str]]:
    """The grid of table2.json, where it is of the run's specification and images; else what makes it."""
    file, remedy = out / "table2.json", "run `make grid`"
    if not file.is_file():
        return None, {"grid": f"Not made yet: {remedy}"}

    def read() -> tuple[Grids | None, str]:
        grids, remarks = read_grid(file, len(stands.classes))
        if remarks[:1] != stands.remarks[:1]:  # the first tells profile, specification and images
            return None, f"{file.name} is of another specification: {remedy}"
        if not any(grids.values()):
            return None, f"No mAP in {file.name} says anything: {remedy} with other N1= and N2="
        return grids, ""

    return or_why(read, "grid")


def figures_of(out: Path, stands: Standing) -> tuple[Figures | None, dict[str, str]]:
    """The numbers of figures.json, where they are of the run's specification and images; else what makes them."""
    file, remedy = out / "figures.json", "run `make figures`"
    if not file.is_file():
        return None, {"figures": f"Not made yet: {remedy}"}

    def read(document: Any) -> tuple[Figures | None, str]:
        if document["remarks"][:1] != stands.remarks[:1]:
            return None, f"{file.name} is of another specification: {remedy}"
        return {figure: list(map(panel, panels)) for figure, panels in document["figures"].items()}, ""

    return or_why(lambda: read_optional(file, read, "figures"), "figures")


def panel(found: dict[str, Any]) -> dict[str, Any]:
    """A picture's numbers; ValueError and the like where they are none."""
    knn, images, silhouette = finite(found["knn"]), int(found["images"]), found["silhouette"]
    if not (0 <= knn <= 1 and images > 0):
        raise ValueError(f"{knn} of {images} images is no share")
    silhouette = None if silhouette is None else finite(silhouette)
    return {"features": str(found["features"]), "knn": knn, "images": images, "silhouette": silhouette}


def or_why(read: Callable[[], tuple[Part | None, str]], part: str) -> tuple[Part | None, dict[str, str]]:
    """What `read` reads, or under the part's name why it is not taken, which a malformed file is as well."""
    try:
        found, why = read()
    except UserError as error:
        found, why = None, str(error)
    return found, {part: why} if why else {}


def width(run: RunFolder, stage: str, ending: str) -> int:
    """The columns of a stage's output whose name ends so, as its manifest has them; 0 where there is none."""
    manifest = run.manifest(stage)
    for name, entry in (manifest or {"outputs": {}})["outputs"].items():
        if name.endswith(ending) and len(entry.get("shape", [])) >= 2:
            return int(entry["shape"][1])
    return 0
