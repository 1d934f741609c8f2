"""The process around a headless job: its streams, and the signals that cancel it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

_interrupted = threading.Event()
"""Set by Ctrl-C and SIGTERM: a KeyboardInterrupt that is raised inside Cycles' own Python does not get through."""


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Let a request to terminate cancel the job as Ctrl-C does, so that it cleans up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _interrupted.clear()

    def interrupt(number: int, frame: FrameType | None) -> None:
        _interrupted.set()
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def stop_if_interrupted() -> None:
    """Raise KeyboardInterrupt when the job was cancelled, even where the first one was swallowed."""
    if _interrupted.is_set():
        raise KeyboardInterrupt


@contextmanager
def silence() -> Iterator[None]:
    """Send stdout and stderr nowhere: Cycles prints its steps on one, and a traceback when cancelled on the other."""
    streams = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.flush()
    kept = {number: os.dup(number) for number in (1, 2)}
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in kept:
        os.dup2(nowhere, number)
    os.close(nowhere)
    try:
        yield
    finally:
        for stream in streams:
            stream.flush()
        for number, copy in kept.items():
            os.dup2(copy, number)
            os.close(copy)


def mute_stderr() -> None:
    """Keep what Cycles prints about its interrupted render, while Python ends, from the user."""
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def take_over_stdout() -> TextIO:
    """Return a stream to the real stdout, and send everything else that is written there to stderr."""
    sys.stdout.flush()
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return stream
