"""F-Curves in bulk, on one action a take."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from ..compat import actions_move_many, assign_action_and_slot, ensure_fcurves

_LINEAR = 1


def new_action(data_block: Any, name: str) -> tuple[Any, Any]:
    """Give a data-block a new action in place of the one it has.

    Returns:
        The action, and the collection that its F-Curves are created in.
    """
    action = bpy.data.actions.new(name)
    return action, ensure_fcurves(data_block, action)


def join_action(data_block: Any, action: Any, name: str) -> tuple[Any, Any]:
    """Let a data-block move by an action that moves others too; where actions cannot, by a new one.

    Args:
        data_block: it plays no action yet.
        action: the one to join.
        name: of the new one.

    Returns:
        The action, and the collection that the data-block's F-Curves are created in.
    """
    if actions_move_many():
        return action, ensure_fcurves(data_block, action)
    return new_action(data_block, name)


def assign_action(data_block: Any, action: Any | None) -> None:
    """Let a data-block play an action that was made for another one of its kind."""
    assign_action_and_slot(data_block, action)


def write_fcurve(
    fcurves: Any, data_path: str, scene_frames: NDArray[np.float64], values: NDArray[np.float32], index: int = 0
) -> None:
    """Make one F-Curve with linear keys; of equal values in a row only the first and the last get one.

    Args:
        fcurves: as `new_action` returns it.
        data_path: path of the property, from the animated data-block.
        scene_frames: (N,) rising scene frames.
        values: (N,) values at them.
        index: of the number, where the property has several.

    Raises:
        ValueError: the two differ in length.
    """
    if scene_frames.shape != values.shape:
        raise ValueError(f"expected as many values as scene frames {scene_frames.shape}, got {values.shape}")
    scene_frames, values = _without_repeats(scene_frames, values)
    curve = fcurves.new(data_path, index=index)
    keys = curve.keyframe_points
    keys.add(len(values))
    coordinates = np.stack([scene_frames, values], axis=1).astype(np.float32)
    keys.foreach_set("co", coordinates.reshape(-1))
    keys.foreach_set("interpolation", np.full(len(values), _LINEAR, np.int32))
    curve.update()


def _without_repeats(
    scene_frames: NDArray[np.float64], values: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Leave out what linear keys show anyway: a key takes 72 bytes of the file."""
    kept = np.ones(len(values), bool)
    kept[1:-1] = (values[1:-1] != values[:-2]) | (values[1:-1] != values[2:])
    return scene_frames[kept], values[kept]
