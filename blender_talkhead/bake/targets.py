"""Which objects a motion can be baked onto, and what the user should know about one before it is."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np

from ..compat import edit_target_mode
from ..contract.errors import BadInputError
from ..contract.motion_clip import MotionClip
from ..scene.character_store import is_same_identity, read_shown_character
from ..scene.coordinates import to_blender_axes
from ..scene.frame_meshes import MODIFIER_NAME as FRAMES_MODIFIER
from ..scene.mesh import read_polygon_vertices, read_rest_positions
from .character import character_of_clip
from .provenance import is_own_object, read_provenance, take_action
from .shape_keys import foreign_keys

MIN_FACE_VERTICES, MAX_FACE_VERTICES = 100, 60_000
"""What a mesh has that may be a face: others are refused before the backend runs."""
_SAME_SHAPE = 0.15
"""Part of the head's size that vertices of the same head may be apart on average, however it is scaled or sculpted."""
_NEW_HEAD = "leave the target empty to make a new head"


def find_target(name: str | None) -> Any | None:
    """Return the object of that name, one of the file itself before a linked one; None for no name.

    Raises:
        BadInputError: there is none.
    """
    if not name:
        return None
    target = bpy.data.objects.get((name, None)) or bpy.data.objects.get(name)
    if target is None:
        raise BadInputError(f'there is no object "{name}" in the file; choose another, or {_NEW_HEAD}')
    return target


def require_usable_target(target: Any, mode: str) -> list[str]:
    """Check what can be known of a target before there is a motion. Nothing is changed.

    Args:
        target: the object.
        mode: "basis", "per-frame" or "cache".

    Returns:
        Warnings: what the user should know, although the bake can go on.

    Raises:
        BadInputError: not a mesh, linked, being edited, or with shape keys or modifiers that the bake would break or
            that would hide it.
    """
    name = target.name
    if target.type != "MESH":
        raise BadInputError(
            f'the target "{name}" must be a mesh, it is a {target.type.lower()}; choose a mesh, or {_NEW_HEAD}'
        )
    if not target.is_editable or (target.library is not None and target.override_library is None):
        raise BadInputError(
            f'the target "{name}" is linked from {target.library.name}; make a library override of it '
            "(Object > Relations > Make Library Override) or make it local"
        )
    if FRAMES_MODIFIER in target.modifiers:
        raise BadInputError(
            f'the target "{name}" shows a mesh sequence, whose vertices are others in each frame; {_NEW_HEAD}'
        )
    mode_name = edit_target_mode(target)
    if mode_name is not None:
        raise BadInputError(f'the target "{name}" is in {mode_name} mode; go back to object mode (Tab) and try again')
    num_vertices = len(target.data.vertices)
    if take_action(target) is None and not MIN_FACE_VERTICES <= num_vertices <= MAX_FACE_VERTICES:
        raise BadInputError(
            f'the target "{name}" has {num_vertices:,} vertices; a face has {MIN_FACE_VERTICES} to '
            f"{MAX_FACE_VERTICES:,}. Choose a head that TalkHead made or a mesh of the same topology, or {_NEW_HEAD}"
        )
    return [*_check_shape_keys(target, mode), *_check_modifiers(target, mode)]


def require_fitting_target(target: Any, clip: MotionClip, mode: str) -> list[str]:
    """Check that a clip can be baked onto an object. Nothing is changed.

    Returns:
        Warnings, as `require_usable_target`.

    Raises:
        BadInputError: as `require_usable_target`; or another topology.
    """
    warnings = require_usable_target(target, mode)
    mesh, name = target.data, target.name
    if takes_new_topology(target, clip):
        own = foreign_keys(mesh)
        if own:
            raise BadInputError(
                f'the target "{name}" has shape keys of its own ({_few(own)}), which a mesh of {clip.num_vertices:,} '
                f"instead of {len(mesh.vertices):,} vertices cannot keep; repeat the resolution of its first take, or "
                f"{_NEW_HEAD}"
            )
        return [*warnings, f'"{name}" gets a new mesh of {clip.num_vertices:,} vertices; the old one is kept']
    if len(mesh.vertices) != clip.num_vertices:
        raise BadInputError(
            f'the target "{name}" has another topology: {len(mesh.vertices):,} vertices, the motion has '
            f"{clip.num_vertices:,}; choose a head that TalkHead made, repeat the options of its first take, or "
            f"{_NEW_HEAD}"
        )
    rest, template = read_rest_positions(mesh), to_blender_axes(clip.template_vertices)
    if not np.array_equal(read_polygon_vertices(mesh), clip.polygon_vertices):
        if _mean_distance(rest, template) > _SAME_SHAPE:
            raise BadInputError(
                f'the target "{name}" has another topology: as many vertices as the motion, but in other places and '
                f"with other polygons; choose a head that TalkHead made, or {_NEW_HEAD}"
            )
        warnings.append(f'"{name}" has other polygons than the head; its vertices are matched by their numbers')
    distance = float(np.abs(rest - template).max())
    if distance > 1e-5:
        warnings.append(
            f'the rest shape of "{name}" is up to {distance * 1000:.1f} mm from the head of this motion; the motion is '
            "added to it as it is"
        )
    return warnings


