"""The running animation and what the last one told."""

from __future__ import annotations

from typing import Any

from ..session import session
from .reasons import capitalized
from .wrapped_text import describe_seconds, draw_text

_ICONS = {"info": "CHECKMARK", "warning": "ERROR", "error": "CANCEL"}


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
    """Draw the messages of the last animation, with a button that copies them."""
    if not session.notes:
        return
    box = layout.box()
    for note in session.notes:
        draw_text(box, context, capitalized(note.text), icon=_ICONS[note.level])
    row = box.row(align=True)
    row.alignment = "RIGHT"
    if any(note.level != "info" for note in session.notes):
        row.operator("talkhead.copy_messages", text="Copy", icon="COPYDOWN")
    row.operator("talkhead.clear_messages", text="", icon="X")
