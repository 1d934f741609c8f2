"""How long an animation will take and how much memory it needs, before it starts (no bpy).

The figures are those of docs/results.md (two processor cores); the last animation on this computer corrects the time.
"""

from __future__ import annotations

from dataclasses import dataclass

PARTS_VERTICES = 4_282
"""Vertices of eyes, teeth, gums, tongue, brows and lashes, beside the skin."""
OWN_MESH_VERTICES = 5_014
"""Vertices of the skin in the head's own mesh."""
_START_SECONDS = 2.5
_HEAD_SECONDS_PER_VERTEX = 1.6e-4
_SECONDS_PER_SECOND = 0.042
_SECONDS_PER_SECOND_AND_VERTEX = 2.5e-6
_BASE_BYTES = 0.475e9
_BYTES_PER_VERTEX = 0.5e3
_WINDOW_BYTES = 0.09e9
_WINDOW_BYTES_PER_VERTEX = 0.7e3
_WINDOW_SECONDS = 30.0
_BYTES_PER_POSITION = 12
_TYPICAL_BASIS_KEYS = 66
_CURVE_BYTES_PER_FRAME = 4_000
"""Of the keys of all curves that move in a frame."""
_FACETALK_RATE = 24.0
_DRAWING_SECONDS_PER_SECOND = 0.2
"""Drawing the expression codes of one take."""
_FRAME_SECONDS, _FRAME_SECONDS_PER_CELL = 0.1, 2.2e-4
_VERTICES_OF_CELL = 2.4
"""Of the surface, for each cell of a square as wide as the grid."""
_SEQUENCE_BYTES = 0.7e9
_BYTES_OF_VERTEX = 125
"""In the .blend file, before compression."""
_LARGEST_CORRECTION, _SMALLEST_CORRECTION = 50.0, 0.02


@dataclass(frozen=True)
class Estimate:
    """What an animation will cost."""

    seconds: float
    """Of the backend and the bake."""
    memory_bytes: float
    """Of the backend while it works."""
    file_bytes: float
    """Added to the .blend file, or beside it by the cache bake."""


def estimate_animation(
    duration_seconds: float, vertices: int, bake: str, scene_rate: float, speed_factor: float = 1.0
) -> Estimate:
    """Return the estimate for a recording.

    Args:
        duration_seconds: length of the animated part of the recording.
        vertices: vertices of the skin.
        bake: "basis", "per-frame" or "cache".
        scene_rate: frames per second of the scene.
        speed_factor: how much slower this computer is than the one of docs/results.md.
    """
    per_second = _SECONDS_PER_SECOND + _SECONDS_PER_SECOND_AND_VERTEX * vertices
    seconds = _START_SECONDS + _HEAD_SECONDS_PER_VERTEX * vertices + duration_seconds * per_second
    window = min(1.0, duration_seconds / _WINDOW_SECONDS)
    memory = _BASE_BYTES + _BYTES_PER_VERTEX * vertices
    memory += window * (_WINDOW_BYTES + _WINDOW_BYTES_PER_VERTEX * vertices)
    positions = vertices + PARTS_VERTICES
    frames = int(duration_seconds * scene_rate) + 1
    if bake == "basis":
        size = _TYPICAL_BASIS_KEYS * positions * _BYTES_PER_POSITION + frames * _CURVE_BYTES_PER_FRAME
    else:
        size = frames * positions * _BYTES_PER_POSITION
    return Estimate(seconds * speed_factor, memory, size)


def estimate_sequence(duration_seconds: float, grid: int, takes: int = 1, speed_factor: float = 1.0) -> Estimate:
    """Return the estimate for a mesh sequence of FaceTalk.

    Args:
        duration_seconds: length of the animated part of the recording.
        grid: cells along the longest side of the head.
        takes: how many.
        speed_factor: as for `estimate_animation`.
    """
    frames = (int(duration_seconds * _FACETALK_RATE) + 1) * takes
    vertices = _VERTICES_OF_CELL * grid**2
    seconds = _START_SECONDS + frames * (_FRAME_SECONDS + _FRAME_SECONDS_PER_CELL * grid**2)
    seconds += takes * duration_seconds * _DRAWING_SECONDS_PER_SECOND
    return Estimate(seconds * speed_factor, _SEQUENCE_BYTES + 400.0 * vertices, frames * vertices * _BYTES_OF_VERTEX)


def with_takes(estimate: Estimate, duration_seconds: float, takes: int, speed_factor: float = 1.0) -> Estimate:
    """Return an estimate of a tracked animation for several takes, each of which is also drawn."""
    drawing = takes * duration_seconds * _DRAWING_SECONDS_PER_SECOND * speed_factor
    return Estimate(takes * estimate.seconds + drawing, estimate.memory_bytes, takes * estimate.file_bytes)


def corrected_speed_factor(speed_factor: float, estimated_seconds: float, seconds: float) -> float:
    """Return the speed factor after an animation that was estimated with `speed_factor` took `seconds`.

    Half way between the old and the measured one: one run beside other work should not spoil the estimates.
    """
    if estimated_seconds <= 0.0 or seconds <= 0.0:
        return speed_factor
    measured = speed_factor * seconds / estimated_seconds
    corrected = (speed_factor * measured) ** 0.5 if speed_factor != 1.0 else measured
    return min(max(corrected, _SMALLEST_CORRECTION), _LARGEST_CORRECTION)
