"""Print the last report again where nothing that it rests on was touched since: `python -m compare.kept RUN ASKED`.

Exit code as `python -m compare`'s; 3 where there is no such report, so that the comparison is to be made.
"""

import argparse
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiment.artifacts import RunFolder, read_json, sha256_json, write_json
from experiment.errors import UserError, run_command
from experiment.pipeline import fingerprint

ROOT = Path(__file__).resolve().parents[1]
FILE = ".compare-kept.json"
BEGAN = ".compare-began"  # touched by `make compare` before it brings the runs up to date
NOT_KEPT = 3
RUNS = ("caffe*", "torch*", "seeds")  # folders under RUN
PROGRAM = ("Makefile", "pyproject.toml", "docker", "prototxt", "experiment", "caffe_impl", "torch_impl", "compare",
           "embedded")  # fmt: skip


def state(run: Path, asked: str) -> str:
    """sha256 of all that `make compare` goes by: what it is asked for, the files of its runs and of the program, the
    data and weights from outside, Python and its packages.

    Of a file its name, size, times and inode stand for its bytes. No program can set a ctime, so none can change a
    file and leave this as it was. Raises `UserError` where RUN/caffe is not there.
    """
    external = RunFolder(run / "caffe").spec["external"]
    paths = sorted(path for name in RUNS for path in run.glob(name))
    packages = sorted(os.listdir(sysconfig.get_path("purelib")))  # a distribution's folder has its version in its name
    listing = fingerprint(external.get("devkit"))
    return sha256_json([asked, sys.version, packages, listing, stamps(*program(), *paths, *outside(external))])


def program() -> list[Path]:
    """What the runs are made by."""
    return [ROOT / name for name in PROGRAM]


def outside(external: Mapping[str, Any]) -> list[Path]:
    """The files from outside but the devkit's; external : of a spec.json."""
    return [Path(entry["path"]) for name, entry in sorted(external.items()) if name != "devkit"]


def changed_meanwhile(run: Path) -> bool:
    """Whether program, packages, weights or data may have changed while the runs were brought up to date, so that these
    need not be of what there is now. Raises `UserError` where RUN/caffe is not there."""
    external = RunFolder(run / "caffe").spec["external"]
    own = [path for path in outside(external) if run not in path.parents]
    devkit = [Path(external["devkit"]["path"], folder) for folder in ("ImageSets/Main", "Annotations", "JPEGImages")]
    times = [ctime for _, _, _, ctime, _ in stamps(*program(), *own, *devkit)]
    folders = [path for path in (Path(sysconfig.get_path("purelib")), *devkit) if path.is_dir()]
    times += [os.stat(path).st_ctime_ns for path in folders]  # what is gone, or a package that came
    return not (run / BEGAN).is_file() or max(times) > (run / BEGAN).stat().st_mtime_ns


def stamps(*paths: Path) -> list[Any]:
    """Name, size, times and inode of every file that is, or is below, one of `paths`; bytecode is left out."""
    found: list[Any] = []
    for file in (file for path in paths for file in files_below(path)):
        status = os.stat(file, follow_symlinks=file.exists())  # of a dangling link, the link itself
        found.append([str(file), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino])
    return found


def files_below(path: Path) -> Iterator[Path]:
    """The file, or all files in the folder and in its folders, in one order."""
    if not path.is_dir():
        yield from [path] if os.path.lexists(path) else []
        return
    for folder, folders, files in os.walk(path, followlinks=True):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        yield from (Path(folder, name) for name in sorted(files))


def keep(run: Path, before: str, report: str, code: int, written: Sequence[Path]) -> None:
    """Keep a report and its exit code. before : the state from before the runs were read. written : its files."""
    kept = {"state": before, "written": stamps(*written), "files": [str(p) for p in written], "report": report}
    write_json(run / FILE, {**kept, "code": code})


def kept(run: Path, asked: str) -> dict[str, Any] | None:
    """The report that was kept, as `keep` wrote it; None where anything was touched since."""
    try:
        found = read_json(run / FILE)
        same = found["state"] == state(run, asked) and found["written"] == stamps(*map(Path, found["files"]))
    except (UserError, KeyError, TypeError):
        return None
    return found if same else None


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m compare.kept", description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of the runs: runs/embedded")
    parser.add_argument("asked", help="what the comparison was asked for, as --keep had it")
    arguments = parser.parse_args()
    found = kept(arguments.run, arguments.asked)
    if found is None:
        return NOT_KEPT
    print(found["report"], end="")
    told = "nothing was touched since this comparison, so that it stands; `make compare-afresh` makes it again"
    print(told, file=sys.stderr)
    return int(found["code"])


if __name__ == "__main__":
    run_command(main)
