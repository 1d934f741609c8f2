"""The rotations of a take on the bones of its head.

They lie on the take's own Action, in a slot of their own, so that a take is one Action and exporters write one
animation; before Blender 4.4 had slots they lie on an Action beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from ..contract.motion_clip import MotionClip
from ..facial.performance import ComposedPerformance
from ..scene.actions import assign_action, join_action
from ..scene.mesh import REPLACED_PROPERTY
from ..scene.rig import ACTION_PROPERTY, BONES, RigPlan, attach_rig, create_rig, find_rig, plan_rig, write_rotations
from .performed_motion import bone_rotations
from .provenance import is_own_object, read_provenance


@dataclass(frozen=True)
class BuiltRig:
    """A rig that is complete but not on its head yet."""

    plan: RigPlan
    item: Any
    """The new armature object, with its action."""


def build_rig(
    clip: MotionClip,
    composed: ComposedPerformance,
    positions: NDArray[np.float64],
    start: int,
    target: Any | None,
    take: Any,
) -> BuiltRig | None:
    """Make the rig of a head with the rotations of a take.

    Args:
        clip: the clip.
        composed: its rotations under the controls.
        positions: (N,) fractional clip frame of each scene frame.
        start: scene frame at which the clip begins.
        target: the object that gets the rig; None for a new head.
        take: the Action of the take.

    Returns:
        The rig; None where the clip has no rotations, or for an object of the user's, which gets no bones.
    """
    plan = plan_rig(clip)
    if plan is None or not (target is None or is_own_object(target)):
        return None
    item = create_rig("TalkHead rig", plan)
    action, fcurves = join_action(item, take, "TalkHead rig")
    if action != take:
        action[ACTION_PROPERTY] = True
    scene_frames = start + np.arange(len(positions), dtype=np.float64)
    write_rotations(item, fcurves, scene_frames, bone_rotations(composed, positions))
    return BuiltRig(plan, item)


def install_rig(head: Any, built: BuiltRig, scene: Any) -> None:
    """Put a rig on a head, at once. A rig that it has stays the same object; its old action is kept in the file."""
    rig, new = find_rig(head), built.item
    if rig is None:
        rig = new
        for collection in head.users_collection or [scene.collection]:
            collection.objects.link(rig)
    else:
        action = new.animation_data.action
        _keep_action(rig)
        replaced, rig.data = rig.data, new.data
        bpy.data.objects.remove(new)
        assign_action(rig, action)
        if replaced.users == 0 and replaced.library is None:
            replaced.name = f"{replaced.name} (replaced)"
            replaced[REPLACED_PROPERTY] = True
    rig.name = rig.data.name = f"{head.name} rig"
    if ACTION_PROPERTY in rig.animation_data.action:
        rig.animation_data.action.name = f"{head.name} rig"
    attach_rig(head, rig, built.plan)


def rest_rig(head: Any) -> None:
    """Let the rig of a head stand still: a take without rotations replaces one that had some."""
    rig = find_rig(head)
    if rig is None:
        return
    if not _keep_action(rig):
        return
    assign_action(rig, None)
    for bone in rig.pose.bones:
        if bone.name in BONES:
            bone.rotation_quaternion = (1.0, 0.0, 0.0, 0.0)


def _keep_action(rig: Any) -> bool:
    """Keep the action of a rig's take in the file; returns whether the rig plays one."""
    old = None if rig.animation_data is None else rig.animation_data.action
    if old is None or not (ACTION_PROPERTY in old or read_provenance(old) is not None):
        return False
    if old.library is None:
        old.use_fake_user = True
    return True


def rig_blocks(head: Any) -> list[Any]:
    """Return the data-blocks of a head's rig, kept actions too, for removal with the head."""
    rig = find_rig(head)
    if rig is None:
        return []
    pattern = re.compile(re.escape(f"{head.name} rig") + r"(\.\d{3,})?")
    actions = [each for each in bpy.data.actions if ACTION_PROPERTY in each and pattern.fullmatch(each.name)]
    return [rig, *([rig.data] if rig.data.users == 1 else []), *actions]
