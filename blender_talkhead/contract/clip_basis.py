"""The optional basis of a motion clip: few shapes and signed weights that repeat its motion within an error limit.

Where the clip has a performance, they repeat the remainder: the motion less what blendshape_weights make of it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

BASIS_FILE = "basis.json"
SHAPES_FILE = "basis_shapes.npy"
WEIGHTS_FILE = "basis_weights.npy"
_MOTION, _REMAINDER = "motion", "remainder"


def save_clip_basis(
    folder: Path,
    shapes: FloatArray,
    weights: FloatArray,
    error_limit_m: float,
    max_error_m: float,
    is_remainder: bool = False,
) -> None:
    """Write the files of a basis into the folder of a motion clip.

    Args:
        folder: of the clip.
        shapes: (K, V, 3) displacements at weight 1, metres, backend axes, most important first, float32.
        weights: (T, K) within -1..1, float32.
        error_limit_m: largest distance from the clip that was asked for, metres.
        max_error_m: largest distance of any vertex in any frame, measured, metres.
        is_remainder: they repeat what the clip's blendshape_weights leave out.

    Raises:
        OSError: a file cannot be written.
    """
    np.save(folder / SHAPES_FILE, shapes, allow_pickle=False)
    np.save(folder / WEIGHTS_FILE, weights, allow_pickle=False)
    content = {
        "error_limit_mm": error_limit_m * 1000.0,
        "max_error_mm": max_error_m * 1000.0,
        "repeats": _REMAINDER if is_remainder else _MOTION,
    }
    (folder / BASIS_FILE).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def load_clip_basis(folder: Path, num_frames: int, num_vertices: int) -> dict[str, Any]:
    """Read the basis of a motion clip.

    Returns:
        The fields of `MotionClip` that begin with "basis_"; empty when the clip has no basis.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: a file is damaged, or does not belong to this clip.
    """
    if not (folder / BASIS_FILE).exists():
        return {}
    content = json.loads((folder / BASIS_FILE).read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{BASIS_FILE} must hold a JSON object, got {type(content).__name__}")
    lengths = []
    for name in ("error_limit_mm", "max_error_mm"):
        value = content.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{BASIS_FILE}: {name} must be a length in millimetres, got {value!r}")
        lengths.append(value / 1000.0)
    if content.get("repeats") not in (_MOTION, _REMAINDER):
        raise ValueError(f"{BASIS_FILE}: repeats must be {_MOTION!r} or {_REMAINDER!r}, got {content.get('repeats')!r}")
    shapes = np.load(folder / SHAPES_FILE, mmap_mode="r", allow_pickle=False)
    weights = np.load(folder / WEIGHTS_FILE, allow_pickle=False)
    validate_clip_basis(shapes, weights, num_frames, num_vertices)
    return {
        "basis_shapes": shapes,
        "basis_weights": weights,
        "basis_error_limit_m": lengths[0],
        "basis_max_error_m": lengths[1],
        "basis_is_remainder": content["repeats"] == _REMAINDER,
    }


def validate_clip_basis(shapes: FloatArray, weights: FloatArray, num_frames: int, num_vertices: int) -> None:
    """Check types, shapes and ranges of a basis.

    Raises:
        ValueError: names the array, what was expected and what was found.
    """
    count = len(shapes)
    for name, array, expected in (
        ("basis_shapes", shapes, (count, num_vertices, 3)),
        ("basis_weights", weights, (num_frames, count)),
    ):
        if array.dtype != np.float32 or array.shape != expected or count == 0:
            raise ValueError(f"{name} must be float32 {expected} of at least 1 shape, got {array.dtype} {array.shape}")
    if not all(np.isfinite(shape).all() for shape in shapes):
        raise ValueError("basis_shapes must be finite everywhere")
    if not (np.abs(weights) <= 1.0).all():  # also false for NaN
        raise ValueError("basis_weights must lie within -1..1")
