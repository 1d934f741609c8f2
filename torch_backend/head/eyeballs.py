"""The two eyeballs: a sphere with a slight cornea, its rings laid on the edges of pupil and iris (author space, cm)."""

from __future__ import annotations

import numpy as np

from torch_backend.head import profile_curves as profile
from torch_backend.head.author_space import Array
from torch_backend.head.part_mesh import PartMesh, merge_parts, mirror_part, sweep_closed

LID_CLEARANCE = 0.03
"""How much smaller the drawn ball is than the sphere the lids are fitted to."""
RING_DEGREES = (4.0, 7.5, 9.3, 10.0, 13.0, 16.0, 19.0, 22.0, 23.2, 26.0, 34.0, 43.0, 55.0, 70.0, 90.0, 120.0, 150.0)
SEGMENTS = 28
PUPIL_DEGREES = 9.6
IRIS_DEGREES = 22.6
CORNEA_BULGE = 0.05
"""How far the cornea stands out of the sphere at its middle."""


def _iris_color(angle: Array, around: Array) -> Array:
    streaks = 1.0 + 0.18 * np.sin(17.0 * around) + 0.10 * np.sin(31.0 * around)
    falloff = 1.25 - 0.5 * (angle - PUPIL_DEGREES) / (IRIS_DEGREES - PUPIL_DEGREES)
    return np.array([0.16, 0.23, 0.22]) * (falloff * streaks)[:, None]


def eyeball_colors(angle: Array, around: Array) -> Array:
    """Return linear RGB (N, 3) at angles from the optical axis and round it (N,), degrees and radians."""
    sclera = np.array([0.74, 0.71, 0.68]) * (1.0 - 0.25 * np.clip((angle - 45.0) / 30.0, 0.0, 1.0))[:, None]
    colors = np.where((angle < IRIS_DEGREES)[:, None], _iris_color(angle, around), sclera)
    limbus = np.abs(angle - IRIS_DEGREES - 0.2) < 0.9
    colors[limbus] = (0.05, 0.06, 0.06)
    colors[angle < PUPIL_DEGREES] = (0.01, 0.01, 0.01)
    return np.clip(colors, 0.0, 1.0)


def build_eyeballs() -> PartMesh:
    """Return both eyeballs, the left one (x > 0) first; each has len(RING_DEGREES) * SEGMENTS + 2 vertices."""
    radius = profile.EYE_RADIUS - LID_CLEARANCE
    angle = np.radians(np.array(RING_DEGREES))[:, None]
    around = (2.0 * np.pi * np.arange(SEGMENTS) / SEGMENTS)[None, :]
    bulge = CORNEA_BULGE * np.clip(1.0 - (np.degrees(angle) / 28.0) ** 2, 0.0, 1.0) ** 1.5
    distance = radius + bulge
    rings = np.stack(
        [
            distance * np.sin(angle) * np.cos(around),
            distance * np.cos(angle) * np.ones_like(around),
            distance * np.sin(angle) * np.sin(around),
        ],
        axis=-1,
    )
    front = np.array([0.0, radius + CORNEA_BULGE, 0.0])
    vertices, polygons = sweep_closed(front, rings, np.array([0.0, -radius, 0.0]))
    ring_angle = np.repeat(np.array(RING_DEGREES), SEGMENTS)
    ring_around = np.tile(around[0], len(RING_DEGREES))
    colors = eyeball_colors(np.concatenate([[0.0], ring_angle, [180.0]]), np.concatenate([[0.0], ring_around, [0.0]]))
    still = np.zeros(len(vertices), dtype=bool)
    left = PartMesh(vertices + profile.EYE_CENTER, polygons, colors, still)
    return merge_parts([left, mirror_part(left)])
