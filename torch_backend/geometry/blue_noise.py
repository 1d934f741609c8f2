"""Draw points with blue-noise spacing from weighted random candidates: dart throwing with a shrinking radius."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

FloatArray = NDArray[np.float64]

_FIRST_RADIUS = 0.85
"""Radius of the first pass relative to the hexagonal spacing; random darts alone fill the plane at about 0.75."""
_SHRINK = 0.94
_SMALLEST_RADIUS = 0.3
"""Candidates nearer than this to a chosen one are given up until nothing else is left."""
_CHECKED_NEIGHBORS = 6


def select_blue_noise(
    candidates: FloatArray, spacing: FloatArray, count: int, obstacles: FloatArray
) -> NDArray[np.int64]:
    """Choose `count` candidates that keep as far from each other and from obstacles as their number allows.

    Each pass accepts, in the given (random) order, candidates with nothing accepted nearer than the pass's radius;
    the radius then shrinks until enough are chosen. Deterministic.

    Args:
        candidates: (N, D) positions, D >= 1 (three of space, and more to keep sides of a sheet apart).
        spacing: (N,) wanted distance to neighbours at each candidate, same unit.
        count: number of candidates to choose.
        obstacles: (K, D) points already placed.

    Returns:
        (count,) indices of chosen candidates, in order of acceptance.

    Raises:
        ValueError: fewer candidates than `count`, or shapes that do not fit.
    """
    if candidates.ndim != 2 or spacing.shape != (len(candidates),):
        raise ValueError(f"expected candidates (N, D) and spacing (N,), got {candidates.shape} and {spacing.shape}")
    if not 0 <= count <= len(candidates):
        raise ValueError(f"count: expected 0..{len(candidates)} (the candidates given), got {count}")
    nearest = np.full(len(candidates), np.inf)
    if len(obstacles):
        nearest = cKDTree(obstacles).query(candidates)[0] / spacing
    chosen: list[NDArray[np.int64]] = []
    missing, radius = count, _FIRST_RADIUS
    while missing and radius >= _SMALLEST_RADIUS:
        accepted = _throw_darts(candidates, spacing, nearest, radius, missing)
        chosen.append(accepted)
        missing -= len(accepted)
        radius *= _SHRINK
    picked = np.concatenate(chosen) if chosen else np.empty(0, dtype=np.int64)
    if missing:
        left = np.setdiff1d(np.arange(len(candidates)), picked)
        picked = np.concatenate([picked, left[np.argsort(-nearest[left], kind="stable")[:missing]]])
    return picked


def _throw_darts(
    candidates: FloatArray, spacing: FloatArray, nearest: FloatArray, radius: float, limit: int
) -> NDArray[np.int64]:
    """Accept up to `limit` candidates no nearer than radius * spacing to any accepted one; updates `nearest`.

    `nearest` is the distance to the nearest accepted point, in spacings. Candidates are taken in chunks that grow
    with the number accepted, so that few of a chunk conflict with each other.
    """
    alive = np.flatnonzero(nearest >= radius)
    accepted: list[NDArray[np.int64]] = []
    num_accepted, start = 0, 0
    while start < len(alive) and num_accepted < limit:
        size = max(64, num_accepted // 2, len(alive) // 40)
        chunk = alive[start : start + size]
        start += size
        chunk = chunk[nearest[chunk] >= radius]
        if not len(chunk):
            continue
        free = _first_come(candidates[chunk], radius * spacing[chunk])
        taken = chunk[free][: limit - num_accepted]
        accepted.append(taken)
        num_accepted += len(taken)
        waiting = alive[start:]
        waiting = waiting[nearest[waiting] >= radius]
        _lower_distances(candidates, spacing, nearest, waiting, taken)
    fresh = np.concatenate(accepted) if accepted else np.empty(0, dtype=np.int64)
    if len(fresh):
        nearest[fresh] = 0.0
        others = np.flatnonzero(nearest >= _SMALLEST_RADIUS)
        _lower_distances(candidates, spacing, nearest, others, fresh)
    return fresh


def _lower_distances(
    candidates: FloatArray,
    spacing: FloatArray,
    nearest: FloatArray,
    waiting: NDArray[np.int64],
    accepted: NDArray[np.int64],
) -> None:
    if len(waiting) and len(accepted):
        distance = cKDTree(candidates[accepted]).query(candidates[waiting])[0]
        nearest[waiting] = np.minimum(nearest[waiting], distance / spacing[waiting])


def _first_come(points: FloatArray, radii: FloatArray) -> NDArray[np.bool_]:
    """Return which points have no earlier point within their radius (among their nearest few neighbours)."""
    neighbors = min(_CHECKED_NEIGHBORS, len(points))
    if neighbors < 2:
        return np.ones(len(points), dtype=bool)
    distance, index = cKDTree(points).query(points, k=neighbors)
    earlier = (index < np.arange(len(points))[:, None]) & (distance < radii[:, None])
    free: NDArray[np.bool_] = ~earlier.any(axis=1)
    return free
