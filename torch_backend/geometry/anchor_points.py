"""Points on the lines that every sampling keeps: boundaries, the lips' contact lines, the lids' edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from torch_backend.geometry.mesh_topology import IntArray, directed_edges
from torch_backend.geometry.surface_template import (
    FeatureCurve,
    FeatureCurves,
    FloatArray,
    SurfaceTemplate,
    find_feature_curves,
)
from torch_backend.geometry.triangulation import cross_product, points_in_loops

_LARGEST_SHARE = 0.5
"""Share of all points that anchors may take before they are thinned."""
_THINNING = 1.25
_PLANE_REACH = 1.0
"""Points farther from a joined pair in UV than this many of its UV lengths are not near it on the surface."""
_LONGEST_PIECE = 1.25
"""Template edges longer than this many spacings are divided."""


@dataclass(frozen=True, eq=False)
class AnchorPoints:
    """Points on feature curves, and which of them are joined."""

    triangles: IntArray
    """(K,) template triangle of each point."""
    weights: FloatArray
    """(K, 3) barycentric weights in it."""
    positions: FloatArray
    """(K, 3) rest positions, metres."""
    plane: FloatArray
    """(K, 2) UV positions."""
    loops: list[IntArray]
    """Points of each boundary loop, the outer one first."""
    lines: IntArray
    """(E, 2) points joined along contact lines and creases."""
    contact_pairs: IntArray
    """(n, 2) points that touch when the lips are closed."""

    def encroached(self, positions: FloatArray, plane: FloatArray) -> NDArray[np.bool_]:
        """Return which points lie in the ball over a joined pair of anchors, or beyond the polygons of the boundaries.

        The former would break the pair's edge; the latter lie between a thinned boundary and the template's own.

        Args:
            positions: (N, 3) on the surface, metres.
            plane: (N, 2) the same points in UV; it tells the upper lip from the lower one, which touch at rest.
        """
        joined = np.concatenate([self.lines] + [np.stack([loop, np.roll(loop, -1)], axis=1) for loop in self.loops])
        ends, ends_plane = self.positions[joined], self.plane[joined]
        radii = 0.5 * np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
        reach = _PLANE_REACH * np.linalg.norm(ends_plane[:, 0] - ends_plane[:, 1], axis=1)
        inside = ~points_in_loops(plane, [self.plane[loop] for loop in self.loops])
        tree = cKDTree(positions)
        for near, center, limit in zip(
            tree.query_ball_point(ends.mean(axis=1), radii * 1.02), ends_plane.mean(axis=1), reach, strict=True
        ):
            found = np.asarray(near, dtype=np.int64)
            inside[found[np.linalg.norm(plane[found] - center, axis=1) <= limit]] = True
        return inside


@dataclass(frozen=True)
class _CurvePoint:
    start: int
    stop: int
    amount: float
    """Position start * (1 - amount) + stop * amount; start == stop at a vertex."""


def place_anchors(surface: SurfaceTemplate, spacing: FloatArray, num_points: int) -> AnchorPoints:
    """Place anchors on the template's feature curves about as densely as the surface round them is sampled.

    Args:
        surface: the template.
        spacing: (V,) wanted distance between points at each template vertex, metres.
        num_points: points of the whole sampling; anchors are thinned to at most half of them.

    Raises:
        ValueError: the fewest anchors that keep lips, lids and boundaries take more than half of the points.
    """
    curves = find_feature_curves(surface)
    coarseness, previous = 1.0, -1
    while True:
        sampled = _sample_curves(surface, curves, spacing * coarseness)
        count = len({point for curve in sampled for point in curve})
        if count <= _LARGEST_SHARE * num_points:
            return _collect(surface, curves, sampled)
        if count == previous:
            raise ValueError(
                f"num_points: expected at least {int(np.ceil(count / _LARGEST_SHARE))} (twice the {count} points that "
                f"keep lips, lids and boundaries), got {num_points}"
            )
        coarseness, previous = coarseness * _THINNING, count


def _sample_curves(surface: SurfaceTemplate, curves: FeatureCurves, spacing: FloatArray) -> list[list[_CurvePoint]]:
    """Sample the boundaries, then upper and lower contact line alike, then the creases."""
    sampled = [_sample_curve(surface, curve, spacing) for curve in curves.boundaries]
    if curves.contact is not None:
        upper, lower = curves.contact
        place = {int(vertex): i for i, vertex in enumerate(upper.vertices)}
        on_upper = _sample_curve(surface, upper, spacing)
        sampled.append(on_upper)
        sampled.append(
            [
                _CurvePoint(
                    int(lower.vertices[place[point.start]]), int(lower.vertices[place[point.stop]]), point.amount
                )
                for point in on_upper
            ]
        )
    return sampled + [_sample_curve(surface, curve, spacing) for curve in curves.creases]


def _sample_curve(surface: SurfaceTemplate, curve: FeatureCurve, spacing: FloatArray) -> list[_CurvePoint]:
    """Return points at nearly even distances, measured in spacings: template vertices, and divisions of long edges."""
    chain = np.append(curve.vertices, curve.vertices[0]) if curve.closed else curve.vertices
    lengths = np.linalg.norm(np.diff(surface.positions[chain], axis=0), axis=1)
    local = 0.5 * (spacing[chain[:-1]] + spacing[chain[1:]]) * curve.spacing_factor
    sizes = lengths / local
    points, places, done = [], [], 0.0
    for start, stop, size in zip(chain[:-1].tolist(), chain[1:].tolist(), sizes.tolist(), strict=True):
        pieces = max(1, int(np.ceil(size / _LONGEST_PIECE)))
        for piece in range(pieces):
            here = _CurvePoint(start, stop, piece / pieces) if piece else _CurvePoint(start, start, 0.0)
            points.append(here)
            places.append(done + size * piece / pieces)
        done += size
    if not curve.closed:
        points.append(_CurvePoint(int(chain[-1]), int(chain[-1]), 0.0))
        places.append(done)
    segments = max(min(curve.min_segments, len(points) - (not curve.closed)), round(done))
    wanted = np.linspace(0.0, done, segments + 1)[: segments + (not curve.closed)]
    picked = np.unique(np.abs(np.array(places)[None, :] - wanted[:, None]).argmin(axis=1))
    return [points[i] for i in picked]


def _collect(surface: SurfaceTemplate, curves: FeatureCurves, sampled: list[list[_CurvePoint]]) -> AnchorPoints:
    numbers: dict[_CurvePoint, int] = {}
    indexed = [np.array([numbers.setdefault(point, len(numbers)) for point in curve]) for curve in sampled]
    triangles, weights = _to_barycentric(surface, list(numbers))
    num_loops = len(curves.boundaries)
    pairs = np.empty((0, 2), dtype=np.int64)
    fixed = [np.stack([loop, np.roll(loop, -1)], axis=1) for loop in indexed[:num_loops]]
    rest = indexed[num_loops:]
    if curves.contact is not None:
        upper, lower = rest[:2]
        pairs = np.stack([upper, lower], axis=1)[upper != lower]
        fixed += [np.stack([line[:-1], line[1:]], axis=1) for line in (upper, lower)]
        rest = rest[2:]
    corners = surface.faces[triangles]
    positions = np.einsum("kc,kcd->kd", weights, surface.positions[corners])
    plane = np.einsum("kc,kcd->kd", weights, surface.plane[corners])
    creases = [np.stack([loop, np.roll(loop, -1)], axis=1) for loop in rest]
    lines = _drop_crossing(plane, fixed, creases)[sum(len(loop) for loop in indexed[:num_loops]) :]
    return AnchorPoints(triangles, weights, positions, plane, indexed[:num_loops], lines, pairs)


def _drop_crossing(plane: FloatArray, fixed: list[IntArray], creases: list[IntArray]) -> IntArray:
    """Return the fixed lines and those pieces of creases that cross no earlier line (few points cut corners)."""
    kept = np.concatenate(fixed)
    for crease in creases:
        a, b = plane[crease[:, 0]][:, None], plane[crease[:, 1]][:, None]
        c, d = plane[kept[:, 0]][None], plane[kept[:, 1]][None]
        crosses = (cross_product(a, b, c) * cross_product(a, b, d) < 0.0) & (
            cross_product(c, d, a) * cross_product(c, d, b) < 0.0
        )
        kept = np.concatenate([kept, crease[~crosses.any(axis=1)]])
    return kept


def _to_barycentric(surface: SurfaceTemplate, points: list[_CurvePoint]) -> tuple[IntArray, FloatArray]:
    edges = directed_edges(surface.faces)
    rows = {(int(a), int(b)): row for row, (a, b) in enumerate(edges)}
    at_vertex = {int(a): row for (a, _), row in rows.items()}
    triangles, weights = np.empty(len(points), dtype=np.int64), np.zeros((len(points), 3))
    for i, point in enumerate(points):
        forward = rows.get((point.start, point.stop))
        row = at_vertex[point.start] if point.start == point.stop else forward
        if row is None:
            row = rows[point.stop, point.start]
        triangles[i], corner = divmod(row, 3)
        amount = point.amount if forward is not None or point.start == point.stop else 1.0 - point.amount
        weights[i, corner] = 1.0 - amount
        weights[i, (corner + 1) % 3] = amount
    return triangles, weights
