"""What moves where nobody speaks, after the whole path: recording, backend, bake, controls at their defaults.

    python -m benchmarks.silence RECORDING [--level -50] [--seconds 12]

The recording is followed by silences of several kinds, with the recording again between them, and animated by
`python -m blender_talkhead animate`, in an environment with bpy. In the .blend file, frame by frame, it measures how
fast the lips move in the head's own axes, and how far the head turns, for each silence beside speech. Noises are
`--level` decibels below the recording's loud speech. The half second after speech and before it counts for neither.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import bpy
import numpy as np
import soundfile

from torch_backend.audio.loading import decode_audio

SAMPLE_RATE = 16_000
BORDER_SECONDS = 0.5
LARGEST_SHARE = 0.10
"""Of the mouth's speed in speech that it may have in silence."""
RIG = "TalkHead rig"


def make_silence(kind: str, seconds: float, level: float) -> np.ndarray:
    """(S,) samples of a root mean square of `level`; kind is digital, white, room or hum."""
    count, random = round(seconds * SAMPLE_RATE), np.random.default_rng(0)
    if kind == "digital":
        return np.zeros(count)
    if kind == "hum":
        times = np.arange(count) / SAMPLE_RATE
        sound = sum(np.sin(2.0 * np.pi * 50.0 * k * times + k) / k for k in range(1, 7))
        sound = sound + 0.1 * random.standard_normal(count)
    else:
        frequencies = np.maximum(np.fft.rfftfreq(count, 1.0 / SAMPLE_RATE), 40.0)
        spectrum = np.fft.rfft(random.standard_normal(count)) / frequencies ** (0.0 if kind == "white" else 0.7)
        sound = np.fft.irfft(spectrum, count)
    return np.asarray(level * sound / sound.std())


def build_recording(
    speech: np.ndarray, seconds: float, decibels: float
) -> tuple[np.ndarray, dict[str, tuple[float, float]]]:
    """The sound, and (start, end) in seconds of each silence in it."""
    loud = float(np.sqrt(np.percentile(np.convolve(speech**2, np.ones(400) / 400, mode="valid"), 95)))
    level = loud * 10.0 ** (decibels / 20.0)
    parts, spans, length = [speech], {}, len(speech)
    for kind in ("digital", "white", "room", "hum"):
        silence = make_silence(kind, seconds, level)
        spans[kind] = (length / SAMPLE_RATE, (length + len(silence)) / SAMPLE_RATE)
        parts += [silence, speech]
        length += len(silence) + len(speech)
    return np.concatenate(parts), spans


def measure_file(path: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean speed of the lips (T - 1,) in mm/s without the rig, turn of the head (T,) in degrees, frames a second."""
    bpy.ops.wm.open_mainfile(filepath=str(path))
    scene = bpy.context.scene
    head = next(item for item in scene.objects if item.type == "MESH" and "lips" in item.vertex_groups)
    group = head.vertex_groups["lips"].index
    lips = np.array([v.index for v in head.data.vertices if any(entry.group == group for entry in v.groups)])
    rig = next(item for item in scene.objects if item.type == "ARMATURE")
    head.modifiers[RIG].show_viewport = False
    rate = scene.render.fps / scene.render.fps_base
    positions, turns = [], []
    for frame in range(scene.frame_start, scene.frame_end + 1):
        scene.frame_set(frame)
        mesh = head.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
        points = np.empty(3 * len(mesh.vertices), np.float32)
        mesh.vertices.foreach_get("co", points)
        positions.append(points.reshape(-1, 3)[lips].astype(np.float64))
        turns.append(np.degrees(rig.pose.bones["head"].rotation_quaternion.angle))
    moves = np.linalg.norm(np.diff(np.array(positions), axis=0), axis=2).mean(axis=1)
    return 1000.0 * rate * moves, np.array(turns), rate


def compare(path: Path, spans: dict[str, tuple[float, float]]) -> list[dict[str, object]]:
    """A row for speech and one for each silence."""
    speed, turns, rate = measure_file(path)
    times = np.arange(len(turns)) / rate
    near = np.zeros(len(times), bool)
    for start, end in spans.values():
        near |= (times > start - BORDER_SECONDS) & (times < end + BORDER_SECONDS)
    rows = [{"part": "speech", **figures(speed[~near[1:]], turns[~near])}]
    for kind, (start, end) in spans.items():
        inside = (times > start + BORDER_SECONDS) & (times < end - BORDER_SECONDS)
        rows.append({"part": kind, **figures(speed[inside[1:]], turns[inside])})
        rows[-1]["share"] = rows[-1]["lips_mm_per_second"] / rows[0]["lips_mm_per_second"]  # type: ignore[operator]
    return rows


def figures(speed: np.ndarray, turns: np.ndarray) -> dict[str, object]:
    return {
        "lips_mm_per_second": float(speed.mean()),
        "lips_mm_per_second_95": float(np.percentile(speed, 95)),
        "head_degrees_95": float(np.percentile(turns, 95)),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--level", type=float, default=-50.0, help="decibels of the noises below loud speech")
    parser.add_argument("--seconds", type=float, default=12.0, help="of each silence")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        speech = np.array(decode_audio(options.recording, Path(folder)).samples, np.float64)
        sound, spans = build_recording(speech, options.seconds, options.level)
        audio, blend = Path(folder) / "speech.wav", Path(folder) / "silence.blend"
        soundfile.write(audio, sound, SAMPLE_RATE, subtype="PCM_24")
        command = [sys.executable, "-m", "blender_talkhead", "animate", str(audio), "--output", str(blend)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rows = compare(blend, spans)
    for row in rows:
        print(json.dumps({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}))
    worst = max(float(row["share"]) for row in rows[1:])  # type: ignore[arg-type]
    print(f"largest share {worst:.3f}, wanted at most {LARGEST_SHARE}")


if __name__ == "__main__":
    main()
