"""What all kinds of result folders share: checks of arrays, and taking their final name at once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import OutputError
from .result import RESULT_FILE


def require_array(name: str, array: NDArray[Any], dtype: type, shape: tuple[int, ...]) -> None:
    """Raise ValueError where an array has another type or shape."""
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{name} must be {np.dtype(dtype)} {shape}, got {array.dtype} {array.shape}")


def require_range(name: str, indices: NDArray[np.int32], num_vertices: int) -> None:
    """Raise ValueError where an index is not that of a vertex."""
    if len(indices) and not (indices.min() >= 0 and indices.max() < num_vertices):
        raise ValueError(f"{name} must index 0..{num_vertices - 1}, got {indices.min()}..{indices.max()}")


def require_replaceable(target: Path) -> None:
    """Raise OutputError where something else than a result folder has the name of a new one."""
    if not os.path.lexists(target):
        return
    is_result = target.is_dir() and not target.is_symlink() and (target / RESULT_FILE).is_file()
    if not is_result:
        raise OutputError(f"{target} exists and is not a result folder; name another output folder or remove it")


def replace_folder(partial: Path, target: Path) -> None:
    """Rename `partial` to `target`; an old result folder of that name steps aside and comes back on failure."""
    require_replaceable(target)
    if not target.exists():
        partial.rename(target)
        return
    old = partial.with_suffix(".old")
    target.rename(old)
    try:
        partial.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
