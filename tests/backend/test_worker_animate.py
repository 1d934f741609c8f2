"""Animating in the worker: the same bytes as the command, models that stay warm, sections, bases, and cancels."""

from __future__ import annotations

import io
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from blender_talkhead.contract.errors import CancelledError, ExitCode
from blender_talkhead.contract.jobs import AnimateJob, DummyJob
from blender_talkhead.contract.messages import (
    CancelMessage,
    DoneMessage,
    ErrorMessage,
    HelloMessage,
    Message,
    ProgressMessage,
    ReleasedMessage,
    ShutdownMessage,
    WarningMessage,
    decode_message,
)
from blender_talkhead.contract.motion_clip import load_motion_clip
from tests.running_worker import RunningWorker, running_worker
from tests.untrained_weights import make_speech, write_untrained_weights
from torch_backend import clip_output, handlers
from torch_backend.command_line import main
from torch_backend.emitter import Emitter

SAMPLE_RATE = 22_050
LIMIT_MM = 0.02


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_untrained_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, make_speech(3.0, SAMPLE_RATE), SAMPLE_RATE, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def long_speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "long.wav"
    soundfile.write(path, np.tile(make_speech(30.0), 10), 16_000)
    return path


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWorker]:
    with running_worker() as running:
        assert isinstance(running.next(), HelloMessage)
        yield running


@pytest.fixture
def job(tmp_path: Path, speech: Path, weights: list[str]) -> AnimateJob:
    """Animates the recording into tmp_path / "clip"."""
    _, model, _, encoder = weights
    return AnimateJob(speech, tmp_path / "clip", vertices=600, weights=Path(model), encoder=encoder)


def finish(worker: RunningWorker, job: AnimateJob, job_id: str = "a") -> Path:
    worker.submit(job_id, job)
    assert worker.answer(job_id) == DoneMessage(str(job.output), job_id)
    return job.output


def array_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "result.json"}


def is_animating(message: Message) -> bool:
    return isinstance(message, ProgressMessage) and message.phase == "animating" and message.fraction > 0.08


def test_same_bytes_as_the_command_after_any_other_job(
    worker: RunningWorker, job: AnimateJob, tmp_path: Path, speech: Path, weights: list[str]
) -> None:
    finish(worker, replace(job, output=tmp_path / "before", identity="3", threads=2, seed=7))
    finish(worker, replace(job, threads=1))
    arguments = ["animate", str(speech), "--output", str(tmp_path / "command"), "--vertices", "600", *weights]
    assert main([*arguments, "--threads", "1"]) == ExitCode.DONE
    assert array_bytes(job.output) == array_bytes(tmp_path / "command")
    assert (job.output / "result.json").read_text() == (tmp_path / "command" / "result.json").read_text()
    assert array_bytes(job.output) != array_bytes(tmp_path / "before")


def test_a_warm_worker_starts_at_once(job: AnimateJob) -> None:
    seconds = []
    with running_worker() as worker:
        worker.next()
        for _ in range(2):
            begun = time.monotonic()
            worker.submit("a", job)
            worker.until(lambda message: isinstance(message, ProgressMessage) and message.phase == "animating")
            seconds.append(time.monotonic() - begun)
            worker.answer("a")
    cold, warm = seconds
    assert warm < cold / 2


def test_models_are_let_go_when_idle_and_come_back(job: AnimateJob, tmp_path: Path) -> None:
    with running_worker("--idle-seconds", 0.5) as worker:
        worker.next()
        worker.submit("dummy", DummyJob(0.0))
        worker.answer("dummy")
        finish(worker, job)
        assert isinstance(worker.next(timeout=5), ReleasedMessage)
        finish(worker, replace(job, output=tmp_path / "again"))
        assert isinstance(worker.next(timeout=5), ReleasedMessage)
        worker.send(ShutdownMessage())
        assert worker.rest() == []
    assert array_bytes(job.output) == array_bytes(tmp_path / "again")


