"""Get the backbone's weights: `python -m fetch.weights FOLDER [--from keras|matconvnet|torch --file FILE]`.

Without --from, the Model Zoo's ResNet-101 and its mean file are downloaded from the sources of weights.toml. With it,
a descendant that the user has is converted to a caffemodel (fetch/convert/). Both print the command that uses it.
"""

import argparse
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

from experiment.errors import UserError, run_command
from fetch.download import PATIENCE, NoSource, Patience, download
from fetch.folder import held

TABLE = Path(__file__).with_name("weights.toml")
PROTOTXT = Path(__file__).resolve().parent.parent / "prototxt" / "ResNet-101-deploy.prototxt"
USE = "make caffe-reproduce compare PROFILE=paper"  # of what `make data` got; without it, it says what to do


def fetch_weights(folder: Path, table: dict[str, Any], patience: Patience = PATIENCE) -> list[str]:
    """Download the caffemodel and the mean file into `folder`, and return the lines that say how to use them.

    Raises `NoSource` where no source gave the caffemodel (what can be done by hand is then printed to stderr); a
    mean file that no source gave is only named, since channel means are in the profile.
    """
    model, mean = table["caffemodel"], table["mean"]
    try:
        get(model, folder, patience)
    except NoSource:
        print("\n".join(by_hand(folder, table)), file=sys.stderr)
        raise
    lines = [f"{USE} WEIGHTS={shlex.quote(str(folder / model['name']))}"]
    try:
        get(mean, folder, patience)
        file = shlex.quote(str(folder / mean["name"]))
        lines.append(f"for the mean file instead of its channel means: MEAN={file} SET=features.mean=file")
    except UserError as error:
        lines.append(f"without the mean file, which only SET=features.mean=file needs: {error}")
    return lines


def get(entry: dict[str, Any], folder: Path, patience: Patience) -> None:
    """Download one file of the table."""
    sources = [source["url"] for source in entry["sources"]]
    download(sources, folder / entry["name"], entry["bytes"], {"sha256": entry["sha256"]}, patience)


def by_hand(folder: Path, table: dict[str, Any]) -> list[str]:
    """What the user can do where no source answers."""
    model = table["caffemodel"]
    return [
        f"{model['name']} ({model['bytes']:,} bytes, sha256 {model['sha256']}) may be had by hand:",
        *(f"  {place['url']} ({place['seen']})" for place in model["by_hand"]),
        f"then put it into {folder} and run this again, or pass WEIGHTS=<the file>.",
        "Or convert a descendant of it by FROM=<kind> FILE=<the file>:",
        *(f"  FROM={kind}: {entry['url']}" for kind, entry in table["descendants"].items()),
    ]


def convert_weights(folder: Path, kind: str, file: Path) -> list[str]:
    """Convert a descendant into `folder`, and return the lines that say what it is and how to use it."""
    from fetch.convert.caffemodel import convert  # here: who downloads needs neither torch nor h5py

    path, sidecar = convert(kind, file, folder, PROTOTXT)
    mean = ",".join(str(value) for value in sidecar["mean"]["bgr"])
    return [
        f"{path}: the function of {sidecar['converted_from']['file name']} in the Caffe net, but for",
        *(f"  - {difference}" for difference in sidecar["differences"]),
        f"all of it stands in {path.with_suffix('.json')}; to use it:",
        f"{USE} WEIGHTS={shlex.quote(str(path))} SET=backbone.weights_sha256={sidecar['sha256']}",
        f'with its own mean: SET="backbone.weights_sha256={sidecar["sha256"]} features.mean_bgr=[{mean}]"',
    ]


def main() -> int:
    """The command line."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(prog="python -m fetch.weights", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the weights go")
    parser.add_argument("--from", dest="kind", choices=sorted(table["descendants"]), help="convert this descendant")
    parser.add_argument("--file", type=Path, help="its file")
    arguments = parser.parse_args()
    if arguments.kind and not arguments.file:
        url = table["descendants"][arguments.kind]["url"]
        raise UserError(f"FROM={arguments.kind} needs FILE=: get {url}")
    if arguments.file and not arguments.kind:
        raise UserError(f"FILE={arguments.file} needs FROM=, one of {', '.join(sorted(table['descendants']))}")
    with held(arguments.folder) as folder:
        if arguments.kind:
            lines = convert_weights(folder, arguments.kind, arguments.file)
        else:
            lines = fetch_weights(folder, table)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    run_command(main)
