"""Why a take may not move, or not be seen or heard to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

from .. import compat
from ..scene.frame_meshes import MODIFIER_NAME as FRAMES_MODIFIER
from .mesh_cache import MODIFIER_NAME, cache_path
from .provenance import read_provenance, take_action


def diagnose_take(head: Any, scene: Any) -> list[str]:
    """Return what keeps an object's take from moving, each with its remedy; nothing when it will play.

    Only settings are read: no frame is evaluated.

    Args:
        head: the object with the take.
        scene: the scene that plays it.
    """
    return [*_hidden(head, scene), *_not_playing(head), *_cut_off(head, scene)]


def _hidden(head: Any, scene: Any) -> list[str]:
    if scene.objects.get(head.name) != head:
        return [f'"{head.name}" is not in the scene "{scene.name}"; link it to one of its collections']
    problems = []
    places = [entry for layer in scene.view_layers for entry in _layer_collections(layer.layer_collection, head)]
    shown = [entry for entry in places if not (entry.hide_viewport or entry.collection.hide_viewport)]
    # A view layer knows a new object only after its next update; before, it cannot be hidden there by its eye.
    layers = [layer for layer in scene.view_layers if layer.objects.get(head.name) == head]
    if not places:
        problems.append(
            f'"{head.name}" is in a collection that is excluded from the view layer; tick it in the outliner'
        )
    elif not shown or head.hide_viewport or (layers and all(head.hide_get(view_layer=layer) for layer in layers)):
        problems.append(f'"{head.name}" is hidden in the viewport; show it in the outliner (eye and monitor)')
    if head.hide_render:
        problems.append(f'"{head.name}" is hidden in renders; switch on its camera in the outliner')
    return problems


def _layer_collections(entry: Any, head: Any) -> list[Any]:
    """Return the entries of a view layer that are not excluded and hold an object."""
    below = [found for child in entry.children for found in _layer_collections(child, head)]
    own = [] if entry.exclude or entry.collection.objects.get(head.name) != head else [entry]
    return own + below


def _not_playing(head: Any) -> list[str]:
    cache = cache_path(head)
    if cache is not None:
        return _cache_problems(head, cache)
    frames = head.modifiers.get(FRAMES_MODIFIER)
    if frames is not None:
        return _frames_problems(head, frames)
    keys = head.data.shape_keys
    if keys is None:
        return [f'"{head.name}" has no shape keys any more; animate it again']
    problems = _action_problems(head, keys)
    moving = [key for key in keys.key_blocks if key != keys.reference_key]
    muted = sum(key.mute for key in moving)
    if muted:
        problems.append(f'{muted} of {len(moving)} shape keys of "{head.name}" are muted; tick them in its data tab')
    if head.show_only_shape_key:
        problems.append(f'"{head.name}" shows only its active shape key; unpin it below the list of shape keys')
    return problems


def _action_problems(head: Any, keys: Any) -> list[str]:
    animation = keys.animation_data
    action = None if animation is None else animation.action
    if action is None or read_provenance(action) is None:
        other = "no action" if action is None else f'the action "{action.name}"'
        return [f'the shape keys of "{head.name}" play {other}; choose its speech action in the action editor']
    if not compat.plays_action(keys):
        return [f'the action "{action.name}" has no slot chosen on "{head.name}"; choose one in the action editor']
    if any(track.is_solo for track in animation.nla_tracks):
        return [f'an NLA track of "{head.name}" plays solo, which silences its speech action; unstar it']
    if animation.action_influence < 1.0 or (animation.nla_tracks and not animation.use_nla):
        return [f'the speech action of "{head.name}" is mixed with NLA tracks at a lower influence; set it to 1']
    return []


def _cache_problems(head: Any, cache: str) -> list[str]:
    modifier = head.modifiers[MODIFIER_NAME]
    problems = []
    if not Path(bpy.path.abspath(cache)).is_file():
        problems.append(f'the mesh cache of "{head.name}" is missing at {cache}; bring it back or animate again')
    if not modifier.show_viewport or not modifier.show_render:
        where = "viewport" if not modifier.show_viewport else "renders"
        problems.append(f'the modifier "{modifier.name}" of "{head.name}" is switched off in {where}; switch it on')
    return problems


def _frames_problems(head: Any, modifier: Any) -> list[str]:
    if modifier.node_group is None:
        return [f'the modifier "{modifier.name}" of "{head.name}" has lost its node group; animate again']
    if not modifier.show_viewport or not modifier.show_render:
        where = "viewport" if not modifier.show_viewport else "renders"
        return [f'the modifier "{modifier.name}" of "{head.name}" is switched off in {where}; switch it on']
    return []


def _cut_off(head: Any, scene: Any) -> list[str]:
    known = read_provenance(take_action(head)) or {}
    bake = known.get("bake", {})
    first, last = bake.get("start"), bake.get("last_frame")
    if not isinstance(first, int) or not isinstance(last, int):
        return []
    problems = []
    if first < scene.frame_start:
        problems.append(
            f"the speech begins at frame {first}, before the scene's first frame {scene.frame_start}, and is not "
            "played whole; choose a later start frame" + (" or extend the frame range" if first >= 0 else "")
        )
    if last > scene.frame_end:
        problems.append(
            f"the speech ends at frame {last}, after the scene's last frame {scene.frame_end}, and is not played "
            "whole; extend the frame range"
        )
    if scene.use_preview_range and (scene.frame_preview_start > first or scene.frame_preview_end < last):
        problems.append("a preview range is on, which plays only part of the speech")
    return problems
