"""Which triangle of a planar map covers each texel of an image, and where in it the texel lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from torch_backend.geometry.mesh_topology import IntArray
from torch_backend.geometry.point_location import barycentric_coordinates

FloatArray = NDArray[np.float64]

_TEXELS_AT_ONCE = 2_000_000


def rasterize_triangles(
    coordinates: NDArray[np.floating], triangles: NDArray[np.integer], size: int
) -> tuple[IntArray, NDArray[np.float32]]:
    """Sample a planar triangulation at the texel centres of a square image.

    Args:
        coordinates: (V, 2) texture coordinates in 0..1, v upwards.
        triangles: (F, 3) that do not overlap.
        size: width and height of the image in texels.

    Returns:
        (size, size) triangle index, -1 where none covers the texel's centre, the first row at the top (v near 1); and
        (size, size, 3) float32 barycentric coordinates, 0 where none does.

    Raises:
        ValueError: size below 1.
    """
    if size < 1:
        raise ValueError(f"size: expected at least 1 texel, got {size}")
    points = np.asarray(coordinates, dtype=np.float64)
    # Texel (row, column) has its centre at ((column + 0.5) / size, 1 - (row + 0.5) / size).
    texels = np.stack([points[:, 0] * size - 0.5, (1.0 - points[:, 1]) * size - 0.5], axis=1)
    corners = texels[np.asarray(triangles)]
    low = np.clip(np.ceil(corners.min(axis=1)).astype(np.int64), 0, size)
    high = np.clip(np.floor(corners.max(axis=1)).astype(np.int64) + 1, 0, size)
    widths, heights = np.maximum(high - low, 0).T
    index = np.full(size * size, -1, dtype=np.int64)
    weights = np.zeros((size * size, 3), dtype=np.float32)
    counts = widths * heights
    batches = np.searchsorted(np.cumsum(counts), np.arange(_TEXELS_AT_ONCE, counts.sum(), _TEXELS_AT_ONCE))
    for batch in np.split(np.arange(len(corners)), np.unique(batches)):
        owner = np.repeat(batch, counts[batch])
        if not len(owner):
            continue
        within = np.arange(len(owner)) - np.repeat(np.cumsum(counts[batch]) - counts[batch], counts[batch])
        column = low[owner, 0] + within % widths[owner]
        row = low[owner, 1] + within // widths[owner]
        found = barycentric_coordinates(np.stack([column, row], axis=1).astype(np.float64), corners[owner])
        inside = (found >= -1e-9).all(axis=1)
        place = row[inside] * size + column[inside]
        index[place] = owner[inside]
        weights[place] = np.maximum(found[inside], 0.0)
    return index.reshape(size, size), weights.reshape(size, size, 3)
