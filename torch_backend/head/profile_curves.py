"""Profile curves of the head: the explicit numbers an artist would name (author space, cm).

Each table lists (z, value) knots; the curve through them is a monotone cubic, resampled and slightly blurred. The
almond of the lids and the lip line are here too, because mesh rings, expressions and colours share them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from torch_backend.head.author_space import Array

Curve = Callable[[Array], Array]

EYE_CENTER = np.array([3.20, 6.45, 0.0])
"""Centre of the left eyeball (x, f, z)."""
EYE_RADIUS = 1.78
"""Radius of the eyeball the lids are fitted to; the eyeball part itself is drawn slightly smaller."""
CANTHUS_AZIMUTH = (-51.0, 58.0)
"""Azimuth of the inner and outer eye corner about the ball's vertical axis, degrees."""
CANTHUS_ELEVATION = (-6.0, 3.5)
"""Elevation of the inner and outer eye corner, degrees."""
LID_HEIGHTS = (14.6, 17.6)
"""Height of the upper and depth of the lower lid's arch, degrees."""

MOUTH_HALF_WIDTH = 2.45
"""x of the mouth corner."""


def profile_curve(knots: Sequence[tuple[float, float]]) -> Curve:
    """Return the smooth curve value(z) through (z, value) knots, constant beyond the first and last."""
    table = np.array(sorted(knots), dtype=np.float64)
    heights = np.linspace(table[0, 0], table[-1, 0], 400)
    values = gaussian_filter1d(PchipInterpolator(table[:, 0], table[:, 1])(heights), 6, mode="nearest")
    return lambda z: np.interp(z, heights, values)


half_width = profile_curve(
    [(13, .4), (11.3, 2.6), (10.4, 4.6), (9.5, 5.5), (8.5, 6.15), (7, 6.75), (5, 7.15), (3.5, 7.2), (1.5, 6.95),
     (0, 6.75), (-2, 6.55), (-4, 6.15), (-6, 5.55), (-8, 4.7), (-9.6, 3.5), (-11.6, 2.4)]
)  # fmt: skip
front_line = profile_curve(
    [(13, -.6), (11.3, 1.3), (10.4, 4.0), (9.6, 5.6), (8.6, 6.95), (7.2, 8.15), (6, 8.8), (4, 9.5), (2.3, 9.7),
     (1.2, 9.4), (.4, 9.1), (-2, 9.15), (-4.5, 9.6), (-5.8, 9.75), (-6.7, 9.55), (-7.6, 9.45), (-8.4, 9.1), (-9.4, 9.4),
     (-10.2, 9.3), (-10.9, 8.75), (-12.1, 7.8)]
)  # fmt: skip
back_line = profile_curve(
    [(13, -1.4), (11.3, -3.5), (10.4, -5.7), (9.6, -6.9), (8.6, -7.8), (7, -8.7), (5, -9.35), (3, -9.4), (1, -9.2),
     (-1, -8.5), (-3, -7.6), (-5, -6.7), (-8, -5.2), (-12, -3)]
)  # fmt: skip
widest_line = profile_curve(
    [(13, -1), (8, -1.3), (4, -1.4), (1, -.6), (-2, .2), (-5, .6), (-8, .8), (-12, 1.0)]
)  # fmt: skip
front_exponent = profile_curve(
    [(13, 2), (9, 2.05), (5, 2.25), (2, 2.35), (0, 2.3), (-3, 2.15), (-5, 2.05), (-6.5, 1.95), (-8, 1.85), (-10, 1.8),
     (-12, 1.9)]
)  # fmt: skip
BACK_EXPONENT = 2.1

bust_half_width = profile_curve(
    [(-7, 3.9), (-10, 4.2), (-12, 4.6), (-13.5, 5.4), (-14.9, 7.0), (-15.9, 8.9), (-16.7, 10.2), (-17.5, 10.9),
     (-18.5, 11.2), (-20, 11.25)]
)  # fmt: skip
bust_front = profile_curve([(-7, 2.4), (-11, 2.0), (-14, 1.7), (-16.2, 1.9), (-17.8, 2.9), (-20, 4.2)])
bust_back = profile_curve([(-7, -6.2), (-11, -6.8), (-14, -7.8), (-16.5, -8.6), (-20, -9.4)])


def bust_edge(x: ArrayLike) -> Array:
    """Return z of the skin's lower edge at x: lowest in the middle, rising towards the shoulders."""
    return -19.7 + 1.9 * np.clip(np.abs(np.asarray(x, dtype=np.float64)) / 12.0, 0.0, 1.2) ** 2


