"""What a bake costs: seconds inside Blender, milliseconds a frame of playback, and the size of the file, mode by mode.

    python -m benchmarks.bake [--seconds 60] [--vertices 5000] [--audio FILE ...] [--python PYTHON ...]

The recordings (default: the demo sentence) are joined and repeated to the wanted length. The backend animates them,
shape keys fitted, as for Animate from Audio; every mode is then baked in a process of its own, in each Python that is
named and has a bpy module (default: this one), and compared with the clip before and after saving and opening;
last, its controls are keyed and applied.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from blender_talkhead.backend_client.shared_worker import close_shared_worker, shared_worker
from blender_talkhead.contract.jobs import AnimateJob
from blender_talkhead.contract.messages import Message, ProgressMessage
from torch_backend.audio.loading import decode_audio

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "blender_talkhead" / "demo" / "demo_sentence.wav"
IN_BLENDER = Path(__file__).with_name("bake_in_blender.py")
SAMPLE_RATE = 16_000
MODES = ("basis", "basis, fitted in Blender", "per-frame", "cache")
COLUMNS = {
    "blender": "Blender",
    "mode": "mode",
    "num_shape_keys": "shape keys",
    "bake_seconds": "bake s",
    "apply_seconds": "apply s",
    "slowest_step_ms": "slowest step ms",
    "play_ms": "play ms (median)",
    "play_ms_95": "(95 %)",
    "plain_megabytes": ".blend MB",
    "compressed_megabytes": "compressed MB",
    "cache_megabytes": "cache MB",
    "memory_megabytes": "memory MB",
    "error_mm": "error mm",
}


def join_recordings(paths: Sequence[Path], seconds: float, target: Path) -> None:
    """Write `seconds` of sound: the recordings one after another, again and again."""
    with tempfile.TemporaryDirectory() as folder:
        sounds = [np.array(decode_audio(path, Path(folder)).samples) for path in paths]
    joined = np.concatenate(sounds)
    repeated = np.resize(joined, int(seconds * SAMPLE_RATE) - 1)  # so that 60 s at 30 fps are 1,800 frames
    soundfile.write(target, repeated, SAMPLE_RATE, subtype="PCM_16")


def animate(recording: Path, output: Path, num_vertices: int) -> dict[str, float]:
    """Run the backend; returns the seconds that each of its phases took."""
    begun: list[tuple[str, float]] = []

    def on_message(message: Message) -> None:
        if isinstance(message, ProgressMessage) and (not begun or begun[-1][0] != message.phase):
            begun.append((message.phase, time.perf_counter()))

    job = AnimateJob(recording.absolute(), output.absolute(), vertices=num_vertices, basis_error_limit_mm=0.02)
    shared_worker(Path(sys.executable)).run_job(job, on_message)
    begun.append(("", time.perf_counter()))
    close_shared_worker()
    return {name: later - start for (name, start), (_, later) in pairwise(begun)}


def measure(python: Path, clip: Path, mode: str) -> dict[str, Any]:
    """Bake in a fresh process; returns the figures that bake_in_blender.py writes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(python), str(IN_BLENDER), str(clip), mode, folder]
        finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        figures = Path(folder) / "figures.json"
        if not figures.is_file():
            raise RuntimeError(f"{mode} in {python} exited with {finished.returncode}:\n{finished.stderr[-2000:]}")
        result: dict[str, Any] = json.loads(figures.read_text(encoding="utf-8"))
    return result


def format_row(figures: dict[str, Any]) -> str:
    """One row of the Markdown table."""
    cells = []
    for name in COLUMNS:
        value = figures[name]
        cells.append("" if value is None else f"{value:.2g}" if isinstance(value, float) else str(value))
    return "| " + " | ".join(cells) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, nargs="+", default=[DEMO], help="recordings to join")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--vertices", type=int, default=5000)
    parser.add_argument("--python", type=Path, nargs="+", default=[Path(sys.executable)], help="with a bpy module each")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        join_recordings(options.audio, options.seconds, folder / "recording.wav")
        phases = animate(folder / "recording.wav", folder / "clip", options.vertices)
        print("backend: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in phases.items()) + "\n")
        print("| " + " | ".join(COLUMNS.values()) + " |\n|" + " --- |" * len(COLUMNS), flush=True)
        for python in options.python:
            for mode in options.modes:
                print(format_row(measure(python, folder / "clip", mode)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
