"""Time: the only place where seconds, scene frames and clip frames are converted.

Frame i of a clip shows the time i / frame_rate (no half-frame shift). A scene runs at fps / fps_base frames per second
(divided, not multiplied: at 30 / 1.001 the product would drift by 0.12 s a minute). A scene frame is a float that may
be negative; a frame index counts array rows from 0.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the panel counts frames where there is no numpy too
    import numpy as np
    from numpy.typing import NDArray

Seconds = float

_FRAME_TOLERANCE = 1e-6
"""Frames: a time this close to a frame is taken to lie on it (float rounding)."""
_NTSC = 1.001


def frame_rate_of(fps: float, fps_base: float) -> float:
    """Return the frames per second of a scene with the rate settings `fps` and `fps_base`.

    Raises:
        ValueError: one of them is not above 0.
    """
    if not (fps > 0 and fps_base > 0 and math.isfinite(fps) and math.isfinite(fps_base)):
        raise ValueError(f"fps and fps_base must be finite and above 0, got {fps} and {fps_base}")
    return fps / fps_base


def split_frame_rate(frame_rate: float) -> tuple[int, float]:
    """Return (fps, fps_base) with a whole fps for a frame rate, the way Blender stores it.

    23.976, 29.97 and 59.94 (as well as their longer spellings) become 24, 30 and 60 over 1.001.

    Raises:
        ValueError: the rate is not within 1..1000 frames per second.
    """
    if not 1.0 <= frame_rate <= 1000.0:
        raise ValueError(f"the frame rate must be within 1 to 1000 frames per second, got {frame_rate}")
    nearest = round(frame_rate)
    if abs(frame_rate - nearest) < 1e-6:
        return nearest, 1.0
    ntsc = round(frame_rate * _NTSC)
    if abs(frame_rate - ntsc / _NTSC) < 2e-3:
        return ntsc, _NTSC
    fps = math.ceil(frame_rate)
    return fps, fps / frame_rate


def scene_frame(time_seconds: Seconds, start_frame: float, fps: float, fps_base: float) -> float:
    """Return the scene frame at which `time_seconds` of a recording plays that starts at `start_frame`."""
    return start_frame + time_seconds * frame_rate_of(fps, fps_base)


def time_of_scene_frame(frame: float, start_frame: float, fps: float, fps_base: float) -> Seconds:
    """Return the time in the recording that a scene frame shows; the inverse of `scene_frame`."""
    return (frame - start_frame) / frame_rate_of(fps, fps_base)


def count_scene_frames(num_source_frames: int, source_rate: float, scene_rate: float) -> int:
    """Return how many whole scene frames, from the start, it takes to show a clip to its last frame.

    Raises:
        ValueError: fewer than one frame, or a rate not above 0.
    """
    if num_source_frames < 1:
        raise ValueError(f"a clip has at least 1 frame, got {num_source_frames}")
    if not (source_rate > 0 and scene_rate > 0):
        raise ValueError(f"rates must be above 0 frames per second, got {source_rate} and {scene_rate}")
    last = (num_source_frames - 1) * (scene_rate / source_rate)
    return math.ceil(last - _FRAME_TOLERANCE) + 1


def resample_positions(num_source_frames: int, source_rate: float, scene_rate: float) -> NDArray[np.float64]:
    """Return which part of a clip each scene frame shows.

    Args:
        num_source_frames: frames of the clip.
        source_rate: frames per second of the clip.
        scene_rate: frames per second of the scene.

    Returns:
        (N,) fractional source frame indices for the scene frames start, start + 1, ...; N = `count_scene_frames`. Each
        is k * source_rate / scene_rate, computed without accumulating, and at most num_source_frames - 1: a last scene
        frame that lies beyond the clip holds its last frame.

    Raises:
        ValueError: as `count_scene_frames`.
    """
    import numpy as np

    count = count_scene_frames(num_source_frames, source_rate, scene_rate)
    positions = np.arange(count, dtype=np.float64) * (source_rate / scene_rate)
    nearest = np.rint(positions)
    positions = np.where(np.abs(positions - nearest) < _FRAME_TOLERANCE, nearest, positions)
    return np.minimum(positions, num_source_frames - 1)
