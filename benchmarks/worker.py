"""What a warm worker saves and gives back: start of animating, resident memory, cancel, share of each phase.

    python -m benchmarks.worker [AUDIO] [--vertices 5000] [--basis-limit 0.02]

Megabytes are the resident set of the worker; seconds are those from a request to the begin of each phase.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from blender_talkhead.contract.jobs import AnimateJob
from blender_talkhead.contract.messages import (
    CancelMessage,
    DoneMessage,
    Message,
    ProgressMessage,
    ReleasedMessage,
)
from tests.running_worker import RunningWorker, running_worker

DEMO = Path(__file__).resolve().parents[1] / "blender_talkhead" / "demo" / "demo_sentence.wav"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audio", type=Path, nargs="?", default=DEMO)
    parser.add_argument("--vertices", type=int, default=5000)
    parser.add_argument("--basis-limit", type=float, default=0.02)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        job = AnimateJob(
            options.audio.absolute(),
            Path(folder) / "clip",
            vertices=options.vertices,
            basis_error_limit_mm=options.basis_limit,
        )
        print(json.dumps(measure(job), indent=1))


def measure(job: AnimateJob) -> dict[str, object]:
    """Seconds and megabytes of one worker from its start to the release of its models."""
    figures: dict[str, object] = {}
    begun = time.monotonic()
    with running_worker("--idle-seconds", 2) as worker:
        worker.next()
        figures["seconds_to_hello"] = round(time.monotonic() - begun, 3)
        figures["mb_at_start"] = megabytes(worker)
        for name in ("cold", "warm"):
            phases = run(worker, job)
            figures[f"{name}_seconds_to_animating"] = phases["animating"]
            figures[f"{name}_seconds"] = phases
            figures[f"{name}_mb"] = megabytes(worker)
        figures["cancel_seconds"] = cancel(worker, job)
        worker.until(lambda message: isinstance(message, ReleasedMessage))
        figures["released_mb"] = megabytes(worker)
        figures["warm_again_seconds_to_animating"] = run(worker, job)["animating"]
    return figures


def run(worker: RunningWorker, job: AnimateJob) -> dict[str, float]:
    """Seconds from the request to the begin of each phase, and to the end."""
    begun = time.monotonic()
    phases: dict[str, float] = {}

    def note(message: Message) -> bool:
        if isinstance(message, ProgressMessage):
            phases.setdefault(message.phase, round(time.monotonic() - begun, 3))
        return isinstance(message, DoneMessage)

    worker.submit("a", job)
    worker.until(note, timeout=600)
    return phases | {"end": round(time.monotonic() - begun, 3)}


def cancel(worker: RunningWorker, job: AnimateJob) -> float:
    """Seconds from a cancel while animating to its answer."""
    worker.submit("a", job)
    worker.until(lambda message: isinstance(message, ProgressMessage) and message.phase == "animating")
    begun = time.monotonic()
    worker.send(CancelMessage("a"))
    worker.answer("a")
    return round(time.monotonic() - begun, 3)


def megabytes(worker: RunningWorker) -> int:
    """Resident memory of the worker."""
    return round(worker.resident_bytes() / 1e6)


if __name__ == "__main__":
    main()
