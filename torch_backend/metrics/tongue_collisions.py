"""How deep the tongue cuts into the teeth, which it must never pass through."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from torch_backend.head.head import Head

NUM_TEETH = 28
_STEPS = 3


def measure_tongue_cut(head: Head, positions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return how deep the tongue's surface lies inside a tooth in each pose, millimetres; negative is none.

    Points on all faces of the tongue are looked at, not its vertices alone. Teeth are convex, so the depth of a point
    is its distance to the nearest plane of the hull.

    Args:
        head: the head, mean or identity.
        positions: (T, V, 3) metres.

    Returns:
        (T,) millimetres.

    Raises:
        ValueError: the positions do not belong to the head.
    """
    if positions.ndim != 3 or positions.shape[1:] != head.vertices.shape:
        raise ValueError(f"expected positions (T, {len(head.vertices)}, 3), got {positions.shape}")
    start, stop = head.parts["tongue"]
    faces = head.all_triangles
    faces = faces[(faces[:, 0] >= start) & (faces[:, 0] < stop)]
    shares = np.array([(a, b, _STEPS - a - b) for a in range(_STEPS + 1) for b in range(_STEPS + 1 - a)]) / _STEPS
    teeth = np.arange(*head.parts["teeth"]).reshape(NUM_TEETH, -1)
    depths = np.zeros(len(positions))
    for index, posed in enumerate(positions.astype(np.float64)):
        points = np.einsum("sc,fci->fsi", shares, posed[faces]).reshape(-1, 3)
        depths[index] = max(_depth(points, posed[tooth]) for tooth in teeth)
    return 1000.0 * depths


def _depth(points: NDArray[np.float64], tooth: NDArray[np.float64]) -> float:
    planes = ConvexHull(tooth).equations
    return float(-(points @ planes[:, :3].T + planes[:, 3]).max(axis=1).min())
