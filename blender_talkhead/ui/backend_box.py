"""The backend's state, and the two ways to one where there is none."""

from __future__ import annotations

from typing import Any

from ..preferences import environment_folder, preferences_entry
from ..session import session
from .wrapped_text import describe_seconds, draw_text


def backend_summary() -> tuple[str, str]:
    """Return an icon and one line about the backend."""
    if session.is_installing():
        return "IMPORT", "Being installed"
    if session.check is not None:
        return "SORTTIME", "Looking for the backend"
    if session.report is not None and session.report.is_usable:
        return "CHECKMARK", f"Ready: {session.report.summary}"
    if session.missing:
        return "ERROR", "No backend"
    return "QUESTION", "Not checked yet"


def draw_backend_box(layout: Any, context: Any, with_ways: bool = True) -> None:
    """Draw the state, the device and the buttons; with `with_ways` as the first thing that a new user must do."""
    if session.is_installing() and not with_ways:
        draw_installation(layout, context)
        return
    if with_ways:
        _draw_ways(layout.box(), context)
        return
    icon, text = backend_summary()
    draw_text(layout, context, text, icon=icon)
    if session.missing:
        draw_text(layout, context, session.missing)
    entry = preferences_entry(context)
    if entry is not None:
        row = layout.row()
        row.use_property_split = True
        row.use_property_decorate = False
        row.prop(entry, "device")
    row = layout.row(align=True)
    row.operator("talkhead.check_backend", icon="FILE_REFRESH")
    row.operator("talkhead.open_preferences", icon="PREFERENCES")
    draw_install_note(layout, context)


def draw_installation(layout: Any, context: Any) -> None:
    """Draw the running installation and Cancel."""
    installer = session.installer
    if installer is None:
        return
    column = layout.column(align=True)
    column.label(text="Installing the backend", icon="IMPORT")
    text = f"{installer.phase.capitalize()}  {installer.fraction:.0%}"
    if installer.seconds_left is not None:
        text += f"  {describe_seconds(installer.seconds_left)} left"
    column.progress(factor=installer.fraction, type="BAR", text=text)
    column.operator("talkhead.cancel_installation", icon="X")
    del context


def draw_install_note(layout: Any, context: Any) -> None:
    """Draw how the last installation ended."""
    note = session.install_note
    if note is not None:
        draw_text(layout, context, note.text, icon="CANCEL" if note.level == "error" else "CHECKMARK")


def draw_install_buttons(layout: Any) -> None:
    """Draw Install, or Repair and Remove where TalkHead has installed a backend."""
    row = layout.row(align=True)
    if environment_folder().is_dir():
        row.operator("talkhead.install_backend", text="Repair", icon="FILE_REFRESH")
        row.operator("talkhead.remove_backend", text="Remove", icon="TRASH")
    else:
        row.operator("talkhead.install_backend", icon="IMPORT")


def _draw_ways(box: Any, context: Any) -> None:
    draw_text(box, context, "One step before you start:", icon="INFO")
    draw_text(box, context, "TalkHead needs PyTorch, in a Python of its own, and found none on this computer.")
    draw_install_note(box, context)
    column = box.column(align=True)
    row = column.row()
    row.scale_y = 1.3
    row.operator("talkhead.install_backend", icon="IMPORT")
    column.operator("talkhead.choose_python", icon="FILE_FOLDER")
    row = column.row(align=True)
    row.operator("talkhead.check_backend", text="Look Again", icon="FILE_REFRESH")
    row.operator("talkhead.open_preferences", text="Details", icon="PREFERENCES")
