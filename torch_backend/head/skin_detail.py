"""Fine relief and gloss of the skin as pictures over its UV map: a normal map and a roughness map.

Both are functions of the mean head's rest positions (author space, cm), like the colours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from torch_backend.head.author_space import Array, smoothstep
from torch_backend.head.brows_lashes import brow_half_height, brow_middle
from torch_backend.head.hair import hair_cover
from torch_backend.head.noise import value_noise
from torch_backend.head.profile_curves import EYE_CENTER, MOUTH_HALF_WIDTH, lip_lines
from torch_backend.head.skin_labels import APPEARANCE_FIELDS

NORMAL_EXAGGERATION = 2.0
"""The slopes in the picture are so much steeper than meant: 8 bits are few. Materials use the map at 1 / 2."""


def skin_relief(points: Array) -> Array:
    """Return how far (n,) the fine relief stands out of the skin at author-space points (n, 3), cm."""
    lips = lip_share(points)
    face = smoothstep(points[:, 1], 3.0, 7.0)
    grain = 0.0030 * value_noise(points, 0.11) + 0.0036 * value_noise(points, 0.21, 1)
    soft = 0.0035 * value_noise(points, 0.55, 2)
    pores = -0.0042 * smoothstep(value_noise(points, 0.16, 3), 0.25, 0.8) * _pore_share(points)
    relief: Array = (1.0 - lips) * (grain + soft * (0.4 + 0.6 * face) + pores) + _wrinkles(points)
    return relief + lips * _lip_grooves(points)


def lip_share(points: Array) -> Array:
    """Return how much (n,) points belong to the red of the lips, 0..1."""
    x, f, z = points.T
    _, upper, lower = lip_lines(x)
    inside = np.minimum(upper - z, z - lower)
    within = smoothstep(MOUTH_HALF_WIDTH + 0.12 - np.abs(x), 0.0, 0.2)
    share: Array = within * (f > 7.0) / (1.0 + np.exp(-np.clip(inside / 0.05, -60.0, 60.0)))
    return share


def _pore_share(points: Array) -> Array:
    """Where pores show: nose, inner cheeks, forehead, chin."""
    side = np.abs(points[:, 0])
    cheek = np.exp(-(((side - 2.6) / 1.8) ** 2) - ((points[:, 2] + 3.2) / 2.0) ** 2)
    nose = np.exp(-((side / 1.4) ** 2) - ((points[:, 2] + 2.8) / 1.8) ** 2)
    brow = 0.6 * np.exp(-((side / 3.5) ** 2) - ((points[:, 2] - 4.0) / 2.5) ** 2)
    chin = 0.7 * np.exp(-((side / 2.0) ** 2) - ((points[:, 2] + 9.8) / 1.2) ** 2)
    share: Array = np.clip(cheek + nose + brow + chin, 0.0, 1.0) * (points[:, 1] > 5.0)
    return share


def _groove(distance: Array, width: float) -> Array:
    return np.exp(-((distance / width) ** 2))


def _wrinkles(points: Array) -> Array:
    x, f, z = points.T
    side = np.abs(x)
    wave = 0.10 * value_noise(points, 1.4, 4)
    forehead = sum(
        depth * _groove(z - height - 0.05 * side + 0.012 * side**2 - wave, 0.055)
        for height, depth in ((4.15, 0.5), (5.0, 0.8), (5.9, 0.5))
    )
    forehead = forehead * smoothstep(side, 5.0, 2.5) * (f > 5.0) * (0.7 + 0.5 * value_noise(points, 1.1, 5))
    corner = np.hypot(side - 4.75, z - 0.25)
    angle = np.degrees(np.arctan2(z - 0.25, side - 4.75))
    feet = sum(_groove((angle - at) * corner / 57.3 - 0.3 * wave, 0.035) for at in (-32.0, -8.0, 18.0))
    feet = feet * smoothstep(corner, 0.15, 0.5) * smoothstep(corner, 1.5, 0.8) * (f > 3.5)
    below = EYE_CENTER[2] - 1.18 - 0.10 * (side - 3.3) ** 2
    under_eye = _groove(z - below - 0.4 * wave, 0.07) * smoothstep(np.abs(side - 2.9), 1.5, 0.6) * (f > 5.0)
    neck = sum(_groove(z - height - 0.03 * side**2 - 2.0 * wave, 0.07) for height in (-13.4, -15.2))
    neck = neck * smoothstep(f, -1.0, 1.5)
    folds: Array = -0.0040 * forehead - 0.0035 * feet - 0.0060 * under_eye - 0.0028 * neck
    return folds


def _lip_grooves(points: Array) -> Array:
    x, _, z = points.T
    contact, upper, lower = lip_lines(x)
    height = np.where(
        z > contact, (z - contact) / np.maximum(upper - contact, 0.1), (contact - z) / np.maximum(contact - lower, 0.1)
    )
    bent = x * (1.0 + 0.18 * height) + 0.05 * value_noise(points, 0.35, 6)
    lines = np.abs(np.sin(np.pi * bent / 0.15 + 1.3 * value_noise(points, 0.5, 7)))
    fade = smoothstep(height, 0.03, 0.3) * (1.0 - 0.5 * smoothstep(height, 0.75, 1.0))
    grooves: Array = -0.0090 * (1.0 - lines) ** 1.5 * fade + 0.0012 * value_noise(points, 0.08, 8)
    return grooves


def skin_roughness(points: Array, fields: NDArray[np.floating]) -> Array:
    """Return the roughness (n,) at author-space points (n, 3) with their appearance fields (n, C)."""
    scalar = {name: np.clip(fields[:, i].astype(np.float64), 0.0, 1.0) for i, name in enumerate(APPEARANCE_FIELDS)}
    side = np.abs(points[:, 0])
    x, f, z = side, points[:, 1], points[:, 2]
    value = 0.52 + 0.05 * value_noise(points, 0.5, 9) + 0.05 * value_noise(points, 0.16, 10)
    oily = np.exp(-((x / 1.0) ** 2) - ((z + 2.6) / 2.2) ** 2) + 0.7 * np.exp(-((x / 2.6) ** 2) - ((z - 4.4) / 1.8) ** 2)
    oily = oily + 0.4 * np.exp(-((x / 1.2) ** 2) - ((z + 9.6) / 1.0) ** 2)
    value = value - 0.13 * np.clip(oily, 0.0, 1.0) * (f > 5.0)
    value = value + 0.06 * np.clip(hair_cover(points), 0.0, 1.0)
    brow = np.exp(-(((points[:, 2] - brow_middle(x)) / (brow_half_height(x) + 0.1)) ** 2)) * (f > 5.0)
    value = value + 0.05 * brow
    for share, target in (
        (lip_share(points), 0.33 + 0.05 * value_noise(points, 0.12, 11)),
        (scalar["mouth_lining"], 0.20),
        (np.clip(1.4 * scalar["lid_margin"], 0.0, 1.0), 0.10),
        (scalar["caruncle"], 0.12),
    ):
        value = value * (1.0 - share) + share * target
    return np.clip(value, 0.05, 1.0)
