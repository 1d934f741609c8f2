"""Peak memory of recordings of different lengths: it must not grow with the recording.

    python -m benchmarks.memory [--minutes 1 10] [--vertices 5000] [--threads 2] [-- BACKEND OPTIONS]
    python -m benchmarks.memory --bake cache --minutes 180     # the whole way into a .blend file with a mesh cache

Each length runs in a process of its own; what is printed is the largest resident set of it or any of its children, its
ratio to the first length's, and the run's speed. Needs a system with wait4 (Linux, macOS).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[1]
SAMPLE_RATE = 16_000
_BLOCK_SECONDS = 60.0


@dataclass(frozen=True)
class Measurement:
    """One run."""

    minutes: float
    peak_megabytes: float
    seconds: float
    exit_code: int


def write_recording(path: Path, minutes: float, seed: int = 0) -> None:
    """Noise in syllable-like bursts with pauses, written block by block."""
    random = np.random.default_rng(seed)
    left = minutes * 60.0
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, subtype="PCM_16") as file:
        while left > 0:
            times = np.arange(int(min(left, _BLOCK_SECONDS) * SAMPLE_RATE)) / SAMPLE_RATE
            envelope = np.clip(np.sin(2 * np.pi * 3.3 * times) + np.sin(2 * np.pi * 0.2 * times), 0, 2)
            file.write(0.1 * envelope * random.standard_normal(len(times)))
            left -= _BLOCK_SECONDS


def measure(command: list[str], minutes: float) -> Measurement:
    """Run a command and read its peak memory from the system."""
    begun = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    bytes_per_unit = 1 if sys.platform == "darwin" else 1024
    peak = usage.ru_maxrss * bytes_per_unit / 1e6
    return Measurement(minutes, peak, time.monotonic() - begun, process.returncode)


def build_command(recording: Path, folder: Path, arguments: argparse.Namespace) -> list[str]:
    """The backend alone, or the headless command with a bake."""
    common = [str(recording), "--vertices", str(arguments.vertices), "--device", arguments.device]
    if arguments.bake is not None:
        output = ["--bake", arguments.bake, "--output", str(folder / "head.blend")]
        return [sys.executable, "-m", "blender_talkhead", "animate", *common, *output, *arguments.more]
    output = ["--output", str(folder / "clip"), "--threads", str(arguments.threads)]
    return [sys.executable, "-m", "torch_backend", "animate", *common, *output, *arguments.more]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 10.0], help="lengths of the recordings")
    parser.add_argument("--vertices", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bake", choices=("basis", "per-frame", "cache"), help="bake a .blend file, too")
    parser.add_argument("--folder", type=Path, help="where to work (default: the system's temporary folder)")
    parser.add_argument("more", nargs="*", help="further options of the command, after --")
    arguments = parser.parse_args()
    first: Measurement | None = None
    print(f"{'minutes':>8} {'peak MB':>9} {'ratio':>7} {'x real time':>12}")
    for minutes in arguments.minutes:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
            folder = Path(temporary)
            recording = folder / "recording.wav"
            write_recording(recording, minutes)
            result = measure(build_command(recording, folder, arguments), minutes)
        if result.exit_code != 0:
            print(f"the run of {minutes:g} minutes ended with exit code {result.exit_code}")
            return 1
        first = first or result
        ratio, speed = result.peak_megabytes / first.peak_megabytes, minutes * 60.0 / result.seconds
        print(f"{minutes:8g} {result.peak_megabytes:9.0f} {ratio:7.2f} {speed:12.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
