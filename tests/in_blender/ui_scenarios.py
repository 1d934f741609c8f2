"""The job behind the panel and its operators, without a window: a made-up worker answers, a loop calls the ticks.

The window itself is driven in tests/extension.
"""

from __future__ import annotations

import os
import sys
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from blender_talkhead import registration
from blender_talkhead.backend_client import shared_worker
from blender_talkhead.bake.animation import AnimationSettings, bake_animation
from blender_talkhead.contract.errors import ExitCode
from blender_talkhead.contract.messages import DoneMessage, ErrorMessage, Message, ProgressMessage, WarningMessage
from blender_talkhead.contract.motion_clip import load_motion_clip
from blender_talkhead.operators.animation_job import BAKING, CANCELLED, DONE, FAILED, AnimationJob
from blender_talkhead.operators.request import read_settings, vertices_for
from blender_talkhead.preferences import PreferenceValues, read_preferences
from blender_talkhead.scene.mesh import read_evaluated_positions
from blender_talkhead.session import session
from blender_talkhead.ui.estimates import OWN_MESH_VERTICES, PARTS_VERTICES
from blender_talkhead.ui.reasons import why_not_animate
from blender_talkhead.ui.takes import list_takes
from tests.in_blender.file_state import file_state
from tests.synthetic_clip import write_synthetic_clip

FAKE_BACKEND = Path(__file__).resolve().parents[1] / "integration" / "fake_backend.py"
FRAMES, COLUMNS = 60, 25


class MadeUpWorker:
    """Answers as a worker does, one entry of `script` at each poll."""

    def __init__(self) -> None:
        self.script: list[list[Message]] = []
        self.jobs: list[Any] = []
        self.was_ended = False
        self._is_cancelled = False

    def submit(self, job: Any) -> str:
        self.jobs.append(job)
        return "1"

    def poll(self, job: str | None = None) -> list[Message]:
        assert job == "1"
        if self._is_cancelled:
            return [ErrorMessage(ExitCode.CANCELLED, "cancelled")]
        return self.script.pop(0) if self.script else []

    def cancel(self, job: str) -> None:
        assert job == "1"
        self._is_cancelled = True

    def end(self) -> None:
        self.was_ended = True

    def write_clip(self) -> Message:
        """Write the result that the last job asked for."""
        return DoneMessage(str(write_synthetic_clip(self.jobs[-1].output, FRAMES, COLUMNS)))


def job_goes_from_start_to_take(folder: Path) -> None:
    """Phases, fractions that never fall, time left, warnings, the take, and no folder left behind."""
    with enabled(folder):
        job, worker = start(folder)
        worker.script = [
            [],
            [ProgressMessage("reading audio", 0.0)],
            [ProgressMessage("animating", 0.5, 4.0), WarningMessage("quiet recording")],
            [ProgressMessage("animating", 0.4, 3.0)],
            [worker.write_clip()],
        ]
        seen = [(job.phase, job.fraction, job.seconds_left)]
        while not job.is_finished:
            job.tick()
            seen.append((job.phase, round(job.fraction, 9), job.seconds_left))
        phases = list(dict.fromkeys(phase for phase, _, _ in seen))
        assert phases == ["starting the backend", "reading audio", "animating", BAKING, DONE], phases
        fractions = [fraction for _, fraction, _ in seen]
        assert fractions == sorted(fractions) and fractions[-1] == 1.0
        assert ("animating", 0.46, 4.0) in seen  # half of the backend's part, which is 0.92
        assert job.has_succeeded and job.take is not None and "quiet recording" in job.warnings
        assert bpy.data.objects[job.take.object_name].data.shape_keys is not None
        assert list(work_folder(folder).iterdir()) == []
        assert (job.count_ticks("working"), job.count_ticks()) == (5, 5 + job.count_ticks("baking"))
        assert not job.tick() and job.count_ticks("working") == 5
        (row,) = list_takes()
        assert (row.object_name, row.recording) == (job.take.object_name, "speech.wav")
        assert row.detail == f"541 vertices, {job.take.num_shape_keys} keys, seed 0"


