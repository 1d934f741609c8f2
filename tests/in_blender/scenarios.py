"""What is checked inside Blender; each function is one scenario, run by run_scenario.py in a process of its own.

Expected positions come from the clip's arrays and numpy's own interpolation, never from the code under test.
"""

from __future__ import annotations

import json
import math
import wave
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from blender_talkhead import compat
from blender_talkhead.bake import take as take_module
from blender_talkhead.bake.inventory import list_heads, remove_head
from blender_talkhead.bake.provenance import read_provenance, take_action
from blender_talkhead.bake.take import BakeSettings, Take, bake_take
from blender_talkhead.contract.errors import BadInputError, OutputError
from blender_talkhead.contract.motion_clip import MotionClip, load_motion_clip
from blender_talkhead.headless.files import open_scene_file, render, save_copy
from blender_talkhead.scene import preview, stage, timeline
from blender_talkhead.scene.mesh import read_evaluated_positions, read_rest_positions
from blender_talkhead.scene.restore import unchanged_on_error
from tests.synthetic_clip import REGIONS, write_synthetic_clip

BASIS_TOLERANCE_M = 0.02e-3
EXACT_TOLERANCE_M = 1e-6
START = 5


def bakes_survive_saving(folder: Path, mode: str) -> None:
    """The evaluated mesh equals the clip at every frame, before and after save and reopen, as does the rest."""
    clip = make_clip(folder)
    scene = new_scene(24.0)
    take = bake_take(clip, settings(mode, folder), scene)
    check_motion(clip, take, mode, 24.0)
    if mode == "cache":
        bpy.data.objects[take.object_name].modifiers["TalkHead cache"].filepath = "//take.pc2"
    save_copy(folder / "take.blend")
    moved = folder / "moved"
    moved.mkdir()
    for file in ("take.blend", "take.pc2"):
        if (folder / file).exists():
            (folder / file).rename(moved / file)
    assert not open_scene_file(moved / "take.blend")
    check_motion(clip, take, mode, 24.0)
    check_object(clip, bpy.data.objects[take.object_name], mode)


def frame_rates_stay_in_sync(folder: Path) -> None:
    """At every usual rate the scene frame at time t shows the clip at time t, and the sound starts with it."""
    clip = make_clip(folder, num_frames=50)
    audio = write_tone(folder / "tone.wav", 50 / 30)
    for rate in (23.976, 24.0, 25.0, 29.97, 30.0, 60.0):
        scene = new_scene(rate)
        exact = {23.976: 24000 / 1001, 29.97: 30000 / 1001}.get(rate, rate)
        assert math.isclose(scene.render.fps / scene.render.fps_base, exact, rel_tol=1e-6)
        take = bake_take(clip, settings("per-frame", folder), scene)
        assert take.num_scene_frames == math.ceil(49 / 30 * exact - 1e-6) + 1
        check_motion(clip, take, "per-frame", exact)
        timeline.set_frame_range(scene, START, take.num_scene_frames, is_new=True)
        assert (scene.frame_start, scene.frame_end) == (START, START + take.num_scene_frames - 1)
        if not compat.has_sound():
            assert timeline.add_sound_strip(scene, audio, START, take.object_name) is None
            continue
        strip = timeline.add_sound_strip(scene, audio, START, take.object_name)
        assert strip.frame_start == START
        assert abs(strip.frame_duration - 50 / 30 * exact) <= 1
        assert timeline.strips_of_head(scene, take.object_name) == [strip]


