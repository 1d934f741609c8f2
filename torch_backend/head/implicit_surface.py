"""The head as an implicit surface: profile loft, smooth unions of named features, small frontal reliefs (author space).

The field is negative inside, roughly a distance near the skin (gradient 0.8 to 1.2) and meant for sculpting and
projection only; :mod:`torch_backend.head.signed_distance` gives true distances. Ears, lid openings, nostrils and the
mouth cavity are not in the field: mesh rings make them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from torch_backend.head import profile_curves as profile
from torch_backend.head.author_space import Array, smoothstep

Point = Sequence[float]

LID_THICKNESS = 0.20
"""How far the lids' skin lies outside the eyeball sphere, cm."""
LID_CREASE_HEIGHT = 0.31
"""Frontal height of the upper lid's crease above the lid margin, cm."""


NOSE_ROOT = np.array([0.0, 8.6, -1.5])
"""Point that the nose is scaled about."""
NOSE_SCALE = 0.94
"""Size of the nose against the numbers it is authored in."""


def smooth_union(first: Array, second: Array, radius: float) -> Array:
    """Return the polynomial smooth minimum of two fields, blending over about `radius` cm."""
    h = np.clip(0.5 + 0.5 * (second - first) / radius, 0.0, 1.0)
    return second * (1.0 - h) + first * h - radius * h * (1.0 - h)


def smooth_intersection(first: Array, second: Array, radius: float) -> Array:
    """Return the smooth maximum of two fields (carving when the second is a negated shape)."""
    return -smooth_union(-first, -second, radius)


def ellipsoid(points: Array, center: Point, radii: Point) -> Array:
    """Return the approximate distance of points (..., 3) to an axis-aligned ellipsoid."""
    offset = points - np.asarray(center, dtype=np.float64)
    size = np.asarray(radii, dtype=np.float64)
    scaled = np.linalg.norm(offset / size, axis=-1)
    slope = np.linalg.norm(offset / (size * size), axis=-1)
    return scaled * (scaled - 1.0) / np.maximum(slope, 1e-6)


def capsule(points: Array, start: Point, stop: Point, radii: tuple[float, float]) -> Array:
    """Return the distance of points (..., 3) to a capsule whose radius runs linearly from start to stop."""
    a = np.asarray(start, dtype=np.float64)
    axis = np.asarray(stop, dtype=np.float64) - a
    t = np.clip(((points - a) @ axis) / (axis @ axis), 0.0, 1.0)
    radius = radii[0] + (radii[1] - radii[0]) * t
    return np.linalg.norm(points - a - t[..., None] * axis, axis=-1) - radius


def bezier_tube(points: Array, controls: Sequence[Point], radii: tuple[float, float], segments: int = 10) -> Array:
    """Return the distance of points (..., 3) to a tube along the quadratic Bezier curve of three control points."""
    a, b, c = (np.asarray(control, dtype=np.float64) for control in controls)
    t = np.linspace(0.0, 1.0, segments + 1)[:, None]
    curve = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
    size = radii[0] + (radii[1] - radii[0]) * t[:, 0]
    pieces = [capsule(points, curve[i], curve[i + 1], (size[i], size[i + 1])) for i in range(segments)]
    return np.minimum.reduce(pieces)


def frontal_ridge(x: Array, z: Array, start: tuple[float, float], stop: tuple[float, float], width: float) -> Array:
    """Return a Gaussian ridge (0..1) of the given width along the frontal segment start-stop, at (x, z)."""
    a = np.asarray(start, dtype=np.float64)
    axis = np.asarray(stop, dtype=np.float64) - a
    plane = np.stack([x, z], axis=-1)
    t = np.clip(((plane - a) @ axis) / (axis @ axis), 0.0, 1.0)
    distance = np.linalg.norm(plane - a - t[..., None] * axis, axis=-1)
    return np.exp(-((distance / width) ** 2))


def _loft(points: Array) -> Array:
    x, f, z = points[..., 0], points[..., 1], points[..., 2]
    height = np.clip(z, -13.0, 11.6)
    middle = profile.widest_line(height)
    front = f > middle
    depth = np.where(front, profile.front_line(height) - middle, middle - profile.back_line(height))
    exponent = np.where(front, profile.front_exponent(height), profile.BACK_EXPONENT)
    u = np.abs(x) / profile.half_width(height)
    v = np.abs(f - middle) / depth
    q = (u**exponent + v**exponent + 1e-9) ** (1.0 / exponent)
    radius = np.sqrt(x * x + (f - middle) ** 2) + 1e-6
    return (q - 1.0) * radius / np.maximum(q, 0.05)


