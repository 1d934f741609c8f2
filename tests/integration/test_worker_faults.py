"""The client against the real worker when things go wrong: a message each time, no process and no file left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from blender_talkhead.backend_client.worker_process import BackendWorker
from blender_talkhead.contract.errors import BackendError, ExitCode, TalkHeadError
from blender_talkhead.contract.jobs import AnimateJob, DummyJob, InfoJob
from blender_talkhead.contract.messages import (
    PROTOCOL_VERSION,
    DoneMessage,
    ErrorMessage,
    InfoMessage,
    Message,
    ProgressMessage,
)
from blender_talkhead.contract.motion_clip import load_motion_clip

REPOSITORY = Path(__file__).resolve().parents[2]
PHASES = ("reading audio", "loading the model", "animating", "fitting shapes")
SHORT = DummyJob(0.0)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def worker(scratch: Path) -> Iterator[BackendWorker]:
    worker = BackendWorker(Path(sys.executable), patience_seconds=1.0)
    yield worker
    worker.close()


def make_job(folder: Path, recording: Path) -> AnimateJob:
    return AnimateJob(recording, folder / "clip", vertices=500, device="cpu", threads=1, basis_error_limit_mm=0.05)


def poll_until(
    worker: BackendWorker, job: str, condition: Callable[[Message], bool], seconds: float = 60.0
) -> list[Message]:
    """The messages of a job up to the first that fits."""
    seen: list[Message] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for message in worker.poll(job):
            seen.append(message)
            if condition(message):
                return seen
        time.sleep(0.002)
    raise AssertionError(f"not seen within {seconds} s: {seen[-3:]}, {worker.log_tail()}")


def is_end(message: Message) -> bool:
    return isinstance(message, DoneMessage | ErrorMessage | InfoMessage)


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def runs(process_id: int | None) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for does not."""
    try:
        return process_id is not None and psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_kill_at_each_phase_is_told_and_leaves_nothing(
    worker: BackendWorker, tmp_path: Path, scratch: Path, demo_recording: Path
) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    job = worker.submit(make_job(folder, demo_recording))
    process = worker.process_id
    os.kill(process, 9)  # starting
    end = poll_until(worker, job, is_end)[-1]
    assert isinstance(end, ErrorMessage) and end.exit_code == ExitCode.BACKEND
    assert '"starting"' in end.text and "SIGKILL" in end.text
    for phase in PHASES:
        job = worker.submit(make_job(folder, demo_recording))
        process = worker.process_id
        poll_until(worker, job, lambda m, phase=phase: isinstance(m, ProgressMessage) and m.phase == phase)
        os.kill(process, 9)
        end = poll_until(worker, job, is_end)[-1]
        assert isinstance(end, ErrorMessage) and end.exit_code == ExitCode.BACKEND, (phase, end)
        assert "SIGKILL" in end.text and "memory" in end.text and phase in end.text, (phase, end)
        assert not runs(process) and worker.state == "dead"
        wait_until(lambda: not list(folder.iterdir()) and not list(scratch.iterdir()))
    done = worker.run_job(make_job(folder, demo_recording))
    assert isinstance(done, DoneMessage) and load_motion_clip(Path(done.folder)).num_frames > 1
    process = worker.process_id
    os.kill(process, 9)  # idle
    wait_until(lambda: worker.state == "dead")
    assert worker.poll() == []
    assert isinstance(worker.run_job(SHORT), DoneMessage) and worker.process_id != process


