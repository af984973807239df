"""Generate the embedded profile's data set: a devkit in VOC2007's format, drawn from a seed.

    python -m embedded.devkit OUT_DIR [--seed 20190828] [--trainval 400] [--test 400]

Each image shows one to four flat objects on a cloudy background. A class is a silhouette, which several classes
share, filled with a texture of its own, whose period is 5 to 10 pixels once the image is 112x112. Shrinking to
16x16 destroys the texture; the silhouette and a faint leaning of each class to one hue are all that is left.
"""

import argparse
import hashlib
import json
import os
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from embedded.textures import CLASSES, SILHOUETTES
from experiment.errors import UserError, run_command
from experiment.progress import progress

GENERATOR, VERSION = "embedded.devkit", 1  # raise the version with any change to what is drawn
RECORD = "devkit.json"
FINE_SIDE = 112  # the image side, in pixels, at which texture periods are set
PERIOD = (5.0, 10.0)  # pixels of an image of FINE_SIDE
COUNTS_P = (0.3, 0.4, 0.2, 0.1)  # shares of the images with 1, 2, 3 and 4 objects
SIZE, SMALL_SIZE = (0.38, 0.6), (0.11, 0.18)  # geometric mean of an object's sides over that of the image's
SMALL_SHARE, CUT_SHARE = 0.1, 0.12  # of the objects: drawn small, allowed to leave the frame
CONTRAST = (60.0, 140.0)  # grey levels between a texture's two colours
TINT = 40.0  # grey levels by which a class leans to its hue; colours spread by 30 around that
DIFFICULT_SIDE, DIFFICULT_SEEN = 0.2, 0.5  # difficult: smaller than this, or less of it seen
LEAST_SEEN = 0.2  # an object that would leave less than this of an earlier one is not drawn
JPEG_QUALITY = 90


def make_devkit(out_dir: Path, seed: int, trainval: int, test: int) -> str:
    """Write the devkit to `out_dir`, or leave it if it is there already; return a line that says which it was.

    Image n depends on (seed, n) alone. Images 1 to `trainval` are trainval (odd ones train, even ones val), the next
    `test` are test. `out_dir`/devkit.json, written last, says what the devkit was made from and its files' sha256.

    Raises UserError where `out_dir` holds something that this generator did not make.
    """
    wanted = {"generator": GENERATOR, "version": VERSION, "seed": seed, "trainval": trainval, "test": test}
    what = f"{trainval} trainval and {test} test images of seed {seed}"
    replaces = out_dir.is_file() or any(out_dir.glob("*"))
    if replaces and read_record(out_dir) == wanted | digests(out_dir):
        return f"{out_dir}: already there, {what}"
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out_dir.name}-", dir=out_dir.parent) as scratch:
        fresh = Path(scratch, "fresh")
        write_voc(fresh / "VOC2007", seed, trainval, test)
        Path(fresh, RECORD).write_text(json.dumps(wanted | digests(fresh), indent=2) + "\n")
        if replaces:
            os.rename(out_dir, Path(scratch, "old"))
        os.rename(fresh, out_dir)
    return f"{out_dir}: {what}"


def read_record(out_dir: Path) -> dict:
    """The record of an earlier devkit in `out_dir`; UserError where there is none."""
    try:
        record = json.loads(Path(out_dir, RECORD).read_text())
        if record["generator"] == GENERATOR:
            return record
    except (OSError, ValueError, LookupError, TypeError):
        pass  # no file, no JSON, no dict, another dict
    raise UserError(f"{out_dir} is not a generated devkit (no {RECORD} of one): name another folder, or remove it")


def digests(out_dir: Path) -> dict[str, str]:
    """sha256 over the JPEGs, and over the annotations and lists, in the order of their names."""
    jpegs, texts = hashlib.sha256(), hashlib.sha256()
    for path in sorted(Path(out_dir, "VOC2007").rglob("*.*")):
        (jpegs if path.suffix == ".jpg" else texts).update(path.name.encode() + b"\0" + path.read_bytes())
    return {"jpeg_sha256": jpegs.hexdigest(), "text_sha256": texts.hexdigest()}