def _skull_and_jaw(points: Array) -> Array:
    x, f, z = points[..., 0], points[..., 1], points[..., 2]
    field = _loft(points)
    # Clamping z keeps the crown ellipsoid from cutting off the chin.
    crown = points.copy()
    crown[..., 2] = np.maximum(z, 1.2)
    field = smooth_intersection(field, ellipsoid(crown, (0, -0.5, 1.2), (9.6, 11.0, 9.8)), 1.2)
    underside = np.array([0.06, -0.46, -0.86])
    underside /= np.linalg.norm(underside)
    field = smooth_intersection(field, (points - np.array([0.0, 8.4, -10.95])) @ underside, 1.9)
    field = smooth_union(field, ellipsoid(points, (4.4, 5.0, -2.0), (1.9, 2.0, 1.3)), 2.0)
    field = smooth_union(field, ellipsoid(points, (3.6, 5.5, -5.2), (1.9, 1.8, 2.3)), 2.0)
    field = smooth_union(
        field, bezier_tube(points, [(4.4, 1.2, -6.3), (4.2, 4.2, -8.8), (1.3, 7.6, -9.5)], (0.7, 0.7)), 1.9
    )
    # Beside the nose, where flank, cheek and socket would leave a pit.
    field = smooth_union(field, capsule(points, (1.65, 7.85, -0.8), (2.25, 8.1, -2.8), (0.5, 0.68)), 1.1)
    hollow = -0.03 * np.exp(-(((x - 4.6) / 1.6) ** 2) - ((z + 6.0) / 1.9) ** 2) * _front_mask(f)
    temple = -0.22 * np.exp(-(((f - 5.4) / 1.9) ** 2) - ((z - 2.6) / 2.0) ** 2) / (1.0 + np.exp(-(x - 4.0) / 0.4))
    return field - hollow - temple


def _eye_sockets_and_brow(points: Array, field: Array) -> Array:
    field = smooth_intersection(field, -ellipsoid(points, (3.1, 9.55, -0.05), (1.9, 1.6, 1.15)), 1.3)
    field = smooth_intersection(field, -ellipsoid(points, (1.55, 9.75, 0.1), (0.5, 0.9, 0.9)), 0.9)
    brow = bezier_tube(points, [(0.6, 8.72, 1.65), (3.2, 8.85, 2.55), (5.9, 4.9, 0.7)], (0.5, 0.12))
    return smooth_union(field, brow, 1.2)


def _bust(points: Array) -> Array:
    """Return the field of lower neck, trapezius and shoulders: ellipses stacked along z."""
    x, f, z = np.abs(points[..., 0]), points[..., 1], np.clip(points[..., 2], -20.0, -7.0)
    front, back, width = profile.bust_front(z), profile.bust_back(z), profile.bust_half_width(z)
    slope = (profile.bust_half_width(z - 0.1) - profile.bust_half_width(z + 0.1)) / 0.2
    forward = f - 0.5 * (front + back)
    q = np.sqrt((x / width) ** 2 + (2.0 * forward / (front - back)) ** 2 + 1e-9)
    radius = np.hypot(x, forward) + 1e-6
    column = (q - 1.0) * radius / np.maximum(q, 0.05) / np.hypot(1.0, slope * x / radius)
    return column + np.maximum(points[..., 2] + 7.0, 0.0)


def _neck(points: Array) -> Array:
    throat = capsule(points, (0, -0.9, -6), (0, -2.4, -20), (3.9, 4.4))
    nape = capsule(points, (0, -3.2, -3), (0, -4.2, -20), (3.5, 4.3))
    neck = smooth_union(throat, nape, 1.5)
    cord = bezier_tube(points, [(4.5, -2.3, -5.0), (4.1, 0.4, -11.0), (1.0, 2.0, -17.0)], (0.6, 0.62))
    neck = smooth_union(neck, cord, 0.9)
    neck = smooth_union(neck, ellipsoid(points, (0, 2.3, -13.2), (0.9, 0.9, 1.4)), 1.3)
    chest = _bust(points)
    collarbone = bezier_tube(points, [(0.9, 2.2, -17.0), (4.6, 2.6, -16.6), (10.4, -1.2, -16.7)], (0.5, 0.42))
    neck = smooth_union(neck, smooth_union(chest, collarbone, 0.8), 1.1)
    under_chin = ellipsoid(points, (0, 3.6, -9.9), (2.4, 2.6, 1.4))
    return smooth_union(neck, under_chin, 1.6)


def _nose(points: Array) -> Array:
    points = NOSE_ROOT + (points - NOSE_ROOT) / NOSE_SCALE
    nose = capsule(points, (0, 8.72, 0.9), (0, 10.30, -2.6), (0.50, 0.55))
    nose = smooth_union(nose, capsule(points, (0, 8.0, 0.2), (0, 9.15, -3.2), (0.72, 1.25)), 0.8)
    tip = np.linalg.norm(points - np.array([0.0, 10.52, -3.22]), axis=-1) - 0.82
    nose = smooth_union(nose, tip, 0.5)
    nose = smooth_union(nose, ellipsoid(points, (0.40, 10.66, -3.36), (0.5, 0.5, 0.5)), 0.35)
    wing = ellipsoid(points, (1.22, 9.78, -3.74), (0.54, 0.90, 0.68))
    nose = smooth_union(nose, wing, 0.38)
    nose = smooth_union(nose, capsule(points, (0, 10.45, -3.85), (0, 9.6, -4.50), (0.30, 0.40)), 0.30)
    return NOSE_SCALE * nose


