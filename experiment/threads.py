"""Print the least number of threads that no finished stage of a run had: `python -m experiment.threads RUN`."""

import argparse
from pathlib import Path

from experiment.artifacts import RunFolder
from experiment.errors import run_command
from experiment.stages import STAGES


def other_threads(run: RunFolder) -> int:
    """The least number of threads that no finished stage of a run had: what a run is varied with."""
    manifests = [run.manifest(stage) for stage in STAGES]
    had = {manifest["threads"] for manifest in manifests if manifest is not None}
    return next(n for n in range(1, len(had) + 2) if n not in had)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m experiment.threads", description=__doc__)
    parser.add_argument("run", type=Path)
    print(other_threads(RunFolder(parser.parse_args().run)))
    return 0


if __name__ == "__main__":
    run_command(main)
