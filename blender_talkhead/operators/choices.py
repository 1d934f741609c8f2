"""Small helps of the panel: presets, the current frame, the active strip, the demo recording, the messages."""

from pathlib import Path
from typing import ClassVar

from bpy.props import IntProperty
from bpy.types import Context, Operator, OperatorProperties

from .. import compat
from ..contract.jobs import MAX_GRID, MAX_VERTICES, MIN_GRID, MIN_VERTICES
from ..properties import GRIDS, RESOLUTIONS, STANDARD_VERTICES
from ..session import session

DEMO_RECORDING = Path(__file__).resolve().parents[1] / "demo" / "demo_sentence.wav"


class TALKHEAD_OT_set_resolution(Operator):
    """Set the vertices of the face's skin to a preset."""

    bl_idname = "talkhead.set_resolution"
    bl_label = "Set Resolution"
    bl_options: ClassVar[set[str]] = {"UNDO", "INTERNAL"}

    vertices: IntProperty(
        name="Vertices",
        description="Vertices of the face's skin",
        default=STANDARD_VERTICES,
        min=MIN_VERTICES,
        max=MAX_VERTICES,
    )

    @classmethod
    def description(cls, context: Context, properties: OperatorProperties) -> str:
        """Return the preset's own tooltip."""
        del context
        for _, vertices, text in RESOLUTIONS:
            if vertices == properties.vertices:
                return f"{vertices:,} vertices. {text}"
        return f"{properties.vertices:,} vertices"

    def execute(self, context: Context) -> set[str]:
        """Set it."""
        context.scene.talkhead.vertices = self.vertices
        return {"FINISHED"}


class TALKHEAD_OT_set_grid(Operator):
    """Take this resolution for the mesh of each frame."""

    bl_idname = "talkhead.set_grid"
    bl_label = "Set Resolution"
    bl_options: ClassVar[set[str]] = {"UNDO", "INTERNAL"}

    grid: IntProperty(
        name="Cells",
        description="Cells along the head's longest side",
        min=MIN_GRID,
        max=MAX_GRID,
        options={"SKIP_SAVE"},
    )

    @classmethod
    def description(cls, context: Context, properties: OperatorProperties) -> str:
        """Say what the preset is for."""
        del context
        return next((text for _, cells, text in GRIDS if cells == properties.grid), str(cls.__doc__))

    def execute(self, context: Context) -> set[str]:
        """Set it."""
        context.scene.talkhead.grid = self.grid
        return {"FINISHED"}


class TALKHEAD_OT_start_at_current_frame(Operator):
    """Let the recording begin at the current frame."""

    bl_idname = "talkhead.start_at_current_frame"
    bl_label = "Start at Current Frame"
    bl_options: ClassVar[set[str]] = {"UNDO", "INTERNAL"}

    def execute(self, context: Context) -> set[str]:
        """Set it."""
        context.scene.talkhead.start = context.scene.frame_current
        return {"FINISHED"}


class TALKHEAD_OT_use_active_strip(Operator):
    """Take the active sound strip of the sequencer."""

    bl_idname = "talkhead.use_active_strip"
    bl_label = "Use Active Strip"
    bl_options: ClassVar[set[str]] = {"UNDO", "INTERNAL"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Whether the active strip is a sound."""
        editor = context.scene.sequence_editor
        strip = None if editor is None else editor.active_strip
        if strip is None or strip.type != "SOUND":
            cls.poll_message_set("Select a sound strip in this scene's sequencer first")
            return False
        return True

    def execute(self, context: Context) -> set[str]:
        """Set it."""
        settings = context.scene.talkhead
        settings.source = "STRIP"
        settings.strip = context.scene.sequence_editor.active_strip.name
        return {"FINISHED"}


class TALKHEAD_OT_use_demo_recording(Operator):
    """Take the short recording that comes with TalkHead, for a first try."""

    bl_idname = "talkhead.use_demo_recording"
    bl_label = "Try the Demo Recording"
    bl_options: ClassVar[set[str]] = {"UNDO", "INTERNAL"}

    def execute(self, context: Context) -> set[str]:
        """Set it."""
        settings = context.scene.talkhead
        settings.source = "FILE"
        settings.audio = str(DEMO_RECORDING)
        return {"FINISHED"}


class TALKHEAD_OT_copy_messages(Operator):
    """Copy the messages, with versions, for a bug report or a search."""

    bl_idname = "talkhead.copy_messages"
    bl_label = "Copy Messages"
    bl_options: ClassVar[set[str]] = {"INTERNAL"}

    def execute(self, context: Context) -> set[str]:
        """Put them on the clipboard."""
        from ..contract.version import read_version

        lines = [f"TalkHead {read_version()}, Blender {compat.blender_version()}"]
        lines += [f"{note.level}: {note.text}" for note in session.notes]
        context.window_manager.clipboard = "\n".join(lines)
        self.report({"INFO"}, "Messages copied")
        return {"FINISHED"}


class TALKHEAD_OT_clear_messages(Operator):
    """Take the messages away."""

    bl_idname = "talkhead.clear_messages"
    bl_label = "Clear Messages"
    bl_options: ClassVar[set[str]] = {"INTERNAL"}

    def execute(self, context: Context) -> set[str]:
        """Forget them."""
        del context
        session.notes = []
        return {"FINISHED"}


CLASSES: tuple[type, ...] = (
    TALKHEAD_OT_set_resolution,
    TALKHEAD_OT_set_grid,
    TALKHEAD_OT_start_at_current_frame,
    TALKHEAD_OT_use_active_strip,
    TALKHEAD_OT_use_demo_recording,
    TALKHEAD_OT_copy_messages,
    TALKHEAD_OT_clear_messages,
)
