"""How far the lips are apart, and what of it is left when p b m say that they touch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def measure_lip_gap(positions: np.ndarray, contact_pairs: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Measure the gap between facing points of the two lips.

    Gap of a pair = its upper minus its lower point along y (up), minus the same at rest; positive is apart, negative
    is overlap.

    Args:
        positions: (T, V, 3) metres, y up.
        contact_pairs: (P, 2) indices of an upper and a lower vertex that touch at rest.
        rest: (V, 3) rest positions, metres.

    Returns:
        (T, P) millimetres.

    Raises:
        ValueError: positions or contact_pairs have another shape.
    """
    if positions.ndim != 3 or positions.shape[2] != 3:
        raise ValueError(f"expected positions of shape (T, V, 3), got {positions.shape}")
    pairs = np.asarray(contact_pairs)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs):
        raise ValueError(f"expected contact pairs of shape (P, 2), P >= 1, got {pairs.shape}")
    upper, lower = pairs[:, 0], pairs[:, 1]
    gap = positions[:, upper, 1].astype(np.float64) - positions[:, lower, 1]
    gap_at_rest = rest[upper, 1].astype(np.float64) - rest[lower, 1]
    return np.asarray(1000.0 * (gap - gap_at_rest))


class LipGapAtClosures:
    """Mean gap left at closures: mean over events of min over the event's frames of mean over pairs of max(0, gap).

    Millimetres, lower is better, 0 = the lips meet. Ours: published lip errors hide a mouth that never quite shuts,
    because the error of 2 mm at a closure is small beside that of a vowel.
    """

    def __init__(self, contact_pairs: np.ndarray) -> None:
        """Measure between `contact_pairs`, (P, 2) indices of an upper and a lower vertex that touch at rest."""
        self._pairs = np.asarray(contact_pairs)
        self._gaps: list[float] = []

    def update(self, positions: np.ndarray, rest: np.ndarray, closures: Sequence[tuple[int, int]]) -> None:
        """Add one clip.

        Args:
            positions: (T, V, 3) metres, y up.
            rest: (V, 3) rest positions, metres.
            closures: first frame and the frame behind the last of each p b m; events without a frame are left out.

        Raises:
            ValueError: the shapes do not fit together.
        """
        gap = np.maximum(measure_lip_gap(positions, self._pairs, rest), 0.0).mean(axis=1)
        self._gaps += [
            float(gap[max(0, start) : stop].min()) for start, stop in closures if len(gap[max(0, start) : stop])
        ]

    @property
    def num_events(self) -> int:
        """Number of closures seen."""
        return len(self._gaps)

    def compute(self) -> float:
        """Return the mean gap left, mm; NaN without events."""
        return float(np.mean(self._gaps)) if self._gaps else float("nan")

    def compute_share_within(self, limit_mm: float) -> float:
        """Return the share of events whose gap is at most `limit_mm`; NaN without events."""
        return float(np.mean(np.array(self._gaps) <= limit_mm)) if self._gaps else float("nan")
