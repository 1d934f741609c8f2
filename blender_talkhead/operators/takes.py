"""The heads of the file that speak: show one, remove one."""

from typing import Any, ClassVar

import bpy
from bpy.props import StringProperty
from bpy.types import Context, Event, Operator
from mathutils import Vector

from ..contract.errors import TalkHeadError
from ..session import session
from ..ui.reasons import NO_NUMPY, has_numpy
from ..ui.takes import forget_takes


class TALKHEAD_OT_show_take(Operator):
    """Select this head and look at its face; where another object hides it, in local view."""

    bl_idname = "talkhead.show_take"
    bl_label = "Show"
    bl_options: ClassVar[set[str]] = {"UNDO", "INTERNAL"}

    name: StringProperty(name="Object", description="Name of the head", options={"SKIP_SAVE"})

    def execute(self, context: Context) -> set[str]:
        """Select it alone, and look at its face in every 3D view."""
        item = context.view_layer.objects.get(self.name)
        if item is None:
            self.report({"WARNING"}, f'"{self.name}" is not in this view layer; it may be hidden with its collection')
            return {"CANCELLED"}
        for other in context.view_layer.objects.selected:
            other.select_set(False)
        item.select_set(True)
        context.view_layer.objects.active = item
        is_enclosed = _is_enclosed(item, context)
        for area in () if context.screen is None else context.screen.areas:
            region = next((region for region in area.regions if region.type == "WINDOW"), None)
            if area.type == "VIEW_3D" and region is not None:
                with context.temp_override(area=area, region=region):
                    if is_enclosed and area.spaces.active.local_view is None:
                        bpy.ops.view3d.localview(frame_selected=False)
                    bpy.ops.view3d.view_axis(type="FRONT", align_active=True)
                    bpy.ops.view3d.view_selected()
        return {"FINISHED"}


class TALKHEAD_OT_remove(Operator):
    """Remove the take: a head that TalkHead made goes with its sound and its kept takes; an object of yours stays."""

    bl_idname = "talkhead.remove"
    bl_label = "Remove Speech Animation"
    bl_options: ClassVar[set[str]] = {"REGISTER", "UNDO"}

    name: StringProperty(
        name="Object", description="Name of the head; the active object when empty", options={"HIDDEN", "SKIP_SAVE"}
    )

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Not while an animation may be baked onto it."""
        del context
        if session.is_animating():
            cls.poll_message_set("An animation is being made; wait for it or cancel it")
            return False
        if not has_numpy():
            cls.poll_message_set(NO_NUMPY)
            return False
        return True

    def invoke(self, context: Context, event: Event) -> set[str]:
        """Ask first."""
        return context.window_manager.invoke_confirm(self, event)

    def execute(self, context: Context) -> set[str]:
        """Remove it."""
        from ..bake.inventory import remove_head
        from ..bake.provenance import take_action

        head = self._find(context)
        if head is None or take_action(head) is None:
            self.report({"ERROR"}, f'There is no head "{self.name}" with a take of TalkHead; choose one in Results')
            return {"CANCELLED"}
        name = head.name
        try:
            remove_head(head)
        except TalkHeadError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        forget_takes()
        session.notes = []
        self.report({"INFO"}, f"Removed the speech animation of {name}")
        return {"FINISHED"}

    def _find(self, context: Context) -> Any | None:
        return bpy.data.objects.get(self.name) if self.name else context.view_layer.objects.active


def _is_enclosed(item: Any, context: Context) -> bool:
    """Whether the box of another visible object holds this one, as the cube of Blender's first scene does."""
    low, high = _world_box(item)
    for other in context.view_layer.objects:
        if other == item or other.type != "MESH" or not other.visible_get() or other.display_type in {"BOUNDS", "WIRE"}:
            continue
        other_low, other_high = _world_box(other)
        if all(other_low[axis] < low[axis] and high[axis] < other_high[axis] for axis in range(3)):
            return True
    return False


def _world_box(item: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the lowest and highest coordinates of an object in the world."""
    corners = [item.matrix_world @ Vector(corner) for corner in item.bound_box]
    axes = list(zip(*corners, strict=True))
    return tuple(min(axis) for axis in axes), tuple(max(axis) for axis in axes)


CLASSES: tuple[type, ...] = (TALKHEAD_OT_show_take, TALKHEAD_OT_remove)
