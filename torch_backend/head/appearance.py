"""Skin colours of the built-in head as functions of the rest position and a few per-vertex scalars.

Evaluate on the mean head's rest positions, whatever the identity: the colours stay where the features are. They may be
evaluated at any density, from mesh vertices to the texels of a large texture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from torch_backend.head.author_space import Array, backend_to_author, smoothstep
from torch_backend.head.brows_lashes import brow_half_height, brow_middle
from torch_backend.head.hair import hair_cover
from torch_backend.head.noise import value_noise
from torch_backend.head.skin_detail import lip_share
from torch_backend.head.skin_labels import APPEARANCE_FIELDS

Color = tuple[float, float, float]


@dataclass(frozen=True)
class SkinPalette:
    """Linear RGB of the skin and what grows on it."""

    skin: Color = (0.62, 0.375, 0.275)
    flush: Color = (0.58, 0.215, 0.165)
    """Colour that cheeks, nose tip and ears lean to."""
    shade: Color = (0.46, 0.275, 0.215)
    """Colour of the hollows round the eyes and of a shaven jaw."""
    lips: Color = (0.47, 0.155, 0.14)
    mouth: Color = (0.55, 0.20, 0.18)
    """Inside of the lips and the mouth."""
    hair: Color = (0.085, 0.052, 0.035)
    brows: Color = (0.10, 0.06, 0.04)
    lashes: Color = (0.04, 0.025, 0.02)
    caruncle: Color = (0.60, 0.26, 0.23)
    nostril: Color = (0.10, 0.03, 0.025)


DEFAULT_PALETTE = SkinPalette()


def skin_color(
    rest_positions: NDArray[np.floating], fields: NDArray[np.floating], palette: SkinPalette = DEFAULT_PALETTE
) -> NDArray[np.float32]:
    """Return the skin's albedo.

    Args:
        rest_positions: (n, 3) positions on the mean head's skin at rest, backend metres.
        fields: (n, 7) the scalars of skin_labels.APPEARANCE_FIELDS at the same points, interpolated from
            Head.appearance_fields.
        palette: the colours.

    Returns:
        (n, 3) linear RGB in 0..1.

    Raises:
        ValueError: when the shapes do not belong together.
    """
    if rest_positions.ndim != 2 or fields.shape != (len(rest_positions), len(APPEARANCE_FIELDS)):
        raise ValueError(
            f"expected positions (n, 3) and fields (n, {len(APPEARANCE_FIELDS)}), "
            f"got {rest_positions.shape} and {fields.shape}"
        )
    points = backend_to_author(rest_positions)
    scalar = {name: np.clip(fields[:, i].astype(np.float64), 0.0, 1.0) for i, name in enumerate(APPEARANCE_FIELDS)}
    color = np.tile(np.array(palette.skin), (len(points), 1)) * _mottling(points)[:, None]
    color = _mix(color, palette.shade, 0.30 * _shade(points))
    color = _mix(color, palette.flush, 0.62 * _flush(points, scalar["ear"]))
    color = _mix(color, palette.lips, 0.82 * lip_share(points))
    color = _mix(color, palette.hair, 0.82 * hair_cover(points) * (1.0 - np.clip(1.3 * scalar["ear"], 0.0, 1.0)))
    color = _mix(color, palette.brows, 0.6 * brow_density(points))
    color = _mix(color, palette.mouth, np.clip(1.2 * scalar["mouth_lining"], 0.0, 1.0))
    color = _mix(color, palette.caruncle, 0.5 * scalar["lid_margin"])
    lashes = np.clip(scalar["upper_lashes"] ** 1.5 + 0.35 * scalar["lower_lashes"] ** 1.5, 0.0, 1.0)
    color = _mix(color, palette.lashes, 0.9 * lashes)
    color = _mix(color, palette.caruncle, 0.7 * scalar["caruncle"])
    color = _mix(color, palette.nostril, 0.9 * scalar["nostril"])
    return np.clip(color, 0.0, 1.0).astype(np.float32)


def _mix(color: Array, other: Color, share: Array) -> Array:
    return color * (1.0 - share[:, None]) + np.array(other) * share[:, None]


def _mottling(points: Array) -> Array:
    """Return a faint uneven brightness (n,) of the skin, about +-6 %."""
    coarse = value_noise(points, 2.2) + 0.6 * value_noise(points, 0.9)
    fine = value_noise(points, 0.22) + 0.7 * value_noise(points, 0.11)
    return 1.0 + 0.035 * coarse + 0.025 * fine


def _blob(points: Array, center: Color, radii: Color) -> Array:
    distance = (np.abs(points) * [1, 0, 0] + points * [0, 1, 1] - np.array(center)) / np.array(radii)
    return np.exp(-(distance**2).sum(axis=1))


def _flush(points: Array, ear: Array) -> Array:
    cheek = 0.55 * _blob(points, (4.2, 6.8, -3.2), (1.9, 2.5, 1.7))
    tip = 0.55 * _blob(points, (0.0, 11.0, -3.5), (1.4, 1.6, 1.0))
    chin = 0.25 * _blob(points, (0.0, 9.2, -9.8), (1.6, 1.5, 1.2))
    under_eye = 0.25 * _blob(points, (3.1, 8.2, -1.4), (1.4, 1.5, 0.5))
    lids = 0.20 * _blob(points, (3.2, 8.2, 0.9), (1.6, 1.5, 0.5))
    wings = 0.30 * _blob(points, (1.4, 9.8, -4.0), (0.6, 1.0, 0.6))
    beside_nose = 0.30 * _blob(points, (2.15, 8.9, -2.8), (0.9, 1.3, 1.5))  # else pale, and grey, between the others
    uneven = 1.0 + 0.35 * value_noise(points, 0.8, 20) + 0.20 * value_noise(points, 0.3, 21)
    return np.clip((cheek + tip + chin + under_eye + lids + wings + beside_nose) * uneven + 0.5 * ear, 0.0, 1.0)


def _shade(points: Array) -> Array:
    socket = 0.4 * _blob(points, (2.0, 8.3, 0.4), (0.8, 1.5, 0.9))
    below = 0.5 * _blob(points, (2.6, 8.2, -1.3), (1.1, 1.5, 0.4))
    temple = 0.4 * _blob(points, (6.4, 4.6, 1.8), (1.2, 2.2, 1.8))
    jaw = 0.35 * _blob(points, (4.4, 4.0, -8.6), (2.2, 3.2, 1.2))
    return np.clip(socket + below + temple + jaw, 0.0, 1.0)


def brow_density(points: Array) -> Array:
    """Return how much shade the eyebrows' hairs give the skin at author-space points (n, 3), 0..1."""
    x, f, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    strip = np.exp(-(((z - brow_middle(x)) / (0.95 * brow_half_height(x) + 0.10)) ** 2))
    ends = smoothstep(x, 1.35, 2.1) * (1.0 - smoothstep(x, 4.7, 5.25))
    return strip * ends * (f > 4.0)
