"""Carry detected landmarks from pictures onto the head's surface: rays through pixels, their first hits, a median.

Used once, when the head changes (docs/place_landmarks478.py); what is found is frozen in landmarks478.npz.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from torch_backend.geometry.mesh_topology import unique_edges
from torch_backend.head.head import Head
from torch_backend.head.landmarks478 import (
    INNER_LIP_LOWER,
    INNER_LIP_UPPER,
    IRISES,
    LEFT_LIDS,
    LID_RINGS,
    LIPS,
    MIDLINE,
    NUM_LANDMARKS,
    RIGHT_LIDS,
    Placement,
)

Array = NDArray[np.float64]
_MEDIAN_ROUNDS = 40
_LEAST_FACING = 0.12
"""Surfaces seen from a flatter angle tell nothing: a pixel off is a millimetre and more."""
_OUTLIER_M = 0.012
"""A ray that just misses a nose or a cheek hits something far behind it."""
_TURNED_DEGREES = 12.0
_BESIDE_MIDLINE = 0.45
_MIRROR_ROUNDS = 20
_FORBIDDEN = 10.0
_EDGE_WEIGHT = 0.02
"""What a broken edge of the mesh counts against a distance when landmarks are paired left and right."""


@dataclass(frozen=True)
class Sighting:
    """One picture of the head and what was detected in it."""

    pixels: NDArray[np.float64]
    """(478, 2) from the left and the top."""
    projection: NDArray[np.float64]
    """(4, 4) see `project_points`."""
    vertices: NDArray[np.float32]
    """(V, 3) the head as it was posed, metres."""
    is_open: bool
    """The lips are apart."""
    turn_degrees: float = 0.0
    """Of the head to its own left: from about 15 on, the left cheek hides behind the nose."""

    def with_pixels(self, pixels: NDArray[np.float64]) -> Sighting:
        """Return it with a detection."""
        return replace(self, pixels=pixels)


@dataclass(frozen=True)
class SurfaceHits:
    """Where rays meet a surface first."""

    triangles: NDArray[np.int64]
    """(N,) triangle of each ray, -1 where it misses."""
    barycentric: Array
    """(N, 3) shares of the triangle's corners."""
    facing: Array
    """(N,) cosine between surface and ray: 1 seen straight on, 0 from the side."""


def pixel_rays(projection: Array, pixels: Array) -> tuple[Array, Array]:
    """Return origins and unit directions (N, 3) of the rays through pixels (N, 2).

    Args:
        projection: (4, 4) takes points (x, y, z, 1) to (a, b, c, d); the pixel is (a / d, b / d).
        pixels: (N, 2) from the left and the top.
    """
    inverse = np.linalg.inv(projection)
    ends = []
    for depth in (0.0, 1.0):
        homogeneous = np.concatenate([pixels, np.full((len(pixels), 1), depth), np.ones((len(pixels), 1))], axis=1)
        point = homogeneous @ inverse.T
        ends.append(point[:, :3] / point[:, 3:])
    direction = ends[1] - ends[0]
    return ends[0], direction / np.linalg.norm(direction, axis=1, keepdims=True)


def project_points(projection: Array, points: NDArray[np.floating]) -> Array:
    """Return the pixels (N, 2) of points (N, 3)."""
    homogeneous = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ projection.T
    pixels: Array = homogeneous[:, :2] / homogeneous[:, 3:]
    return pixels


def cast_rays(
    origins: Array, directions: Array, vertices: NDArray[np.floating], triangles: NDArray[np.integer]
) -> SurfaceHits:
    """Find the first triangle that each ray meets (Moeller and Trumbore 1997).

    Args:
        origins: (N, 3).
        directions: (N, 3) of unit length.
        vertices: (V, 3).
        triangles: (F, 3) counter-clockwise seen from outside.
    """
    corners = vertices[triangles].astype(np.float64)
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normals = np.cross(first, second)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
    hit = np.full(len(origins), -1, dtype=np.int64)
    barycentric, facing = np.zeros((len(origins), 3)), np.zeros(len(origins))
    for ray, (origin, direction) in enumerate(zip(origins, directions, strict=True)):
        cross = np.cross(direction, second)
        determinant = np.einsum("fi,fi->f", first, cross)
        safe = np.where(np.abs(determinant) > 1e-18, determinant, np.inf)
        offset = origin - corners[:, 0]
        u = np.einsum("fi,fi->f", offset, cross) / safe
        turned = np.cross(offset, first)
        v = (turned @ direction) / safe
        along = np.einsum("fi,fi->f", second, turned) / safe
        distance = np.where((u >= 0) & (v >= 0) & (u + v <= 1) & (along > 0), along, np.inf)
        nearest = int(distance.argmin())
        if np.isfinite(distance[nearest]):
            hit[ray] = nearest
            barycentric[ray] = 1.0 - u[nearest] - v[nearest], u[nearest], v[nearest]
            facing[ray] = -normals[nearest] @ direction
    return SurfaceHits(hit, barycentric, facing)


