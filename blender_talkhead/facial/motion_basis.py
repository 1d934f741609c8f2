"""Few shapes and signed weights that repeat a motion within an error limit: a streamed singular value decomposition.

No frame matrix is ever held: shapes that explain each piece of the clip are collected, rotated to the principal ones,
and as few of them kept as the limit allows. The error is then measured on every frame, in the float32 arithmetic that
Blender evaluates shape keys with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

CHUNK_BYTES = 24 * 1024 * 1024
"""Size of one piece of vertex offsets; a few copies of it are alive at a time."""
_COLLECTING_PART = 0.25
"""Part of the error limit that the collected shapes may miss before any is dropped."""
_COLLECTED, _WEIGHED = 0.6, 0.8
"""Where collecting shapes and finding their weights end, as parts of the whole fit; verifying follows."""
_FITTED_PART = 0.99
"""Part of the error limit that the basis may take; the rest is for the rounding of what is made from it."""
_ROWS_AT_ONCE = 16
_NUM_CANDIDATES = 128
"""Frames that the number of shapes is searched on, before all frames are verified."""


@dataclass(frozen=True)
class MotionBasis:
    """A motion as weighted shapes: offsets[t] = sum over k of weights[t, k] * shapes[k]."""

    shapes: FloatArray
    """(K, V, 3) displacements at weight 1, metres, in the axes of the motion, most important first."""
    weights: FloatArray
    """(T, K) weights within -1..1, one row a frame of the clip."""
    max_error_m: float
    """Largest distance of any vertex in any frame from the clip, measured; metres."""


def shift_to_nonnegative(basis: MotionBasis) -> MotionBasis:
    """Return the same motion with all weights within 0..1, by one more shape whose weight is always 1.

    Programs that read shape keys often limit their values to 0..1 (Blender's own glTF importer does, game engines may).
    Each weight is therefore counted from its lowest value, and the first shape holds what that leaves out, the lowest
    values of all shapes together. All weights at 0 are still the rest shape, half of all weights is half of the motion,
    and between frames the motion is linear as before (which a plus and a minus half of each shape would not be).
    """
    lowest, highest = basis.weights.min(axis=0), basis.weights.max(axis=0)
    spans = highest - lowest
    moving = spans > 0
    shift = np.tensordot(lowest.astype(np.float64), basis.shapes, axes=1)
    shapes = basis.shapes[moving] * spans[moving, None, None]
    weights = np.clip((basis.weights[:, moving] - lowest[moving]) / spans[moving], 0.0, 1.0)
    return MotionBasis(
        np.concatenate([shift[None], shapes]).astype(np.float32),
        np.concatenate([np.ones((len(weights), 1)), weights], axis=1).astype(np.float32),
        basis.max_error_m,
    )


class _Motion:
    """The frames of a motion, read again and again in pieces."""

    def __init__(self, num_frames: int, num_vertices: int, read: Callable[[int, int], FloatArray]) -> None:
        self.num_frames = num_frames
        self.num_vertices = num_vertices
        self.read = read

    def __len__(self) -> int:
        return self.num_frames

    def chunks(self, report: Callable[[float], None] = lambda fraction: None) -> Iterator[tuple[int, FloatArray]]:
        """Yield (first frame, offsets (n, V, 3)) over all frames; tells the part of them that was dealt with."""
        size = max(1, CHUNK_BYTES // (12 * self.num_vertices))
        for first in range(0, self.num_frames, size):
            stop = min(first + size, self.num_frames)
            yield first, self.read(first, stop)
            report(stop / self.num_frames)


def fit_motion_basis(
    num_frames: int,
    read_offsets: Callable[[int, int], FloatArray],
    rest: FloatArray,
    error_limit_m: float,
    report: Callable[[float], None] = lambda fraction: None,
) -> MotionBasis:
    """Find the shapes and weights of a motion.

    Args:
        num_frames: T, frames of the motion at its own frame rate. (A linear interpolation in time stays within the
            same error.)
        read_offsets: `read_offsets(first, stop)` gives the frames first..stop-1 as (stop - first, V, 3) displacements
            from the rest positions, metres; every frame is read a few times.
        rest: (V, 3) rest positions, metres, in the same axes: shape keys store positions, so their rounding counts.
        error_limit_m: largest distance that any vertex may have from the clip, metres.
        report: called with the done fraction, 0..1.

    Returns:
        The basis; its `max_error_m` is at most `error_limit_m`. A motion of nothing gives one shape of zeros.

    Raises:
        ValueError: there are no frames, the limit is not above 0, or so small that float32 positions cannot keep it.
    """
    if num_frames < 1:
        raise ValueError(f"expected a motion of at least 1 frame, got {num_frames}")
    if not error_limit_m > 0:
        raise ValueError(f"error_limit_m must be above 0, got {error_limit_m}")
    error_limit_m *= _FITTED_PART
    frames = _Motion(num_frames, len(rest), read_offsets)
    collected = _collect_shapes(frames, _COLLECTING_PART * error_limit_m, lambda done: report(_COLLECTED * done))
    if len(collected) == 0:
        zeros = np.zeros((1, frames.num_vertices, 3), np.float32)
        return _verified(frames, rest, zeros, np.zeros((len(frames), 1), np.float32), error_limit_m)
    chunks = frames.chunks(lambda done: report(_COLLECTED + (_WEIGHED - _COLLECTED) * done))
    weights = np.concatenate([_flat(chunk) @ collected.T for _, chunk in chunks])
    shapes, weights = _principal(collected, weights)
    shapes, weights = _scaled_to_sliders(shapes, weights)
    stored = _as_stored(shapes, rest)
    candidates = np.unique(np.linspace(0, len(frames) - 1, _NUM_CANDIDATES).round().astype(int))
    count = 1
    while True:
        count = _smallest_count(frames, stored, weights, candidates, count, error_limit_m)
        errors = _frame_errors(
            frames, stored[:count], weights[:, :count], lambda done: report(_WEIGHED + (1.0 - _WEIGHED) * done)
        )
        worst = int(errors.argmax())
        if errors[worst] <= error_limit_m:
            return MotionBasis(
                stored[:count].reshape(count, -1, 3), np.ascontiguousarray(weights[:, :count]), float(errors[worst])
            )
        if count == len(stored):
            raise ValueError(f"the error limit {error_limit_m} m is too small for float32, got {errors[worst]} m")
        failing = np.flatnonzero(errors > error_limit_m)
        hardest = failing[np.argsort(errors[failing])[-_NUM_CANDIDATES // 2 :]]
        candidates = np.unique(np.concatenate([candidates, hardest]))
        count += 1


def _flat(offsets: FloatArray) -> FloatArray:
    return offsets.reshape(len(offsets), -1)


def _vertex_errors(residual: FloatArray) -> NDArray[np.float32]:
    """Return the largest vertex distance of each row of (n, 3V) residuals."""
    squares = (residual.reshape(len(residual), -1, 3) ** 2).sum(axis=2)
    largest: NDArray[np.float32] = np.sqrt(squares.max(axis=1))
    return largest


def _collect_shapes(frames: _Motion, limit: float, report: Callable[[float], None]) -> FloatArray:
    """Return orthonormal rows (K, 3V) that explain every frame within `limit`, piece by piece."""
    basis = np.zeros((0, 3 * frames.num_vertices), np.float32)
    for _, chunk in frames.chunks(report):
        residual = _flat(chunk)
        residual = residual - (residual @ basis.T) @ basis
        if _vertex_errors(residual).max() > limit:
            basis = np.concatenate([basis, _leading_rows(residual, basis, limit)])
    return basis


def _leading_rows(residual: FloatArray, basis: FloatArray, limit: float) -> FloatArray:
    """Return orthonormal rows, orthogonal to `basis`, that explain `residual` (n, 3V) within `limit`."""
    gram = residual.astype(np.float64) @ residual.T.astype(np.float64)  # (n, n)
    _, directions = np.linalg.eigh(gram)
    known, remaining = basis, residual.copy()
    for first in range(0, len(directions), _ROWS_AT_ONCE):
        block = directions[:, ::-1][:, first : first + _ROWS_AT_ONCE].T.astype(np.float32) @ residual  # (n, 3V)
        block = _orthonormal_rows(block, known)
        known = np.concatenate([known, block])
        remaining -= (remaining @ block.T) @ block
        if len(block) == 0 or _vertex_errors(remaining).max() <= limit:
            break
    return known[len(basis) :]


def _orthonormal_rows(rows: FloatArray, known: FloatArray) -> FloatArray:
    """Return orthonormal rows that span what `rows` (n, 3V) add to the orthonormal rows `known`."""
    for _ in range(2):  # twice is enough to be orthogonal to rounding (Kahan)
        rows = rows - (rows @ known.T) @ known
        gram = rows.astype(np.float64) @ rows.T.astype(np.float64)
        values, directions = np.linalg.eigh(gram)
        kept = values > max(values[-1] * 1e-10, 1e-24)
        rows = ((directions[:, kept] / np.sqrt(values[kept])).T @ rows).astype(np.float32)
    return rows


def _principal(rows: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Rotate orthonormal rows (K, 3V) and weights (T, K) so that the weights are uncorrelated, largest first."""
    exact = weights.astype(np.float64)
    _, rotation = np.linalg.eigh(exact.T @ exact)
    rotation = rotation[:, ::-1]
    rotated = exact @ rotation
    peaks = rotated[np.abs(rotated).argmax(axis=0), np.arange(rotated.shape[1])]
    rotation = rotation * np.where(peaks < 0, -1.0, 1.0)  # a unique sign: the largest weight is positive
    return (rotation.T @ rows).astype(np.float32), (exact @ rotation).astype(np.float32)


def _scaled_to_sliders(shapes: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Scale so that the largest |weight| of each shape is 1: Blender limits values to the slider's range."""
    peaks = np.maximum(np.abs(weights).max(axis=0), np.finfo(np.float32).tiny)
    return shapes * peaks[:, None], np.clip(weights / peaks, -1.0, 1.0)


def _as_stored(shapes: FloatArray, rest: FloatArray) -> FloatArray:
    """Return shapes (K, 3V) as they come back from keys that store float32 positions."""
    flat_rest = rest.reshape(1, -1)
    stored: FloatArray = (flat_rest + shapes).astype(np.float32) - flat_rest
    return stored


def _smallest_count(
    frames: _Motion,
    shapes: FloatArray,
    weights: FloatArray,
    candidates: NDArray[np.int64],
    at_least: int,
    limit: float,
) -> int:
    """Return how few leading shapes keep the candidate frames within the limit (at most all of them)."""
    needed = at_least
    for index in candidates:
        residual = _flat(frames.read(int(index), int(index) + 1)) - weights[index, :needed] @ shapes[:needed]
        while needed < len(shapes) and _vertex_errors(residual)[0] > limit:
            residual = residual - weights[index, needed] * shapes[needed]
            needed += 1
    return needed


def _frame_errors(
    frames: _Motion,
    shapes: FloatArray,
    weights: FloatArray,
    report: Callable[[float], None] = lambda fraction: None,
) -> NDArray[np.float32]:
    """Return the largest vertex distance of each frame between the clip and its weighted shapes."""
    errors = [
        _vertex_errors(_flat(chunk) - weights[first : first + len(chunk)] @ shapes)
        for first, chunk in frames.chunks(report)
    ]
    return np.concatenate(errors)


def _verified(frames: _Motion, rest: FloatArray, shapes: FloatArray, weights: FloatArray, limit: float) -> MotionBasis:
    stored = _as_stored(shapes.reshape(len(shapes), -1), rest)
    error = float(_frame_errors(frames, stored, weights).max())
    if error > limit:
        raise ValueError(f"expected an error of at most {limit} m, got {error} m")
    return MotionBasis(stored.reshape(shapes.shape), weights, error)
