"""Each bad input gives its message with a remedy, and the file is as it was; run by run_scenario.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from blender_talkhead.bake import animation as animation_module
from blender_talkhead.bake.animation import AnimationSettings, bake_animation, cache_file_for, prepare_animation
from blender_talkhead.bake.take import Take
from blender_talkhead.contract.errors import BadInputError, OutputError, TalkHeadError, UsageError
from blender_talkhead.contract.motion_clip import MotionClip, load_motion_clip
from blender_talkhead.scene.mesh import create_mesh, read_evaluated_positions
from tests.in_blender.file_state import file_state
from tests.in_blender.scenarios import START, check_motion, expected_positions, make_clip, new_scene, write_tone
from tests.synthetic_clip import write_synthetic_clip


def targets_that_do_not_fit(folder: Path) -> None:
    """Not a mesh, gone, linked, being edited, another topology, hidden by a modifier."""
    clip, scene, audio = prepare(folder)
    face = add_face(scene, clip)
    lamp = bpy.data.objects.new("Lamp", bpy.data.lights.new("Lamp", "POINT"))
    scene.collection.objects.link(lamp)
    small = bpy.data.objects.new("Box", bpy.data.meshes.new("Box"))
    small.data.from_pydata([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)], [], [(0, 1, 2, 3)])
    scene.collection.objects.link(small)
    refuse(audio, scene, clip, "Nobody", "no object")
    refuse(audio, scene, clip, "Lamp", "must be a mesh, it is a light")
    refuse(audio, scene, clip, "Box", "4 vertices")
    other = add_face(scene, load_motion_clip(write_synthetic_clip(folder / "wide", 5, columns=25)), "Wide")
    refuse(audio, scene, clip, other.name, "another topology", before_backend=False)
    shuffled = MotionClip(**{**clip.__dict__, "template_vertices": clip.template_vertices[::-1].copy()})
    shuffled.polygon_vertices = clip.polygon_vertices[::-1].copy()
    strange = add_face(scene, shuffled, "Strange")
    refuse(audio, scene, clip, strange.name, "another topology", before_backend=False)
    bpy.context.view_layer.objects.active = face
    for mode, word in (("EDIT", "edit mode"), ("SCULPT", "sculpt mode")):
        bpy.ops.object.mode_set(mode=mode)
        refuse(audio, scene, clip, "Face", word)
        bpy.ops.object.mode_set(mode="OBJECT")
    sharing = bpy.data.objects.new("Sharing", face.data)
    scene.collection.objects.link(sharing)
    bpy.ops.object.mode_set(mode="EDIT")
    refuse(audio, scene, clip, "Sharing", "edit mode")
    bpy.ops.object.mode_set(mode="OBJECT")
    check_motion(clip, bake(audio, scene, clip, "Face"), "basis", 30.0)
    assert sharing.data.shape_keys is None, "an object that shares the mesh stays as it is"


def linked_targets(folder: Path) -> None:
    """A linked object is refused; an override of it is animated, and the motion survives saving."""
    clip, scene, audio = prepare(folder)
    collection = bpy.data.collections.new("Cast")
    scene.collection.children.link(collection)
    face = add_face(scene, clip)
    scene.collection.objects.unlink(face)
    collection.objects.link(face)
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "cast.blend"))
    scene = new_scene(30.0)
    with bpy.data.libraries.load(str(folder / "cast.blend"), link=True) as (_, wanted):
        wanted.collections = ["Cast"]
    linked = bpy.data.collections["Cast"]
    scene.collection.children.link(linked)
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "shot.blend"))
    refuse(audio, scene, clip, "Face", "linked from cast.blend")
    linked.override_hierarchy_create(scene, bpy.context.view_layer)
    local = bpy.data.objects.get(("Face", None))
    assert local is not None and local.override_library is not None
    take = bake(audio, scene, clip, "Face")
    check_motion_of(clip, local)
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "shot.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(folder / "shot.blend"))
    check_motion_of(clip, bpy.data.objects.get(("Face", None)))
    assert take.object_name == "Face"


def shape_keys_of_the_user(folder: Path) -> None:
    """Relative keys stay and add; absolute ones, and absolute bakes beside keys, are refused; a cache overrules all."""
    clip, scene, audio = prepare(folder, save=True)
    face = add_face(scene, clip)
    face.shape_key_add(name="Basis")
    smile = face.shape_key_add(name="smile")
    smile.points[0].co.x += 0.25
    smile.value = 1.0
    smile.keyframe_insert("value", frame=1)
    own_action = face.data.shape_keys.animation_data.action
    refuse(audio, scene, clip, "Face", "use the bake mode basis", bake="per-frame")
    take = bake(audio, scene, clip, "Face")
    assert any("adds to the motion" in warning for warning in take.warnings)
    assert own_action.use_fake_user and own_action.name in bpy.data.actions
    face.data.shape_keys.key_blocks["smile"].value = 0.0
    check_motion(clip, take, "basis", 30.0)
    keys = face.data.shape_keys
    keys.key_blocks["smile"].value = 1.0
    scene.frame_set(START)
    moved = read_evaluated_positions(face, bpy.context.evaluated_depsgraph_get())
    assert abs(moved[0, 0] - expected_positions(clip, 0, 30.0)[0, 0] - 0.25) < 1e-4
    take = bake(audio, scene, clip, "Face", bake="cache")
    assert any("no effect while the mesh cache plays" in warning for warning in take.warnings)
    check_motion(clip, take, "cache", 30.0)
    absolute = add_face(scene, clip, "Morph")
    for name in ("Basis", "one", "two"):
        absolute.shape_key_add(name=name)
    absolute.data.shape_keys.use_relative = False
    for mode in ("basis", "per-frame"):
        refuse(audio, scene, clip, "Morph", "absolute", bake=mode)


def modifiers_of_the_user(folder: Path) -> None:
    """Modifiers that would hide the motion are refused unless they are off; the others stay and work."""
    clip, scene, audio = prepare(folder)
    face = add_face(scene, clip)
    cache = face.modifiers.new("Old cache", "MESH_CACHE")
    cache.filepath = "//old.pc2"
    refuse(audio, scene, clip, "Face", "would hide the motion")
    cache.show_viewport = cache.show_render = False
    cloth = face.modifiers.new("Skin sliding", "CLOTH")
    cloth.show_render = False
    smooth = face.modifiers.new("Subdivision", "SUBSURF")
    smooth.show_viewport = False
    take = bake(audio, scene, clip, "Face")
    assert any("simulates the shape" in warning for warning in take.warnings)
    face.modifiers.remove(cloth)
    check_motion(clip, take, "basis", 30.0)
    assert [modifier.name for modifier in face.modifiers] == ["Old cache", "Subdivision"]


def files_that_cannot_be_used(folder: Path) -> None:
    """The recording moved since, a folder or unreadable; folder not writable, .blend unsaved, disk too small."""
    clip, scene, audio = prepare(folder)
    refuse(folder / "moved.wav", scene, clip, None, "was it moved?")
    refuse(folder, scene, clip, None, "got the folder")
    refuse(audio, scene, clip, None, "save that first", bake="cache")
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "shot.blend"))
    occupied = folder / "occupied"
    occupied.write_text("")
    refuse(audio, scene, clip, None, "bake mode basis", OutputError, bake="cache", cache_file=occupied / "a.pc2")
    usage, space = animation_module.require_possible_bake, []

    def full(*arguments: Any) -> None:
        space.append(arguments)
        raise BadInputError("needs about 9 MB, 1 MB are free; free some")

    animation_module.require_possible_bake = full
    refuse(audio, scene, clip, None, "are free", bake="cache")
    animation_module.require_possible_bake = usage
    assert len(space) == 1 + 1
    assert not list(folder.glob("*.pc2")) and not list(folder.glob("*partial*"))
    assert cache_file_for(AnimationSettings(audio, bake="cache")) == folder / "shot_TalkHead.pc2"


def settings_out_of_range(folder: Path) -> None:
    """Whatever a script asks for: usage errors, or Blender's last frame; nothing changes."""
    clip, scene, audio = prepare(folder)
    for changes, words in (
        ({"start": -100_001}, "start"),
        ({"vertices": 12}, "vertices"),
        ({"seed": -1}, "seed"),
        ({"method": "magic"}, "method"),
        ({"bake": "best"}, "bake"),
        ({"audio_start_seconds": float("nan")}, "audio_start_seconds"),
        ({"audio_duration_seconds": 0.0}, "audio_duration_seconds"),
    ):
        refuse(audio, scene, clip, None, words, UsageError, after_backend=False, **changes)
    before = file_state()
    try:
        bake_animation(AnimationSettings(audio, start=1_048_560), clip, scene)
    except BadInputError as error:
        assert "Blender's last" in str(error)
    else:
        raise AssertionError("expected a refusal of frames beyond Blender's last")
    assert file_state() == before


