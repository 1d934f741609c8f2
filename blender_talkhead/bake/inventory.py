"""Which heads a file holds, and their removal."""

from __future__ import annotations

import re
from typing import Any

import bpy

from ..scene.frame_meshes import frame_blocks
from ..scene.hair import hair_blocks
from ..scene.mesh import shape_keys_of
from ..scene.timeline import remove_strips, strips_of_head
from .mesh_cache import cache_path, detach_cache
from .provenance import is_own_object, read_provenance, take_action
from .rigged_take import rig_blocks
from .shape_keys import remove_own_keys


def list_heads() -> list[dict[str, Any]]:
    """Return, for every object with a take, its name, action, cache and provenance."""
    heads = []
    for item in bpy.data.objects:
        action = take_action(item) if item.type == "MESH" else None
        if action is not None:
            heads.append(
                {
                    "object": item.name,
                    "action": action.name,
                    "cache": cache_path(item),
                    "provenance": read_provenance(action),
                }
            )
    return heads


def remove_head(head: Any) -> None:
    """Remove the takes of an object (kept ones too) with their sound strips; a head that TalkHead made goes as well.

    An object of the user's stays with its own shape keys, materials and modifiers.
    """
    name, is_own = head.name, is_own_object(head)
    for scene in bpy.data.scenes:
        remove_strips(scene, strips_of_head(scene, name))
    meshes = [mesh for mesh in bpy.data.meshes if _is_old_take(mesh, name)]
    actions = [action for action in bpy.data.actions if _belongs_to(action, name)]
    materials = {material.name for material in head.data.materials if material is not None}
    images = {image.name for image in bpy.data.images if image.users > 0}
    rig = [*rig_blocks(head), *hair_blocks(head), *frame_blocks(head)]
    if is_own:
        gone = [head, *([head.data] if head.data.users == 1 else [])]
        meshes += gone[1:]
        bpy.data.batch_remove([*gone[:1], *meshes, *shape_keys_of(meshes), *actions, *rig])
        bpy.data.batch_remove([item for item in bpy.data.materials if item.name in materials and item.users == 0])
        bpy.data.batch_remove([item for item in bpy.data.images if item.name in images and item.users == 0])
    else:
        detach_cache(head)
        remove_own_keys(head)
        bpy.data.batch_remove([*meshes, *shape_keys_of(meshes), *actions])
    bpy.data.batch_remove([sound for sound in bpy.data.sounds if sound.users == 0])


def _belongs_to(action: Any, name: str) -> bool:
    return read_provenance(action) is not None and _is_numbered(action.name, f"{name} speech")


def _is_old_take(mesh: Any, name: str) -> bool:
    """Whether a mesh is kept from an earlier take of the object: only a fake user holds it, and its action is ours."""
    if mesh.users > 1 or not mesh.use_fake_user:
        return False
    owners = [owner for owner in (mesh.shape_keys, mesh) if owner is not None and owner.animation_data is not None]
    return any(
        owner.animation_data.action is not None and _belongs_to(owner.animation_data.action, name) for owner in owners
    )


def _is_numbered(name: str, base: str) -> bool:
    """Whether `name` is `base`, or `base` with the number Blender appends."""
    return re.fullmatch(re.escape(base) + r"(\.\d{3,})?", name) is not None
