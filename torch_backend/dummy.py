"""The dummy job: a real job without a model, that succeeds, fails or misbehaves as it is told."""

from __future__ import annotations

import os
import time

from blender_talkhead.contract.jobs import DummyJob
from torch_backend.emitter import Emitter

_STEP_SECONDS = 0.02
_HANG_SECONDS = 3600.0
_FLOOD_BYTES = 100 * 1024 * 1024
_FLOOD_LINE = b"flood " * 20 + b"\n"
_GARBAGE = ("not a message", '{"type": "sing"}', "[1, 2", "\x00\x1b[31m", "x" * 2_000_000)
CRASH_EXIT_CODE = 86


def run_dummy(job: DummyJob, emitter: Emitter) -> None:
    """Wait for `job.seconds` in the phases of the job, and misbehave half way.

    Raises:
        ZeroDivisionError: the behaviour "fail", an error that nothing expects.
        MemoryError: the behaviour "allocate".
    """
    seconds_each = job.seconds / len(job.phases)
    for index, name in enumerate(job.phases):
        report = emitter.phase(name, index / len(job.phases), (index + 1) / len(job.phases))
        begun = time.monotonic()
        if index == len(job.phases) // 2:
            _misbehave(job.behaviour, emitter)
        while (passed := time.monotonic() - begun) < seconds_each:
            report(passed / seconds_each)
            time.sleep(min(_STEP_SECONDS, seconds_each - passed))
        report(1.0)


def _misbehave(behaviour: str, emitter: Emitter) -> None:
    if behaviour == "fail":
        raise ZeroDivisionError("told to fail")
    if behaviour == "crash":
        os._exit(CRASH_EXIT_CODE)
    if behaviour == "hang":
        time.sleep(_HANG_SECONDS)
    if behaviour == "garbage":
        os.write(1, b"a library that prints\n")
        for line in _GARBAGE:
            emitter.report(line)
    if behaviour == "flood":
        for _ in range(_FLOOD_BYTES // len(_FLOOD_LINE)):
            os.write(2, _FLOOD_LINE)
    if behaviour == "allocate":
        bytearray(1 << 60)
