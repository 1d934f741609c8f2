"""Animate from Audio inside Blender, from settings and a backend's result to a take; run by run_scenario.py."""

from __future__ import annotations

from pathlib import Path

import bpy

from blender_talkhead import compat
from blender_talkhead.bake.animation import AnimationSettings, bake_animation, bake_animation_steps, prepare_animation
from tests.in_blender.scenarios import (
    START,
    check_motion,
    expect_error,
    make_clip,
    new_scene,
    snapshot,
    write_tone,
)


def one_animation(folder: Path, mode: str) -> None:
    """From settings to a take in sync; the job for the backend says what was asked for; nothing else changes."""
    clip, audio = make_clip(folder), write_tone(folder / "tone.wav", 40 / 30)
    scene = new_scene(24.0)
    scene.frame_start, scene.frame_end = 3, 20
    cube = bpy.data.objects.new("bystander", None)
    scene.collection.objects.link(cube)
    cube.select_set(True)
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "shot.blend"))
    settings = AnimationSettings(audio, bake=mode, start=START, vertices=1500, identity="7", seed=4)
    before = snapshot()
    job = prepare_animation(settings, scene, folder / "clip")
    assert snapshot() == before
    assert (job.audio, job.vertices, job.identity, job.seed) == (audio, 1500, "7", 4)
    assert job.scene_frame_rate == 24.0 and job.basis_error_limit_mm == (0.02 if mode == "basis" else None)
    steps = bake_animation_steps(settings, clip, scene)
    for _ in range(3):
        next(steps)
    steps.close()
    assert snapshot() == before, "a bake that is closed half way leaves nothing"
    fractions: list[float] = []
    take = bake_animation(settings, clip, scene, fractions.append)
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    check_motion(clip, take, mode, 24.0)
    assert (scene.frame_start, scene.frame_end) == (3, 20) and cube.select_get()
    assert any("after the scene's last frame 20" in warning for warning in take.warnings), take.warnings
    assert len(take.warnings) == 1 + (not compat.has_sound()), take.warnings
    if compat.has_sound():
        (strip,) = compat.existing_strips(scene)
        assert compat.strip_start(strip) == START and strip.name == take.strip_name
    files = ["shot.blend", "shot_TalkHead.pc2"] if mode == "cache" else ["shot.blend"]
    assert sorted(path.name for path in folder.iterdir() if path.suffix in {".blend", ".pc2"}) == files
    wider = AnimationSettings(audio, bake=mode, start=2, target=take.object_name, extend_range=True)
    again = bake_animation(wider, clip, scene)
    assert (scene.frame_start, scene.frame_end) == (2, 2 + again.num_scene_frames - 1) and len(again.warnings) <= (
        mode != "basis"
    ) + 1, again.warnings
    assert len(compat.existing_strips(scene)) == compat.has_sound()
    assert not list(folder.glob("*.partial*"))
    if mode == "cache":
        assert again.cache_file == folder / "shot_TalkHead_001.pc2", "the earlier take's cache stays"
        bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
        expect_error(Exception, "save that first", lambda: prepare_animation(settings, bpy.context.scene, folder / "c"))
