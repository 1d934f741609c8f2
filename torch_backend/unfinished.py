"""Folders that hold unfinished work, so that a process which cannot wait any longer can remove them before it ends."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

_lock = threading.Lock()
_folders: set[Path] = set()


@contextlib.contextmanager
def unfinished_folder(path: Path) -> Iterator[Path]:
    """Note a folder for as long as the block lasts; the block itself makes and removes it."""
    with _lock:
        _folders.add(path)
    try:
        yield path
    finally:
        with _lock:
            _folders.discard(path)


def remove_unfinished_folders() -> None:
    """Remove all folders that are noted; for the end of a process whose jobs do not stop."""
    with _lock:
        folders = list(_folders)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
