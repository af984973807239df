"""`python3 -m caffe_impl RUN [...]`: run the literal side's stages.

The libraries read their thread counts, and Caffe its log level, when they are loaded. So the environment is set
first, and everything else is imported after.
"""

import argparse
import functools
import importlib
import os
import platform
import subprocess
from typing import Dict

PACKAGES = {"caffe": "python3-caffe", "libsvm": "libsvm3", "openblas": "libopenblas0-pthread"}
LIBRARIES = {"numpy": "numpy", "scipy": "scipy", "scikit-learn": "sklearn", "opencv": "cv2", "h5py": "h5py",
             "pillow": "PIL"}  # fmt: skip
CAFFE_LOG_LEVEL = "2"  # errors only


def set_environment() -> None:
    """Caffe's log level, and `--threads N` for OpenBLAS and OpenMP. To be called before numpy is imported."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--threads", type=int, default=0)
    try:
        threads = parser.parse_known_args()[0].threads
    except SystemExit:
        threads = 0  # the command line's own parser says what is wrong with it
    os.environ.update({"GLOG_minloglevel": CAFFE_LOG_LEVEL})
    if threads > 0:
        os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(threads)


@functools.lru_cache(maxsize=None)
def package_version(package: str) -> str:
    """The version of an installed Debian package, "absent" where it is not installed."""
    found = subprocess.run(["dpkg-query", "-W", "-f=${Version}", package], capture_output=True, text=True, check=False)
    return found.stdout if found.returncode == 0 else "absent"


def mapped_blas() -> str:
    """The BLAS libraries that this process has really mapped, Caffe loaded; joined by a blank."""
    importlib.import_module("caffe")
    with open("/proc/self/maps") as maps:
        files = {line.split()[-1] for line in maps if line.rpartition("/")[2].startswith(("libblas", "libopenblas"))}
    return " ".join(sorted(files))


def versions() -> Dict[str, str]:
    """What computes on this side: name to version, and the BLAS that is in use."""
    return {
        "python": platform.python_version(),
        **{name: str(importlib.import_module(module).__version__) for name, module in LIBRARIES.items()},
        **{name: package_version(package) for name, package in PACKAGES.items()},
        "blas": mapped_blas(),
    }


def main() -> int:
    """The command line; see `experiment.pipeline.main`."""
    from experiment import pipeline
    from experiment.stages import STAGES

    modules = {name: importlib.import_module(f"caffe_impl.{name}") for name in STAGES}
    speed = importlib.import_module("caffe_impl.speed")
    return pipeline.main("caffe", modules, versions, measure=speed.seconds_of_stages)


if __name__ == "__main__":
    set_environment()
    from experiment.errors import run_command

    run_command(main)
