"""By name: the stages of the port that run otherwise for an alternative, and how.

They are alternatives that neither side offers: no specification names them, so that both stay what the paper did. A
run of one is an ordinary run of the port, but for the stages that stand here; their keys hold the code that changes
them, so that no such stage passes for an ordinary one.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import cv2

from audit.controls import features as rows
from audit.decisions.otherwise import features, images, replacing, svms, training
from experiment.artifacts import RunFolder, sha256_file


class Place(NamedTuple):
    """Where a change is made: the run, and the run that it `uses`, finished, or None."""

    run: RunFolder
    other: RunFolder | None = None

    @property
    def values(self) -> Mapping[str, Mapping[str, Any]]:
        """The run's specification."""
        return self.run.spec["values"]

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.values["run"]["seed"])


@dataclass(frozen=True)
class Change:
    """Stage to what makes it run otherwise while it lasts; `modules` have its code.

    uses : the alternative, as its folder is called ("D23-object_crops"), whose run of the same seed it reads.
    """

    modules: tuple[ModuleType, ...]
    stages: Mapping[str, Callable[[Place], AbstractContextManager[None]]]
    uses: str = ""

    def version(self, other: RunFolder | None) -> str:
        """What its stages depend on besides what all do: its code, OpenCV, which only changes call, and the features
        of the run that it uses."""
        code = (Path(__file__), *(Path(str(module.__file__)) for module in (*self.modules, replacing, rows)))
        features = other.require_manifest("features")["outputs"] if other else {}
        used = [features[name]["sha256"] for name in sorted(features) if "trainval" in name]
        return ", ".join([f"opencv {cv2.__version__}", *map(sha256_file, code), *used])


def always(context: Callable[[], AbstractContextManager[None]]) -> Callable[[Place], AbstractContextManager[None]]:
    """A change that is the same in every run."""
    return lambda place: context()


def objects(place: Place) -> AbstractContextManager[None]:
    """D21: see `training.trained_on`."""
    assert place.other is not None
    return training.trained_on(place.other)


CHANGES: dict[str, Change] = {
    "kernel_unrounded": Change((images,), {"images": always(images.unrounded)}),
    "bilinear_up": Change((images,), {"images": always(images.bilinear_up)}),
    "nearest_up": Change((images,), {"images": always(images.nearest_up)}),
    "area_down": Change((images,), {"images": always(images.area_down)}),
    "real_grey_levels": Change((images,), {"images": always(images.real_grey_levels)}),
    "blob_2_ignored": Change((features,), {"features": always(features.blob_2_ignored)}),
    "pooling_rounded_down": Change((features,), {"features": always(features.pooling_rounded_down)}),
    "mirrored_too": Change((features,), {"features": always(features.mirrored_too)}),
    "clusters_of_unit_rows": Change(
        (training,), dict.fromkeys(("clusters", "pseudo_labels"), always(training.clusters_of_unit_rows))
    ),
    "ten_starts": Change(
        (training,), {"clusters": lambda place: training.ten_starts(place.seed, place.values["clusters"])}
    ),
    "objects": Change(
        (training,), dict.fromkeys(("clusters", "pseudo_labels", "transfer"), objects), uses="D23-object_crops"
    ),
    "input_of_unit_rows": Change(
        (training,), dict.fromkeys(("transfer", "transfer_features"), always(training.input_of_unit_rows))
    ),
    "standardised_input": Change(
        (training,), dict.fromkeys(("transfer", "transfer_features"), always(training.standardised_input))
    ),
    "loss_unclamped": Change((training,), {"transfer": always(training.loss_unclamped)}),
    "last_batch_dropped": Change((training,), {"transfer": always(training.last_batch_dropped)}),
    "last_batch_shortened": Change((training,), {"transfer": always(training.last_batch_shortened)}),
    "rate_outside": Change((training,), {"transfer": always(training.rate_outside)}),
    "no_relu": Change((training,), dict.fromkeys(("transfer", "transfer_features"), always(training.no_relu))),
    "dropout": Change((training,), {"transfer": lambda place: training.dropout(place.seed)}),
    "sign_as_it_comes": Change((svms,), {"svm": always(svms.sign_as_it_comes)}),
    "svm_of_unit_rows": Change((svms,), {"svm": always(svms.rows_of_length_1)}),
    "rbf": Change((svms,), {"svm": always(svms.rbf)}),
    "positives_twice": Change((svms,), {"svm": always(svms.positives_twice)}),
    "balanced": Change((svms,), {"svm": always(svms.balanced)}),
    "halves": Change(
        (training, svms),
        {
            **dict.fromkeys(("clusters", "pseudo_labels", "transfer"), always(training.half_the_rows)),
            "svm": always(svms.other_half_of_labels),
        },
    ),
}
