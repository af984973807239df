"""A side whose stages only say what they were given, so that the pipeline's book-keeping can be watched.

Each stage writes one JSON value, `result`: a hash of its module's VERSION, the sections of the spec that it sees and
the results of the stages that it reads. So a result changes exactly when something that it depends on changes. The
draws of a stage are arrays of its seed, or what the draws' run holds.
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np

from experiment.artifacts import RunFolder, sha256_file, sha256_json, write_json
from experiment.pipeline import Stage, main
from experiment.stages import STAGES

SOURCE = """
import numpy as np
from experiment.artifacts import sha256_json
from experiment.stages import STAGES

VERSION = {version}
calls = []


def run(stage):
    calls.append(stage)
    info = STAGES[stage.name]
    seen = [VERSION, stage.spec, [stage.inputs.json(name, "result") for name in info.inputs]]
    for name in info.draws:
        source = stage.draw(name)  # the fake draws are all arrays
        drawn = np.array([stage.seed(name) + VERSION - 1]) if source is None else np.array(source)
        stage.out.array(name, drawn)
        seen.append(drawn.tolist())
    stage.out.json("result", sha256_json(seen))
"""


def write_module(folder: Path, stage: str, version: int = 1, extra: str = "") -> None:
    """The source of one fake stage; `extra` is appended to it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stage}.py").write_text(SOURCE.format(version=version) + extra)


def load_modules(folder: Path) -> dict[str, ModuleType]:
    """The modules of a fake side, freshly loaded from their sources."""
    modules = {}
    for stage in STAGES:
        spec = importlib.util.spec_from_file_location(f"fake_{stage}", folder / f"{stage}.py")
        assert spec is not None and spec.loader is not None
        modules[stage] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(modules[stage])
    return modules


def write_spec(run: Path, /, **changes: object) -> None:
    """A consistent spec.json with one value a section (`changes`: section to value), prototxts and outside files."""
    sections = ["run", *dict.fromkeys(section for info in STAGES.values() for section in info.sections)]
    values = {section: {"x": changes.get(section, 0)} for section in sections}
    values["run"] = {"seed": changes.get("run", 1)}
    run.mkdir(parents=True, exist_ok=True)
    (run / "prototxt").mkdir(exist_ok=True)
    digests = {}
    for name in dict.fromkeys(name for info in STAGES.values() for name in info.prototxts):
        (run / "prototxt" / name).write_text(f"name: {changes.get(name, 0)}\n")
        digests[name] = sha256_file(run / "prototxt" / name)
    devkit = run.parent / "devkit"
    (devkit / "JPEGImages").mkdir(parents=True, exist_ok=True)
    external: dict[str, dict[str, str]] = {"devkit": {"path": str(devkit)}}
    for name in ("weights", "photographs"):
        external[name] = {"path": str(run / name), "sha256": sha256_json([name, changes.get(f"external {name}", 0)])}
    spec = {"values": values, "sha256": sha256_json(values), "prototxt": digests, "external": external}
    write_json(run / "spec.json", spec)


class FakeSide:
    """A side with fake stages in `folder` (written unless they are there) and its run in `run`."""

    def __init__(self, folder: Path, run: Path, side: str = "torch") -> None:
        self.folder, self.run, self.side = folder, RunFolder(run), side
        if not folder.exists():
            for stage in STAGES:
                write_module(folder, stage)
        write_spec(run)

    def reproduce(self, *options: object, versions: Mapping[str, str] | None = None) -> list[str]:
        """Run the side; the stages whose `run` was called, in order."""
        modules = load_modules(self.folder)
        argv = [str(self.run.path), *map(str, options)]
        try:
            told = dict(versions or {"fake": "1"})
            assert main(self.side, modules, lambda: told, argv, measure=lambda *_: {}) == 0
        finally:
            self.called = [stage for stage in STAGES if modules[stage].calls]
            self._calls = {stage: modules[stage].calls for stage in self.called}
        return self.called

    def stages(self, name: str) -> list[Stage]:
        """What the last run gave to a stage's `run`."""
        return self._calls[name]

    def results(self) -> dict[str, str]:
        """Each stage's result."""
        return {stage: self.run.json(stage, "result") for stage in STAGES}

    def drawn(self) -> dict[str, list[int]]:
        """Every drawn array's values."""
        return {
            name: np.array(self.run.array(stage, name)).tolist() for stage in STAGES for name in STAGES[stage].draws
        }


def downstream(*changed: str) -> list[str]:
    """The stages named and all that read them, directly or not, in order (by repeated search)."""
    found = set(changed)
    for _ in STAGES:
        found |= {stage for stage, info in STAGES.items() if found & set(info.inputs)}
    return [stage for stage in STAGES if stage in found]
