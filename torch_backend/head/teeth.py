"""28 teeth and the gums, set on two elliptic arches (author space, cm)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from torch_backend.head.author_space import Array
from torch_backend.head.part_mesh import PartMesh, merge_parts, mirror_part, sweep_closed

TOOTH_COLOR = (0.86, 0.79, 0.65)
GUM_COLOR = (0.60, 0.24, 0.22)
HALF_WIDTHS = (0.43, 0.34, 0.38, 0.36, 0.37, 0.50, 0.50)
"""Half widths of the upper teeth from the middle backwards."""
HALF_HEIGHTS = (0.50, 0.46, 0.52, 0.44, 0.42, 0.38, 0.36)
ROUNDNESS = 0.55
"""Exponent of the superellipsoid: 1 an ellipsoid, towards 0 a box."""


@dataclass(frozen=True)
class DentalArch:
    """An elliptic arch seen from above: x = half_width * sin, f = front - depth * (1 - cos)."""

    half_width: float
    depth: float
    front: float
    tooth_height: float
    """z of the crowns' middle."""
    gum_height: float
    is_lower: bool

    def point(self, angle: Array | float) -> tuple[Array, Array]:
        """Return x and f at arch angles in radians."""
        return self.half_width * np.sin(angle), self.front - self.depth * (1.0 - np.cos(angle))


UPPER_ARCH = DentalArch(2.75, 4.3, 8.55, -6.42, -5.75, is_lower=False)
LOWER_ARCH = DentalArch(2.60, 4.1, 8.32, -7.28, -7.95, is_lower=True)


def _tooth(arch: DentalArch, index: int, half_width: float, along: float) -> PartMesh:
    angle = along / 5.1 * 1.35
    x, f = arch.point(angle)
    yaw = np.arctan2(arch.depth * np.sin(angle), arch.half_width * np.cos(angle))
    is_front = index < 3
    size = np.array([half_width * 0.97, 0.24 if is_front else 0.38, HALF_HEIGHTS[index]])
    segments, bands = 8, 6
    polar = np.pi * np.arange(1, bands)[:, None] / bands
    around = 2.0 * np.pi * np.arange(segments)[None, :] / segments
    unit = np.stack(
        [np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar) + 0.0 * around], axis=-1
    )
    crown = np.sign(unit) * np.abs(unit) ** ROUNDNESS * size
    # Crowns narrow towards the gum.
    rootward = -crown[..., 2] if arch.is_lower else crown[..., 2]
    crown[..., 0] *= 1.0 - 0.18 * rootward / size[2] * (1.0 if is_front else 0.3)
    poles = np.array([[0.0, 0.0, size[2]], [0.0, 0.0, -size[2]]])
    vertices, polygons = sweep_closed(poles[0], crown, poles[1])
    turned = np.stack(
        [
            x + np.cos(yaw) * vertices[:, 0] + np.sin(yaw) * vertices[:, 1],
            f - np.sin(yaw) * vertices[:, 0] + np.cos(yaw) * vertices[:, 1],
            arch.tooth_height + vertices[:, 2],
        ],
        axis=-1,
    )
    # A little darker towards the gum and the back of the mouth.
    depth = np.clip((arch.front - turned[:, 1]) / 4.0, 0.0, 1.0)
    gumward = (-1.0 if arch.is_lower else 1.0) * vertices[:, 2] / size[2]
    shade = (1.0 - 0.30 * depth) * (1.0 - 0.08 * np.clip(gumward, 0.0, 1.0))
    # Between two teeth no light gets in.
    shade = shade * (1.0 - 0.55 * np.clip(np.abs(vertices[:, 0]) / size[0] - 0.72, 0.0, 0.28) / 0.28)
    colors = np.array(TOOTH_COLOR) * shade[:, None]
    return PartMesh(turned, polygons, colors, np.full(len(turned), arch.is_lower))


def build_teeth() -> PartMesh:
    """Return the 28 teeth: upper left and right pairs from the middle backwards, then the lower ones."""
    teeth = []
    for arch in (UPPER_ARCH, LOWER_ARCH):
        along = 0.0
        for index, width in enumerate(HALF_WIDTHS):
            half_width = width * (0.66 if index < 2 else 0.95) if arch.is_lower else width
            tooth = _tooth(arch, index, half_width, along + half_width)
            teeth += [tooth, mirror_part(tooth)]
            along += 2.0 * half_width
    return merge_parts(teeth)


def _gum(arch: DentalArch) -> PartMesh:
    angle = np.linspace(-1.6, 1.6, 33)[:, None]
    around = 2.0 * np.pi * np.arange(8)[None, :] / 8
    outward = 0.42 * 0.8 * np.cos(around) - 0.12
    rings = np.stack(
        [
            np.sin(angle) * (arch.half_width + outward),
            arch.point(angle)[1] + np.cos(angle) * outward,
            arch.gum_height + 0.42 * np.sin(around) + 0.0 * angle,
        ],
        axis=-1,
    )
    vertices, polygons = sweep_closed(rings[0].mean(axis=0), rings, rings[-1].mean(axis=0))
    depth = np.clip((arch.front - vertices[:, 1]) / 5.0, 0.0, 1.0)
    colors = np.array(GUM_COLOR) * (1.0 - 0.45 * depth)[:, None]
    return PartMesh(vertices, polygons, colors, np.full(len(vertices), arch.is_lower))


def build_gums() -> PartMesh:
    """Return the upper and the lower gum, tubes along the arches."""
    return merge_parts([_gum(UPPER_ARCH), _gum(LOWER_ARCH)])
