"""Sample any number of points on a surface template, denser near its key points, and triangulate them.

MMTalker's continuous face (its equations 5 and 6, our numbering): a sample is a triangle of the template with
barycentric coordinates; anything known at the template's vertices is interpolated there. The samples' own triangles
come from their Delaunay triangulation in the UV plane. Lines that must survive any resolution (where the lips
meet, the lids' edges, boundaries) are sampled first, as anchors; the rest is drawn by the triangles' probabilities with
blue-noise spacing and a little smoothing along the surface.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from torch_backend.geometry.anchor_points import AnchorPoints, place_anchors
from torch_backend.geometry.blue_noise import select_blue_noise
from torch_backend.geometry.mesh_topology import IntArray, unique_edges
from torch_backend.geometry.point_location import locate_by_walking, neighbor_triangles
from torch_backend.geometry.surface_template import FloatArray, SurfaceTemplate
from torch_backend.geometry.triangulation import triangulate_uv

__all__ = ["SurfaceSamples", "SurfaceTemplate", "initial_face_probabilities", "sample_surface"]

MIN_POINTS = 300

_FINEST_SPACING_M = 0.0030
_COARSEST_SPACING_M = 0.0115
_SPACING_GROWTH = 0.16
_KEY_POINT_REACH_M = 0.006
_POCKET_REGION = "mouth_bag"
_POCKET_SPACING_FACTOR = 0.8
"""The mouth's inside is sampled more densely than its distance asks for: coarse, it would cut through the teeth."""
_BEND_SPACING_RADIANS = 0.55
"""Largest turn of the normal between neighbouring samples, where the finest spacing allows it."""

_CANDIDATES_PER_POINT = 6
_SIDE_WEIGHT = 0.6
"""How far apart, in spacings, opposite normals hold two points: keeps the lips' and the ears' sides independent."""
_SMOOTHING_ROUNDS = 4
_SMOOTHING_STEP = 0.6
_MEMBER_WEIGHT = 0.999


