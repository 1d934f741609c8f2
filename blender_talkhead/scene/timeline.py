"""The scene's frame rate and range, and the sound strip in sync with a take."""

from __future__ import annotations

import contextlib
import logging
import math
import wave
from pathlib import Path
from typing import Any

from .. import compat
from ..facial.timing import Seconds, frame_rate_of, split_frame_rate

logger = logging.getLogger(__name__)

MAX_SCENE_FRAME = 1_048_574
"""Blender's last frame."""
_FRAME_TOLERANCE = 1e-4
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


def add_sound_strip(
    scene: Any,
    audio: Path,
    start: int,
    head_name: str,
    section: tuple[Seconds, Seconds | None] = (0.0, None),
) -> Any | None:
    """Put a recording into the sequencer, so that a section of it starts at a scene frame.

    Args:
        scene: the scene, with its final frame rate.
        audio: the recording.
        start: scene frame at which the section is heard first.
        head_name: the head that speaks it.
        section: begin and duration; None is all that follows.

    Returns:
        The strip, or None where this Blender cannot load the recording (one is built without sound).
    """
    strips = compat.sequencer_strips(scene)
    channel = 1 + max((strip.channel for strip in strips), default=0)
    lead = section[0] * scene_rate(scene)
    content_start = start - math.floor(lead + _FRAME_TOLERANCE)
    try:
        strip = strips.new_sound(audio.stem, str(audio), channel, content_start)
    except RuntimeError as error:
        logger.debug("cannot load %s: %s", audio, error)
        return None
    if lead > _FRAME_TOLERANCE:
        compat.set_strip_start(strip, start)
        compat.set_sound_offset(strip, -(lead - (start - content_start)) / scene_rate(scene))
    if section[1] is not None:
        compat.set_strip_end(strip, min(compat.strip_end(strip), start + round(section[1] * scene_rate(scene))))
    strip[STRIP_PROPERTY] = head_name
    if scene.sync_mode == "NONE":
        scene.sync_mode = "AUDIO_SYNC"
    return strip


def strips_of_head(scene: Any, head_name: str) -> list[Any]:
    """Return the sound strips of a head."""
    return [strip for strip in compat.existing_strips(scene) if strip.get(STRIP_PROPERTY) == head_name]


def remove_strips(scene: Any, strips: list[Any]) -> None:
    """Remove strips from a scene's sequencer."""
    for strip in strips:
        compat.sequencer_strips(scene).remove(strip)


def measure_duration(audio: Path) -> Seconds | None:
    """Return about how many seconds a recording lasts; None where neither its header nor this Blender can tell."""
    with contextlib.suppress(OSError, EOFError, wave.Error), wave.open(str(audio), "rb") as file:
        return file.getnframes() / file.getframerate()
    return compat.sound_duration(audio)
