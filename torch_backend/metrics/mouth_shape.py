"""Opening and width of the mouth, read from a moving mesh by its regions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

LIP_REGIONS = ("lips_inner_upper", "lips_inner_lower")
MIDDLE_SHARE = 0.35
"""Lip points nearer to the middle than this share of half the mouth's width count for the opening."""


def measure_mouth(positions: np.ndarray, regions: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Measure inner-lip gap and corner distance, whatever the head's pose.

    The gap runs along the face's own up direction: from the middle of the mouth corners to the eye region, made
    perpendicular to the line through the corners.

    Args:
        positions: (T, V, 3) metres.
        regions: indices of lips_inner_upper, lips_inner_lower, mouth_corner_left, mouth_corner_right, eye_region.

    Returns:
        gap (T,) and width (T,), millimetres; the gap of lips at rest is that of the rest mesh, not zero.

    Raises:
        ValueError: positions has another shape or a region is missing.
    """
    if positions.ndim != 3 or positions.shape[2] != 3:
        raise ValueError(f"expected positions of shape (T, V, 3), got {positions.shape}")
    needed = (*LIP_REGIONS, "mouth_corner_left", "mouth_corner_right", "eye_region")
    missing = [name for name in needed if name not in regions or not len(regions[name])]
    if missing:
        raise ValueError(f"expected the regions {', '.join(needed)}, missing or empty: {', '.join(missing)}")
    points = {name: 1000.0 * positions[:, np.asarray(regions[name])].astype(np.float64) for name in needed}
    left, right = points["mouth_corner_left"].mean(axis=1), points["mouth_corner_right"].mean(axis=1)
    middle = (left + right) / 2
    width = np.linalg.norm(left - right, axis=1)
    axis = (left - right) / np.maximum(width, 1e-9)[:, None]
    up = points["eye_region"].mean(axis=1) - middle
    up = up - axis * (up * axis).sum(axis=1, keepdims=True)
    up = up / np.maximum(np.linalg.norm(up, axis=1, keepdims=True), 1e-9)
    centres = [_central_mean(points[name], middle, axis, width) for name in LIP_REGIONS]
    return ((centres[0] - centres[1]) * up).sum(axis=1), width


def _central_mean(points: np.ndarray, middle: np.ndarray, axis: np.ndarray, width: np.ndarray) -> np.ndarray:
    """(T, 3) mean of the points near the middle of the mouth; of all where none is near."""
    along = np.abs(((points - middle[:, None]) * axis[:, None]).sum(axis=2))
    near = along < MIDDLE_SHARE * width[:, None] / 2
    near[~near.any(axis=1)] = True
    return np.asarray((points * near[:, :, None]).sum(axis=1) / near.sum(axis=1)[:, None])
