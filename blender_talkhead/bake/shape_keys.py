"""The two bakes that live inside the .blend: few basis keys, or one absolute key a frame."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from ..compat import clear_shape_keys
from ..facial.motion_basis import MotionBasis
from ..facial.performance import ComposedPerformance
from ..scene.actions import new_action, write_fcurve
from .performed_motion import PerformedMotion, curve_values, write_key_curve
from .scene_frames import STEP_BYTES, SceneFrames, split_positions

BASIS_KEY = "Basis"
_BASIS_NAME = "Speech {:03d}"
_FRAME_NAME = "Frame {:06d}"
_OWN_LIST = "talkhead_keys"
"""Custom property of a mesh's shape keys: names of those that TalkHead made, one a line, beside the patterns above."""
_OWN_NAMES = re.compile(r"(Speech \d{3,}|Frame \d{6,})(\.\d{3})?")


def basis_key_steps(
    carrier: Any,
    basis: MotionBasis,
    rest: NDArray[np.float32],
    positions: NDArray[np.float64],
    start: int,
) -> Generator[float, None, Any]:
    """Put a motion on an object as shape keys with one F-Curve each; yields the done fraction, 0..1.

    Every weight lies within the slider's range of 0..1, so neither Blender nor a program that the head is exported to
    limits one. Between the clip's frames the weights are interpolated linearly, which is the linear interpolation of
    the clip itself.

    Args:
        carrier: the object whose mesh gets the keys.
        basis: shapes and weights at the clip's own rate, as `shift_to_nonnegative` gives them: the key of the shape
            with the constant weight is numbered 0.
        rest: (V, 3) rest positions, Blender's axes.
        positions: (N,) fractional clip frame of each scene frame.
        start: scene frame at which the clip begins.

    Returns:
        The new Action, assigned to the mesh's shape keys.
    """
    keys = _ensure_basis_key(carrier)
    keys.use_relative = True
    weights = resample_rows(basis.weights, positions)
    scene_frames = start + np.arange(len(positions), dtype=np.float64)
    action, fcurves = new_action(keys, f"{carrier.name} speech")
    for column, shape in enumerate(basis.shapes):
        key = carrier.shape_key_add(name=_BASIS_NAME.format(column), from_mix=False)
        key.points.foreach_set("co", (rest + shape).astype(np.float32).reshape(-1))
        path = f'key_blocks["{bpy.utils.escape_identifier(key.name)}"].value'
        write_fcurve(fcurves, path, scene_frames, weights[:, column])
        yield (column + 1) / len(basis.shapes)
    return action


def performed_key_steps(
    carrier: Any,
    motion: PerformedMotion,
    composed: ComposedPerformance,
    rest: NDArray[np.float32],
    positions: NDArray[np.float64],
    start: int,
) -> Generator[float, None, tuple[Any, dict[str, int]]]:
    """Put a motion with a performance on an object: a shape key for each of its shapes, a curve for those that move.

    Yields the done fraction, 0..1.

    Args:
        carrier: the object whose mesh gets the keys.
        motion: shapes and which curve moves each.
        composed: the curves, under the controls.
        rest: (V, 3) rest positions, Blender's axes.
        positions: (N,) fractional clip frame of each scene frame.
        start: scene frame at which the clip begins.

    Returns:
        The new Action, assigned to the mesh's shape keys; and the column of each key by its name.
    """
    keys = _ensure_basis_key(carrier)
    keys.use_relative = True
    scene_frames = start + np.arange(len(positions), dtype=np.float64)
    action, fcurves = new_action(keys, f"{carrier.name} speech")
    columns = {}
    for number, (name, shape, column) in enumerate(zip(motion.names, motion.shapes, motion.columns, strict=True)):
        key = carrier.shape_key_add(name=name, from_mix=False)
        key.points.foreach_set("co", (rest + shape).astype(np.float32).reshape(-1))
        write_key_curve(fcurves, key, scene_frames, curve_values(composed, column, positions))
        columns[key.name] = column
        yield (number + 1) / len(motion.names)
    keys[_OWN_LIST] = "\n".join(columns)
    return action, columns


def frame_key_steps(
    carrier: Any, frames: SceneFrames, rest: NDArray[np.float32], start: int
) -> Generator[float, None, Any]:
    """Put a motion on an object as one absolute shape key a scene frame, played by one curve of eval_time.

    Yields the done fraction, 0..1.

    Args:
        carrier: the object; its mesh has no shape keys of the user's.
        frames: the motion at the scene's rate.
        rest: (V, 3) rest positions, Blender's axes.
        start: scene frame at which the clip begins.

    Returns:
        The new Action, assigned to the mesh's shape keys.
    """
    keys = _ensure_basis_key(carrier)
    for first, offsets in frames.chunks(STEP_BYTES):
        for row, positions in enumerate(rest + offsets):
            key = carrier.shape_key_add(name=_FRAME_NAME.format(first + row), from_mix=False)
            key.points.foreach_set("co", np.ascontiguousarray(positions, np.float32).reshape(-1))
        yield (first + len(offsets)) / len(frames)
    keys.use_relative = False
    key_times = np.empty(len(keys.key_blocks), np.float32)
    # Each key's own time is read back: it drifts from a multiple of 10 in float32, and frame t must hit it exactly.
    keys.key_blocks.foreach_get("frame", key_times)
    action, fcurves = new_action(keys, f"{carrier.name} speech")
    scene_frames = start + np.arange(len(frames), dtype=np.float64)
    write_fcurve(fcurves, "eval_time", scene_frames, key_times[1:])
    return action


def resample_rows(rows: NDArray[np.float32], positions: NDArray[np.float64]) -> NDArray[np.float32]:
    """Interpolate rows (T, K) linearly at fractional row numbers (N,); returns (N, K)."""
    before, blend = split_positions(positions)
    after = np.minimum(before + 1, len(rows) - 1)
    weights = blend[:, None]
    return (rows[before] * (1 - weights) + rows[after] * weights).astype(np.float32)


def foreign_keys(mesh: Any) -> list[str]:
    """Return the names of the shape keys that TalkHead did not make, the basis apart."""
    if mesh.shape_keys is None:
        return []
    return [key.name for key in mesh.shape_keys.key_blocks[1:] if not _is_own(mesh.shape_keys, key.name)]


def remove_own_keys(carrier: Any) -> None:
    """Remove the shape keys that TalkHead made; the user's stay, relative to their basis."""
    keys = carrier.data.shape_keys
    if keys is None:
        return
    if not foreign_keys(carrier.data):
        clear_shape_keys(carrier)
        return
    for key in reversed([key for key in keys.key_blocks[1:] if _is_own(keys, key.name)]):
        carrier.shape_key_remove(key)
    keys.pop(_OWN_LIST, None)
    keys.use_relative = True


def _is_own(keys: Any, name: str) -> bool:
    listed = keys.get(_OWN_LIST)
    return bool(_OWN_NAMES.fullmatch(name)) or (isinstance(listed, str) and name in listed.splitlines())


def _ensure_basis_key(carrier: Any) -> Any:
    if carrier.data.shape_keys is None:
        carrier.shape_key_add(name=BASIS_KEY, from_mix=False)
    return carrier.data.shape_keys
