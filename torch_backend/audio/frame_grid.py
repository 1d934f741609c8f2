"""Between seconds, animation frames and feature rows: the only place where these are counted and interpolated.

Animation frame i is at i / frame_rate seconds. Feature row r is centred at (r + 0.5) / row_rate seconds; forgetting
that half row makes a mouth late by 10 ms.
"""

from __future__ import annotations

import math

import numpy as np

_TOLERANCE = 1e-9


def count_frames(duration_seconds: float, frame_rate: float) -> int:
    """Return how many frames of a recording there are: the last one lies within it.

    Raises:
        ValueError: the duration is negative or the rate not positive.
    """
    if duration_seconds < 0 or frame_rate <= 0:
        raise ValueError(
            f"expected a duration >= 0 and a frame rate > 0, got {duration_seconds} s and {frame_rate} per second"
        )
    return math.floor(duration_seconds * frame_rate + _TOLERANCE) + 1


def compute_row_positions(
    first_frame: int, num_frames: int, frame_rate: float, row_rate: float, num_rows: int, row_center: float = 0.5
) -> np.ndarray:
    """Return where frames fall among feature rows.

    Args:
        first_frame: first animation frame.
        num_frames: how many frames.
        frame_rate: animation frames per second.
        row_rate: feature rows per second.
        num_rows: rows of the whole recording; frames before the first or after the last row take that row.
        row_center: where a row is centred, in rows after its start.

    Returns:
        (num_frames,) float64 fractional row indices within 0..num_rows - 1.

    Raises:
        ValueError: a rate or num_rows is not positive.
    """
    if frame_rate <= 0 or row_rate <= 0 or num_rows < 1:
        raise ValueError(f"expected positive rates and rows, got {frame_rate}, {row_rate} and {num_rows} rows")
    times = (first_frame + np.arange(num_frames)) / frame_rate
    return np.clip(times * row_rate - row_center, 0.0, num_rows - 1.0)


def find_row_range(positions: np.ndarray) -> tuple[int, int]:
    """Return [first, stop) of the rows that interpolation at the positions reads; (0, 0) without positions."""
    if not len(positions):
        return 0, 0
    return int(np.floor(positions[0])), int(np.ceil(positions[-1])) + 1


def interpolate_rows(rows: np.ndarray, first_row: int, positions: np.ndarray) -> np.ndarray:
    """Interpolate linearly between rows.

    Args:
        rows: (R, C) rows first_row .. first_row + R of a recording.
        first_row: index of rows[0].
        positions: (T,) fractional row indices within first_row .. first_row + R - 1.

    Returns:
        (T, C) in the type of rows.

    Raises:
        ValueError: a position lies outside the rows.
    """
    local = positions - first_row
    if len(local) and (local.min() < -_TOLERANCE or local.max() > len(rows) - 1 + _TOLERANCE):
        raise ValueError(f"expected positions within 0..{len(rows) - 1}, got {local.min():.3f}..{local.max():.3f}")
    low = np.clip(np.floor(local).astype(int), 0, len(rows) - 1)
    high = np.minimum(low + 1, len(rows) - 1)
    share = (local - low).astype(rows.dtype)[:, None]
    return rows[low] * (1 - share) + rows[high] * share
