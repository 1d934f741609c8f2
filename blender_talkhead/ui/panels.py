"""The TalkHead tab in the sidebars of the 3D view and of the sequencer."""

from typing import Any, ClassVar

from bpy.types import Context, Panel

from ..session import session
from .backend_box import backend_summary, draw_backend_box, draw_installation
from .character import draw_character
from .choices import draw_choices, draw_options
from .performance import draw_performance
from .progress import draw_notes, draw_progress
from .reasons import why_not_animate
from .takes import draw_takes, list_takes
from .wrapped_text import draw_text

_CATEGORY = "TalkHead"


def draw_main(layout: Any, context: Context) -> None:
    """Draw everything that a first animation needs, from the recording down to the button."""
    layout.use_property_split = True
    layout.use_property_decorate = False
    if session.is_installing():
        draw_installation(layout.box(), context)
    elif session.missing:
        draw_backend_box(layout, context)
    choices = layout.column()
    choices.enabled = not session.is_animating()
    draw_choices(choices, context)
    layout.separator(factor=0.5)
    if session.is_animating():
        draw_progress(layout, context)
    else:
        _draw_button(layout, context)
    draw_notes(layout, context)


def _draw_button(layout: Any, context: Context) -> None:
    row = layout.row()
    row.scale_y = 1.8
    row.operator("talkhead.animate", icon="PLAY")
    reason = why_not_animate(context)
    if reason:
        draw_text(layout, context, reason, icon="INFO")


class _Sidebar:
    """Where the panels of one editor are."""

    bl_region_type = "UI"
    bl_category = _CATEGORY


class _View3d(_Sidebar):
    bl_space_type = "VIEW_3D"


class _Sequencer(_Sidebar):
    bl_space_type = "SEQUENCE_EDITOR"


class _Main:
    bl_label = "Animate from Audio"

    def draw(self, context: Context) -> None:
        """Draw the panel."""
        session.ask_for_check()
        draw_main(self.layout, context)  # type: ignore[attr-defined]


class _Options:
    bl_label = "Options"
    bl_options: ClassVar[set[str]] = {"DEFAULT_CLOSED"}

    def draw(self, context: Context) -> None:
        """Draw the panel."""
        layout = self.layout  # type: ignore[attr-defined]
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.enabled = not session.is_animating()
        draw_options(layout, context)


class _Results:
    bl_label = "Results"

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Whether this file has any."""
        del context
        return bool(list_takes())

    def draw(self, context: Context) -> None:
        """Draw the panel."""
        draw_takes(self.layout, context)  # type: ignore[attr-defined]


class _Character:
    bl_label = "Character"
    bl_options: ClassVar[set[str]] = {"DEFAULT_CLOSED"}

    def draw(self, context: Context) -> None:
        """Draw the panel."""
        session.ask_for_check()
        self.layout.enabled = not session.is_animating()  # type: ignore[attr-defined]
        draw_character(self.layout, context)  # type: ignore[attr-defined]


class _Performance:
    bl_label = "Performance"

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Whether this file has a head that speaks."""
        del context
        return bool(list_takes())

    def draw(self, context: Context) -> None:
        """Draw the panel."""
        self.layout.enabled = not session.is_animating()  # type: ignore[attr-defined]
        draw_performance(self.layout, context)  # type: ignore[attr-defined]


class _Backend:
    bl_label = "Backend"
    bl_options: ClassVar[set[str]] = {"DEFAULT_CLOSED"}

    def draw_header_preset(self, context: Context) -> None:
        """Show the state also while the panel is closed."""
        del context
        icon, _ = backend_summary()
        self.layout.label(icon=icon)  # type: ignore[attr-defined]

    def draw(self, context: Context) -> None:
        """Draw the panel."""
        draw_backend_box(self.layout, context, with_ways=False)  # type: ignore[attr-defined]


class TALKHEAD_PT_animate(_Main, _View3d, Panel):
    """Recording, face, detail, and the button; in the 3D view."""

    bl_idname = "TALKHEAD_PT_animate"


class TALKHEAD_PT_options(_Options, _View3d, Panel):
    """Start, storage, seed; in the 3D view."""

    bl_idname = "TALKHEAD_PT_options"
    bl_parent_id = "TALKHEAD_PT_animate"


class TALKHEAD_PT_character(_Character, _View3d, Panel):
    """Who the active head is, or the next one; in the 3D view."""

    bl_idname = "TALKHEAD_PT_character"


class TALKHEAD_PT_performance(_Performance, _View3d, Panel):
    """Controls of the active head; in the 3D view."""

    bl_idname = "TALKHEAD_PT_performance"


class TALKHEAD_PT_results(_Results, _View3d, Panel):
    """Heads of this file that speak; in the 3D view."""

    bl_idname = "TALKHEAD_PT_results"


class TALKHEAD_PT_backend(_Backend, _View3d, Panel):
    """The backend's state; in the 3D view."""

    bl_idname = "TALKHEAD_PT_backend"


class TALKHEAD_PT_sequencer_animate(_Main, _Sequencer, Panel):
    """Recording, face, detail, and the button; in the sequencer."""

    bl_idname = "TALKHEAD_PT_sequencer_animate"


class TALKHEAD_PT_sequencer_options(_Options, _Sequencer, Panel):
    """Start, storage, seed; in the sequencer."""

    bl_idname = "TALKHEAD_PT_sequencer_options"
    bl_parent_id = "TALKHEAD_PT_sequencer_animate"


class TALKHEAD_PT_sequencer_results(_Results, _Sequencer, Panel):
    """Heads of this file that speak; in the sequencer."""

    bl_idname = "TALKHEAD_PT_sequencer_results"


class TALKHEAD_PT_sequencer_backend(_Backend, _Sequencer, Panel):
    """The backend's state; in the sequencer."""

    bl_idname = "TALKHEAD_PT_sequencer_backend"


CLASSES: tuple[type, ...] = (
    TALKHEAD_PT_animate,
    TALKHEAD_PT_options,
    TALKHEAD_PT_character,
    TALKHEAD_PT_performance,
    TALKHEAD_PT_results,
    TALKHEAD_PT_backend,
    TALKHEAD_PT_sequencer_animate,
    TALKHEAD_PT_sequencer_options,
    TALKHEAD_PT_sequencer_results,
    TALKHEAD_PT_sequencer_backend,
)