def write_voc(root: Path, seed: int, trainval: int, test: int) -> None:
    """Draw all images and write them, their annotations and the lists under `root`."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        Path(root, folder).mkdir(parents=True)
    labels: dict[str, dict[str, int]] = {}  # image name: {class: 1, or 0 where it is only difficult}
    numbers = range(1, trainval + test + 1)
    for number in progress(numbers, total=len(numbers), unit="images", label="devkit"):
        name = f"{number:06d}"
        image, objects = draw_image(seed, number)
        jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        Path(root, "JPEGImages", f"{name}.jpg").write_bytes(jpeg.tobytes())
        Path(root, "Annotations", f"{name}.xml").write_text(annotation(name, image.shape, objects))
        easy = {item["name"] for item in objects if not item["difficult"]}
        labels[name] = {item["name"]: int(item["name"] in easy) for item in objects}
    names = list(labels)
    lists = {"trainval": names[:trainval], "test": names[trainval:]}
    for split, kind in product(("trainval", "test"), CLASSES):
        lists[f"{kind}_{split}"] = [f"{name} {labels[name].get(kind, -1):2d}" for name in lists[split]]
    lists |= {"train": lists["trainval"][0::2], "val": lists["trainval"][1::2]}
    for list_name, lines in lists.items():
        Path(root, "ImageSets/Main", f"{list_name}.txt").write_text("".join(f"{line}\n" for line in lines))


def annotation(name: str, shape: tuple[int, ...], objects: list[dict]) -> str:
    """The XML text of one image's annotation, as VOC2007 has it; boxes are 1-based and inclusive."""
    size = "".join(f"<{tag}>{n}</{tag}>" for tag, n in zip(("height", "width", "depth"), shape, strict=True))
    xml = f"<annotation>\n<folder>VOC2007</folder>\n<filename>{name}.jpg</filename>\n<size>{size}</size>\n"
    for item in objects:
        fields = f"<name>{item['name']}</name><pose>Unspecified</pose>"
        fields += "".join(f"<{tag}>{item[tag]}</{tag}>" for tag in ("truncated", "difficult"))
        box = "".join(f"<{tag}>{n}</{tag}>" for tag, n in item["box"].items())
        xml += f"<object>{fields}<bndbox>{box}</bndbox></object>\n"
    return xml + "</annotation>\n"


def draw_image(seed: int, number: int) -> tuple[np.ndarray, list[dict]]:
    """Image `number` of `seed`: (h, w, 3) uint8 BGR, and its objects as `annotation` takes them."""
    rng = np.random.default_rng([seed, number])
    longer = int(np.clip(rng.normal(400, 90), 200, 500))
    shorter = int(longer * rng.choice([0.67, 0.75, 0.75, 0.9]))
    height, width = (shorter, longer) if rng.random() < 0.7 else (longer, shorter)
    canvas = draw_background(rng, height, width)
    owner = np.full((height, width), -1)  # which object is seen at each pixel
    objects: list[dict] = []
    for _ in range(1 + rng.choice(len(COUNTS_P), p=COUNTS_P)):
        draw_object(rng, canvas, owner, objects)
    canvas += rng.uniform(2, 5) * rng.standard_normal((height, width, 1), np.float32)
    for index, item in enumerate(objects):
        y, x = np.nonzero(owner == index)
        item["box"] = {"xmin": x.min() + 1, "ymin": y.min() + 1, "xmax": x.max() + 1, "ymax": y.max() + 1}
        item["difficult"] = int(item["side"] < DIFFICULT_SIDE or len(x) < DIFFICULT_SEEN * item["area"])
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8), objects


