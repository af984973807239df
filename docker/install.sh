#!/bin/bash
# Installs packages.txt into the Debian 11 system this runs in, then proves which BLAS Caffe computes with.
# The Dockerfile and the chroot of docker/run both call it, so both hold the same versions.
#
#   install.sh [MIRROR]     as root, inside the container
set -euo pipefail

mirror=${1:-}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
release=bullseye
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

moved="apt finds no Debian 11 ($release) packages. Is this machine online? If it is, $release may have moved to \
Debian's archive: set DEBIAN_MIRROR=URL to a mirror that still has it."

# One suite only. Its last point release is final, so every later build gets the same files; the security suite
# of a base image would change them, and goes away before the main suite does.
if [[ -z $mirror ]]; then
    mirror=$(awk -v suite=$release '$1 == "deb" && $3 == suite { print $2; exit }' /etc/apt/sources.list)
fi
[[ -n $mirror ]] || fail "the base image names no mirror for $release: set DEBIAN_MIRROR=URL."
rm -f /etc/apt/sources.list.d/*
echo "deb $mirror $release main" > /etc/apt/sources.list
# A base image can be ahead of the main suite by its security updates. Priority above 1000 takes them back, without
# which packages that want the same version (perl and perl-base) could not be installed.
printf 'Package: *\nPin: release n=%s\nPin-Priority: 1001\n' $release > /etc/apt/preferences.d/one-suite

apt=(apt-get -q -y -o Acquire::Retries=3)
"${apt[@]}" update || fail "$moved"
mapfile -t packages < <(grep -Ev '^(#|$)' "$here/packages.txt")
apt-cache show "${packages[@]}" > /dev/null || fail "$moved"
"${apt[@]}" dist-upgrade --allow-downgrades --no-install-recommends
"${apt[@]}" install --allow-downgrades --no-install-recommends "${packages[@]}"
apt-get clean
rm -rf /var/lib/apt/lists/*

# Caffe asks only for "a BLAS", and Debian's choice without libopenblas0 is the ten times slower reference BLAS.
# So run a matrix product inside Caffe and look at what the process has mapped.
cd /tmp
GLOG_minloglevel=2 python3 - << 'PYTHON'
import re
import sys

import caffe
import numpy as np

with open("/tmp/blas.prototxt", "w") as net_file:
    net_file.write(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 3 dim: 64 } } }'
        'layer { name: "y" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 5 '
        'bias_term: false } }'
    )
net = caffe.Net("/tmp/blas.prototxt", caffe.TEST)
rows = np.arange(3 * 64, dtype=np.float32).reshape(3, 64)
weights = np.arange(5 * 64, dtype=np.float32).reshape(5, 64) % 7
net.params["y"][0].data[...] = weights
net.blobs["x"].data[...] = rows
net.forward()
expected = (rows[:, None, :].astype(np.int64) * weights.astype(np.int64)).sum(axis=2)
if not np.array_equal(net.blobs["y"].data, expected):
    sys.exit("install.sh: Caffe's InnerProduct is wrong for small whole numbers.")

mapped = {line.split()[-1] for line in open("/proc/self/maps") if "/" in line}
libraries = sorted(path for path in mapped if re.match(r"lib\w*(blas|lapack|atlas|mkl)", path.rsplit("/", 1)[1]))
strangers = [path for path in libraries if "openblas" not in path]
print("BLAS libraries that Caffe maps:", *libraries)
if strangers or not any("libopenblas" in path for path in libraries):
    sys.exit("install.sh: Caffe must compute with OpenBLAS only, but it maps: " + (" ".join(libraries) or "none"))
PYTHON
rm -f /tmp/blas.prototxt
