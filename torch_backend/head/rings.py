"""Hand-defined edge loops of the half head (x >= 0): lids, mouth, nostril, ear, neck (author space, cm).

Rings, not the implicit surface, make lips, lids, nostrils and ears, so expressions get clean loops and every vertex an
exact label. Each function returns its rings from the inside of the opening outwards (ear: attachment to ear hole); the
ring that touches the free fill is the last one (ear: the first).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from torch_backend.head import profile_curves as profile
from torch_backend.head.author_space import Array, smoothstep
from torch_backend.head.implicit_surface import (
    LID_CREASE_HEIGHT,
    LID_THICKNESS,
    cast_from_front,
    cast_to_skin,
    frontal_ridge,
)

LID_POINTS = 32
"""Points of a lid ring, starting at the inner corner, over the upper lid to the outer corner and back below."""
LID_MARGIN_RINGS = (2, 3)
"""Inner and outer edge of the lid margin."""

CARUNCLE_DEGREES = 10.0
"""How far the flesh in the inner corner of the eye reaches over the ball."""

MOUTH_POINTS = 25
"""Points of half a mouth ring, from the upper midline over the corner to the lower midline."""
MOUTH_LINING_RINGS = 4
MOUTH_BAG_RINGS = 4
CONTACT_RING = MOUTH_LINING_RINGS + MOUTH_BAG_RINGS
"""Index of the ring where the lips touch; ring numbers elsewhere count from it."""
VERMILION_RING = 5
"""Ring of the vermilion border, counted from the contact ring."""

NOSTRIL_POINTS = 14
NOSTRIL_CENTER = np.array([0.70, 10.15])
"""Frontal-plane (x, f) centre of the left nostril, seen from below."""
NOSTRIL_AXES = (0.26, 0.34)
NOSTRIL_TURN_DEGREES = 24.0
"""How far the nostril's front end leans to the midline."""

EAR_POINTS = 32
EAR_CENTER = np.array([6.98, -1.0, -1.35])
EAR_SIZE = 0.93
"""Size of the ear against the numbers it is authored in."""
EAR_YAW_DEGREES = 20.0
EAR_TILT_DEGREES = 12.0
EAR_HOLE = np.array([0.40, -0.20])
"""Ear coordinates (s forward, v up) of the ear hole, cm."""
_EAR_OUTLINE = (
    (1.30, 0.45), (1.22, 1.50), (0.85, 2.50), (0.05, 3.08), (-0.95, 2.88), (-1.66, 2.05), (-1.86, 0.85),
    (-1.66, -0.35), (-1.25, -1.35), (-1.00, -2.05), (-0.62, -2.70), (0.00, -3.02), (0.62, -2.86), (1.00, -2.20),
    (1.12, -1.45),
    (1.22, -0.70),
)  # fmt: skip
_EAR_FRONT_SCALES = (0.965, 0.92, 0.87, 0.81, 0.75, 0.68, 0.60, 0.51, 0.42, 0.32, 0.22, 0.11)

NECK_POINTS = 27


@dataclass(frozen=True)
class HalfMouth:
    """Mouth rings of the half head with their ring coordinates."""

    rings: list[Array]
    """Rings (MOUTH_POINTS, 3), back of the bag first."""
    corner_coordinate: Array
    """(MOUTH_POINTS,) 0 at the midline, 1 at the corner."""
    lip_side: Array
    """(MOUTH_POINTS,) +1 upper, 0 corner, -1 lower."""


