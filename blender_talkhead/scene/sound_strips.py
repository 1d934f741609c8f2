"""What of a recording a sound strip of the sequencer plays, and when."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import bpy

from .. import compat
from ..contract.errors import BadInputError
from ..facial.timing import Seconds
from .timeline import measure_duration, scene_rate

_MIN_SECONDS = 0.1
_FRAME_TOLERANCE = 1e-3


class StripSound(NamedTuple):
    """The audible section of a strip."""

    audio: Path
    start_seconds: Seconds
    """Where the section begins in the recording."""
    duration_seconds: Seconds | None
    """Its length; None: to the recording's end."""
    start_frame: int
    """Scene frame at which the section is heard first."""


def audio_of_strip(strip: Any, scene: Any) -> StripSound:
    """Return what a sound strip plays. Trimmed and moved strips give the part that is heard, in sync.

    Args:
        strip: a strip of the scene's sequencer.
        scene: the scene whose sequencer holds it.

    Raises:
        BadInputError: no sound strip, muted, sped up, silent, shorter than 0.1 s, or its file is missing.
    """
    name = strip.name
    if strip.type != "SOUND":
        raise BadInputError(f'the strip "{name}" must be a sound strip, it is a {strip.type.lower()} strip')
    _require_audible(strip, scene)
    audio = _audio_file(strip)
    if _is_retimed(strip, audio, scene):
        raise BadInputError(
            f'the strip "{name}" is sped up or retimed, so the lips would not follow it; reset it '
            "(Strip > Retiming > Reset Retiming), or render it to a sound file and use that"
        )
    rate = scene_rate(scene)
    trim_start, trim_end = compat.content_trim(strip)
    content_start = compat.content_start(strip)
    zero_frame = content_start - trim_start + compat.sound_offset(strip) * rate  # where second 0 would be heard
    first = max(compat.strip_start(strip), math.ceil(max(content_start, zero_frame) - _FRAME_TOLERANCE))
    content_end = content_start + compat.content_duration(strip)
    last = min(compat.strip_end(strip), content_end)
    if (last - first) / rate < _MIN_SECONDS:
        raise BadInputError(
            f'the strip "{name}" is heard for less than {_MIN_SECONDS} s; drag its ends apart, or choose another'
        )
    is_whole = last >= content_end - _FRAME_TOLERANCE and trim_end == 0
    seconds = max(0.0, (first - zero_frame) / rate)
    return StripSound(audio, seconds, None if is_whole else (last - first) / rate, first)


def _require_audible(strip: Any, scene: Any) -> None:
    owners = [strip, *compat.meta_strips_around(strip)]
    for each in owners:
        if each.mute:
            raise BadInputError(f'the strip "{each.name}" is muted; unmute it (H in the sequencer), or choose another')
    if strip.volume == 0:
        raise BadInputError(f'the strip "{strip.name}" has volume 0; turn it up, or choose another')
    if len(owners) == 1 and compat.is_channel_muted(scene, strip.channel):
        raise BadInputError(f'the channel of the strip "{strip.name}" is muted; unmute it, or choose another strip')


def _audio_file(strip: Any) -> Path:
    sound = strip.sound
    if sound is None:
        raise BadInputError(f'the strip "{strip.name}" has lost its sound; choose another, or add it again')
    audio = Path(bpy.path.abspath(sound.filepath, library=sound.library))
    if audio.is_file():
        return audio
    if sound.packed_file is not None:
        raise BadInputError(
            f'the sound of the strip "{strip.name}" is packed into the .blend file, where the backend cannot read it; '
            "unpack it (File > External Data > Unpack Resources)"
        )
    raise BadInputError(
        f'the sound of the strip "{strip.name}" is not at {audio} any more; find it '
        "(File > External Data > Find Missing Files), or choose another strip"
    )


def _is_retimed(strip: Any, audio: Path, scene: Any) -> bool:
    keys = compat.retiming_keys(strip)
    if keys is not None:
        return len(keys) > 0
    seconds = measure_duration(audio)
    if seconds is None:
        return False
    natural = seconds * scene_rate(scene) - sum(compat.content_trim(strip))
    return abs(compat.content_duration(strip) - natural) > 1.5
