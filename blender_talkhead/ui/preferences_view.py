"""How the extension's preferences are drawn."""

from __future__ import annotations

from typing import Any

from ..backend_client.environment_folder import read_environment
from ..preferences import cache_folder, environment_folder, read_preferences
from ..session import session
from .backend_box import backend_summary, draw_install_buttons, draw_install_note, draw_installation
from .folder_size import folder_bytes
from .wrapped_text import describe_bytes, draw_text


def draw_preferences(preferences: Any, context: Any) -> None:
    """Draw backend, device and cache."""
    session.ask_for_check()
    layout = preferences.layout
    layout.use_property_split = True
    layout.use_property_decorate = False
    _draw_backend(layout.box(), preferences, context)
    _draw_installation(layout.box(), preferences, context)
    _draw_cache(layout.box(), preferences, context)


def _draw_backend(box: Any, preferences: Any, context: Any) -> None:
    box.label(text="Backend", icon="MEMORY")
    icon, text = backend_summary()
    draw_text(box, context, text, icon=icon)
    if session.missing:
        draw_text(box, context, session.missing)
    report = session.report
    if report is not None and report.is_usable:
        origin = f" ({report.origin})" if report.origin else ""
        draw_text(box, context, f"{report.python}{origin}")
    column = box.column()
    column.prop(preferences, "python")
    column.prop(preferences, "device")
    column.prop(preferences, "idle_seconds")
    box.operator("talkhead.check_backend", icon="FILE_REFRESH")


def _draw_installation(box: Any, preferences: Any, context: Any) -> None:
    box.label(text="Installation", icon="IMPORT")
    if session.is_installing():
        draw_installation(box, context)
        return
    folder = environment_folder()
    facts, size = read_environment(folder), folder_bytes(folder) if folder.is_dir() else None
    known = "" if size is None else f" ({describe_bytes(size)})"
    if facts is not None:
        torch = f"PyTorch {facts.torch_version}, {facts.build}"
        draw_text(box, context, f"TalkHead has installed a backend in {folder}{known}: {torch}", icon="CHECKMARK")
    elif folder.is_dir():
        draw_text(box, context, f"The installation in {folder}{known} is not complete: repair it", icon="ERROR")
    else:
        draw_text(box, context, "TalkHead has not installed a backend of its own.")
    draw_install_note(box, context)
    draw_install_buttons(box)
    column = box.column()
    column.prop(preferences, "wheel_folder")
    column.prop(preferences, "index_url")


def _draw_cache(box: Any, preferences: Any, context: Any) -> None:
    box.label(text="Cache", icon="FILE_CACHE")
    box.prop(preferences, "cache_folder")
    box.prop(preferences, "kept_gigabytes")
    folder = cache_folder(read_preferences(context))
    size = folder_bytes(folder)
    row = box.row(align=True)
    row.label(text=f"{folder}: {'empty' if not size else describe_bytes(size)}")
    row.operator("talkhead.clear_cache", icon="TRASH")
