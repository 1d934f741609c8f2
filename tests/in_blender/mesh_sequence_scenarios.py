"""A surface with another topology in every frame, shown by Geometry Nodes; run by run_scenario.py.

Nothing of the extension is registered here, so what plays and renders needs no Python.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np

from blender_talkhead import compat
from blender_talkhead.bake.inventory import list_heads, remove_head
from blender_talkhead.bake.mesh_sequence import SequenceSettings, bake_mesh_sequence, mesh_sequence_steps
from blender_talkhead.bake.provenance import read_provenance, take_action
from blender_talkhead.contract.errors import BackendError, BadInputError
from blender_talkhead.contract.mesh_sequence import FrameMesh, MeshSequence, MeshSequenceWriter, load_mesh_sequence
from blender_talkhead.contract.result import ResultInfo
from blender_talkhead.headless.files import open_scene_file, render, save_copy
from tests.in_blender.file_state import file_state
from tests.in_blender.scenarios import START, expect_error, new_scene, read_pixels

NUM_FRAMES = 12
RATE = 24.0


def sequence_plays_without_the_extension(folder: Path, scene_rate: str) -> None:
    """Every scene frame shows the mesh nearest in time with its colours, before and after save and reopen."""
    sequence, rate = make_sequence(folder), float(scene_rate)
    scene = new_scene(rate)
    scene.cursor.location = (1.0, 2.0, 3.0)
    handlers = sum(len(each) for each in vars_of_handlers().values())
    take = bake_mesh_sequence(sequence, SequenceSettings(START), scene)
    assert sum(len(each) for each in vars_of_handlers().values()) == handlers
    check_frames(sequence, take.object_name, rate, take.num_scene_frames)
    save_copy(folder / "take.blend")
    for path in sequence_folder(folder).iterdir():
        path.unlink()
    assert not open_scene_file(folder / "take.blend")
    item = bpy.data.objects[take.object_name]
    assert tuple(item.location) == (1.0, 2.0, 3.0)
    check_frames(sequence, take.object_name, rate, take.num_scene_frames)
    provenance = read_provenance(take_action(item))
    assert provenance is not None and provenance["method"] == "facetalk" and provenance["seed"] == 7
    assert provenance["bake"]["mode"] == "mesh-sequence" and provenance["bake"]["start"] == START
    assert [entry["object"] for entry in list_heads()] == [item.name]
    assert [each.name for each in bpy.context.scene.objects] == [item.name], "the frames' objects are not in the scene"


def sequence_renders(folder: Path) -> None:
    """Pictures of a file that was opened again show each frame's own shape and colour."""
    scene = new_scene(RATE)
    take = bake_mesh_sequence(make_sequence(folder), SequenceSettings(START), scene)
    look_from_the_front(scene)
    save_copy(folder / "take.blend")
    open_scene_file(folder / "take.blend")
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.samples, scene.cycles.device = "CYCLES", 4, "CPU"
    scene.cycles.use_denoising = False
    scene.render.resolution_x = scene.render.resolution_y = 32
    scene.render.film_transparent = True
    compat.set_still_output(scene.render.image_settings)
    scene.render.image_settings.color_mode = "RGBA"
    assert take.object_name in scene.objects
    for index in (0, 5, NUM_FRAMES - 1):
        scene.frame_set(START + index)
        scene.render.filepath = str(folder / f"{index}.png")
        render(scene, folder / f"{index}.png")
        pixels = read_pixels(folder / f"{index}.png")
        size = half_size(index)
        inside = pixels[16, 16]
        assert inside[3] > 0.95 and (inside[0] > 2 * inside[2]) == (index % 2 == 0), f"frame {index}: {inside}"
        covered = (pixels[..., 3] > 0.5).sum() / pixels[..., 3].size
        assert abs(covered - size**2) < 0.08, f"frame {index} covers {covered}, expected {size**2}"


