"""What may import what, what must not be written, and what belongs together: read from the syntax trees."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from experiment.stages import STAGES

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "experiment",
    "prototxt",
    "caffe_impl",
    "torch_impl",
    "compare",
    "embedded",
    "fetch",
    "paper",
    "audit",
    "bench",
)
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
NUMERICS = {
    "numpy",
    "torch",
    "torchvision",
    "cv2",
    "scipy",
    "sklearn",
    "caffe",
    "h5py",
    "PIL",
    "libsvm",
    "svm",
    "svmutil",
}
DECISION = re.compile(r"\bD([0-9]+)\b")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def of(package: str) -> list[Path]:
    return [path for path in MODULES if path.is_relative_to(ROOT / package)]


def imports(path: Path) -> set[str]:
    """Every module that a file imports anywhere in it, by its full name; also through importlib with a constant."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(filter(None, [path.parent.name, base]))
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            found |= {part.value for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant)}
    return found


def tops(path: Path) -> set[str]:
    """The packages that a file imports from."""
    return {name.split(".")[0] for name in imports(path)}


def needed_in_the_container() -> list[Path]:
    """The Caffe side's modules and all of this project's that they import, directly or not."""
    found, waiting = set(), of("caffe_impl")
    while waiting:
        path = waiting.pop()
        found.add(path)
        for name in imports(path):
            candidate = ROOT / f"{name.replace('.', '/')}.py"
            if candidate in MODULES and candidate not in found:
                waiting.append(candidate)
    return sorted(found)


def project_files() -> list[Path]:
    """The files that are, or would be, committed; of an unpacked archive all files."""
    if not (ROOT / ".git").exists():
        return [path for path in ROOT.rglob("*") if path.is_file() and not path.is_relative_to(ROOT / ".venv")]
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("side", ["caffe_impl", "torch_impl"])
def test_a_side_has_one_module_a_stage_with_a_run_function(side):
    helpers = {"__init__", "__main__"}
    names = {path.stem for path in of(side)}
    assert set(STAGES) <= names
    for stage in STAGES:
        functions = {
            node.name: node for node in tree_of(ROOT / side / f"{stage}.py").body if isinstance(node, ast.FunctionDef)
        }
        assert "run" in functions, f"{side}/{stage}.py has no run(stage)"
        assert [argument.arg for argument in functions["run"].args.args] == ["stage"]
    for helper in names - set(STAGES) - helpers:
        assert "run" not in {getattr(node, "name", "") for node in tree_of(ROOT / side / f"{helper}.py").body}, helper


def test_the_sides_never_import_each_other():
    assert {name_of(path) for path in of("caffe_impl") if tops(path) & {"torch_impl", "torch", "torchvision"}} == set()
    assert {name_of(path) for path in of("torch_impl") if tops(path) & {"caffe_impl", "caffe"}} == set()
    assert of("caffe_impl") and of("torch_impl")


def test_no_stages_module_imports_anothers():
    """A stage's result depends on its own module and the helpers alone (experiment.pipeline.code_hashes)."""
    for side in ("caffe_impl", "torch_impl"):
        # What runs or times the stages imports them, so no stage may import that.
        over_stages = {f"{side}.__main__", f"{side}.speed", f"{side}.sharded"}
        for path in [path for path in of(side) if path.stem not in ("__main__", "speed", "sharded")]:
            others = {f"{side}.{stage}" for stage in STAGES if stage != path.stem} | over_stages
            assert not imports(path) & others, name_of(path)


def test_a_side_imports_of_the_project_only_itself_and_what_is_agreed():
    for side in ("caffe_impl", "torch_impl"):
        for path in of(side):
            assert tops(path) & set(PACKAGES) <= {side, "experiment"}, name_of(path)


def test_experiment_computes_nothing():
    allowed = {"artifacts.py": {"numpy"}, "stage_writer.py": {"numpy"}}
    for path in of("experiment"):
        assert tops(path) & NUMERICS <= allowed.get(path.name, set()), name_of(path)
        assert not tops(path) & {"caffe_impl", "torch_impl", "compare", "embedded"}, name_of(path)


def test_the_generator_of_nets_and_the_comparison_import_neither_side():
    for path in [*of("compare"), *of("prototxt")]:
        assert not tops(path) & {"caffe_impl", "torch_impl", "torch", "caffe", "embedded"}, name_of(path)


