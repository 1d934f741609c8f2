"""A take with a performance: its motion as ARKit curves and few shapes for the rest, and how controls change it.

The ARKit curves lie within 0..1, which not every motion fits; shapes named "Speech" hold what is left, so that with
neutral controls no vertex is further from the motion than the bake's error limit. The curves as they were before any
control, the rotations of head and eyes and the gaps of the lips are kept on the take's Action in a few kilobytes:
`apply_controls` makes the curves anew from them, without inference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from ..compat import action_fcurves
from ..contract.errors import BadInputError
from ..contract.motion_clip import MotionClip
from ..facial.blendshapes import ARKIT_BLENDSHAPES
from ..facial.motion_basis import MotionBasis, shift_to_nonnegative
from ..facial.performance import ComposedPerformance, Performance, compose_performance
from ..facial.performance_data import decode_performance, encode_performance
from ..facial.remainder import remainder_reader, round_curves
from ..facial.timing import resample_positions
from ..scene.actions import write_fcurve
from ..scene.coordinates import to_blender_axes
from ..scene.rig import find_rig, write_rotations
from .controls import sample_controls
from .provenance import read_provenance, take_action
from .scene_frames import SceneFrames, split_positions

DATA_PROPERTY = "talkhead_performance"
"""Custom property of a take's Action: the bytes of `encode_performance`."""
_NOTHING_M = 1e-7
_MAX_PAIRS = 24
_UP = 2

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class PerformedMotion:
    """A clip's motion, ready to become shape keys."""

    performance: Performance
    names: list[str]
    """Of the shapes."""
    shapes: list[FloatArray]
    """(V, 3) each, metres, Blender's axes."""
    columns: list[int]
    """Column of (weights, residual), side by side, that moves each shape."""
    max_error_m: float


def has_performance(clip: MotionClip) -> bool:
    """Whether a clip holds what controls need."""
    return clip.performance is not None and clip.blendshape_weights is not None


def read_residual(clip: MotionClip) -> Callable[[int, int], FloatArray]:
    """Return a reader of what the ARKit curves leave out of a motion: (stop - first, V, 3), Blender's axes."""
    if clip.performance is None or clip.blendshape_weights is None:
        raise ValueError("expected a clip with a performance, got one without")
    shapes = to_blender_axes(np.asarray(clip.performance.blendshapes))
    return remainder_reader(SceneFrames(clip, None).read, round_curves(clip.blendshape_weights), shapes)


def build_performed_motion(clip: MotionClip, residual: MotionBasis | None) -> PerformedMotion:
    """Put curves and shapes together.

    Args:
        clip: a clip with a performance.
        residual: the basis of what `read_residual` gives; None stores the curves alone, for other bakes.
    """
    if clip.performance is None or clip.blendshape_weights is None:
        raise ValueError("expected a clip with a performance, got one without")
    curves = round_curves(clip.blendshape_weights)
    arkit = to_blender_axes(np.asarray(clip.performance.blendshapes))
    moving = [index for index, shape in enumerate(arkit) if np.abs(shape).max() > _NOTHING_M]
    names, columns = [ARKIT_BLENDSHAPES[index] for index in moving], list(moving)
    shapes = [arkit[index] for index in moving]
    rest = np.zeros((len(curves), 0), np.float32)
    extra = np.zeros((0, clip.num_vertices, 3), np.float32)
    if residual is not None and np.abs(residual.shapes).max() > _NOTHING_M:
        shifted = shift_to_nonnegative(residual)
        rest, extra = shifted.weights, shifted.shapes
    for index, shape in enumerate(extra):
        names.append(f"Speech {index:03d}")
        columns.append(len(ARKIT_BLENDSHAPES) + index)
        shapes.append(shape)
    performance = Performance(
        clip.info.frame_rate,
        curves,
        rest,
        _lip_gaps(clip, arkit, extra),
        clip.head_rotation,
        clip.eye_rotations,
        clip.performance.blinks,
    )
    performance = decode_performance(encode_performance(performance))  # as controls find it later
    error = 0.0 if residual is None else residual.max_error_m
    return PerformedMotion(performance, names, shapes, columns, error)


def store_performance(action: Any, performance: Performance) -> None:
    """Keep a performance on the Action of a take."""
    action[DATA_PROPERTY] = encode_performance(performance)


def read_performance(action: Any) -> Performance | None:
    """Return the performance of a take's Action; None where it has none, or a damaged one."""
    data = None if action is None else action.get(DATA_PROPERTY)
    if not isinstance(data, bytes):
        return None
    try:
        return decode_performance(data)
    except ValueError:
        return None


def compose_for(head: Any | None, performance: Performance, start: int, scene_rate: float) -> ComposedPerformance:
    """Apply the controls of an object, with their curves, to a performance that begins at a scene frame."""
    seconds = np.arange(performance.num_frames) / performance.frame_rate
    controls = sample_controls(head, start + seconds * scene_rate, performance.frame_rate)
    return compose_performance(performance, controls)


