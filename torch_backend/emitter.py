"""What a job tells its caller: JSON lines on stdout, or text for people on stderr."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from blender_talkhead.contract.messages import (
    DoneMessage,
    ErrorMessage,
    HelloMessage,
    InfoMessage,
    Message,
    ProgressMessage,
    ReleasedMessage,
    WarningMessage,
    encode_message,
)

_JSON_INTERVAL_SECONDS = 0.1
_TEXT_INTERVAL_SECONDS = 2.0
_ESTIMATE_AFTER_SECONDS = 1.0


class LineStream(Protocol):
    """What messages are written to: a text file, or something like it."""

    def write(self, text: str, /) -> object:
        """Write a line with its end."""
        ...

    def flush(self) -> object:
        """Hold nothing back."""
        ...


class Emitter:
    """Writes the messages of one job.

    A caller that has gone away shows as BrokenPipeError in any method: every message is a point where a job can end.

    Args:
        as_json: JSON lines (docs/protocol.md) to `output`; otherwise text to `log`.
        output: stdout; None is the current one.
        log: stderr; None is the current one.
        job: the job's id, in every message.
        check: called before each progress; raises to stop the job.
    """

    def __init__(
        self,
        as_json: bool,
        output: LineStream | None = None,
        log: LineStream | None = None,
        job: str = "",
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._as_json = as_json
        self._output = output if output is not None else sys.stdout
        self._log = log if log is not None else sys.stderr
        self._job = job
        self.check = check
        self._phase = ""
        self._fraction = 0.0
        self._last_told = 0.0

    def hello(self, talkhead_version: str) -> None:
        """Begin."""
        if self._as_json:
            self._send(HelloMessage(talkhead_version=talkhead_version, pid=os.getpid()))

    def progress(self, phase: str, fraction: float, seconds_left: float | None = None) -> None:
        """Tell how far the whole job is, 0..1; it never falls. Repeats within a moment are left out."""
        self.check()
        self._fraction = min(1.0, max(self._fraction, fraction))
        now = time.monotonic()
        interval = _JSON_INTERVAL_SECONDS if self._as_json else _TEXT_INTERVAL_SECONDS
        if phase == self._phase and now - self._last_told < interval:
            return
        self._phase, self._last_told = phase, now
        if self._as_json:
            left = None if seconds_left is None else round(seconds_left, 1)
            self._send(ProgressMessage(phase, round(self._fraction, 4), left, self._job))
        else:
            ending = "" if seconds_left is None else f", {_format_seconds(seconds_left)} left"
            self._write(self._log, f"{self._fraction:4.0%}  {phase}{ending}")

    def phase(self, name: str, first: float, last: float) -> Callable[[float], None]:
        """Begin a phase that takes the job from the fraction `first` to `last`.

        Returns:
            A function of the phase's own fraction, 0..1, that tells the progress and an estimate of the time left.
        """
        first_step: tuple[float, float] | None = None

        def report(fraction: float) -> None:
            nonlocal first_step
            fraction, now = min(1.0, fraction), time.monotonic()
            left = None
            if first_step is None:
                # The pace counts from the first step on: what comes before it happens once.
                first_step = (now, fraction) if fraction > 0.0 else None
            elif now - first_step[0] > _ESTIMATE_AFTER_SECONDS and fraction > first_step[1]:
                # The rest of the job is taken to go on at this phase's pace.
                done = (last - first) * (fraction - first_step[1])
                left = (now - first_step[0]) * (1.0 - first - (last - first) * fraction) / done
            self.progress(name, first + (last - first) * fraction, left)

        report(0.0)
        return report

    def warning(self, text: str) -> None:
        """Tell something that the job goes on with."""
        if self._as_json:
            self._send(WarningMessage(text, self._job))
        else:
            self._write(self._log, f"warning: {text}")

    def error(self, exit_code: int, text: str) -> None:
        """Tell why the job ends with this exit code."""
        if self._as_json:
            self._send(ErrorMessage(int(exit_code), text, self._job))
        self._write(self._log, f"error: {text}")

    def done(self, folder: str, more_folders: Sequence[str] = ()) -> None:
        """Tell where the complete result lies, and those of further takes."""
        if self._as_json:
            self._send(DoneMessage(folder, self._job, tuple(more_folders)))
        else:
            for each in (folder, *more_folders):
                self._write(self._log, f"done: {each}")

    def info(self, facts: dict[str, Any]) -> None:
        """Answer an InfoJob of a worker."""
        self._send(InfoMessage(facts, self._job))

    def released(self) -> None:
        """Tell that models were let go."""
        self._send(ReleasedMessage())

    def report(self, text: str) -> None:
        """Write what the caller asked to read, as it is, to stdout (`info`, `evaluate`)."""
        self._write(self._output, text)

    @contextmanager
    def forwarding_warnings(self) -> Iterator[None]:
        """Send warnings that the backend's modules log as messages of this job."""
        handler = _WarningHandler(self)
        package = logging.getLogger("torch_backend")
        package.addHandler(handler)
        try:
            yield
        finally:
            package.removeHandler(handler)

    def _send(self, message: Message) -> None:
        self._write(self._output, encode_message(message))

    def _write(self, stream: LineStream, text: str) -> None:
        stream.write(text + "\n")
        stream.flush()


class _WarningHandler(logging.Handler):
    def __init__(self, emitter: Emitter) -> None:
        super().__init__(logging.WARNING)
        self._emitter = emitter

    def emit(self, record: logging.LogRecord) -> None:
        """Forward one record."""
        self._emitter.warning(record.getMessage())


def _format_seconds(seconds: float) -> str:
    """Such as "40 s", "3 min" or "2 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
