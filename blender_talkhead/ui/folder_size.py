"""How much a folder holds, counted on a thread: an environment has tens of thousands of files."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

_COUNT_AGAIN_SECONDS = 20.0

_sizes: dict[Path, int] = {}
_counted_at: dict[Path, float] = {}


def folder_bytes(folder: Path) -> int | None:
    """Return the bytes in a folder as last counted; None before the first count. Starts a count when that is old."""
    now = time.monotonic()
    if now - _counted_at.get(folder, -1e9) > _COUNT_AGAIN_SECONDS:
        _counted_at[folder] = now
        threading.Thread(target=_count, args=(folder,), daemon=True).start()
    return _sizes.get(folder)


def forget_sizes() -> None:
    """Count anew."""
    _counted_at.clear()
    _sizes.clear()


def _count(folder: Path) -> None:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118 - many files
    _sizes[folder] = total
