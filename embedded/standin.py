"""Stand-ins for what the paper's profile needs and cannot always be had: `python -m embedded.standin LISTS OUT_DIR`.

LISTS is a folder of VOC2007's real lists (ImageSets/Main). OUT_DIR gets a devkit with these ids, splits and labels,
whose JPEGs are drawn (of VOC2007's sizes, an object of each class that an image is listed for), and a caffemodel for
ResNet-101 with seeded weights. With them `PROFILE=paper` can be rehearsed at its size. Figures made from them say how
long things take and how close two sides are, and nothing about the paper's.
"""

import argparse
import shutil
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from embedded.devkit import JPEG_QUALITY, draw_background, draw_object
from experiment.artifacts import sha256_file
from experiment.errors import UserError, run_command
from experiment.progress import progress
from experiment.stages import SPLITS
from prototxt.generate import resnet101
from torch_impl.caffe_net import CaffeNet
from torch_impl.caffe_proto import write_caffemodel
from torch_impl.resnet101 import draw_parameters

SIZES = ((375, 500), (500, 375), (333, 500), (334, 500), (500, 333))  # height, width: the commonest of VOC2007
SHARES = (0.6, 0.2, 0.1, 0.05, 0.05)
WEIGHTS = "ResNet-101-seeded.caffemodel"
SEED = 20190828


def read_labels(lists: Path) -> tuple[list[str], dict[str, dict[str, int]]]:
    """The class names (sorted), and image id to {class: 1 or 0 (difficult)} of both splits. Raises `UserError`."""
    if not lists.is_dir():
        raise UserError(f"IMAGESETS={lists} is not a folder: name the ImageSets/Main of a VOC2007 devkit")
    names = sorted(path.name.removesuffix("_trainval.txt") for path in lists.glob("*_trainval.txt"))
    shown: dict[str, dict[str, int]] = {}
    try:
        for split in SPLITS:
            shown |= {line.strip(): {} for line in (lists / f"{split}.txt").read_text().splitlines() if line.strip()}
        for name, split in product(names, SPLITS):
            for line in (lists / f"{name}_{split}.txt").read_text().splitlines():
                image_id, label = line.split()
                if label != "-1":
                    shown[image_id][name] = int(label)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{lists} does not hold VOC2007's lists ({error}): name the devkit's ImageSets/Main") from None
    if not names or not all(Path(image_id).name == image_id for image_id in shown):
        raise UserError(f"{lists} does not hold VOC2007's lists: name the devkit's ImageSets/Main")
    return names, shown


def draw(rng: np.random.Generator, kinds: list[int]) -> np.ndarray:
    """An image, (h, w, 3) uint8 BGR, with an object of each kind."""
    height, width = SIZES[rng.choice(len(SIZES), p=SHARES)]
    canvas = cv2.resize(draw_background(rng, height, width), (width, height))
    owner = np.full((height, width), -1)
    objects: list[dict] = []
    for kind in kinds:
        draw_object(rng, canvas, owner, objects, kind)
    canvas += rng.uniform(2, 5) * rng.standard_normal((height, width, 1), np.float32)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def write_devkit(lists: Path, root: Path) -> None:
    """Copy the lists to `root`/ImageSets/Main and draw every image that they name."""
    names, shown = read_labels(lists)
    (root / "ImageSets").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    shutil.copytree(lists, root / "ImageSets" / "Main")
    for image_id, labels in progress(shown.items(), len(shown), "images", "stand-in"):
        kinds = [names.index(name) for name in labels]
        image = draw(np.random.default_rng([SEED, int.from_bytes(image_id.encode(), "big")]), kinds)
        jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        (root / "JPEGImages" / f"{image_id}.jpg").write_bytes(jpeg.tobytes())


def write_weights(path: Path, folder: Path) -> None:
    """Write a caffemodel for ResNet-101 with seeded weights; `folder` is for the net's prototxt meanwhile."""
    prototxt = folder / "resnet101.prototxt"
    prototxt.write_text(resnet101())
    net = CaffeNet(prototxt)
    types = {layer.name: layer.type for layer in net.layers}
    parameters = draw_parameters(net, SEED)
    write_caffemodel(path, "ResNet-101", [(name, types[name], blobs) for name, blobs in parameters.items()])


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m embedded.standin", description=__doc__.partition("\n")[0])
    parser.add_argument("lists", type=Path)
    parser.add_argument("out_dir", type=Path)
    arguments = parser.parse_args()
    out_dir = arguments.out_dir.resolve()
    if out_dir.exists():
        print(f"{out_dir}: already there, and left as it is; delete it to draw it anew")
    else:
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{out_dir.name}-", dir=out_dir.parent) as scratch:
            fresh = Path(scratch, "fresh")
            write_devkit(arguments.lists, fresh / "VOC2007")
            write_weights(fresh / WEIGHTS, Path(scratch))
            fresh.rename(out_dir)
    digest = sha256_file(out_dir / WEIGHTS)
    print("To rehearse the paper's profile (with LIMIT=500, say, on the first 500 images of each split alone):")
    paths = f"DEVKIT={out_dir} WEIGHTS={out_dir / WEIGHTS}"
    print(f"make caffe-reproduce torch-reproduce PROFILE=paper {paths} SET=backbone.weights_sha256={digest}")
    return 0


if __name__ == "__main__":
    run_command(main)
