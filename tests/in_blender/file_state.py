"""Everything in the open file that a job must leave alone, as plain values that can be compared."""

from __future__ import annotations

import warnings
from typing import Any

import bpy
import numpy as np

from blender_talkhead import compat

_SKIPPED = {"rna_type", "session_uid", "is_evaluated", "preview", "asset_data"}


def file_state() -> dict[str, Any]:
    """Return the state of all data-blocks, of the scene's settings, selection and strips."""
    bpy.context.view_layer.update()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 5.2 tells that old names of strips will go
        state: dict[str, Any] = {}
        for prop in bpy.data.bl_rna.properties:
            if prop.type == "COLLECTION":
                state[prop.identifier] = [
                    (block.name, block.use_fake_user) for block in getattr(bpy.data, prop.identifier)
                ]
        for item in bpy.data.objects:
            state[f"object {item.name}"] = _object_state(item)
        for mesh in bpy.data.meshes:
            state[f"mesh {mesh.name}"] = _mesh_state(mesh)
        for scene in bpy.data.scenes:
            state[f"scene {scene.name}"] = _scene_state(scene)
        state["active"] = getattr(bpy.context.view_layer.objects.active, "name", None)
        return state


def plain_values(owner: Any) -> dict[str, Any]:
    """Return the numbers, texts and named pointers of an RNA struct."""
    values: dict[str, Any] = {}
    for prop in owner.bl_rna.properties:
        name = prop.identifier
        if name in _SKIPPED:
            continue
        if prop.type in {"BOOLEAN", "INT", "FLOAT", "STRING", "ENUM"}:
            value = getattr(owner, name)
            values[name] = list(value) if getattr(prop, "is_array", False) else value
            if isinstance(value, set):
                values[name] = sorted(value)
        elif prop.type == "POINTER":
            values[name] = getattr(getattr(owner, name), "name", None)
    return values


def _object_state(item: Any) -> dict[str, Any]:
    return {
        "matrix": [list(row) for row in item.matrix_basis],
        "data": getattr(item.data, "name", None),
        "selected": item.select_get() if item.name in bpy.context.view_layer.objects else None,
        "hidden": (item.hide_viewport, item.hide_render, item.hide_select),
        "mode": item.mode,
        "groups": [group.name for group in item.vertex_groups],
        "modifiers": [plain_values(modifier) for modifier in item.modifiers],
        "materials": [(slot.link, getattr(slot.material, "name", None)) for slot in item.material_slots],
        "keys": (item.show_only_shape_key, item.active_shape_key_index),
        "animation": _animation_state(item),
        "parent": (getattr(item.parent, "name", None), item.parent_type, list(item.parent_vertices)),
        "parent inverse": [list(row) for row in item.matrix_parent_inverse],
        "hair": _hair_points(item.data) if item.type == "CURVES" else None,
    }


def _hair_points(curves: Any) -> int:
    values = np.empty(len(curves.points) * 3, np.float32)
    curves.position_data.foreach_get("vector", values)
    return hash(values.tobytes())


def _mesh_state(mesh: Any) -> dict[str, Any]:
    keys = mesh.shape_keys
    state = {
        "points": _points(mesh.vertices),
        "polygons": len(mesh.polygons),
        "animation": _animation_state(mesh),
        "editing": mesh.is_editmode,
    }
    if keys is not None:
        blocks = [
            (key.name, key.value, key.mute, key.slider_min, key.slider_max, _points(key.points))
            for key in keys.key_blocks
        ]
        state["keys"] = (keys.use_relative, keys.eval_time, blocks, _animation_state(keys))
    return state


def _points(points: Any) -> int:
    values = np.empty(len(points) * 3, np.float32)
    points.foreach_get("co", values)
    return hash(values.tobytes())


def _animation_state(owner: Any) -> Any:
    animation = owner.animation_data
    if animation is None:
        return None
    tracks = [(track.name, track.mute, track.is_solo, len(track.strips)) for track in animation.nla_tracks]
    return getattr(animation.action, "name", None), compat.plays_action(owner), tracks, len(animation.drivers)


def _scene_state(scene: Any) -> dict[str, Any]:
    return {
        "values": plain_values(scene),
        "rate": (scene.render.fps, scene.render.fps_base),
        "objects": [item.name for item in scene.collection.all_objects],
        "strips": [plain_values(strip) for strip in compat.existing_strips(scene)],
    }
