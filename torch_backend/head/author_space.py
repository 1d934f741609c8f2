"""Author space of the built-in head, and its conversion to backend model space.

The head is authored in centimetres with x to the head's left, f forward and z up, origin midway between the pupils.
Only the modules that build the head work in author space; everything a user of :class:`torch_backend.head.Head` sees is
in backend model space (metres, x left, y up, z out of the face, origin between the ears).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

EAR_AXIS_FORWARD = -1.0
"""f of the axis through both ear holes, cm."""
EAR_AXIS_UP = -1.35
"""z of the axis through both ear holes, cm."""


def author_to_backend(points: ArrayLike) -> Array:
    """Convert author-space points (..., 3) in cm to backend model space (..., 3) in metres."""
    author = np.asarray(points, dtype=np.float64)
    backend = [author[..., 0], author[..., 2] - EAR_AXIS_UP, author[..., 1] - EAR_AXIS_FORWARD]
    return np.stack(backend, axis=-1) / 100.0


def backend_to_author(points: ArrayLike) -> Array:
    """Convert backend points (..., 3) in metres to author space (..., 3) in cm; inverse of author_to_backend."""
    backend = np.asarray(points, dtype=np.float64) * 100.0
    return np.stack(
        [backend[..., 0], backend[..., 2] + EAR_AXIS_FORWARD, backend[..., 1] + EAR_AXIS_UP],
        axis=-1,
    )


def author_vectors_to_backend(vectors: ArrayLike) -> Array:
    """Convert author-space displacements (..., 3) in cm to backend displacements (..., 3) in metres."""
    author = np.asarray(vectors, dtype=np.float64)
    return np.stack([author[..., 0], author[..., 2], author[..., 1]], axis=-1) / 100.0


def smoothstep(values: ArrayLike, start: float, stop: float) -> Array:
    """Return 0 below start, 1 above stop and the cubic 3t^2 - 2t^3 between, for values of any shape."""
    t = np.clip((np.asarray(values, dtype=np.float64) - start) / (stop - start), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def mirrored(points: ArrayLike) -> Array:
    """Return points (..., 3) with x negated."""
    return np.asarray(points, dtype=np.float64) * np.array([-1.0, 1.0, 1.0])
