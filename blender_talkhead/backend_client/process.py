"""One run of the backend as a child process: messages from its stdout, the tail of its log, cancel, exit code.

Reader threads only fill a queue and never touch bpy.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..contract.errors import (
    BackendError,
    BadInputError,
    CancelledError,
    ExitCode,
    OutputError,
    TalkHeadError,
    UsageError,
)
from ..contract.messages import (
    PROTOCOL_VERSION,
    DoneMessage,
    ErrorMessage,
    HelloMessage,
    Message,
    decode_message,
)
from .python_environment import backend_environment, backend_root

logger = logging.getLogger(__name__)

_LOG_TAIL_LINES = 200
_SHOWN_LOG_LINES = 12
_TERMINATE_SECONDS = 5.0
_END_OF_OUTPUT = None

_ERROR_CLASSES: dict[int, type[TalkHeadError]] = {
    ExitCode.FAILED: OutputError,
    ExitCode.USAGE: UsageError,
    ExitCode.BAD_INPUT: BadInputError,
    ExitCode.BACKEND: BackendError,
    ExitCode.CANCELLED: CancelledError,
}


class BackendProcess:
    """A running backend command; a context manager that leaves no process behind.

    Args:
        python: the Python that has torch.
        arguments: what follows `python -m torch_backend`.

    Raises:
        BackendError: the Python cannot be started.
    """

    def __init__(self, python: Path, arguments: Sequence[str]) -> None:
        self._messages: queue.Queue[Message | None] = queue.Queue()
        self._log_tail: deque[str] = deque(maxlen=_LOG_TAIL_LINES)
        command = [str(python), "-m", "torch_backend", *arguments]
        # A session of its own: Ctrl-C in the terminal reaches this process only, which then cancels the backend.
        own_group: dict[str, Any] = (
            {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
            if os.name == "nt"
            else {"start_new_session": True}
        )
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                cwd=backend_root(),
                env=backend_environment(),
                **own_group,
            )
        except OSError as error:
            raise BackendError(f"cannot start the backend's Python {python}: {error.strerror or error}") from error
        self._threads = [
            threading.Thread(target=self._read_messages, daemon=True),
            threading.Thread(target=self._read_log, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> BackendProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def messages(self, poll_seconds: float = 0.1) -> Iterator[Message | None]:
        """Yield messages as they come, and None when there is none, until the backend closes its output."""
        while True:
            try:
                message = self._messages.get(timeout=poll_seconds)
            except queue.Empty:
                yield None
                continue
            if message is _END_OF_OUTPUT:
                return
            yield message

    def wait(self) -> int:
        """Wait for the process to end; returns its exit code (negative: a signal ended it)."""
        code = self._process.wait()
        for thread in self._threads:
            thread.join(timeout=_TERMINATE_SECONDS)
        return code

    def log_tail(self, lines: int = _SHOWN_LOG_LINES) -> str:
        """Return the last lines of the backend's log."""
        return "\n".join(list(self._log_tail)[-lines:])

    def cancel(self) -> None:
        """End the process, if it runs: terminate, then kill."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_TERMINATE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for thread in self._threads:
            thread.join(timeout=1.0)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError, ValueError):
                    pipe.close()

    def _read_messages(self) -> None:
        if self._process.stdout is not None:
            for line in self._process.stdout:
                try:
                    self._messages.put(decode_message(line))
                except ValueError:
                    self._log_tail.append(line.rstrip())  # a library that prints must not break the run
        self._messages.put(_END_OF_OUTPUT)

    def _read_log(self) -> None:
        if self._process.stderr is not None:
            for line in self._process.stderr:
                self._log_tail.append(line.rstrip())
                logger.debug("backend: %s", line.rstrip())


def run_backend(
    python: Path, arguments: Sequence[str], on_message: Callable[[Message], None] = lambda message: None
) -> DoneMessage:
    """Run one backend command to its end, blocking.

    Args:
        python: the Python that has torch.
        arguments: what follows `python -m torch_backend`.
        on_message: called on this thread with each progress and warning.

    Returns:
        The message that names the result folder.

    Raises:
        TalkHeadError: the subclass of the backend's exit code, with its text; `BackendError` when it died without one,
            with the end of its log.
    """
    failure: ErrorMessage | None = None
    done: DoneMessage | None = None
    with BackendProcess(python, arguments) as process:
        for message in process.messages():
            if isinstance(message, HelloMessage):
                _require_protocol(message)
            elif isinstance(message, ErrorMessage):
                failure = message
            elif isinstance(message, DoneMessage):
                done = message
            elif message is not None:
                on_message(message)
        code = process.wait()
        tail = process.log_tail()
    if failure is not None:
        raise _ERROR_CLASSES.get(failure.exit_code, BackendError)(failure.text)
    if code in (ExitCode.USAGE, ExitCode.CANCELLED):
        raise _ERROR_CLASSES[code](f"the backend ended with exit code {code}:\n{tail}")
    if code != ExitCode.DONE:
        raise BackendError(f"the backend died with exit code {code}:\n{tail}")
    if done is None:
        raise BackendError(f"the backend ended without a result:\n{tail}")
    return done


def _require_protocol(message: HelloMessage) -> None:
    if message.protocol_version != PROTOCOL_VERSION:
        raise BackendError(
            f"the backend speaks protocol {message.protocol_version}, this add-on {PROTOCOL_VERSION}; "
            "update both together"
        )
