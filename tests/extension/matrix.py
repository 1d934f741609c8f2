"""One Blender's row of the matrix: install the zip, animate in every way and mode, reopen, compare with the clip."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.extension.programs import INSIDE, ROOT, BlenderProgram, Sandbox

MODES = ("basis", "per-frame", "cache")
WAYS = ("operator", "API", "command")
LIMITS_M = {"basis": 0.02e-3, "per-frame": 1e-6, "cache": 1e-6}
START = 11
SEED = 7
VERTICES = 800


@dataclass(frozen=True)
class Material:
    """What all rows share."""

    zip_file: Path
    backend_python: Path
    recording: Path
    clip: Path


def prepare_material(folder: Path, zip_file: Path, seconds: float = 1.6) -> Material:
    """A short piece of the shipped recording and the clip that the backend makes of it."""
    folder.mkdir(parents=True, exist_ok=True)
    python = Path(os.environ.get("TALKHEAD_PYTHON", sys.executable))
    recording = cut_recording(ROOT / "blender_talkhead" / "demo" / "demo_sentence.wav", folder / "speech.wav", seconds)
    command: list[str | Path] = [python, "-m", "torch_backend", "animate", recording, "--output", folder / "clip"]
    command += ["--vertices", str(VERTICES), "--seed", str(SEED), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=200)
    return Material(zip_file, python, recording, folder / "clip")


def cut_recording(source: Path, target: Path, seconds: float) -> Path:
    """The first seconds of a WAV file."""
    with wave.open(str(source)) as read, wave.open(str(target), "wb") as written:
        written.setparams(read.getparams())
        written.writeframes(read.readframes(int(seconds * read.getframerate())))
    return target


def try_program(program: BlenderProgram, material: Material, folder: Path) -> dict[str, Any]:
    """Everything for one Blender.

    Returns:
        "program", "python", "enable_ms" and, for each "WAY MODE", the figures of `measure` in inside_blender.py and
        "seconds", the time of the animation; of each process the first one includes the backend's start.

    Raises:
        AssertionError: something failed; with the end of its log.
    """
    sandbox = Sandbox(program, folder)
    row: dict[str, Any] = {"program": program.name, **install(sandbox, material.zip_file)}
    outputs: dict[str, Path] = {}
    for way in WAYS:
        animate = animate_by_command if way == "command" else animate_inside
        seconds = animate(sandbox, material, way)
        for mode in MODES:
            outputs[f"{way} {mode}"] = output_file(sandbox, way, mode)
            row[f"{way} {mode}"] = {"seconds": seconds[mode]}
    measured = ask(sandbox, "measure", material.clip, START, *outputs.values())["files"]
    for name, facts in zip(outputs, measured, strict=True):
        row[name].update(facts)
    return row


def output_file(sandbox: Sandbox, way: str, mode: str) -> Path:
    """Where a way and mode write: a folder each, since caches lie beside the file."""
    return sandbox.folder / "out" / f"{way}_{mode}" / "take.blend"


def install(sandbox: Sandbox, zip_file: Path) -> dict[str, Any]:
    """Validate and install the zip with Blender's own tools; see that it is enabled at the next start."""
    program = sandbox.program
    if program.is_module:
        sandbox.run([str(program.executable), str(extension_tool(program)), "validate", str(zip_file)])
        ask(sandbox, "install", zip_file)
    else:
        base = [str(program.executable), "--command", "extension"]
        sandbox.run([*base, "validate", str(zip_file)])
        sandbox.run([*base, "install-file", "-r", "user_default", "-e", str(zip_file)])
    facts = ask(sandbox, "state")
    assert facts["enabled"], f"{program.name}: cannot be enabled"
    # the bpy module reads no preferences at its start
    assert facts["enabled_at_start"] or program.is_module, f"{program.name}: not enabled at the next start"
    assert facts["complaints"] == [], facts["complaints"]
    return facts


def extension_tool(program: BlenderProgram) -> Path:
    """Blender's program for extensions, which needs no Blender."""
    packages = program.executable.parents[1]
    return next(packages.glob("*ib/python*/site-packages/bpy/*/scripts/addons_core/bl_pkg/cli/blender_ext.py"))


def animate_inside(sandbox: Sandbox, material: Material, way: str) -> dict[str, float]:
    """All modes in one process, by the operator or the Python API; returns the seconds of each."""
    values = [material.recording, VERTICES, SEED, START, way]
    for mode in MODES:
        path = output_file(sandbox, way, mode)
        path.parent.mkdir(parents=True, exist_ok=True)
        values += [mode, path]
    facts = ask(sandbox, "animate", *values, backend_python=material.backend_python)
    assert facts["connections"] == [], f"{sandbox.program.name} asked the network for {facts['connections']}"
    return dict(facts["seconds_of"])


def animate_by_command(sandbox: Sandbox, material: Material, way: str) -> dict[str, float]:
    """One process a mode, by the headless command; returns the seconds of each, Blender's start included."""
    seconds = {}
    for mode in MODES:
        options = ["--vertices", VERTICES, "--seed", SEED, "--start", START, "--bake", mode, "--device", "cpu"]
        command = sandbox.program.talkhead("animate", material.recording, *options, "--json")
        started = time.monotonic()
        said = sandbox.run([*command, "--output", str(output_file(sandbox, way, mode))], material.backend_python)
        seconds[mode] = time.monotonic() - started
        assert any(json.loads(line)["type"] == "done" for line in said.splitlines() if line.startswith("{")), said
    return seconds


def ask(sandbox: Sandbox, task: str, *arguments: object, backend_python: Path | None = None) -> dict[str, Any]:
    """Run a task of inside_blender.py; returns its answer."""
    answer = sandbox.folder / f"{task}.json"
    answer.unlink(missing_ok=True)
    log = sandbox.run(sandbox.program.script(INSIDE, task, answer, *arguments), backend_python)
    assert answer.is_file(), log[-4000:]
    return dict(json.loads(answer.read_text(encoding="utf-8")))


def check_row(row: dict[str, Any], material: Material) -> None:
    """The mesh after reopening is the clip's, and the ways agree.

    Raises:
        AssertionError: names the way, the mode and the figure.
    """
    num_frames = len(np.load(material.clip / "vertex_offsets.npy", mmap_mode="r"))
    for mode in MODES:
        for way in WAYS:
            facts = row[f"{way} {mode}"]
            assert facts["max_error_m"] <= LIMITS_M[mode] * 1.001, (row["program"], way, mode, facts)
            assert facts["motion_m"] > 0.004, f"{row['program']}, {way}, {mode}: nothing moves"
            assert facts["turned_m"] > 0.0005, f"{row['program']}, {way}, {mode}: the head does not turn"
            assert facts["num_frames"] == num_frames
        shown = [np.load(row[f"{way} {mode}"]["positions"]) for way in WAYS]
        for way, positions in zip(WAYS, shown, strict=True):
            difference = float(np.abs(positions - shown[0]).max())
            assert difference <= 1e-6, f"{row['program']}, {mode}: {way} differs from {WAYS[0]} by {difference} m"
