"""Normals of point clouds, from the plane through each point's neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

_NEIGHBORS = 12


def estimate_normals(points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Unit normals (n, 3), each either way round; zeros for clouds of fewer than 3 points.

    Args:
        points: (n, 3).
    """
    count = min(_NEIGHBORS, len(points))
    if count < 3:
        return np.zeros((len(points), 3), np.float32)
    _, nearest = cKDTree(points).query(points, count)
    around = points[nearest] - points[nearest].mean(axis=1, keepdims=True)
    _, vectors = np.linalg.eigh(np.einsum("nki,nkj->nij", around, around))
    return vectors[:, :, 0].astype(np.float32)
