"""`python -m bench [--only WORK]`: time the port beside its peers; all works go into bench/results.json and .md."""

import argparse
from pathlib import Path
from types import ModuleType

from bench import growth, jpeg_to_features, kmeans, resnet101, svms, training
from bench.measure import ROUNDS, Bench, by_name, installed, table
from experiment.errors import UserError, run_command
from torch_impl import engines

RESULTS = Path(__file__).with_name("results.json")
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "opencv-python", "libsvm-official", "openvino", "onnxruntime")
# Name to the module whose `run(bench)` adds that work's rows, in their order.
WORKS: dict[str, ModuleType] = {
    "resnet101": resnet101,
    "jpeg-to-features": jpeg_to_features,
    "training": training,
    "kmeans": kmeans,
    "svms": svms,
    "growth": growth,
}


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=list(WORKS), action="append", default=[], help="just this work (repeatable)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"how often each is timed (default: {ROUNDS})")
    told = "where to write the results, and a table beside them (default: bench/results.json; with --only nowhere)"
    parser.add_argument("--json", type=Path, help=told)
    arguments = parser.parse_args()
    path = arguments.json or (None if arguments.only else RESULTS)
    if arguments.rounds < 1:
        raise UserError("--rounds must be a number above 0")
    if path is not None and not path.parent.is_dir():
        raise UserError(f"--json {path}: there is no folder {path.parent}")
    gpu = {} if engines.missing(engines.CUDA) else engines.choose(engines.CUDA)
    versions = installed(*PACKAGES) | {name: told for name, told in gpu.items() if name != "engine"}
    bench = Bench(arguments.rounds, versions=versions)
    try:
        for module in by_name(WORKS, arguments.only):
            module.run(bench)
    finally:  # what is measured is told where a later work is stopped
        print(table(bench.rows, bench.left_out), end="")
    if path is not None:
        bench.write(path)
    return 0


if __name__ == "__main__":
    run_command(main)
