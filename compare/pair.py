"""Two runs under comparison, and the checks of arrays that most stages are made of."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from compare.calibration import Calibrator, Distance, Read
from compare.check import Check, Judge
from compare.difference import Difference, difference, relative_l2
from experiment.artifacts import RunFolder, load_array, sha256_json
from experiment.errors import UserError
from experiment.stages import STAGES


class FinishedRun(RunFolder):
    """A run that nobody writes to any more: manifests are read once, and an array's hash is looked at once.

    No array is kept: one that is mapped counts as memory for as long as it is.
    """

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self._kept: dict[tuple[str, ...], Any] = {}

    def _once(self, key: tuple[str, ...], read: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = read()
        return self._kept[key]

    @property
    def spec(self) -> dict[str, Any]:
        """As `RunFolder.spec`."""
        return self._once(("spec",), lambda: RunFolder(self.path).spec)

    def manifest(self, stage: str) -> dict[str, Any] | None:
        """As `RunFolder.manifest`."""
        return self._once((stage,), lambda: RunFolder.manifest(self, stage))

    def array(self, stage: str, name: str) -> np.ndarray:
        """As `RunFolder.array`."""
        if (stage, name) in self._kept:
            return load_array(self.output_path(stage, name))
        array = RunFolder.array(self, stage, name)
        self._kept[stage, name] = True
        return array


@dataclass(frozen=True)
class Pair:
    """Run b compared with run a in the judge's mode; the calibrator is there where the errors can be measured."""

    a: RunFolder
    b: RunFolder
    judge: Judge
    calibrator: Calibrator | None = None

    @property
    def chained(self) -> bool:
        """Whether each run was fed by itself."""
        return self.judge.mode == "chained"

    def sides(self) -> tuple[tuple[str, RunFolder, RunFolder], ...]:
        """Of each side its letter, its run, and the run that fed it: isolated, run a fed both."""
        return ("a", self.a, self.a), ("b", self.b, self.b if self.chained else self.a)

    def array_check(
        self,
        stage: str,
        quantity: str,
        item: str,
        read_a: Read,
        read_b: Read,
        value: Callable[[Difference], float] = lambda d: d.relative_l2,
        distance: Distance | None = relative_l2,
        floors_of_a: bool = True,
        detail: str | Callable[[Difference], str] = "",
        only_shown: bool = False,
        numbers: Callable[[Difference], dict[str, Any]] = Difference.numbers,
    ) -> Check:
        """The check of one array: a measure of its difference, and its error by `distance` (None: not calibrated)."""
        try:
            d = difference(read_a(self.a), read_b(self.b))
            if d.problem:
                return self.judge.failure(stage, item, d.problem)
            calibration = None
            if distance is not None and self.calibrator is not None:
                calibration = self.calibrator.measure(stage, read_a, read_b, distance, floors_of_a)
        except UserError as error:
            return self.judge.failure(stage, item, str(error))
        told = detail(d) if callable(detail) else detail
        told = told or f"max abs {d.max_abs:.2e} at {d.index}"
        return self.judge.check(
            stage, quantity, item, value(d), told, calibration=calibration, only_shown=only_shown, **numbers(d)
        )


def stage_digests(run: RunFolder) -> dict[str, str | None]:
    """Of each stage what it is, by its key and outputs: whether a verdict is of the present run. None: not finished."""
    found = {}
    for stage in STAGES:
        manifest = run.manifest(stage)
        parts = manifest and [manifest["key"], {name: e["sha256"] for name, e in manifest["outputs"].items()}]
        found[stage] = sha256_json(parts) if parts else None
    return found


def own_draws(a: RunFolder, b: RunFolder, stage: str) -> bool:
    """Whether run b's random values for a stage are not run a's: it drew them itself, or took another run's."""
    outputs = a.require_manifest(stage)["outputs"]
    draws = b.require_manifest(stage)["key_parts"]["draws"]
    return any(digest != outputs.get(name, {}).get("sha256") for name, digest in draws.items())


def named(stage: str, name: str) -> Read:
    """Reads an output of that name."""
    return lambda run: run.array(stage, name)


def equal_labels(
    pair: Pair, stage: str, quantity: str, name: str, labels_b: np.ndarray | None = None
) -> Iterator[Check]:
    """The check of the fraction of labels that are equal; `labels_b` where b's are to be renamed first."""
    d = difference(pair.a.array(stage, name), pair.b.array(stage, name) if labels_b is None else labels_b)
    if d.problem:
        yield pair.judge.failure(stage, name, d.problem)
        return
    detail = f"{d.unequal} of {d.total} differ" + (f", the first worst at {d.index}" if d.unequal else "")
    yield pair.judge.check(stage, quantity, name, 1 - d.unequal / d.total, detail, **d.numbers())
