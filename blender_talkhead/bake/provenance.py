"""What an action says about its own making: everything needed to make the same bake again."""

from __future__ import annotations

import json
from typing import Any

from ..contract.mesh_sequence import MeshSequence
from ..contract.motion_clip import MotionClip
from ..scene.character_store import is_character

PROPERTY = "talkhead"
"""Custom property of an Action, holding JSON text."""
FORMAT_VERSION = 1


def describe_take(clip: MotionClip | MeshSequence, bake: dict[str, Any]) -> dict[str, Any]:
    """Return the provenance of a take.

    Args:
        clip: what was baked.
        bake: how it was baked: mode, start, scene rate, error limit and what else the bake decided.
    """
    info = clip.info
    return {
        "format_version": FORMAT_VERSION,
        "method": info.method,
        "audio_path": info.audio_path,
        "audio_sha256": info.audio_sha256,
        "weights_sha256": info.weights_sha256,
        "seed": info.seed,
        "options": info.options,
        "talkhead_version": info.talkhead_version,
        "frame_rate": info.frame_rate,
        "num_frames": info.num_frames,
        "num_vertices": clip.num_vertices,
        "bake": bake,
    }


def write_provenance(action: Any, provenance: dict[str, Any]) -> None:
    """Store a provenance on an Action, as JSON text with sorted keys."""
    action[PROPERTY] = json.dumps(provenance, sort_keys=True)


def read_provenance(action: Any) -> dict[str, Any] | None:
    """Return the provenance of an Action, or None where it has none or an unreadable one."""
    text = None if action is None else action.get(PROPERTY)
    if not isinstance(text, str):
        return None
    try:
        content = json.loads(text)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def take_action(head: Any) -> Any | None:
    """Return the Action of an object's take: on its shape keys, or on its mesh (mesh cache); None without one.

    Takes of version 0.1.0 had that of a mesh cache on the object.
    """
    owners = [getattr(head.data, "shape_keys", None), head.data, head]
    for owner in owners:
        animation = None if owner is None else owner.animation_data
        if animation is not None and read_provenance(animation.action) is not None:
            return animation.action
    return None


def is_own_object(head: Any) -> bool:
    """Whether TalkHead made an object; else it is the user's, with a take or without."""
    known = read_provenance(take_action(head))
    if known is None:
        return is_character(head)
    return bool(known.get("bake", {}).get("own_object", True))
