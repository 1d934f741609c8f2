"""The buttons of the Character panel: presets, random, reset, files, and the head itself."""

from pathlib import Path
from typing import Any, ClassVar

import bpy
from bpy.props import EnumProperty, StringProperty
from bpy.types import Context, Event, Menu, Operator, OperatorProperties

from .. import compat
from ..contract.errors import TalkHeadError
from ..contract.messages import ErrorMessage
from ..facial.identities import Character, encode_character, load_character
from ..facial.identity_parameters import IDENTITY_GROUPS, parameters_of_group
from ..facial.identity_presets import IDENTITY_PRESETS
from ..properties import MAX_UI_SEED
from ..scene.character_store import (
    wanted_identity,
    wanted_parameters,
    write_wanted_identity,
    write_wanted_parameters,
)
from ..session import Note, session
from ..ui.character import active_character, name_character, shown_owner, why_not_shape
from ..ui.redraw import redraw_panels, set_status_text
from .character_shaping import WorkerRun, ask_to_shape, shape_now

_TICK_SECONDS = 0.05
_PRESET_ITEMS = tuple((name, preset.label, preset.description) for name, preset in IDENTITY_PRESETS.items())


class TALKHEAD_MT_character_presets(Menu):
    """Characters to start from."""

    bl_idname = "TALKHEAD_MT_character_presets"
    bl_label = "Character"

    def draw(self, context: Context) -> None:
        """Draw one line a preset."""
        del context
        for name, preset in IDENTITY_PRESETS.items():
            self.layout.operator("talkhead.use_preset", text=preset.label).preset = name


class TALKHEAD_OT_use_preset(Operator):
    """Set all sliders to a character that comes with TalkHead."""

    bl_idname = "talkhead.use_preset"
    bl_label = "Use Character"
    bl_options: ClassVar[set[str]] = {"UNDO", "INTERNAL"}

    preset: EnumProperty(name="Character", description="The character to start from", items=_PRESET_ITEMS)

    @classmethod
    def description(cls, context: Context, properties: OperatorProperties) -> str:
        """Return the preset's own tooltip."""
        del context
        return IDENTITY_PRESETS[properties.preset].description

    def execute(self, context: Context) -> set[str]:
        """Set them."""
        _change_identity(shown_owner(context), self.preset)
        return {"FINISHED"}


class TALKHEAD_OT_random_character(Operator):
    """Set all sliders to the next random character; its number can be typed in again."""

    bl_idname = "talkhead.random_character"
    bl_label = "Next Random Character"
    bl_options: ClassVar[set[str]] = {"UNDO", "INTERNAL"}

    def execute(self, context: Context) -> set[str]:
        """Count up; the number's own update does the rest."""
        character = shown_owner(context).talkhead_character
        character.seed = character.seed + 1 if character.seed < MAX_UI_SEED else 0
        return {"FINISHED"}


class TALKHEAD_OT_reset_character(Operator):
    """Set sliders to the average head."""

    bl_idname = "talkhead.reset_character"
    bl_label = "Reset"
    bl_options: ClassVar[set[str]] = {"UNDO", "INTERNAL"}

    group: StringProperty(name="Group", description="Which sliders; empty for all")

    @classmethod
    def description(cls, context: Context, properties: OperatorProperties) -> str:
        """Name the group."""
        del context
        title = IDENTITY_GROUPS.get(properties.group)
        return "Set all sliders to the average head" if title is None else f"Set the sliders of {title} to the average"

    def execute(self, context: Context) -> set[str]:
        """Set them."""
        owner = shown_owner(context)
        kept: dict[str, float] = {}
        if self.group:
            gone = {each.name for each in parameters_of_group(self.group)}
            kept = {name: value for name, value in wanted_parameters(owner).items() if name not in gone}
        write_wanted_parameters(owner, kept)
        session.character_changed(owner)
        return {"FINISHED"}