def _alar_crease(points: Array) -> Array:
    """Return how deep (cm) the furrow round the nose wing is: a soft tube that hardly depends on depth."""
    points = NOSE_ROOT + (points - NOSE_ROOT) / NOSE_SCALE
    squeezed = points * np.array([1.0, 0.45, 1.0])
    curve = [(1.30, 10.2 * 0.45, -2.95), (2.10, 9.8 * 0.45, -2.85), (1.92, 9.2 * 0.45, -4.15)]
    distance = bezier_tube(squeezed, curve, (0.0, 0.0))
    return 0.20 * np.exp(-((distance / 0.20) ** 2)) * smoothstep(points[..., 2], -4.45, -3.75)


def _closed_lids(points: Array, field: Array) -> Array:
    offset = points - profile.EYE_CENTER
    radius = np.linalg.norm(offset, axis=-1)
    shell_radius = profile.EYE_RADIUS + LID_THICKNESS
    field = smooth_union(field, radius - shell_radius, 0.22)
    x = points[..., 0]
    above = profile.height_above_lid(x, points[..., 2])
    along = smoothstep(x, 1.7, 2.3) * (1.0 - smoothstep(x, 4.3, 5.2)) * (offset[..., 1] > 0)
    near = np.exp(-((np.maximum(radius - shell_radius, 0.0) / 0.9) ** 2))
    crease = 0.13 * np.exp(-(((above - LID_CREASE_HEIGHT) / 0.12) ** 2))
    hood = 0.15 * np.exp(-(((above - LID_CREASE_HEIGHT - 0.30) / 0.22) ** 2))
    return field + (crease - hood) * along * near


def _front_mask(f: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-(f - 5.0) / 0.5))


def skin_field(points: ArrayLike) -> Array:
    """Return the skin's implicit field (...,) at author-space points (..., 3) in cm: negative inside, zero on the skin.

    The field uses |x|, so the surface is exactly mirror symmetric.
    """
    half = np.array(points, dtype=np.float64)
    half[..., 0] = np.abs(half[..., 0])
    x, f, z = half[..., 0], half[..., 1], half[..., 2]
    field = _eye_sockets_and_brow(half, _skull_and_jaw(half))
    field = smooth_union(field, _neck(half), 2.6)
    field = smooth_union(field, _nose(half), 0.7)
    front = _front_mask(f)
    cheek_pad = 0.10 * frontal_ridge(x, z, (2.6, -4.3), (3.7, -6.4), 0.7)
    nasolabial_fold = 0.09 * frontal_ridge(x, z, (2.0, -4.0), (3.15, -6.7), 0.32)
    field = field + front * (_alar_crease(half) - profile.lip_relief(x, z) - cheek_pad + nasolabial_fold)
    field = _closed_lids(half, field)
    return np.maximum(field, profile.bust_edge(x) - 0.4 - z)


def field_gradient(points: Array, step: float = 0.03) -> Array:
    """Return the central-difference gradient (N, 3) of the skin field at points (N, 3)."""
    offsets = np.eye(3) * step
    return np.stack([(skin_field(points + o) - skin_field(points - o)) / (2.0 * step) for o in offsets], axis=-1)


def project_to_skin(points: Array, iterations: int = 4) -> Array:
    """Move points (N, 3) near the skin onto its zero set by damped Newton steps of at most 0.3 cm."""
    moved = points.copy()
    for _ in range(iterations):
        gradient = field_gradient(moved)
        step = skin_field(moved) / np.maximum((gradient * gradient).sum(axis=-1), 0.2)
        moved = moved - np.clip(step, -0.3, 0.3)[:, None] * gradient
    return moved


def cast_to_skin(origins: Array, directions: ArrayLike, length: float, samples: int = 220) -> Array:
    """Return where rays first enter the skin.

    Args:
        origins: (N, 3) ray starts outside the skin.
        directions: (3,) or (N, 3) unit directions.
        length: how far to search, cm.
        samples: field evaluations a ray.

    Returns:
        (N, 3) points on the zero set, by linear interpolation between samples.

    Raises:
        ValueError: when a ray does not meet the skin.
    """
    toward = np.broadcast_to(np.asarray(directions, dtype=np.float64), origins.shape)
    distance = np.linspace(0.0, length, samples)
    field = skin_field(origins[:, None] + distance[None, :, None] * toward[:, None])  # (N, samples)
    if not (field < 0).any(axis=1).all():
        missed = int((~(field < 0).any(axis=1)).sum())
        raise ValueError(f"expected all {len(origins)} rays to meet the skin within {length} cm, {missed} do not")
    first = np.maximum(np.argmax(field < 0, axis=1), 1)
    row = np.arange(len(origins))
    before, after = field[row, first - 1], field[row, first]
    hit = distance[first - 1] + (distance[first] - distance[first - 1]) * before / (before - after)
    return origins + hit[:, None] * toward


def cast_from_front(x: Array, z: Array) -> Array:
    """Return the skin points (N, 3) seen from the front at frontal coordinates x, z (N,)."""
    origins = np.stack([x, np.full_like(x, 13.0), z], axis=-1)
    return cast_to_skin(origins, (0.0, -1.0, 0.0), 9.0)
