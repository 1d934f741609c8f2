"""Quaternions, w first, in backend axes: x to the head's left, y up, z out of the face."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def quaternions_from_angles(pitch: FloatArray, yaw: FloatArray, roll: FloatArray | float = 0.0) -> FloatArray:
    """Rotate about z by the roll, then about x by the pitch, then about y by the yaw.

    Args:
        pitch: (...) degrees; up is positive, so the turn about x is negative.
        yaw: (...) degrees; to the head's left is positive.
        roll: (...) degrees; towards the left shoulder is positive, so the turn about z is negative.

    Returns:
        (..., 4) unit quaternions with w >= 0 for angles under 90 degrees.
    """
    pitch, yaw, roll = np.broadcast_arrays(*(np.radians(np.asarray(each, np.float64)) for each in (pitch, yaw, roll)))
    zero = np.zeros_like(pitch)
    about_x = np.stack([np.cos(pitch / 2), -np.sin(pitch / 2), zero, zero], axis=-1)
    about_y = np.stack([np.cos(yaw / 2), zero, np.sin(yaw / 2), zero], axis=-1)
    about_z = np.stack([np.cos(roll / 2), zero, zero, -np.sin(roll / 2)], axis=-1)
    return multiply_quaternions(about_y, multiply_quaternions(about_x, about_z))


def multiply_quaternions(left: FloatArray, right: FloatArray) -> FloatArray:
    """The Hamilton product (..., 4): rotate by `right`, then by `left`."""
    w, x, y, z = (left[..., i] for i in range(4))
    a, b, c, d = (right[..., i] for i in range(4))
    return np.stack(
        [
            w * a - x * b - y * c - z * d,
            w * b + x * a + y * d - z * c,
            w * c - x * d + y * a + z * b,
            w * d + x * c - y * b + z * a,
        ],
        axis=-1,
    )


def rotate_vectors(quaternions: FloatArray, vectors: FloatArray) -> FloatArray:
    """Vectors (..., 3) turned by unit quaternions (..., 4)."""
    axis = quaternions[..., 1:]
    twice = 2.0 * np.cross(axis, vectors)
    turned: FloatArray = vectors + quaternions[..., :1] * twice + np.cross(axis, twice)
    return turned


def conjugate_quaternions(quaternions: FloatArray) -> FloatArray:
    """The inverse of unit quaternions (..., 4)."""
    return quaternions * np.array([1.0, -1.0, -1.0, -1.0])
