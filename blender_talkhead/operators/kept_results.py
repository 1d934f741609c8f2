"""Results of FaceTalk that are kept on disk: the backend writes them, what was unused for longest goes first."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path


def list_results(folder: Path) -> list[Path]:
    """Return the kept results and unfinished sequences of a folder, the one unused for longest first."""
    try:
        found = [path for path in folder.iterdir() if path.is_dir()]
    except OSError:
        return []
    return sorted(found, key=_last_use)


def trim_results(folder: Path, limit_bytes: float) -> int:
    """Remove the oldest results until the others take no more than a limit; returns how many went."""
    results = [(path, _count_bytes(path)) for path in list_results(folder)]
    total, removed = sum(size for _, size in results), 0
    for path, size in results:
        if total <= limit_bytes:
            break
        shutil.rmtree(path, ignore_errors=True)
        total -= size
        removed += 1
    return removed


def _last_use(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _count_bytes(folder: Path) -> int:
    total = 0
    with contextlib.suppress(OSError):
        total = sum(path.stat().st_size for path in folder.iterdir())
    return total
