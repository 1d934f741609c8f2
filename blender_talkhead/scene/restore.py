"""Puts a scene back as it was when a job on it fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bpy

from .. import compat
from .timeline import remove_strips

_COLLECTIONS = (
    "scenes",
    "objects",
    "collections",
    "meshes",
    "materials",
    "images",
    "actions",
    "sounds",
    "lights",
    "cameras",
    "worlds",
)
_SCENE_SETTINGS = ("frame_start", "frame_end", "sync_mode", "use_audio_scrub", "camera", "world")
_RATE_SETTINGS = ("fps", "fps_base")


@contextmanager
def unchanged_on_error(scene: Any, target: Any | None = None) -> Iterator[None]:
    """Undo, when the block raises, what it added to the file, to a scene and to a target object.

    Names are kept, not references: a data-block can vanish before the block ends.
    """
    known = {name: {block.name for block in getattr(bpy.data, name)} for name in _COLLECTIONS}
    kept = {name: {block.name for block in getattr(bpy.data, name) if block.use_fake_user} for name in _KEPT}
    settings = {name: getattr(scene, name) for name in _SCENE_SETTINGS}
    rate = {name: getattr(scene.render, name) for name in _RATE_SETTINGS}
    frame = scene.frame_current
    strips = {strip.name for strip in compat.existing_strips(scene)}
    restore_target = _target_restorer(target)
    try:
        yield
    except BaseException:
        restore_target()
        remove_strips(scene, [strip for strip in compat.existing_strips(scene) if strip.name not in strips])
        for name, value in settings.items():
            setattr(scene, name, value)
        for name, value in rate.items():
            setattr(scene.render, name, value)
        for name in _COLLECTIONS:
            added = [block for block in getattr(bpy.data, name) if block.name not in known[name]]
            bpy.data.batch_remove(added)
        for name in _KEPT:
            for block in getattr(bpy.data, name):
                block.use_fake_user = block.name in kept[name]
        scene.frame_set(frame)
        raise


_KEPT = ("actions", "meshes")
"""Collections in which a bake sets fake users."""


def _target_restorer(target: Any | None) -> Any:
    """Return a function that gives an object its mesh, action and cache modifier back."""
    if target is None:
        return lambda: None
    object_name, mesh_name = target.name, target.data.name
    action = target.animation_data.action if target.animation_data else None
    action_name = None if action is None else action.name
    caches = {
        modifier.name: (modifier.filepath, modifier.frame_start)
        for modifier in target.modifiers
        if modifier.type == "MESH_CACHE"
    }

    def restore() -> None:
        head = bpy.data.objects[object_name]
        head.data = bpy.data.meshes[mesh_name]
        if head.animation_data is not None:
            head.animation_data.action = None if action_name is None else bpy.data.actions[action_name]
        for modifier in list(head.modifiers):
            if modifier.type == "MESH_CACHE" and modifier.name not in caches:
                head.modifiers.remove(modifier)
        for name, (path, start) in caches.items():
            modifier = head.modifiers.get(name)
            if modifier is not None:
                modifier.filepath, modifier.frame_start = path, start

    return restore