def job_ends_without_a_trace(folder: Path) -> None:
    """Errors, damaged results, and cancels at every stage: a message, no folder, and the file as it was."""
    with enabled(folder):
        before = file_state()

        def check(script: Callable[[MadeUpWorker], list[list[Message]]], act: Callable[[AnimationJob], None]) -> Any:
            job, worker = start(folder)
            worker.script = script(worker)
            ticks = 0
            while not job.is_finished and ticks < 10_000:
                job.tick()
                act(job)
                ticks += 1
            assert file_state() == before
            assert list(work_folder(folder).iterdir()) == []
            return job.phase, job.error, worker.was_ended

        def nothing(job: AnimationJob) -> None:
            del job

        def working(worker: MadeUpWorker) -> list[list[Message]]:
            return [[ProgressMessage("animating", 0.1)]] * 3

        def baking(worker: MadeUpWorker) -> list[list[Message]]:
            return [[worker.write_clip()]]

        def damaged(worker: MadeUpWorker) -> list[list[Message]]:
            message = worker.write_clip()
            (worker.jobs[-1].output / "vertex_offsets.npy").write_bytes(b"")
            return [[message]]

        text = "the recording holds no sound; choose another"
        assert check(lambda worker: [[ErrorMessage(ExitCode.BAD_INPUT, text)]], nothing) == (FAILED, text, False)
        assert check(lambda worker: [[ErrorMessage(ExitCode.CANCELLED, "x")]], nothing) == (CANCELLED, "", False)
        assert check(working, AnimationJob.cancel) == (CANCELLED, "", False)
        assert check(working, AnimationJob.abandon) == (CANCELLED, "", True)
        phase, error, _ = check(damaged, nothing)
        assert phase == FAILED and "clip" in error, error
        phase, error, _ = check(lambda worker: [[DoneMessage(str(folder / "nowhere"))]], nothing)
        assert phase == FAILED and "nowhere" in error
        assert check(baking, lambda job: job.cancel() if job.is_baking else None) == (CANCELLED, "", False)
        assert check(baking, lambda job: job.abandon() if job.is_baking else None) == (CANCELLED, "", True)


def job_outlives_lost_data(folder: Path) -> None:
    """Scene or target deleted while the backend works: a message, no crash; a renamed recording does no harm."""
    with enabled(folder):
        scene = bpy.data.scenes.new("to be lost")
        job, worker = start(folder, scene)
        bpy.data.scenes.remove(scene)
        worker.script = [[worker.write_clip()]]
        assert run_out(job).phase == FAILED and 'the scene "to be lost" is gone' in job.error
        job, worker = start(folder)
        worker.script = [[worker.write_clip()]]
        head = bpy.data.objects[run_out(job).take.object_name]
        job, worker = start(folder, target=head.name)
        bpy.data.objects.remove(head)
        worker.script = [[worker.write_clip()]]
        assert run_out(job).phase == FAILED and "there is no object" in job.error


def job_makes_what_the_function_makes(folder: Path) -> None:
    """Ticks and the blocking function give the same head, frame by frame."""
    with enabled(folder):
        job, worker = start(folder)
        worker.script = [[worker.write_clip()]]
        first = run_out(job).take.object_name
        clip = load_motion_clip(write_synthetic_clip(folder / "clip", FRAMES, COLUMNS))
        settings = AnimationSettings(audio=recording(folder))
        second = bake_animation(settings, clip, bpy.context.scene).object_name
        assert first != second
        for frame in (1, 2, 17, 30, 48):
            bpy.context.scene.frame_set(frame)
            shown = bpy.context.evaluated_depsgraph_get()
            one, other = (read_evaluated_positions(bpy.data.objects[name], shown) for name in (first, second))
            assert np.array_equal(one, other) and np.ptp(one) > 0.1