def eyelid_rings() -> list[Array]:
    """Return 11 rings (LID_POINTS, 3): 2 socks behind the lids, margin, rim, 4 on lid plate and fold, 3 outwards."""
    center, radius, half = profile.EYE_CENTER, profile.EYE_RADIUS, LID_POINTS // 2
    s = (1.0 - np.cos(np.pi * np.arange(half + 1) / half)) / 2.0
    azimuth = profile.CANTHUS_AZIMUTH[0] + (profile.CANTHUS_AZIMUTH[1] - profile.CANTHUS_AZIMUTH[0]) * s
    upper, lower = profile.lid_elevations(azimuth)
    azimuth = np.concatenate([azimuth, azimuth[-2:0:-1]])
    elevation = np.concatenate([upper, lower[-2:0:-1]])
    phase = np.pi * (1.0 - np.arange(LID_POINTS) / half)

    def on_sphere(outward: float, widen: float, distance: float | Array) -> Array:
        a = np.radians(azimuth + np.cos(phase) * widen)
        e = np.radians(elevation + np.sin(phase) * outward)
        direction = np.stack([np.sin(a) * np.cos(e), np.cos(a) * np.cos(e), np.sin(e)], axis=-1)
        return center + direction * np.reshape(distance, (-1, 1))

    rings = [on_sphere(deg, 0.35 * deg, radius + lift) for deg, lift in ((16, 0.03), (7, 0.03), (0, 0.02))]
    # The tear duct's flesh: the margin's inner corner reaches over the ball.
    corner = np.minimum(np.arange(LID_POINTS), LID_POINTS - np.arange(LID_POINTS))
    flesh = np.array([1.0, 0.85, 0.5, 0.15])[np.minimum(corner, 3)] * (corner <= 3)
    azimuth = azimuth + CARUNCLE_DEGREES * flesh
    rings[2] = on_sphere(0.0, 0.0, radius + 0.02 + 0.09 * flesh)
    azimuth = azimuth - CARUNCLE_DEGREES * flesh
    rim = on_sphere(2.6, 1.6, radius + LID_THICKNESS - 0.04)
    rings.append(rim)
    is_upper = np.sin(phase) > 0
    for below, above in ((0.13, 0.13), (0.25, LID_CREASE_HEIGHT - 0.09), (0.38, LID_CREASE_HEIGHT), (0.52, 0.40)):
        rise = np.where(is_upper, np.abs(np.sin(phase)) ** 0.6 * above, 0.9 * below * np.sin(phase))
        rings.append(cast_from_front(rim[:, 0] + np.cos(phase) * 0.6 * below, rim[:, 2] + rise))
    upward = np.where(is_upper, 0.95, 0.9)
    for offset, sideways in ((0.66, 0.66), (0.92, 0.72), (1.25, 0.78)):
        x = rim[:, 0] + np.cos(phase) * offset * sideways
        z = rim[:, 2] + np.sin(phase) * offset * upward
        rings.append(cast_from_front(x, z))
    return rings


def mouth_rings() -> HalfMouth:
    """Return the mouth rings: bag, lip lining, contact line, vermilion, and 4 rings easing into an ellipse."""
    half = (MOUTH_POINTS - 1) // 2
    s = np.sin(np.pi / 2 * np.arange(half + 1) / half)
    s[-1] = 1.0
    s = np.concatenate([s, s[-2::-1]])
    side = np.concatenate([np.ones(half), [0.0], -np.ones(half)])
    phase = np.pi / 2 - np.pi * np.arange(MOUTH_POINTS) / (MOUTH_POINTS - 1)

    def lip_plane(t: float, extension: float) -> tuple[Array, Array]:
        contact, upper, lower = profile.lip_lines(s * profile.MOUTH_HALF_WIDTH)
        height = np.where(side > 0, upper - contact, np.where(side < 0, lower - contact, 0.0))
        return s * (profile.MOUTH_HALF_WIDTH + extension), contact + height * t

    contact_ring = cast_from_front(*lip_plane(0.0, 0.0))
    # The two lips share their contact positions exactly: rest is sealed.
    contact_ring[half + 1 :] = contact_ring[half - 1 :: -1]
    outward = [contact_ring]
    for t, extension in ((0.10, 0.02), (0.30, 0.05), (0.55, 0.08), (0.80, 0.115), (1.0, 0.15), (1.18, 0.20)):
        outward.append(cast_from_front(*lip_plane(t, extension)))
    x_border, z_border = lip_plane(1.18, 0.20)
    for offset in (0.18, 0.42, 0.75, 1.1):
        ease = min(1.0, offset / 1.1) * 0.75
        x_ellipse = np.cos(phase) * (2.85 + 0.75 * offset)
        rise = np.where(phase > 0, 1.0 + 0.75 * offset, 1.12 + 0.9 * offset)
        x = (x_border + np.cos(phase) * offset * 0.8) * (1.0 - ease) + x_ellipse * ease
        z = (z_border + np.sin(phase) * offset * 0.8) * (1.0 - ease) + (-6.78 + np.sin(phase) * rise) * ease
        x[[0, -1]] = 0.0
        outward.append(cast_from_front(x, z))
    inward = _lip_lining(contact_ring, s, side) + _mouth_bag(phase)
    for ring in inward + outward:
        ring[[0, -1], 0] = 0.0
    return HalfMouth(rings=inward[::-1] + outward, corner_coordinate=s, lip_side=side)


