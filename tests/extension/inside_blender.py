"""Run inside Blender: `SCRIPT TASK ANSWER.json [ARGUMENT ...]`; needs nothing of the repository.

The expected positions are computed here from the clip's plain arrays, never by the extension.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import socket
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import bpy
import numpy as np

EXTENSION = "bl_ext.user_default.talkhead"


def install(zip_file: str) -> dict[str, Any]:
    """Install the zip as the preferences' "Install from Disk" does, and keep it enabled."""
    bpy.ops.extensions.package_install_files(
        filepath=zip_file, repo="user_default", enable_on_install=True, overwrite=True
    )
    bpy.ops.wm.save_userpref()
    return {"enabled": is_enabled()}


def state() -> dict[str, Any]:
    """Whether the extension is enabled at the start, which Python this is, and how long enabling takes."""
    enabled_at_start = is_enabled()
    bpy.ops.preferences.addon_disable(module=EXTENSION)
    for name in [name for name in sys.modules if name.startswith(EXTENSION)]:
        del sys.modules[name]  # so that enabling imports everything, as at Blender's start
    started = time.perf_counter()
    bpy.ops.preferences.addon_enable(module=EXTENSION)
    enable_ms = (time.perf_counter() - started) * 1000.0
    return {
        "enabled_at_start": enabled_at_start,
        "enabled": is_enabled(),
        "enable_ms": enable_ms,
        "complaints": complaints(),
        "python": ".".join(map(str, sys.version_info[:2])),
        "blender": bpy.app.version_string,
    }


def complaints() -> list[str]:
    """What this Python has to say about any source of the installed extension, old syntax and odd escapes included."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in sorted(Path(sys.modules[EXTENSION].__file__).parent.rglob("*.py")):
            try:
                compile(path.read_text(encoding="utf-8"), path.name, "exec")
            except (SyntaxError, Warning) as problem:
                found.append(f"{path.name}: {problem}")
    return found


def is_enabled() -> bool:
    return EXTENSION in bpy.context.preferences.addons


def count_connections() -> list[str]:
    """From now on nothing in this process reaches a network; returns the list of attempts."""
    attempts: list[str] = []

    def refuse(*target: Any, **_: Any) -> Any:
        attempts.append(str(target[-1]))
        raise OSError("the test has no network")

    for name in ("connect", "connect_ex", "sendto"):
        setattr(socket.socket, name, refuse)
    socket.getaddrinfo = refuse
    return attempts


def enable() -> None:
    """The bpy module starts without the user's preferences (and reading them crashes 4.2)."""
    if not is_enabled():
        bpy.ops.preferences.addon_enable(module=EXTENSION)


def animate(audio: str, vertices: str, seed: str, start: str, way: str, *pairs: str) -> dict[str, Any]:
    """Make one file for each pair (mode, file), by the operator or by the Python API."""
    attempts = count_connections()
    enable()
    call = animate_by_operator if way == "operator" else animate_by_api
    seconds = {}
    for mode, path in zip(pairs[::2], pairs[1::2], strict=True):
        bpy.ops.wm.read_homefile(use_empty=True)
        scene = bpy.context.scene
        scene.render.fps, scene.render.fps_base = 30, 1.0
        bpy.ops.wm.save_as_mainfile(filepath=path)
        began = time.monotonic()
        call(scene, audio, {"vertices": int(vertices), "seed": int(seed), "start": int(start), "bake": mode})
        seconds[mode] = time.monotonic() - began
        bpy.ops.wm.save_as_mainfile(filepath=path)
    return {"seconds_of": seconds, "connections": attempts}


def animate_by_operator(scene: Any, audio: str, values: dict[str, Any]) -> None:
    scene.talkhead.source, scene.talkhead.audio = "FILE", audio
    for name, value in values.items():
        setattr(scene.talkhead, name, value)
    result = bpy.ops.talkhead.animate()
    if result != {"FINISHED"}:
        raise RuntimeError(f"the operator returned {result}: {bpy.context.window_manager.talkhead.message}")


def animate_by_api(scene: Any, audio: str, values: dict[str, Any]) -> None:
    animation = importlib.import_module(f"{EXTENSION}.blender_talkhead.bake.animation")
    cache = Path(bpy.data.filepath).with_suffix(".pc2") if values["bake"] == "cache" else None
    settings = animation.AnimationSettings(audio=Path(audio), cache_file=cache, **values)
    animation.animate_blocking(settings, scene, Path(os.environ["TALKHEAD_PYTHON"]))


