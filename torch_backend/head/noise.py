"""Smooth noise in space that is the same on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from torch_backend.head.author_space import Array

_PRIMES = np.array([73856093, 19349663, 83492791], dtype=np.int64)


def value_noise(points: NDArray[np.floating], size: float, seed: int = 0) -> Array:
    """Return noise (n,) in -1..1 at points (n, 3): random values on a grid of `size`, smoothly interpolated."""
    place = np.asarray(points, dtype=np.float64) / size
    cell = np.floor(place).astype(np.int64)
    part = place - cell
    part = part * part * (3.0 - 2.0 * part)
    total = np.zeros(len(place))
    for corner in np.ndindex(2, 2, 2):
        share = np.prod(np.where(np.array(corner) == 1, part, 1.0 - part), axis=1)
        total += share * _hashed(cell + np.array(corner), seed)
    return total


def _hashed(cells: NDArray[np.int64], seed: int) -> Array:
    """Return values (n,) in -1..1 of integer cells (n, 3)."""
    mixed = (cells * _PRIMES).sum(axis=1) + 1013904223 * (seed + 1)
    mixed = mixed & 0x7FFFFFFF
    mixed = ((mixed ^ (mixed >> 13)) * 1274126177) & 0x7FFFFFFF
    mixed = ((mixed ^ (mixed >> 16)) * 668265263) & 0x7FFFFFFF
    mixed = mixed ^ (mixed >> 15)
    return (mixed & 0xFFFFFF) / float(0x7FFFFF) - 1.0
