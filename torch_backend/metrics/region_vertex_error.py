"""Largest vertex error over a region of the face, averaged over frames: the form shared by E_vl and E_ve."""

from __future__ import annotations

import numpy as np


class RegionVertexError:
    """Accumulates, clip by clip, mean over frames of max over region vertices of the squared distance.

    E = 1 / T * sum_t max_{v in region} ||true_{t,v} - predicted_{t,v}||^2, frames pooled over all clips (a long clip
    weighs more), no square root. Unit: m^2 for positions in metres. Lower is better.

    Source: MMTalker eq. 11 and 12; CodeTalker's `main/cal_metric.py` for pooling and the missing root.
    """

    def __init__(self, region: np.ndarray) -> None:
        """Measure over `region`, (R,) vertex indices.

        Raises:
            ValueError: the region is empty or not a vector.
        """
        self._region = np.asarray(region, np.int64)
        if self._region.ndim != 1 or not len(self._region):
            raise ValueError(f"expected a vector of at least one vertex index, got shape {self._region.shape}")
        self._sum_squared = 0.0
        self._sum_distance = 0.0
        self._num_frames = 0

    def update(self, true: np.ndarray, predicted: np.ndarray) -> None:
        """Add one clip.

        Args:
            true: (T, V, 3) metres.
            predicted: (T or more, V, 3) metres; cut to the length of the true motion.

        Raises:
            ValueError: the shapes do not fit together.
        """
        true, predicted = cut_to_true(true, predicted)
        difference = true[:, self._region].astype(np.float64) - predicted[:, self._region]
        largest = (difference**2).sum(axis=2).max(axis=1)
        self._sum_squared += float(largest.sum())
        self._sum_distance += float(np.sqrt(largest).sum())
        self._num_frames += len(largest)

    def compute(self) -> float:
        """Return the error in m^2; NaN before the first frame."""
        return self._sum_squared / self._num_frames if self._num_frames else float("nan")

    def compute_euclidean_mm(self) -> float:
        """Return the mean over frames of the largest distance (with the root), in mm; not the published quantity."""
        return 1000.0 * self._sum_distance / self._num_frames if self._num_frames else float("nan")


def cut_to_true(true: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Check two motions and cut the predicted one to the length of the true one.

    Raises:
        ValueError: a motion is not (T, V, 3), their vertices differ, or the prediction is shorter.
    """
    if true.ndim != 3 or true.shape[2] != 3 or predicted.ndim != 3 or predicted.shape[1:] != true.shape[1:]:
        raise ValueError(f"expected two motions of shape (T, V, 3), got {true.shape} and {predicted.shape}")
    if len(predicted) < len(true):
        raise ValueError(f"expected a prediction of at least {len(true)} frames, got {len(predicted)}")
    return true, predicted[: len(true)]
