"""The warm worker that one job hands to the next; it ends with Blender or when the add-on is disabled."""

from __future__ import annotations

import atexit
import threading
from pathlib import Path

from .worker_process import IDLE_SECONDS, BackendWorker

_workers: dict[Path, BackendWorker] = {}
_EXIT_PATIENCE_SECONDS = 1.0


def shared_worker(python: Path, idle_seconds: float = IDLE_SECONDS) -> BackendWorker:
    """Return the worker of a Python, not yet started the first time; idle workers of other Pythons are closed.

    Args:
        python: the Python that has torch.
        idle_seconds: after how long without a job it lets go of its models; counts from its next start on.
    """
    for other in [path for path, worker in _workers.items() if path != python and not worker.has_jobs]:
        threading.Thread(target=_workers.pop(other).close, daemon=True).start()
    if python not in _workers:
        if not _workers:
            atexit.register(close_shared_worker)
        _workers[python] = BackendWorker(python)
    _workers[python].idle_seconds = idle_seconds
    return _workers[python]


def close_shared_worker() -> None:
    """End the shared workers and their jobs; without one it does nothing."""
    atexit.unregister(close_shared_worker)
    while _workers:
        _workers.popitem()[1].close(_EXIT_PATIENCE_SECONDS)
