"""Operator, Python API and headless command are one path: the same job gives the same data. Run by run_scenario.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from blender_talkhead import command_line, compat
from blender_talkhead.backend_client.shared_worker import close_shared_worker
from blender_talkhead.bake.animation import AnimationSettings, animate_blocking
from blender_talkhead.bake.provenance import take_action
from blender_talkhead.command_options import parse_options
from blender_talkhead.reporting import JobReporter
from tests.in_blender.scenarios import START
from tests.in_blender.ui_scenarios import enabled, recording, use_fake_backend


def all_ways_give_the_same(folder: Path, mode: str) -> None:
    """Shapes, curves, modifier, sound and provenance of one job, asked for in the three ways."""
    python, audio = use_fake_backend(folder), recording(folder)
    results = []
    with enabled(folder):
        shot = begin(folder)
        settings = bpy.context.scene.talkhead
        settings.audio, settings.start, settings.vertices, settings.seed = str(audio), START, 900, 3
        settings.bake = mode
        assert bpy.ops.talkhead.animate() == {"FINISHED"}
        results.append(describe(folder))
        begin(folder)
        settings = AnimationSettings(audio, start=START, vertices=900, identity="mean", seed=3, bake=mode)
        phases: list[str] = []
        take = animate_blocking(settings, bpy.context.scene, python, lambda phase, *_: phases.append(phase))
        assert "made-up motion" in take.warnings and phases[0] == "starting the backend" and phases[-1] == "baking"
        results.append(describe(folder))
        begin(folder)
        words = [
            "animate",
            audio,
            "--start",
            START,
            "--vertices",
            900,
            "--seed",
            3,
            "--identity",
            "mean",
            "--bake",
            mode,
        ]
        output = ["--file", shot, "--output", folder / "out.blend"]
        options = parse_options([str(word) for word in [*words, *output]])
        assert command_line.run(options, JobReporter(as_json=False)) == 0
        bpy.ops.wm.open_mainfile(filepath=str(folder / "out.blend"))
        results.append(describe(folder))
        close_shared_worker()
    for other in results[1:]:
        assert other.keys() == results[0].keys()
        for name, value in results[0].items():
            is_same = np.array_equal(value, other[name]) if isinstance(value, np.ndarray) else value == other[name]
            assert is_same, (name, value, other[name])


def begin(folder: Path) -> Path:
    """The same saved file with an empty scene at 25 frames per second."""
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    bpy.context.scene.render.fps = 25
    shot = folder / "shot.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(shot))
    for cache in folder.glob("*.pc2"):
        cache.unlink()
    return shot


def describe(folder: Path) -> dict[str, Any]:
    head, scene = bpy.data.objects["TalkHead"], bpy.context.scene
    action = take_action(head)
    provenance = json.loads(action["talkhead"])
    found: dict[str, Any] = {
        "provenance": provenance,
        "action": action.name,
        "objects": [item.name for item in bpy.data.objects],
        "groups": [group.name for group in head.vertex_groups],
        "modifiers": [(modifier.name, modifier.type) for modifier in head.modifiers],
        "scene": (scene.frame_start, scene.frame_end, scene.render.fps, scene.sync_mode, scene.camera),
        "strips": [
            (strip.name, compat.strip_start(strip), strip.channel, bpy.path.abspath(strip.sound.filepath))
            for strip in compat.existing_strips(scene)
        ],
    }
    keys = head.data.shape_keys
    for key in [] if keys is None else keys.key_blocks:
        found[f"key {key.name}"] = values(key.points, "co", 3)
    if keys is not None:
        curves = compat.ensure_fcurves(keys, action)
        for curve in curves:
            found[f"curve {curve.data_path}"] = values(curve.keyframe_points, "co", 2)
    for cache in folder.glob("*.pc2"):
        found["cache"] = cache.read_bytes()
    return found


def values(owner: Any, name: str, size: int) -> np.ndarray:
    array = np.empty(len(owner) * size, np.float32)
    owner.foreach_get(name, array)
    return array
