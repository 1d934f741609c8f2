"""The heads of this file that speak: show them, remove them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import bpy

_PROPERTY = "talkhead"
"""Custom property of a take's Action; bake.provenance, which reads it elsewhere, needs numpy."""
_LOOK_AGAIN_SECONDS = 1.0
_SHOWN = 8


@dataclass(frozen=True)
class TakeRow:
    """One head with a take."""

    object_name: str
    action_name: str
    recording: str
    """File name of the recording."""
    detail: str
    """Vertices, storage and seed, for people."""


_rows: list[TakeRow] = []
_looked_at = -1e9
_counts: tuple[int, int] = (-1, -1)


def list_takes() -> list[TakeRow]:
    """Return the heads of the file, newest last; looked for at most once a second."""
    global _rows, _looked_at, _counts
    counts = (len(bpy.data.actions), len(bpy.data.objects))
    now = time.monotonic()
    if counts != _counts or now - _looked_at > _LOOK_AGAIN_SECONDS:
        _rows, _looked_at, _counts = _find_takes(), now, counts
    return _rows


def forget_takes() -> None:
    """Look for the heads anew."""
    global _looked_at, _rows
    _looked_at, _rows = -1e9, []


def draw_takes(layout: Any, context: Any) -> None:
    """Draw a row for each head: name, recording, show, remove."""
    rows = list_takes()
    for row in rows[-_SHOWN:]:
        box = layout.box()
        line = box.row(align=True)
        active = context.view_layer.objects.active
        is_active = active is not None and active.name == row.object_name
        show = line.operator("talkhead.show_take", text=row.object_name, icon="USER", depress=is_active)
        show.name = row.object_name
        remove = line.operator("talkhead.remove", text="", icon="TRASH")
        remove.name = row.object_name
        column = box.column(align=True)
        column.scale_y = 0.8
        column.label(text=row.recording, icon="SOUND")
        column.label(text=row.detail, icon="BLANK1")
    if len(rows) > _SHOWN:
        layout.label(text=f"and {len(rows) - _SHOWN} more")


def _find_takes() -> list[TakeRow]:
    known = {action.name: text for action in bpy.data.actions if isinstance(text := action.get(_PROPERTY), str)}
    if not known:
        return []
    rows = []
    for item in bpy.data.objects:
        if item.type != "MESH":
            continue
        for owner in (item.data.shape_keys, item.data, item):
            animation = None if owner is None else owner.animation_data
            action = None if animation is None else animation.action
            if action is not None and action.name in known:
                rows.append(_describe(item.name, action.name, known[action.name]))
                break
    return rows


def _describe(object_name: str, action_name: str, text: str) -> TakeRow:
    try:
        facts = json.loads(text)
        recording = PurePath(str(facts.get("audio_path", ""))).name
        bake = facts.get("bake", {})
        storage = str(bake.get("mode", ""))
        if "shape_keys" in bake:
            storage = f"{bake['shape_keys']} keys"
        detail = f"{int(facts.get('num_vertices', 0)):,} vertices, {storage}, seed {facts.get('seed', 0)}"
    except (ValueError, AttributeError, TypeError):
        recording, detail = "", "made by another version"
    return TakeRow(object_name, action_name, recording, detail)