def test_weights_that_changed_are_loaded_again(worker: RunningWorker, job: AnimateJob, tmp_path: Path) -> None:
    from torch_backend.models.checkpoints import load_checkpoint, save_checkpoint

    assert job.weights is not None
    copy = tmp_path / "copy.safetensors"
    shutil.copy(job.weights, copy)
    before = finish(worker, replace(job, weights=copy, output=tmp_path / "before"))
    tensors, metadata = load_checkpoint(copy, "mmtalker")
    tensors["decoder.output.weight"] *= 0.5
    save_checkpoint(copy, tensors, metadata)
    after = finish(worker, replace(job, weights=copy, output=tmp_path / "after"))
    # of the skin: the tongue moves by itself, without the network
    offsets = [load_motion_clip(folder).read_offsets(0, 91)[:, : job.vertices] for folder in (before, after)]
    assert np.abs(offsets[1]).max() < 0.9 * np.abs(offsets[0]).max()
    assert load_motion_clip(before).info.weights_sha256 != load_motion_clip(after).info.weights_sha256


@pytest.mark.parametrize(("start", "duration"), [(0.0, 1.2), (0.7, None), (1.2345678, 0.9), (2.0, 50.0)])
def test_a_section_equals_a_file_of_this_section(
    worker: RunningWorker, job: AnimateJob, tmp_path: Path, start: float, duration: float | None
) -> None:
    sound, _ = soundfile.read(job.audio, dtype="int16")
    stop = None if duration is None else round((start + duration) * SAMPLE_RATE)
    soundfile.write(tmp_path / "part.wav", sound[round(start * SAMPLE_RATE) : stop], SAMPLE_RATE, subtype="PCM_16")
    of_file = finish(worker, replace(job, audio=tmp_path / "part.wav", output=tmp_path / "of_file"))
    section = replace(job, audio_start_seconds=start, audio_duration_seconds=duration)
    finish(worker, section)
    assert array_bytes(job.output) == array_bytes(of_file)
    info = load_motion_clip(job.output).info
    seconds = min(duration or 50.0, 3.0 - start)
    assert info.num_frames == int(seconds * 30 + 1e-6) + 1
    assert info.audio_path == str(job.audio)
    assert info.options["audio_start_seconds"] == start
    assert info.options["audio_duration_seconds"] == duration


@pytest.mark.parametrize(("start", "duration", "text"), [(3.5, None, "begins at 3.500 s"), (1.0, 0.05, "0.050 s")])
def test_sections_without_sound(
    worker: RunningWorker, job: AnimateJob, tmp_path: Path, start: float, duration: float | None, text: str
) -> None:
    worker.submit("a", replace(job, audio_start_seconds=start, audio_duration_seconds=duration))
    error = worker.answer("a")
    assert isinstance(error, ErrorMessage)
    assert error.exit_code == ExitCode.BAD_INPUT
    assert text in error.text
    assert list(tmp_path.iterdir()) == []


def test_a_basis_repeats_the_motion_within_its_limit(worker: RunningWorker, job: AnimateJob) -> None:
    worker.submit("a", replace(job, basis_error_limit_mm=LIMIT_MM))
    messages = worker.until(lambda message: isinstance(message, DoneMessage | ErrorMessage))
    assert isinstance(messages[-1], DoneMessage), messages[-1]
    phases = [message.phase for message in messages if isinstance(message, ProgressMessage)]
    expected = ["reading audio", "loading the model", "animating", "fitting shapes", "writing"]
    assert list(dict.fromkeys(phases)) == expected
    clip = load_motion_clip(job.output)
    assert clip.basis_shapes is not None
    assert clip.basis_weights is not None
    repeated = np.einsum("tk,kvc->tvc", clip.basis_weights.astype(np.float64), clip.basis_shapes.astype(np.float64))
    error = np.linalg.norm(repeated - clip.vertex_offsets, axis=2).max()
    assert clip.basis_max_error_m == pytest.approx(error, abs=1e-7)
    assert error <= clip.basis_error_limit_m == pytest.approx(LIMIT_MM / 1000)


