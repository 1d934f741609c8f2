"""The worker as a real process: order, cancel, ends of all kinds, and jobs that misbehave (no model involved)."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from blender_talkhead.contract.errors import ExitCode
from blender_talkhead.contract.jobs import AnimateJob, DummyJob, InfoJob
from blender_talkhead.contract.messages import (
    PROTOCOL_VERSION,
    CancelMessage,
    DoneMessage,
    ErrorMessage,
    HelloMessage,
    InfoMessage,
    Message,
    ProgressMessage,
    ShutdownMessage,
    decode_message,
)
from tests.running_worker import RunningWorker, running_worker
from torch_backend.command_line import main
from torch_backend.dummy import CRASH_EXIT_CODE
from torch_backend.worker import GRACE_SECONDS, MAX_REQUEST_BYTES, _read_lines

SHORT = DummyJob(0.0)
LONG = DummyJob(60.0)


@pytest.fixture
def worker() -> Iterator[RunningWorker]:
    with running_worker() as running:
        assert isinstance(running.next(), HelloMessage)
        yield running


def is_progress(message: Message) -> bool:
    return isinstance(message, ProgressMessage)


def is_cancelled(message: Message | None, job_id: str) -> bool:
    return isinstance(message, ErrorMessage) and (message.job, message.exit_code) == (job_id, ExitCode.CANCELLED)


def test_hello_comes_at_once_and_names_the_process() -> None:
    begun = time.monotonic()
    with running_worker() as worker:
        hello = worker.next()
        assert time.monotonic() - begun < 5  # nothing heavy is imported before
        assert isinstance(hello, HelloMessage)
        assert hello.protocol_version == PROTOCOL_VERSION
        assert hello.pid == worker.process.pid


def test_jobs_are_done_in_order_and_every_message_names_its_job(worker: RunningWorker) -> None:
    for name in "abc":
        worker.submit(name, DummyJob(0.3, ("one", "two")))
    messages = [worker.until(lambda m: isinstance(m, DoneMessage)) for _ in range(3)]
    for name, of_job in zip("abc", messages, strict=True):
        assert {message.job for message in of_job} == {name}
        assert of_job[-1] == DoneMessage("", name)
        progress = of_job[:-1]
        assert list(dict.fromkeys(message.phase for message in progress)) == ["one", "two"]
        fractions = [message.fraction for message in progress]
        assert fractions == sorted(fractions)
        assert fractions[0] == 0.0


def test_cancel_of_the_running_job_is_quick_and_the_next_one_runs(worker: RunningWorker) -> None:
    worker.submit("long", LONG)
    worker.submit("next", SHORT)
    worker.until(is_progress)
    begun = time.monotonic()
    worker.send(CancelMessage("long"))
    assert is_cancelled(worker.answer("long"), "long")
    assert time.monotonic() - begun < 1.0
    assert worker.answer("next") == DoneMessage("", "next")


def test_cancel_of_a_waiting_job_is_answered_while_another_runs(worker: RunningWorker) -> None:
    worker.submit("long", LONG)
    worker.submit("waiting", LONG)
    worker.submit("last", SHORT)
    worker.send(CancelMessage("waiting"))
    assert is_cancelled(worker.answer("waiting"), "waiting")
    worker.send(CancelMessage("long"))
    worker.answer("long")
    assert worker.answer("last") == DoneMessage("", "last")


def test_cancel_of_a_job_that_is_unknown_or_ended_is_no_news(worker: RunningWorker) -> None:
    worker.submit("a", SHORT)
    worker.answer("a")
    worker.send(CancelMessage("a"))
    worker.send(CancelMessage("nobody"))
    worker.submit("b", SHORT)
    assert [m for m in worker.until(lambda m: isinstance(m, DoneMessage)) if not is_progress(m)] == [
        DoneMessage("", "b")
    ]


def test_an_id_in_use_is_refused_and_the_job_goes_on(worker: RunningWorker) -> None:
    worker.submit("a", DummyJob(0.5))
    worker.submit("a", SHORT)
    messages = worker.until(lambda m: isinstance(m, DoneMessage))
    errors = [message for message in messages if isinstance(message, ErrorMessage)]
    assert [(error.job, error.exit_code) for error in errors] == [("", ExitCode.USAGE)]
    assert "'a' is in use" in errors[0].text
    worker.submit("a", SHORT)  # free again
    assert worker.answer("a") == DoneMessage("", "a")


@pytest.mark.parametrize(
    ("line", "job_id"),
    [
        (b"hello", ""),
        (b"[]", ""),
        (b"\xff\xfe", ""),
        (b'{"type": "sing", "id": "x"}', ""),
        (b'{"type": "job", "id": "x", "job": {"type": "sing"}}', "x"),
        (b'{"type": "job", "id": "x", "job": {"type": "dummy", "mystery": 1}}', "x"),
        (b'{"type": "job", "id": 3, "job": {"type": "dummy"}}', ""),
        (b"x" * (MAX_REQUEST_BYTES + 10), ""),
    ],
)
def test_lines_that_are_no_requests(worker: RunningWorker, line: bytes, job_id: str) -> None:
    worker.send_line(line)
    worker.submit("after", SHORT)
    error = worker.next()
    assert isinstance(error, ErrorMessage)
    assert (error.job, error.exit_code) == (job_id, ExitCode.USAGE)
    assert len(error.text) < 1000
    assert worker.answer("after") == DoneMessage("", "after")


def test_empty_lines_and_lines_in_pieces() -> None:
    class Pieces:
        def __init__(self, *pieces: bytes) -> None:
            self.pieces = [*pieces, b""]

        def read(self, size: int) -> bytes:
            return self.pieces.pop(0)

    assert list(_read_lines(Pieces(b"a", b"b\n\n \nc", b"d\r\ne"))) == [b"ab", b"cd\r"]
    long = b"x" * MAX_REQUEST_BYTES
    assert list(_read_lines(Pieces(long, b"yy", b"zz\nnext\n"))) == [None, b"next"]
    assert list(_read_lines(Pieces(long + b"yy\n" + long + b"\n"))) == [None, long]


def test_options_out_of_range_are_usage_errors(worker: RunningWorker, tmp_path: Path) -> None:
    worker.submit("a", AnimateJob(tmp_path / "a.wav", tmp_path / "out", vertices=3))
    error = worker.answer("a")
    assert isinstance(error, ErrorMessage)
    assert error.exit_code == ExitCode.USAGE
    assert "vertices: expected 500 to 50000, got 3" in error.text
    worker.submit("b", AnimateJob(Path("a.wav"), tmp_path / "out"))
    error = worker.answer("b")
    assert isinstance(error, ErrorMessage)
    assert error.exit_code == ExitCode.USAGE
    assert "absolute" in error.text
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_raises_is_an_error_and_the_worker_lives(worker: RunningWorker) -> None:
    worker.submit("a", DummyJob(0.0, behaviour="fail"))
    error = worker.answer("a")
    assert isinstance(error, ErrorMessage)
    assert error.exit_code == ExitCode.FAILED
    assert "ZeroDivisionError: told to fail" in error.text
    worker.submit("b", DummyJob(0.0, behaviour="allocate"))
    error = worker.answer("b")
    assert isinstance(error, ErrorMessage)
    assert error.exit_code == ExitCode.FAILED
    assert "not enough memory" in error.text
    worker.submit("c", SHORT)
    assert worker.answer("c") == DoneMessage("", "c")


def test_what_libraries_print_goes_to_the_log(worker: RunningWorker) -> None:
    worker.submit("a", DummyJob(0.0, behaviour="garbage"))
    assert worker.answer("a") == DoneMessage("", "a")
    assert b"a library that prints" in worker.log
    assert not any("a library that prints" in line for line in worker.garbage)
    assert len(worker.garbage) == 5  # those that the job wrote to the messages' own stream


def test_a_flood_of_log_lines_does_not_stop_a_job(worker: RunningWorker) -> None:
    worker.submit("a", DummyJob(0.0, behaviour="flood"))
    assert worker.answer("a") == DoneMessage("", "a")
    worker.send(ShutdownMessage())
    worker.wait()
    assert worker.log_bytes > 99 * 1024 * 1024


def test_a_crash_ends_the_output(worker: RunningWorker) -> None:
    worker.submit("a", DummyJob(0.0, behaviour="crash"))
    assert all(is_progress(message) for message in worker.rest())
    assert worker.wait() == CRASH_EXIT_CODE


@pytest.mark.parametrize("how", ["shutdown", "end of stdin"])
def test_the_end_of_an_idle_worker(worker: RunningWorker, how: str) -> None:
    worker.submit("a", SHORT)
    worker.answer("a")
    if how == "shutdown":
        worker.send(ShutdownMessage())
    else:
        worker.close_stdin()
    assert worker.rest() == []
    assert worker.wait() == ExitCode.DONE
    assert b"Traceback" not in worker.log


@pytest.mark.parametrize("how", ["shutdown", "end of stdin"])
def test_the_end_cancels_all_jobs(worker: RunningWorker, how: str) -> None:
    worker.submit("long", LONG)
    worker.submit("waiting", SHORT)
    worker.until(is_progress)
    begun = time.monotonic()
    if how == "shutdown":
        worker.send(ShutdownMessage())
    else:
        worker.close_stdin()
    errors = [message for message in worker.rest() if not is_progress(message)]
    assert sorted(error.job for error in errors) == ["long", "waiting"]
    assert all(is_cancelled(error, error.job) for error in errors)
    assert worker.wait() == ExitCode.CANCELLED
    assert time.monotonic() - begun < GRACE_SECONDS


def test_a_job_that_hangs_ends_with_its_caller(worker: RunningWorker) -> None:
    worker.submit("a", DummyJob(0.0, behaviour="hang"))
    worker.until(is_progress)
    begun = time.monotonic()
    worker.close_stdin()
    assert worker.wait() == ExitCode.CANCELLED
    assert GRACE_SECONDS - 0.5 < time.monotonic() - begun < GRACE_SECONDS + 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM: a terminated process cannot clean up")
@pytest.mark.parametrize("job", [LONG, DummyJob(0.0, behaviour="hang"), None], ids=["long", "hang", "idle"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cancels_and_ends(worker: RunningWorker, job: DummyJob | None, number: int) -> None:
    if job is not None:
        worker.submit("a", job)
        worker.submit("b", SHORT)
        worker.until(is_progress)
    begun = time.monotonic()
    worker.process.send_signal(number)
    errors = [message for message in worker.rest() if not is_progress(message)]
    assert [error.job for error in errors] == ([] if job is None else ["a", "b"])
    assert all(is_cancelled(error, error.job) for error in errors)
    assert worker.wait() == ExitCode.CANCELLED
    assert time.monotonic() - begun < GRACE_SECONDS - 0.5
    assert b"Traceback" not in worker.log


def test_a_worker_without_jobs_ends_by_itself() -> None:
    begun = time.monotonic()
    with running_worker("--exit-after-idle-seconds", 0.5) as worker:
        assert isinstance(worker.next(), HelloMessage)
        worker.submit("a", DummyJob(0.7))
        assert worker.until(lambda m: isinstance(m, DoneMessage))[-1] == DoneMessage("", "a")
        assert worker.rest() == []
        assert worker.wait() == ExitCode.DONE
    assert time.monotonic() - begun > 1.2


def test_info_is_an_answer(worker: RunningWorker) -> None:
    worker.submit("a", InfoJob())
    answer = worker.answer("a")
    assert isinstance(answer, InfoMessage)
    assert answer.facts["methods"] == ["mmtalker", "facetalk"]
    assert answer.facts["devices"][0]["name"] == "cpu"
    assert "type" not in answer.facts


def without_module(name: str) -> str:
    """The worker as Python code, in a Python that lacks a module."""
    return (
        f"import sys; sys.modules[{name!r}] = None\n"
        "from torch_backend.__main__ import run_process\nsys.exit(run_process())"
    )


def test_missing_torch_is_an_error_and_the_worker_lives(tmp_path: Path, demo_recording: Path) -> None:
    with running_worker(code=without_module("torch")) as worker:
        assert isinstance(worker.next(), HelloMessage)
        worker.submit("a", AnimateJob(demo_recording, tmp_path / "clip"))
        error = worker.answer("a")
        assert isinstance(error, ErrorMessage)
        assert error.exit_code == ExitCode.BACKEND
        assert "cannot import torch" in error.text
        assert "TALKHEAD_PYTHON" in error.text
        assert list(tmp_path.iterdir()) == []
        worker.submit("b", InfoJob())
        answer = worker.answer("b")
        assert isinstance(answer, InfoMessage)
        assert "cannot import torch" in answer.facts["torch_error"]


def test_any_other_missing_package_is_named(tmp_path: Path, demo_recording: Path) -> None:
    with running_worker(code=without_module("scipy")) as worker:
        assert isinstance(worker.next(), HelloMessage)
        worker.submit("a", AnimateJob(demo_recording, tmp_path / "clip"))
        error = worker.answer("a")
        assert isinstance(error, ErrorMessage)
        assert error.exit_code == ExitCode.BACKEND
        assert "scipy" in error.text
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--idle-seconds", "nan"], ["--exit-after-idle-seconds", "-1"], ["a.wav"]])
def test_wrong_options_are_a_message(arguments: list[str]) -> None:
    output, log = io.StringIO(), io.StringIO()
    assert main(["serve", *arguments], output, log) == ExitCode.USAGE
    error = decode_message(output.getvalue())
    assert isinstance(error, ErrorMessage)
    assert "usage:" in error.text


def test_protocol_page_lists_all_messages_and_jobs() -> None:
    import dataclasses

    from blender_talkhead.contract import jobs, messages

    page = (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    classes = [*messages._MESSAGE_CLASSES.values(), *messages._REQUEST_CLASSES.values(), *jobs._JOB_CLASSES.values()]
    names = {each.type for each in classes} | {field.name for each in classes for field in dataclasses.fields(each)}
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []
    assert json.dumps(PROTOCOL_VERSION) in page
