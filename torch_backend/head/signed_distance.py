"""True signed distances to the posed head: skin united with the eyeballs, the open mouth a real cavity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import igl
import numpy as np
from numpy.typing import NDArray

from torch_backend.geometry.mesh_topology import boundary_loops
from torch_backend.head.head import Head

EYEBALL_MARGIN = 0.0007
"""How much the eyeballs are inflated, metres: lids lie that close, and a sliver between them would be speckled."""


def close_boundaries(
    vertices: NDArray[np.floating], triangles: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Close every boundary loop with a fan round its mean point, oriented like its neighbours.

    Args:
        vertices: (V, 3).
        triangles: (F, 3) consistently oriented.

    Returns:
        vertices (V + loops, 3) and triangles of the closed mesh.
    """
    points, faces = [vertices.astype(np.float64)], [triangles.astype(np.int64)]
    ends = np.roll(triangles, -1, axis=1)
    for number, loop in enumerate(boundary_loops(triangles)):
        following = np.roll(loop, -1)
        along = bool(((triangles == loop[0]) & (ends == following[0])).any())
        first, second = (following, loop) if along else (loop, following)
        points.append(vertices[loop].mean(axis=0, keepdims=True).astype(np.float64))
        apex = np.full(len(loop), len(vertices) + number)
        faces.append(np.stack([first, second, apex], axis=1).astype(np.int64))
    return np.concatenate(points), np.concatenate(faces)


@dataclass(frozen=True)
class SkinDistances:
    """Signed distances of points to a posed head, and the nearest place of its skin."""

    distances: NDArray[np.float64]
    """(n,) metres, to skin and eyeballs together; negative inside."""
    faces: NDArray[np.int64]
    """(n,) skin triangle of the nearest place; one beyond the last where that is on the closed bust."""
    nearest: NDArray[np.float64]
    """(n, 3) the nearest place of the skin."""
    is_eyeball: NDArray[np.bool_]
    """(n,) whether an eyeball is what is nearest."""


def signed_distance(
    head: Head,
    points: NDArray[np.floating],
    blendshape_weights: Mapping[str, float] | NDArray[np.floating] | None = None,
    *,
    refinements: int = 0,
) -> NDArray[np.float64]:
    """Return the signed distance to the posed head, in metres: negative inside, positive outside and in the mouth.

    Args:
        head: the head, mean or identity.
        points: (n, 3) backend metres.
        blendshape_weights: weights by name or (52,) in ARKit order; None for the rest pose.
        refinements: rounds of Loop subdivision first; 0 measures the mesh as it is, 1 hides its facets.

    Returns:
        (n,) distances; exact up to floating point for the mesh, so the gradient has length 1 almost everywhere.

    Raises:
        ValueError: when the shapes do not belong together.
    """
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"expected points (n, 3), got {points.shape}")
    weights = {} if blendshape_weights is None else blendshape_weights
    posed = head.pose(dict(weights) if isinstance(weights, Mapping) else weights)
    skin, triangles = posed[: head.num_skin_vertices].astype(np.float64), head.skin_triangles.astype(np.int64)
    if refinements:
        skin, triangles = igl.loop(skin, triangles, refinements)
    return measure_skin(head, points, skin, triangles).distances


def measure_skin(
    head: Head, points: NDArray[np.floating], skin: NDArray[np.float64], triangles: NDArray[np.int64]
) -> SkinDistances:
    """Return signed distances to a posed skin and the head's eyeballs, with the nearest places.

    Args:
        head: whose eyeballs.
        points: (n, 3) backend metres.
        skin: (V, 3) posed skin.
        triangles: (F, 3) of it.
    """
    closed, faces = close_boundaries(skin, triangles)
    query = np.ascontiguousarray(points, dtype=np.float64)
    distance, index, nearest, _ = igl.signed_distance(
        query, closed, faces, sign_type=igl.SIGNED_DISTANCE_TYPE_FAST_WINDING_NUMBER
    )
    balls = np.min([np.linalg.norm(query - center, axis=1) for center in head.eye_centers], axis=0)
    balls = balls - (head.eye_radius + EYEBALL_MARGIN)
    return SkinDistances(
        np.minimum(distance, balls),
        np.minimum(np.asarray(index, dtype=np.int64).ravel(), len(triangles)),
        np.asarray(nearest, dtype=np.float64),
        np.abs(balls) < np.abs(distance),
    )
