"""Barycentric coordinates in a planar triangulation and finding the triangle that holds a point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from torch_backend.geometry.mesh_topology import IntArray, directed_edges

FloatArray = NDArray[np.float64]

_INSIDE_TOLERANCE = 1e-9


def barycentric_coordinates(points: FloatArray, corners: FloatArray) -> FloatArray:
    """Return the (N, 3) barycentric coordinates of plane points.

    Args:
        points: (N, 2) positions.
        corners: (N, 3, 2) the triangle each point refers to; none may be without area.
    """
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    offset = points - corners[:, 0]
    doubled = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    beta = (offset[:, 0] * second[:, 1] - offset[:, 1] * second[:, 0]) / doubled
    gamma = (first[:, 0] * offset[:, 1] - first[:, 1] * offset[:, 0]) / doubled
    return np.stack([1.0 - beta - gamma, beta, gamma], axis=-1)


def neighbor_triangles(triangles: NDArray[np.integer]) -> IntArray:
    """Return (F, 3) neighbours: entry k is the triangle across the edge from corner k to k + 1, -1 at a boundary."""
    faces = np.asarray(triangles, dtype=np.int64)
    edges = directed_edges(faces)
    size = int(faces.max()) + 1
    keys = edges[:, 0] * size + edges[:, 1]
    order = np.argsort(keys)
    opposite = edges[:, 1] * size + edges[:, 0]
    place = np.minimum(np.searchsorted(keys[order], opposite), len(keys) - 1)
    return np.where(keys[order][place] == opposite, order[place] // 3, -1).reshape(-1, 3)


def locate_by_walking(
    points: FloatArray, start_triangles: IntArray, uv: FloatArray, triangles: IntArray, neighbors: IntArray
) -> tuple[IntArray, FloatArray]:
    """Find the triangle of each point by walking from a start triangle towards it.

    Args:
        points: (N, 2) plane positions.
        start_triangles: (N,) where to begin, near the point.
        uv: (V, 2) plane positions of the triangulation.
        triangles: (F, 3) counter-clockwise in the plane.
        neighbors: (F, 3) from `neighbor_triangles`.

    Returns:
        (N,) triangle index, -1 where the walk left the surface, and (N, 3) barycentric coordinates in it.
    """
    found = start_triangles.copy()
    weights = barycentric_coordinates(points, uv[triangles[found]])
    walking = np.arange(len(points))
    for _ in range(len(triangles)):
        lowest = weights[walking].argmin(axis=1)
        outside = weights[walking, lowest] < -_INSIDE_TOLERANCE
        walking, lowest = walking[outside], lowest[outside]
        if not len(walking):
            break
        # The corner with the negative weight lies opposite the edge to cross: from its next corner on.
        step = neighbors[found[walking], (lowest + 1) % 3]
        found[walking] = step
        walking = walking[step >= 0]
        weights[walking] = barycentric_coordinates(points[walking], uv[triangles[found[walking]]])
    return found, weights