def curve_values(composed: ComposedPerformance, column: int, positions: NDArray[np.float64]) -> FloatArray:
    """Return one curve (N,) at fractional clip frames."""
    count = len(ARKIT_BLENDSHAPES)
    values = composed.weights[:, column] if column < count else composed.residual[:, column - count]
    before, blend = split_positions(positions)
    after = np.minimum(before + 1, len(values) - 1)
    mixed: FloatArray = (values[before] * (1.0 - blend) + values[after] * blend).astype(np.float32)
    return mixed


def apply_controls(head: Any) -> int:
    """Write the curves of an object's take anew, as its controls and their keys say.

    Nothing else changes: shapes, sound, other animation. What was edited by hand in the take's own curves is replaced.

    Returns:
        The number of curves that were written.

    Raises:
        BadInputError: the object has no take, or one without a performance.
    """
    action = take_action(head)
    performance, known = read_performance(action), read_provenance(action)
    if action is None or performance is None or known is None:
        raise BadInputError(
            f'"{head.name}" has no take that controls can change; animate it again with this version, stored as shape '
            "keys"
        )
    bake = known["bake"]
    start, rate = int(bake["start"]), float(bake["scene_rate"])
    positions = resample_positions(performance.num_frames, performance.frame_rate, rate)
    composed = compose_for(head, performance, start, rate)
    scene_frames = start + np.arange(len(positions), dtype=np.float64)
    written = 0
    if bake.get("mode") == "basis" and head.data.shape_keys is not None:
        keys = head.data.shape_keys.key_blocks
        for name, column in bake.get("columns", {}).items():
            if name in keys:
                fcurves = action_fcurves(head.data.shape_keys)
                values = curve_values(composed, int(column), positions)
                written += write_key_curve(fcurves, keys[name], scene_frames, values)
    rig = find_rig(head)
    if rig is not None and rig.animation_data is not None and rig.animation_data.action is not None:
        fcurves = action_fcurves(rig)
        rotations = bone_rotations(composed, positions)
        for bone in rotations:
            for curve in [each for each in fcurves if each.data_path.startswith(f'pose.bones["{bone}"].rotation_q')]:
                fcurves.remove(curve)
        write_rotations(rig, fcurves, scene_frames, rotations)
        written += 4 * len(rotations)
        rig.update_tag()
    if head.data.shape_keys is not None:
        head.data.shape_keys.update_tag()
    return written


def write_key_curve(fcurves: Any, key: Any, scene_frames: NDArray[np.float64], values: FloatArray) -> bool:
    """Make or replace the curve of a shape key; one that never moves has none. Returns whether there is one."""
    path = f'key_blocks["{bpy.utils.escape_identifier(key.name)}"].value'
    old = fcurves.find(path)
    if old is not None:
        fcurves.remove(old)
    highest = float(values.max())
    key.slider_max = max(1.0, highest)
    if not values.any():
        key.value = 0.0
        return False
    write_fcurve(fcurves, path, scene_frames, values)
    return True


def bone_rotations(composed: ComposedPerformance, positions: NDArray[np.float64]) -> dict[str, FloatArray]:
    """Return bone -> (N, 4) quaternions at fractional clip frames; empty without rotations."""
    if composed.head_rotation is None or composed.eye_rotations is None:
        return {}
    tracks = {
        "head": composed.head_rotation,
        "eye_left": composed.eye_rotations[:, 0],
        "eye_right": composed.eye_rotations[:, 1],
    }
    before, blend = split_positions(positions)
    result = {}
    for name, track in tracks.items():
        after = np.minimum(before + 1, len(track) - 1)
        following = track[after] * np.where((track[after] * track[before]).sum(axis=1) < 0, -1.0, 1.0)[:, None]
        mixed = track[before] * (1.0 - blend)[:, None] + following * blend[:, None]
        result[name] = (mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-9)).astype(np.float32)
    return result


def _lip_gaps(clip: MotionClip, arkit: FloatArray, extra: FloatArray) -> FloatArray:
    """(52 + K, P) millimetres: what each shape does to the height between facing points of the lips."""
    upper, lower = (clip.regions.get(f"lips_inner_{side}") for side in ("upper", "lower"))
    if upper is None or lower is None or not len(upper) or not len(lower):
        return np.zeros((len(arkit) + len(extra), 1), np.float32)
    rest = to_blender_axes(clip.template_vertices)
    upper = upper[np.linspace(0, len(upper) - 1, min(len(upper), _MAX_PAIRS)).round().astype(int)]
    distances = np.linalg.norm(rest[upper][:, None] - rest[lower][None], axis=2)
    facing = lower[distances.argmin(axis=1)]
    apart = upper != facing  # a corner of the mouth belongs to both lips
    upper, facing = (upper[apart], facing[apart]) if apart.any() else (upper, facing)
    parts = [1000.0 * (shapes[:, upper, _UP] - shapes[:, facing, _UP]) for shapes in (arkit, extra)]
    return np.concatenate(parts).astype(np.float32)
