"""Carries the frozen skin's connectivity to a changed surface, so that vertex numbers outlive changes of the sculpture.

A new fill would number the vertices anew whenever a curve moves. Rings are made anew by the code; the vertices between
them follow the rings' motion, are put onto the implicit surface and are faired where the sum of its parts is uneven
(author space, cm).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray

from torch_backend.head.author_space import Array, backend_to_author, smoothstep
from torch_backend.head.head import Head
from torch_backend.head.implicit_surface import field_gradient, project_to_skin
from torch_backend.head.landmarks import PINNED_MIDLINE, PINNED_SIDE

FOLLOW_PASSES = 200
"""Passes that spread the rings' motion over the fill."""
FAIR_PASSES = 220
"""Passes of fairing; more make it reach farther."""
UNCHANGED = 0.01
"""A refit that moves nothing by more than this (cm) keeps the frozen vertices: they drift by half as much."""
_FAIR_STEP, _FAIR_BACK = 0.5, -0.515
"""Steps of Taubin's filter: the second undoes the first one's shrinkage."""


@dataclass(frozen=True)
class FrozenFill:
    """The half head's vertices between the rings, with the ranges of its kinds in order."""

    points: Array
    """(N, 3) outermost rings, midline, neck, pinned landmarks, free vertices."""
    triangles: NDArray[np.int64]
    """(F, 3)."""
    midline_pins: NDArray[np.int64]
    neck_start: int
    pins_start: int
    free_start: int


def refit_fill(head: Head, ring_loops: list[Array], neck: Array, num_ring_vertices: int) -> FrozenFill:
    """Return the fill of a frozen head on the surface that the code describes now.

    Args:
        head: the frozen head.
        ring_loops: outermost rings, as the new fill of `template` starts with.
        neck: (K, 3) half neck boundary.
        num_ring_vertices: vertices of the half head that come after its fill.

    Raises:
        ValueError: when the frozen head does not have these rings.
    """
    skin = backend_to_author(head.vertices[: head.num_skin_vertices])
    half = int((head.mirror >= np.arange(len(head.mirror))).sum())
    count, num_fixed = half - num_ring_vertices, sum(len(loop) for loop in ring_loops)
    old = skin[:count]
    neck_start = _end_of_midline(head.mirror, num_fixed) - 1
    starts = (neck_start, neck_start + len(neck), neck_start + len(neck) + len(PINNED_SIDE))
    if not num_fixed < starts[0] < starts[2] < count or abs(old[starts[0] - 1, 0]) > 1e-6:
        raise ValueError(
            f"expected a frozen head with {num_fixed} ring points before its fill of {count} vertices, found its "
            f"neck at {starts[0]}; build with --remesh"
        )
    triangles = _leading_triangles(head, count)
    midline = slice(num_fixed, starts[0])
    pins = num_fixed + np.linalg.norm(old[None, midline] - np.array(PINNED_MIDLINE)[:, None], axis=-1).argmin(axis=1)
    smoother = _Smoother(triangles, count)
    points = old.copy()
    points[:num_fixed] = np.concatenate(ring_loops)
    points[starts[0] : starts[1]] = neck
    still = np.zeros(count, dtype=bool)
    still[:num_fixed] = still[starts[0] : starts[1]] = True
    points += smoother.spread(np.where(still[:, None], points - old, 0.0), still, FOLLOW_PASSES) * ~still[:, None]
    points[starts[1] : starts[2]] = np.array(PINNED_SIDE)
    points[pins] = np.array(PINNED_MIDLINE)
    on_midline = np.zeros(count, dtype=bool)
    on_midline[midline] = True
    points = _projected(points, ~still, on_midline)
    points = _faired(points, smoother, still, on_midline)
    if np.abs(points - old).max() < UNCHANGED:
        points = old  # bit for bit, so that what was derived from the frozen head stays valid
    return FrozenFill(points, triangles, pins, *starts)


