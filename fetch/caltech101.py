"""Get Caltech-101 and lay it out as two stand-ins for VOC2007 and for ImageNet (host only).

    python -m fetch.caltech101 TARGET

TARGET/caltech20-voc is a devkit of 20 classes in VOC2007's format (pass it as DEVKIT=), TARGET/caltech80-pretrain
the photographs of the 80 other classes, one folder each (pass it as PHOTOGRAPHS=). The archive (137 MB) stays in
TARGET, where it is not fetched again; it can be deleted.
"""

import argparse
import os
import shutil
import sys
from itertools import product
from pathlib import Path

from PIL import Image

from experiment.errors import UserError, run_command
from experiment.progress import progress
from fetch.download import NoSource, by_hand, download
from fetch.folder import held, scratch
from fetch.unpack import unpack

ARCHIVE = "caltech-101.zip"
SOURCES = (f"https://data.caltech.edu/records/mzrjq-6wc02/files/{ARCHIVE}",)
# Size and sha256 as TensorFlow Datasets has them (datasets/caltech101/checksums.tsv), md5 as R's torchvision has it
# (mlverse/torchvision, R/dataset-caltech.R). CC BY 4.0.
SIZE = 137_414_764
DIGESTS = {
    "sha256": "331234750fc7f77520e50d9565e8b6907b03565e30320da1401130db08c61f91",
    "md5": "3138e1922a9193bfa496528edbbc45d0",
}
PHOTOGRAPHS_ARCHIVE = "101_ObjectCategories.tar.gz"  # inside the other
LIMIT_BYTES = 500 * 10**6  # for each of the two unpacked

DEVKIT, PRETRAINING = "caltech20-voc", "caltech80-pretrain"
# The devkit's classes, in the order in which their photographs take ids.
CLASSES = (
    *("airplanes", "bonsai", "butterfly", "car_side", "chair", "chandelier", "dalmatian", "elephant", "Faces"),
    *("grand_piano", "helicopter", "ibis", "kangaroo", "ketch", "laptop", "Leopards", "llama", "Motorbikes"),
    *("starfish", "sunflower"),
)
MOST_PER_CLASS = 100
LEFT_OUT = {"BACKGROUND_Google", "Faces_easy"}  # no class, and the photographs of Faces once more

ANNOTATION = """\
<annotation>
	<folder>VOC2007</folder>
	<filename>{name}.jpg</filename>
	<source>
		<database>Caltech-101</database>
		<image>{original}</image>
	</source>
	<size>
		<width>{width}</width>
		<height>{height}</height>
		<depth>{depth}</depth>
	</size>
	<segmented>0</segmented>
	<object>
		<name>{kind}</name>
		<pose>Unspecified</pose>
		<truncated>0</truncated>
		<difficult>0</difficult>
		<bndbox>
			<xmin>1</xmin>
			<ymin>1</ymin>
			<xmax>{width}</xmax>
			<ymax>{height}</ymax>
		</bndbox>
	</object>
</annotation>
"""


def get_caltech101(target: Path) -> Path:
    """Download, unpack and lay out Caltech-101; both folders appear in `target` only when they are done.

    Folders that are there are kept as they are. Raises `UserError` for what the user can mend; where no address gave
    the archive, stderr says how it can be had by hand.
    """
    with held(target) as folder, scratch(folder / ".unpacked") as work:
        wanted = [name for name in (DEVKIT, PRETRAINING) if not (folder / name).exists()]
        if not wanted:
            return folder
        archive = (SOURCES, folder / ARCHIVE, SIZE, DIGESTS)
        try:
            download(*archive)
        except NoSource:
            print("\n".join(by_hand(*archive)), file=sys.stderr)
            raise
        unpack([folder / ARCHIVE], work / "record", LIMIT_BYTES)
        found = sorted((work / "record").rglob(PHOTOGRAPHS_ARCHIVE))
        if not found:
            raise UserError(f"{folder / ARCHIVE} holds no {PHOTOGRAPHS_ARCHIVE}: delete it and run again")
        unpack(found[:1], work / "photographs", LIMIT_BYTES)
        categories = work / "photographs" / PHOTOGRAPHS_ARCHIVE.removesuffix(".tar.gz")
        lay_out_devkit(categories, work / DEVKIT)
        lay_out_pretraining(categories, work / PRETRAINING)
        for name in wanted:
            os.rename(work / name, folder / name)
        return folder


