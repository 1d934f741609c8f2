"""Lets Blender draw our panels again, and the line at the window's bottom."""

from __future__ import annotations

from typing import Any

import bpy

_AREAS = ("VIEW_3D", "SEQUENCE_EDITOR", "PREFERENCES")
_status_workspaces: set[str] = set()
"""Names of the workspaces whose status line is ours."""


def redraw_panels(context: Any) -> None:
    """Draw the regions again that hold our panels; the view itself is left alone."""
    manager = getattr(context, "window_manager", None)
    for window in () if manager is None else manager.windows:
        for area in window.screen.areas:
            if area.type in _AREAS:
                for region in area.regions:
                    if region.type == "UI" or area.type == "PREFERENCES":
                        region.tag_redraw()


def set_status_text(text: str | None, workspace: Any = None) -> None:
    """Show a text in the status bar of a workspace, or with None give all their own text back."""
    if text is not None:
        if workspace is not None:
            workspace.status_text_set(text)
            _status_workspaces.add(workspace.name)
        return
    for name in _status_workspaces:
        known = bpy.data.workspaces.get(name)
        if known is not None:
            known.status_text_set(None)
    _status_workspaces.clear()
