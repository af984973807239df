"""The 20 classes of the generated devkit: a silhouette and a texture each, as functions of position."""

import numpy as np


def wave(t):
    """A square wave of period 1 with soft edges, in [0, 1]."""
    return np.clip(0.5 + 1.5 * np.sin(2 * np.pi * t), 0, 1)


def cell(t):
    """The offset from the middle of the unit cell, in [-0.5, 0.5)."""
    return t - np.floor(t) - 0.5


def below(distance, limit):
    """1 where distance < limit, 0 elsewhere, with soft edges."""
    return np.clip(0.5 + 6 * (limit - distance), 0, 1)


def squares(u, v, limit):
    """A square of half side `limit` in the middle of each unit cell."""
    return below(np.maximum(abs(cell(u)), abs(cell(v))), limit)


def lots(u, v, rng):
    """One random number in [0, 1) for each unit cell."""
    i, j = np.floor(u).astype(int), np.floor(v).astype(int)
    i, j = i - i.min(), j - j.min()
    return rng.random((i.max() + 1, j.max() + 1))[i, j]


# A silhouette is a level over x, y in [-1, 1] (y down) that is at most 1 inside.
SILHOUETTES = {
    "disc": lambda x, y: np.hypot(x, y),
    "slab": lambda x, y: np.maximum(abs(x), abs(y)),
    "kite": lambda x, y: abs(x) + abs(y),
    "gem": lambda x, y: np.maximum(abs(y), abs(x) + 0.5 * abs(y)),
    "shield": lambda x, y: np.maximum.reduce([abs(x), -y, y + 0.7 * abs(x)]),
    "carriages": lambda x, y: np.maximum.reduce([abs(x), abs(y), 2.2 * abs(cell(1.5 * x + 0.5))]),
}
# A texture is the share of the second colour, in [0, 1], over u, v in periods from near the object's middle.
CLASSES = {
    "awning": ("slab", lambda u, v, rng: wave(u)),
    "basket": ("gem", lambda u, v, rng: np.where((np.floor(u / 2) + np.floor(v / 2)) % 2, wave(u), wave(v))),
    "brickwork": ("slab", lambda u, v, rng: squares(u / 1.8 + np.floor(v) / 2, v, 0.35)),
    "chessboard": ("kite", lambda u, v, rng: np.clip(0.5 + 4 * np.sin(4 * u) * np.sin(4 * v), 0, 1)),
    "chevron": ("shield", lambda u, v, rng: wave(v + 2 * abs(cell(u / 2)))),
    "crosses": ("kite", lambda u, v, rng: squares(u, v, 0.4) * below(np.minimum(abs(cell(u)), abs(cell(v))), 0.13)),
    "fishscale": (
        "disc",
        lambda u, v, rng: below(abs(np.hypot(cell(u + np.floor(v) / 2), cell(v) + 0.5) - 0.45), 0.15),
    ),
    "honeycomb": ("gem", lambda u, v, rng: below(np.hypot(cell(u + np.floor(v) / 2), cell(v)), 0.36)),
    "ladder": ("gem", lambda u, v, rng: wave(v)),
    "maze": ("slab", lambda u, v, rng: below(abs(cell(u) + np.sign(lots(u, v, rng) - 0.5) * cell(v)), 0.25)),
    "mosaic": ("kite", lambda u, v, rng: lots(1.5 * u, 1.5 * v, rng)),
    "net": ("shield", lambda u, v, rng: squares(0.7 * (u + v), 0.7 * (u - v), 0.33)),
    "page": ("slab", lambda u, v, rng: below(abs(cell(v)), 0.3) * (lots(2.5 * u, v, rng) < 0.6)),
    "polka": ("disc", lambda u, v, rng: below(np.hypot(cell(u), cell(v)), 0.25)),
    "ripple": ("shield", lambda u, v, rng: wave(u + 0.3 * np.sin(2.5 * v))),
    "sash": ("kite", lambda u, v, rng: wave(0.7 * (u + v))),
    "sunray": ("disc", lambda u, v, rng: wave(9 * np.arctan2(v, u) / (2 * np.pi))),
    "target": ("disc", lambda u, v, rng: wave(np.hypot(u, v))),
    "train": ("carriages", lambda u, v, rng: squares(u, v, 0.25)),
    "waffle": ("gem", lambda u, v, rng: squares(u, v, 0.36)),
}
