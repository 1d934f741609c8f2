"""Triangulation of points of the UV plane between boundary loops, as one oriented manifold.

Delaunay in the plane, loops and feature edges put back where it does not hold them, triangles outside or in holes
dropped; then, where surface positions are given, edges flipped until the triangles are Delaunay on the surface too
(the UV map squeezes the neck, so a Delaunay triangle of the plane would be a needle there).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from torch_backend.geometry.mesh_topology import IntArray, directed_edges, find_manifold_problem

FloatArray = NDArray[np.float64]

_MAX_FLIP_ROUNDS = 40
_SHARPEST_FLIPPED_FOLD = 0.3
"""Smallest cosine between the normals of two triangles whose shared edge may be flipped: creases stay."""
_FOLD_GAIN = 0.15
"""Least drop of the summed normal deviation of a quad's two triangles for which its edge is turned."""


def triangulate_uv(
    uv: NDArray[np.floating],
    loops: Sequence[NDArray[np.integer]],
    feature_edges: NDArray[np.integer] | None = None,
    positions: NDArray[np.floating] | None = None,
    normals: NDArray[np.floating] | None = None,
) -> NDArray[np.int32]:
    """Triangulate the plane points between an outer boundary loop and holes.

    Args:
        uv: (M, 2) plane positions, all within the region that the loops bound.
        loops: index arrays into the points, the outer boundary first, then holes; either direction. Each loop is a
            boundary of the result.
        feature_edges: (E, 2) pairs of points that must be joined (the contact lines of the lips); they may meet in
            points but not cross each other or a loop.
        positions: (M, 3) surface positions; when given, edges are flipped to be Delaunay on the surface.
        normals: (M, 3) unit surface normals; when given too, edges across sharp folds are then turned along them.

    Returns:
        (F, 3) int32 triangles, counter-clockwise in the plane: a manifold that uses every point.

    Raises:
        ValueError: shapes do not fit, a loop or feature edge crosses another, points coincide, or a point lies
            outside the loops, so that no such triangulation exists.
    """
    points = np.asarray(uv, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise ValueError(f"uv: expected shape (M, 2) with M >= 3, got {points.shape}")
    if not loops:
        raise ValueError("loops: expected at least the outer boundary, got none")
    rings = [np.asarray(loop, dtype=np.int64) for loop in loops]
    fixed = np.concatenate([np.stack([ring, np.roll(ring, -1)], axis=1) for ring in rings])
    if feature_edges is not None and len(feature_edges):
        fixed = np.concatenate([fixed, np.asarray(feature_edges, dtype=np.int64)])
    faces = _oriented(Delaunay(points).simplices.astype(np.int64), points)
    faces = _insert_edges(faces, points, fixed)
    inside = points_in_loops(points[faces].mean(axis=1), [points[ring] for ring in rings])
    faces = faces[inside]
    if positions is not None:
        surface = np.asarray(positions, dtype=np.float64)
        faces = flip_to_surface_delaunay(faces, points, surface, fixed)
        if normals is not None:
            faces = flip_along_folds(faces, points, surface, np.asarray(normals, dtype=np.float64), fixed)
    problem = find_manifold_problem(faces)
    num_used = len(np.unique(faces))
    if problem is not None or num_used != len(points):
        reason = problem or f"{len(points) - num_used} points lie outside the loops or coincide with others"
        raise ValueError(f"triangulate_uv: expected a manifold that uses all {len(points)} points, but {reason}")
    return faces.astype(np.int32)


def points_in_loops(points: FloatArray, polygons: Sequence[FloatArray]) -> NDArray[np.bool_]:
    """Return which (N, 2) points lie inside an odd number of the closed (n, 2) polygons."""
    inside = np.zeros(len(points), dtype=bool)
    for polygon in polygons:
        near = np.flatnonzero(((points >= polygon.min(axis=0)) & (points <= polygon.max(axis=0))).all(axis=1))
        x, y = points[near, 0], points[near, 1]
        for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            if y0 != y1:
                crosses = (y0 > y) != (y1 > y)
                inside[near] ^= crosses & (x < x0 + (x1 - x0) * (y - y0) / (y1 - y0))
    return inside


def flip_to_surface_delaunay(
    faces: IntArray, uv: FloatArray, positions: FloatArray, fixed_edges: IntArray | None = None
) -> IntArray:
    """Flip inner edges until opposite angles on the surface add up to at most 180 degrees.

    Flips that would turn a triangle over in the plane, double an edge, or cross a crease are left out. All flips of a
    round that share no triangle are made at once.

    Args:
        faces: (F, 3) counter-clockwise in the plane.
        uv: (M, 2) plane positions.
        positions: (M, 3) surface positions.
        fixed_edges: (E, 2) edges never to flip.
    """

    def find_gain(quads: IntArray) -> FloatArray:
        gain = _angle_excess(quads, positions)
        gain[~_is_smooth(quads, positions)] = 0.0
        return gain

    return _flip_while_gaining(faces, uv, find_gain, 1e-6, fixed_edges)


def flip_along_folds(
    faces: IntArray, uv: FloatArray, positions: FloatArray, normals: FloatArray, fixed_edges: IntArray | None = None
) -> IntArray:
    """Flip inner edges where that brings the triangles' normals clearly nearer to the surface normals at their corners.

    On a sharp rim (an ear's) half of the Delaunay edges would cut across and leave it serrated.

    Args:
        faces: (F, 3) counter-clockwise in the plane.
        uv: (M, 2) plane positions.
        positions: (M, 3) surface positions.
        normals: (M, 3) unit surface normals.
        fixed_edges: (E, 2) edges never to flip.
    """

    def find_gain(quads: IntArray) -> FloatArray:
        start, stop, left, right = quads.T
        before = _normal_deviation(((start, stop, left), (stop, start, right)), positions, normals)
        gain = np.zeros(len(quads))
        # Deviations are positive: where there is little of it, little can be gained.
        folded = np.flatnonzero(before > _FOLD_GAIN)
        start, stop, left, right = quads[folded].T
        gain[folded] = before[folded] - _normal_deviation(
            ((start, right, left), (right, stop, left)), positions, normals
        )
        return gain

    return _flip_while_gaining(faces, uv, find_gain, _FOLD_GAIN, fixed_edges)


def _flip_while_gaining(
    faces: IntArray,
    uv: FloatArray,
    find_gain: Callable[[IntArray], FloatArray],
    least_gain: float,
    fixed_edges: IntArray | None,
) -> IntArray:
    size = len(uv)
    current = faces.copy()
    fixed_keys = np.empty(0, dtype=np.int64)
    if fixed_edges is not None:
        ordered = np.sort(fixed_edges, axis=1)
        fixed_keys = ordered[:, 0] * size + ordered[:, 1]
    changed = np.ones(len(current), dtype=bool)
    for _ in range(_MAX_FLIP_ROUNDS):
        quads, owners, present = _inner_quads(current, size)
        active = changed[owners].any(axis=1)
        quads, owners = quads[active], owners[active]
        gain = find_gain(quads)
        wanted = np.flatnonzero(gain > least_gain)
        quads, owners, gain = quads[wanted], owners[wanted], gain[wanted]
        keys = np.minimum(quads[:, 0], quads[:, 1]) * size + np.maximum(quads[:, 0], quads[:, 1])
        allowed = ~np.isin(keys, fixed_keys) & _flip_allowed(quads, uv, present, size)
        chosen = _independent(np.flatnonzero(allowed), gain, owners, quads, len(current))
        if not len(chosen):
            break
        # A candidate that lost to a neighbouring flip has that neighbour's changed triangle, so it stays active.
        changed[:] = False
        changed[owners[chosen]] = True
        start, stop, left, right = quads[chosen].T
        current[owners[chosen, 0]] = np.stack([start, right, left], axis=1)
        current[owners[chosen, 1]] = np.stack([right, stop, left], axis=1)
    return current


def _oriented(faces: IntArray, uv: FloatArray) -> IntArray:
    """Turn triangles counter-clockwise and drop those without area (Qhull leaves some on the hull)."""
    areas = cross_product(uv[faces[:, 0]], uv[faces[:, 1]], uv[faces[:, 2]])
    turned = np.where(areas[:, None] < 0.0, faces[:, [0, 2, 1]], faces)
    kept: IntArray = turned[np.abs(areas) > 1e-14]
    return kept


def cross_product(a: FloatArray, b: FloatArray, c: FloatArray) -> FloatArray:
    """Return twice the signed area of the plane triangles a, b, c (..., 2): positive when c is left of a -> b."""
    product: FloatArray = (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (
        c[..., 0] - a[..., 0]
    )
    return product


def _inner_quads(faces: IntArray, size: int) -> tuple[IntArray, IntArray, IntArray]:
    """Return (Q, 4) start, stop, left, right points of each inner edge and its (Q, 2) left and right triangles.

    Third, the sorted keys `start * size + stop` of all directed edges.
    """
    edges = directed_edges(faces)
    apexes = np.roll(faces, -2, axis=1).reshape(-1)
    keys = edges[:, 0] * size + edges[:, 1]
    order = np.argsort(keys)
    present = keys[order]
    forward = np.flatnonzero(edges[:, 0] < edges[:, 1])
    opposite = edges[forward, 1] * size + edges[forward, 0]
    place = np.minimum(np.searchsorted(present, opposite), len(keys) - 1)
    has_twin = present[place] == opposite
    inner, twin = forward[has_twin], order[place[has_twin]]
    quads = np.stack([edges[inner, 0], edges[inner, 1], apexes[inner], apexes[twin]], axis=1)
    return quads, np.stack([inner // 3, twin // 3], axis=1), present


def _angle_excess(quads: IntArray, positions: FloatArray) -> FloatArray:
    """Return how far the two angles opposite each edge exceed pi, in radians."""
    total = np.full(len(quads), -np.pi)
    for apex in (2, 3):
        first = positions[quads[:, 0]] - positions[quads[:, apex]]
        second = positions[quads[:, 1]] - positions[quads[:, apex]]
        sine = np.linalg.norm(np.cross(first, second), axis=1)
        total += np.arctan2(sine, (first * second).sum(axis=1))
    return total


def _flip_allowed(quads: IntArray, uv: FloatArray, present: IntArray, size: int) -> NDArray[np.bool_]:
    """Return which quads are convex in the plane and have no edge yet between left and right."""
    start, stop, left, right = quads.T
    margin = 1e-3 * np.abs(cross_product(uv[start], uv[stop], uv[left]) - cross_product(uv[start], uv[stop], uv[right]))
    convex = (cross_product(uv[start], uv[right], uv[left]) > margin) & (
        cross_product(uv[right], uv[stop], uv[left]) > margin
    )
    allowed: NDArray[np.bool_] = convex
    for keys in (left * size + right, right * size + left):
        place = np.minimum(np.searchsorted(present, keys), len(present) - 1)
        allowed &= present[place] != keys
    return allowed


def _is_smooth(quads: IntArray, positions: FloatArray) -> NDArray[np.bool_]:
    """Return which quads have no crease along either diagonal."""
    start, stop, left, right = quads.T
    smooth = np.ones(len(quads), dtype=bool)
    for first, second in (((start, stop, left), (stop, start, right)), ((start, right, left), (right, stop, left))):
        smooth &= (_normals(first, positions) * _normals(second, positions)).sum(axis=1) > _SHARPEST_FLIPPED_FOLD
    return smooth


def _normal_deviation(
    triangles: Sequence[tuple[IntArray, IntArray, IntArray]], positions: FloatArray, normals: FloatArray
) -> FloatArray:
    """Return the sum over triangles and corners of 1 - cos(angle between triangle and surface normal)."""
    total = np.zeros(len(triangles[0][0]))
    for corners in triangles:
        flat = _normals(corners, positions)
        for corner in corners:
            total += 1.0 - (flat * normals[corner]).sum(axis=1)
    return total


def _normals(corners: tuple[IntArray, IntArray, IntArray], positions: FloatArray) -> FloatArray:
    a, b, c = (positions[index] for index in corners)
    normals = np.cross(b - a, c - a)
    unit: FloatArray = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    return unit


def _independent(
    candidates: IntArray, excess: FloatArray, owners: IntArray, quads: IntArray, num_faces: int
) -> IntArray:
    """Pick the candidates that have the largest excess among all that share one of their triangles.

    Two flips may also make the same new edge from disjoint quads; only the first of those is kept.
    """
    if not len(candidates):
        return candidates
    ranked = candidates[np.argsort(-excess[candidates], kind="stable")]
    rank = np.arange(len(ranked))
    best = np.full(num_faces, len(ranked))
    np.minimum.at(best, owners[ranked, 0], rank)
    np.minimum.at(best, owners[ranked, 1], rank)
    chosen = ranked[(best[owners[ranked, 0]] == rank) & (best[owners[ranked, 1]] == rank)]
    _, first = np.unique(np.sort(quads[chosen, 2:], axis=1), axis=0, return_index=True)
    picked: IntArray = chosen[np.sort(first)]
    return picked


def _insert_edges(faces: IntArray, uv: FloatArray, wanted: IntArray) -> IntArray:
    """Flip edges until every wanted edge is in the triangulation (Sloan 1993, "A fast algorithm ...").

    Raises:
        ValueError: a wanted edge runs through a point or crosses another wanted edge.
    """
    size = len(uv)
    keys = np.unique(np.sort(directed_edges(faces), axis=1) @ np.array([size, 1]))
    wanted_keys = np.sort(wanted, axis=1) @ np.array([size, 1])
    missing = wanted[~np.isin(wanted_keys, keys)]
    if not len(missing):
        return faces
    near = _touches_boxes(uv[faces], uv[missing])
    apex: dict[tuple[int, int], int] = {}
    for a, b, c in faces[near].tolist():
        apex[a, b], apex[b, c], apex[c, a] = c, a, b
    locked = {(int(a), int(b)) for a, b in np.sort(wanted, axis=1)}
    for a, b in missing.tolist():
        _insert_edge(apex, uv, a, b, locked)
    rebuilt = sorted((a, b, c) for (a, b), c in apex.items() if a < b and a < c)
    return np.concatenate([faces[~near], np.array(rebuilt, dtype=np.int64)])


def _touches_boxes(corners: FloatArray, segments: FloatArray) -> NDArray[np.bool_]:
    """Return which (F, 3, 2) triangles have a bounding box that meets that of one of the (E, 2, 2) segments."""
    low, high = corners.min(axis=1), corners.max(axis=1)
    touches = np.zeros(len(corners), dtype=bool)
    for ends in segments:
        touches |= ((low <= ends.max(axis=0)) & (high >= ends.min(axis=0))).all(axis=1)
    return touches


def _insert_edge(
    apex: dict[tuple[int, int], int], uv: FloatArray, first: int, last: int, locked: set[tuple[int, int]]
) -> None:
    edges = np.array(list(apex), dtype=np.int64)
    edges = edges[edges[:, 0] < edges[:, 1]]
    a, b = uv[first], uv[last]
    apart = ~np.isin(edges, (first, last)).any(axis=1)
    sides = cross_product(a, b, uv[edges[:, 0]]) * cross_product(a, b, uv[edges[:, 1]]) < 0.0
    ends = cross_product(uv[edges[:, 0]], uv[edges[:, 1]], a) * cross_product(uv[edges[:, 0]], uv[edges[:, 1]], b) < 0.0
    crossing = deque((int(p), int(q)) for p, q in edges[apart & sides & ends])
    budget = 50 * (len(crossing) + 1) ** 2
    while crossing and budget:
        budget -= 1
        p, q = crossing.popleft()
        if (p, q) in locked:
            raise ValueError(f"triangulate_uv: the edges {first}-{last} and {p}-{q} must both exist, but they cross")
        left, right = apex[p, q], apex[q, p]
        if cross_product(uv[p], uv[right], uv[left]) <= 0.0 or cross_product(uv[right], uv[q], uv[left]) <= 0.0:
            crossing.append((p, q))
            continue
        _flip(apex, p, q, left, right)
        low, high = min(left, right), max(left, right)
        if {low, high} & {first, last}:
            continue
        if cross_product(a, b, uv[low]) * cross_product(a, b, uv[high]) < 0.0:
            crossing.append((low, high))
    if (first, last) not in apex and (last, first) not in apex:
        raise ValueError(f"triangulate_uv: edge {first}-{last} cannot be inserted: a point lies on it")


def _flip(apex: dict[tuple[int, int], int], p: int, q: int, left: int, right: int) -> None:
    del apex[p, q], apex[q, p]
    for a, b, c in ((p, right, left), (right, q, left)):
        apex[a, b], apex[b, c], apex[c, a] = c, a, b