def weighted_median(points: Array, weights: Array) -> Array:
    """Return the point (3,) with the least weighted sum of distances to points (N, 3) (Weiszfeld 1937)."""
    center: Array = np.average(points, axis=0, weights=weights)
    for _ in range(_MEDIAN_ROUNDS):
        pull = weights / np.maximum(np.linalg.norm(points - center, axis=1), 1e-7)
        center = np.average(points, axis=0, weights=pull)
    return center


def closest_on_triangles(point: Array, corners: Array) -> tuple[int, Array]:
    """Return the nearest of triangles (F, 3, 3) to a point (3,), and the barycentric place (3,) of the nearest spot."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    candidates = [_inside_plane(point, a, b, c)]
    for first, second, columns in ((a, b, (0, 1)), (b, c, (1, 2)), (c, a, (2, 0))):
        along = np.einsum("fi,fi->f", point - first, second - first)
        share = np.clip(along / np.maximum(((second - first) ** 2).sum(axis=1), 1e-20), 0.0, 1.0)
        place = np.zeros((len(corners), 3))
        place[:, columns[0]], place[:, columns[1]] = 1.0 - share, share
        candidates.append(place)
    best, chosen, where = np.inf, 0, candidates[1][0]
    for place in candidates:
        distance = np.linalg.norm(np.einsum("fc,fci->fi", place, corners) - point, axis=1)
        distance = np.where(np.isnan(place).any(axis=1), np.inf, distance)
        nearest = int(distance.argmin())
        if distance[nearest] < best - 1e-12:
            best, chosen, where = float(distance[nearest]), nearest, place[nearest]
    return chosen, where


def _inside_plane(point: Array, a: Array, b: Array, c: Array) -> Array:
    """Barycentric place (F, 3) of the foot on each triangle's plane; NaN where it lies outside the triangle."""
    first, second, offset = b - a, c - a, point - a
    d00, d01, d11 = (np.einsum("fi,fi->f", p, q) for p, q in ((first, first), (first, second), (second, second)))
    d20, d21 = (np.einsum("fi,fi->f", offset, p) for p in (first, second))
    scale = np.maximum(d00 * d11 - d01 * d01, 1e-30)
    v, w = (d11 * d20 - d01 * d21) / scale, (d00 * d21 - d01 * d20) / scale
    place = np.stack([1.0 - v - w, v, w], axis=1)
    place[(place < 0.0).any(axis=1)] = np.nan
    return place


def place_face_mesh(head: Head, sightings: list[Sighting], edges: NDArray[np.integer]) -> Placement:
    """Find the 478 landmarks on the surface of the head at rest.

    Args:
        head: the mean head.
        sightings: pictures in which a face was found; some with the lips apart, which alone tell the inner lips apart.
        edges: (E, 2) of the detector's mesh, by which left and right are paired.

    Raises:
        ValueError: a landmark was seen in no picture.
    """
    straight = _lay_straight(sightings)
    mirror = pair_mirrored(straight, edges)
    points, spread = _median_points(head, sightings, straight[:, 0], mirror)
    points[mirror == np.arange(NUM_LANDMARKS), 0] = 0.0
    _lay_on_lips(head, points, straight[:, 0], mirror)
    vertices, weights = np.zeros((NUM_LANDMARKS, 3), np.int32), np.zeros((NUM_LANDMARKS, 3))
    surfaces = _Surfaces(head)
    for index in range(NUM_LANDMARKS):
        if points[index, 0] >= 0.0 or mirror[index] == index:
            vertices[index], weights[index] = surfaces.closest(index, points[index])
    of_mirror = surfaces.mirror_vertices()
    for index in range(NUM_LANDMARKS):
        if points[index, 0] < 0.0 and mirror[index] != index:
            vertices[index], weights[index] = of_mirror[vertices[mirror[index]]], weights[mirror[index]]
    return Placement(vertices, weights.astype(np.float32), mirror.astype(np.int32), spread)


