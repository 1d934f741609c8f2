"""Puts a scene back as it was when a job on it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import bpy

from .. import compat
from ..bake.mesh_cache import MODIFIER_NAME, attach_cache, detach_cache
from .actions import assign_action
from .created import find_blocks, known_blocks
from .hair import hair_restorer
from .mesh import REPLACED_PROPERTY
from .rig import detach_rig, find_rig
from .timeline import STRIP_PROPERTY, remove_strips

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

    Session ids are kept, not references: a data-block can vanish before the block ends.
    """
    known = known_blocks()
    kept = {block.session_uid for name in _KEPT for block in getattr(bpy.data, name) if block.use_fake_user}
    settings = {name: getattr(scene, name) for name in _SCENE_SETTINGS}
    rate = {name: getattr(scene.render, name) for name in _RATE_SETTINGS}
    frame, subframe = scene.frame_current, scene.frame_subframe
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
        bpy.data.batch_remove(find_blocks(known_blocks() - known))
        restore_target()  # once more: names are free again
        _restore_strips(scene, strips)
        for name in _KEPT:
            for block in getattr(bpy.data, name):
                if block.library is None:
                    block.use_fake_user = block.session_uid in kept
        if (scene.frame_current, scene.frame_subframe) != (frame, subframe):
            scene.frame_set(frame, subframe=subframe)
        raise


def _target_restorer(target: Any | None) -> Callable[[], None]:
    """Return a function that gives an object its mesh, action and cache modifier back."""
    if target is None or target.type != "MESH":
        return lambda: None
    object_uid, mesh_uid, mesh_name = target.session_uid, target.data.session_uid, target.data.name
    action = target.animation_data.action if target.animation_data else None
    action_uid = None if action is None else action.session_uid
    cache = target.modifiers.get(MODIFIER_NAME)
    rig = find_rig(target)
    rig_uids = None if rig is None else (rig.session_uid, rig.data.session_uid, _action_uid(rig), rig.data.name)
    stored_cache = None if cache is None else (cache.filepath, int(cache.frame_start))
    restore_hair = hair_restorer(target)

    def restore() -> None:
        head, mesh = _block("objects", object_uid), _block("meshes", mesh_uid)
        if head.data != mesh:
            head.data = mesh
        if mesh.library is None and mesh.name != mesh_name:
            mesh.name = mesh_name
            mesh.pop(REPLACED_PROPERTY, None)
        if head.animation_data is not None and head.animation_data.action != _block("actions", action_uid):
            head.animation_data.action = _block("actions", action_uid)
        if rig_uids is None:
            detach_rig(head)
        else:
            bones, armature = _block("objects", rig_uids[0]), _block("armatures", rig_uids[1])
            bones.data = armature
            armature.name = rig_uids[3]
            armature.pop(REPLACED_PROPERTY, None)
            if _action_uid(bones) != rig_uids[2]:
                assign_action(bones, _block("actions", rig_uids[2]))
        if stored_cache is None:
            detach_cache(head)
        else:
            attach_cache(head, *stored_cache)
        restore_hair()

    return restore


def _action_uid(item: Any) -> int | None:
    action = None if item.animation_data is None else item.animation_data.action
    return None if action is None else int(action.session_uid)


def _block(collection: str, uid: int | None) -> Any:
    return next((block for block in getattr(bpy.data, collection) if block.session_uid == uid), None)


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
            int(compat.content_start(strip)),
            strip[STRIP_PROPERTY],
        ): strip
        for strip in strips
    }
