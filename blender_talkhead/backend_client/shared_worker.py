"""The warm worker that one job hands to the next; it ends with Blender or when the add-on is disabled."""

from __future__ import annotations

import atexit
import threading
from pathlib import Path

from .worker_process import BackendWorker

_workers: dict[Path, BackendWorker] = {}
_EXIT_PATIENCE_SECONDS = 1.0


def shared_worker(python: Path) -> BackendWorker:
    """Return the worker of a Python, not yet started the first time; idle workers of other Pythons are closed.

    Args:
        python: the Python that has torch.
    """
    for other in [path for path, worker in _workers.items() if path != python and not worker.has_jobs]:
        threading.Thread(target=_workers.pop(other).close, daemon=True).start()
    if python not in _workers:
        if not _workers:
            atexit.register(close_shared_worker)
        _workers[python] = BackendWorker(python)
    return _workers[python]


def close_shared_worker() -> None:
    """End the shared workers and their jobs; without one it does nothing."""
    atexit.unregister(close_shared_worker)
    while _workers:
        _workers.popitem()[1].close(_EXIT_PATIENCE_SECONDS)
