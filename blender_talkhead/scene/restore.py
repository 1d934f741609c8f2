"""Puts a scene back as it was when a job on it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import bpy

from .. import compat
from ..bake.mesh_cache import MODIFIER_NAME, attach_cache, detach_cache
from .mesh import shape_keys_of
from .timeline import STRIP_PROPERTY, remove_strips

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
_KEPT = ("actions", "meshes")
"""Collections in which a bake sets fake users."""
_SCENE_SETTINGS = ("frame_start", "frame_end", "sync_mode", "use_audio_scrub", "camera", "world")
_RATE_SETTINGS = ("fps", "fps_base")


class StripState(NamedTuple):
    """A sound strip of a head."""

    name: str
    sound_name: str
    path: str
    channel: int
    start: int
    head_name: str


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
    strips = list(_head_strips(scene))
    restore_target = _target_restorer(target)
    try:
        yield
    except BaseException:
        restore_target()
        _remove_added_strips(scene, strips)
        for name, value in settings.items():
            setattr(scene, name, value)
        for name, value in rate.items():
            setattr(scene.render, name, value)
        for name in _COLLECTIONS:
            added = [block for block in getattr(bpy.data, name) if block.name not in known[name]]
            bpy.data.batch_remove([*added, *shape_keys_of(added)] if name == "meshes" else added)
        _restore_strips(scene, strips)
        for name in _KEPT:
            for block in getattr(bpy.data, name):
                block.use_fake_user = block.name in kept[name]
        scene.frame_set(frame)
        raise


def _target_restorer(target: Any | None) -> Callable[[], None]:
    """Return a function that gives an object its mesh, action and cache modifier back."""
    if target is None or target.type != "MESH":
        return lambda: None
    object_name, mesh_name = target.name, target.data.name
    action = target.animation_data.action if target.animation_data else None
    action_name = None if action is None else action.name
    cache = target.modifiers.get(MODIFIER_NAME)
    stored_cache = None if cache is None else (cache.filepath, int(cache.frame_start))

    def restore() -> None:
        head = bpy.data.objects[object_name]
        head.data = bpy.data.meshes[mesh_name]
        if head.animation_data is not None:
            head.animation_data.action = None if action_name is None else bpy.data.actions[action_name]
        if stored_cache is None:
            detach_cache(head)
        else:
            attach_cache(head, *stored_cache)

    return restore


def _remove_added_strips(scene: Any, before: Iterable[StripState]) -> None:
    known = set(before)
    remove_strips(scene, [strip for state, strip in _head_strips(scene).items() if state not in known])


def _restore_strips(scene: Any, before: Iterable[StripState]) -> None:
    present = _head_strips(scene)
    for state in before:
        if state in present:
            continue
        sounds = {sound.name for sound in bpy.data.sounds}
        path = bpy.path.abspath(state.path)
        strip = compat.sequencer_strips(scene).new_sound(state.name, path, state.channel, state.start)
        strip[STRIP_PROPERTY] = state.head_name
        if state.sound_name in sounds:
            strip.sound = bpy.data.sounds[state.sound_name]
            bpy.data.batch_remove([sound for sound in bpy.data.sounds if sound.name not in sounds])


def _head_strips(scene: Any) -> dict[StripState, Any]:
    """Return the sound strips of heads by what it takes to make them again."""
    strips = [strip for strip in compat.existing_strips(scene) if STRIP_PROPERTY in strip and strip.sound is not None]
    return {
        StripState(
            strip.name,
            strip.sound.name,
            strip.sound.filepath,
            strip.channel,
            int(strip.frame_start),
            strip[STRIP_PROPERTY],
        ): strip
        for strip in strips
    }
