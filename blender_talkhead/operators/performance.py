"""The controls of a performance: apply them to the take, or put them back."""

from typing import Any, ClassVar

from bpy.types import Context, Operator

from ..contract.errors import TalkHeadError
from ..session import session
from ..ui.performance import CONTROLS, performing_head, why_not_apply


class TALKHEAD_OT_apply_performance(Operator):
    """Make the curves of this head's speech anew from its controls and their keyframes; edits by hand are replaced."""

    bl_idname = "talkhead.apply_performance"
    bl_label = "Apply Performance"
    bl_options: ClassVar[set[str]] = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        """A head of a take that controls can change is active."""
        reason = why_not_apply(context)
        if reason:
            cls.poll_message_set(reason)
        return not reason

    def execute(self, context: Context) -> set[str]:
        """Apply them."""
        from ..bake.performed_motion import apply_controls

        head: Any = performing_head(context)
        try:
            written = apply_controls(head)
        except TalkHeadError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        context.scene.frame_set(context.scene.frame_current, subframe=context.scene.frame_subframe)
        session.notes = []
        self.report({"INFO"}, f"Applied the performance of {head.name}: {written} curves")
        return {"FINISHED"}


class TALKHEAD_OT_reset_performance(Operator):
    """Set all controls of this head to what the speech was animated with; keyframes and drivers on them go too."""

    bl_idname = "talkhead.reset_performance"
    bl_label = "Reset Controls"
    bl_options: ClassVar[set[str]] = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        """As for applying."""
        return TALKHEAD_OT_apply_performance.poll.__func__(cls, context)  # type: ignore[attr-defined]

    def execute(self, context: Context) -> set[str]:
        """Reset and apply them."""
        from ..bake.controls import PROPERTY
        from ..bake.performed_motion import apply_controls
        from ..compat import action_fcurves

        head: Any = performing_head(context)
        curves = action_fcurves(head)
        for curve in [each for each in curves if each.data_path.startswith(f"{PROPERTY}.")]:
            curves.remove(curve)
        for name in CONTROLS:
            head.driver_remove(f"{PROPERTY}.{name}")
            head.talkhead_performance.property_unset(name)
        apply_controls(head)
        context.scene.frame_set(context.scene.frame_current, subframe=context.scene.frame_subframe)
        self.report({"INFO"}, f"The controls of {head.name} are as they were")
        return {"FINISHED"}


CLASSES: tuple[type, ...] = (TALKHEAD_OT_apply_performance, TALKHEAD_OT_reset_performance)
