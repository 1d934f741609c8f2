"""Runs inside a window (`blender -P window_companion.py -- STATE.json`) and only looks: an app timer writes what is
there, ten times a second, to a file. The mouse and the keyboard belong to the test outside.

Positions are in pixels of the window, from its top left corner.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import bpy

STATE_FILE = Path(sys.argv[sys.argv.index("--") + 1])
INTERVAL_SECONDS = 0.1
_count = 0
_lips: dict[tuple[str, int], list[int]] = {}


def look() -> float:
    """Write the state; returns the time to the next look."""
    global _count
    _count += 1
    began = time.perf_counter()
    windows = [describe_window(window) for window in bpy.context.window_manager.windows]
    state: dict[str, Any] = {"count": _count, "windows": windows, "scene": describe_scene()}
    state["talkhead"] = describe_talkhead()
    state["section"] = bpy.context.preferences.active_section
    state["milliseconds"] = (time.perf_counter() - began) * 1000.0
    partial = STATE_FILE.with_suffix(".part")
    partial.write_text(json.dumps(state), encoding="utf-8")
    partial.replace(STATE_FILE)
    return INTERVAL_SECONDS


def describe_window(window: Any) -> dict[str, Any]:
    """Its place on the screen, areas and regions, what runs in it, and the button under the pointer."""
    areas = []
    for area in window.screen.areas:
        regions = [
            describe_region(window, area, region) for region in area.regions if region.width > 1 and region.height > 1
        ]
        entry = {"type": area.ui_type, "regions": regions, "box": box(window, area)}
        if area.type == "VIEW_3D":
            entry["view"] = [round(value, 5) for row in area.spaces.active.region_3d.view_matrix for value in row]
            entry["sidebar"] = area.spaces.active.show_region_ui
        areas.append(entry)
    return {
        "place": [window.x, window.y],
        "size": [window.width, window.height],
        "areas": areas,
        "playing": window.screen.is_animation_playing,
        "modal": [operator.bl_idname for operator in getattr(window, "modal_operators", [])],
    }


def describe_region(window: Any, area: Any, region: Any) -> dict[str, Any]:
    entry = {"type": region.type, "box": box(window, region), "hovered": "", "tab": ""}
    if region.type == "UI" and area.type in {"VIEW_3D", "SEQUENCE_EDITOR"}:  # asking a new file browser crashes 4.3
        entry["hovered"] = hovered(window, area, region)
        entry["tab"] = getattr(region, "active_panel_category", "")
    return entry


def box(window: Any, item: Any) -> list[int]:
    """[left, top, width, height]."""
    return [item.x, window.height - item.y - item.height, item.width, item.height]


def hovered(window: Any, area: Any, region: Any) -> str:
    """The property ("audio") or operator ("talkhead.animate(...)") of the button under the pointer, or nothing."""
    with bpy.context.temp_override(window=window, area=area, region=region):
        found = getattr(bpy.context, "property", None)
        if found:
            return str(found[1]).rsplit(".", 1)[-1]
        if bpy.ops.ui.copy_python_command_button.poll():
            kept = bpy.context.window_manager.clipboard
            bpy.ops.ui.copy_python_command_button("EXEC_DEFAULT")
            command = bpy.context.window_manager.clipboard
            bpy.context.window_manager.clipboard = kept
            return command.removeprefix("bpy.ops.")
    return ""


def describe_scene() -> dict[str, Any]:
    """What an undo must bring back, as names, numbers and a digest of everything that moves."""
    scene = bpy.context.scene
    digest = hashlib.sha256()
    for mesh in sorted(bpy.data.meshes, key=lambda item: item.name):
        keys = mesh.shape_keys
        digest.update(f"{mesh.name} {len(mesh.vertices)} {len(keys.key_blocks) if keys else 0}\n".encode())
    strips = getattr(scene.sequence_editor, "strips", None) or getattr(scene.sequence_editor, "sequences", None) or []
    return {
        "objects": sorted(item.name for item in scene.objects),
        "selected": sorted(item.name for item in bpy.context.view_layer.objects if item.select_get()),
        "active": getattr(bpy.context.view_layer.objects.active, "name", None),
        "actions": sorted(item.name for item in bpy.data.actions),
        "strips": sorted(strip.name for strip in strips),
        "camera": getattr(scene.camera, "name", None),
        "range": [scene.frame_start, scene.frame_end],
        "rate": [scene.render.fps, scene.render.fps_base],
        "digest": digest.hexdigest()[:16],
        "frame": scene.frame_current,
        "lowest": lowest_point(scene),
        "performance": describe_performance(scene),
    }


def describe_performance(scene: Any) -> dict[str, Any]:
    """Controls of the head with their keys, and numbers that change when the curves of its take do."""
    head = next((item for item in scene.objects if item.type == "MESH" and item.name.startswith("TalkHead")), None)
    group = getattr(head, "talkhead_performance", None)
    if head is None or group is None:
        return {}
    keys = {
        curve.data_path.rsplit(".", 1)[-1]: [[point.co.x, round(point.co.y, 4)] for point in curve.keyframe_points]
        for curve in curves_of(head)
        if curve.data_path.startswith("talkhead_performance.")
    }
    frames = range(scene.frame_start, scene.frame_start + 120, 7)
    taken = curves_of(head.data.shape_keys) if head.data.shape_keys is not None else []
    sums = {
        curve.data_path.split('"')[1]: round(sum(curve.evaluate(frame) for frame in frames), 5)
        for curve in taken
        if curve.data_path.startswith("key_blocks")
    }
    return {"values": plain_values(group), "keys": keys, "sums": sums}


def curves_of(owner: Any) -> list[Any]:
    """The F-Curves of an ID's action, in every version of actions."""
    animation = owner.animation_data
    action = None if animation is None else animation.action
    if action is None:
        return []
    if hasattr(action, "fcurves"):
        return list(action.fcurves)
    bags = [bag for layer in action.layers for strip in layer.strips for bag in strip.channelbags]
    return [curve for bag in bags if bag.slot == animation.action_slot for curve in bag.fcurves]