def new_take_on_a_target(folder: Path) -> None:
    """A second take replaces the first on the same object; the first and the user's own work stay in the file."""
    first, second = make_clip(folder), make_clip(folder, seed=3)
    scene = new_scene(30.0)
    scene.cursor.location = (1.0, 2.0, 3.0)
    take = bake_take(first, settings("basis", folder), scene)
    head = bpy.data.objects[take.object_name]
    assert tuple(head.location) == (1.0, 2.0, 3.0)
    scene.cursor.location = (0.0, 0.0, 0.0)
    own_material = bpy.data.materials.new("my paint")
    head.data.materials[0] = own_material
    own_key = head.shape_key_add(name="my smile", from_mix=False)
    own_key.data[0].co.x += 0.5
    own_key.value = 0.0
    old_action, old_mesh = take_action(head).name, head.data.name
    again = bake_take(second, settings("basis", folder), scene, head)
    assert again.object_name == take.object_name and again.action_name != old_action
    assert [item.name for item in bpy.data.objects] == [head.name]
    assert bpy.data.actions[old_action].use_fake_user and bpy.data.meshes[old_mesh].use_fake_user
    assert head.data.materials[0] == own_material
    names = [key.name for key in head.data.shape_keys.key_blocks]
    assert names[:2] == ["Basis", "my smile"] and len(names) == 2 + again.num_shape_keys
    check_motion(second, again, "basis", 30.0)
    head.data = bpy.data.meshes[old_mesh]
    check_motion(first, take, "basis", 30.0)
    for mode in ("cache", "basis", "per-frame", "cache", "per-frame"):
        if mode == "per-frame":
            head.shape_key_remove(head.data.shape_keys.key_blocks["my smile"]) if has_key(head, "my smile") else None
        later = bake_take(second, settings(mode, folder), scene, head)
        check_motion(second, later, mode, 30.0)
        assert (head.modifiers.get("TalkHead cache") is not None) == (mode == "cache")
    remove_head(head)
    save_copy(folder / "removed.blend")
    open_scene_file(folder / "removed.blend")
    assert not bpy.data.actions and not bpy.data.meshes and not bpy.data.objects


def wrong_targets_are_refused(folder: Path) -> None:
    """A target that does not fit is bad input, and everything stays as it was."""
    clip = make_clip(folder)
    other = load_motion_clip(write_synthetic_clip(folder / "other", 10, columns=15))
    scene = new_scene(30.0)
    take = bake_take(clip, settings("basis", folder), scene)
    head = bpy.data.objects[take.object_name]
    light = bpy.data.objects.new("lamp", bpy.data.lights.new("lamp", "POINT"))
    head.shape_key_add(name="my smile", from_mix=False)
    polygons = MotionClip(
        **{
            **clip.__dict__,
            "polygon_vertices": clip.polygon_vertices[::-1].copy(),
            "template_vertices": clip.template_vertices[::-1].copy(),
        }
    )
    before = snapshot()
    for motion, target, mode, words in (
        (other, head, "basis", "vertices"),
        (polygons, head, "basis", "another topology"),
        (clip, light, "basis", "must be a mesh"),
        (clip, head, "per-frame", "absolute keys"),
    ):
        expect_error(BadInputError, words, lambda m=motion, t=target, b=mode: guarded(m, b, scene, t, folder))
        assert snapshot() == before
    expect_error(
        BadInputError,
        "Blender's last",
        lambda: guarded(clip, "basis", scene, None, folder, start=timeline.MAX_SCENE_FRAME - 3),
    )
    assert snapshot() == before
    check_motion(clip, take, "basis", 30.0)


