"""Stands in for the Python of the backend: a real process that writes a made-up clip, fails, dies or hangs.

Started as `fake_python -m torch_backend animate AUDIO --output DIR ...`; FAKE_BACKEND says how it behaves.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.synthetic_clip import write_synthetic_clip


def emit(**content: object) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


def animate(options: argparse.Namespace, behaviour: str) -> int:
    emit(type="hello", protocol_version=99 if behaviour == "protocol" else 1, talkhead_version="0")
    sys.stdout.write("a library that prints\n")
    emit(type="progress", phase="listening", fraction=0.1, seconds_left=None)
    sys.stderr.write("the log's last words\n")
    if behaviour.startswith("error"):
        code = int(behaviour.removeprefix("error"))
        emit(type="error", exit_code=code, text=f"told to fail with {code}")
        return code
    if behaviour == "die":
        os._exit(9)
    if behaviour == "hang":
        Path(os.environ["FAKE_BACKEND_PID"]).write_text(str(os.getpid()))
        time.sleep(120)
    if behaviour == "silent":
        return 0
    emit(type="warning", text="made-up motion")
    columns = round((options.vertices or 441) ** 0.5)
    info = {
        "audio_path": options.audio,
        "options": {"vertices": options.vertices, "identity": options.identity},
        "seed": options.seed,
        "num_frames": int(os.environ.get("FAKE_BACKEND_FRAMES", "40")),
    }
    write_synthetic_clip(Path(options.output), info["num_frames"], columns, options.seed, info)
    if behaviour == "damage":
        (Path(options.output) / "vertex_offsets.npy").write_bytes(b"")
    emit(type="progress", phase="animating", fraction=1.0, seconds_left=0.0)
    emit(type="done", folder=options.output)
    return 0


def main() -> int:
    arguments = sys.argv[sys.argv.index("torch_backend") + 1 :]
    if arguments[0] == "info":
        emit(torch="0.0", devices=["cpu"], arguments=arguments)
        return 0
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("audio")
    for name in ("method", "output", "device", "identity"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--vertices", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    return animate(parser.parse_args(arguments), os.environ.get("FAKE_BACKEND", ""))


if __name__ == "__main__":
    sys.exit(main())
