"""The running animation and what the last one told."""

from __future__ import annotations

from typing import Any

import bpy

from ..session import session
from .reasons import capitalized
from .wrapped_text import describe_seconds, draw_text

_ICONS = {"info": "INFO", "done": "CHECKMARK", "warning": "ERROR", "error": "CANCEL"}


def draw_progress(layout: Any, context: Any) -> None:
    """Draw the bar with the phase and the time left, and Cancel."""
    job = session.job
    if job is None:
        return
    column = layout.column(align=True)
    bar = column.row(align=True)
    bar.scale_y = 1.4
    bar.progress(factor=job.fraction, type="BAR", text=progress_text(job))
    row = column.row(align=True)
    row.scale_y = 1.2
    row.operator("talkhead.cancel", text="Cancelling" if job.is_cancelling else "Cancel", icon="X")
    if session.cancel_asked_at is not None:
        draw_text(layout, context, "Press Esc again to cancel", icon="QUESTION")
    elif not job.is_baking and not job.is_cancelling:
        draw_text(layout, context, "You can go on working; Esc twice cancels too", icon="INFO")


def progress_text(job: Any) -> str:
    """Return what stands in the bar: phase, per cent, time left."""
    text = f"{job.phase.capitalize()}  {job.fraction:.0%}"
    if job.seconds_left is not None and job.seconds_left >= 0.5:
        text += f"  {describe_seconds(job.seconds_left)} left"
    return text


def draw_notes(layout: Any, context: Any) -> None:
    """Draw the messages of the last animation: after a success with what one does next, after a failure with Copy."""
    head_name = _speaking_head()
    was_undone = not head_name and session.job is not None and session.job.has_succeeded
    notes = sorted(session.notes, key=lambda note: note.level != "done")
    if not notes or was_undone:
        return
    box = layout.box()
    for number, note in enumerate(notes):
        row = box.row()
        draw_text(row, context, capitalized(note.text), icon=_ICONS[note.level], taken_letters=0 if number else 6)
        if number == 0:
            row.operator("talkhead.clear_messages", text="", icon="X", emboss=False)
    if head_name:
        row = box.row(align=True)
        row.operator("talkhead.show_take", icon="VIEWZOOM").name = head_name
        row.operator("screen.animation_play", text="Play", icon="PLAY")
    elif any(note.level == "error" for note in notes):
        box.operator("talkhead.copy_messages", icon="COPYDOWN")


def _speaking_head() -> str:
    """Return the name of the head that the last animation made, while it exists (not after an undo)."""
    job = session.job
    if job is None or job.take is None or job.take.object_name not in bpy.data.objects:
        return ""
    return str(job.take.object_name)