@dataclass(frozen=True, eq=False)
class SurfaceSamples:
    """M points on a template and the triangles between them."""

    triangle_indices: NDArray[np.int32]
    """(M,) template triangle of each point."""
    barycentric: NDArray[np.float32]
    """(M, 3) weights of that triangle's corners, each >= 0, sum 1."""
    triangle_vertices: NDArray[np.int32]
    """(M, 3) template vertices of those corners."""
    uv: NDArray[np.float32]
    """(M, 2) plane positions."""
    faces: NDArray[np.int32]
    """(Fm, 3) triangles between the points, counter-clockwise from outside."""
    num_anchors: int
    """The first points are anchors: on contact lines, lid edges, boundaries."""
    lip_contact_pairs: NDArray[np.int32]
    """(n, 2) anchors on the upper and the lower lip that touch when the lips are closed."""
    regions: dict[str, NDArray[np.int32]]
    """Sorted points in each of the template's regions: those whose weight lies on its vertices."""

    def interpolate(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return values at the points by barycentric interpolation (equation 5).

        Args:
            values: (..., V, C) at the template's vertices.

        Returns:
            (..., M, C) in the dtype of `values`.
        """
        weights = self.barycentric.astype(values.dtype, copy=False)
        mixed: NDArray[np.floating] = sum(
            values[..., self.triangle_vertices[:, corner], :] * weights[:, corner, None] for corner in range(3)
        )
        return mixed


def initial_face_probabilities(surface: SurfaceTemplate) -> NDArray[np.float64]:
    """Return (F,) probabilities, sum 1, that a drawn point falls on each template triangle.

    The wanted spacing grows with the distance to the nearest key point and is small where the surface bends (ears,
    nostrils) and in the mouth, which must not cut through the teeth. A probability is area / spacing^2, normalised.
    """
    centers = surface.positions[surface.faces].mean(axis=1)
    keys = np.asarray(surface.key_points, dtype=np.int64)
    spacing = np.full(len(centers), _COARSEST_SPACING_M)
    if len(keys):
        offsets = centers[:, None, :] - surface.positions[keys][None, :, :]
        distance = np.sqrt((offsets**2).sum(axis=2).min(axis=1))
        wanted = _FINEST_SPACING_M + _SPACING_GROWTH * np.maximum(distance - _KEY_POINT_REACH_M, 0.0)
        spacing = np.minimum(wanted, _COARSEST_SPACING_M)
    bend = _vertex_bending(surface)[surface.faces].mean(axis=1)
    spacing = np.minimum(spacing, np.maximum(_BEND_SPACING_RADIANS / np.maximum(bend, 1e-9), _FINEST_SPACING_M))
    spacing[_pocket_faces(surface)] *= _POCKET_SPACING_FACTOR
    density = surface.face_areas / spacing**2
    return density / density.sum()


def _pocket_faces(surface: SurfaceTemplate) -> NDArray[np.bool_]:
    member = np.zeros(len(surface.positions), dtype=bool)
    member[np.asarray(surface.regions.get(_POCKET_REGION, ()), dtype=np.int64)] = True
    inside: NDArray[np.bool_] = member[surface.faces].all(axis=1)
    return inside


def sample_surface(
    surface: SurfaceTemplate,
    num_points: int,
    seed: int,
    probabilities: NDArray[np.floating] | None = None,
) -> SurfaceSamples:
    """Draw points on the template: anchors, then the rest non-uniformly; and triangulate them.

    Args:
        surface: the template.
        num_points: M, at least MIN_POINTS on a head; on any surface enough for twice its anchors.
        seed: of the random draw; the same seed gives the same samples.
        probabilities: (F,) probability that a point falls on each triangle; `initial_face_probabilities` if None.
            Those of the mouth's inside are raised to the initial ones.

    Raises:
        ValueError: too few points, probabilities of another shape, negative or without a positive sum, or a
            template whose UV map folds over.
    """
    chances = _checked_probabilities(surface, probabilities)
    if num_points < 3:
        raise ValueError(f"num_points: expected at least 3, got {num_points}")
    spacing = _face_spacing(surface, chances, num_points)
    anchors = place_anchors(surface, _face_to_vertex_mean(surface, spacing), num_points)
    random = np.random.default_rng(seed)
    count = num_points - len(anchors.triangles)
    drawn_triangles, drawn_weights = _draw_spread_points(surface, chances, spacing, anchors, count, random)
    triangles = np.concatenate([anchors.triangles, drawn_triangles])
    weights = np.concatenate([anchors.weights, drawn_weights])
    neighbors = neighbor_triangles(surface.faces)
    for round_index in range(_SMOOTHING_ROUNDS):
        if round_index % 2 == 0:
            faces = _triangulate(surface, triangles, weights, anchors)
        triangles, weights = _smooth(surface, triangles, weights, faces, anchors, neighbors)
    faces = _triangulate(surface, triangles, weights, anchors)
    corners = surface.faces[triangles]
    return SurfaceSamples(
        triangle_indices=triangles.astype(np.int32),
        barycentric=weights.astype(np.float32),
        triangle_vertices=corners.astype(np.int32),
        uv=_mix(surface.plane, corners, weights).astype(np.float32),
        faces=faces,
        num_anchors=len(anchors.triangles),
        lip_contact_pairs=anchors.contact_pairs.astype(np.int32),
        regions=_sample_regions(surface, corners, weights),
    )


def _checked_probabilities(surface: SurfaceTemplate, probabilities: NDArray[np.floating] | None) -> FloatArray:
    if probabilities is None:
        return initial_face_probabilities(surface)
    chances = np.asarray(probabilities, dtype=np.float64)
    if chances.shape != (len(surface.faces),):
        raise ValueError(f"probabilities: expected shape ({len(surface.faces)},), got {chances.shape}")
    if not np.isfinite(chances).all() or chances.min() < 0.0 or chances.sum() <= 0.0:
        raise ValueError(f"probabilities: expected finite values >= 0 with a positive sum, got {chances.min()}..")
    chances = chances / chances.sum()
    # Learned probabilities know nothing of the teeth, which a coarse mouth would cut.
    pocket = _pocket_faces(surface)
    chances[pocket] = np.maximum(chances[pocket], initial_face_probabilities(surface)[pocket])
    return chances / chances.sum()


def _face_spacing(surface: SurfaceTemplate, chances: FloatArray, num_points: int) -> FloatArray:
    """Return the (F,) side of a hexagonal lattice of num_points * chance points on each triangle, metres."""
    density = np.maximum(num_points * chances / surface.face_areas, 1e-12)
    spacing: FloatArray = np.sqrt(2.0 / (np.sqrt(3.0) * density))
    longest = np.sqrt(surface.face_areas.sum())
    return np.minimum(spacing, longest)


def _face_to_vertex_mean(surface: SurfaceTemplate, values: FloatArray) -> FloatArray:
    total, weight = np.zeros(len(surface.positions)), np.zeros(len(surface.positions))
    for corner in range(3):
        np.add.at(total, surface.faces[:, corner], values * surface.face_areas)
        np.add.at(weight, surface.faces[:, corner], surface.face_areas)
    return total / np.maximum(weight, 1e-30)


def _vertex_bending(surface: SurfaceTemplate) -> FloatArray:
    """Return (V,) radians per metre by which the normal turns along the edges at a vertex, averaged with neighbours."""
    edges = unique_edges(surface.faces)
    normals = surface.vertex_normals
    turn = np.linalg.norm(normals[edges[:, 0]] - normals[edges[:, 1]], axis=1)
    length = np.linalg.norm(surface.positions[edges[:, 0]] - surface.positions[edges[:, 1]], axis=1)
    bending = turn / np.maximum(length, 1e-12)
    for _ in range(2):
        total, count = np.zeros(len(surface.positions)), np.zeros(len(surface.positions))
        for end in (0, 1):
            np.add.at(total, edges[:, end], bending)
            np.add.at(count, edges[:, end], 1.0)
        mean = total / np.maximum(count, 1.0)
        bending = mean[edges].mean(axis=1)
    return mean


def _mix(values: FloatArray, corners: IntArray, weights: FloatArray) -> FloatArray:
    mixed: FloatArray = np.einsum("mk,mkc->mc", weights, values[corners])
    return mixed


def _draw_spread_points(
    surface: SurfaceTemplate,
    chances: FloatArray,
    spacing: FloatArray,
    anchors: AnchorPoints,
    count: int,
    random: np.random.Generator,
) -> tuple[IntArray, FloatArray]:
    """Return `count` triangles and barycentric weights, spread with the wanted spacing and off the anchors' lines."""
    total = max(_CANDIDATES_PER_POINT * count, 64)
    triangles = np.searchsorted(np.cumsum(chances) / chances.sum(), random.random(total), side="right")
    triangles = np.minimum(triangles, len(chances) - 1)
    root, along = np.sqrt(random.random(total)), random.random(total)
    weights = np.stack([1.0 - root, root * (1.0 - along), root * along], axis=1)
    corners = surface.faces[triangles]
    free = ~anchors.encroached(_mix(surface.positions, corners, weights), _mix(surface.plane, corners, weights))
    triangles, weights = triangles[free], weights[free]
    if len(triangles) < count:
        raise ValueError(f"num_points: expected room for {count} points between the anchors, got {len(triangles)}")
    side = _SIDE_WEIGHT * float(np.median(spacing[triangles]))

    def embed(index: IntArray, mix: FloatArray) -> FloatArray:
        corners = surface.faces[index]
        normals = _mix(surface.vertex_normals, corners, mix)
        return np.concatenate([_mix(surface.positions, corners, mix), side * normals], axis=1)

    chosen = select_blue_noise(
        embed(triangles, weights), spacing[triangles], count, embed(anchors.triangles, anchors.weights)
    )
    return triangles[chosen], weights[chosen]


def _triangulate(
    surface: SurfaceTemplate, triangles: IntArray, weights: FloatArray, anchors: AnchorPoints
) -> NDArray[np.int32]:
    corners = surface.faces[triangles]
    normals = _mix(surface.vertex_normals, corners, weights)
    return triangulate_uv(
        _mix(surface.plane, corners, weights),
        anchors.loops,
        anchors.lines,
        _mix(surface.positions, corners, weights),
        normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30),
    )