def pictures_of_a_sequence(folder: Path) -> None:
    """Skin and eyes take their colours from the pictures where the vertices point, sharply between two vertices."""
    scene = new_scene(RATE)
    size = 32
    for name, colors in (("skin", ((255, 0, 0), (0, 255, 0))), ("eye", ((0, 0, 255), (255, 255, 255)))):
        image = bpy.data.images.new(name, size, size)
        pixels = np.ones((size, size, 4), np.float32)
        pixels[:, :, :3] = np.repeat(np.array(colors, np.float32) / 255, size // 2, axis=0)  # left and right half
        image.pixels.foreach_set(pixels.reshape(-1))
        image.filepath_raw, image.file_format = str(folder / f"{name}.png"), "PNG"
        image.save()
        bpy.data.images.remove(image)
    pictures = {"skin_color": (folder / "skin.png").read_bytes(), "eye_color": (folder / "eye.png").read_bytes()}
    info = ResultInfo("mesh_sequence", "facetalk", RATE, 1, "a.wav", "ab" * 32, "cd" * 32, 7)
    line = np.linspace(-1.0, 1.0, 5)
    x, y = np.meshgrid(line, line)
    vertices = np.stack([x, y, 0 * x], -1).reshape(-1, 3).astype(np.float32)
    row, column = np.meshgrid(np.arange(4), np.arange(4), indexing="ij")
    a = (5 * row + column).reshape(-1)
    faces = np.concatenate([np.stack([a, a + 1, a + 6], 1), np.stack([a, a + 6, a + 5], 1)]).astype(np.int32)
    share = 0.5 + 0.5 * y.reshape(-1)  # the upper half belongs to an eye
    u = np.where(x.reshape(-1) < 0, 0.25, 0.75)
    places = np.stack([u, 0 * u + 0.5, u, 0 * u + 0.5, share], 1)
    with MeshSequenceWriter(sequence_folder(folder), info, has_colors=False, pictures=pictures) as writer:
        writer.append(vertices, faces, None, np.round(65_535 * places).astype(np.uint16))
        sequence = load_mesh_sequence(writer.commit())
    take = bake_mesh_sequence(sequence, SequenceSettings(START), scene)
    look_from_the_front(scene)
    save_copy(folder / "take.blend")
    open_scene_file(folder / "take.blend")
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.samples, scene.cycles.device = "CYCLES", 16, "CPU"
    scene.cycles.use_denoising = False
    scene.view_settings.view_transform = "Standard"
    scene.render.resolution_x = scene.render.resolution_y = 32
    compat.set_still_output(scene.render.image_settings)
    scene.frame_set(START)
    scene.render.filepath = str(folder / "picture.png")
    render(scene, folder / "picture.png")
    pixels = read_pixels(folder / "picture.png")
    expected = {(4, 4): (1, 0, 0), (4, 27): (0, 1, 0), (27, 4): (0, 0, 1), (27, 27): (1, 1, 1), (13, 4): (1, 0, 0)}
    expected[(18, 4)] = (0, 0, 1)
    for (from_below, from_left), color in expected.items():
        found = pixels[from_below, from_left, :3]
        bright = found > 0.5 * found.max()
        assert tuple(bright.astype(int)) == color, (from_below, from_left, found)
    remove_head(bpy.data.objects[take.object_name])
    assert not [image.name for image in bpy.data.images if image.name.startswith("TalkHead")]


def sequences_go_without_a_trace(folder: Path) -> None:
    """A removed sequence, one that was cancelled and one that fails leave the file as it was."""
    sequence = make_sequence(folder)
    scene = new_scene(RATE)
    own = bpy.data.objects.new("mine", bpy.data.meshes.new("mine"))
    scene.collection.objects.link(own)
    before = file_state()
    steps = mesh_sequence_steps(sequence, SequenceSettings(START), scene)
    fractions = [next(steps) for _ in range(5)]
    assert fractions == sorted(fractions) and 0 <= fractions[0] < fractions[-1] < 1
    assert [item.name for item in scene.objects] == ["mine"]
    steps.close()
    assert file_state() == before
    far = SequenceSettings(1_048_570)
    expect_error(BadInputError, "Blender's last", lambda: bake_mesh_sequence(sequence, far, scene))
    assert file_state() == before
    damaged = np.array(sequence.faces)
    damaged[-1, 0] = 10_000
    broken = MeshSequence(**{**sequence.__dict__, "faces": damaged})
    expect_error(BackendError, "frame 11", lambda: bake_mesh_sequence(broken, SequenceSettings(START), scene))
    assert file_state() == before
    first = bake_mesh_sequence(sequence, SequenceSettings(START), scene)
    second = bake_mesh_sequence(sequence, SequenceSettings(START), scene)
    assert first.object_name != second.object_name
    remove_head(bpy.data.objects[first.object_name])
    check_frames(sequence, second.object_name, RATE, second.num_scene_frames)
    remove_head(bpy.data.objects[second.object_name])
    scene.frame_set(1)
    assert file_state() == before


def sequence_is_one_undo_step(folder: Path) -> None:
    """One undo takes all of it away, one redo brings it back."""
    sequence = make_sequence(folder)
    scene = new_scene(RATE)
    bpy.ops.ed.undo_push(message="before")
    take = bake_mesh_sequence(sequence, SequenceSettings(START), scene)
    bpy.ops.ed.undo_push(message="bake")
    bpy.ops.ed.undo()
    gone = (bpy.data.objects, bpy.data.meshes, bpy.data.node_groups, bpy.data.collections, bpy.data.actions)
    assert not any(len(each) for each in gone)
    bpy.ops.ed.redo()
    check_frames(sequence, take.object_name, RATE, take.num_scene_frames)


def look_from_the_front(scene: Any) -> None:
    """A camera and even light."""
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.type, camera.data.ortho_scale = "ORTHO", 2.0
    camera.location, camera.rotation_euler = (0.0, -5.0, 0.0), (np.pi / 2, 0.0, 0.0)
    scene.collection.objects.link(camera)
    scene.camera, scene.world = camera, bpy.data.worlds.new("world")
    background = compat.enable_nodes(scene.world).nodes["Background"]
    background.inputs["Color"].default_value = (1.0, 1.0, 1.0, 1.0)


def make_sequence(folder: Path) -> MeshSequence:
    """Flat squares of growing size that face the front, of a finer grid in each frame, red and blue in turn."""
    info = ResultInfo("mesh_sequence", "facetalk", RATE, NUM_FRAMES, "a.wav", "ab" * 32, "cd" * 32, 7)
    with MeshSequenceWriter(sequence_folder(folder), info, has_colors=True) as writer:
        for index in range(NUM_FRAMES):
            mesh = make_frame(index)
            writer.append(mesh.vertices, mesh.faces, mesh.colors)
        return load_mesh_sequence(writer.commit())


def sequence_folder(folder: Path) -> Path:
    return folder / "sequence"


def half_size(index: int) -> float:
    return 0.3 + 0.05 * index


def make_frame(index: int) -> FrameMesh:
    count = index + 2
    line = np.linspace(-half_size(index), half_size(index), count)
    x, y = np.meshgrid(line, line)
    vertices = np.stack([x, y, np.zeros_like(x)], axis=-1).reshape(-1, 3).astype(np.float32)
    corner = np.arange(count * count, dtype=np.int32).reshape(count, count)
    a, b, c, d = (each.reshape(-1) for each in (corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1]))
    faces = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    color = (220, 10, 10) if index % 2 == 0 else (10, 10, 220)
    return FrameMesh(vertices, faces, np.full((count * count, 3), color, np.uint8))


