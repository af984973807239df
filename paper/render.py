"""All of the paper's tables and figures of finished runs: `python -m paper.render NAME=RUN... [--out FOLDER]`.

Writes FOLDER/<NAME>/table1.*, table2.*, figure1.svg, figure3.svg and figures.*, for every run, and trains what is
missing of the grid.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from experiment.errors import UserError, run_command
from paper import figures, grid, grid_page, table1
from paper.published import read_published

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"


def render(name: str, run: Path, out: Path, n1s: Sequence[int], n2s: Sequence[int], threads: int = 0) -> int:
    """Write everything of one run; returns how many combinations of the grid could not be trained."""
    table1.write(run, out, name)
    figures.write(run, out, name)  # before the grid, which may take hours
    found = grid.grid(run, n1s, n2s, threads)
    grid_page.write(found, out, name)
    return found.failed


def main() -> int:
    """The command line; returns the exit code: 1 where a combination that can be could not be trained."""
    published = read_published()
    parser = argparse.ArgumentParser(prog="python -m paper.render", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN", help="a run's folder, and what its results are called")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where to write (default: docs/results)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    arguments = parser.parse_args()
    named: dict[str, Path] = {}
    for item in arguments.runs:
        name, _, run = item.partition("=")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or not run or name in named:
            raise UserError(f"{item} is not NAME=RUN, as in embedded=runs/embedded, with a name of its own")
        named[name] = Path(run).absolute()
    failed = 0
    for name, run in named.items():
        failed += render(name, run, arguments.out / name, published.n1, published.n2, arguments.threads)
        print(f"{arguments.out / name}: table1, table2, figures", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    run_command(main)
