"""The scene's frame rate and range, and the sound strip in sync with a take."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import bpy

from .. import compat
from ..facial.timing import frame_rate_of, split_frame_rate

logger = logging.getLogger(__name__)

MAX_SCENE_FRAME = 1_048_574
"""Blender's last frame."""
STRIP_PROPERTY = "talkhead_object"
"""Custom property of a sound strip: name of the head that speaks it."""


def scene_rate(scene: Any) -> float:
    """Return the scene's frames per second, as Blender computes them (its fps_base is a float32)."""
    return frame_rate_of(scene.render.fps, scene.render.fps_base)


def set_scene_rate(scene: Any, frame_rate: float) -> None:
    """Set the scene's frames per second; 23.976 and 29.97 become 24 and 30 over 1.001."""
    scene.render.fps, scene.render.fps_base = split_frame_rate(frame_rate)


def set_frame_range(scene: Any, start: int, num_frames: int, is_new: bool) -> None:
    """Set the range of a new scene to a take; widen that of an existing one to hold it."""
    last = start + num_frames - 1
    if is_new:
        scene.frame_end = max(last, 0)
        scene.frame_start = max(start, 0)
        scene.frame_set(start)
        return
    scene.frame_end = max(scene.frame_end, last)
    scene.frame_start = min(scene.frame_start, max(start, 0))


def add_sound_strip(scene: Any, audio: Path, start: int, head_name: str) -> Any | None:
    """Put the recording into the sequencer, so that it starts at a scene frame. The scene's rate must be set before.

    Returns:
        The strip, or None where this Blender is built without sound (a warning is logged).
    """
    strips = compat.sequencer_strips(scene)
    channel = 1 + max((strip.channel for strip in strips), default=0)
    try:
        strip = strips.new_sound(audio.stem, str(audio), channel, start)
    except RuntimeError as error:
        logger.warning("no sound strip: this Blender cannot load %s (%s)", audio.name, str(error).strip())
        return None
    strip[STRIP_PROPERTY] = head_name
    scene.sync_mode = "AUDIO_SYNC"
    scene.use_audio_scrub = True
    return strip


def strips_of_head(scene: Any, head_name: str) -> list[Any]:
    """Return the sound strips of a head."""
    return [strip for strip in compat.existing_strips(scene) if strip.get(STRIP_PROPERTY) == head_name]


def remove_strips(scene: Any, strips: list[Any]) -> None:
    """Remove strips from a scene's sequencer."""
    for strip in strips:
        compat.sequencer_strips(scene).remove(strip)


def measure_duration(audio: Path) -> float | None:
    """Return about how many seconds a recording lasts, as Blender reads it; None where it cannot tell."""
    if not compat.has_sound():
        return None
    scene = bpy.data.scenes.new("TalkHead duration")
    sounds = {sound.name for sound in bpy.data.sounds}
    scene.render.fps, scene.render.fps_base = 100, 1.0
    try:
        strip = compat.sequencer_strips(scene).new_sound("duration", str(audio), 1, 1)
        return float(strip.frame_duration) / 100.0
    except RuntimeError:
        return None
    finally:
        bpy.data.scenes.remove(scene)
        bpy.data.batch_remove([sound for sound in bpy.data.sounds if sound.name not in sounds])
