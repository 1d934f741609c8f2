"""Models that stay in memory between the jobs of a worker, and how memory is given back (imports no torch)."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from blender_talkhead.contract.jobs import AnimateJob
from torch_backend.info import WEIGHTS_FOLDER

CAPACITY = 2
"""Enough to compare two settings; models of users' own may be large."""


class ModelCache:
    """Keeps what was used last.

    Args:
        capacity: number of things kept.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, load: Callable[[], Any]) -> Any:
        """Return what is kept under a key; it is loaded when it is not there."""
        if key not in self._kept:
            while len(self._kept) >= self._capacity:
                self._kept.popitem(last=False)  # before loading, so that there is never one more in memory
            self._kept[key] = load()
        self._kept.move_to_end(key)
        return self._kept[key]

    def release(self) -> bool:
        """Drop everything and give the memory back to the system; returns whether there was anything."""
        had_any = bool(self._kept)
        self._kept.clear()
        trim_memory()
        return had_any


def model_key(job: AnimateJob, device: str) -> tuple[Hashable, ...]:
    """What a loaded model depends on: files with their times of change, device, precision, projection."""
    files = _file_stamp(job.weights or WEIGHTS_FOLDER), _source_stamp(job.encoder), _file_stamp(job.head_weights)
    return (job.method, *files, device, job.precision, job.project_motion)


def trim_memory() -> None:
    """Give memory that nothing uses back to the system, and to the graphics card."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc, others have none
        if trim is not None:
            trim(0)


def _source_stamp(source: str | None) -> Hashable:
    """A file's or folder's stamp; a name on the hub stands for itself."""
    return None if source is None else (_file_stamp(Path(source)) or source)


def _file_stamp(path: Path | None) -> Hashable:
    if path is None:
        return None
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return tuple((str(file.resolve()), file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    except OSError:
        return None
