"""Head and eyes as bones: an armature that hangs on the head's object and turns parts of its mesh.

The armature is a child of the head, so that whoever moves the head moves both. Switching off the modifier "TalkHead
rig" mutes all of it; each bone can be muted, posed or animated by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from ..contract.motion_clip import MotionClip
from ..facial.rotations import continuous_rotations, rotations_in_frame
from .actions import write_fcurve
from .coordinates import to_blender_axes

MODIFIER_NAME = "TalkHead rig"
ACTION_PROPERTY = "talkhead_rig"
"""Custom property of the Action of a rig: it was made with a take."""
BONES = ("neck", "head", "eye_left", "eye_right")
_FILE = Path(__file__).with_name("rig.blend")
_ARMATURE = "TalkHead rig"
_WEIGHT_LEVELS = 32
_CHIN_BELOW_LIPS = 0.025
_NECK_PART = 0.75
_SMALLEST_M = 1e-3


@dataclass(frozen=True)
class RigPlan:
    """Where a head's rig turns, and which vertices turn with which bone."""

    pivots: dict[str, NDArray[np.float32]]
    """(3,) points in the head's object space, metres, Blender's axes: head, eye_left, eye_right."""
    weights: dict[str, NDArray[np.float32]]
    """(V,) of each bone, 0..1; they sum to 1."""


def plan_rig(clip: MotionClip) -> RigPlan | None:
    """Return the rig that belongs to a clip; None where the clip turns neither head nor eyes."""
    if clip.performance is None or clip.head_rotation is None or clip.eye_rotations is None:
        return None
    pivots = {name: to_blender_axes(np.array(point, np.float32)) for name, point in clip.performance.pivots.items()}
    rest = to_blender_axes(clip.template_vertices)
    height = rest[:, 2]
    low = float(height[slice(*clip.parts.get("skin", (0, len(rest))))].min())
    lips = clip.regions.get("lips")
    chin = float(height[lips].min()) - _CHIN_BELOW_LIPS if lips is not None and len(lips) else float(pivots["head"][2])
    part = np.clip((height - low) / max(_NECK_PART * (chin - low), _SMALLEST_M), 0.0, 1.0)
    head = part * part * (3.0 - 2.0 * part)
    for name, (start, stop) in clip.parts.items():
        if name != "skin":
            head[start:stop] = 1.0
    eyes = np.zeros(len(rest), bool)
    eyes[slice(*clip.parts.get("eyes", (0, 0)))] = True
    weights = {
        "neck": np.where(eyes, 0.0, 1.0 - head),
        "head": np.where(eyes, 0.0, head),
        "eye_left": np.where(eyes & (rest[:, 0] > 0), 1.0, 0.0),
        "eye_right": np.where(eyes & (rest[:, 0] <= 0), 1.0, 0.0),
    }
    return RigPlan(pivots, {name: values.astype(np.float32) for name, values in weights.items()})


def create_rig(name: str, plan: RigPlan) -> Any:
    """Make the armature object of a head, at rest; it is linked nowhere yet and has no parent."""
    with bpy.data.libraries.load(str(_FILE), link=False) as (_, wanted):
        wanted.armatures = [_ARMATURE]
    armature = wanted.armatures[0]
    armature.use_fake_user = False
    _place_bones(armature, plan)
    rig = bpy.data.objects.new(name, armature)
    rig.data = armature  # builds the pose: Blender crashes when an action is taken off an armature that has none yet
    return rig


def attach_rig(head: Any, rig: Any, plan: RigPlan) -> None:
    """Hang a rig on a head: parent, vertex groups, and the modifier, before the head's other modifiers."""
    rig.parent = head
    rig.matrix_parent_inverse = Matrix.Identity(4)
    write_rig_groups(head, plan)
    modifier = head.modifiers.get(MODIFIER_NAME) or head.modifiers.new(MODIFIER_NAME, "ARMATURE")
    modifier.object = rig
    modifier.use_vertex_groups = True
    modifier.use_bone_envelopes = False
    head.modifiers.move(head.modifiers.find(modifier.name), 0)


def write_rig_groups(head: Any, plan: RigPlan) -> None:
    """Give the vertices their shares of the bones, as vertex groups of the bones' names."""
    for name, weights in plan.weights.items():
        group = head.vertex_groups.get(name) or head.vertex_groups.new(name=name)
        group.remove(list(range(len(head.data.vertices))))
        levels = np.round(weights * _WEIGHT_LEVELS).astype(int)
        for level in np.unique(levels[levels > 0]):
            group.add(np.flatnonzero(levels == level).tolist(), float(level) / _WEIGHT_LEVELS, "REPLACE")


def find_rig(head: Any) -> Any | None:
    """Return the armature object of a head's rig; None without one."""
    modifier = head.modifiers.get(MODIFIER_NAME)
    return None if modifier is None or modifier.type != "ARMATURE" else modifier.object


def detach_rig(head: Any) -> None:
    """Take the rig's modifier off a head, where it has one; the armature stays."""
    modifier = head.modifiers.get(MODIFIER_NAME)
    if modifier is not None:
        head.modifiers.remove(modifier)


def write_rotations(
    rig: Any,
    fcurves: Any,
    scene_frames: NDArray[np.float64],
    rotations: dict[str, NDArray[np.float32]],
) -> None:
    """Make the curves of the bones.

    Args:
        rig: the armature object.
        fcurves: of its action, without curves for these bones.
        scene_frames: (N,) rising.
        rotations: bone -> (N, 4) quaternions relative to rest, w first, backend axes, seen in the parent bone's space.
    """
    for name, values in rotations.items():
        turned = np.concatenate([values[:, :1], to_blender_axes(values[:, 1:])], axis=1)
        axes = np.array(rig.data.bones[name].matrix_local.to_quaternion(), np.float64)
        local = continuous_rotations(rotations_in_frame(turned, axes))
        path = f'pose.bones["{name}"].rotation_quaternion'
        for index in range(4):
            write_fcurve(fcurves, path, scene_frames, np.ascontiguousarray(local[:, index]), index)


def move_bones(
    rig: Any, previous_pivots: dict[str, NDArray[np.float32]], pivots: dict[str, NDArray[np.float32]]
) -> None:
    """Bring the bones of a rig from the pivots that they were placed at to others; poses and curves stay."""
    rig.data.transform(_placement(pivots) @ _placement(previous_pivots).inverted())


def _place_bones(armature: Any, plan: RigPlan) -> None:
    armature.transform(_placement(plan.pivots))


def _placement(pivots: dict[str, NDArray[np.float32]]) -> Any:
    """Unit bones to the pivots: x by half the distance of the eyes, y and z by where they lie."""
    pivot, left, right = (pivots[name].astype(float) for name in ("head", "eye_left", "eye_right"))
    arms = (left + right) / 2 - pivot
    sizes = (max(abs(left[0] - right[0]) / 2, _SMALLEST_M), max(-arms[1], _SMALLEST_M), max(arms[2], _SMALLEST_M))
    shift = (pivot[0] + arms[0], pivot[1], pivot[2])
    return Matrix.Translation(shift) @ Matrix.Diagonal((*sizes, 1.0))