def _median_points(
    head: Head, sightings: list[Sighting], side: Array, mirror: NDArray[np.integer]
) -> tuple[Array, Array]:
    """Rest positions (478, 3) of the landmarks, and the mean distance (478,) of what single pictures say, metres.

    What is seen of a landmark counts for its mirror image as well, so the positions are symmetric.
    """
    triangles = head.all_triangles
    triangles = triangles[~np.isin(triangles, head.regions["ears"]).any(axis=1)]  # the face ends before them
    is_eye = np.isin(triangles[:, 0], range(*head.parts["eyes"]))
    places: list[list[Array]] = [[] for _ in range(NUM_LANDMARKS)]
    trust: list[list[float]] = [[] for _ in range(NUM_LANDMARKS)]
    for sighting in sightings:
        hidden = side * np.sign(sighting.turn_degrees) > _BESIDE_MIDLINE
        told = [index for index in range(NUM_LANDMARKS) if _tells(sighting, index, hidden)]
        # A lid may hide the rim of an iris: rays to it look through the lids.
        for chosen, faces in (
            ([index for index in told if index not in IRISES], triangles),
            ([index for index in told if index in IRISES], triangles[is_eye]),
        ):
            rays = pixel_rays(sighting.projection, sighting.pixels[chosen])
            hits = cast_rays(*rays, sighting.vertices, faces)
            rest = np.einsum("nc,nci->ni", hits.barycentric, head.vertices[faces[hits.triangles]].astype(np.float64))
            for row, index in enumerate(chosen):
                if hits.triangles[row] >= 0 and hits.facing[row] > _LEAST_FACING:
                    places[index].append(rest[row])
                    places[mirror[index]].append(rest[row] * np.array([-1.0, 1.0, 1.0]))
                    trust[index].append(float(hits.facing[row]) ** 2)
                    trust[mirror[index]].append(float(hits.facing[row]) ** 2)
    unseen = [index for index, found in enumerate(places) if not found]
    if unseen:
        raise ValueError(f"landmarks {unseen} were seen in no picture; render the head from more sides")
    medians = np.zeros((NUM_LANDMARKS, 3))
    spread = np.zeros(NUM_LANDMARKS)
    for index in range(NUM_LANDMARKS):
        found, weights = np.array(places[index]), np.array(trust[index])
        distance = np.linalg.norm(found - weighted_median(found, weights), axis=1)
        kept = distance <= max(_OUTLIER_M, float(distance.min()))
        medians[index] = weighted_median(found[kept], weights[kept])
        spread[index] = np.average(np.linalg.norm(found[kept] - medians[index], axis=1), weights=weights[kept])
    return medians, spread


def _lay_straight(sightings: list[Sighting]) -> Array:
    """Return the landmarks (478, 3) of the straightest picture, flat: to the left and up from between the eyes.

    The unit is half the distance of the eyes' outer corners.
    """
    straight = min(sightings, key=lambda one: abs(one.turn_degrees) + one.is_open)
    right, left = straight.pixels[RIGHT_LIDS[0]], straight.pixels[LEFT_LIDS[0]]
    flat = (straight.pixels - 0.5 * (left + right)) / (0.5 * np.linalg.norm(left - right))
    return np.stack([flat[:, 0], -flat[:, 1], np.zeros(len(flat))], axis=1)


def _tells(sighting: Sighting, index: int, hidden: NDArray[np.bool_]) -> bool:
    """Whether a picture is used for a landmark: inner lips need open ones, all but lips closed ones."""
    if sighting.is_open:
        return index in LIPS
    if abs(sighting.turn_degrees) > _TURNED_DEGREES and hidden[index]:
        return False
    return index not in INNER_LIP_UPPER and index not in INNER_LIP_LOWER


