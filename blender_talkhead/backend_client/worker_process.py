"""A warm backend: one process that does jobs one after another; asked for news, it never blocks.

Made for a timer in Blender's window: `submit`, then `poll` some times a second. `run_job` is the blocking form.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import shutil
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..contract.errors import (
    BackendError,
    BadInputError,
    CancelledError,
    ExitCode,
    OutputError,
    TalkHeadError,
    UsageError,
)
from ..contract.jobs import WorkerJob, validate_job
from ..contract.messages import (
    PROTOCOL_VERSION,
    CancelMessage,
    DoneMessage,
    ErrorMessage,
    HelloMessage,
    InfoMessage,
    JobMessage,
    Message,
    ProgressMessage,
    ReleasedMessage,
    ShutdownMessage,
    decode_message,
    encode_message,
)
from .child_process import ChildProcess
from .message_queue import MessageQueue
from .python_environment import backend_environment, backend_root

WorkerState = Literal["starting", "idle", "busy", "dead"]

IDLE_SECONDS = 120.0
"""After how long without a job a worker lets go of its models."""
HELLO_SECONDS = 120.0
"""How long a worker may take to start."""
PATIENCE_SECONDS = 5.0
"""How long a cancelled job may take to stop; then the worker is terminated, and killed as long after that."""
_MESSAGES_PER_POLL = 200

_ERROR_CLASSES: dict[int, type[TalkHeadError]] = {
    ExitCode.FAILED: OutputError,
    ExitCode.USAGE: UsageError,
    ExitCode.BAD_INPUT: BadInputError,
    ExitCode.BACKEND: BackendError,
    ExitCode.CANCELLED: CancelledError,
}


def error_of_message(message: ErrorMessage) -> TalkHeadError:
    """Return the exception that stands for an error message."""
    return _ERROR_CLASSES.get(message.exit_code, BackendError)(message.text)


@dataclass
class _Run:
    """A job and what is known of it."""

    id: str
    job: WorkerJob
    phase: str = ""
    is_known: bool = False
    """Whether the worker has said anything of it."""
    is_cancelled: bool = False
    has_ended: threading.Event = field(default_factory=threading.Event)


class BackendWorker:
    """The worker process of one Python, started when it is needed and started again when it has ended.

    To be used from one thread. Only `close` and `run_job` wait for the process.

    Args:
        python: the Python that has torch.
        idle_seconds: after how long without a job the worker lets go of its models.
        exit_after_idle_seconds: after how long without a job it ends.
        patience_seconds: how long a cancelled job may take to stop before the process is ended.
        hello_seconds: how long the process may take to start.
    """

    def __init__(
        self,
        python: Path,
        idle_seconds: float = IDLE_SECONDS,
        exit_after_idle_seconds: float = 1800.0,
        patience_seconds: float = PATIENCE_SECONDS,
        hello_seconds: float = HELLO_SECONDS,
    ) -> None:
        self.python = python
        self.idle_seconds = idle_seconds
        self._exit_after_idle_seconds = exit_after_idle_seconds
        self._patience_seconds = patience_seconds
        self._hello_seconds = hello_seconds
        self._child: ChildProcess | None = None
        self._arriving = MessageQueue()
        self._outgoing: deque[Message] = deque()
        self._waiting: deque[_Run] = deque()
        self._running: _Run | None = None
        self._numbers = itertools.count(1)
        self._is_ready = False
        self._has_released = False
        self._started_at = 0.0
        self._last_log = ""

    @property
    def state(self) -> WorkerState:
        """What the worker does: "starting" until it can take jobs, "dead" when no process runs and no job is open."""
        if self._running is not None:
            return "busy"
        if self._child is None or self._child.is_ending:
            return "starting" if self._waiting else "dead"
        if not self._is_ready:
            return "starting"
        return "busy" if self._waiting else "idle"

    @property
    def has_jobs(self) -> bool:
        """Whether jobs wait or run."""
        return self._running is not None or bool(self._waiting)

    @property
    def has_released(self) -> bool:
        """Whether the worker, idle, has let go of its models."""
        return self._has_released

    @property
    def process_id(self) -> int | None:
        """The system's number for the process; None when none runs."""
        return None if self._child is None or self._child.exit_code is not None else self._child.process_id

    def log_tail(self, lines: int = 12) -> str:
        """Return the last lines of the worker's log, also after its end."""
        return self._last_log if self._child is None else self._child.log_tail(lines)

    def start(self) -> None:
        """Start the process, unless it runs; returns before it is ready.

        Raises:
            BackendError: the Python cannot be started.
        """
        if self._child is not None and self._child.exit_code is None:
            return
        arriving = MessageQueue()

        def receive(line: str) -> bool:
            try:
                message = decode_message(line)
            except ValueError:
                return False  # a library that prints must not break the job
            run = self._running
            is_end = isinstance(message, DoneMessage | ErrorMessage | InfoMessage)
            if run is not None and is_end and _job_of(message) in ("", run.id):
                run.has_ended.set()
            arriving.put(message)
            return True

        command = [str(self.python), "-m", "torch_backend", "serve"]
        command += [f"--idle-seconds={self.idle_seconds:g}"]
        command += [f"--exit-after-idle-seconds={max(self.idle_seconds, self._exit_after_idle_seconds):g}"]
        self._child = ChildProcess(command, backend_environment(), backend_root(), receive)
        self._arriving = arriving
        self._is_ready, self._has_released, self._started_at = False, False, time.monotonic()

    def submit(self, job: WorkerJob) -> str:
        """Ask for a job, after those asked for before; the process is started when none runs.

        Args:
            job: with absolute paths.

        Returns:
            The job's id, which its messages carry. It ends with exactly one DoneMessage, InfoMessage or ErrorMessage.

        Raises:
            UsageError: an option of the job is out of its range.
            BackendError: the Python cannot be started.
        """
        validate_job(job)
        run = _Run(f"{os.getpid()}-{next(self._numbers)}", job)
        if self._running is None and not self._waiting:
            self.start()
        self._waiting.append(run)
        self._advance()
        return run.id

    def poll(self, job: str | None = None) -> list[Message]:
        """Return what has arrived since the last call; never blocks.

        Args:
            job: only this job's messages; those of others wait for their own poll. None returns all.
        """
        self._advance()
        if job is None:
            taken = list(self._outgoing)
            self._outgoing.clear()
        else:
            taken = [message for message in self._outgoing if _job_of(message) == job]
            if taken:
                self._outgoing = deque(message for message in self._outgoing if _job_of(message) != job)
        return taken

    def cancel(self, job: str) -> None:
        """Cancel a job that waits or runs; it then ends with an ErrorMessage of exit code 5 in any case.

        A worker that does not stop in time is terminated, then killed, also when nobody polls. Unknown and ended jobs
        are ignored.
        """
        for run in self._waiting:
            if run.id == job:
                self._waiting.remove(run)
                self._outgoing.append(ErrorMessage(ExitCode.CANCELLED, "cancelled", job))
                return
        running = self._running
        if running is None or running.id != job or running.is_cancelled or self._child is None:
            return
        running.is_cancelled = True
        self._child.send(encode_message(CancelMessage(job)))
        self._child.end_unless(running.has_ended, self._patience_seconds)

    def close(self, patience_seconds: float = 1.0) -> None:
        """End the process; jobs that have not ended are cancelled. Waits at most three times the patience."""
        child, self._child = self._child, None
        runs = [*([self._running] if self._running else []), *self._waiting]
        self._running = None
        self._waiting.clear()
        for run in runs:
            run.is_cancelled = True
            self._outgoing.append(ErrorMessage(ExitCode.CANCELLED, "cancelled", run.id))
        if child is not None:
            child.send(encode_message(ShutdownMessage()))
            if runs:
                child.terminate()
            child.end(patience_seconds)
            self._last_log = child.log_tail()
        for run in runs:
            _remove_unfinished(run.job)

    def run_job(
        self, job: WorkerJob, on_message: Callable[[Message], None] = lambda message: None
    ) -> DoneMessage | InfoMessage:
        """Do a job to its end, blocking. An interrupt, or an exception of `on_message`, cancels it.

        Args:
            job: with absolute paths.
            on_message: called on this thread with each progress and warning.

        Returns:
            The message that ended the job.

        Raises:
            TalkHeadError: the subclass of the error's exit code, with its text.
        """
        job_id = self.submit(job)
        try:
            while True:
                for message in self.poll(job_id):
                    if isinstance(message, DoneMessage | InfoMessage):
                        return message
                    if isinstance(message, ErrorMessage):
                        raise error_of_message(message)
                    on_message(message)
                self._arriving.arrived.wait(0.05)
        except BaseException:
            self._cancel_and_wait(job_id)
            raise

    def _cancel_and_wait(self, job: str) -> None:
        self.cancel(job)
        deadline = time.monotonic() + 3 * self._patience_seconds
        while time.monotonic() < deadline:
            self.poll(job)
            if not any(run.id == job for run in [self._running, *self._waiting] if run is not None):
                return
            time.sleep(0.02)

    def _advance(self) -> None:
        """Take what has arrived, notice the end of the process, send the next job."""
        for message in self._arriving.take(_MESSAGES_PER_POLL):
            self._handle(message)
        child = self._child
        if child is not None and child.exit_code is not None and not len(self._arriving):
            self._handle_end(child, child.exit_code)
        elif child is not None and not self._is_ready and time.monotonic() - self._started_at > self._hello_seconds:
            self._give_up(f"the backend {self.python} did not start within {self._hello_seconds:.0f} s")
        child = self._child
        if self._is_ready and self._running is None and self._waiting and child is not None and not child.is_ending:
            self._running = self._waiting.popleft()
            self._has_released = False
            child.send(encode_message(JobMessage(self._running.id, self._running.job)))

    def _handle(self, message: Message) -> None:
        run = self._running
        if isinstance(message, HelloMessage):
            if message.protocol_version == PROTOCOL_VERSION:
                self._is_ready = True
            else:
                self._give_up(
                    f"the backend speaks protocol {message.protocol_version}, this add-on {PROTOCOL_VERSION}: they are "
                    "of different versions. Restart Blender; if that does not help, install the extension again"
                )
        elif isinstance(message, ReleasedMessage):
            self._has_released = True
        elif run is None or _job_of(message) not in ("", run.id):
            return  # the late word of a job that has ended
        elif isinstance(message, DoneMessage | ErrorMessage | InfoMessage):
            self._finish(run, message)
        else:
            run.is_known = True
            if isinstance(message, ProgressMessage):
                run.phase = message.phase
            self._outgoing.append(dataclasses.replace(message, job=run.id))

    def _finish(self, run: _Run, message: DoneMessage | ErrorMessage | InfoMessage) -> None:
        run.has_ended.set()
        self._running = None
        if run.is_cancelled:
            message = ErrorMessage(ExitCode.CANCELLED, "cancelled")
        self._outgoing.append(dataclasses.replace(message, job=run.id))

    def _handle_end(self, child: ChildProcess, exit_code: int) -> None:
        """The process has ended: its job fails, the waiting ones get a new process."""
        was_ready, run = self._is_ready, self._running
        self._last_log = child.log_tail()
        self._child, self._is_ready = None, False
        is_wanted = exit_code == ExitCode.DONE or child.is_told_to_end
        if run is not None and is_wanted and not (run.is_known or run.is_cancelled):
            self._running = None
            self._waiting.appendleft(run)  # it came just when an idle worker ended, or one whose last job was cancelled
        elif run is not None:
            text = describe_death(exit_code, run.phase, self._last_log, self.python)
            self._finish(run, ErrorMessage(ExitCode.BACKEND, text))
            threading.Thread(target=_remove_unfinished, args=(run.job,), daemon=True).start()
        if not self._waiting:
            return
        if not was_ready:
            self._fail_waiting(describe_death(exit_code, "starting", self._last_log, self.python))
            return
        try:
            self.start()
        except BackendError as error:
            self._fail_waiting(str(error))

    def _give_up(self, text: str) -> None:
        """End a process that cannot be used, in the background; all jobs fail."""
        child, self._child = self._child, None
        self._is_ready = False
        if child is not None:
            self._last_log = child.log_tail()
            threading.Thread(target=child.end, daemon=True).start()
        if self._running is not None:
            self._finish(self._running, ErrorMessage(ExitCode.BACKEND, text))
        self._fail_waiting(text)

    def _fail_waiting(self, text: str) -> None:
        self._outgoing += [ErrorMessage(ExitCode.BACKEND, text, run.id) for run in self._waiting]
        self._waiting.clear()


