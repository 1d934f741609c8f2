"""Pairs triangles of a mesh to quads, as an artist would draw them: flat, nearly square, alike on both sides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.integer]

MAX_CORNER_DEGREES = 155.0
"""Quads with a wider corner than this stay two triangles."""
MAX_FOLD_DEGREES = 40.0
"""Quads whose triangles are folded more than this stay two triangles."""


def pair_triangles(vertices: FloatArray, triangles: IntArray, mirror: IntArray) -> tuple[IntArray, IntArray]:
    """Join triangles to quads greedily, the squarest first; a pair and its mirror image are joined together.

    Args:
        vertices: (V, 3) positions.
        triangles: (F, 3) consistently oriented.
        mirror: (V,) mirror image of each vertex.

    Returns:
        quads (Q, 4), oriented as the triangles, and the indices (R,) of the triangles that are left.
    """
    quads, pairs, scores = _candidates(vertices, triangles)
    images = _mirrored_pairs(quads, mirror)
    free = np.ones(len(triangles), bool)
    chosen: list[int] = []
    for index in np.lexsort((np.arange(len(quads)), scores.round(3))):
        image = images[index]
        together = [index] if image in (-1, index) else [index, image]
        members = [int(triangle) for each in together for triangle in pairs[each]]
        if free[members].all() and len(set(members)) == len(members):
            free[members] = False
            chosen += together
    return quads[chosen], np.flatnonzero(free)


def _candidates(vertices: FloatArray, triangles: IntArray) -> tuple[IntArray, IntArray, FloatArray]:
    """All quads (C, 4) of two triangles that share an edge, their triangles (C, 2), and how far each is from square."""
    owners: dict[tuple[int, int], int] = {}
    quads, pairs = [], []
    for number, corners in enumerate(triangles.tolist()):
        for turn in range(3):
            first, second, third = corners[turn], corners[(turn + 1) % 3], corners[(turn + 2) % 3]
            other = owners.get((second, first))
            owners[first, second] = number
            if other is None:
                continue
            opposite = next(each for each in triangles[other].tolist() if each not in (first, second))
            quads.append((first, opposite, second, third))
            pairs.append((other, number))
    quad_array, pair_array = np.array(quads).reshape(-1, 4), np.array(pairs).reshape(-1, 2)
    points = vertices[quad_array].astype(np.float64)
    forward, back = np.roll(points, -1, axis=1) - points, np.roll(points, 1, axis=1) - points
    cosines = (forward * back).sum(axis=2) / np.maximum(
        np.linalg.norm(forward, axis=2) * np.linalg.norm(back, axis=2), 1e-18
    )
    corners_degrees = np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))
    halves = [np.cross(points[:, b] - points[:, a], points[:, c] - points[:, a]) for a, b, c in ((0, 1, 2), (0, 2, 3))]
    turned = (halves[0] * halves[1]).sum(axis=1) / np.maximum(
        np.linalg.norm(halves[0], axis=1) * np.linalg.norm(halves[1], axis=1), 1e-18
    )
    fold = np.degrees(np.arccos(np.clip(turned, -1.0, 1.0)))
    # The corners of a plane quad sum to 360 degrees; one that is dented sums to less.
    is_convex = corners_degrees.sum(axis=1) > 350.0 - fold
    good = is_convex & (corners_degrees.max(axis=1) < MAX_CORNER_DEGREES) & (fold < MAX_FOLD_DEGREES)
    scores = np.abs(corners_degrees - 90.0).max(axis=1) + fold
    return quad_array[good], pair_array[good], scores[good]


def _mirrored_pairs(quads: IntArray, mirror: IntArray) -> list[int]:
    """The candidate that is the mirror image of each; -1 where there is none."""
    known = {tuple(sorted(quad)): index for index, quad in enumerate(quads.tolist())}
    return [known.get(tuple(sorted(mirror[quad].tolist())), -1) for quad in quads]
