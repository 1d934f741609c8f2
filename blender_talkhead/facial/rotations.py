"""Quaternions (w, x, y, z): stronger and weaker rotations, and other axes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


def scale_rotations(rotations: FloatArray, amounts: NDArray[np.floating]) -> FloatArray:
    """Turn by a multiple of the angle about the same axis.

    Args:
        rotations: (T, ..., 4) unit quaternions.
        amounts: (T,) factors; 0 is no rotation, 1 the same.
    """
    unit = rotations / np.maximum(np.linalg.norm(rotations, axis=-1, keepdims=True), 1e-12)
    unit = np.where(unit[..., :1] < 0, -unit, unit).astype(np.float64)
    sine = np.linalg.norm(unit[..., 1:], axis=-1)
    half = np.arctan2(sine, unit[..., 0])
    scaled = half * np.asarray(amounts).reshape(-1, *[1] * (half.ndim - 1))
    axis = unit[..., 1:] / np.maximum(sine, 1e-12)[..., None]
    result = np.concatenate([np.cos(scaled)[..., None], np.sin(scaled)[..., None] * axis], axis=-1)
    return result.astype(np.float32)


def multiply_rotations(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the quaternions of turning by `second`, then by `first`; both (..., 4)."""
    w, v = first[..., :1], first[..., 1:]
    s, u = second[..., :1], second[..., 1:]
    real = w * s - (v * u).sum(axis=-1, keepdims=True)
    result: NDArray[np.floating] = np.concatenate([real, w * u + s * v + np.cross(v, u)], axis=-1)
    return result


def rotations_in_frame(rotations: FloatArray, frame: NDArray[np.floating]) -> FloatArray:
    """Express rotations (..., 4) in other axes, given as the quaternion (4,) that turns onto those axes."""
    inverse = frame * np.array([1.0, -1.0, -1.0, -1.0])
    return multiply_rotations(multiply_rotations(inverse, rotations), frame).astype(np.float32)


def continuous_rotations(rotations: FloatArray) -> FloatArray:
    """Choose the signs of quaternions (T, ..., 4) so that neighbours are near each other and can be interpolated."""
    dots = (rotations[1:] * rotations[:-1]).sum(axis=-1, keepdims=True)
    signs = np.cumprod(np.where(dots < 0, -1.0, 1.0), axis=0)
    first = np.ones_like(rotations[:1, ..., :1])
    result: FloatArray = (rotations * np.concatenate([first, signs])).astype(np.float32)
    return result