def pair_mirrored(points: Array, edges: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return (478,) the landmark on the other side of each: near its mirror image, with mirrored neighbours.

    Args:
        points: (478, 3) nearly symmetric about x = 0; the unit is half the distance of the eyes.
        edges: (E, 2) between them; points without an edge are paired by distance alone.
    """
    count = len(points)
    adjacency = np.zeros((count, count), dtype=np.float64)
    adjacency[edges[:, 0], edges[:, 1]] = adjacency[edges[:, 1], edges[:, 0]] = 1.0
    flipped = points * np.array([-1.0, 1.0, 1.0])
    distance = np.linalg.norm(flipped[:, None] - points[None], axis=2)
    on_midline = np.isin(np.arange(count), MIDLINE)
    same = np.eye(count, dtype=bool)
    distance[on_midline[:, None] & ~same | on_midline[None] & ~same | ~on_midline[:, None] & same] = _FORBIDDEN
    cost, pairing = distance, np.arange(count)
    for _ in range(_MIRROR_ROUNDS):
        pairing = linear_sum_assignment(cost + cost.T)[1]
        carried = np.zeros((count, count))
        carried[np.arange(count), pairing] = 1.0
        kept = adjacency @ carried @ adjacency  # (a, b): neighbours of a whose partners are neighbours of b
        broken = np.maximum(adjacency.sum(axis=1)[:, None], adjacency.sum(axis=1)[None]) - kept
        cost = distance + _EDGE_WEIGHT * broken
    return np.where(pairing[pairing] == np.arange(count), pairing, np.arange(count)).astype(np.int64)


def _lay_on_lips(head: Head, points: Array, side: Array, mirror: NDArray[np.integer]) -> None:
    """Lay the inner lips' points on the lines where the lips meet, in place, spread as they are in the picture.

    A detector's corners of the mouth lie a little inside the head's own: shares of the way to the corner count.
    """
    for column, row in enumerate((INNER_LIP_UPPER, INNER_LIP_LOWER)):
        line = head.vertices[_lip_line(head, column)].astype(np.float64)
        indices = list(row)
        symmetric = 0.5 * (side[indices] - side[mirror[indices]])
        across = symmetric / np.abs(symmetric[0]) * np.abs(line[0, 0])
        points[indices] = np.stack([np.interp(across, line[:, 0], line[:, axis]) for axis in range(3)], axis=1)


def _lip_line(head: Head, column: int) -> NDArray[np.int32]:
    """Return the vertices of the upper (0) or lower (1) lip's contact line, from the right corner to the left one."""
    right, left = head.landmarks68[[60]], head.landmarks68[[64]]
    return np.concatenate([right, head.lip_contact_pairs[:, column], left]).astype(np.int32)


class _Surfaces:
    """The parts of the head that landmarks may lie on."""

    def __init__(self, head: Head) -> None:
        self._head = head
        skin = head.skin_triangles
        hidden = np.isin(skin, np.concatenate([head.regions["mouth_bag"], head.regions["ears"]])).any(axis=1)
        on_lid = np.isin(skin, head.regions["eyelids"]).all(axis=1) & np.isin(skin, head.regions["lid_margin"]).any(1)
        eyes = head.all_triangles[np.isin(head.all_triangles[:, 0], range(*head.parts["eyes"]))]
        self._skin, self._lids, self._eyes = skin[~hidden], skin[on_lid], eyes
        on_midline = head.mirror == np.arange(len(head.mirror))
        edges = unique_edges(skin[~hidden])
        self._midline = np.insert(edges[on_midline[edges].all(axis=1)], 2, 0, axis=1)
        self._midline[:, 2] = self._midline[:, 1]
        self._lips = [_strip(_lip_line(head, column)) for column in (0, 1)]

    def closest(self, index: int, point: Array) -> tuple[NDArray[np.int32], Array]:
        """Return three vertices and their shares for a landmark near a point (3,)."""
        triangles = self._skin
        if index in IRISES:
            triangles = self._eyes
        elif index in MIDLINE and index not in (13, 14):
            triangles = self._midline
        elif index in LID_RINGS:
            triangles = self._lids
        elif index in INNER_LIP_UPPER or index in INNER_LIP_LOWER:
            triangles = self._lips[int(index in INNER_LIP_LOWER and index not in INNER_LIP_UPPER)]
        chosen, place = closest_on_triangles(point, self._head.vertices[triangles].astype(np.float64))
        return triangles[chosen].astype(np.int32), place

    def mirror_vertices(self) -> NDArray[np.int32]:
        """Return (V,) the mirror image of each vertex of skin and eyes; the others are their own."""
        mirror = np.arange(len(self._head.vertices), dtype=np.int32)
        mirror[: self._head.num_skin_vertices] = self._head.mirror
        start, stop = self._head.parts["eyes"]
        eyes = self._head.vertices[start:stop].astype(np.float64)
        for row, point in enumerate(eyes * np.array([-1.0, 1.0, 1.0])):
            mirror[start + row] = start + np.linalg.norm(eyes - point, axis=1).argmin()
        return mirror


def _strip(line: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return the segments of a line of vertices as triangles without area (n - 1, 3)."""
    return np.stack([line[:-1], line[1:], line[1:]], axis=1).astype(np.int32)