def _smooth(
    surface: SurfaceTemplate,
    triangles: IntArray,
    weights: FloatArray,
    faces: NDArray[np.int32],
    anchors: AnchorPoints,
    neighbors: IntArray,
) -> tuple[IntArray, FloatArray]:
    """Move the drawn points towards the mean of their neighbours along the surface; anchors stay."""
    corners = surface.faces[triangles]
    positions = _mix(surface.positions, corners, weights)
    plane = _mix(surface.plane, corners, weights)
    edges = unique_edges(faces)
    total, count = np.zeros_like(positions), np.zeros(len(positions))
    for here, there in ((0, 1), (1, 0)):
        np.add.at(total, edges[:, here], positions[edges[:, there]])
        np.add.at(count, edges[:, here], 1.0)
    step = _SMOOTHING_STEP * (total / np.maximum(count, 1.0)[:, None] - positions)
    target = plane + _to_plane(surface, triangles, step)
    drawn = np.arange(len(anchors.triangles), len(triangles))
    found, mixed = locate_by_walking(target[drawn], triangles[drawn], surface.plane, surface.faces, neighbors)
    mixed = np.maximum(mixed, 0.0)
    mixed /= mixed.sum(axis=1, keepdims=True)
    new_positions = _mix(surface.positions, surface.faces[np.maximum(found, 0)], mixed)
    moved = (found >= 0) & ~anchors.encroached(new_positions, target[drawn])
    new_triangles, new_weights = triangles.copy(), weights.copy()
    new_triangles[drawn[moved]] = found[moved]
    new_weights[drawn[moved]] = mixed[moved]
    return new_triangles, new_weights


def _to_plane(surface: SurfaceTemplate, triangles: IntArray, step: FloatArray) -> FloatArray:
    """Map (M, 3) steps on the surface to the (M, 2) plane by each point's triangle."""
    corners = surface.positions[surface.faces[triangles]]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    a, b, c = (first * first).sum(1), (first * second).sum(1), (second * second).sum(1)
    p, q = (step * first).sum(1), (step * second).sum(1)
    determinant = a * c - b * b
    alpha, beta = (c * p - b * q) / determinant, (a * q - b * p) / determinant
    plane = surface.plane[surface.faces[triangles]]
    return alpha[:, None] * (plane[:, 1] - plane[:, 0]) + beta[:, None] * (plane[:, 2] - plane[:, 0])


def _sample_regions(surface: SurfaceTemplate, corners: IntArray, weights: FloatArray) -> dict[str, NDArray[np.int32]]:
    regions = {}
    for name, members in surface.regions.items():
        member = np.zeros(len(surface.positions))
        member[np.asarray(members, dtype=np.int64)] = 1.0
        share = (member[corners] * weights).sum(axis=1)
        regions[name] = np.flatnonzero(share >= _MEMBER_WEIGHT).astype(np.int32)
    return regions
