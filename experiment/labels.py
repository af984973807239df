"""Which labels a run can do with, checked where they are read: what needs them comes hours later.

Runs under Python 3.9 (in the container) and on the host alike.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from experiment.errors import UserError

POSITIVE, NEGATIVE = 1, -1
# An SVM is trained on both labels; an average precision needs a positive.
NEEDED = {"trainval": {POSITIVE: "positive", NEGATIVE: "negative"}, "test": {POSITIVE: "positive"}}


def check_labels(labels: Mapping[str, Any], classes: Sequence[str], limit: int) -> None:
    """Raise `UserError` naming a class that lacks a label which its split needs.

    labels : split to an array (n, C) of 1, 0 and -1. limit : how many images of each split were taken, 0 for all.
    """
    for split, needed in NEEDED.items():
        for column, name in enumerate(classes):
            for label, kind in needed.items():
                if not (labels[split][:, column] == label).any():
                    raise UserError(
                        f"class {name} has no {kind} image among the first {limit} of {split}: give a greater LIMIT="
                        if limit
                        else f"class {name} has no {kind} {split} image: add one to the devkit, or take the class off "
                        "its lists (ImageSets/Main or Annotations)"
                    )
