"""The worker: does jobs from its stdin one after another, keeps models warm, and lets go of them when idle.

The main thread does the jobs. A reader thread takes requests and never waits for a job, so a cancel is noticed at once;
the job stops at its next progress. torch is imported by the first job that needs it.
"""

from __future__ import annotations

import io
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from blender_talkhead.contract.errors import CancelledError, ExitCode, UsageError
from blender_talkhead.contract.jobs import (
    AnimateJob,
    CharacterJob,
    DummyJob,
    InfoJob,
    ReshapeJob,
    WorkerJob,
    take_folders,
    validate_job,
)
from blender_talkhead.contract.messages import CancelMessage, JobMessage, Request, ShutdownMessage, decode_request
from torch_backend.dummy import run_dummy
from torch_backend.emitter import Emitter, LineStream
from torch_backend.failures import explain_failure
from torch_backend.info import collect_info, read_version
from torch_backend.jobs import ServeJob
from torch_backend.model_cache import ModelCache
from torch_backend.signals import signals_interrupt
from torch_backend.unfinished import remove_unfinished_folders

logger = logging.getLogger(__name__)

GRACE_SECONDS = 3.0
"""How long a job may take to stop once nobody waits for it any more."""
MAX_REQUEST_BYTES = 1_000_000
_BLOCK_BYTES = 65_536
# Waiting for a lock cannot be interrupted by a signal on Windows.
_LONGEST_WAIT_SECONDS = 1.0 if os.name == "nt" else 3600.0


class ByteSource(Protocol):
    """Where requests come from: an unbuffered stream, whose read returns what is there, and b"" at its end."""

    def read(self, size: int, /) -> bytes | None:
        """Wait for bytes; return at most `size` of them."""
        ...


def take_stdin() -> io.FileIO:
    """Return this process's stdin for the worker alone: libraries and child processes find an empty one.

    The stream is unbuffered: a buffered one that a daemon thread reads from cannot be closed when the process ends.
    """
    stream = io.FileIO(os.dup(0), "r")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return stream