def operator_runs_blocking(folder: Path) -> None:
    """Without a window the operator runs to the end with a real process; errors are reported, and nothing else runs."""
    with enabled(folder):
        use_fake_backend(folder)
        settings = bpy.context.scene.talkhead
        status = bpy.context.window_manager.talkhead
        expect_error("Choose a recording", bpy.ops.talkhead.animate)
        settings.audio, settings.start, settings.identity = str(recording(folder)), 11, "lean"
        settings.vertices = 900
        assert bpy.ops.talkhead.animate() == {"FINISHED"}
        assert (status.phase, status.fraction, status.running) == ("done", 1.0, False)
        assert status.message.startswith("TalkHead speaks") and status.tick_milliseconds > 0
        assert [row.object_name for row in list_takes()] == ["TalkHead"]
        curve = bpy.data.objects["TalkHead"].data.shape_keys.animation_data.action
        assert curve.frame_range[0] == 11
        os.environ["FAKE_BACKEND"] = "error3"
        shared_worker.close_shared_worker()
        before = file_state()
        expect_error("told to fail with 3", bpy.ops.talkhead.animate)
        assert status.phase == "failed" and status.message == "told to fail with 3" and file_state() == before
        os.environ["FAKE_BACKEND"] = "die"
        shared_worker.close_shared_worker()
        expect_error("exit code 9", bpy.ops.talkhead.animate)
        assert file_state() == before
        assert bpy.ops.talkhead.remove(name="TalkHead") == {"FINISHED"}
        assert list_takes() == [] and "TalkHead" not in bpy.data.objects
        expect_error("no head", bpy.ops.talkhead.remove, name="TalkHead")


def another_file_ends_the_job(folder: Path) -> None:
    """Loading a file, and disabling the extension, end the job and its process at once, leaving no folder."""
    with enabled(folder):
        python = use_fake_backend(folder, "hang")
        blend = folder / "other.blend"
        bpy.ops.wm.save_as_mainfile(filepath=str(blend))
        for end in (lambda: bpy.ops.wm.open_mainfile(filepath=str(blend)), lambda: registration.unregister("talkhead")):
            worker = shared_worker.shared_worker(python)
            job = session.job = AnimationJob(
                AnimationSettings(audio=recording(folder)),
                bpy.context.scene.name,
                worker,
                work_folder(folder),
                shared_worker.close_shared_worker,
            )
            process = wait_for_process(folder, job)
            assert "already" not in why_not_animate(bpy.context)
            assert why_not_animate(bpy.context).startswith("An animation is being made")
            expect_error("An animation is being made", bpy.ops.talkhead.animate)
            end()
            assert job.was_cancelled and not is_alive(process)
            if session.job is not None:
                assert [note.text for note in session.notes] == [
                    "The animation was cancelled, because another file was opened"
                ]
            assert list(work_folder(folder).iterdir()) == []
        assert session.job is None
        registration.register("talkhead")


def panel_says_why_not(folder: Path) -> None:
    """Every disabled state has its reason, each with what to do; the operator's tooltip says the same."""
    with enabled(folder):
        scene = bpy.context.scene
        settings = scene.talkhead
        reason = lambda: why_not_animate(bpy.context)  # noqa: E731
        assert reason() == "Choose a recording"
        settings.audio = str(folder)
        assert "is a folder" in reason()
        settings.audio = str(folder / "gone.wav")
        assert "There is no file" in reason() and "gone.wav" in reason()
        settings.audio = str(recording(folder))
        assert reason() == ""
        settings.target_kind = "OBJECT"
        assert "Choose the object" in reason()
        settings.target = bpy.data.objects.new("elsewhere", bpy.data.meshes.new("elsewhere"))
        assert "is not in this scene" in reason()
        scene.collection.objects.link(settings.target)
        assert "0 vertices" in reason()
        settings.target_kind, settings.bake = "NEW", "cache"
        assert "save the file first" in reason()
        settings.bake = "basis"
        settings.source = "STRIP"
        assert "no sound strip" in reason()
        settings.source = "FILE"
        session.missing = "no Python with torch was found"
        assert reason().startswith("No backend yet")
        session.missing = ""
        assert reason() == ""
        expect_error("Choose a recording", lambda: with_audio("", bpy.ops.talkhead.animate))
        sys.modules["numpy"], kept = None, sys.modules["numpy"]  # type: ignore[assignment]
        try:
            from blender_talkhead.ui.reasons import has_numpy

            has_numpy.cache_clear()
            assert "numpy" in reason() and "python3-numpy" in reason()
        finally:
            sys.modules["numpy"] = kept
            has_numpy.cache_clear()


