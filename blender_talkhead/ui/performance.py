"""The Performance panel: controls of the head that is active, each of which can have keyframes."""

from __future__ import annotations

from typing import Any

import bpy

from ..session import session
from .reasons import NO_NUMPY, has_numpy
from .wrapped_text import draw_text

_RIG_MODIFIER = "TalkHead rig"
_FRAMES_MODIFIER = "TalkHead frames"
"""As scene.frame_meshes, which needs numpy."""
_DATA_PROPERTY = "talkhead_performance"
"""As bake.performed_motion, which needs numpy."""
FACE = ("mouth_strength", "jaw_strength", "upper_face_strength", "blink_rate", "smoothing")
MOTION = ("head_motion", "gaze")
EXPRESSION = ("expression", "expression_strength")
CONTROLS = (*FACE, *MOTION, *EXPRESSION)


def performing_head(context: Any) -> Any | None:
    """Return the active object, or the head that the active rig belongs to, when it has a take with a performance."""
    item = None if context.view_layer is None else context.view_layer.objects.active
    if item is not None and item.type == "ARMATURE" and item.parent is not None:
        item = item.parent
    return item if item is not None and _performance_action(item) is not None else None


def why_not_apply(context: Any) -> str:
    """Return why the controls cannot be applied; empty when they can."""
    if session.is_animating():
        return "An animation is being made; wait for it or cancel it"
    if not has_numpy():
        return NO_NUMPY
    head = performing_head(context)
    active = None if context.view_layer is None else context.view_layer.objects.active
    if head is None and active is not None and _FRAMES_MODIFIER in active.modifiers:
        return "A mesh sequence has no controls; FaceTalk's surface One Mesh has them"
    if head is None:
        return "Select a head whose speech was animated with this version"
    if not head.is_editable or not head.data.is_editable:
        return f'"{head.name}" is linked; make a library override of it'
    return ""


def draw_performance(layout: Any, context: Any) -> None:
    """Draw the controls, and the button that applies them."""
    head = performing_head(context)
    if head is None:
        draw_text(layout, context, why_not_apply(context), icon="INFO")
        return
    controls = head.talkhead_performance
    layout.use_property_split = True
    layout.use_property_decorate = True  # the dots that set keyframes
    layout.label(text=head.name, icon="USER")
    keyed = has_shape_curves(head)
    for names in (EXPRESSION, FACE, MOTION):
        column = layout.column(align=True)
        column.enabled = keyed or names is MOTION
        for name in names:
            column.prop(controls, name)
    rig = head.modifiers.get(_RIG_MODIFIER)
    if rig is not None:
        row = layout.row()
        row.use_property_decorate = False
        row.prop(rig, "show_viewport", text="Bones")
    if not keyed:
        draw_text(layout, context, "The face is stored as it is; store it as shape keys to control it", icon="INFO")
    row = layout.row(align=True)
    row.scale_y = 1.4
    row.operator("talkhead.apply_performance", icon="CHECKMARK")
    row.operator("talkhead.reset_performance", text="", icon="LOOP_BACK")


def has_shape_curves(head: Any) -> bool:
    """Whether the face of a take moves by shape keys that controls can change, not by a cache or a key a frame."""
    keys = head.data.shape_keys
    return keys is not None and keys.use_relative and _performance_of(keys) is not None


def _performance_action(item: Any) -> Any | None:
    if item.type != "MESH":
        return None
    owners = (item.data.shape_keys, item.data)
    return next((found for owner in owners if owner is not None and (found := _performance_of(owner))), None)


def _performance_of(owner: bpy.types.ID) -> Any | None:
    animation = owner.animation_data
    action = None if animation is None else animation.action
    return action if action is not None and _DATA_PROPERTY in action else None