def describe_death(exit_code: int, phase: str, log: str, python: Path) -> str:
    """Return what a user should know of a process that ended without a word: how, when, its last words, a remedy."""
    how, remedy = f"exit code {exit_code}", "Check the backend in the add-on's preferences."
    if exit_code < 0:
        try:
            how = f"signal {signal.Signals(-exit_code).name}"
        except ValueError:
            how = f"signal {-exit_code}"
        if -exit_code == getattr(signal, "SIGKILL", 9):
            remedy = "Probably the memory ran out: choose fewer vertices, or close other programs."
    elif sys.platform == "win32" and exit_code >= 0xC0000000:
        how = f"exception 0x{exit_code:08X}"
    during = f' while "{phase}"' if phase else ""
    last_words = f"\n{log}" if log.strip() else ""
    return f"the backend ended unexpectedly{during} ({how}, {python}). {remedy}{last_words}"


def _job_of(message: Message) -> str:
    return getattr(message, "job", "")


def _remove_unfinished(job: WorkerJob) -> None:
    """Remove what a job that was killed had begun to write beside its result."""
    output = getattr(job, "output", None)
    if isinstance(output, Path):
        token = "[0-9a-f]" * 12
        with contextlib.suppress(FileNotFoundError):  # the caller may remove the folder around it at the same time
            for partial in output.parent.glob(f".{_escape_glob(output.name)}.{token}.partial"):
                shutil.rmtree(partial, ignore_errors=True)


def _escape_glob(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