def test_fetching_imports_of_the_port_only_what_reads_and_writes_caffes_files():
    for path in of("fetch"):
        assert tops(path) & set(PACKAGES) <= {"fetch", "experiment", "torch_impl"}, name_of(path)
        used = {name for name in imports(path) if name.startswith("torch_impl.")}
        assert all(name.startswith("torch_impl.caffe_proto") for name in used), name_of(path)


@pytest.mark.parametrize("path", needed_in_the_container(), ids=name_of)
def test_what_runs_in_the_container_is_python_3_9(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, feature_version=(3, 9))
    assert not imports(path) & {"tomllib", "numpy.typing"}
    postponed = "__future__.annotations" in imports(path)
    for node in ast.walk(tree):
        where = f"{name_of(path)}:{getattr(node, 'lineno', '?')}"
        assert not isinstance(node, ast.Match), where
        if isinstance(node, ast.Call):
            called, keywords = ast.unparse(node.func).split(".")[-1], {keyword.arg for keyword in node.keywords}
            assert not (called == "zip" and "strict" in keywords), where
            assert not (called == "dataclass" and keywords & {"slots", "kw_only"}), where
            assert called not in ("pairwise", "bit_count", "aiter", "anext"), where
        annotations = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        for annotation in filter(None, annotations if not postponed else []):
            unions = [part for part in ast.walk(annotation) if isinstance(part, ast.BinOp)]
            assert not unions, f"{where}: X | Y as a type needs Python 3.10"


def test_the_container_needs_what_both_sides_agreed_on():
    names = {name_of(path) for path in needed_in_the_container()}
    assert {
        "experiment/artifacts.py",
        "experiment/pipeline.py",
        "experiment/errors.py",
        "experiment/stages.py",
    } <= names
    assert "experiment/spec.py" not in names and not any(name.startswith("torch_impl") for name in names)


def public(body: list[ast.stmt], prefix: str = "") -> list[tuple[str, ast.AST]]:
    """Public functions, classes and their public methods."""
    found: list[tuple[str, ast.AST]] = []
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            found.append((prefix + node.name, node))
            if isinstance(node, ast.ClassDef):
                found += public(node.body, f"{node.name}.")
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_public_function_and_module_has_a_docstring(path):
    tree = tree_of(path)
    bare = [name for name, node in public(tree.body) if not ast.get_docstring(node)]
    assert bare == []
    assert ast.get_docstring(tree) or not tree.body


def test_the_ledgers_decisions_and_the_codes_are_the_same():
    rows = re.findall(r"(?m)^\| D([0-9]+) \|", (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8"))
    assert [int(row) for row in rows] == list(range(1, len(rows) + 1))  # each once, none left out
    used: dict[int, str] = {}
    for path in [*MODULES, *(ROOT / "experiment" / "profiles").glob("*.toml")]:
        for number in DECISION.findall(path.read_text(encoding="utf-8")):
            used[int(number)] = name_of(path)
    in_ledger = {int(row) for row in rows}
    assert {number: used[number] for number in used.keys() - in_ledger} == {}, "not in the ledger"
    assert in_ledger - used.keys() == set(), "in the ledger only"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_runs_what_it_reads(path):
    assert not tops(path) & {"pickle", "joblib", "marshal", "shelve", "dill"}
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.Call):
            continue
        where, called = f"{name_of(path)}:{node.lineno}", ast.unparse(node.func)
        assert called not in ("eval", "exec", "compile", "os.system", "os.popen", "torch.save"), where
        if called == "torch.load":  # a restricted unpickler, which builds tensors alone
            only = [keyword.value for keyword in node.keywords if keyword.arg == "weights_only"]
            assert only and isinstance(only[0], ast.Constant) and only[0].value is True, where
        for keyword in node.keywords:
            if keyword.arg in ("shell", "allow_pickle"):
                assert isinstance(keyword.value, ast.Constant) and keyword.value.value is False, where


def test_no_file_names_a_folder_of_one_machine():
    folder = re.compile(rb"(?<![\w.$}/-])/(?:work|home|root|Users)\b[\w./-]*")
    found = {}
    for path in project_files():
        data = path.read_bytes()
        if b"\0" not in data and (hits := folder.findall(data)):
            found[name_of(path)] = [hit.decode() for hit in hits]
    assert found == {}
