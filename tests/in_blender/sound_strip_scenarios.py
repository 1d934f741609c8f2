"""Sound strips as recordings: only what is heard is animated, in sync; the rest is refused. Run by run_scenario.py.

The closed forms here were heard once in 4.3, 4.5, 5.0 and 5.2: a click at 1 s in the recording, mixed down.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

from blender_talkhead import compat
from blender_talkhead.bake.animation import AnimationSettings, bake_animation, prepare_animation
from blender_talkhead.contract.errors import BadInputError
from blender_talkhead.scene import timeline
from blender_talkhead.scene.sound_strips import audio_of_strip
from tests.in_blender.file_state import file_state
from tests.in_blender.scenarios import expect_error, make_clip, new_scene, write_tone

RATES = {24.0: 24.0, 25.0: 25.0, 29.97: 30000 / 1001}


def strips_stay_in_sync(folder: Path) -> None:
    """Moved, trimmed, cut and offset strips give the section that is heard and the frame where it begins."""
    audio = write_tone(folder / "tone.wav", 4.0)
    if not compat.has_sound():
        return
    for asked, rate in RATES.items():
        scene = new_scene(asked)
        strip = compat.sequencer_strips(scene).new_sound("line", str(audio), 2, 10)
        expect(strip, scene, audio, 0.0, None, 10)
        compat.set_strip_start(strip, 22)
        expect(strip, scene, audio, 12 / rate, None, 22)
        compat.set_strip_end(strip, 60)
        expect(strip, scene, audio, 12 / rate, 38 / rate, 22)
        move(strip, 100)
        expect(strip, scene, audio, 12 / rate, 38 / rate, 112)
        move(strip, -30)
        expect(strip, scene, audio, 12 / rate, 38 / rate, -18)
        compat.set_strip_start(strip, -50)  # drawn out to the left of the recording: silence, then the recording
        expect(strip, scene, audio, 0.0, 50 / rate, -30)
        cut_off(strip, 12)
        shown = audio_of_strip(strip, scene)
        start = compat.content_start(strip)
        assert shown.start_frame == start and math.isclose(shown.start_seconds, 12 / rate, abs_tol=1e-6), shown
        cut_off(strip, 0)
        if hasattr(strip, "sound_offset"):
            move(strip, 10)
            compat.set_strip_start(strip, 10)
            strip.sound_offset = 0.5
            first = math.ceil(10 + 0.5 * rate - 1e-3)
            shown = audio_of_strip(strip, scene)
            assert shown.start_frame == first
            assert math.isclose(shown.start_seconds, (first - 10) / rate - 0.5, abs_tol=1e-6)


def strips_that_cannot_be_used(folder: Path) -> None:
    """Muted, silent, retimed, lost, too short and other strips are refused with a remedy; nothing changes."""
    audio = write_tone(folder / "tone.wav", 2.0)
    if not compat.has_sound():
        return
    scene = new_scene(24.0)
    strips = compat.sequencer_strips(scene)
    strip = strips.new_sound("line", str(audio), 2, 10)
    refuse_while(strip, scene, lambda on: setattr(strip, "mute", on), "is muted; unmute it")
    refuse_while(strip, scene, lambda on: setattr(strip, "volume", 0.0 if on else 1.0), "volume 0")
    channel = scene.sequence_editor.channels[2]
    refuse_while(strip, scene, lambda on: setattr(channel, "mute", on), "channel of the strip")
    moved = folder / "moved.wav"
    refuse_while(strip, scene, lambda on: audio.rename(moved) if on else moved.rename(audio), "not at")
    refuse_while(strip, scene, lambda on: compat.set_strip_end(strip, 11 if on else 58), "less than 0.1 s")
    other = strips.new_effect(name="Text", type="TEXT", channel=3, frame_start=1, **effect_length(strips, 20))
    before = file_state()
    expect_error(BadInputError, "must be a sound strip, it is a text", lambda: audio_of_strip(other, scene))
    assert file_state() == before
    if compat.blender_version().startswith("5.2"):  # earlier modules crash when a script retimes
        keys = strip.retiming_keys
        keys.add(timeline_frame=20)
        keys[-1].timeline_frame = 40
        before = file_state()
        expect_error(BadInputError, "sped up or retimed", lambda: audio_of_strip(strip, scene))
        assert file_state() == before
        keys.reset()
    expect(strip, scene, audio, 0.0, None, 10)


def takes_sound_in_sync(folder: Path) -> None:
    """A take from a strip keeps it and begins with it; a section of a file gets a strip that is trimmed to it."""
    clip, audio = make_clip(folder), write_tone(folder / "tone.wav", 4.0)
    scene = new_scene(25.0)
    scene.frame_end = 500
    section = AnimationSettings(audio, audio_start_seconds=1.0, audio_duration_seconds=40 / 30, start=50)
    job = prepare_animation(section, scene, folder / "result")
    assert (job.audio_start_seconds, job.audio_duration_seconds) == (1.0, 40 / 30)
    take = bake_animation(section, clip, scene)
    if not compat.has_sound():
        assert take.strip_name is None and any("no sound strip" in warning for warning in take.warnings)
        return
    (strip,) = compat.existing_strips(scene)
    assert (compat.strip_start(strip), compat.strip_end(strip), compat.content_start(strip)) == (50, 83, 25)
    assert strip[timeline.STRIP_PROPERTY] == take.object_name and not take.warnings
    expect(strip, scene, audio, 1.0, 33 / 25, 50)
    between = AnimationSettings(audio, audio_start_seconds=1.01, start=50, target=take.object_name, vertices=600)
    bake_animation(between, clip, scene)
    (strip,) = compat.existing_strips(scene)
    assert compat.strip_start(strip) == 50
    if hasattr(strip, "sound_offset"):
        expect(strip, scene, audio, 1.01, None, 50)
    mine = compat.sequencer_strips(scene).new_sound("mine", str(audio), 7, 120)
    shown = audio_of_strip(mine, scene)
    from_strip = AnimationSettings(
        shown.audio,
        audio_start_seconds=shown.start_seconds,
        audio_duration_seconds=shown.duration_seconds,
        start=shown.start_frame,
        sound_strip=mine.name,
        target=take.object_name,
    )
    take = bake_animation(from_strip, clip, scene)
    assert [each.name for each in compat.existing_strips(scene)] == ["mine"] and take.strip_name is None
    assert timeline.STRIP_PROPERTY not in compat.existing_strips(scene)[0], "the user's strip stays the user's"


def expect(strip: Any, scene: Any, audio: Path, start: float, duration: float | None, frame: int) -> None:
    shown = audio_of_strip(strip, scene)
    assert shown.audio == audio and shown.start_frame == frame, shown
    assert math.isclose(shown.start_seconds, start, abs_tol=1e-6), (shown, start)
    if duration is None:
        assert shown.duration_seconds is None, shown
    else:
        assert shown.duration_seconds is not None and math.isclose(shown.duration_seconds, duration, abs_tol=1e-6)


def refuse_while(strip: Any, scene: Any, change: Any, words: str) -> None:
    change(True)
    before = file_state()
    expect_error(BadInputError, words, lambda: audio_of_strip(strip, scene))
    assert file_state() == before
    change(False)
    audio_of_strip(strip, scene)


def move(strip: Any, frame: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        setattr(strip, "content_start" if hasattr(strip, "content_start") else "frame_start", frame)


def cut_off(strip: Any, frames: int) -> None:
    setattr(strip, "content_trim_start" if hasattr(strip, "content_trim_start") else "animation_offset_start", frames)


def effect_length(strips: Any, frames: int) -> dict[str, int]:
    names = strips.bl_rna.functions["new_effect"].parameters.keys()
    return {"length": frames} if "length" in names else {"frame_end": 1 + frames}
