"""Lid motions: points slide round the eyeball in azimuth and elevation about its centre (author space, cm).

A blendshape is linear, so between open and closed a lid moves on a chord that cuts into the ball. The closed lid is
therefore lifted off the ball by as much as keeps the chord's middle outside.
"""

from __future__ import annotations

import numpy as np

from torch_backend.head import profile_curves as profile
from torch_backend.head.author_space import Array, smoothstep

CLOSED_LIFT = 0.16
"""How far a lid that slid by LIFT_DEGREES stands off its open distance from the ball's centre."""
LIFT_DEGREES = 30.0
OPENED_LIFT = 0.06
"""The same for a lid opened wider, so that a blink that starts there clears the ball too."""
OPENED_LIFT_DEGREES = 8.0
UPPER_FADE_DEGREES = 30.0
"""How far above the upper margin the skin still slides with it."""
LOWER_FADE_DEGREES = 20.0


def move_lids(
    vertices: Array, amount: float, side: int, *, upper: bool = True, meeting: float = 0.15, overlap: bool = True
) -> Array:
    """Return displacements (V, 3) of the lids of one eye.

    Args:
        vertices: (V, 3) rest positions.
        amount: 1 closes the eye, negative values open it wider.
        side: +1 left eye, -1 right eye.
        upper: whether the upper lid moves; otherwise only the lower one rises.
        meeting: where the margins meet, as a share of the opening above the lower margin.
        overlap: let the closed lids overlap by nearly 2 degrees so that no slit remains.
    """
    flip = np.array([side, 1.0, 1.0])
    offset = (vertices - profile.EYE_CENTER * flip) * flip
    radius = np.linalg.norm(offset, axis=-1)
    azimuth = np.degrees(np.arctan2(offset[:, 0], offset[:, 1]))
    elevation = np.degrees(np.arcsin(np.clip(offset[:, 2] / radius, -1.0, 1.0)))
    top, bottom = profile.lid_elevations(azimuth)
    meet = bottom + meeting * (top - bottom)
    closing = np.clip(amount, 0.0, 1.0)
    margin = closing * np.clip((top - bottom) / 12.0, 0.0, 1.0) * overlap

    above = _ease(np.clip((top + UPPER_FADE_DEGREES - elevation) / UPPER_FADE_DEGREES, 0.0, 1.0))
    below = _ease(np.clip((elevation - bottom + LOWER_FADE_DEGREES) / LOWER_FADE_DEGREES, 0.0, 1.0))
    down = -(top - meet + 1.9 * margin) * amount * above * upper
    up = (meet - bottom + 1.7 * margin * upper) * amount * below
    is_upper = elevation >= (top + bottom) / 2.0 - 1e-6
    slide = np.where(is_upper, down, up)

    rim = profile.EYE_RADIUS
    near = (radius < rim + 2.2) & (offset[:, 1] > 0) & (np.abs(azimuth) < 82.0)
    window = smoothstep(azimuth, -82.0, -62.0) * (1.0 - smoothstep(azimuth, 66.0, 82.0))
    window = window * (1.0 - smoothstep(radius, rim + 0.45, rim + 1.5)) * near
    slide = slide * window

    # Skin that slides down from under the brow comes closer to the ball, so the closed lid is smooth.
    sink = above * closing * np.clip((top - meet) / 26.0, 0.0, 1.0) * (is_upper & near & (radius > rim + 0.3))
    distance = radius - 0.55 * sink * (radius - rim - 0.22) * np.clip((rim + 1.2 - radius) / 0.9, 0.0, 1.0)
    lift = CLOSED_LIFT * smoothstep(np.abs(slide) * (amount > 0), 0.0, LIFT_DEGREES)
    lift = lift + OPENED_LIFT * smoothstep(np.abs(slide) * (amount < 0), 0.0, OPENED_LIFT_DEGREES)
    distance = distance + lift * (1.0 - smoothstep(radius, rim + 0.15, rim + 0.8))
    a, e = np.radians(azimuth), np.radians(elevation + slide)
    moved = np.stack([np.sin(a) * np.cos(e), np.cos(a) * np.cos(e), np.sin(e)], axis=-1) * distance[:, None]
    return np.where(near[:, None], moved - offset, 0.0) * flip


def _ease(t: Array) -> Array:
    return t * t * (3.0 - 2.0 * t)