def failures_leave_the_scene(folder: Path) -> None:
    """Whatever fails, wherever: data-blocks, strips, rate, range and the target's take are as before."""
    clip, audio = make_clip(folder), write_tone(folder / "tone.wav", 1.0)
    scene = new_scene(25.0)
    scene.frame_start, scene.frame_end = 3, 77
    take = bake_take(clip, settings("cache", folder), scene)
    head = bpy.data.objects[take.object_name]
    timeline.add_sound_strip(scene, audio, START, head.name)
    before = snapshot()

    def fail_late(target: Any, mode: str) -> None:
        with unchanged_on_error(scene, target):
            timeline.set_scene_rate(scene, 60.0)
            made = bake_take(clip, settings(mode, folder, name="new.pc2"), scene, target)
            timeline.remove_strips(scene, timeline.strips_of_head(scene, made.object_name))
            timeline.add_sound_strip(scene, audio, 40, made.object_name)
            timeline.set_frame_range(scene, 40, 100, is_new=True)
            baked = bpy.data.objects[made.object_name]
            collection, world = stage.build_stage(baked, read_rest_positions(baked.data)), stage.create_world()
            preview.create_preview_scene(scene, baked, collection, world)
            raise OutputError("disk full")

    for target in (None, head):
        for mode in ("basis", "per-frame", "cache"):
            expect_error(OutputError, "disk full", lambda t=target, m=mode: fail_late(t, m))
            assert snapshot() == before, (mode, target, snapshot(), before)
            check_motion(clip, take, "cache", 25.0)
    take_module.point_cache_steps = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt())
    expect_error(KeyboardInterrupt, "", lambda: guarded(clip, "cache", scene, head, folder))
    assert snapshot() == before


def unwritable_cache(folder: Path) -> None:
    """A cache that cannot be written is an output error and leaves no file."""
    clip = make_clip(folder)
    missing = folder / "missing" / "take.pc2"
    expect_error(
        OutputError,
        "cannot write",
        lambda: bake_take(clip, BakeSettings("cache", 1, cache_file=missing), new_scene(30)),
    )
    if Path("/dev/full").exists():
        (folder / "full.pc2").symlink_to("/dev/full")
        full = BakeSettings("cache", 1, cache_file=folder / "full.pc2")
        expect_error(OutputError, "No space left", lambda: bake_take(clip, full, new_scene(30)))
        assert not (folder / "full.pc2").is_symlink()


def previews_show_the_take(folder: Path) -> None:
    """A picture and a film with the mouth moving; a film has as many frames as the take."""
    preview.STILL_SIZE_PX = preview.FILM_SIZE_PX = 48
    preview._STILL_SAMPLES = preview._FILM_SAMPLES = 1
    clip, audio = make_clip(folder, num_frames=12), write_tone(folder / "tone.wav", 0.4)
    scene = new_scene(30.0)
    take = bake_take(clip, settings("basis", folder), scene)
    timeline.set_frame_range(scene, START, take.num_scene_frames, is_new=True)
    head = bpy.data.objects[take.object_name]
    collection, world = stage.build_stage(head, read_rest_positions(head.data)), stage.create_world()
    screen = preview.create_preview_scene(scene, head, collection, world)
    offsets = np.asarray(clip.vertex_offsets)
    gaps = offsets[:, clip.regions["lips_inner_upper"], 1].mean(1) - offsets[
        :, clip.regions["lips_inner_lower"], 1
    ].mean(1)
    chosen = preview.choose_still_frame(clip, 30.0, START)
    distances = np.abs(gaps - 0.75 * gaps.max())
    assert distances[chosen - START] <= distances.min() + 1e-6
    widest, closed = START + int(gaps.argmax()), START + int(gaps.argmin())
    pictures = []
    for frame in (widest, closed):
        picture = folder / f"{frame:06d}.png"
        preview.set_still(screen, scene, frame, picture)
        render(screen, picture)
        pictures.append(picture)
    wide, narrow = (read_pixels(picture) for picture in pictures)
    assert wide.shape == (48, 48, 4) and wide.std() > 0.02
    assert np.abs(wide - narrow).max() > 0.05
    film = folder / "film.mp4"
    made = preview.create_film_scene(screen, pictures * 6, audio, film)
    render(made, film, animation=True)
    movie = bpy.data.movieclips.load(str(film))
    assert tuple(movie.size) == (48, 48) and movie.frame_duration == 12
    assert abs(movie.fps - 30.0) < 0.01
    assert (b"mp4a" in film.read_bytes()) == compat.has_sound()
    preview.remove_preview_scene(made)
    preview.remove_preview_scene(screen)
    stage.remove_stage(collection, world)
    assert [item.name for item in bpy.data.objects] == [head.name] and len(bpy.data.scenes) == 1
    assert not bpy.data.lights and not bpy.data.cameras and not bpy.data.sounds


