"""Stands in for the Python of the backend: a real process that writes made-up clips, fails, dies or hangs.

Started as `fake_python -m torch_backend serve` or `info`; FAKE_BACKEND says how it behaves,
FAKE_BACKEND_LOG names a file that gets a line for each process and each job.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from blender_talkhead.contract.identity_change import IdentityChange, save_identity_change
from blender_talkhead.contract.jobs import AnimateJob, CharacterJob, InfoJob, ReshapeJob, take_folders
from blender_talkhead.contract.mesh_sequence import MeshSequenceWriter
from blender_talkhead.contract.messages import PROTOCOL_VERSION, CancelMessage, JobMessage, decode_request
from blender_talkhead.contract.result import ResultInfo
from blender_talkhead.facial.identities import resolve_identity
from tests.synthetic_clip import make_ball, make_template, write_synthetic_clip


def emit(**content: object) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


def serve(behaviour: str) -> int:
    """Do jobs until stdin ends."""
    note(f"process {os.getpid()}")
    emit(type="hello", protocol_version=99 if behaviour == "protocol" else PROTOCOL_VERSION, pid=os.getpid())
    for line in sys.stdin:
        request = decode_request(line)
        if isinstance(request, JobMessage):
            note(f"job {request.id} {type(request.job).__name__}")
            do_job(request, behaviour)
        elif not isinstance(request, CancelMessage):
            break
    return 0


def do_job(request: JobMessage, behaviour: str) -> None:
    job, name = request.job, request.id
    if isinstance(job, InfoJob):
        emit(type="info", facts={"torch": "0.0"}, job=name)
        return
    if isinstance(job, CharacterJob | ReshapeJob) and not behaviour:
        (make_character if isinstance(job, CharacterJob) else reshape)(job)
        emit(type="done", folder=str(job.output), job=name)
        return
    if behaviour.startswith("error") and not isinstance(job, AnimateJob):
        emit(
            type="error",
            exit_code=int(behaviour.removeprefix("error")),
            text=f"told to fail with {behaviour}",
            job=name,
        )
        return
    if not isinstance(job, AnimateJob):
        emit(type="done", folder="", job=name)
        return
    sys.stdout.write("a library that prints\n")
    emit(type="progress", phase="listening", fraction=0.1, seconds_left=None, job=name)
    sys.stderr.write("the log's last words\n")
    sys.stderr.flush()
    if behaviour.startswith("error"):
        code = int(behaviour.removeprefix("error"))
        emit(type="error", exit_code=code, text=f"told to fail with {code}", job=name)
        return
    if behaviour == "die":
        os._exit(9)
    if behaviour == "hang":
        Path(os.environ["FAKE_BACKEND_PID"]).write_text(str(os.getpid()))
        time.sleep(120)
    if behaviour == "silent":
        sys.exit(0)
    emit(type="warning", text="made-up motion", job=name)
    columns = round((job.vertices or 441) ** 0.5)
    info = {
        "audio_path": str(job.audio),
        "options": {
            "vertices": job.vertices,
            "identity": job.identity,
            "identity_parameters": resolve_identity(job.identity),
        },
        "seed": job.seed,
        "num_frames": int(os.environ.get("FAKE_BACKEND_FRAMES", "40")),
    }
    make_takes(job, name, info, columns)
    if behaviour == "damage":
        name_of_array = "faces.npy" if job.surface == "sequence" else "vertex_offsets.npy"
        (take_folders(job)[-1] / name_of_array).write_bytes(b"")
    emit(type="progress", phase="animating", fraction=1.0, seconds_left=0.0, job=name)
    first, *further = map(str, take_folders(job))
    emit(type="done", folder=first, job=name, more_folders=further)


def make_takes(job: AnimateJob, name: str, info: dict[str, object], columns: int) -> None:
    """A clip; for FaceTalk one for each take, or balls of more and more rings, kept as the real one does.

    FAKE_BACKEND_SECONDS is how long a frame takes.
    """
    for index, output in enumerate(take_folders(job)):
        take = job.take + index
        if job.method != "facetalk":
            write_synthetic_clip(output, int(str(info["num_frames"])), columns, job.seed, info)
            continue
        options = {**info["options"], "take": take, "surface": job.surface, "grid": job.grid}  # type: ignore[dict-item]
        facts = {**info, "method": "facetalk", "frame_rate": 24.0, "options": options}
        if job.surface == "tracked":
            write_synthetic_clip(output, int(str(info["num_frames"])), columns, job.seed + take, facts)
            continue
        fields = {"kind": "mesh_sequence", "audio_sha256": "ab" * 32, "weights_sha256": "cd" * 32, **facts}
        kept = output if job.cache is None else job.cache / f"{job.seed}-{take}-{job.grid}"
        if not (kept / "result.json").is_file():
            write_balls(kept, ResultInfo(**fields), job, take, name)  # type: ignore[arg-type]
        if kept != output:
            shutil.copytree(kept, output)


def write_balls(folder: Path, info: ResultInfo, job: AnimateJob, take: int, name: str) -> None:
    with MeshSequenceWriter(folder, info, True, job.cache is not None) as writer:
        note(f"take {take} from frame {writer.num_written}")
        for index in range(writer.num_written, info.num_frames):
            time.sleep(float(os.environ.get("FAKE_BACKEND_SECONDS", "0")))
            mesh = make_ball(job.grid // 8 + index % 3, 0.1 * index + take)
            writer.append(mesh.vertices, mesh.faces, mesh.colors)
            emit(type="progress", phase="making surfaces", fraction=index / info.num_frames, seconds_left=1.0, job=name)
        writer.commit()


def face_map(identity: str | None) -> np.ndarray:
    """A stand-in's identity (3, 3): wider by a fifth at face_width 1, sheared by face_length."""
    parameters = resolve_identity(identity)
    width, length = parameters.get("face_width", 0.0), parameters.get("face_length", 0.0)
    return np.array([[1 + 0.2 * width, 0, 0], [0, 1 + 0.1 * length, 0.3 * length], [0, 0, 1]], np.float32)


