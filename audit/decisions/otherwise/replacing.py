"""What makes a stage of the port run otherwise while it lasts: another function, or other arrays before its eyes."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from experiment.artifacts import RunFolder

Load = Callable[[str, str], np.ndarray]  # a run's array, given its stage and name
HALVES_SEED = 1  # of the one permutation of D36
View = Mapping[tuple[str, str], Callable[[Load], np.ndarray]]


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """A module's, class's or object's attribute, or a dictionary's entry, is another while it lasts."""
    entries = isinstance(owner, dict)
    plain = owner[name] if entries else getattr(owner, name)
    put: Callable[[Any], None] = (lambda one: owner.update({name: one})) if entries else (
        lambda one: setattr(owner, name, one)
    )  # fmt: skip
    put(value)
    try:
        yield
    finally:
        put(plain)


@contextlib.contextmanager
def seen(view: View) -> Iterator[None]:
    """Who reads one of these arrays of a run, (stage, name), is given what `view` makes of the run's arrays instead."""
    plain = RunFolder.array

    def array(self: RunFolder, stage: str, name: str) -> np.ndarray:
        def load(stage: str, name: str) -> np.ndarray:
            return np.array(plain(self, stage, name))

        return view[stage, name](load) if (stage, name) in view else plain(self, stage, name)

    with replaced(RunFolder, "array", array):
        yield


def first_half(n: int) -> np.ndarray:
    """The rows (n // 2,) of one half of n, drawn once for all seeds, in ascending order (D36)."""
    return np.sort(np.random.default_rng(HALVES_SEED).permutation(n)[: n // 2])