def textures_are_packed(folder: Path) -> None:
    """The skin's texture lives inside the .blend file and colours the skin; other parts use the vertex colours."""
    image = bpy.data.images.new("source", 4, 4)
    image.filepath_raw = str(folder / "source.png")
    image.file_format = "PNG"
    image.save()
    png = (folder / "source.png").read_bytes()
    clip = load_motion_clip(write_synthetic_clip(folder / "clip", 5, texture=png))
    take = bake_take(clip, settings("basis", folder), new_scene(30.0))
    save_copy(folder / "take.blend")
    for path in (folder / "clip").iterdir():
        path.unlink()
    open_scene_file(folder / "take.blend")
    materials = bpy.data.objects[take.object_name].data.materials
    sources = [link.from_node for link in materials[0].node_tree.links if link.to_socket.name == "Base Color"]
    assert sources[0].type == "TEX_IMAGE" and sources[0].image.packed_file.size == len(png)
    assert tuple(sources[0].image.size) == (4, 4) and sources[0].image.has_data
    sources = [link.from_node for link in materials[1].node_tree.links if link.to_socket.name == "Base Color"]
    assert sources[0].type == "VERTEX_COLOR" and sources[0].layer_name == "Color"


# What the scenarios share


def make_clip(folder: Path, num_frames: int = 40, seed: int = 0) -> MotionClip:
    return load_motion_clip(write_synthetic_clip(folder / f"clip{seed}", num_frames, seed=seed))


def new_scene(frame_rate: float) -> Any:
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    scene = bpy.context.scene
    timeline.set_scene_rate(scene, frame_rate)
    return scene


def settings(mode: str, folder: Path, start: int = START, name: str = "take.pc2") -> BakeSettings:
    return BakeSettings(mode, start, cache_file=folder / name if mode == "cache" else None)


def guarded(clip: MotionClip, mode: str, scene: Any, target: Any, folder: Path, start: int = START) -> None:
    with unchanged_on_error(scene, target):
        bake_take(clip, settings(mode, folder, start, "other.pc2"), scene, target)


def expected_positions(clip: MotionClip, frame_index: int, scene_rate: float) -> np.ndarray:
    """(V, 3) Blender positions that scene frame START + frame_index must show."""
    position = min(frame_index * clip.info.frame_rate / scene_rate, clip.num_frames - 1)
    low = math.floor(position + 1e-7)
    high = min(low + 1, clip.num_frames - 1)
    offsets = np.asarray(clip.vertex_offsets, np.float64)
    blended = offsets[low] + (position - low) * (offsets[high] - offsets[low])
    x, y, z = (clip.template_vertices + blended).T
    return np.stack([x, -z, y], axis=1)


def check_motion(clip: MotionClip, take: Take, mode: str, scene_rate: float) -> None:
    """Every scene frame shows the clip; before and after the take the first and the last frame stay."""
    scene, head = bpy.context.scene, bpy.data.objects[take.object_name]
    tolerance = BASIS_TOLERANCE_M * 1.001 if mode == "basis" else EXACT_TOLERANCE_M
    last = take.num_scene_frames - 1
    for shown, index in [(i, i) for i in range(last + 1)] + [(-3, 0), (last + 9, last)]:
        scene.frame_set(START + shown)
        positions = read_evaluated_positions(head, bpy.context.evaluated_depsgraph_get())
        assert positions.shape == clip.template_vertices.shape
        error = np.linalg.norm(positions - expected_positions(clip, index, scene_rate), axis=1).max()
        assert error <= tolerance, f"{mode}: {error} m at frame {START + shown}"


