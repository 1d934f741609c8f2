"""What ARKit curves within 0..1 leave out of a motion: the part that basis shapes of a performed clip hold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

CURVE_STEPS = 65535
"""A stored curve counts in steps of 1 / CURVE_STEPS."""


def round_curves(curves: FloatArray) -> FloatArray:
    """Return curves (T, N) within 0..1 as a .blend file keeps them (see `encode_performance`)."""
    return (np.round(np.clip(curves, 0.0, 1.0) * CURVE_STEPS) / CURVE_STEPS).astype(np.float32)


def remainder_reader(
    read_offsets: Callable[[int, int], FloatArray], curves: FloatArray, blendshapes: FloatArray
) -> Callable[[int, int], FloatArray]:
    """Return a reader of a motion without what its curves make of it.

    Args:
        read_offsets: `read_offsets(first, stop)` gives the motion's frames (stop - first, V, 3), metres.
        curves: (T, N), rounded as they are stored.
        blendshapes: (N, V, 3) displacements at weight 1, metres, in the axes of the motion.

    Returns:
        A function like `read_offsets`.
    """
    flat = np.ascontiguousarray(blendshapes, np.float32).reshape(len(blendshapes), -1)

    def read(first: int, stop: int) -> FloatArray:
        offsets = read_offsets(first, stop)
        remainder: FloatArray = offsets - (curves[first:stop] @ flat).reshape(offsets.shape)
        return remainder

    return read
