"""The unit of a neural head model of the built-in head, and the pose of its canonical space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX

CANONICAL_POSE = {"jawOpen": 0.2}
"""Pose of the canonical space: lips a few millimetres apart, lids open. Closed lips could not be opened by a continuous
deformation; the wider they stand apart, the steeper it must be where they meet."""


def canonical_weights() -> NDArray[np.float32]:
    """Return CANONICAL_POSE as (52,) blendshape weights in ARKit order."""
    weights = np.zeros(len(ARKIT_BLENDSHAPES), dtype=np.float32)
    for name, value in CANONICAL_POSE.items():
        weights[BLENDSHAPE_INDEX[name]] = value
    return weights


@dataclass(frozen=True)
class HeadSpace:
    """Where the model's unit lies in the backend's metres: the head fills about -0.5 to 0.5, as official heads do."""

    metres_per_unit: float = 0.25
    """Length of the model's unit."""
    center_y_m: float = -0.03
    """Height of the model's origin."""
    center_z_m: float = 0.02
    """Depth of the model's origin."""

    def __post_init__(self) -> None:
        if self.metres_per_unit <= 0:
            raise ValueError(f"metres_per_unit must be over 0, got {self.metres_per_unit}")

    @property
    def center(self) -> NDArray[np.float64]:
        """(3,) the origin in metres; it lies on the plane of symmetry."""
        return np.array([0.0, self.center_y_m, self.center_z_m])

    def to_model(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """(..., 3) metres to the model's unit."""
        scaled: NDArray[np.float32] = ((points - self.center) / self.metres_per_unit).astype(np.float32)
        return scaled

    def to_metres(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """(..., 3) of the model's unit to metres."""
        moved: NDArray[np.float64] = points.astype(np.float64) * self.metres_per_unit + self.center
        return moved
