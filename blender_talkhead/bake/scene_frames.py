"""A motion clip seen at the scene's frames, read in pieces: memory does not grow with the clip."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..contract.errors import BackendError
from ..contract.motion_clip import MotionClip
from ..facial.timing import resample_positions
from ..scene.coordinates import to_blender_axes

CHUNK_BYTES = 24 * 1024 * 1024
"""Size of one piece of vertex offsets; a few copies of it are alive at a time."""
STEP_BYTES = 600_000
"""Size of the pieces of a bake that must leave Blender's window responsive: about a millisecond each."""


class SceneFrames:
    """The vertex offsets of a clip at the frames of a scene, linearly interpolated in time, in Blender's axes.

    Args:
        clip: the clip, with memory-mapped offsets.
        scene_rate: frames per second of the scene; None for the clip's own frames.
    """

    def __init__(self, clip: MotionClip, scene_rate: float | None) -> None:
        self._clip = clip
        rate = clip.info.frame_rate if scene_rate is None else scene_rate
        self.positions: NDArray[np.float64] = resample_positions(clip.num_frames, clip.info.frame_rate, rate)
        """(N,) fractional clip frame of each scene frame."""
        self.num_vertices = clip.num_vertices
        self.largest_m = 0.0
        """Largest coordinate of an offset that `chunks` has given so far, metres."""

    def __len__(self) -> int:
        return len(self.positions)

    def read(self, first: int, stop: int) -> NDArray[np.float32]:
        """Return the offsets of the scene frames first..stop-1.

        Returns:
            (stop - first, V, 3) displacements, metres, Blender's axes.

        Raises:
            BackendError: the clip holds values that are not finite.
        """
        source_frames, blend = split_positions(self.positions[first:stop])
        base = int(source_frames[0])
        last = min(int(source_frames[-1]) + 1, self._clip.num_frames - 1)
        source = self._clip.read_offsets(base, last + 1)
        if not np.isfinite(source).all():
            raise BackendError(f"the motion clip is damaged: offsets near frame {base} are not finite")
        if (np.diff(source_frames) == 1).all() and not blend.any():
            return to_blender_axes(source[: stop - first])
        rows = source_frames - base
        following = np.minimum(rows + 1, len(source) - 1)
        weights = blend[:, None, None].astype(np.float32)
        return to_blender_axes(source[rows] * (1 - weights) + source[following] * weights)

    def chunks(self, max_bytes: int | None = None) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (first scene frame index, offsets (n, V, 3)) over all scene frames.

        Args:
            max_bytes: size of a piece, at least one frame; None is CHUNK_BYTES.
        """
        size = max(1, (CHUNK_BYTES if max_bytes is None else max_bytes) // (12 * self.num_vertices))
        for first in range(0, len(self), size):
            offsets = self.read(first, min(first + size, len(self)))
            self.largest_m = max(self.largest_m, float(offsets.max()), -float(offsets.min()))
            yield first, offsets


def split_positions(positions: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Split fractional frames (N,) into the frame before each and the part of the next one, 0..1."""
    frames = np.floor(positions).astype(np.int64)
    return frames, positions - frames
