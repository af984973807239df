"""How far off the port may be, measured: its error to a float64 reference, in units of the noise floor.

The reference is the port run in float64 on the same inputs. The noise floor is the greatest of what one knows to be
harmless: run a's own error to the reference, and what each side differs from itself by when only the number of
threads, the batch size, the memory layout or the last bit of its drawn weights changes. A wrong port's reference is
wrong as well, so a calibration never stands alone: the hard bounds on the difference of both sides judge beside it.

What run b differs from itself by must not excuse an error that run b alone has: of a varied run of b's the lesser of
its distances to run b and to the reference counts, and of all of them at most k times what run a accounts for.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from compare.difference import relative_l2
from experiment.artifacts import RunFolder
from experiment.errors import UserError

# What is stored in float32 is rounded by up to this share of itself, so no floor is lower.
ROUNDING = 2.0**-24
LIMITED = ("features",)  # the stages that take the first images only where a run is varied (experiment.stages)

Distance = Callable[[np.ndarray, np.ndarray], float]
Read = Callable[[RunFolder], np.ndarray]  # gives a run's array; where each is called differently, one a side


@dataclass(frozen=True)
class Calibration:
    """An error in noise floors.

    error, error_a : the distances of run b and of run a to the reference.
    floors : what each side differs from itself by, by the name of the run that was varied.
    floor : the greatest of error_a, floors and `ROUNDING`; those of side b count up to k times all others.
    ratio : error / floor, which may be at most k; NaN where there is no number, which never agrees.
    judged : whether k decides; otherwise the ratio is only shown.
    """

    error: float
    error_a: float
    floors: dict[str, float]
    floor: float
    ratio: float
    k: float
    judged: bool = True

    @property
    def agrees(self) -> bool:
        """Whether the error is at most k floors, where that is judged; whether there is a ratio, where it is not."""
        return self.ratio <= self.k if self.judged else not math.isnan(self.ratio)

    def as_json(self) -> dict[str, Any]:
        """For compare.json."""
        return {**asdict(self), "agrees": self.agrees}


class Calibrator:
    """Measures errors against the reference, and the noise floors by the varied runs.

    Parameters
    ----------
    a, b : the runs that are compared, b isolated.
    reference : b's side in float64, fed by a.
    varied_a, varied_b : the same sides run otherwise, fed by a.
    """

    def __init__(
        self,
        a: RunFolder,
        b: RunFolder,
        reference: RunFolder,
        varied_a: Sequence[RunFolder],
        varied_b: Sequence[RunFolder],
        k: float,
    ) -> None:
        self.a, self.b, self.reference, self.k = a, b, reference, k
        self.varied_a, self.varied_b = varied_a, varied_b

    def measure(
        self,
        stage: str,
        read_a: Read,
        read_b: Read,
        distance: Distance = relative_l2,
        floors_of_a: bool = True,
    ) -> Calibration:
        """The calibration of one array; `floors_of_a` is false where run a has none from the same state.

        Where a run was varied it holds the first images only, and only these are compared. Raises `UserError` for an
        array that does not fit.
        """
        reference = read_b(self.reference)
        own = read_b(self.b)
        if own.dtype == np.float32 and reference.dtype != np.float64:
            raise UserError(
                f"{self.reference.stage_path(stage)} is no float64 reference: it holds {reference.dtype}, run it again"
            )
        first_rows = stage in LIMITED
        error = apart(distance, reference, own, self.reference, first_rows)
        error_a = apart(distance, reference, read_a(self.a), self.reference, first_rows)
        floors_a, floors_b = {}, {}
        for varied in self.varied_a if floors_of_a else ():
            if varied.manifest(stage) is not None:
                floors_a[self.name(varied)] = apart(distance, read_a(varied), read_a(self.a), varied, first_rows)
        for varied in self.varied_b:
            if varied.manifest(stage) is not None:
                array = read_b(varied)
                others = (own, reference)
                floors_b[self.name(varied)] = float(
                    np.min([apart(distance, array, other, varied, first_rows) for other in others])
                )
        # A NaN stays one in all of this, and never agrees.
        of_a = float(np.max([error_a, *floors_a.values(), ROUNDING]))
        of_b = float(np.max([0.0, *floors_b.values()]))
        floor = float(np.maximum(of_a, np.minimum(of_b, self.k * of_a)))
        ratio = error / floor if math.isfinite(of_b) and math.isfinite(floor) else math.nan
        return Calibration(error, error_a, {**floors_a, **floors_b}, floor, ratio, self.k)

    def name(self, varied: RunFolder) -> str:
        """A varied run's folder; its path where another's folder is called the same."""
        names = [run.path.name for run in (*self.varied_a, *self.varied_b)]
        return varied.path.name if names.count(varied.path.name) == 1 else str(varied.path)


def apart(distance: Distance, few: np.ndarray, more: np.ndarray, run: RunFolder, first_rows: bool) -> float:
    """The distance of two arrays, of the first rows where `few` may hold no more; NaN where a value is not finite."""
    fits = few.ndim == more.ndim and few.shape[1:] == more.shape[1:] and 0 < len(few) <= len(more)
    if not fits or (len(few) < len(more) and not first_rows):
        raise UserError(f"{run.path}: an array of shape {few.shape} does not belong to {more.shape}: run it again")
    return distance(few, more[: len(few)])
