"""Signed distances of the built-in head, computed once and kept: entries of one identity in one pose, many points each.

A folder holds points.npy (E, P, 3), distances.npy (E, P), canonical.npy (E, P, 3), weights.npy (E, 52), faces.npy (E,)
and index.json with what they were made from. Numbers in the model's unit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.contract.errors import OutputError
from torch_backend.training.head_samples import HeadSampler, SampledFace

FORMAT_VERSION = 1
_ARRAYS = ("points", "distances", "canonical", "weights", "faces")


@dataclass(frozen=True)
class DistancePool:
    """Points with distances, by entries."""

    points: NDArray[np.float32]
    """(E, P, 3) posed space."""
    distances: NDArray[np.float32]
    """(E, P)."""
    canonical: NDArray[np.float32]
    """(E, P, 3) where the points come from."""
    weights: NDArray[np.float32]
    """(E, 52) the poses."""
    faces: NDArray[np.int64]
    """(E,) which of the identities."""

    def take(self, entries: NDArray[np.integer], columns: NDArray[np.integer]) -> tuple[NDArray[np.float32], ...]:
        """Return points, distances and canonical places of columns (n, q) of entries (n,)."""
        rows = entries[:, None]
        return self.points[rows, columns], self.distances[rows, columns], self.canonical[rows, columns]


def make_pool(
    sampler: HeadSampler,
    faces: Sequence[SampledFace],
    chosen: Sequence[int],
    weights: NDArray[np.floating],
    seed: int,
    report: Callable[[float], None],
) -> DistancePool:
    """Measure the distances of E entries.

    Args:
        sampler: how points are drawn.
        faces: identities.
        chosen: E, which identity each entry has.
        weights: (E, 52) which pose.
        seed: of the points.
        report: called with the fraction done; may raise to stop.
    """
    samples = []
    for entry, (face, pose) in enumerate(zip(chosen, weights, strict=True)):
        generator = np.random.default_rng(np.random.SeedSequence([seed, entry]))
        samples.append(sampler.draw_distances(faces[face], pose, generator))
        report((entry + 1) / len(chosen))
    return DistancePool(
        np.stack([each.points for each in samples]),
        np.stack([each.distances for each in samples]),
        np.stack([each.canonical for each in samples]),
        np.asarray(weights, np.float32),
        np.asarray(chosen, np.int64),
    )


def load_or_make_pool(folder: Path, source: dict[str, Any], make: Callable[[], DistancePool]) -> DistancePool:
    """Return the pool of a folder; one that is missing, broken or made from something else is made and written.

    Args:
        folder: where it is kept.
        source: JSON-able, what it is made from.
        make: makes it.

    Raises:
        OutputError: it cannot be written.
    """
    wanted = json.loads(json.dumps({"format_version": FORMAT_VERSION, **source}))
    try:
        if json.loads((folder / "index.json").read_text(encoding="utf-8")) == wanted:
            return DistancePool(*(np.load(folder / f"{name}.npy", allow_pickle=False) for name in _ARRAYS))
    except (OSError, ValueError):
        pass  # there is none yet
    pool = make()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.json").unlink(missing_ok=True)
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(pool, name), allow_pickle=False)
        partial = folder / ".index.json.partial"
        partial.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
        partial.replace(folder / "index.json")
    except OSError as error:
        raise OutputError(f"cannot write the samples {folder}: {error}") from error
    return pool