def check_object(clip: MotionClip, head: Any, mode: str) -> None:
    mesh = head.data
    x, y, z = clip.template_vertices.T
    np.testing.assert_array_equal(read_rest_positions(mesh), np.stack([x, -z, y], axis=1))
    assert len(mesh.polygons) == len(clip.polygon_starts) - 1
    assert all(polygon.use_smooth for polygon in mesh.polygons)
    uvs = np.empty(2 * len(mesh.loops), np.float32)
    mesh.uv_layers[0].data.foreach_get("uv", uvs)
    np.testing.assert_array_equal(uvs.reshape(-1, 2), clip.corner_uvs)
    colors = np.empty(4 * len(mesh.vertices), np.float32)
    mesh.color_attributes["Color"].data.foreach_get("color", colors)
    np.testing.assert_array_equal(colors.reshape(-1, 4)[:, :3], clip.vertex_colors)
    for name in REGIONS:
        index = head.vertex_groups[name].index
        members = [v.index for v in mesh.vertices if any(g.group == index and g.weight > 0.5 for g in v.groups)]
        assert members == clip.regions[name].tolist()
    assert [material.name for material in mesh.materials] == [f"TalkHead {part}" for part in clip.parts]
    for polygon in mesh.polygons:
        start, stop = list(clip.parts.values())[polygon.material_index]
        assert all(start <= vertex < stop for vertex in polygon.vertices)
    subdivision = next(modifier for modifier in head.modifiers if modifier.type == "SUBSURF")
    assert not subdivision.show_viewport and subdivision.show_render
    provenance = json.loads(take_action(head)["talkhead"])
    assert provenance["audio_sha256"] == "ab" * 32 and provenance["weights_sha256"] == "cd" * 32
    assert provenance["method"] == "mmtalker" and provenance["seed"] == 0
    assert provenance["bake"]["mode"] == mode and provenance["bake"]["start"] == START
    assert [entry["object"] for entry in list_heads()] == [head.name]
    if mode == "basis":
        keys = mesh.shape_keys.key_blocks
        assert keys[0].name == "Basis" and len(keys) - 1 == provenance["bake"]["shape_keys"]
        assert all(key.slider_min == 0 and key.slider_max == 1 for key in keys[1:])
    if mode == "per-frame":
        assert not mesh.shape_keys.use_relative


def snapshot() -> dict[str, Any]:
    """What must not change when a job fails."""
    scene = bpy.context.scene
    names = ("scenes", "objects", "collections", "meshes", "materials", "images", "actions", "sounds", "lights")
    state: dict[str, Any] = {name: sorted(item.name for item in getattr(bpy.data, name)) for name in names}
    state["kept"] = sorted(item.name for item in [*bpy.data.actions, *bpy.data.meshes] if item.use_fake_user)
    state["scene"] = (scene.frame_start, scene.frame_end, scene.render.fps, scene.render.fps_base, scene.sync_mode)
    state["stage"] = (scene.camera, scene.world and scene.world.name)
    state["strips"] = sorted(
        (s.name, s.channel, s.frame_start, s.get("talkhead_object")) for s in compat.existing_strips(scene)
    )
    state["links"] = sorted(item.name for item in scene.objects)
    for item in bpy.data.objects:
        if item.type == "MESH":
            action = take_action(item)
            caches = [(m.filepath, m.frame_start) for m in item.modifiers if m.type == "MESH_CACHE"]
            state[item.name] = (item.data.name, action and action.name, read_provenance(action), caches)
    return state


def expect_error(kind: type[BaseException], words: str, call: Any) -> None:
    try:
        call()
    except kind as error:
        assert words in str(error), str(error)
        return
    raise AssertionError(f"expected {kind.__name__} with {words!r}")


def has_key(head: Any, name: str) -> bool:
    keys = head.data.shape_keys
    return keys is not None and name in keys.key_blocks


def read_pixels(path: Path) -> np.ndarray:
    image = bpy.data.images.load(str(path))
    pixels = np.array(image.pixels[:], np.float32).reshape(image.size[1], image.size[0], 4)
    bpy.data.images.remove(image)
    return pixels


def write_tone(path: Path, seconds: float) -> Path:
    samples = (8000 * np.sin(np.arange(int(16000 * seconds)) * 0.1)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(samples.tobytes())
    return path
