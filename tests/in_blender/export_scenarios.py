"""A baked head in other programs' formats; run by run_scenario.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np

from blender_talkhead import compat
from blender_talkhead.bake.take import BakeSettings, bake_take
from blender_talkhead.scene.mesh import read_evaluated_positions
from blender_talkhead.scene.timeline import set_frame_range
from tests.in_blender.performance_scenarios import performed_clip
from tests.in_blender.scenarios import START, make_clip, new_scene

TOLERANCE_M = 1e-4


def gltf_keeps_the_motion(folder: Path, kind: str) -> None:
    """glTF with the exporter's default options: opened again, every frame is where it was, bones too.

    Before 4.4 an action moves one data-block only, and the exporter must be told to merge those of face and bones.
    """
    clip = performed_clip(folder) if kind == "performed" else make_clip(folder)
    merging = {} if kind == "plain" or compat.actions_move_many() else {"export_animation_mode": "ACTIVE_ACTIONS"}
    scene, path = new_scene(30.0), folder / "head.glb"
    take = bake_take(clip, BakeSettings("basis", START), scene)
    set_frame_range(scene, START, take.num_scene_frames, is_new=True)
    head = bpy.data.objects[take.object_name]
    rest = np.stack([clip.template_vertices[:, 0], -clip.template_vertices[:, 2], clip.template_vertices[:, 1]], axis=1)
    before = [positions_at(head, START + index) for index in range(take.num_scene_frames)]
    bpy.ops.export_scene.gltf(filepath=str(path), **merging)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = 30
    bpy.ops.import_scene.gltf(filepath=str(path))
    (opened,) = (item for item in bpy.data.objects if item.type == "MESH" and item.data.shape_keys is not None)
    assert len({item.type for item in bpy.data.objects} & {"ARMATURE"}) == (kind == "performed")
    sources = source_vertices(opened, rest)
    for index, expected in enumerate(before):
        shown = positions_at(opened, START + index)
        error = min_over_sources(shown, expected, sources)
        assert error <= TOLERANCE_M, f"{error} m at frame {START + index}"
    moved = max(np.abs(positions - before[0]).max() for positions in before)
    assert moved > 100 * TOLERANCE_M, "the head must move for this to mean anything"


def positions_at(item: Any, frame: int) -> np.ndarray:
    """World positions (V, 3) of the evaluated mesh at a scene frame."""
    bpy.context.scene.frame_set(frame)
    local = read_evaluated_positions(item, bpy.context.evaluated_depsgraph_get()).astype(np.float64)
    matrix = np.array(item.matrix_world)
    return local @ matrix[:3, :3].T + matrix[:3, 3]


def source_vertices(opened: Any, rest: np.ndarray) -> list[np.ndarray]:
    """For each vertex of the opened mesh, those of the head at its place at rest (the exporter splits along seams)."""
    key = opened.data.shape_keys.key_blocks[0]
    local = np.empty(3 * len(opened.data.vertices), np.float32)
    key.points.foreach_get("co", local)
    matrix = np.array(opened.matrix_world)
    places = local.reshape(-1, 3).astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    found = [np.flatnonzero(np.linalg.norm(rest - place, axis=1) < 1e-6) for place in places]
    assert all(len(each) for each in found)
    return found


def min_over_sources(shown: np.ndarray, expected: np.ndarray, sources: list[np.ndarray]) -> float:
    """Largest distance of any opened vertex from the nearest of its sources (lips share their place at rest)."""
    distances = [
        np.linalg.norm(expected[each] - place, axis=1).min() for each, place in zip(sources, shown, strict=True)
    ]
    return float(max(distances))