def lay_out_devkit(categories: Path, devkit: Path) -> None:
    """Copy the photographs of `CLASSES` into `devkit`/VOC2007, with lists and annotations.

    The photographs image_0001.jpg to image_0100.jpg of each class, as far as there are, take six-digit ids from
    000001 on: every class's first, then every class's second, and so on. Odd-numbered ones are trainval, even-numbered
    ones test. Each shows one object, its class, which fills the photograph and is not difficult.

    Parameters
    ----------
    categories : the folder that holds one folder of photographs a class (101_ObjectCategories).
    devkit : the folder to make.

    Raises `UserError` where a class is missing or a photograph cannot be read.
    """
    root = devkit / "VOC2007"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for kind in CLASSES:
        if not (categories / kind).is_dir():
            raise UserError(f"{categories} has no folder {kind}: it is not Caltech-101, get its archive again")
    numbered = [(k, kind, f"{kind}/image_{k:04d}.jpg") for k, kind in product(range(1, MOST_PER_CLASS + 1), CLASSES)]
    numbered = [entry for entry in numbered if (categories / entry[2]).is_file()]
    split_of: dict[str, list[tuple[str, str]]] = {"trainval": [], "test": []}
    for index, (k, kind, original) in enumerate(progress(numbered, len(numbered), "photographs", DEVKIT), start=1):
        name = f"{index:06d}"
        shutil.copyfile(categories / original, root / "JPEGImages" / f"{name}.jpg")
        text = annotation(categories / original, name, original, kind)
        (root / "Annotations" / f"{name}.xml").write_text(text, encoding="utf-8", newline="\n")
        split_of["trainval" if k % 2 else "test"].append((name, kind))
    for split, members in split_of.items():
        write_list(root, split, [name for name, _ in members])
        for kind in CLASSES:
            write_list(root, f"{kind}_{split}", [f"{name} {1 if shown == kind else -1:2d}" for name, shown in members])


def annotation(path: Path, name: str, original: str, kind: str) -> str:
    """The XML text of one photograph: size in pixels, depth in channels, and its one object."""
    try:
        with Image.open(path) as image:
            width, height, depth = *image.size, len(image.getbands())
    except OSError as error:
        raise UserError(f"{path} is no photograph ({error}): get the archive again") from None
    return ANNOTATION.format(name=name, original=original, kind=kind, width=width, height=height, depth=depth)


def write_list(root: Path, name: str, lines: list[str]) -> None:
    """Write ImageSets/Main/NAME.txt."""
    path = root / "ImageSets" / "Main" / f"{name}.txt"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def lay_out_pretraining(categories: Path, target: Path) -> None:
    """Copy the photographs of all other classes into `target`/CLASS, under their own names."""
    folders = sorted(path for path in categories.iterdir() if path.is_dir())
    folders = [path for path in folders if path.name not in {*CLASSES, *LEFT_OUT}]
    for folder in progress(folders, len(folders), "classes", PRETRAINING):
        (target / folder.name).mkdir(parents=True)
        for photograph in sorted(folder.glob("image_*.jpg")):
            shutil.copyfile(photograph, target / folder.name / photograph.name)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m fetch.caltech101", description="Get and lay out Caltech-101.")
    parser.add_argument(
        "target", type=Path, metavar="TARGET", help=f"the folder to put {DEVKIT} and {PRETRAINING} into"
    )
    folder = get_caltech101(parser.parse_args(arguments).target)
    for name, what in ((DEVKIT, "photographs in VOC2007's format"), (PRETRAINING, "photographs for training")):
        print(f"{folder / name}: {len(list((folder / name).rglob('*.jpg'))):,} {what}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_command(main)
