"""Which stages a change of one of the port's modules can touch, from the syntax tree: never from what is expected."""

import ast
from functools import cache

from experiment.stages import STAGES
from tests.selftest.catalogue import ROOT

PORT = "torch_impl"


def touched_stages(module: str) -> list[str]:
    """The stages whose module imports `module` (directly or not) or is it, in order; all of them where it is ""."""
    return [stage for stage in STAGES if not module or module in needed(f"{PORT}.{stage}")]


@cache
def needed(module: str) -> frozenset[str]:
    """A module of the port and all of the port's modules that it imports, directly or not."""
    tree = ast.parse(ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8"))
    found = {module}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == PORT:
            names = [f"{PORT}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            if name.startswith(f"{PORT}."):
                found |= needed(name)
    return frozenset(found)