def _lip_lining(contact_ring: Array, s: Array, side: Array) -> list[Array]:
    rings = []
    for depth, height, narrow, web in (
        (0.14, 0.02, 0.99, 0.10), (0.30, 0.10, 0.985, 0.18), (0.42, 0.45, 0.99, 0.18), (0.50, 1.0, 1.02, 0.10),
    ):  # fmt: skip
        ring = contact_ring.copy()
        # Flesh closes the corner behind the lips: parted a little, they would show a black wedge there.
        ring[:, 0] = ring[:, 0] * narrow - web * s**6
        ring[:, 1] -= depth
        ring[:, 2] += side * height * np.clip(1.0 - s**4, 0.05, 1.0)
        rings.append(ring)
    return rings


def _mouth_bag(phase: Array) -> list[Array]:
    rings = []
    for f, half_height, half_width in ((7.3, 1.7, 2.9), (5.6, 2.0, 2.9), (3.6, 1.9, 2.5), (2.2, 1.1, 1.6)):
        back = -0.35 * np.cos(phase) * (f > 4.0)
        rings.append(np.stack([np.cos(phase) * half_width, f + back, -6.9 + np.sin(phase) * half_height], axis=-1))
    return rings


def nostril_rings() -> tuple[list[Array], Array]:
    """Return 6 rings (NOSTRIL_POINTS, 3) from the skin round the nostril up into it, and the cap point (1, 3).

    The first ring lies on the skin and touches the fill; the others form the rim and the wall.
    """
    phase = -2.0 * np.pi * np.arange(NOSTRIL_POINTS) / NOSTRIL_POINTS
    turn = np.radians(NOSTRIL_TURN_DEGREES)
    across, along = NOSTRIL_AXES[0] * np.cos(phase), NOSTRIL_AXES[1] * np.sin(phase)
    outline = np.stack(
        [across * np.cos(turn) - along * np.sin(turn), across * np.sin(turn) + along * np.cos(turn)], axis=-1
    )

    def below(scale: float) -> Array:
        plane = NOSTRIL_CENTER + outline * scale
        origins = np.concatenate([plane, np.full((NOSTRIL_POINTS, 1), -4.85)], axis=1)
        return cast_to_skin(origins, (0.0, 0.0, 1.0), 2.0)

    rings = [below(1.22), below(1.0)]
    rim = rings[1]
    middle = rim.mean(axis=0)
    for scale, rise, back in ((0.90, 0.10, 0.0), (0.88, 0.30, 0.02), (0.84, 0.60, 0.10), (0.60, 0.85, 0.22)):
        rings.append(middle + (rim - middle) * np.array([scale, scale, scale]) + np.array([0.0, -back, rise]))
    cap = middle + np.array([[0.0, -0.26, 0.95]])
    return rings, cap


def ear_axes() -> Array:
    """Return the rows (3, 3) of the left ear's frame in (x, f, z): outward h, forward s, up v."""
    yaw, tilt = np.radians(EAR_YAW_DEGREES), np.radians(EAR_TILT_DEGREES)
    turn = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    lean = np.array([[1, 0, 0], [0, np.cos(tilt), np.sin(tilt)], [0, -np.sin(tilt), np.cos(tilt)]])
    return lean @ turn


