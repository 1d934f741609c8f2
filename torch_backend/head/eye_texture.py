"""The eyeball's colour as a picture round its optical axis, and the texture coordinates that belong to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from torch_backend.head.author_space import Array, smoothstep
from torch_backend.head.eyeballs import IRIS_DEGREES, PUPIL_DEGREES, RING_DEGREES, SEGMENTS
from torch_backend.head.noise import value_noise

OUTER_DEGREES = 110.0
"""Angle from the optical axis at the picture's rim."""
_SPREAD = 0.75
"""Exponent that gives the iris more of the picture than its angle."""


def eye_uv() -> NDArray[np.float32]:
    """Return texture coordinates (Veyes, 2) in 0..1 of both eyeballs, in the order of `build_eyeballs`."""
    angle = np.concatenate([[0.0], np.repeat(RING_DEGREES, SEGMENTS), [180.0]])
    around = np.concatenate([[0.0], np.tile(2.0 * np.pi * np.arange(SEGMENTS) / SEGMENTS, len(RING_DEGREES)), [0.0]])
    radius = 0.5 * np.clip(angle / OUTER_DEGREES, 0.0, 1.0) ** _SPREAD
    left = np.stack([0.5 + radius * np.cos(around), 0.5 + radius * np.sin(around)], axis=1)
    return np.concatenate([left, left]).astype(np.float32)


def bake_eye_color(size: int) -> NDArray[np.uint8]:
    """Return the eyeball's colour (size, size, 3) as 8-bit sRGB, the first row at the top; u runs outwards."""
    from torch_backend.head.skin_texture import linear_to_srgb

    axis = (np.arange(size) + 0.5) / size - 0.5
    u, v = np.meshgrid(axis, -axis)
    radius = np.hypot(u, v).reshape(-1)
    around = np.arctan2(v, u).reshape(-1)
    angle = OUTER_DEGREES * np.clip(2.0 * radius, 0.0, 1.0) ** (1.0 / _SPREAD)
    colors = eye_color(angle, around)
    return np.round(255.0 * linear_to_srgb(colors)).astype(np.uint8).reshape(size, size, 3)


def eye_color(angle: Array, around: Array) -> Array:
    """Return linear RGB (n, 3) at angles (degrees) from the optical axis and round it (radians)."""
    iris = _iris(angle, around)
    inside = smoothstep(IRIS_DEGREES + 1.0 - angle, 0.0, 1.8)[:, None]
    colors = iris * inside + _sclera(angle, around) * (1.0 - inside)
    ragged = PUPIL_DEGREES + 0.25 * _ring_noise(around, 9.0, angle * 0.0, 5)
    pupil = smoothstep(ragged - angle, -0.35, 0.35)[:, None]
    return np.clip(colors * (1.0 - pupil) + 0.006 * pupil, 0.0, 1.0)


def _ring_noise(around: Array, frequency: float, radial: Array, seed: int) -> Array:
    """Return noise (n,) that closes on itself round the axis and changes with a radial coordinate."""
    reach = frequency / (2.0 * np.pi)
    return value_noise(np.stack([reach * np.cos(around), reach * np.sin(around), radial], axis=1), 0.25, seed)


def _iris(angle: Array, around: Array) -> Array:
    part = np.clip((angle - PUPIL_DEGREES) / (IRIS_DEGREES - PUPIL_DEGREES), 0.0, 1.0)
    fibres = 0.55 * _ring_noise(around, 14.0, 0.35 * part, 1) + 0.45 * _ring_noise(around, 30.0, 0.6 * part, 2)
    clouds = _ring_noise(around, 3.0, 1.2 * part, 3)
    outer, inner = np.array([0.090, 0.165, 0.190]), np.array([0.235, 0.215, 0.125])
    collar = np.exp(-(((part - 0.16 - 0.05 * clouds) / 0.13) ** 2))[:, None]
    color = outer * (1.0 - 0.75 * collar) + inner * 0.75 * collar
    bright = 1.0 + 0.62 * fibres + 0.22 * clouds
    color = color * np.clip(bright, 0.25, 2.2)[:, None] * (1.10 - 0.25 * part)[:, None]
    crypts = smoothstep(_ring_noise(around, 8.0, 1.5 * part, 4), 0.35, 0.8) * np.exp(-(((part - 0.45) / 0.2) ** 2))
    color = color * (1.0 - 0.45 * crypts)[:, None]
    limbus = smoothstep(part, 0.74, 1.0)[:, None]
    return color * (1.0 - 0.86 * limbus) + np.array([0.020, 0.026, 0.032]) * 0.86 * limbus


def _sclera(angle: Array, around: Array) -> Array:
    base = np.tile(np.array([0.74, 0.70, 0.67]), (len(angle), 1))
    beyond = np.clip((angle - IRIS_DEGREES) / 45.0, 0.0, 1.0)
    red = np.array([0.66, 0.42, 0.36])
    sideways = 0.35 + 0.65 * np.cos(around) ** 2
    share = 0.55 * (beyond**1.6 * sideways)
    place = np.stack([0.05 * angle * np.cos(around), 0.05 * angle * np.sin(around), 0.0 * angle], axis=1)
    bent = around + 0.16 * value_noise(place, 0.5, 12) + 0.06 * value_noise(place, 0.14, 13)
    veins = np.exp(-((_ring_noise(bent, 12.0, 0.10 * beyond, 14) / 0.045) ** 2))
    thin = np.exp(-((_ring_noise(bent, 26.0, 0.16 * beyond, 15) / 0.05) ** 2))
    share = share + (0.30 * veins + 0.20 * thin) * smoothstep(beyond, 0.10, 0.6) * sideways
    share = np.clip(share, 0.0, 0.85)[:, None]
    return base * (1.0 - share) + red * share