def draw_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Cloudy noise whose amplitude falls with frequency: (height, width, 3) float32."""
    canvas = np.zeros((height // 2, width // 2, 3), np.float32)  # half the size: nothing in it is finer
    roughness = rng.uniform(0.35, 0.75)
    for octave in range(1, 7):
        grey, colour = (rng.standard_normal((2**octave, 2**octave, n), np.float32) for n in (1, 3))
        grid = roughness**octave * (grey + 0.35 * colour)
        canvas += cv2.resize(grid, (width // 2, height // 2), interpolation=cv2.INTER_CUBIC)
    canvas = canvas * (rng.uniform(10, 40) / canvas.std()) + rng.uniform(70, 185, 3).astype(np.float32)
    return cv2.resize(canvas, (width, height))


def draw_object(
    rng: np.random.Generator, canvas: np.ndarray, owner: np.ndarray, objects: list[dict], kind: int | None = None
) -> None:
    """Draw an object of the class `kind` (else a random one) on `canvas`, mark its pixels in `owner`, append it to
    `objects`."""
    frame = np.array(owner.shape[::-1])  # width, height
    scale = frame.prod() ** 0.5
    kind = int(rng.integers(len(CLASSES))) if kind is None else kind
    name, (silhouette, texture) = list(CLASSES.items())[kind]
    side = rng.uniform(*(SMALL_SIZE if rng.random() < SMALL_SHARE else SIZE))
    half = np.minimum(0.5 * side * scale * np.exp(rng.uniform(-0.25, 0.25) * np.array([1, -1])), 0.45 * frame)
    margin = half * (rng.uniform(0, 0.5) if rng.random() < CUT_SHARE else 1)
    spots = [rng.uniform(margin, frame - margin) for _ in range(6)]
    centre = max(spots, key=lambda spot: min((np.hypot(*(spot - item["centre"])) for item in objects), default=0))
    angle = np.deg2rad(rng.uniform(-12, 12))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    reach = abs(turn) @ half + 1
    x0, y0 = np.maximum(centre - reach, 0).astype(int)
    x1, y1 = np.minimum(centre + reach + 1, frame).astype(int)
    place = slice(y0, y1), slice(x0, x1)

    down, across = np.mgrid[place]
    u, v = np.tensordot(turn, [across - centre[0], down - centre[1]], 1)  # pixels along the object's own axes
    mask = np.clip(0.5 + (1 - SILHOUETTES[silhouette](u / half[0], v / half[1])) * half.min(), 0, 1)
    period = rng.uniform(*PERIOD) * scale / FINE_SIDE
    shift = rng.uniform(-0.5, 0.5, 2)
    share = texture(u / period + shift[0], v / period + shift[1], rng)[..., None]
    step = rng.choice([-1, 1]) * rng.uniform(*CONTRAST) * rng.uniform(0.6, 1, 3)
    lean = TINT * np.cos(2 * np.pi * (np.arange(3) / 3 + 7 * kind / len(CLASSES)))
    paint = rng.uniform(75, 180, 3) + lean + (share - 0.5) * step + rng.normal(0, 15) * (v / half[1])[..., None]

    covers = mask > 0.5
    for index, item in enumerate(objects):
        left_over = np.count_nonzero(owner == index) - np.count_nonzero(owner[place][covers] == index)
        if left_over < LEAST_SEEN * item["area"]:
            return
    owner[place][covers] = len(objects)
    canvas[place] += mask[..., None] * (paint - canvas[place])
    y, x = np.mgrid[-1:1:100j, -1:1:100j]
    area = 4 * half.prod() * np.mean(SILHOUETTES[silhouette](x, y) <= 1)  # in pixels, in or out of the frame
    truncated = int(np.count_nonzero(covers) < 0.95 * area)
    objects.append({"name": name, "truncated": truncated, "centre": centre, "side": side, "area": area})


def main() -> int:
    """Parse the command line and make the devkit."""
    parser = argparse.ArgumentParser(description="Generate a devkit in VOC2007's format.")
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR")
    for name, default in (("seed", 20190828), ("trainval", 400), ("test", 400)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    if min(options.seed, options.trainval - 1, options.test - 1) < 0:
        raise UserError("--seed must be 0 or more, --trainval and --test 1 or more")
    try:
        print(make_devkit(options.out_dir.resolve(), options.seed, options.trainval, options.test))
    except OSError as error:
        raise UserError(f"{options.out_dir} cannot be written ({error}): name another folder, or make room") from error
    return 0


if __name__ == "__main__":
    run_command(main)
