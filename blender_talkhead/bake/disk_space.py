"""Refuses a bake that cannot fit, before any work is done."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..contract.errors import BadInputError, OutputError
from ..facial.timing import count_scene_frames

MAX_PER_FRAME_KEYS = 100_000
"""Blender's eval_time ends at 1,048,574, which is about 104,000 absolute shape keys."""
_BYTES_PER_VERTEX = 12
_BASIS_KEYS = 400
_BYTES_PER_CURVE_KEY = 40
_HEADROOM_BYTES = 32 * 1024 * 1024


def estimate_bake_bytes(mode: str, num_scene_frames: int, num_vertices: int) -> int:
    """Return about how many bytes a bake adds to the .blend file and its cache (an upper bound in practice)."""
    if mode == "basis":
        keys = min(_BASIS_KEYS, num_scene_frames)
        return keys * (num_vertices * _BYTES_PER_VERTEX + num_scene_frames * _BYTES_PER_CURVE_KEY)
    return num_scene_frames * num_vertices * _BYTES_PER_VERTEX


def require_possible_bake(mode: str, num_scene_frames: int, num_vertices: int, folder: Path) -> None:
    """Check the limits of a bake mode and the free disk.

    Args:
        mode: "basis", "per-frame" or "cache".
        num_scene_frames: scene frames to bake.
        num_vertices: vertices of the head.
        folder: where the .blend file and the cache will lie.

    Raises:
        BadInputError: too many frames for the mode, or too little free disk.
        OutputError: the folder cannot be examined.
    """
    if mode == "per-frame" and num_scene_frames > MAX_PER_FRAME_KEYS:
        raise BadInputError(
            f"the bake mode per-frame holds at most {MAX_PER_FRAME_KEYS:,} frames, the recording needs "
            f"{num_scene_frames:,}; use the bake mode cache"
        )
    needed = estimate_bake_bytes(mode, num_scene_frames, num_vertices)
    require_free_space(folder, needed, f"the bake mode {mode}")


def require_free_space(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Check that a folder's disk has room.

    Raises:
        BadInputError: it has not.
        OutputError: the folder cannot be examined.
    """
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError(f"cannot examine the output folder {folder}: {error.strerror or error}") from error
    if needed_bytes + _HEADROOM_BYTES > free:
        raise BadInputError(
            f"{purpose} needs about {(needed_bytes + _HEADROOM_BYTES) / 1e6:,.0f} MB in {folder}, "
            f"{free / 1e6:,.0f} MB are free; free some, or choose another folder, another bake mode or fewer vertices"
        )


def count_clip_frames(duration_seconds: float, clip_rate: float, scene_rate: float) -> int:
    """Return how many scene frames a recording of a known duration needs, before the backend has seen it."""
    num_source_frames = int(duration_seconds * clip_rate + 1e-9) + 1
    return count_scene_frames(num_source_frames, clip_rate, scene_rate)