def vars_of_handlers() -> dict[str, list[Any]]:
    names = (name for name in dir(bpy.app.handlers) if isinstance(getattr(bpy.app.handlers, name), list))
    return {name: list(getattr(bpy.app.handlers, name)) for name in names}


def check_frames(sequence: MeshSequence, name: str, scene_rate: float, num_scene_frames: int) -> None:
    del sequence  # its files may be gone: what is expected is made again
    scene, item = bpy.context.scene, bpy.data.objects[name]
    assert num_scene_frames == int(np.ceil((NUM_FRAMES - 1) * scene_rate / RATE - 1e-6)) + 1
    for shown in (-20, *range(-1, num_scene_frames + 1), 500):
        scene.frame_set(START + shown)
        position = shown * RATE / scene_rate
        nearest = int(np.clip(np.floor(position + 0.5 + 1e-6), 0, NUM_FRAMES - 1))
        expected = make_frame(nearest)
        mesh = item.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
        positions = np.empty(3 * len(mesh.vertices), np.float32)
        mesh.vertices.foreach_get("co", positions)
        x, y, z = expected.vertices.T
        np.testing.assert_array_equal(positions.reshape(-1, 3), np.stack([x, -z, y], axis=1), err_msg=f"frame {shown}")
        corners = np.empty(len(mesh.loops), np.int32)
        mesh.loops.foreach_get("vertex_index", corners)
        np.testing.assert_array_equal(corners.reshape(-1, 3), expected.faces)
        colors = np.empty(4 * len(mesh.vertices), np.float32)
        mesh.color_attributes["Color"].data.foreach_get("color_srgb", colors)
        assert expected.colors is not None
        np.testing.assert_allclose(colors.reshape(-1, 4)[:, :3] * 255, expected.colors, atol=0.01)
        assert all(polygon.use_smooth for polygon in mesh.polygons)
        assert [material.name for material in mesh.materials] == [item.data.materials[0].name]