def make_character(job: CharacterJob) -> None:
    info = {
        "method": "character",
        "audio_path": "",
        "audio_sha256": "",
        "weights_sha256": "",
        "seed": job.seed,
        "options": {
            "vertices": job.vertices,
            "identity": job.identity,
            "identity_parameters": resolve_identity(job.identity),
        },
    }
    write_synthetic_clip(job.output, 1, round((job.vertices or 441) ** 0.5), job.seed, info)


def reshape(job: ReshapeJob) -> None:
    rest = make_template(round((job.vertices or 441) ** 0.5)).template_vertices
    before, after = face_map(job.previous_identity), face_map(job.identity)
    eye = np.array([0.03, 0.04, 0.03], np.float32)

    def pivots(face: np.ndarray) -> dict[str, tuple[float, float, float]]:
        left = tuple(float(value) for value in face @ eye)
        return {"head": (0.0, 0.0, 0.0), "eye_left": left, "eye_right": (-left[0], left[1], left[2])}

    jacobians = np.broadcast_to(after @ np.linalg.inv(before), (len(rest), 3, 3)).astype(np.float32)
    nothing = np.zeros(0, np.int32)
    change = IdentityChange(
        rest @ after.T, rest @ before.T, jacobians, nothing, nothing, jacobians[:0], pivots(after), pivots(before)
    )
    save_identity_change(job.output, change)


def note(text: str) -> None:
    if "FAKE_BACKEND_LOG" in os.environ:
        with Path(os.environ["FAKE_BACKEND_LOG"]).open("a", encoding="utf-8") as file:
            file.write(text + "\n")


def main() -> int:
    arguments = sys.argv[sys.argv.index("torch_backend") + 1 :]
    if arguments[0] == "info":
        versions = {"python_version": "3.11.0", "protocol_version": PROTOCOL_VERSION}
        emit(type="info", packages={"torch": "0.0"}, devices=[], torch_error=None, **versions)
        return 0
    if arguments[0] == "serve":
        return serve(os.environ.get("FAKE_BACKEND", ""))
    sys.stderr.write(f"not a command of this stand-in: {arguments}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