def _end_of_midline(mirror: NDArray[np.integer], start: int) -> int:
    """Return the first vertex from `start` on that is not its own mirror image; the neck begins on the midline."""
    own = mirror[start:] == np.arange(start, len(mirror))
    return start + int(np.argmin(own))


def _leading_triangles(head: Head, count: int) -> NDArray[np.int64]:
    """Return the fill's triangles, which come first, counter-clockwise in author space."""
    bounds = np.append(head.polygon_starts, len(head.polygon_vertices))
    number = int(np.argmax(np.diff(bounds) != 3))
    triangles = head.polygon_vertices[: 3 * number].reshape(-1, 3).astype(np.int64)
    if triangles.max() >= count:
        raise ValueError(f"expected triangles among the first {count} vertices, found vertex {triangles.max()}")
    return triangles[:, [0, 2, 1]]


def _projected(points: Array, moved: NDArray[np.bool_], on_midline: NDArray[np.bool_]) -> Array:
    placed = points.copy()
    placed[moved] = project_to_skin(points[moved], 4)
    placed[on_midline, 0] = 0.0
    return placed


def uneven_skin(points: Array) -> Array:
    """Return how much (n,) of the fairing skin takes: all on cheek and temple, none on nose, lips, lids and jaw."""
    x, f, z = points.T
    nose = np.sqrt((x / 2.35) ** 2 + ((z + 2.9) / 2.6) ** 2)
    mouth = np.sqrt((x / 3.9) ** 2 + ((z + 6.8) / 2.0) ** 2)
    eye = np.sqrt(((x - 3.3) / 2.9) ** 2 + ((z - 0.1) / 1.9) ** 2)
    clear = smoothstep(nose, 1.0, 1.5) * smoothstep(mouth, 0.85, 1.25) * smoothstep(eye, 0.85, 1.25)
    ear = np.sqrt(((f + 1.0) / 2.2) ** 2 + ((z + 1.3) / 3.4) ** 2)
    face = smoothstep(f, -0.5, 1.5) * smoothstep(ear, 1.0, 1.5)
    _, forward, height = np.array(PINNED_SIDE[7::-1]).T
    above_jaw = smoothstep(z - np.interp(f, forward, height), 0.2, 1.6)
    share: Array = clear * face * above_jaw * (1.0 - smoothstep(z, 3.2, 5.0)) * smoothstep(x, 0.8, 2.0)
    return share


def _faired(points: Array, smoother: _Smoother, still: NDArray[np.bool_], on_midline: NDArray[np.bool_]) -> Array:
    share = uneven_skin(points) * ~still * ~on_midline
    moved = points.copy()
    for _ in range(FAIR_PASSES):
        for step in (_FAIR_STEP, _FAIR_BACK):
            moved = moved + (step * share)[:, None] * (smoother.means(moved) - moved)
    # Along the normal only: back on the surface a vertex is where it was, so that refitting again changes nothing.
    normal = field_gradient(points)
    normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    faired: Array = points + ((moved - points) * normal).sum(axis=1, keepdims=True) * normal
    return faired


class _Smoother:
    """Means over the neighbours in a mesh, mirror images across the midline left out."""

    def __init__(self, triangles: NDArray[np.int64], count: int) -> None:
        rows, columns = triangles.ravel(), np.roll(triangles, 1, axis=1).ravel()
        adjacency = sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), (count, count)).tocsr()
        adjacency = ((adjacency + adjacency.T) > 0).astype(np.float64)
        degree = np.maximum(np.asarray(adjacency.sum(axis=1)).ravel(), 1.0)
        self._average = sparse.diags(1.0 / degree) @ adjacency

    def means(self, values: Array) -> Array:
        result: Array = self._average @ values
        return result

    def spread(self, values: Array, fixed: NDArray[np.bool_], passes: int) -> Array:
        """Return values (V, C), kept where fixed (V,) and spread over the others."""
        for _ in range(passes):
            values = np.where(fixed[:, None], values, self.means(values))
        return values