def test_no_basis_is_made_where_none_is_asked_for(worker: RunningWorker, job: AnimateJob) -> None:
    clip = load_motion_clip(finish(worker, job))
    assert clip.basis_shapes is None
    assert clip.basis_max_error_m is None


@pytest.mark.parametrize(("limit_mm", "max_shapes"), [(LIMIT_MM, 1), (1e-9, 512)])
def test_a_motion_without_a_basis_within_reason_is_a_warning(
    job: AnimateJob, monkeypatch: pytest.MonkeyPatch, limit_mm: float, max_shapes: int
) -> None:
    monkeypatch.setattr(clip_output, "_MAX_SHAPES", max_shapes)
    output = io.StringIO()
    job = replace(job, basis_error_limit_mm=limit_mm, audio_duration_seconds=1.0)
    assert handlers.animate(job, Emitter(True, output, io.StringIO())) == job.output
    messages = [decode_message(line) for line in output.getvalue().splitlines()]
    warnings = [message.text for message in messages if isinstance(message, WarningMessage)]
    assert len(warnings) == 1
    assert "error limit" in warnings[0]
    assert load_motion_clip(job.output).basis_shapes is None


def test_cancel_while_fitting_leaves_nothing(job: AnimateJob, tmp_path: Path) -> None:
    def stop_when_fitting() -> None:
        if '"fitting shapes"' in output.getvalue():
            raise CancelledError("cancelled")

    output = io.StringIO()
    emitter = Emitter(True, output, io.StringIO(), "a", stop_when_fitting)
    with pytest.raises(CancelledError):
        handlers.animate(replace(job, basis_error_limit_mm=LIMIT_MM), emitter)
    assert list(tmp_path.iterdir()) == []


def test_cancel_leaves_nothing_and_keeps_the_model(
    worker: RunningWorker, job: AnimateJob, long_speech: Path, tmp_path: Path
) -> None:
    finish(worker, replace(job, output=tmp_path / "warm"))
    worker.submit("long", replace(job, audio=long_speech))
    worker.until(is_animating)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", ".partial"]
    begun = time.monotonic()
    worker.send(CancelMessage("long"))
    error = worker.answer("long")
    assert isinstance(error, ErrorMessage)
    assert error.exit_code == ExitCode.CANCELLED
    assert time.monotonic() - begun < 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["warm"]
    finish(worker, job)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM: a terminated process cannot clean up")
@pytest.mark.parametrize("how", ["SIGTERM", "end of stdin"])
def test_the_end_of_the_process_leaves_nothing(job: AnimateJob, long_speech: Path, tmp_path: Path, how: str) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with running_worker(environment=environment) as worker:
        worker.submit("long", replace(job, audio=long_speech, output=tmp_path / "new" / "clip"))
        worker.until(is_animating)
        assert len(list((tmp_path / "new").iterdir())) == 1
        assert list(temporary.iterdir()) == []  # a killed process would leave no sound either
        if how == "SIGTERM":
            worker.process.send_signal(signal.SIGTERM)
        else:
            worker.close_stdin()
        assert worker.wait() == ExitCode.CANCELLED
        assert b"Traceback" not in worker.log
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]
    assert list(temporary.iterdir()) == []


def test_unfinished_work_of_a_job_that_does_not_stop_is_removed(tmp_path: Path) -> None:
    from torch_backend.unfinished import remove_unfinished_folders, unfinished_folder

    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    (folder / "frames").write_bytes(b"half")
    with unfinished_folder(folder):
        remove_unfinished_folders()
    assert list(tmp_path.iterdir()) == []
    folder.mkdir()
    remove_unfinished_folders()  # it is nobody's business any more
    assert folder.is_dir()