def takes_new_topology(target: Any, clip: MotionClip) -> bool:
    """Whether a target is a head of ours that gets the clip's mesh, of another resolution or face."""
    shown, wanted = read_shown_character(target.data), character_of_clip(clip)
    if shown is not None and wanted is not None and is_own_object(target):
        is_same = shown.vertices == wanted.vertices and is_same_identity(shown.identity, wanted.identity)
        is_same = is_same and (shown.seed == wanted.seed or shown.vertices is None)
        return not is_same and shown.num_vertices == len(target.data.vertices)
    if len(target.data.vertices) == clip.num_vertices:
        return False
    known = read_provenance(take_action(target))
    return known is not None and is_own_object(target) and known.get("num_vertices") == len(target.data.vertices)


def _mean_distance(first: Any, second: Any) -> float:
    """Return the mean distance of vertices (V, 3) after both are moved to the origin and scaled to size 1."""
    scaled = []
    for positions in (first, second):
        centred = positions - positions.mean(axis=0)
        scaled.append(centred / max(float(np.linalg.norm(centred, axis=1).mean()), 1e-12))
    return float(np.linalg.norm(scaled[0] - scaled[1], axis=1).mean())


def _check_shape_keys(target: Any, mode: str) -> list[str]:
    names = foreign_keys(target.data)
    if not names:
        return []
    shown = f'"{target.name}" has shape keys of its own ({_few(names)})'
    if mode == "cache":
        return [f"{shown}, which have no effect while the mesh cache plays"]
    if mode == "per-frame":
        raise BadInputError(f"the target {shown}, which absolute keys would switch off; use the bake mode basis")
    if not target.data.shape_keys.use_relative:
        raise BadInputError(
            f"the target {shown} that are absolute, which the bake mode basis would switch off; make them relative, "
            "use the bake mode cache, or take a copy without shape keys"
        )
    return [f"{shown}; they stay, and what they are set to adds to the motion"]


_REPLACING = ("MESH_CACHE", "MESH_SEQUENCE_CACHE", "SURFACE_DEFORM")
_FOLLOWING = ("CLOTH", "SOFT_BODY")


def _check_modifiers(target: Any, mode: str) -> list[str]:
    """Refuse modifiers that replace the shape, tell those that simulate it; others work on the moving face."""
    from .mesh_cache import MODIFIER_NAME

    warnings = []
    for modifier in target.modifiers:
        if modifier.name == MODIFIER_NAME or not (modifier.show_viewport or modifier.show_render):
            continue
        if modifier.type in _REPLACING and _replaces_shape(modifier):
            raise BadInputError(
                f'the target "{target.name}" has the modifier "{modifier.name}", which replaces the shape and would '
                "hide the motion; remove it, or switch it off in viewport and render"
            )
        if modifier.type in _FOLLOWING:
            warnings.append(f'the modifier "{modifier.name}" of "{target.name}" simulates the shape and may alter it')
    del mode
    return warnings


def _replaces_shape(modifier: Any) -> bool:
    if modifier.type == "MESH_CACHE":
        return bool(modifier.filepath) and modifier.deform_mode == "OVERWRITE" and modifier.factor > 0
    if modifier.type == "MESH_SEQUENCE_CACHE":
        return modifier.cache_file is not None and "VERT" in modifier.read_data
    return bool(modifier.is_bound and modifier.strength > 0)


def _few(names: list[str]) -> str:
    more = "" if len(names) <= 3 else f" and {len(names) - 3} more"
    return ", ".join(names[:3]) + more