def unusual_times(folder: Path) -> None:
    """29.97 frames per second and a negative start frame: in sync, the latter with a warning."""
    clip, scene, audio = prepare(folder)
    scene.render.fps, scene.render.fps_base = 30, 1.001
    rate = scene.render.fps / scene.render.fps_base
    take = bake(audio, scene, clip, None, start=-7)
    assert any("begins at frame -7, before the scene's first frame" in warning for warning in take.warnings)
    head = bpy.data.objects[take.object_name]
    for index in (0, 1, 12, take.num_scene_frames - 1):
        scene.frame_set(-7 + index)
        positions = read_evaluated_positions(head, bpy.context.evaluated_depsgraph_get())
        expected = expected_positions(clip, index, rate)
        assert np.linalg.norm(positions - expected, axis=1).max() <= 0.0201e-3
    assert (scene.render.fps, round(scene.render.fps_base, 4)) == (30, 1.001)


# What the scenarios share


def prepare(folder: Path, save: bool = False) -> tuple[MotionClip, Any, Path]:
    clip, audio = make_clip(folder), write_tone(folder / "tone.wav", 40 / 30)
    scene = new_scene(30.0)
    scene.frame_end = 400
    if save:
        bpy.ops.wm.save_as_mainfile(filepath=str(folder / "shot.blend"))
    return clip, scene, audio


