"""How fast a head follows its character's sliders, and how near its carried motion is to a take of that character.

    python -m benchmarks.reshape [--start soft] [--end 7] [--changes 10]

Needs bpy and the backend in one environment, as `python3 build.py demo` makes it. The demo recording is animated with
either character; then the first head is reshaped to the second, and both are compared every seventh frame.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from blender_talkhead.backend_client.shared_worker import close_shared_worker, shared_worker
from blender_talkhead.bake.animation import AnimationSettings, animate_blocking
from blender_talkhead.bake.character import require_shapeable, reshape_head
from blender_talkhead.contract.identity_change import load_identity_change
from blender_talkhead.contract.jobs import ReshapeJob
from blender_talkhead.scene.mesh import read_evaluated_positions

RECORDING = Path(__file__).resolve().parents[1] / "blender_talkhead" / "demo" / "demo_sentence.wav"
PARTS = ("skin", "eyes", "teeth", "gums", "tongue", "brows", "lashes")


def reshape(head: Any, identity: str, folder: Path) -> float:
    """Give a head another character; returns the seconds that it took."""
    began = time.perf_counter()
    shown = require_shapeable(head)
    job = ReshapeJob(folder, shown.vertices, identity, shown.identity, shown.seed)
    shared_worker(Path(sys.executable)).run_job(job)
    reshape_head(head, load_identity_change(folder), identity)
    return time.perf_counter() - began


def distances(first: Any, second: Any, last_frame: int) -> np.ndarray:
    """Distances (N, V) in millimetres of two heads' vertices, every seventh frame."""
    rows = []
    for frame in range(1, last_frame, 7):
        bpy.context.scene.frame_set(frame)
        depsgraph = bpy.context.evaluated_depsgraph_get()
        positions = [read_evaluated_positions(head, depsgraph) for head in (first, second)]
        rows.append(1000.0 * np.linalg.norm(positions[0] - positions[1], axis=1))
    return np.array(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Speed and accuracy of a change of character.")
    parser.add_argument("--start", default="soft")
    parser.add_argument("--end", default="7")
    parser.add_argument("--changes", type=int, default=10)
    options = parser.parse_args(arguments)
    from torch_backend.head import load_head

    bpy.ops.wm.read_homefile(use_empty=True)
    heads = []
    for identity in (options.start, options.end):
        settings = AnimationSettings(RECORDING, identity=identity)
        take = animate_blocking(settings, bpy.context.scene, Path(sys.executable))
        heads.append(bpy.data.objects[take.object_name])
    with tempfile.TemporaryDirectory() as folder:
        names = [f"{options.start},nose_width={step / options.changes}" for step in range(options.changes)]
        seconds = [reshape(heads[0], name, Path(folder) / str(number)) for number, name in enumerate(names)]
        reshape(heads[0], options.end, Path(folder) / "last")
    found = distances(*heads, last_frame=take.num_scene_frames)
    sys.stdout.write(f"one change: median {np.median(seconds):.3f} s, worst {max(seconds):.3f} s\n")
    for name in PARTS:
        own = found[:, slice(*load_head().parts[name])]
        sys.stdout.write(f"{name:>8}  mean {own.mean():.4f} mm  worst {own.max():.3f} mm\n")
    close_shared_worker()
    return 0


if __name__ == "__main__":
    sys.exit(main())
