"""The runs of `make sensitivity`: each is an ordinary run of the port that differs from RUN/torch in one decision.

RUN/sensitivity/base/<seed>/torch takes every decision as RUN/torch does, RUN/sensitivity/<decision>-<alternative>/
<seed>/torch all but one. Both draw their own k-means start and first weights from that seed. What a change does not
reach is taken over from the base of the same seed.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from audit.beside import resolve_beside
from audit.decisions.decisions import Alternative
from audit.decisions.derive import derive, photographs_of
from audit.decisions.otherwise.changes import CHANGES, Change, Place
from experiment.artifacts import RunFolder, sha256_file, sha256_json
from experiment.errors import InUse, TooFewImages, UserError
from experiment.pipeline import main as run_stages
from experiment.stages import SPLITS, STAGES
from paper.cells import CELL_STAGES, up_to_date
from torch_impl.__main__ import MODULES, set_threads, versions

FOLDER = "sensitivity"
BASE = "base"
# What no draw reaches: equal for all seeds, so that one of them makes it for all.
SEEDLESS = ("index", "images", "features")
# Of all runs, so that an effect is never the engine's; and what changes replace is the port's own net.
ENGINE = "eager"
LOG = "log.txt"  # beside a run: what its stages said
# A run sets its process's threads and standard error, and its change replaces functions of the whole process.
ONE_AT_A_TIME = threading.Lock()
PATIENCE = 600.0  # seconds


def program_sha256() -> str:
    """sha256 of all code that a run's stages may execute, as it is on the disk now."""
    root = Path(__file__).resolve().parents[2]
    folders = ("audit/controls", "audit/decisions", "experiment", "paper", "torch_impl")
    files = sorted(path for folder in folders for path in (root / folder).rglob("*.py"))
    return sha256_json({str(path.relative_to(root)): sha256_file(path) for path in files})


# As it was when this process imported it. A stage's key has the code on the disk, which must be what runs.
PROGRAM = program_sha256()


@dataclass(frozen=True)
class Variant:
    """One run: its folder's name under RUN/sensitivity, its seed, and the alternative, None for the base."""

    root: Path
    seed: int
    alternative: Alternative | None = None

    @property
    def name(self) -> str:
        """`base` or `D1-antialias`."""
        return self.alternative.folder if self.alternative else BASE

    @property
    def run(self) -> RunFolder:
        """The run, finished or not."""
        return RunFolder(self.root / FOLDER / self.name / str(self.seed) / "torch")

    @property
    def derived(self) -> Path:
        """The folder of the derived devkit that the alternative names."""
        assert self.alternative is not None and self.alternative.devkit
        return self.root / FOLDER / "devkits" / self.alternative.devkit

    @property
    def change(self) -> Change | None:
        """What makes stages of its run run otherwise."""
        return CHANGES[self.alternative.otherwise] if self.alternative and self.alternative.otherwise else None

    @property
    def other(self) -> RunFolder | None:
        """The run that its change uses."""
        if self.change is None or not self.change.uses:
            return None
        return RunFolder(self.root / FOLDER / self.change.uses / str(self.seed) / "torch")

    def versions(self) -> dict[str, str]:
        """The versions of what computes the stages that its change touches."""
        assert self.alternative is not None and self.change is not None
        return {**versions(), "otherwise": f"{self.alternative.otherwise}, {self.change.version(self.other)}"}

    @contextlib.contextmanager
    def changed(self, stage: str) -> Iterator[Callable[[], dict[str, str]]]:
        """The stage runs otherwise while it lasts, if this is one that its change touches; gives what tells the
        versions of what computes it."""
        if self.change is None or stage not in self.change.stages:
            yield versions
        else:
            with self.change.stages[stage](Place(self.run, self.other)):
                yield self.versions

    def is_finished(self) -> bool:
        """Whether its run's stages are there and made from what there is now."""
        touched = tuple(self.change.stages) if self.change else ()
        if not up_to_date(self.run, tuple(stage for stage in CELL_STAGES if stage not in touched)):
            return False
        if self.other is not None and not up_to_date(self.other, SEEDLESS):
            return False
        return not touched or up_to_date(self.run, touched, self.versions)

    def with_seed(self, seed: int) -> "Variant":
        """The same with another seed."""
        return Variant(self.root, seed, self.alternative)

    def photographs(self) -> dict[str, str] | None:
        """Image id to the id of the base's photograph that it was made of; None where they are the base's own."""
        return photographs_of(self.derived) if self.alternative and self.alternative.devkit else None


def prepare(variant: Variant, mean: Path | None = None) -> str:
    """Derive the devkit where there is one to derive, and write the run's spec.json and prototxts.

    mean : the mean file, for an alternative that takes it and a base that does not. Returns "", or why the alternative
    cannot be measured on this data. Raises `UserError` where RUN/torch, its devkit or its weights are gone.
    """
    base, devkit = RunFolder(variant.root / "torch"), None
    overrides = list(variant.alternative.set) if variant.alternative else []
    if variant.alternative and variant.alternative.devkit:
        index = base.spec["values"]["index"]
        names = {split: index[split] for split in SPLITS}
        source, devkit = Path(base.spec["external"]["devkit"]["path"]), variant.derived
        if reason := derive(variant.alternative.devkit, source, names, devkit, index["limit"]):
            return reason
        overrides.append("index.limit=0")  # what is left of it is there already, and a photograph may be several
    try:
        resolve_beside(base, variant.run.path, variant.seed, overrides, devkit, mean)
    except TooFewImages as reason:
        return str(reason)
    return ""


def bring_up_to_date(variant: Variant, *before: str) -> str:
    """Run what is missing of a prepared run, on one thread; returns "", or why it cannot be run.

    before : what this function returned for the runs that stages are taken over from; where one could not be run,
    neither is this one. All but a `UserError` is raised. Its stages' lines go to a file beside the run.

    A worker that the scheduler has lost may go on for a while; it is waited for, as long as `PATIENCE`.
    """
    if failed := next(filter(None, before), ""):
        return failed
    if program_sha256() != PROGRAM:
        return "the program was changed since this process began: run the command again"
    with ONE_AT_A_TIME, open(variant.run.path.parent / LOG, "a", encoding="utf-8") as log:
        try:
            for stage in CELL_STAGES:
                taken = source_of(variant, stage)
                reuse = ["--reuse", str(taken.path)] if taken else []
                arguments = [str(variant.run.path), *reuse, "--threads", "1", "--engine", ENGINE, "--only", stage]
                with contextlib.redirect_stderr(log), variant.changed(stage) as found:
                    patiently(partial(run_stages, "torch", MODULES, found, arguments, before=set_threads))
        except UserError as error:
            return str(error).replace(f"{variant.root}/", "")
    return ""


def patiently(run: Callable[[], object]) -> None:
    """Run, and again while another process holds the run. Raises `InUse` where it does not let go of it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            run()
            return
        except InUse:
            if time.monotonic() > deadline:
                raise
            time.sleep(PATIENCE / 60)


def source_of(variant: Variant, stage: str) -> RunFolder | None:
    """The run that a run takes a stage over from where it is the same there; None where it makes it itself."""
    if stage in SEEDLESS and variant.seed != 1:
        return variant.with_seed(1).run
    if variant.alternative is not None:
        return Variant(variant.root, variant.seed).run
    # The features of RUN/torch may come from several threads. The base's are made as its alternatives' are, or the
    # rounding of these threads would be part of every effect.
    return RunFolder(variant.root / "torch") if stage in ("index", "images") else None


assert all(not STAGES[stage].seeded for stage in SEEDLESS)
