"""How a work is timed: all its subjects in turn, round after round, so that a noisy minute hits all alike.

The order changes from round to round: what a subject leaves running behind it does not always hit the same one.
"""

import importlib.metadata
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from experiment.pipeline import machine, processor
from torch_impl.engines import is_installed

PORT = "port"
ROUNDS = 7
EXTENSIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # of the processor, what fast kernels ask for


@dataclass(frozen=True)
class Subject:
    """One way of doing a work.

    name : "port", or the peer's. dtype : the type that it computes in. run : does the work once, returns its result.
    parts : how many runs the whole work is; 20 where a run is one class of 20.
    """

    name: str
    dtype: str
    run: Callable[[], Any]
    parts: int = 1


@dataclass(frozen=True)
class Work:
    """What is timed.

    unit : what its figures are in, lower being better. per_second : how many of these units a second of one run is;
    1000 / 8 where a run takes 8 images and the unit is ms an image. error : a result's error to float64. rounds : at
    most so many, where a subject takes long.
    """

    name: str
    unit: str
    subjects: Sequence[Subject]
    per_second: float = 1.0
    error: Callable[[Any], float | None] | None = None
    rounds: int | None = None


@dataclass(frozen=True)
class Row:
    """A subject's figures of a work: a row of results.json."""

    work: str
    subject: str
    dtype: str
    unit: str
    median: float
    min: float
    max: float
    rounds: int
    error_to_float64: float | None = None


def row_of(work: str, subject: str, dtype: str, unit: str, figures: Sequence[float], error: float | None = None) -> Row:
    """The row of one subject's figures, one a round."""
    median = statistics.median(figures)
    return Row(work, subject, dtype, unit, median, min(figures), max(figures), len(figures), error)


@dataclass
class Bench:
    """What is measured in one run on one machine: a work's module is given it and adds its rows.

    clock : tells the time in seconds.
    """

    rounds: int = ROUNDS
    rows: list[Row] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    clock: Callable[[], float] = time.perf_counter

    def measure(self, work: Work) -> None:
        """Run each subject once to warm up, which also gives its error, then all in turn, and add their rows."""
        self.say(f"{work.name}: {', '.join(f'{subject.name} {subject.dtype}' for subject in work.subjects)}")
        results = [subject.run() for subject in work.subjects]
        errors = [work.error(result) if work.error else None for result in results]
        figures: list[list[float]] = [[] for _ in work.subjects]
        for number in range(min(self.rounds, work.rounds or self.rounds)):
            for i in order(len(work.subjects), number):
                subject = work.subjects[i]
                started = self.clock()
                subject.run()
                figures[i].append((self.clock() - started) * subject.parts * work.per_second)
        for subject, found, error in zip(work.subjects, figures, errors, strict=True):
            self.rows.append(row_of(work.name, subject.name, subject.dtype, work.unit, found, error))

    def leave_out(self, work: str, subject: str, why: str) -> None:
        """Say that a peer has no row, and why."""
        self.left_out.append(f"{work}: {subject} is left out: {why}")
        self.say(self.left_out[-1])

    def say(self, line: str) -> None:
        """Tell the user how far it is."""
        print(line, file=sys.stderr, flush=True)

    def result(self) -> dict[str, Any]:
        """What results.json holds."""
        return {"machine": described_machine(), "versions": self.versions, "rows": [asdict(row) for row in self.rows]}

    def write(self, path: Path) -> None:
        """Write results.json, and the same as a table beside it."""
        path.write_text(json.dumps(self.result(), indent=1) + "\n", encoding="utf-8")
        path.with_suffix(".md").write_text(table(self.rows, self.left_out), encoding="utf-8")


def order(n: int, number: int) -> list[int]:
    """In which order n subjects are run in a round: every second round backwards, each pair of rounds from the next."""
    turn = [(number // 2 + i) % n for i in range(n)]
    return turn[::-1] if number % 2 else turn


def installed(*packages: str) -> dict[str, str]:
    """The versions of those packages that are installed."""
    return {package: importlib.metadata.version(package) for package in packages if is_installed(package)}


def described_machine() -> dict[str, Any]:
    """The machine, which processor it has and which of its extensions matter here, and how busy it was."""
    told = processor()
    return {
        **machine(),
        "family and model": [told.get("cpu family"), told.get("model")],
        "extensions": [name for name in EXTENSIONS if name in told.get("flags", "").split()],
        "load": round(os.getloadavg()[0], 2),  # processes that wanted a core in the last minute, the bench's included
    }


def table(rows: Sequence[Row], left_out: Sequence[str] = ()) -> str:
    """The rows in Markdown, with each subject's time in units of the port's of the same type."""
    lines = [
        "| work | subject | type | median | least to greatest | unit | of the port's | error to float64 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        error = "" if row.error_to_float64 is None else f"{row.error_to_float64:.1e}"
        lines.append(
            f"| {row.work} | {row.subject} | {row.dtype} | {row.median:.4g} | {row.min:.4g} to {row.max:.4g} "
            f"| {row.unit} | {ratio(row, rows)} | {error} |"
        )
    return "\n".join([*lines, "", *left_out]).strip() + "\n"


def ratio(row: Row, rows: Sequence[Row]) -> str:
    """A row's median by the port's of the same work and type; "" where there is none."""
    ports = {(one.work, one.dtype, one.unit): one.median for one in rows if one.subject == PORT}
    base = ports.get((row.work, row.dtype, row.unit))
    return f"{row.median / base:.2f}" if base else ""


def by_name(modules: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """The modules of those names, all where there are none, in the order of `modules`."""
    return [module for name, module in modules.items() if not names or name in names]