def lid_elevations(azimuth_degrees: ArrayLike) -> tuple[Array, Array]:
    """Return elevation (degrees) of the upper and lower lid margin at azimuths (degrees) about the left eyeball."""
    azimuth = np.asarray(azimuth_degrees, dtype=np.float64)
    inner, outer = CANTHUS_AZIMUTH
    s = np.clip((azimuth - inner) / (outer - inner), 0.0, 1.0)
    middle = CANTHUS_ELEVATION[0] + (CANTHUS_ELEVATION[1] - CANTHUS_ELEVATION[0]) * s
    arch = 4.0 * s * (1.0 - s)
    upper = middle + LID_HEIGHTS[0] * arch**0.72 * (1.0 - 0.18 * (2.0 * s - 1.0))
    lower = middle - LID_HEIGHTS[1] * arch**0.80 * (1.0 + 0.25 * (2.0 * s - 1.0))
    return upper, lower


def _upper_lid_table() -> tuple[Array, Array]:
    azimuth = np.linspace(*CANTHUS_AZIMUTH, 121)
    elevation = np.radians(lid_elevations(azimuth)[0])
    distance = EYE_RADIUS + 0.15
    x = EYE_CENTER[0] + distance * np.cos(elevation) * np.sin(np.radians(azimuth))
    return x, EYE_CENTER[2] + distance * np.sin(elevation)


_UPPER_LID_LINE = _upper_lid_table()


def height_above_lid(x: ArrayLike, z: ArrayLike) -> Array:
    """Return the height (cm) of frontal points (x, z) above the left upper lid's margin, level beyond the corners."""
    height: Array = np.asarray(z, dtype=np.float64) - np.interp(np.asarray(x, dtype=np.float64), *_UPPER_LID_LINE)
    return height


def lip_lines(x: ArrayLike) -> tuple[Array, Array, Array]:
    """Return z of the contact line and of the upper and lower vermilion border at x (cm, either side)."""
    distance = np.abs(np.asarray(x, dtype=np.float64))
    u = np.clip(distance / MOUTH_HALF_WIDTH, 0.0, 1.0)
    contact = -6.65 - 0.06 * np.exp(-((distance / 0.42) ** 2)) - 0.13 * u**2
    bow = -0.15 * np.exp(-((distance / 0.33) ** 2)) + 0.06 * np.exp(-(((distance - 0.55) / 0.3) ** 2))
    upper = contact + 0.88 * (1.0 - u**2.0) ** 0.95 + bow
    lower = contact - 1.04 * (1.0 - u**2.2) ** 0.82
    return contact, upper, lower


_UPPER_LIP_SECTION = PchipInterpolator(
    [0, 0.12, 0.35, 0.7, 1.0, 1.25, 1.8, 2.6], [-0.13, 0.08, 0.34, 0.40, 0.28, 0.14, 0.05, 0]
)
_LOWER_LIP_SECTION = PchipInterpolator(
    [0, 0.12, 0.4, 0.7, 1.0, 1.3, 1.8, 2.4], [-0.13, 0.10, 0.42, 0.46, 0.23, 0.03, -0.04, 0]
)


def lip_relief(x: Array, z: Array) -> Array:
    """Return how far (cm, any shape) the lips, mouth corners and philtrum stand out of the face at frontal (x, z)."""
    contact, upper, lower = lip_lines(x)
    distance = np.abs(x)
    u = np.clip(distance / MOUTH_HALF_WIDTH, 0.0, 1.0)
    above = np.clip((z - contact) / np.maximum(upper - contact, 0.06), 0.0, 2.6)
    below = np.clip((contact - z) / np.maximum(contact - lower, 0.06), 0.0, 2.4)
    section = np.where(z > contact, _UPPER_LIP_SECTION(above), _LOWER_LIP_SECTION(below))
    taper = np.clip(1.0 - u**3, 0.0, 1.0) ** 0.6 * (distance < MOUTH_HALF_WIDTH)
    corner = -0.13 * np.exp(-(((distance - MOUTH_HALF_WIDTH - 0.05) / 0.35) ** 2 + ((z + 6.76) / 0.3) ** 2))
    groove = -0.12 * np.exp(-((x / 0.32) ** 2) - ((z + 5.2) / 0.55) ** 2)
    ridges = 0.06 * np.exp(-(((distance - 0.6) / 0.22) ** 2) - ((z + 5.25) / 0.6) ** 2)
    return section * taper + corner + groove + ridges
