"""The optional performance of a motion clip: what controls need to change a take without animating it again."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

PERFORMANCE_FILE = "performance.json"
BLENDSHAPES_FILE = "blendshapes.npy"
BLINKS_FILE = "blinks.npy"
PIVOTS = ("head", "eye_left", "eye_right")
NUM_BLENDSHAPES = 52
NUM_BLINK_COLUMNS = 6


@dataclass(frozen=True)
class ClipPerformance:
    """Shapes, pivots and blinks of a clip; see docs/protocol.md, section 5."""

    blendshapes: FloatArray
    """(52, V, 3) displacements of the clip's vertices at weight 1, metres, ARKit order; memory-mapped when loaded."""
    blinks: FloatArray
    """(N, 6) rows of blender_talkhead.facial.blinks.BLINK_COLUMNS, ascending in start."""
    pivots: dict[str, tuple[float, float, float]]
    """Points that head and eyes turn about, metres: names of PIVOTS."""
    max_error_m: float
    """Largest distance, of any skin vertex in any frame, between blendshape_weights @ blendshapes and the motion."""
    mean_error_m: float
    """The same distance, averaged over skin vertices and frames."""

    def validate(self, num_vertices: int) -> None:
        """Check types, shapes and ranges.

        Raises:
            ValueError: names the array or value, what was expected and what was found.
        """
        for name, array, shape in (
            ("blendshapes", self.blendshapes, (NUM_BLENDSHAPES, num_vertices, 3)),
            ("blinks", self.blinks, (len(self.blinks), NUM_BLINK_COLUMNS)),
        ):
            if array.dtype != np.float32 or array.shape != shape:
                raise ValueError(f"{name} must be float32 {shape}, got {array.dtype} {array.shape}")
            if not all(np.isfinite(row).all() for row in array):
                raise ValueError(f"{name} must be finite everywhere")
        if len(self.blinks) and (self.blinks[:, 1:4] <= 0).any():
            raise ValueError("blinks must have phases longer than 0 seconds")
        if sorted(self.pivots) != sorted(PIVOTS):
            raise ValueError(f"pivots must be {', '.join(PIVOTS)}, got {', '.join(sorted(self.pivots)) or 'none'}")
        numbers = [*(value for pivot in self.pivots.values() for value in pivot), self.max_error_m, self.mean_error_m]
        if len(numbers) != 3 * len(PIVOTS) + 2 or not all(map(math.isfinite, numbers)):
            raise ValueError(f"expected pivots of three finite numbers each, and finite errors, got {numbers}")


def save_clip_performance(folder: Path, performance: ClipPerformance) -> None:
    """Write the files of a performance into the folder of a motion clip.

    Raises:
        OSError: a file cannot be written.
    """
    np.save(folder / BLENDSHAPES_FILE, performance.blendshapes, allow_pickle=False)
    np.save(folder / BLINKS_FILE, performance.blinks, allow_pickle=False)
    content = {
        "pivots": {name: list(pivot) for name, pivot in performance.pivots.items()},
        "max_error_mm": performance.max_error_m * 1000.0,
        "mean_error_mm": performance.mean_error_m * 1000.0,
    }
    (folder / PERFORMANCE_FILE).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def load_clip_performance(folder: Path, num_vertices: int) -> ClipPerformance | None:
    """Read the performance of a motion clip; None when it has none.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: a file is damaged, or does not belong to this clip.
    """
    if not (folder / PERFORMANCE_FILE).exists():
        return None
    content = json.loads((folder / PERFORMANCE_FILE).read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{PERFORMANCE_FILE} must hold a JSON object, got {type(content).__name__}")
    try:
        pivots = {str(name): _read_point(pivot) for name, pivot in content["pivots"].items()}
        errors = [float(content[name]) / 1000.0 for name in ("max_error_mm", "mean_error_mm")]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{PERFORMANCE_FILE} lacks a field or has a wrong one: {error}") from error
    performance = ClipPerformance(
        blendshapes=np.load(folder / BLENDSHAPES_FILE, mmap_mode="r", allow_pickle=False),
        blinks=np.load(folder / BLINKS_FILE, allow_pickle=False),
        pivots=pivots,
        max_error_m=errors[0],
        mean_error_m=errors[1],
    )
    performance.validate(num_vertices)
    return performance


def _read_point(values: Any) -> tuple[float, float, float]:
    if not isinstance(values, list) or len(values) != 3:
        raise ValueError(f"{PERFORMANCE_FILE}: a pivot must be three numbers, got {values!r}")
    return float(values[0]), float(values[1]), float(values[2])
