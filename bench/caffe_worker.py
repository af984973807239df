"""Runs inside the container: a Caffe net that computes one batch for each line that it reads.

`python3 bench/caffe_worker.py PROTOTXT CAFFEMODEL IMAGES BLOB OUT`: IMAGES is (n, 3, h, w) float32 as .npy. A line
"ready <version>" is written first, and "done" after each forward pass; its blob goes to OUT.
"""

import subprocess
import sys

import caffe
import numpy as np

prototxt, caffemodel, images, blob, out = sys.argv[1:]
caffe.set_mode_cpu()
net = caffe.Net(prototxt, caffemodel, caffe.TEST)
data = np.load(images)
net.blobs["data"].reshape(*data.shape)
net.reshape()
version = subprocess.check_output(["dpkg-query", "-W", "-f=${Version}", "python3-caffe"]).decode()
print("ready", version, flush=True)
for _ in sys.stdin:
    net.blobs["data"].data[...] = data
    net.forward(end=blob)
    np.save(out, net.blobs[blob].data)
    print("done", flush=True)