def _ear_outline(count: int) -> Array:
    """Return `count` points (N, 2) of the ear's outline as (s, v), evenly spaced, from the front upwards and round."""
    closed = np.array([*_EAR_OUTLINE, _EAR_OUTLINE[0]])
    knots = np.concatenate([[0.0], np.cumsum(np.sqrt(np.linalg.norm(np.diff(closed, axis=0), axis=1)))])
    curve = CubicSpline(knots, closed, bc_type="periodic")
    dense = curve(np.linspace(0.0, knots[-1], 2000))
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(dense, axis=0), axis=1))])
    at = length[-1] * np.arange(count) / count
    return np.stack([np.interp(at, length, dense[:, axis]) for axis in range(2)], axis=-1)


def _ear_share(s: Array, v: Array) -> tuple[Array, Array]:
    """Return how far (N,) ear points lie from the ear hole (0) to the outline (1), and their angle in degrees.

    The angle runs from 0 (front) over 90 (up) and 180 (back) to 360.
    """
    outline = _ear_outline(256) - EAR_HOLE
    angles = np.degrees(np.arctan2(outline[:, 1], outline[:, 0])) % 360.0
    order = np.argsort(angles)
    angle = np.degrees(np.arctan2(v - EAR_HOLE[1], s - EAR_HOLE[0])) % 360.0
    reach = np.interp(angle, angles[order], np.linalg.norm(outline, axis=1)[order], period=360.0)
    return np.hypot(s - EAR_HOLE[0], v - EAR_HOLE[1]) / reach, angle


def _between(angle: Array, start: float, stop: float, fade: float) -> Array:
    return smoothstep(angle, start - fade, start + fade) * (1.0 - smoothstep(angle, stop - fade, stop + fade))


def _fold(s: Array, v: Array, path: Sequence[tuple[float, float]], width: float) -> Array:
    """Return a rounded ridge (N,) of height 1 along a polyline of (s, v) points."""
    ridges = [frontal_ridge(s, v, a, b, width) for a, b in pairwise(path)]
    return np.maximum.reduce(ridges)


def _bump(s: Array, v: Array, center: tuple[float, float], radii: tuple[float, float]) -> Array:
    return np.exp(-(((s - center[0]) / radii[0]) ** 2) - ((v - center[1]) / radii[1]) ** 2)


def ear_relief(s: Array, v: Array) -> Array:
    """Return the height (N,) of the ear's front along its outward axis at ear coordinates s (forward), v (up)."""
    share, angle = _ear_share(s, v)
    rolled = _between(angle, 25.0, 232.0, 14.0)
    helix = 0.36 * np.exp(-(((share - 0.93) / 0.085) ** 2)) * rolled
    scapha = -0.20 * np.exp(-(((share - 0.77) / 0.075) ** 2)) * _between(angle, 45.0, 225.0, 15.0)
    antihelix = 0.42 * _fold(s, v, [(0.10, -1.40), (-0.55, -1.05), (-0.92, -0.2), (-0.80, 0.75)], 0.25)
    crura = 0.30 * _fold(s, v, [(-0.80, 0.75), (-0.35, 1.95)], 0.24)
    crura = np.maximum(crura, 0.34 * _fold(s, v, [(-0.80, 0.75), (0.45, 1.22)], 0.20))
    root = 0.30 * _fold(s, v, [(1.15, 0.95), (0.75, 0.40), (0.05, 0.16)], 0.17)
    bowl = np.hypot((s - 0.22) / 1.02, (v + 0.22) / 1.18)
    concha = -0.95 * (1.0 - smoothstep(bowl, 0.35, 1.12))
    fossa = -0.14 * _bump(s, v, (0.05, 1.62), (0.35, 0.35))
    tragus = 0.95 * _bump(s, v, (0.90, -0.30), (0.22, 0.42))
    antitragus = 0.24 * _bump(s, v, (0.22, -1.34), (0.32, 0.22)) - 0.16 * _bump(s, v, (0.72, -1.15), (0.2, 0.25))
    lobe = 0.10 * _bump(s, v, (0.0, -2.25), (0.6, 0.6)) - 0.10 * (share > 0.9) * (v < -1.9) * (share - 0.9) / 0.1
    folds = np.maximum(antihelix, crura) + root
    return helix + scapha + folds + concha + fossa + tragus + antitragus + lobe + 0.12 * share**2


