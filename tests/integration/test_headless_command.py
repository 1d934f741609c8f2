"""`python -m blender_talkhead` as a real process, over a stand-in for the backend that is a real process too."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bpy", reason="the bpy module is not in this environment")

REPOSITORY = Path(__file__).resolve().parents[2]
FAKE_BACKEND = Path(__file__).with_name("fake_backend.py")
LIMIT_SECONDS = 200
INSPECT = """
import json, os, sys
import bpy
bpy.ops.wm.open_mainfile(filepath=sys.argv[1])
scene = bpy.context.scene
strips = [] if scene.sequence_editor is None else scene.sequence_editor.strips
moved = []
for name in sys.argv[2:]:
    head = bpy.data.objects[name]
    shown = []
    for frame in (scene.frame_start, scene.frame_start + 25):
        scene.frame_set(frame)
        mesh = head.evaluated_get(bpy.context.evaluated_depsgraph_get()).to_mesh()
        shown.append([v.co.copy() for v in mesh.vertices])
    moved.append(max((a - b).length for a, b in zip(*shown)))
print("FACTS" + json.dumps({
    "objects": sorted(o.name for o in bpy.data.objects),
    "actions": sorted((a.name, a.use_fake_user) for a in bpy.data.actions),
    "rate": [scene.render.fps, round(scene.render.fps_base, 4)],
    "range": [scene.frame_start, scene.frame_end],
    "strips": sorted((s.frame_start, os.path.normpath(bpy.path.abspath(s.sound.filepath))) for s in strips),
    "scenes": len(bpy.data.scenes),
    "camera": scene.camera and scene.camera.name,
    "moved": moved,
}))
"""


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    path = tmp_path / "speech.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((9000 * np.sin(np.arange(21300) * 0.1)).astype("<i2").tobytes())
    return path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    python = tmp_path / "fake_python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE_BACKEND}" "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "home").mkdir()
    return {**os.environ, "TALKHEAD_PYTHON": str(python), "BLENDER_USER_RESOURCES": str(tmp_path / "home")}


def talkhead(environment: dict[str, str], *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "blender_talkhead", *map(str, arguments)],
        cwd=REPOSITORY,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


def inspect(file: Path, *heads: str) -> dict[str, Any]:
    result = subprocess.run(
        [sys.executable, "-c", INSPECT, str(file), *heads], capture_output=True, text=True, timeout=100, check=True
    )
    return json.loads(next(line for line in result.stdout.splitlines() if line.startswith("FACTS"))[5:])


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_takes_in_one_file(tmp_path: Path, audio: Path, environment: dict[str, str]) -> None:
    """A new head, a second take on it, a second head in another mode, removal: one life of a file."""
    out = tmp_path / "out" / "deep" / "a.blend"
    result = talkhead(environment, "animate", audio, "--output", out, "--fps", "23.976", "--start", "11", "--json")
    assert result.returncode == 0, result.stderr
    messages = [json.loads(line) for line in result.stdout.splitlines()]
    assert {"type": "warning", "text": "made-up motion", "job": ""} in messages
    fractions = [message["fraction"] for message in messages if message["type"] == "progress"]
    assert fractions == sorted(fractions) and fractions[0] >= 0 and fractions[-1] <= 1
    done = messages[-1]
    assert done["type"] == "done" and done["output"] == str(out) and done["max_error_mm"] <= 0.02
    assert done["num_frames"] == 33  # 39 / 30 s at 24 / 1.001, and the first
    assert files_in(out.parent) == ["a.blend"]
    facts = inspect(out, "TalkHead")
    assert facts["rate"] == [24, 1.001] and facts["range"] == [11, 43]
    assert facts["strips"] == [[11.0, str(audio)]]
    assert facts["camera"] == "Portrait camera" and facts["scenes"] == 1 and facts["moved"][0] > 0.005

    again = talkhead(
        environment, "animate", audio, "--file", out, "--target", "TalkHead", "--start", "20", "--fps", "60"
    )
    assert again.returncode == 0, again.stderr
    assert again.stdout == "" and "--fps is for a new scene" in again.stderr
    assert "after the scene's last frame 43" in again.stderr
    facts = inspect(out, "TalkHead")
    assert facts["rate"] == [24, 1.001] and facts["range"] == [11, 43]
    assert facts["strips"] == [[20.0, str(audio)]] and len(facts["actions"]) == 2
    assert [kept for _, kept in facts["actions"]].count(True) == 1

    other = tmp_path / "other" / "b.blend"
    cached = talkhead(
        environment, "animate", audio, "--file", out, "--bake", "cache", "--output", other, "--extend-range"
    )
    assert cached.returncode == 0, cached.stderr
    assert files_in(other.parent) == ["b.blend", "b_TalkHead.001.pc2"]
    facts = inspect(other, "TalkHead", "TalkHead.001")
    assert facts["range"] == [1, 43]
    assert facts["moved"][0] > 0.005 and facts["moved"][1] > 0.005
    assert facts["strips"] == [[1.0, str(audio)], [20.0, str(audio)]]
    assert len(facts["actions"]) == 3

    info = talkhead(environment, "info", "--file", other, "--json")
    told = json.loads(info.stdout.splitlines()[-1])
    assert info.returncode == 0 and told["backend"]["packages"]["torch"] == "0.0"
    assert [head["object"] for head in told["heads"]] == ["TalkHead", "TalkHead.001"]

    removed = talkhead(environment, "remove", "TalkHead.001", "--file", other)
    assert removed.returncode == 0, removed.stderr
    assert files_in(other.parent) == ["b.blend"]
    assert inspect(other, "TalkHead")["strips"] == [[20.0, str(audio)]]
    assert talkhead(environment, "remove", "TalkHead.001", "--file", other).returncode == 3


@pytest.mark.parametrize(
    ("behaviour", "code", "words"),
    [
        ("error1", 1, "told to fail with 1"),
        ("error3", 3, "told to fail with 3"),
        ("error4", 4, "told to fail with 4"),
        ("die", 4, "the log's last words"),
        ("silent", 4, "ended unexpectedly"),
        ("damage", 4, "damaged"),
        ("protocol", 4, "protocol 99"),
    ],
)
def test_failures_of_the_backend(
    tmp_path: Path, audio: Path, environment: dict[str, str], behaviour: str, code: int, words: str
) -> None:
    out = tmp_path / "out"
    result = talkhead(environment, "animate", audio, "--output", out / "a.blend", "--json", FAKE_BACKEND=behaviour)
    assert result.returncode == code
    assert words in result.stderr
    last = json.loads(result.stdout.splitlines()[-1])
    assert last["type"] == "error" and last["exit_code"] == code and words in last["text"]
    assert not out.exists()


def test_bad_input_and_missing_backend(tmp_path: Path, audio: Path, environment: dict[str, str]) -> None:
    blend = tmp_path / "scene.blend"
    assert talkhead(environment, "animate", audio, "--output", blend).returncode == 0
    before = blend.read_bytes()
    (tmp_path / "text.blend").write_text("not a blend file")
    (tmp_path / "occupied").write_text("")
    known = files_in(tmp_path)
    cases: list[tuple[int, str, list[object], dict[str, str]]] = [
        (3, "no recording", ["animate", "missing.wav", "--output", blend], {}),
        (3, "no file", ["animate", audio, "--file", "missing.blend"], {}),
        (3, "cannot open", ["animate", audio, "--file", tmp_path / "text.blend"], {}),
        (3, "no object", ["animate", audio, "--file", blend, "--target", "Nobody"], {}),
        (3, "must be a mesh", ["animate", audio, "--file", blend, "--target", "Key light"], {}),
        (3, "4 vertices", ["animate", audio, "--file", blend, "--target", "Backdrop"], {}),
        (4, "TALKHEAD_PYTHON", ["animate", audio, "--output", blend], {"TALKHEAD_PYTHON": "/nowhere/python"}),
        (1, "occupied", ["animate", audio, "--output", tmp_path / "occupied" / "a.blend"], {}),
        (2, "has mmtalker and facetalk", ["animate", audio, "--output", blend, "--method", "hicode"], {}),
    ]
    for code, words, arguments, variables in cases:
        result = talkhead(environment, *arguments, **variables)
        assert result.returncode == code, (arguments, result.stderr)
        assert any(word in result.stderr for word in words.split("|")), result.stderr
        assert "Traceback" not in result.stderr
        assert files_in(tmp_path) == known and blend.read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_cancelling_ends_the_backend_and_leaves_nothing(
    tmp_path: Path, audio: Path, environment: dict[str, str], number: int
) -> None:
    out, process_file = tmp_path / "out", tmp_path / "backend_process"
    command = [sys.executable, "-m", "blender_talkhead", "animate", str(audio), "--output", str(out / "a.blend")]
    variables = {"FAKE_BACKEND": "hang", "FAKE_BACKEND_PID": str(process_file)}
    with subprocess.Popen(
        command, cwd=REPOSITORY, env={**environment, **variables}, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not (process_file.exists() and process_file.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        _, log = process.communicate(timeout=60)
    assert process.returncode == 5, log
    assert "cancelled" in log and "Traceback" not in log
    assert not out.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(process_file.read_text()), 0)


def test_too_long_for_absolute_keys_is_refused_before_the_backend_runs(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    path = tmp_path / "long.wav"
    with wave.open(str(path), "wb") as file:  # an hour and more of silence, sparse on disk
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(2000)
        file.writeframes(b"\x80" * (2000 * 3600))
    out = tmp_path / "out"
    result = talkhead(
        environment,
        "animate",
        path,
        "--output",
        out / "a.blend",
        "--bake",
        "per-frame",
        "--fps",
        60,
        FAKE_BACKEND="die",
    )
    assert result.returncode == 3 and "use the bake mode cache" in result.stderr
    assert not out.exists()


def test_batch(tmp_path: Path, audio: Path, environment: dict[str, str]) -> None:
    """Jobs of a list, one after another, with one backend process; a failed one does not stop the others."""
    log = tmp_path / "log.txt"
    jobs = tmp_path / "jobs.csv"
    jobs.write_text(
        "audio, output, bake, start, extend_range\n"
        "speech.wav, out/a.blend, , , \n"
        "missing.wav, out/b.blend, , , \n"
        "speech.wav, out/c.blend, per-frame, 7, yes\n",
        encoding="utf-8",
    )
    result = talkhead(environment, "batch", jobs, "--json", FAKE_BACKEND_LOG=str(log))
    assert result.returncode == 3, result.stderr
    messages = [json.loads(line) for line in result.stdout.splitlines()]
    ends = [(m["job"], m["type"]) for m in messages if m["type"] in {"done", "error"}]
    assert ends == [("1", "done"), ("2", "error"), ("3", "done"), ("", "done")]
    summary = messages[-1]
    assert (summary["num_jobs"], summary["num_done"], summary["num_failed"]) == (3, 2, 1)
    assert [job["exit_code"] for job in summary["jobs"]] == [0, 3, 0]
    assert files_in(tmp_path / "out") == ["a.blend", "c.blend"]
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["process", "job", "job"], "one warm backend"
    facts = inspect(tmp_path / "out" / "c.blend", "TalkHead")
    assert facts["objects"].count("TalkHead") == 1 and facts["range"][0] == 7 and facts["moved"][0] > 0.001
    stopped = talkhead(environment, "batch", jobs, "--stop-on-error")
    assert stopped.returncode == 3 and "1 of 3 jobs done, 1 failed" in stopped.stderr
    assert "[2/3] error: there is no recording" in stopped.stderr and "[3/3]" not in stopped.stderr
    before = files_in(tmp_path)
    jobs.write_text("audio,output,colour\nspeech.wav,d.blend,red\n", encoding="utf-8")
    wrong = talkhead(environment, "batch", jobs)
    assert wrong.returncode == 2 and "jobs.csv, job 1" in wrong.stderr and files_in(tmp_path) == before


def test_batch_onto_a_file(tmp_path: Path, audio: Path, environment: dict[str, str]) -> None:
    """Jobs of a TOML list with defaults, each from the same file onto the same object."""
    first = tmp_path / "shot.blend"
    assert talkhead(environment, "animate", audio, "--output", first).returncode == 0
    jobs = tmp_path / "jobs.toml"
    jobs.write_text(
        '[defaults]\naudio = "speech.wav"\nfile = "shot.blend"\ntarget = "TalkHead"\n'
        '[[job]]\noutput = "1.blend"\nstart = 3\n[[job]]\noutput = "2.blend"\nvertices = 625\nextend-range = true\n',
        encoding="utf-8",
    )
    result = talkhead(environment, "batch", jobs)
    assert result.returncode == 0 and "2 of 2 jobs done" in result.stderr, result.stderr
    one, two = (inspect(tmp_path / f"{name}.blend", "TalkHead") for name in (1, 2))
    assert one["strips"] == [[3.0, str(audio)]] and two["strips"] == [[1.0, str(audio)]]
    assert one["moved"][0] > 0.001 and two["moved"][0] > 0.001, "the second at another resolution"
