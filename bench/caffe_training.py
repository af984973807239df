"""Runs inside the container: Caffe's solver, which makes one iteration for each line that it reads.

`python3 bench/caffe_training.py FOLDER`: FOLDER has the prototxts, features.npy, labels.npy and the first weights by
name. A line "ready <version>" is written first, and "done <loss>" after each iteration.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

from caffe_impl.transfer import PARAMETERS, Training

folder = Path(sys.argv[1])
initial = {name: np.load(str(folder / f"{name}.npy")) for name in PARAMETERS}
features, labels = (np.load(str(folder / f"{name}.npy")) for name in ("features", "labels"))
training = Training(folder, features, labels, 1, initial)
version = subprocess.check_output(["dpkg-query", "-W", "-f=${Version}", "python3-caffe"]).decode()
print("ready", version, flush=True)
for _ in sys.stdin:
    print("done", repr(training.step()), flush=True)