class TALKHEAD_OT_create_character(Operator):
    """Put a head with this character into the scene, at rest, ready to be shaped and to speak."""

    bl_idname = "talkhead.create_character"
    bl_label = "Create Head"
    bl_options: ClassVar[set[str]] = {"REGISTER", "UNDO"}

    _timer: Any = None
    _run: WorkerRun | None = None

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Whether a head can be made; the reason why not is the button's tooltip."""
        reason = why_not_shape(context) if active_character(context) is None else ""
        if session.is_animating():
            reason = why_not_shape(context)
        if reason:
            cls.poll_message_set(reason)
        return not reason

    def execute(self, context: Context) -> set[str]:
        """Start; without a window, also finish."""
        session.character_note = None
        options = _creation_options(context)
        try:
            self._run = WorkerRun(**options)
        except TalkHeadError as error:
            return self._fail(str(error))
        if compat.is_background() or context.window is None:
            return self._run_to_the_end(context)
        session.shaping = "a new head"
        self._timer = context.window_manager.event_timer_add(_TICK_SECONDS, window=context.window)
        context.window_manager.modal_handler_add(self)
        set_status_text("TalkHead: creating the head; Esc cancels", context.workspace)
        redraw_panels(context)
        return {"RUNNING_MODAL"}

    def modal(self, context: Context, event: Event) -> set[str]:
        """Wait for the backend; Esc cancels."""
        if self._run is None:
            return self._stop(context, {"CANCELLED"})
        if event.type == "ESC" and event.value == "PRESS":
            self._run.cancel()
            return self._stop(context, {"CANCELLED"})
        if event.type != "TIMER":
            return {"PASS_THROUGH"}
        message = self._run.poll()
        if message is None:
            return {"PASS_THROUGH"}
        return self._stop(context, self._finish(context, message))

    def cancel(self, context: Context) -> None:
        """Give up: another file is being loaded, or the window is closed."""
        if self._run is not None:
            self._run.cancel()
        self._stop(context, {"CANCELLED"})

    def _run_to_the_end(self, context: Context) -> set[str]:
        import time

        run = self._run
        message = None
        while run is not None and message is None:
            time.sleep(0.01)
            message = run.poll()
        return self._finish(context, message)

    def _finish(self, context: Context, message: Any) -> set[str]:
        from ..bake.character import create_character
        from ..contract.motion_clip import load_motion_clip

        run, self._run = self._run, None
        if run is None:
            return {"CANCELLED"}
        try:
            if isinstance(message, ErrorMessage):
                return self._fail(message.text)
            head = create_character(load_motion_clip(run.folder), context.scene)
        except TalkHeadError as error:
            return self._fail(str(error))
        finally:
            run.clean_up()
        _make_active(context, head)
        settings = context.scene.talkhead
        settings.target_kind, settings.target = "OBJECT", head
        self.report({"INFO"}, f"Created {head.name}; its sliders shape it, Animate from Audio lets it speak")
        return {"FINISHED"}

    def _stop(self, context: Context, result: set[str]) -> set[str]:
        self._run = None
        session.shaping = ""
        timer, self._timer = self._timer, None
        if timer is not None:
            context.window_manager.event_timer_remove(timer)
        set_status_text(None)
        redraw_panels(context)
        return result

    def _fail(self, text: str) -> set[str]:
        session.character_note = Note("error", text)
        self.report({"ERROR"}, text)
        return {"CANCELLED"}


