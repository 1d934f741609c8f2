"""FDD: whether the upper face moves as much as it should."""

from __future__ import annotations

from typing import Literal

import numpy as np

from torch_backend.metrics.region_vertex_error import cut_to_true

DynamicsNorm = Literal["plain", "squared"]


class UpperFaceDynamicsDeviation:
    """FDD = mean over clips of mean_{v in upper face} (dyn_v(true) - dyn_v(predicted)); nearer zero is better.

    dyn_v(m) = population standard deviation over time of ||m_{t,v}|| (`plain`, MMTalker and CodeTalker's text; unit
    m) or of ||m_{t,v}||^2 (`squared`, CodeTalker's `main/cal_metric.py`, which the published tables use; unit m^2,
    printed x 1e-7 on VOCASET), with m the displacement from the subject's template. It is signed: clips with too much
    and clips with too little motion cancel, so report `compute_absolute` beside it.
    """

    def __init__(self, upper_face: np.ndarray, norm: DynamicsNorm = "squared") -> None:
        """Measure over `upper_face`, (R,) vertex indices, with one of the two norms.

        Raises:
            ValueError: the region is empty or the norm unknown.
        """
        self._region = np.asarray(upper_face, np.int64)
        if self._region.ndim != 1 or not len(self._region):
            raise ValueError(f"expected a vector of at least one vertex index, got shape {self._region.shape}")
        if norm not in ("plain", "squared"):
            raise ValueError(f"expected the norm 'plain' or 'squared', got {norm!r}")
        self._norm = norm
        self._deviations: list[float] = []

    def update(self, true: np.ndarray, predicted: np.ndarray, template: np.ndarray) -> None:
        """Add one clip.

        Args:
            true: (T, V, 3) positions, metres.
            predicted: (T or more, V, 3) positions, metres; cut to the length of the true motion.
            template: (V, 3) rest positions of the subject, metres.

        Raises:
            ValueError: the shapes do not fit together.
        """
        true, predicted = cut_to_true(true, predicted)
        if template.shape != true.shape[1:]:
            raise ValueError(f"expected a template of shape {true.shape[1:]}, got {template.shape}")
        rest = template[self._region].astype(np.float64)
        deviation = self._dynamics(true, rest).mean() - self._dynamics(predicted, rest).mean()
        self._deviations.append(float(deviation))

    def compute(self) -> float:
        """Return the signed mean over clips; NaN before the first clip."""
        return float(np.mean(self._deviations)) if self._deviations else float("nan")

    def compute_absolute(self) -> float:
        """Return the mean over clips of the absolute deviation; NaN before the first clip."""
        return float(np.mean(np.abs(self._deviations))) if self._deviations else float("nan")

    def _dynamics(self, motion: np.ndarray, rest: np.ndarray) -> np.ndarray:
        squared = ((motion[:, self._region] - rest) ** 2).sum(axis=2)
        values = squared if self._norm == "squared" else np.sqrt(squared)
        return np.asarray(values.std(axis=0))
