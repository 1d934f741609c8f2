"""Animate from Audio inside Blender, from settings and a backend's result to a take; run by run_scenario.py."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np

from blender_talkhead import compat
from blender_talkhead.bake.animation import AnimationSettings, bake_animation, bake_animation_steps, prepare_animation
from blender_talkhead.bake.diagnosis import diagnose_take
from blender_talkhead.bake.inventory import list_heads, remove_head
from blender_talkhead.bake.mesh_cache import MODIFIER_NAME
from blender_talkhead.bake.provenance import is_own_object, take_action
from blender_talkhead.contract.errors import BadInputError
from blender_talkhead.contract.motion_clip import MotionClip, load_motion_clip
from blender_talkhead.scene.mesh import create_mesh
from tests.in_blender.file_state import file_state
from tests.in_blender.scenarios import (
    START,
    check_motion,
    expect_error,
    make_clip,
    new_scene,
    snapshot,
    write_tone,
)
from tests.synthetic_clip import write_synthetic_clip


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


def diagnosis(folder: Path) -> None:
    """Each setting that stops a take is told with its remedy, and nothing else is; reading changes nothing."""
    clip, audio = make_clip(folder), write_tone(folder / "tone.wav", 40 / 30)
    scene = new_scene(30.0)
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "shot.blend"))
    take = bake_animation(AnimationSettings(audio, start=START), clip, scene)
    head, keys = bpy.data.objects[take.object_name], bpy.data.objects[take.object_name].data.shape_keys
    assert diagnose_take(head, scene) == []
    speech, other = keys.animation_data.action, bpy.data.actions.new("walk")
    aside = bpy.data.collections.new("Aside")
    scene.collection.children.link(aside)
    entry = bpy.context.view_layer.layer_collection.children["Aside"]

    def put_aside(on: bool) -> None:
        (scene.collection if not on else aside).objects.link(head)
        (aside if not on else scene.collection).objects.unlink(head)
        entry.exclude = on

    def solo(on: bool) -> None:
        if on:
            keys.animation_data.nla_tracks.new().is_solo = True
        else:
            keys.animation_data.nla_tracks.remove(keys.animation_data.nla_tracks[0])

    def change_range(on: bool) -> None:
        scene.frame_start, scene.frame_end = (START + 1, START + 20) if on else (1, 250)

    def set_preview(on: bool) -> None:
        scene.use_preview_range, scene.frame_preview_start, scene.frame_preview_end = on, 10, 20

    changes = {
        "hidden in the viewport": lambda on: setattr(head, "hide_viewport", on),
        "(eye and monitor)": lambda on: head.hide_set(on),
        "hidden in renders": lambda on: setattr(head, "hide_render", on),
        "excluded from the view layer": put_aside,
        "1 of 10 shape keys": lambda on: setattr(keys.key_blocks[1], "mute", on),
        "only its active shape key": lambda on: setattr(head, "show_only_shape_key", on),
        'play the action "walk"': lambda on: setattr(keys.animation_data, "action", other if on else speech),
        "play no action": lambda on: setattr(keys.animation_data, "action", None if on else speech),
        "plays solo": solo,
        "before the scene's first frame 6": change_range,
        "after the scene's last frame 25": change_range,
        "preview range": set_preview,
    }
    if hasattr(keys.animation_data, "action_slot"):
        slot = keys.animation_data.action_slot
        changes["no slot"] = lambda on: setattr(keys.animation_data, "action_slot", None if on else slot)
    for words, change in changes.items():
        change(True)
        before = file_state()
        told = diagnose_take(head, scene)
        assert file_state() == before
        assert any(words in text for text in told), (words, told)
        assert len(told) == (2 if "frame" in words else 1), told
        change(False)
        assert diagnose_take(head, scene) == [], (words, diagnose_take(head, scene))
    elsewhere = bpy.data.scenes.new("Elsewhere")
    assert "is not in the scene" in diagnose_take(head, elsewhere)[0]
    bpy.data.scenes.remove(elsewhere)
    take = bake_animation(AnimationSettings(audio, start=START, bake="cache", target=head.name), clip, scene)
    assert diagnose_take(head, scene) == [] and take.cache_file is not None
    head.modifiers[MODIFIER_NAME].show_viewport = False
    assert "switched off in viewport" in diagnose_take(head, scene)[0]
    head.modifiers[MODIFIER_NAME].show_viewport = True
    take.cache_file.rename(folder / "moved.pc2")
    assert "is missing" in diagnose_take(head, scene)[0]
    still = MotionClip(**{**clip.__dict__, "vertex_offsets": np.zeros_like(clip.vertex_offsets)})
    for mode in ("basis", "per-frame", "cache"):
        take = bake_animation(AnimationSettings(audio, start=START, bake=mode), still, scene)
        assert any("no vertex moves" in text for text in take.warnings), (mode, take.warnings)


def another_resolution(folder: Path) -> None:
    """A head of ours takes a motion of another resolution; material and place stay, the old mesh and take are kept."""
    clip, audio = make_clip(folder), write_tone(folder / "tone.wav", 40 / 30)
    fine = load_motion_clip(write_synthetic_clip(folder / "fine", 20, columns=31))
    scene = new_scene(30.0)
    first = bake_animation(AnimationSettings(audio, start=START), clip, scene)
    head = bpy.data.objects[first.object_name]
    head.location.x, head.data.materials[0] = 2.0, bpy.data.materials.new("my paint")
    old_mesh, old_action = head.data, take_action(head)
    second = bake_animation(AnimationSettings(audio, start=START, target=head.name), fine, scene)
    assert any("new mesh of 667 vertices" in text for text in second.warnings), second.warnings
    check_motion(fine, second, "basis", 30.0)
    assert head.location.x == 2.0 and head.data.materials[0].name == "my paint"
    assert old_mesh.use_fake_user and old_action.use_fake_user
    third = bake_animation(AnimationSettings(audio, start=START, target=head.name), clip, scene)
    check_motion(clip, third, "basis", 30.0)
    head.shape_key_add(name="my smile", from_mix=False)
    before = file_state()
    expect_error(
        BadInputError,
        "repeat the resolution",
        lambda: bake_animation(AnimationSettings(audio, start=START, target=head.name), fine, scene),
    )
    assert file_state() == before


def removing(folder: Path) -> None:
    """Removing a head of ours leaves nothing of it; an object of the user's loses its take only."""
    clip, audio = make_clip(folder), write_tone(folder / "tone.wav", 40 / 30)
    scene = new_scene(30.0)
    face = bpy.data.objects.new("Face", create_mesh(clip, []))
    face.data.name = "Face"
    scene.collection.objects.link(face)
    face.shape_key_add(name="Basis", from_mix=False)
    face.shape_key_add(name="my smile", from_mix=False)
    for modes in (("basis",), ("basis", "basis"), ("cache",), ("basis", "cache")):
        for mode in modes:
            settings = AnimationSettings(audio, bake=mode, target="Face", cache_file=folder / f"{mode}.pc2")
            take = bake_animation(settings, clip, scene)
        assert not is_own_object(face) and [entry["object"] for entry in list_heads()] == ["Face"]
        check_object = bpy.data.objects["Face"]
        remove_head(check_object)
        assert list_heads() == [] and [key.name for key in face.data.shape_keys.key_blocks] == ["Basis", "my smile"]
        assert not bpy.data.actions and not compat.existing_strips(scene) and not face.modifiers
        assert [mesh for mesh in bpy.data.meshes if mesh.users] == [face.data]
    for mode in ("basis", "cache", "per-frame"):
        settings = AnimationSettings(audio, bake=mode, cache_file=folder / "own.pc2")
        take = bake_animation(settings, clip, scene)
        take = bake_animation(AnimationSettings(audio, target=take.object_name), clip, scene)
        remove_head(bpy.data.objects[take.object_name])
        assert [item.name for item in bpy.data.objects] == ["Face"] and not bpy.data.actions
        assert not compat.existing_strips(scene)
        assert [mesh for mesh in bpy.data.meshes if mesh.users] == [face.data]