class TALKHEAD_OT_update_character(Operator):
    """Give the head the shape that its sliders ask for; what it speaks is carried over."""

    bl_idname = "talkhead.update_character"
    bl_label = "Update Head"
    bl_options: ClassVar[set[str]] = {"UNDO"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Whether there is a head to shape."""
        reason = why_not_shape(context)
        if not reason and active_character(context) is None:
            reason = "Select a head that TalkHead made"
        if reason:
            cls.poll_message_set(reason)
        return not reason

    def execute(self, context: Context) -> set[str]:
        """Shape it soon; without a window, now."""
        head: Any = active_character(context)
        session.character_note = None
        if not compat.is_background():
            ask_to_shape(head)
            return {"FINISHED"}
        try:
            shape_now(head)
        except TalkHeadError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class TALKHEAD_OT_save_character(Operator):
    """Save the sliders as a character file, to be loaded in another scene or given to others."""

    bl_idname = "talkhead.save_character"
    bl_label = "Save Character"
    bl_options: ClassVar[set[str]] = {"INTERNAL"}

    filepath: StringProperty(name="File", description="Where the character is saved", subtype="FILE_PATH")
    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})
    check_existing: bpy.props.BoolProperty(default=True, options={"HIDDEN"})

    def invoke(self, context: Context, event: Event) -> set[str]:
        """Ask for the file."""
        del event
        if not self.filepath:
            name = "".join(each for each in name_character(shown_owner(context)).lower() if each.isalnum())
            folder = Path(bpy.data.filepath).parent if bpy.data.filepath else Path()
            self.filepath = str(folder / f"{name}.json")
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: Context) -> set[str]:
        """Write it under a temporary name, then rename it."""
        from ..output_files import OutputFiles

        owner = shown_owner(context)
        path = Path(bpy.path.abspath(self.filepath)).with_suffix(".json")
        text = encode_character(Character(name_character(owner), wanted_parameters(owner)))
        try:
            with OutputFiles() as files:
                files.reserve(path).write_text(text, encoding="utf-8")
                files.commit()
        except (TalkHeadError, OSError) as error:
            self.report({"ERROR"}, f"Cannot save the character: {error}")
            return {"CANCELLED"}
        self.report({"INFO"}, f"Saved {path}")
        return {"FINISHED"}


class TALKHEAD_OT_load_character(Operator):
    """Set all sliders to those of a character file."""

    bl_idname = "talkhead.load_character"
    bl_label = "Load Character"
    bl_options: ClassVar[set[str]] = {"UNDO", "INTERNAL"}

    filepath: StringProperty(name="File", description="The character to load", subtype="FILE_PATH")
    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})

    def invoke(self, context: Context, event: Event) -> set[str]:
        """Ask for the file."""
        del event
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: Context) -> set[str]:
        """Read it; nothing changes when it is no character."""
        path = Path(bpy.path.abspath(self.filepath))
        try:
            character = load_character(path)
        except (OSError, ValueError) as error:
            self.report({"ERROR"}, f"{path.name} is no character of TalkHead: {error}")
            return {"CANCELLED"}
        owner = shown_owner(context)
        write_wanted_parameters(owner, character.parameters)
        session.character_changed(owner)
        self.report({"INFO"}, f"Loaded {character.name or path.stem}")
        return {"FINISHED"}


def _creation_options(context: Context) -> dict[str, Any]:
    settings = context.scene.talkhead
    return {
        "identity": wanted_identity(shown_owner(context)),
        "vertices": None if settings.detail == "ARTIST" else settings.vertices,
        "seed": settings.seed,
    }


def _make_active(context: Context, head: Any) -> None:
    for item in context.view_layer.objects:
        item.select_set(False)
    head.select_set(True)
    context.view_layer.objects.active = head


def _change_identity(owner: Any, identity: str) -> None:
    write_wanted_identity(owner, identity)
    session.character_changed(owner)


CLASSES: tuple[type, ...] = (
    TALKHEAD_MT_character_presets,
    TALKHEAD_OT_use_preset,
    TALKHEAD_OT_random_character,
    TALKHEAD_OT_reset_character,
    TALKHEAD_OT_create_character,
    TALKHEAD_OT_update_character,
    TALKHEAD_OT_save_character,
    TALKHEAD_OT_load_character,
)
"""The menu before the panel that shows it."""