def test_a_cancel_at_each_phase_is_quick_and_keeps_the_worker(tmp_path: Path, demo_recording: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    worker = BackendWorker(
        Path(sys.executable), patience_seconds=30.0
    )  # torch takes a while to import on a busy machine
    try:
        worker.run_job(SHORT)
        process = worker.process_id
        for phase in PHASES:
            job = worker.submit(make_job(folder, demo_recording))
            poll_until(worker, job, lambda m, phase=phase: isinstance(m, ProgressMessage) and m.phase == phase)
            worker.cancel(job)
            assert poll_until(worker, job, is_end)[-1] == ErrorMessage(ExitCode.CANCELLED, "cancelled", job)
            assert list(folder.iterdir()) == [] and worker.state == "idle" and worker.process_id == process, phase
    finally:
        worker.close()


def test_two_jobs_at_once_are_done_one_after_the_other(worker: BackendWorker) -> None:
    first = worker.submit(DummyJob(0.3, ("one",)))
    second = worker.submit(DummyJob(0.1, ("two",)))
    assert not [message for message in poll_until(worker, first, is_end) if message.job != first]
    assert poll_until(worker, second, is_end)[-1] == DoneMessage("", second)
    assert worker.state == "idle"


def test_a_hanging_job_is_killed_and_the_waiting_one_done(worker: BackendWorker) -> None:
    job, after = worker.submit(DummyJob(0.2, behaviour="hang")), worker.submit(SHORT)
    poll_until(worker, job, lambda m: isinstance(m, ProgressMessage))
    process = worker.process_id
    begun = time.monotonic()
    worker.cancel(job)
    assert poll_until(worker, job, is_end)[-1] == ErrorMessage(ExitCode.CANCELLED, "cancelled", job)
    assert time.monotonic() - begun < 10
    wait_until(lambda: not runs(process))
    assert isinstance(poll_until(worker, after, is_end)[-1], DoneMessage)


def test_a_crash_is_told_with_its_exit_code(worker: BackendWorker) -> None:
    with pytest.raises(BackendError, match=r"ended unexpectedly.*exit code 86"):
        worker.run_job(DummyJob(0.1, behaviour="crash"))


@pytest.mark.parametrize(("behaviour", "words"), [("fail", "told to fail"), ("allocate", "memory")])
def test_a_failed_job_leaves_the_worker_alive(worker: BackendWorker, behaviour: str, words: str) -> None:
    worker.run_job(SHORT)
    process = worker.process_id
    with pytest.raises(TalkHeadError, match=words):
        worker.run_job(DummyJob(0.1, behaviour=behaviour))
    assert isinstance(worker.run_job(SHORT), DoneMessage) and worker.process_id == process


def test_garbage_on_stdout_does_no_harm(worker: BackendWorker) -> None:
    seen: list[Message] = []
    assert isinstance(worker.run_job(DummyJob(0.3, behaviour="garbage"), seen.append), DoneMessage)
    assert {type(message) for message in seen} == {ProgressMessage}
    assert "library that prints" in worker.log_tail(200) or "sing" in worker.log_tail(200)


def test_a_flood_on_stderr_neither_blocks_nor_fills_memory(worker: BackendWorker) -> None:
    worker.run_job(SHORT)
    before = psutil.Process().memory_info().rss
    begun = time.monotonic()
    worker.run_job(DummyJob(0.1, behaviour="flood"))
    assert time.monotonic() - begun < 30
    assert psutil.Process().memory_info().rss - before < 20e6


def make_program(folder: Path, script: str) -> Path:
    program = folder / "python"
    program.write_text("#!/bin/sh\n" + script)
    program.chmod(0o755)
    return program


def test_another_protocol_is_refused(tmp_path: Path) -> None:
    changed = f's/"protocol_version": {PROTOCOL_VERSION}/"protocol_version": {PROTOCOL_VERSION + 1}/'
    worker = BackendWorker(make_program(tmp_path, f'"{sys.executable}" "$@" | sed -u \'{changed}\'\n'))
    try:
        job = worker.submit(SHORT)
        process = worker.process_id
        end = poll_until(worker, job, is_end)[-1]
        assert isinstance(end, ErrorMessage) and end.exit_code == ExitCode.BACKEND
        assert f"protocol {PROTOCOL_VERSION + 1}" in end.text and "install the extension again" in end.text
        wait_until(lambda: not runs(process))
    finally:
        worker.close()


def test_missing_torch_is_a_message_and_the_worker_lives(tmp_path: Path, demo_recording: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "torch.py").write_text("raise ImportError('No module named torch')\n")
    script = f'PYTHONPATH="{blocked}:$PYTHONPATH" exec "{sys.executable}" "$@"\n'
    worker = BackendWorker(make_program(tmp_path, script))
    try:
        with pytest.raises(BackendError, match="torch"):
            worker.run_job(make_job(tmp_path, demo_recording))
        process = worker.process_id
        answer = worker.run_job(InfoJob())
        assert isinstance(answer, InfoMessage) and "torch" in answer.facts["torch_error"]
        assert worker.process_id == process
    finally:
        worker.close()
    assert not (tmp_path / "clip").exists()


CALLER = """
import sys, time
sys.path.insert(0, {repository!r})
from pathlib import Path
from blender_talkhead.backend_client.shared_worker import shared_worker
from blender_talkhead.contract.jobs import DummyJob
worker = shared_worker(Path(sys.executable))
job = worker.submit(DummyJob(60.0, behaviour={behaviour!r}))
while not worker.poll(job): time.sleep(0.01)
if {behaviour!r} == "hang": time.sleep(0.1)
sys.stdout.write(str(worker.process_id) + "\\n"); sys.stdout.flush()
if {waits}: time.sleep(60)
"""


@pytest.mark.parametrize("behaviour", ["succeed", "hang"])
def test_a_killed_caller_takes_its_worker_along(behaviour: str) -> None:
    script = CALLER.format(repository=str(REPOSITORY), behaviour=behaviour, waits=True)
    caller = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert caller.stdout is not None
        process = int(caller.stdout.readline())
        assert runs(process)
        caller.kill()
        caller.wait()
        wait_until(lambda: not runs(process), seconds=5.0)
    finally:
        caller.kill()


def test_a_caller_that_ends_takes_its_worker_along() -> None:
    script = CALLER.format(repository=str(REPOSITORY), behaviour="hang", waits=False)
    begun = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert not runs(int(ended.stdout)) and time.monotonic() - begun < 20


def test_a_poll_costs_far_less_than_a_tick(worker: BackendWorker) -> None:
    job = worker.submit(DummyJob(3.0, ("a", "b", "c")))
    durations: list[float] = []
    seen: list[Message] = []
    while not (seen and is_end(seen[-1])):
        begun = time.perf_counter()
        seen += worker.poll(job)
        durations.append(time.perf_counter() - begun)
        time.sleep(0.05)
    durations.sort()
    assert durations[len(durations) // 2] < 0.0005
    assert durations[int(0.95 * len(durations))] < 0.002
