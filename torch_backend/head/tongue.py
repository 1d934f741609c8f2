"""The tongue: an ellipse swept from root to tip (author space, cm), and the shapes it moves by.

At rest the tip lies behind the upper incisors, above the edges of the lower ones, so that it may come forward between
the teeth without passing through any. All shapes are displacements within the jaw, which carries the tongue.
"""

from __future__ import annotations

import numpy as np

from torch_backend.head.author_space import Array, smoothstep
from torch_backend.head.part_mesh import PartMesh, sweep_closed

ROOT = 2.5
TIP = 7.85
TONGUE_COLOR = (0.62, 0.26, 0.24)
RINGS = 22
SEGMENTS = 16
_MIDDLE = ((0.0, 0.3, 0.6, 0.8, 1.0), (-7.35, -7.10, -6.92, -6.72, -6.60))
"""Height of the middle line from root to tip."""
_HALF_HEIGHT = ((0.0, 0.25, 0.5, 0.7, 0.85, 0.95, 1.0), (0.55, 0.66, 0.60, 0.36, 0.20, 0.145, 0.12))
_BLADE_RAISE = 0.55
_TIP_DROOP = 0.85
_OUT_REACH = 3.4
_TIP_RISE = (0.5, 1.0)
"""Forward and up, cm: a jaw that drops carries the tip back as well."""
_BACK_RISE = 1.4


def build_tongue() -> PartMesh:
    """Return the tongue at rest, RINGS * SEGMENTS + 2 vertices, root first."""
    t = np.linspace(0.0, 0.995, RINGS)[:, None]
    around = 2.0 * np.pi * np.arange(SEGMENTS)[None, :] / SEGMENTS
    f = ROOT + (TIP - ROOT) * t
    narrowing = np.sqrt(1.0 - np.clip((t - 0.45) / 0.55, 0.0, 1.0) ** 2.6)
    rounding = np.sqrt(1.0 - np.clip((t - 0.9) / 0.1, 0.0, 1.0) ** 2.2)
    half_width = 1.55 * narrowing * (0.85 + 0.15 * np.sin(3.0 * t))
    middle, half_height = _smooth_profile(t, _MIDDLE), _smooth_profile(t, _HALF_HEIGHT)
    x = half_width * np.cos(around)
    z = middle + half_height * rounding * np.sin(around)
    groove = 0.12 * (half_height / 0.6) * np.exp(-((x / 0.3) ** 2))
    z = z - groove * (np.sin(around) > 0)
    rings = np.stack([x, f + 0.0 * around, z], axis=-1)
    root = np.array([0.0, ROOT - 0.2, middle[0, 0]])
    tip = np.array([0.0, TIP, middle[-1, 0]])
    vertices, polygons = sweep_closed(root, rings, tip)
    shade = 0.65 + 0.35 * np.clip((vertices[:, 1] - ROOT) / (TIP - ROOT), 0.0, 1.0)
    colors = np.array(TONGUE_COLOR) * shade[:, None]
    return PartMesh(vertices, polygons, colors, np.ones(len(vertices), dtype=bool))


def _smooth_profile(t: Array, knots: tuple[tuple[float, ...], tuple[float, ...]]) -> Array:
    """Interpolate (R, 1) places along the tongue between knots, rounded over a tenth of the tongue."""
    steps = np.linspace(-0.05, 0.05, 9)
    values: Array = np.interp(np.clip(t[..., None] + steps, 0.0, 1.0), *knots).mean(axis=-1)
    return values


def along_tongue(vertices: Array) -> Array:
    """Return where rest vertices (V, 3) of the tongue lie between root (0) and tip (1), (V,)."""
    return np.clip((vertices[:, 1] - ROOT) / (TIP - ROOT), 0.0, 1.0)


def tongue_out(vertices: Array) -> Array:
    """Return the displacements (V, 3) of tongueOut at weight 1, for rest vertices (V, 3) of the tongue.

    The front two thirds stretch forward over the lower teeth and the lip, and the tip bends down. Meant together with
    an open jaw; about a third of it puts the blade between the incisors.
    """
    t = along_tongue(vertices)
    reach = smoothstep(t, 0.25, 1.05)
    offsets = np.zeros_like(vertices)
    offsets[:, 0] = -0.22 * vertices[:, 0] * reach
    offsets[:, 1] = _OUT_REACH * reach
    offsets[:, 2] = _BLADE_RAISE * smoothstep(t, 0.2, 0.6) - _TIP_DROOP * smoothstep(t, 0.72, 1.0)
    return offsets


def tongue_tip_up(vertices: Array) -> Array:
    """Return the displacements (V, 3) that raise the tip by one centimetre, and take it forward.

    A jaw that drops takes the tip back as well: the way forward makes up for that.

    Args:
        vertices: (V, 3) the tongue at rest, cm.
    """
    share = smoothstep(along_tongue(vertices), 0.42, 1.0)
    offsets = np.zeros_like(vertices)
    offsets[:, 1], offsets[:, 2] = _TIP_RISE[0] * share, _TIP_RISE[1] * share
    return offsets


def tongue_back_up(vertices: Array) -> Array:
    """Return the displacements (V, 3) that raise the back of the tongue towards the palate, its underside less.

    Args:
        vertices: (V, 3) the tongue at rest, cm.
    """
    t = along_tongue(vertices)
    hump = np.exp(-(((t - 0.34) / 0.20) ** 2)) * smoothstep(t, 0.0, 0.12)
    middle = np.interp(t, *_MIDDLE)
    upper = smoothstep(vertices[:, 2] - middle, -0.6, 0.5)
    offsets = np.zeros_like(vertices)
    offsets[:, 2] = _BACK_RISE * hump * (0.45 + 0.55 * upper)
    offsets[:, 1] = -0.25 * smoothstep(t, 0.4, 1.0)
    return offsets