def ear_rings() -> tuple[list[Array], Array]:
    """Return 17 rings (EAR_POINTS, 3) of the left ear, attachment first, and its centre point (1, 3)."""
    axes = ear_axes()

    def world(h: Array, s: Array, v: Array) -> Array:
        return EAR_CENTER + EAR_SIZE * np.stack([h, s, v], axis=-1) @ axes

    s_rim, v_rim = _ear_outline(EAR_POINTS).T
    phase = np.arctan2(v_rim / 3.1, s_rim / 1.7)
    # Towards the front the back rings collapse on the attachment, so the ear grows out of the cheek.
    attached = smoothstep(s_rim, 0.35, 1.1)
    s_attach = (0.55 + 0.95 * np.cos(phase)) * (1 - attached) + (s_rim + 0.14) * attached
    v_attach = (0.05 + 2.1 * np.sin(phase)) * (1 - attached) + v_rim * 0.96 * attached
    attachment = cast_to_skin(world(np.full(EAR_POINTS, 4.0), s_attach, v_attach), -axes[0], 8.0)

    def front(scale: float) -> Array:
        s = EAR_HOLE[0] + (s_rim - EAR_HOLE[0]) * scale
        v = EAR_HOLE[1] + (v_rim - EAR_HOLE[1]) * scale
        return world(ear_relief(s, v) + 0.05, s, v)

    rim_height = ear_relief(s_rim, v_rim)
    rim = world(rim_height - 0.02, s_rim, v_rim)
    # Where it grows out of the cheek the rim lies just above the skin.
    on_skin = cast_to_skin(world(np.full(EAR_POINTS, 4.0), s_rim, v_rim), -axes[0], 8.0) + 0.06 * axes[0]
    rim = rim * (1 - attached[:, None]) + (0.35 * rim + 0.65 * on_skin) * attached[:, None]
    edge = world(rim_height - 0.22, s_rim * 0.99, v_rim * 0.99)
    back_outer = world(rim_height - 0.34, s_rim * 0.90, v_rim * 0.92)
    back_inner = world(np.full(EAR_POINTS, -0.42), 0.1 + s_rim * 0.66, v_rim * 0.74)

    def grown(ring: Array, share: float) -> Array:
        collapsed = attachment * (1 - share) + rim * share
        return ring * (1 - attached[:, None]) + collapsed * attached[:, None]

    rings = [attachment, grown(back_inner, 0.25), grown(back_outer, 0.5), grown(edge, 0.8), rim]
    rings += [front(scale) for scale in _EAR_FRONT_SCALES]
    center = world(ear_relief(EAR_HOLE[:1], EAR_HOLE[1:]) + 0.05, EAR_HOLE[:1], EAR_HOLE[1:])
    return rings, center


def neck_ring() -> Array:
    """Return the half neck boundary (NECK_POINTS, 3), back midline first, with a smoothed radius."""
    phase = np.linspace(-np.pi / 2, np.pi / 2, NECK_POINTS)
    direction = np.stack([np.cos(phase), np.sin(phase), np.zeros(NECK_POINTS)], axis=-1)
    ring = 6.0 * direction
    for _ in range(8):
        # The edge's height depends on where the ray meets the skin.
        origin = np.stack([np.zeros(NECK_POINTS), np.full(NECK_POINTS, -1.8), profile.bust_edge(ring[:, 0])], axis=-1)
        hits = cast_to_skin(origin + direction * 18.0, -direction, 18.0, 360)
        radius = np.linalg.norm(hits - origin, axis=1)
        unrolled = np.concatenate([radius[::-1], radius, radius[::-1]])
        radius = gaussian_filter1d(unrolled, 1.0)[NECK_POINTS : 2 * NECK_POINTS]
        ring = origin + direction * radius[:, None]
    ring[[0, -1], 0] = 0.0
    return ring
