"""identity_change folders: the built-in head's rest shape before and after its identity changed.

With the Jacobian of the change, motion that was made for the one becomes motion of the other: a displacement d of a
vertex becomes J d. Arrays are in backend model space (metres, x to the head's left, y up, z out of the face), of all
vertices of a clip's mesh.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import BackendError, OutputError

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int32]
Pivots = dict[str, tuple[float, float, float]]

CONTENT_FILE = "identity_change.json"
FORMAT_VERSION = 1
_ARRAYS = ("vertices", "previous_vertices", "jacobians", "jaw", "tongue", "tongue_jacobians")
_PIVOTS = ("head", "eye_left", "eye_right")


@dataclass(frozen=True)
class IdentityChange:
    """From one identity to another."""

    vertices: FloatArray
    """(V, 3) rest positions after the change, float32."""
    previous_vertices: FloatArray
    """(V, 3) rest positions before it, float32."""
    jacobians: FloatArray
    """(V, 3, 3) of the change at each vertex, float32; at what the jaw carries, of what the jaw does to it."""
    jaw: IntArray
    """(N,) int32, the vertices that the jaw carries stiffly: lower teeth and gums."""
    tongue: IntArray
    """(M,) int32, the vertices that move on the jaw."""
    tongue_jacobians: FloatArray
    """(M, 3, 3) of the change, for what the tongue does by itself, float32."""
    pivots: Pivots
    """What head, left and right eye turn about, after the change."""
    previous_pivots: Pivots
    """The same before it."""
    hair: FloatArray | None = None
    """(S, P, 3) points of the hairs after the change, float32; None without hair."""

    def validate(self) -> None:
        """Check types, shapes and that everything is finite.

        Raises:
            ValueError: names the array, what was expected and what was found.
        """
        count = len(self.vertices)
        shapes = {
            "vertices": (count, 3),
            "previous_vertices": (count, 3),
            "jacobians": (count, 3, 3),
            "tongue_jacobians": (len(self.tongue), 3, 3),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.dtype != np.float32 or array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"{name} must be finite float32 {shape}, got {array.dtype} {array.shape}")
        for name in ("jaw", "tongue"):
            indices = getattr(self, name)
            is_within = len(indices) == 0 or (indices.min() >= 0 and indices.max() < count)
            if indices.dtype != np.int32 or indices.ndim != 1 or not is_within:
                raise ValueError(f"{name} must be int32 indices of {count} vertices, got {indices.dtype}")
        if self.hair is not None:
            hair = self.hair
            if hair.dtype != np.float32 or hair.ndim != 3 or hair.shape[2] != 3 or not np.isfinite(hair).all():
                raise ValueError(f"hair must be finite float32 (S, P, 3), got {hair.dtype} {hair.shape}")
        for pivots in (self.pivots, self.previous_pivots):
            if set(pivots) != set(_PIVOTS) or not np.isfinite(np.array(list(pivots.values()), float)).all():
                raise ValueError(f"pivots must be finite points {_PIVOTS}, got {pivots}")


def save_identity_change(folder: Path, change: IdentityChange) -> None:
    """Write a folder under a temporary name, then rename it.

    Raises:
        ValueError: the change is not valid.
        OutputError: the folder exists, or cannot be written.
    """
    change.validate()
    partial = folder.parent / f".{folder.name}.{os.urandom(6).hex()}.partial"
    try:
        if os.path.lexists(folder):
            raise OutputError(f"{folder} exists; name another output folder or remove it")
        partial.mkdir(parents=True)
        for name in _ARRAYS:
            np.save(partial / f"{name}.npy", getattr(change, name), allow_pickle=False)
        if change.hair is not None:
            np.save(partial / "hair.npy", change.hair, allow_pickle=False)
        content = {
            "format_version": FORMAT_VERSION,
            "pivots": change.pivots,
            "previous_pivots": change.previous_pivots,
        }
        (partial / CONTENT_FILE).write_text(json.dumps(content, sort_keys=True, allow_nan=False), encoding="utf-8")
        partial.rename(folder)
    except OSError as error:
        raise OutputError(f"cannot write the result folder {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_identity_change(folder: Path) -> IdentityChange:
    """Read a folder.

    Raises:
        BackendError: missing, damaged, or of another format version.
    """
    try:
        content = json.loads((folder / CONTENT_FILE).read_text(encoding="utf-8"))
        if content["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format version {content['format_version']!r} instead of {FORMAT_VERSION}")
        arrays = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in _ARRAYS}
        hair = folder / "hair.npy"
        change = IdentityChange(
            **arrays,
            pivots=_read_pivots(content["pivots"]),
            previous_pivots=_read_pivots(content["previous_pivots"]),
            hair=np.load(hair, allow_pickle=False) if hair.exists() else None,
        )
        change.validate()
    except (OSError, ValueError, TypeError, KeyError, EOFError) as error:
        raise BackendError(f"the changed identity in {folder} is missing or damaged: {error}") from error
    return change


def _read_pivots(content: dict[str, list[float]]) -> Pivots:
    return {name: (float(point[0]), float(point[1]), float(point[2])) for name, point in content.items()}
