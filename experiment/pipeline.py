"""Run the stages of one side in order: skip what is up to date, write each stage whole or not at all.

Both sides' command lines are this function with their own table of stages. It agrees on names, hashes and
folders and computes nothing.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import platform
import resource
import sys
import time
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence

from experiment.artifacts import RunFolder, sha256_file, sha256_json
from experiment.errors import InUse, UserError
from experiment.plan import Measure, announce
from experiment.stage_writer import StageWriter, link_stage
from experiment.stages import STAGES, VARIATIONS, VARIED_IMAGES


class Stage:
    """What a stage's `run` function is given: its part of the spec, its inputs, and where its outputs go.

    Attributes
    ----------
    spec : the values of the sections that the stage may see, {"section": {"key": value}}.
    inputs : the run folder that earlier stages are read from (another side's where the run is isolated).
    out : the writer of this stage's outputs.
    variation : in what way it is run otherwise (`experiment.stages.VARIATIONS`), "" where it is not.
    engine : the name of what computes it, "" where the side has one way only.
    """

    def __init__(
        self,
        name: str,
        run: RunFolder,
        inputs: RunFolder,
        draws: Optional[RunFolder],
        out: StageWriter,
        variation: str = "",
        engine: str = "",
    ) -> None:
        self.name = name
        self.inputs = inputs
        self.out = out
        self.variation = variation
        self.engine = engine
        self._run = run
        self._draws = draws
        values = run.spec["values"]
        self.spec: Dict[str, Dict[str, Any]] = {section: values[section] for section in STAGES[name].sections}
        self._seed = int(values["run"]["seed"])

    def seed(self, stream: str) -> int:
        """The seed of a named random stream, 31 bits, from the run's one seed."""
        return int.from_bytes(hashlib.sha256(f"{self._seed}/{stream}".encode()).digest()[:4], "big") & 0x7FFFFFFF

    @property
    def limit(self) -> Optional[int]:
        """How many images of each split and resolution the stage features takes; None for all."""
        return VARIED_IMAGES if self.variation else None

    def batch_size(self, size: int) -> int:
        """How many rows are computed at once where the specification or the stage says `size`."""
        return (size // 2 or 2) if self.variation == "batch" else size

    def external(self, name: str) -> Optional[Path]:
        """The path of a file or folder from outside the run; None where the run has none of that name.

        Raises `UserError` where a file is no longer the one that the run was resolved with.
        """
        entry = self._run.spec["external"].get(name)
        if entry is None:
            return None
        path = Path(entry["path"])
        if path.is_file() and sha256_file(path) != entry["sha256"]:
            raise UserError(f"{path} has changed since this run was resolved: put it back, or resolve the run again")
        return path

    def prototxt(self, name: str) -> Path:
        """A net or solver definition of this run."""
        return self._run.prototxt(name)

    def draw(self, name: str) -> Any:
        """The array (memory-mapped) that the Caffe side drew for this stage, or None: then the stage draws itself."""
        return None if self._draws is None else self._draws.array(self.name, name)

    def drawn_file(self, name: str) -> Optional[Path]:
        """The same for a file."""
        return None if self._draws is None else self._draws.file(self.name, name)

    def forced(self, name: str) -> Any:
        """An output of this stage on the Caffe side, where this run is isolated, to go on from; otherwise None."""
        isolated = STAGES[self.name].forced and self.inputs is not self._run
        return self.draw(name) if isolated else None


def main(
    side: str,
    modules: Mapping[str, ModuleType],
    versions: Callable[[], Dict[str, str]],
    argv: Optional[Sequence[str]] = None,
    before: Optional[Callable[[argparse.Namespace], None]] = None,
    measure: Optional[Measure] = None,
) -> int:
    """The command line of a side: `python -m <side>_impl RUN [--inputs RUN] [--draws RUN] [--only STAGE]`.

    Parameters
    ----------
    side : "caffe" or "torch".
    modules : stage name to the side's module of that name; its `run(stage)` does the work. Where it can be done by
        several engines, its `engine(asked, variation)` gives the versions of the one that --engine means.
    versions : gives the versions of what computes, for the manifest.
    before : called with the arguments before any stage (sets threads, say).
    measure : gives how long stages may take, for --plan (see `experiment.plan`).

    Returns the exit status. Raises `UserError` for what the user can mend.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {side}_impl", description=main_description(side))
    parser.add_argument("run", type=Path, help="the run folder, with the spec.json that experiment.resolve wrote")
    parser.add_argument("--inputs", type=Path, help="read every stage's inputs from this run instead (isolated)")
    parser.add_argument("--draws", type=Path, help="start from the random draws of this run where it has them")
    parser.add_argument("--reuse", type=Path, help="take over stages of this run that would be the same")
    stages = parser.add_mutually_exclusive_group()
    stages.add_argument("--only", choices=list(STAGES), action="append", help="run just this stage (repeatable)")
    told = "run what this can touch otherwise, without changing what is computed"
    stages.add_argument("--vary", choices=list(VARIATIONS[side]), default="", help=told)
    parser.add_argument("--plan", action="store_true", help="first say what is to be done, and whether the disk does")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    parser.set_defaults(engine="")
    if side == "torch":
        told = "what computes the features, and, on a GPU or in bfloat16, the training (default: the CPU's fastest)"
        parser.add_argument("--engine", default="auto", help=told)
    arguments = parser.parse_args(argv)
    if before is not None:
        before(arguments)
    run = RunFolder(arguments.run)
    inputs = RunFolder(arguments.inputs) if arguments.inputs else run
    draws = RunFolder(arguments.draws) if arguments.draws else None
    reuse = RunFolder(arguments.reuse) if arguments.reuse else None
    if arguments.vary and inputs is run:
        raise UserError(
            f"--vary {arguments.vary} needs --inputs: what is varied is compared with a run of equal inputs"
        )
    check_spec(run)
    names = VARIATIONS[side][arguments.vary] if arguments.vary else arguments.only or STAGES
    engines = {name: engine_of(modules[name], arguments.engine, arguments.vary) for name in names}
    with locked(run.path):
        job = Job(side, modules, versions(), run, inputs, draws, reuse, arguments.threads, arguments.vary, engines)
        if arguments.plan and measure is not None:
            left = stages_left(job, names)
            if left:
                announce(run, left, measure, arguments.engine)
        for name in names:
            run_stage(job, name)
    return 0


class Job(NamedTuple):
    """What the stages of one command are made of and with: see `main`; engines : stage to its engine's versions."""

    side: str
    modules: Mapping[str, ModuleType]
    versions: Mapping[str, str]
    run: RunFolder
    inputs: RunFolder
    draws: Optional[RunFolder]
    reuse: Optional[RunFolder]
    threads: int
    variation: str
    engines: Mapping[str, Mapping[str, str]]


def stages_left(job: Job, names: Iterable[str]) -> List[str]:
    """Those of the stages that are not up to date, or read one that is not."""
    left: List[str] = []
    for name in names:
        reads_one = job.inputs is job.run and set(STAGES[name].inputs) & set(left)
        if reads_one or (job.run.manifest(name) or {}).get("key") != sha256_json(parts_of(job, name)):
            left.append(name)
    return left


def engine_of(module: ModuleType, asked: str, variation: str) -> Dict[str, str]:
    """The versions of the engine that computes a stage, its name under "engine"; none where there is no choice."""
    choose: Optional[Callable[[str, str], Dict[str, str]]] = getattr(module, "engine", None)
    return choose(asked, variation) if choose else {}


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a run's folder for one process; the lock needs no file, which another user might own."""
    folder = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise InUse(f"{path} is in use by another run: wait for it, or choose RUN=") from None
    finally:
        os.close(folder)


def main_description(side: str) -> str:
    """One sentence for --help."""
    return {
        "caffe": "The literal side: every stage with pycaffe and its contemporaries, inside the container.",
        "torch": "The port: every stage with PyTorch on the host.",
    }[side]


def check_spec(run: RunFolder) -> None:
    """Stop where spec.json is not what its own hash says, or its prototxts are not what it records."""
    spec = run.spec
    whole = isinstance(spec, dict) and "sha256" in spec
    whole = whole and all(isinstance(spec.get(part), dict) for part in ("values", "external", "prototxt"))
    if not whole or sha256_json(spec["values"]) != spec["sha256"]:
        raise UserError(f"{run.path / 'spec.json'} was changed by hand: delete it, and change the profile or pass SET=")
    for name, digest in spec["prototxt"].items():
        path = run.prototxt(name)
        if not path.is_file() or sha256_file(path) != digest:
            raise UserError(f"{path} is not what spec.json records: delete {run.path / 'spec.json'} and run again")


def run_stage(job: Job, name: str) -> None:
    """Bring one stage up to date and say in one line what was done."""
    side, run, reuse, engine = job.side, job.run, job.reuse, job.engines[name]
    draws = draws_of(job, name)
    if draws is None and job.draws is not None and STAGES[name].draws and job.draws.manifest(name):
        print(f"{name}: {job.draws.path} was drawn for another specification; drawing anew", file=sys.stderr)
    parts = parts_of(job, name)
    key = sha256_json(parts)
    finished = run.manifest(name)
    if finished is not None and finished.get("key") == key:
        print(f"{side} {name}: up to date", file=sys.stderr)
        return
    other = reuse.manifest(name) if reuse is not None else None
    if reuse is not None and other is not None and other.get("key") == key:
        link_stage(reuse, run, name)
        print(f"{side} {name}: the same as in {reuse.path.name}", file=sys.stderr)
        return
    print(f"{side} {name} ...", file=sys.stderr, flush=True)
    started = time.monotonic()
    stage = Stage(name, run, job.inputs, draws, StageWriter(run, name, key), job.variation, engine.get("engine", ""))
    job.modules[name].run(stage)
    seconds = time.monotonic() - started
    stage.out.finish(
        {
            "stage": name,
            "side": side,
            "key": key,
            "key_parts": parts,
            "spec_sha256": run.spec["sha256"],
            "seconds": round(seconds, 3),
            "threads": job.threads or os.cpu_count(),
            "versions": {**job.versions, **engine},
            "machine": machine(),
            "origins": origins(run, name),
            "peak_memory": peak_memory(),
        }
    )
    print(f"{side} {name}: {seconds:.1f} s", file=sys.stderr, flush=True)


def origins(run: RunFolder, name: str) -> Dict[str, str]:
    """Where the files from outside come from that a stage reads and whose origin is known: converted weights say so."""
    external = run.spec["external"]
    return {key: external[key]["origin"] for key in STAGES[name].external if "origin" in (external.get(key) or {})}


def machine() -> Dict[str, Any]:
    """What the stage ran on: the processor as the system names it, its cores, the kernel."""
    return {
        "cpu": processor().get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def processor() -> Dict[str, str]:
    """What Linux tells of the first core, by its names (vendor_id, model name, flags); empty elsewhere."""
    parts = [line.partition(":") for line in takewhile(str.strip, lines_of("/proc/cpuinfo"))]
    return {key.strip(): value.strip() for key, _, value in parts}


def peak_memory() -> int:
    """The most memory that this process has held at a time, in bytes.

    Linux tells it in /proc. What getrusage tells there is no less than what the parent held when it started this one.
    """
    for line in lines_of("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def lines_of(path: str) -> List[str]:
    """The lines of a file of Linux's /proc; none elsewhere."""
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def draws_of(job: Job, name: str) -> Optional[RunFolder]:
    """The run of the draws that a stage starts from; None where it has none that were made for what is asked for."""
    manifest = job.draws.manifest(name) if job.draws is not None and STAGES[name].draws else None
    if manifest is None:
        return None
    values = job.run.spec["values"]
    fits = all(values.get(section) == recorded for section, recorded in manifest["key_parts"]["spec"].items())
    return job.draws if fits else None


def parts_of(job: Job, name: str) -> Dict[str, Any]:
    """What a stage's key is the hash of: `key_parts`, and by what and how it is computed."""
    parts = key_parts(job.side, name, job.modules, job.run, job.inputs, draws_of(job, name))
    parts.update(versions=job.versions, variation=job.variation)
    if job.variation == "threads":  # elsewhere their number is not asked for, and rounds as it may
        parts["threads"] = job.threads
    if job.engines[name]:
        parts["engine"] = job.engines[name]
    return parts


def key_parts(
    side: str,
    name: str,
    modules: Mapping[str, ModuleType],
    run: RunFolder,
    inputs: RunFolder,
    draws: Optional[RunFolder],
) -> Dict[str, Any]:
    """Everything that a stage's result depends on, as hashes; equal parts mean that it need not run again."""
    info = STAGES[name]
    spec = run.spec
    drawn = draws.require_manifest(name)["outputs"] if draws is not None else {}
    forced = info.forced and inputs is not run
    return {
        "side": side,
        "spec": {section: spec["values"][section] for section in (*info.sections, *["run"] * info.seeded)},
        "inputs": {
            earlier: sha256_json(
                {key: entry["sha256"] for key, entry in inputs.require_manifest(earlier)["outputs"].items()}
            )
            for earlier in info.inputs
        },
        "external": {key: fingerprint(spec["external"].get(key)) for key in info.external},
        "prototxt": {key: spec["prototxt"][key] for key in info.prototxts},
        "draws": {key: drawn.get(key, {}).get("sha256") for key in info.draws},
        "forced": sha256_json({key: entry["sha256"] for key, entry in drawn.items()}) if forced else None,
        "code": code_hashes(name, modules),
    }


def fingerprint(entry: Optional[Mapping[str, Any]]) -> Any:
    """What stands for a file or folder from outside: its sha256, or for a devkit names, sizes and times."""
    if entry is None or "sha256" in entry:
        return entry and entry["sha256"]
    root = Path(entry["path"])
    listing: List[Any] = []
    for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
        if (root / folder).is_dir():
            with os.scandir(root / folder) as found:
                for item in sorted(found, key=lambda item: item.name):
                    status = item.stat(follow_symlinks=Path(item.path).exists())  # of a dangling link, the link itself
                    listing.append([folder, item.name, status.st_size, status.st_mtime_ns])
    return sha256_json(listing)


def code_hashes(name: str, modules: Mapping[str, ModuleType]) -> Dict[str, str]:
    """sha256 of the stage's module and of the package's helper modules: changed code is run again.

    No stage's module imports another's, so that these are all (a test sees to it).
    """
    own = Path(str(modules[name].__file__))
    stage_files = {Path(str(module.__file__)) for module in modules.values()}
    files = [own, *(path for path in sorted(own.parent.glob("*.py")) if path not in stage_files)]
    return {path.name: sha256_file(path) for path in files}