def repeated_bakes(folder: Path) -> None:
    """Bakes and removals, over and over: nothing piles up, neither data-blocks nor memory."""
    clip, audio = make_clip(folder, num_frames=120), write_tone(folder / "tone.wav", 4.0)
    scene = new_scene(30.0)
    face = bpy.data.objects.new("Face", create_mesh(clip, []))
    scene.collection.objects.link(face)
    memory = []
    for _ in range(20):
        for target in (None, "Face"):
            for mode in ("basis", "per-frame", "cache"):
                settings = AnimationSettings(audio, bake=mode, target=target, cache_file=folder / "a.pc2")
                take = bake_animation(settings, clip, scene)
                remove_head(bpy.data.objects[take.object_name])
        memory.append(resident_bytes())
    assert [item.name for item in bpy.data.objects] == ["Face"] and not bpy.data.actions
    assert len(bpy.data.meshes) <= 2 and not bpy.data.sounds, [mesh.name for mesh in bpy.data.meshes]
    assert len(bpy.data.materials) == 0 and not bpy.data.shape_keys
    if memory[-1]:
        assert memory[-1] < 1.05 * memory[4], memory


def animation_of_the_object(folder: Path) -> None:
    """An object's own movement plays on under a take of any mode; it is no part of the take."""
    clip, audio = make_clip(folder), write_tone(folder / "tone.wav", 40 / 30)
    scene = new_scene(30.0)
    face = bpy.data.objects.new("Face", create_mesh(clip, []))
    scene.collection.objects.link(face)
    for frame in (1, 40):
        face.location.x = frame
        face.keyframe_insert("location", frame=frame)
    walk = face.animation_data.action
    for mode in ("basis", "cache", "per-frame", "cache", "basis"):
        settings = AnimationSettings(audio, bake=mode, start=START, target="Face", cache_file=folder / "a.pc2")
        take = bake_animation(settings, clip, scene)
        assert face.animation_data.action == walk and take_action(face) not in (None, walk)
        check_motion(clip, take, mode, 30.0)
        scene.frame_set(40)
        assert abs(face.matrix_world.translation.x - 40) < 1e-5


def resident_bytes() -> int:
    """Memory of this process; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0