def grow(audio: str, vertices: str, rounds: str) -> dict[str, Any]:
    """Bake and remove a head again and again; the process's memory in MB after each round, and what is left of data.

    Neither pages of files, which a system short of memory takes away and gives back at any time, nor what the allocator
    holds without need count.
    """
    enable()
    scene = bpy.context.scene
    before, megabytes = data_counts(), []
    for number in range(int(rounds)):
        animate_by_operator(scene, audio, {"vertices": int(vertices), "seed": number, "start": 1, "bake": "basis"})
        bpy.ops.talkhead.remove(name="TalkHead")
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        resident, of_files = map(int, Path("/proc/self/statm").read_text(encoding="ascii").split()[1:3])
        megabytes.append((resident - of_files) * os.sysconf("SC_PAGESIZE") / 1e6)
    return {"megabytes": megabytes, "before": before, "after": data_counts()}


def data_counts() -> dict[str, int]:
    """How many data blocks of each kind a bake could leave behind."""
    kinds = (
        "objects", "meshes", "shape_keys", "actions", "armatures", "hair_curves", "node_groups", "materials", "images",
        "sounds", "collections", "worlds",
    )  # fmt: skip
    return {kind: len(getattr(bpy.data, kind)) for kind in kinds}


def measure(clip_folder: str, start: str, *blend_files: str) -> dict[str, Any]:
    """Figures of each file; the positions of all frames go beside it as .npy."""
    template = np.load(Path(clip_folder) / "template_vertices.npy").astype(np.float64)
    offsets = np.load(Path(clip_folder) / "vertex_offsets.npy").astype(np.float64)
    x, y, z = np.moveaxis(template + offsets, -1, 0)
    expected = np.stack([x, -z, y], axis=-1)
    return {"files": [measure_file(expected, int(start), Path(path)) for path in blend_files]}


def measure_file(expected: np.ndarray, start: int, blend_file: Path) -> dict[str, Any]:
    """Reopen a file and compare its only head with the expected positions (T, V, 3), one a scene frame.

    Those are without the turns of head and eyes; the positions of the answer are with them.
    """
    bpy.ops.wm.open_mainfile(filepath=str(blend_file))
    scene = bpy.context.scene
    head = next(item for item in scene.objects if item.type == "MESH" and item.name.startswith("TalkHead"))
    positions_file = blend_file.with_suffix(".npy")
    turned = play(scene, head, expected.shape, start)
    np.save(positions_file, turned)
    for modifier in head.modifiers:
        modifier.show_viewport = modifier.show_viewport and modifier.type != "ARMATURE"
    shown = play(scene, head, expected.shape, start)
    keys = head.data.shape_keys
    return {
        "max_error_m": float(np.linalg.norm(shown - expected, axis=-1).max()),
        "motion_m": float(np.linalg.norm(np.ptp(shown, axis=0), axis=-1).max()),
        "turned_m": float(np.linalg.norm(turned - shown, axis=-1).max()),
        "num_frames": len(expected),
        "num_vertices": expected.shape[1],
        "rate": scene.render.fps / scene.render.fps_base,
        "shape_keys": 0 if keys is None else len(keys.key_blocks) - 1,
        "megabytes": blend_file.stat().st_size / 1e6,
        "positions": str(positions_file),
    }


def play(scene: Any, head: Any, shape: tuple[int, ...], start: int) -> np.ndarray:
    """The evaluated positions (T, V, 3) of an object, a row a scene frame."""
    shown = np.empty(shape, np.float32)
    for index in range(len(shown)):
        scene.frame_set(start + index)
        shown[index] = evaluated_positions(head)
    return shown


def evaluated_positions(head: Any) -> np.ndarray:
    evaluated = head.evaluated_get(bpy.context.evaluated_depsgraph_get())
    mesh = evaluated.to_mesh()
    flat = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", flat)
    evaluated.to_mesh_clear()
    return flat.reshape(-1, 3).astype(np.float64)


def main() -> None:
    arguments = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:]
    task, answer_file, *values = arguments
    started = time.monotonic()
    answer = globals()[task](*values)
    Path(answer_file).write_text(json.dumps({**answer, "seconds": time.monotonic() - started}), encoding="utf-8")


main()