def lowest_point(scene: Any) -> float | None:
    """Blender z of the lowest evaluated vertex of the head's inner lower lip, which the jaw moves."""
    head = next((item for item in scene.objects if item.type == "MESH" and item.name.startswith("TalkHead")), None)
    lips = None if head is None else head.vertex_groups.get("lips_inner_lower")
    if head is None or lips is None or head.mode != "OBJECT":
        return None
    members = lip_vertices(head, lips.index)
    vertices = head.evaluated_get(bpy.context.evaluated_depsgraph_get()).data.vertices
    if not members or len(vertices) <= members[-1]:
        return None
    return float(round(min(vertices[index].co.z for index in members), 6))


def lip_vertices(head: Any, group: int) -> list[int]:
    """The group's vertices, looked up once for each mesh."""
    key = (head.name, len(head.data.vertices))
    if key not in _lips:
        _lips[key] = [v.index for v in head.data.vertices if any(entry.group == group for entry in v.groups)]
    return _lips[key]


def describe_talkhead() -> dict[str, Any] | None:
    """The extension's own status and settings, where it is enabled."""
    manager, scene = bpy.context.window_manager, bpy.context.scene
    status, settings = getattr(manager, "talkhead", None), getattr(scene, "talkhead", None)
    if status is None or settings is None:
        return None
    return {"status": plain_values(status), "settings": plain_values(settings), "ticks": describe_ticks()}


def describe_ticks() -> dict[str, list[float]]:
    """For the job's two states, the milliseconds that 95 % of its timer ticks stayed under, and their number."""
    session = sys.modules["bl_ext.user_default.talkhead.blender_talkhead.session"].session
    if session.job is None:
        return {}
    states = ("working", "baking")
    return {state: [session.job.tick_milliseconds(95.0, state), session.job.count_ticks(state)] for state in states}


def plain_values(group: Any) -> dict[str, Any]:
    """The text, numbers and switches of a property group."""
    values = {prop.identifier: getattr(group, prop.identifier) for prop in group.bl_rna.properties}
    return {name: value for name, value in values.items() if isinstance(value, str | int | float | bool)}


bpy.app.timers.register(look, first_interval=0.5, persistent=True)
