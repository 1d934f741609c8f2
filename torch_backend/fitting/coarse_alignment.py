"""A scan of a head in any unit and orientation brought onto the built-in head without landmarks.

Iterative closest points from the 24 ways to lay axes on axes, in each unit that gives the size of a head; the closest
wins. The points seek the head, so a scan may show the face alone; what lies far off is left out of each round.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from torch_backend.fitting.similarity import Similarity, fit_similarity
from torch_backend.fitting.template_model import visible_vertices
from torch_backend.head import Head

UNITS_M = (1.0, 0.1, 0.01, 0.001, 0.25, 0.0254)
"""Metres, decimetres, centimetres, millimetres, the neural head models' unit, inches."""
_SIZES_M = (0.12, 0.75)
"""Diagonals of the box of a face and of a head with its bust, within which a unit is likely."""
_USUAL_SIZE_M = 0.30
_KEPT = 0.8
"""Share of the points, the nearest, that a round is fitted to."""
_FIRST_ROUNDS, _LAST_ROUNDS = 25, 60
_FIRST_POINTS, _LAST_POINTS = 500, 4000
_CANDIDATES = 4
_WORST_M = 0.008
_FOLLOWED_ROUNDS, _FOLLOWED_POINTS, _FEWEST_FOLLOWED = 40, 1500, 100


@dataclass(frozen=True, eq=False)
class CoarseAlignment:
    """How a scan lies on the head."""

    similarity: Similarity
    """From the scan's unit and axes to the head's metres."""
    distance_m: float
    """Mean distance of the nearest four fifths of its points from the head."""

    @property
    def is_doubtful(self) -> bool:
        """Whether the points lie so far off that the scan is probably not where it belongs."""
        return self.distance_m > _WORST_M


def align_coarsely(points: NDArray[np.floating], head: Head, seed: int = 0) -> CoarseAlignment:
    """Find where a scan lies.

    Args:
        points: (n, 3) of the scan.
        head: the mean head.
        seed: draws points.

    Raises:
        ValueError: fewer than 100 points.
    """
    if len(points) < 100:
        raise ValueError(f"expected at least 100 points of a scan, got {len(points)}")
    generator = np.random.default_rng(seed)
    target, normals, tree = _target(head)
    few, many = (_draw(points, number, generator) for number in (_FIRST_POINTS, _LAST_POINTS))
    face = target[(target[:, 2] > 0.03) & (target[:, 1] < 0.05)]
    starts = [
        _start(points, target if whole else face, unit, rotation)
        for unit in _likely_units(points)
        for rotation in _rotations()
        for whole in (True, False)
    ]
    results = [_closest_points(few, (target, normals, tree), start, _FIRST_ROUNDS, False) for start in starts]
    best = sorted(results, key=lambda each: each.distance_m)[:_CANDIDATES]
    refined = [_closest_points(many, (target, normals, tree), each.similarity, _LAST_ROUNDS, True) for each in best]
    return min(refined, key=lambda each: each.distance_m)


def follow_alignment(
    points: NDArray[np.floating], head: Head, before: Similarity, seed: int = 0, rounds: int = _FOLLOWED_ROUNDS
) -> Similarity:
    """The alignment of the next frame, from that of the one before; the scale stays.

    Args:
        points: (n, 3) of the scan; without points the head stays where it was.
        head: the mean head.
        before: from the scan to the head.
        seed: draws points.
        rounds: of closest points.
    """
    if len(points) < _FEWEST_FOLLOWED:
        return before
    drawn = _draw(points, _FOLLOWED_POINTS, np.random.default_rng(seed))
    return _closest_points(drawn, _target(head), before, rounds, False).similarity


@lru_cache(maxsize=1)
def _target(head: Head) -> tuple[NDArray[np.float64], NDArray[np.float64], cKDTree]:
    visible = visible_vertices(head)
    places = head.vertices[visible].astype(np.float64)
    return places, head.vertex_normals()[visible].astype(np.float64), cKDTree(places)


def _likely_units(points: NDArray[np.floating]) -> list[float]:
    low, high = np.percentile(points, [2, 98], axis=0)
    size = float(np.linalg.norm(high - low))
    likely = [unit for unit in UNITS_M if _SIZES_M[0] <= size * unit <= _SIZES_M[1]]
    return likely or [_USUAL_SIZE_M / max(size, 1e-12)]


def _rotations() -> list[NDArray[np.float64]]:
    """The 24 rotations that lay axes on axes."""
    found = []
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), order] = signs
            if np.linalg.det(matrix) > 0:
                found.append(matrix)
    return found


def _start(
    points: NDArray[np.floating], target: NDArray[np.float64], unit: float, rotation: NDArray[np.float64]
) -> Similarity:
    return Similarity(unit, rotation, target.mean(axis=0) - unit * (rotation @ points.mean(axis=0)))


def _closest_points(
    points: NDArray[np.float64],
    target: tuple[NDArray[np.float64], NDArray[np.float64], cKDTree],
    start: Similarity,
    rounds: int,
    with_scale: bool,
) -> CoarseAlignment:
    places, normals, tree = target
    found = start
    for _ in range(rounds):
        moved = found.apply(points)
        distances, nearest = tree.query(moved)
        kept = distances <= np.quantile(distances, _KEPT)
        # Onto the plane of the nearest vertex: vertices lie millimetres apart and would hold the scan back.
        away = ((moved - places[nearest]) * normals[nearest]).sum(axis=1, keepdims=True)
        on_plane = moved - away * normals[nearest]
        # Half plane, half vertex: planes alone let a smooth cap slide and shrink.
        goal = 0.5 * on_plane + 0.5 * places[nearest]
        found = (
            fit_similarity(points[kept], goal[kept], with_scale=with_scale)
            if with_scale
            else _rigid(points[kept], goal[kept], found.scale)
        )
    distances, _ = tree.query(found.apply(points))
    return CoarseAlignment(found, float(np.sort(distances)[: int(_KEPT * len(distances))].mean()))


def _rigid(points: NDArray[np.float64], goal: NDArray[np.float64], scale: float) -> Similarity:
    fitted = fit_similarity(points * scale, goal, with_scale=False)
    return Similarity(scale, fitted.rotation, fitted.translation)


def _draw(points: NDArray[np.floating], number: int, generator: np.random.Generator) -> NDArray[np.float64]:
    chosen = generator.choice(len(points), min(number, len(points)), replace=False)
    return points[chosen].astype(np.float64)
