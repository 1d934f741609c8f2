"""What an action says about its own making: everything needed to make the same bake again."""

from __future__ import annotations

import json
from typing import Any

from ..contract.motion_clip import MotionClip

PROPERTY = "talkhead"
"""Custom property of an Action, holding JSON text."""
FORMAT_VERSION = 1


def describe_take(clip: MotionClip, bake: dict[str, Any]) -> dict[str, Any]:
    """Return the provenance of a take.

    Args:
        clip: the clip that was baked.
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
    """Return the Action of an object's take: on its shape keys, or on the object (mesh cache); None without one."""
    owners = [getattr(head.data, "shape_keys", None), head]
    for owner in owners:
        animation = None if owner is None else owner.animation_data
        if animation is not None and read_provenance(animation.action) is not None:
            return animation.action
    return None