class Worker:
    """Does the jobs of one caller.

    Args:
        requests: lines of JSON, one request each; its end means that the caller is gone.
        output: for the messages.
        log: for errors, as text.
        settings: how long to wait for jobs.
    """

    def __init__(self, requests: ByteSource, output: LineStream, log: LineStream | None, settings: ServeJob) -> None:
        self._requests = requests
        self._output = _LockedStream(output)
        self._log = log
        self._settings = settings
        self._models = ModelCache()
        self._queue: queue.SimpleQueue[JobMessage | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # guards _waiting and _running
        self._waiting: set[str] = set()
        self._running: str | None = None
        self._cancelled = threading.Event()
        self._stopping = threading.Event()
        self._exit_code = ExitCode.DONE

    def run(self) -> ExitCode:
        """Do jobs until the caller is gone, or none came for long.

        Returns:
            DONE; CANCELLED when jobs were cancelled by the end, or a signal came.
        """
        try:
            with signals_interrupt(self._note_signal):
                self._emitter("").hello(read_version())
                threading.Thread(target=self._read_requests, name="requests", daemon=True).start()
                self._work()
        except KeyboardInterrupt:
            self._exit_code = ExitCode.CANCELLED
        except BrokenPipeError:
            logger.debug("nobody reads the messages", exc_info=True)
            return ExitCode.CANCELLED
        try:
            self._answer_waiting()
        except BrokenPipeError:
            logger.debug("nobody reads the messages", exc_info=True)
            return ExitCode.CANCELLED
        return self._exit_code

    # --- the main thread

    def _work(self) -> None:
        idle_since = time.monotonic()
        while not self._stopping.is_set():
            idle = time.monotonic() - idle_since
            if idle >= self._settings.exit_after_idle_seconds:
                return
            if idle >= self._settings.idle_seconds:
                self._release()
            try:
                message = self._queue.get(timeout=self._seconds_to_wait(idle))
            except queue.Empty:
                continue
            if message is not None and self._begin(message.id):
                self._do(message.id, message.job)
                idle_since = time.monotonic()

    def _seconds_to_wait(self, idle: float) -> float:
        ends = [self._settings.exit_after_idle_seconds]
        if len(self._models):
            ends.append(self._settings.idle_seconds)
        return min(max(min(ends) - idle, 0.0) + 0.001, _LONGEST_WAIT_SECONDS)

    def _begin(self, job_id: str) -> bool:
        """Make a waiting job the running one; false when it was cancelled meanwhile."""
        with self._lock:
            if job_id not in self._waiting or self._stopping.is_set():
                return False
            self._waiting.remove(job_id)
            self._running = job_id
            self._cancelled.clear()
        return True

    def _do(self, job_id: str, job: WorkerJob) -> None:
        """Do a job and answer it, whatever happens."""
        emitter = self._emitter(job_id)
        exit_code = ExitCode.DONE
        try:
            with emitter.forwarding_warnings():
                answer = self._dispatch(job, emitter)
            self._end_job()
            answer()
        except BrokenPipeError:
            raise
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            logger.debug("job %s failed", job_id, exc_info=True)
            exit_code, text = explain_failure(error)
            self._end_job()
            emitter.error(exit_code, text)
            if isinstance(error, KeyboardInterrupt):
                raise
        if exit_code == ExitCode.FAILED:  # memory ran out, or the models may be broken: the next job loads them again
            self._release()

    def _end_job(self) -> None:
        """Before the answer: its reader may use the job's id again at once."""
        with self._lock:
            self._running = None

    def _dispatch(self, job: WorkerJob, emitter: Emitter) -> Callable[[], None]:
        """Do a job; returns what tells the result."""
        validate_job(job)
        if isinstance(job, InfoJob):
            facts = collect_info()
            return partial(emitter.info, {name: value for name, value in facts.items() if name != "type"})
        if isinstance(job, DummyJob):
            run_dummy(job, emitter)
            return partial(emitter.done, "")
        _require_absolute_paths(job)
        if isinstance(job, CharacterJob):
            from torch_backend import character  # as below

            return partial(emitter.done, str(character.make_character(job, emitter, self._models)))
        if isinstance(job, ReshapeJob):
            from torch_backend import character

            return partial(emitter.done, str(character.reshape(job, emitter, self._models)))
        from torch_backend import handlers  # imports numpy

        handlers.animate(job, emitter, self._models)
        first, *further = map(str, take_folders(job))
        return partial(emitter.done, first, further)

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise CancelledError("cancelled")

    def _release(self) -> None:
        if self._models.release():
            self._emitter("").released()

    # --- the reader thread

    def _read_requests(self) -> None:
        try:
            for line in _read_lines(self._requests):
                self._take(line)
                if self._stopping.is_set():
                    return
        except OSError:
            logger.debug("the caller is gone", exc_info=True)
        finally:
            self._stop()

    def _take(self, line: bytes | None) -> None:
        try:
            if line is None:
                raise ValueError(f"a request is longer than {MAX_REQUEST_BYTES} bytes")
            request = decode_request(line.decode("utf-8"))
        except ValueError as error:
            self._emitter(_find_id(line)).error(ExitCode.USAGE, f"not a request of this worker: {error}")
            return
        self._obey(request)

    def _obey(self, request: Request) -> None:
        if isinstance(request, ShutdownMessage):
            self._stop()
        elif isinstance(request, CancelMessage):
            self._cancel(request.id)
        else:
            with self._lock:
                known = request.id in self._waiting or request.id == self._running
                if not known:
                    self._waiting.add(request.id)
            if known:
                self._emitter("").error(ExitCode.USAGE, f"the job id {request.id!r} is in use; choose another one")
            else:
                self._queue.put(request)

    def _cancel(self, job_id: str) -> None:
        """Stop a job; one that is unknown or has ended was answered already."""
        with self._lock:
            was_waiting = job_id in self._waiting
            self._waiting.discard(job_id)
            if job_id == self._running:
                self._cancelled.set()
        if was_waiting:
            self._emitter(job_id).error(ExitCode.CANCELLED, "cancelled")

    # --- the end

    def _note_signal(self) -> None:
        self._stopping.set()
        self._cancelled.set()  # should the interrupt get lost inside a library
        self._start_grace()

    def _stop(self) -> None:
        """Let the running job stop, and the main thread end after it."""
        self._start_grace()
        self._stopping.set()
        with self._lock:
            if self._running is not None:
                self._exit_code = ExitCode.CANCELLED
                self._cancelled.set()
        self._queue.put(None)

    def _answer_waiting(self) -> None:
        with self._lock:
            waiting, self._waiting = sorted(self._waiting), set()
        for job_id in waiting:
            self._exit_code = ExitCode.CANCELLED
            self._emitter(job_id).error(ExitCode.CANCELLED, "cancelled")

    def _start_grace(self) -> None:
        timer = threading.Timer(GRACE_SECONDS, _end_process)
        timer.daemon = True
        timer.start()

    def _emitter(self, job_id: str) -> Emitter:
        return Emitter(True, self._output, self._log, job_id, self._check)


class _LockedStream:
    """Whole lines from several threads."""

    def __init__(self, stream: LineStream) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, text: str) -> None:
        """Write and flush a line."""
        with self._lock:
            self._stream.write(text)
            self._stream.flush()

    def flush(self) -> None:
        """Nothing is held back."""


def _end_process() -> None:
    """End at once: a job that does not stop may hold the interpreter's locks."""
    remove_unfinished_folders()
    os._exit(ExitCode.CANCELLED)


def _read_lines(source: ByteSource) -> Iterator[bytes | None]:
    """Yield the lines of a stream as they come; None in place of one that is too long."""
    pending, skipping = b"", False
    while block := source.read(_BLOCK_BYTES):
        *lines, pending = (pending + block).split(b"\n")
        for line in lines:
            if not skipping and line.strip():
                yield line if len(line) <= MAX_REQUEST_BYTES else None
            skipping = False
        if len(pending) > MAX_REQUEST_BYTES:
            if not skipping:
                yield None
            pending, skipping = b"", True


def _find_id(line: bytes | None) -> str:
    """The id in a request that could not be read, so that its sender learns that it failed."""
    try:
        content = json.loads(line or b"")
    except (ValueError, RecursionError):
        return ""
    job_id = content.get("id") if isinstance(content, dict) and content.get("type") == "job" else None
    return job_id if isinstance(job_id, str) else ""


def _require_absolute_paths(job: AnimateJob | CharacterJob | ReshapeJob) -> None:
    for name in ("audio", "output", "weights", "head_weights", "cache"):
        path = getattr(job, name, None)
        if path is not None and not path.is_absolute():
            raise UsageError(f"{name}: expected an absolute path, got {path}")