def add_face(scene: Any, clip: MotionClip, name: str = "Face") -> Any:
    """An object of the user's with a clip's topology: no take, no groups, its own materials."""
    face = bpy.data.objects.new(name, create_mesh(clip, []))
    face.data.name = name
    scene.collection.objects.link(face)
    bpy.context.view_layer.update()
    return face


def bake(audio: Path, scene: Any, clip: MotionClip, target: str | None, **changes: Any) -> Take:
    """The whole path without the backend."""
    settings = AnimationSettings(audio, **{"target": target, "start": START, "vertices": 600, **changes})
    prepare_animation(settings, scene, audio.parent / "result")
    return bake_animation(settings, clip, scene)


def refuse(
    audio: Path,
    scene: Any,
    clip: MotionClip,
    target: str | None,
    words: str,
    kind: type[TalkHeadError] = BadInputError,
    before_backend: bool = True,
    after_backend: bool = True,
    **changes: Any,
) -> None:
    """The message comes before the backend runs, and after it should things have changed; the file stays as it was."""
    settings = AnimationSettings(audio, **{"target": target, "start": START, "vertices": 600, **changes})
    calls: list[Callable[[], Any]] = []
    if before_backend:
        calls.append(lambda: prepare_animation(settings, scene, audio.parent / "result"))
    elif after_backend:
        prepare_animation(settings, scene, audio.parent / "result")
    is_of_file = words in {"was it moved?", "got the folder", "bake mode basis"}
    if after_backend and not is_of_file:
        calls.append(lambda: bake_animation(settings, clip, scene))
    for call in calls:
        before = file_state()
        try:
            call()
        except kind as error:
            assert words in str(error), str(error)
        else:
            raise AssertionError(f"expected {kind.__name__} with {words!r}")
        after = file_state()
        assert after == before, {
            name: (before.get(name), after[name]) for name in after if after[name] != before.get(name)
        }


def check_motion_of(clip: MotionClip, head: Any) -> None:
    for index in (0, 7, 20):
        bpy.context.scene.frame_set(START + index)
        positions = read_evaluated_positions(head, bpy.context.evaluated_depsgraph_get())
        assert np.linalg.norm(positions - expected_positions(clip, index, 30.0), axis=1).max() <= 0.0201e-3
