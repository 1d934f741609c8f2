"""Bakes a motion clip in one mode and measures it: `python bake_in_blender.py CLIP MODE FOLDER`, a Python with bpy."""

from __future__ import annotations

import dataclasses
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bpy
import numpy as np

from blender_talkhead import registration
from blender_talkhead.bake.performed_motion import apply_controls, has_performance
from blender_talkhead.bake.take import BakeSettings, Take, build_take_steps, install_take
from blender_talkhead.contract.motion_clip import MotionClip, load_motion_clip
from blender_talkhead.scene.coordinates import to_blender_axes
from blender_talkhead.scene.created import CreatedBlocks
from blender_talkhead.scene.mesh import read_evaluated_positions
from blender_talkhead.scene.rig import MODIFIER_NAME

FITTED_HERE = ", fitted in Blender"
NUM_CHECKED = 60


def bake(clip: MotionClip, settings: BakeSettings, scene: Any) -> tuple[Take, float, float]:
    """The take, the seconds that it took, and the milliseconds of its slowest step."""
    begun = time.perf_counter()
    slowest = 0.0
    with CreatedBlocks() as created:
        steps = build_take_steps(clip, settings, scene, None, created)
        while True:
            started = time.perf_counter()
            try:
                next(steps)
            except StopIteration as stop:
                built = stop.value
                break
            finally:
                slowest = max(slowest, time.perf_counter() - started)
        take = install_take(built, clip, settings, scene, None)
    return take, time.perf_counter() - begun, 1000.0 * slowest


def play(scene: Any, num_frames: int) -> np.ndarray:
    """Milliseconds (N,) of each frame_set."""
    times = np.empty(num_frames)
    for frame in range(num_frames):
        begun = time.perf_counter()
        scene.frame_set(1 + frame)
        times[frame] = time.perf_counter() - begun
    return 1000.0 * times


def measure_error(clip: MotionClip, head: Any, scene: Any) -> float:
    """Largest distance of any vertex from the clip, millimetres, over some frames; head and eyes do not turn."""
    worst = 0.0
    if MODIFIER_NAME in head.modifiers:
        head.modifiers[MODIFIER_NAME].show_viewport = False
    for frame in np.unique(np.linspace(0, clip.num_frames - 1, NUM_CHECKED).round().astype(int)):
        scene.frame_set(1 + int(frame))
        shown = read_evaluated_positions(head, bpy.context.evaluated_depsgraph_get())
        true = to_blender_axes(clip.template_vertices + clip.read_offsets(int(frame), int(frame) + 1)[0])
        worst = max(worst, float(np.linalg.norm(shown - true, axis=1).max()))
    return 1000.0 * worst


def measure_applying(clip: MotionClip, head: Any) -> float | None:
    """Seconds that Apply Performance takes with keyed controls; None for a clip without a performance."""
    if not has_performance(clip):
        return None
    registration.register("blender_talkhead")
    controls = head.talkhead_performance
    controls.expression = "happy"
    for name in ("mouth_strength", "blink_rate", "smoothing", "expression_strength", "gaze"):
        for frame in (1, clip.num_frames):
            controls.keyframe_insert(name, frame=frame)
    begun = time.perf_counter()
    apply_controls(head)
    seconds = time.perf_counter() - begun
    registration.unregister("blender_talkhead")
    return seconds


def peak_megabytes() -> float:
    """Largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    clip_folder, mode, target = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    clip = load_motion_clip(clip_folder)
    if mode.endswith(FITTED_HERE):
        clip = dataclasses.replace(clip, basis_shapes=None, basis_weights=None, basis_max_error_m=None)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = round(clip.info.frame_rate), 1.0
    cache = target / "head.pc2" if mode == "cache" else None
    settings = BakeSettings(mode.removesuffix(FITTED_HERE), 1, 0.02, cache)  # type: ignore[arg-type]
    before = peak_megabytes()
    take, seconds, slowest = bake(clip, settings, scene)
    head = bpy.data.objects[take.object_name]
    times = play(scene, take.num_scene_frames)
    memory = peak_megabytes() - before
    plain, compressed = target / "plain.blend", target / "compressed.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(plain), copy=True, compress=False)
    bpy.ops.wm.save_as_mainfile(filepath=str(compressed), copy=True, compress=True)
    error = measure_error(clip, head, scene)
    bpy.ops.wm.open_mainfile(filepath=str(compressed))
    again = measure_error(clip, bpy.data.objects[take.object_name], bpy.context.scene)
    figures = {
        "blender": bpy.app.version_string,
        "mode": mode,
        "num_shape_keys": take.num_shape_keys,
        "bake_seconds": seconds,
        "apply_seconds": measure_applying(clip, bpy.data.objects[take.object_name]),
        "slowest_step_ms": slowest,
        "play_ms": float(np.median(times)),
        "play_ms_95": float(np.percentile(times, 95)),
        "plain_megabytes": plain.stat().st_size / 1e6,
        "compressed_megabytes": compressed.stat().st_size / 1e6,
        "cache_megabytes": None if cache is None else cache.stat().st_size / 1e6,
        "memory_megabytes": memory,
        "error_mm": max(error, again),
    }
    (target / "figures.json").write_text(json.dumps(figures), encoding="utf-8")


main()
