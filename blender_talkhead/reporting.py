"""What a headless job tells: phases with the time left on stderr, or one JSON object a line on stdout."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from .contract.messages import ErrorMessage, ProgressMessage, WarningMessage, encode_message

_TEXT_INTERVAL_SECONDS = 2.0


class JobReporter:
    """Writes progress, warnings, errors and the result of one job.

    Args:
        as_json: JSON lines to `output`; otherwise text to `log`.
        output: the real stdout.
        log: stderr.
        job: name of the job in JSON lines.
        prefix: begin of every line of text.
    """

    def __init__(
        self, as_json: bool, output: TextIO | None = None, log: TextIO | None = None, job: str = "", prefix: str = ""
    ) -> None:
        self._job = job
        self._prefix = prefix
        self._as_json = as_json
        self._output = output or sys.stdout
        self._log = log or sys.stderr
        self._fraction = 0.0
        self._phase = ""
        self._last_text_at = 0.0
        self.warnings: list[str] = []

    def for_job(self, number: int, count: int) -> JobReporter:
        """Return a reporter of one job of several, to the same streams."""
        return JobReporter(self._as_json, self._output, self._log, str(number), f"[{number}/{count}] ")

    def progress(self, phase: str, fraction: float, seconds_left: float | None = None) -> None:
        """Tell how far the whole job is, 0..1; it never falls."""
        self._fraction = min(1.0, max(self._fraction, fraction))
        if self._as_json:
            self._write_line(encode_message(ProgressMessage(phase, round(self._fraction, 4), seconds_left, self._job)))
            return
        now = time.monotonic()
        if phase == self._phase and now - self._last_text_at < _TEXT_INTERVAL_SECONDS:
            return
        self._phase, self._last_text_at = phase, now
        left = "" if seconds_left is None else f", about {seconds_left:.0f} s left in this step"
        self._write_log(f"{self._fraction:4.0%}  {phase}{left}")

    def step(self, phase: str, first: float, last: float) -> Callable[[float], None]:
        """Return a function of the step's own fraction, 0..1, that reports first..last of the job and the time left."""
        begun = time.monotonic()

        def report(fraction: float) -> None:
            elapsed = time.monotonic() - begun
            left = elapsed * (1.0 - fraction) / fraction if fraction > 0 and elapsed > 1.0 else None
            self.progress(phase, first + (last - first) * fraction, left)

        report(0.0)
        return report

    def warning(self, text: str) -> None:
        """Tell something that the job goes on with."""
        self.warnings.append(text)
        if self._as_json:
            self._write_line(encode_message(WarningMessage(text, self._job)))
        else:
            self._write_log(f"warning: {text}")

    def error(self, exit_code: int, text: str) -> None:
        """Tell why the job failed."""
        if self._as_json:
            self._write_line(encode_message(ErrorMessage(exit_code, text, self._job)))
        self._write_log(f"error: {text}")

    def done(self, result: dict[str, Any], text: str) -> None:
        """Tell the result: `result` as JSON, `text` for people."""
        if self._as_json:
            self._write_line(json.dumps({"type": "done", "job": self._job, **result}))
        else:
            self._write_log(text)

    def _write_line(self, line: str) -> None:
        self._output.write(line + "\n")
        self._output.flush()

    def _write_log(self, text: str) -> None:
        self._log.write(self._prefix + text + "\n")
        self._log.flush()


class WarningForwarder(logging.Handler):
    """Sends the package's warnings to a reporter."""

    def __init__(self, reporter: JobReporter) -> None:
        super().__init__(logging.WARNING)
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        """Forward one record."""
        self._reporter.warning(record.getMessage())
