"""Scenarios of what a head looks like: its hair, materials and textures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np

from blender_talkhead.bake.inventory import remove_head
from blender_talkhead.bake.take import BakeSettings, bake_take
from blender_talkhead.contract.motion_clip import MotionClip
from blender_talkhead.scene.hair import find_hair, scalp_triangle, update_hair
from blender_talkhead.scene.mesh import create_mesh, read_rest_positions
from tests.in_blender.performance_scenarios import performed_clip
from tests.in_blender.scenarios import make_clip, new_scene, open_scene_file, save_copy

START = 1
NUM_POINTS = 4
TOLERANCE_M = 2e-5


def hair_follows_the_head(folder: Path, mode: str) -> None:
    """Roots on the scalp stay on it when bones or a cache move the head, before and after saving."""
    clip, roots = with_hair(performed_clip(folder) if mode == "basis" else make_clip(folder))
    cache = folder / "take.pc2" if mode == "cache" else None
    take = bake_take(clip, BakeSettings(mode, START, cache_file=cache), new_scene(30.0))  # type: ignore[arg-type]
    head = bpy.data.objects[take.object_name]
    head.location = (0.3, -0.2, 0.1)
    frames = range(START, START + take.num_scene_frames, 5)
    moved = check_roots(head, roots, frames, bends=mode == "cache")
    assert moved > 1e-4, "the head must move for this to mean anything"
    save_copy(folder / "take.blend")
    open_scene_file(folder / "take.blend")
    check_roots(bpy.data.objects[take.object_name], roots, frames, bends=mode == "cache")


def hair_goes_with_the_head(folder: Path) -> None:
    """Hair is one object that can be hidden and given another shape; it is removed with the head, and only then."""
    clip, _ = with_hair(make_clip(folder))
    scene = new_scene(30.0)
    take = bake_take(clip, BakeSettings("basis", START), scene)
    head = bpy.data.objects[take.object_name]
    hair = find_hair(head)
    assert hair is not None and hair.type == "CURVES" and hair.parent == head and hair.name in scene.objects
    assert len(hair.data.curves) == len(clip.hair) and len(hair.data.points) == clip.hair.size // 3
    assert hair.data.materials[0].name == "TalkHead hair"
    update_hair(head, clip.hair + np.float32(0.01))
    positions = np.empty(clip.hair.size, np.float32)
    hair.data.position_data.foreach_get("vector", positions)
    x, y, z = (clip.hair.reshape(-1, 3) + np.float32(0.01)).T
    np.testing.assert_allclose(positions.reshape(-1, 3), np.stack([x, -z, y], axis=1), atol=1e-6)
    try:
        update_hair(head, clip.hair[1:])
    except ValueError as error:
        assert "points of hair" in str(error)
    else:
        raise AssertionError("other hair must be refused")
    bald = make_clip(folder, seed=1)
    assert find_hair(bpy.data.objects[bake_take(bald, BakeSettings("basis", START), scene).object_name]) is None
    bake_take(bald, BakeSettings("basis", START), scene, head)
    assert find_hair(head) == hair
    remove_head(head)
    assert not bpy.data.hair_curves and not [item for item in bpy.data.objects if item.type == "CURVES"]
    assert "TalkHead hair" not in bpy.data.materials


def materials_of_all_parts(folder: Path) -> None:
    """Pictures are packed and connected, data without colour management, and every part has a material that renders."""
    clip = make_clip(folder)
    clip.textures = {name: picture(folder, name) for name in ("skin_normal", "skin_roughness", "eye_color")}
    take = bake_take(clip, BakeSettings("basis", START), new_scene(30.0))
    save_copy(folder / "take.blend")
    for path in clip.textures.values():
        path.unlink()
    open_scene_file(folder / "take.blend")
    materials = {m.name.removeprefix("TalkHead "): m for m in bpy.data.objects[take.object_name].data.materials}
    assert list(materials) == [*clip.parts, "iris", "pupil"]
    assert source_of(materials["iris"], "Base Color").type == "TEX_IMAGE"
    assert materials["pupil"].diffuse_color[1] < materials["iris"].diffuse_color[1] < 0.5
    assert source_of(materials["skin"], "Roughness").type == "TEX_IMAGE"
    assert source_of(materials["skin"], "Normal").type == "NORMAL_MAP"
    assert source_of(materials["eyes"], "Base Color").type == "TEX_IMAGE"
    assert source_of(materials["eyes"], "Normal").type == "BUMP"
    assert source_of(materials["teeth"], "Base Color").type == "VERTEX_COLOR"
    nodes = [node for material in materials.values() for node in material.node_tree.nodes]
    images = list({node.image.name: node.image for node in nodes if node.type == "TEX_IMAGE"}.values())
    assert len(images) == 3
    assert all(image.packed_file is not None and tuple(image.size) == (4, 4) and image.has_data for image in images)
    spaces = sorted(image.colorspace_settings.name for image in images)
    assert spaces == ["Non-Color", "Non-Color", "sRGB"]


def eyes_have_rings(folder: Path) -> None:
    """Polygons in the middle of the eyes' picture have the iris' and the pupil's material, all others their part's."""
    clip = make_clip(folder)
    clip.textures = {"eye_color": picture(folder, "eye_color")}
    start, stop = clip.parts["eyes"]
    corners = np.flatnonzero((clip.polygon_vertices >= start) & (clip.polygon_vertices < stop))
    others = {part for part in clip.parts if part != "eyes"}
    for radius, expected in ((0.05, "pupil"), (0.12, "iris"), (0.2, "eyes")):
        clip.corner_uvs[:] = 0.5
        clip.corner_uvs[corners] = (0.5 + radius, 0.5)
        mesh = create_mesh(clip)
        used = {list(mesh.materials)[polygon.material_index].name for polygon in mesh.polygons}
        assert {name.removeprefix("TalkHead ").split(".")[0] for name in used} == {*others, expected}


# What the scenarios share


def with_hair(clip: MotionClip) -> tuple[MotionClip, list[int]]:
    """Give a clip three strands that grow out of the vertices its hair will hang on."""
    x, y, z = clip.template_vertices.T
    roots = list(scalp_triangle(np.stack([x, -z, y], axis=1)))
    up = np.linspace(0.0, 0.02, NUM_POINTS)[:, None] * np.array([0.0, 1.0, 0.0])
    clip.hair = (clip.template_vertices[roots][:, None] + up).astype(np.float32)
    return clip, roots


def check_roots(head: Any, roots: list[int], frames: range, bends: bool) -> float:
    """Compare the roots of the hair with their vertices; returns how far the first vertex travels."""
    hair, first, furthest = find_hair(head), None, 0.0
    assert hair is not None
    local = np.empty(3 * len(hair.data.points), np.float32)
    hair.data.position_data.foreach_get("vector", local)
    local = local.reshape(-1, NUM_POINTS, 3)[:, 0]
    np.testing.assert_allclose(local, read_rest_positions(head.data)[roots], atol=1e-6)
    for frame in frames:
        bpy.context.scene.frame_set(frame)
        graph = bpy.context.evaluated_depsgraph_get()
        shown, mesh = hair.evaluated_get(graph).matrix_world, head.evaluated_get(graph).to_mesh()
        on_head = np.array([head.matrix_world @ mesh.vertices[root].co for root in roots])
        on_hair = np.array([shown @ bpy_vector(point) for point in local])
        head.evaluated_get(graph).to_mesh_clear()
        # A scalp that bends, as the cached one does, moves its corners a little apart; their middle it cannot lose.
        apart = on_head.mean(axis=0) - on_hair.mean(axis=0) if bends else on_head - on_hair
        assert np.abs(apart).max() <= TOLERANCE_M, f"{np.abs(apart).max()} m at frame {frame}"
        first = on_head if first is None else first
        furthest = max(furthest, float(np.abs(on_head - first).max()))
    return furthest


def bpy_vector(point: np.ndarray) -> Any:
    from mathutils import Vector

    return Vector(point.tolist())


def picture(folder: Path, name: str) -> Path:
    """Write a small picture."""
    image = bpy.data.images.new(name, 4, 4)
    image.filepath_raw, image.file_format = str(folder / f"{name}.jpg"), "JPEG"
    image.save()
    bpy.data.images.remove(image)
    return folder / f"{name}.jpg"


def source_of(material: Any, socket: str) -> Any:
    """Return the node that feeds an input of the Principled BSDF."""
    return next(
        link.from_node
        for link in material.node_tree.links
        if link.to_node.type == "BSDF_PRINCIPLED" and link.to_socket.name == socket
    )
