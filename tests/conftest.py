"""What the port's tests share: cases that the real Caffe computes, and runs made of a few arrays.

A test module registers its cases when it is imported (`caffe_case`). The first test that asks for a result makes the
`caffe` fixture run all of them in one container.
"""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiment.artifacts import RunFolder
from experiment.errors import UserError
from experiment.pipeline import Stage
from experiment.stage_writer import StageWriter

PROJECT = Path(__file__).resolve().parents[1]
SHARED_DATA = PROJECT.parent / "shared" / "data"  # real data that is not part of the project
SECONDS_FOR_ALL_CASES = 3600  # the first run of all may have to build the container

# A file's content: text, bytes, an array (as .npy), or a function that writes the file to a path.
Content = str | bytes | np.ndarray | Callable[[Path], None]

CASES: dict[str, dict[str, Any]] = {}


def caffe_case(
    name: str,
    prototxt: str = "",
    inputs: Mapping[str, np.ndarray] | None = None,
    parameters: Mapping[str, Sequence[np.ndarray]] | None = None,
    kind: str = "net",
    files: Mapping[str, Content] | None = None,
    **settings: Any,
) -> str:
    """Register what Caffe shall compute (tests/caffe_oracle.py says what each kind reads); returns `name`."""
    assert name not in CASES, f"two cases are named {name}"
    content: dict[str, Any] = {"net.prototxt": prototxt, **(files or {})}
    content |= {f"inputs/{blob}.npy": array for blob, array in (inputs or {}).items()}
    for layer, blobs in (parameters or {}).items():
        content |= {f"parameters/{layer}.{i}.npy": blob for i, blob in enumerate(blobs)}
    CASES[name] = content | {"case.json": json.dumps({"kind": kind, "outputs": ["blobs"], **settings})}
    return name


def write_files(folder: Path, content: Mapping[str, Content]) -> None:
    """Write files under a folder."""
    for name, value in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(value):
            value(path)
        elif isinstance(value, np.ndarray):
            np.save(path, value, allow_pickle=False)
        else:
            path.write_bytes(value.encode() if isinstance(value, str) else value)


class CaffeResult:
    """What Caffe made of one case."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stderr = (path / "stderr").read_text(errors="replace")
        self.refused = (path / "status").read_text() != "0"

    def array(self, name: str) -> np.ndarray:
        """An array by its path without .npy, "blobs/pool1" for instance."""
        assert not self.refused, f"Caffe refused the case {self.path.name}: {self.stderr[-2000:]}"
        return np.load(self.path / f"{name}.npy", allow_pickle=False)

    def names(self, folder: str) -> list[str]:
        """The arrays of a folder."""
        return sorted(path.stem for path in (self.path / folder).glob("*.npy"))

    def json(self, name: str) -> Any:
        """A JSON value."""
        return json.loads((self.path / name).read_text())


@pytest.fixture(scope="session")
def caffe(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], CaffeResult]:
    """Case name to Caffe's result; fails where no container runs."""
    folder = tmp_path_factory.mktemp("caffe")
    results = folder / "results"
    results.mkdir()
    for writable in (folder, results):
        writable.chmod(0o777)  # under sudo the container runs as the user who called sudo
    for name, content in CASES.items():
        write_files(folder / "cases" / name, content)
    command = [PROJECT / "docker" / "run", "--threads", "1", "--read", folder / "cases", "--write", results]
    command += ["--", "python3", "tests/caffe_oracle.py", folder / "cases", results]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_FOR_ALL_CASES)
    if done.returncode:
        pytest.fail(f"Caffe did not run: {done.stderr.strip()[-2000:]}", pytrace=False)
    return lambda name: CaffeResult(results / name)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the container, so that `-m "not caffe"` leaves it out."""
    for item in items:
        if "caffe" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.caffe)


def relative_l2(found: np.ndarray, expected: np.ndarray) -> float:
    """|found - expected| / |expected|, both of one shape and finite."""
    assert found.shape == expected.shape
    assert np.isfinite(found).all() and np.isfinite(expected).all()
    difference = np.linalg.norm(found.astype(np.float64) - expected)
    return float(difference / max(float(np.linalg.norm(expected.astype(np.float64))), np.finfo(np.float64).tiny))


@contextmanager
def user_error(path: Path | str, says: str = "") -> Iterator[None]:
    """A block that must end in a `UserError` of one line that names the file and says `says`."""
    with pytest.raises(UserError) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message, message
    assert str(path) in message and says in message, message


def make_stage(
    folder: Path,
    name: str,
    values: Mapping[str, Mapping[str, Any]],
    earlier: Mapping[str, Mapping[str, Any]] | None = None,
    external: Mapping[str, Path] | None = None,
    prototxts: Mapping[str, str] | None = None,
) -> Stage:
    """A stage ready to run: `values` of the spec, `earlier` stages' outputs (arrays, else JSON), outside files."""
    run = RunFolder(folder)
    spec = {
        "values": {"run": {"seed": 1}, **values},
        "external": {key: {"path": str(path)} for key, path in (external or {}).items()},
    }
    write_files(folder, {"spec.json": json.dumps(spec)})
    write_files(folder / "prototxt", prototxts or {})
    for stage, outputs in (earlier or {}).items():
        writer = StageWriter(run, stage)
        for output, value in outputs.items():
            (writer.array if isinstance(value, np.ndarray) else writer.json)(output, value)
        writer.finish({"stage": stage})
    return Stage(name, run, run, None, StageWriter(run, name))
