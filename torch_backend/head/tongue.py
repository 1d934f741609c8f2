"""The tongue: an ellipse swept from root to tip (author space, cm), and its way out of the mouth."""

from __future__ import annotations

import numpy as np

from torch_backend.head.author_space import Array, smoothstep
from torch_backend.head.part_mesh import PartMesh, sweep_closed

ROOT = 2.5
TIP = 8.1
TONGUE_COLOR = (0.62, 0.26, 0.24)
RINGS = 22
SEGMENTS = 16


def build_tongue() -> PartMesh:
    """Return the tongue at rest, RINGS * SEGMENTS + 2 vertices, root first."""
    t = np.linspace(0.0, 0.995, RINGS)[:, None]
    around = 2.0 * np.pi * np.arange(SEGMENTS)[None, :] / SEGMENTS
    f = ROOT + (TIP - ROOT) * t
    narrowing = np.sqrt(1.0 - np.clip((t - 0.5) / 0.5, 0.0, 1.0) ** 2.6)
    thinning = np.sqrt(1.0 - np.clip((t - 0.55) / 0.45, 0.0, 1.0) ** 2.2)
    half_width = 1.55 * narrowing * (0.85 + 0.15 * np.sin(3.0 * t))
    middle = -7.35 - 0.25 * t + 0.25 * np.sin(np.pi * t)
    x = half_width * np.cos(around)
    z = middle + 0.55 * thinning * np.sin(around)
    z = z - 0.12 * np.exp(-((x / 0.3) ** 2)) * (np.sin(around) > 0)
    rings = np.stack([x, f + 0.0 * around, z], axis=-1)
    root = np.array([0.0, ROOT - 0.2, middle[0, 0]])
    tip = np.array([0.0, TIP, middle[-1, 0]])
    vertices, polygons = sweep_closed(root, rings, tip)
    shade = 0.65 + 0.35 * np.clip((vertices[:, 1] - ROOT) / (TIP - ROOT), 0.0, 1.0)
    colors = np.array(TONGUE_COLOR) * shade[:, None]
    return PartMesh(vertices, polygons, colors, np.ones(len(vertices), dtype=bool))


def tongue_out(vertices: Array) -> Array:
    """Return the displacements (V, 3) of tongueOut at weight 1, for rest vertices (V, 3) of the tongue.

    The front two thirds stretch forward over the lower lip and the tip bends down. Meant together with an open jaw.
    """
    t = np.clip((vertices[:, 1] - ROOT) / (TIP - ROOT), 0.0, 1.0)
    reach = smoothstep(t, 0.25, 1.05)
    offsets = np.zeros_like(vertices)
    offsets[:, 0] = -0.22 * vertices[:, 0] * reach
    offsets[:, 1] = 3.4 * reach
    offsets[:, 2] = 0.55 * smoothstep(t, 0.2, 0.6) - 0.75 * smoothstep(t, 0.75, 1.0)
    return offsets
