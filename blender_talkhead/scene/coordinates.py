"""The one conversion between backend model space and Blender's axes.

Backend: metres, x to the head's left, y up, z out of the face. Blender: (x, -z, y), so the face looks along -Y and is
seen upright in the front view.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def to_blender_axes(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert positions or displacements (..., 3) from backend model space to Blender's axes."""
    converted = np.empty_like(vectors)
    converted[..., 0] = vectors[..., 0]
    np.negative(vectors[..., 2], out=converted[..., 1])
    converted[..., 2] = vectors[..., 1]
    return converted


def to_backend_axes(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert positions or displacements (..., 3) from Blender's axes to backend model space."""
    converted = np.empty_like(vectors)
    converted[..., 0] = vectors[..., 0]
    converted[..., 1] = vectors[..., 2]
    np.negative(vectors[..., 1], out=converted[..., 2])
    return converted