def settings_are_read(folder: Path) -> None:
    """What the panel says reaches the animation, from a file, a strip, and for each kind of target."""
    with enabled(folder):
        scene, values = bpy.context.scene, PreferenceValues(device="cpu")
        chosen = scene.talkhead
        chosen.audio, chosen.vertices, chosen.seed, chosen.start = str(recording(folder)), 1234, 7, -3
        chosen.identity, chosen.identity_seed, chosen.bake, chosen.extend_range = "random", 5, "per-frame", True
        expected = AnimationSettings(
            audio=recording(folder), vertices=1234, identity="5", seed=7, device="cpu", bake="per-frame", start=-3,
            extend_range=True,
        )  # fmt: skip
        assert read_settings(scene, values) == expected
        chosen.identity = "lean"
        assert read_settings(scene, values).identity == "lean"
        job, worker = start(folder)
        worker.script = [[worker.write_clip()]]
        head = bpy.data.objects[run_out(job).take.object_name]
        chosen.target_kind, chosen.target = "OBJECT", head
        of_target = read_settings(scene, values)
        assert (of_target.target, of_target.vertices, of_target.identity) == (head.name, 1234, None)
        for skin, asked in ((1500, 1500), (5000, 5000), (OWN_MESH_VERTICES, None), (100, None), (100_000, None)):
            mesh = bpy.data.meshes.new("own")
            mesh.vertices.add(skin + PARTS_VERTICES)
            assert vertices_for(bpy.data.objects.new("own", mesh), 1234) == asked
        assert read_preferences() == PreferenceValues()  # no entry in Blender's preferences


@contextmanager
def enabled(folder: Path) -> Iterator[None]:
    """The extension, registered in an empty file."""
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    work_folder(folder).mkdir(exist_ok=True)
    registration.register("talkhead")
    try:
        yield
    finally:
        registration.unregister("talkhead")


def start(folder: Path, scene: Any = None, target: str | None = None) -> tuple[AnimationJob, MadeUpWorker]:
    worker = MadeUpWorker()
    settings = AnimationSettings(audio=recording(folder), target=target)
    name = (scene or bpy.context.scene).name
    return AnimationJob(settings, name, worker, work_folder(folder), worker.end), worker


def run_out(job: AnimationJob) -> Any:
    for _ in range(10_000):
        if job.is_finished:
            return job
        job.tick()
    raise AssertionError(f"the job did not end: {job.phase}")


def recording(folder: Path) -> Path:
    path = folder / "speech.wav"
    if not path.exists():
        with wave.open(str(path), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(16_000)
            sound.writeframes((9_000 * np.sin(np.arange(32_000) * 0.1)).astype("<i2").tobytes())
    return path


def work_folder(folder: Path) -> Path:
    return folder / "work"


def use_fake_backend(folder: Path, behaviour: str = "") -> Path:
    """A program that stands in for the backend's Python, named by TALKHEAD_PYTHON."""
    python = folder / "fake_python"
    program = os.environ.get("TALKHEAD_TEST_PYTHON", sys.executable)
    python.write_text(f'#!/bin/sh\nexec "{program}" "{FAKE_BACKEND}" "$@"\n')
    python.chmod(0o755)
    os.environ["FAKE_BACKEND"] = behaviour
    os.environ["FAKE_BACKEND_PID"] = str(folder / "pid")
    os.environ["TALKHEAD_PYTHON"] = str(python)
    return python


def wait_for_process(folder: Path, job: AnimationJob) -> int:
    """The number of the hanging backend's process."""
    path = folder / "pid"
    path.unlink(missing_ok=True)
    for _ in range(600):
        job.tick()
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.05)
    raise AssertionError("the backend did not start")


def is_alive(process: int) -> bool:
    for _ in range(40):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


def with_audio(audio: str, call: Callable[[], Any]) -> Any:
    bpy.context.scene.talkhead.audio = audio
    return call()


def expect_error(text: str, call: Callable[..., Any], **values: Any) -> None:
    """An operator that reports an error raises RuntimeError in a script."""
    try:
        result = call(**values)
    except RuntimeError as error:
        assert text in str(error), str(error)
    else:
        raise AssertionError(f"expected an error with {text!r}, got {result}")
