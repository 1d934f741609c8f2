"""FaceTalk's facial smoothing: deformations fade with the distance from the mouth (eq. 11-15).

The paper normalises the weights by their least and greatest value over the points of one grid. `SmoothingKernel` keeps
these two values, so that any other points (a refined cell, a tracked vertex) get the weights that the grid would give.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def compute_kernel(points: Tensor, center: Tensor, deviations: Tensor) -> Tensor:
    """Gaussian weights before normalisation (eq. 12 and 13).

    Args:
        points: (..., 3).
        center: (3,) control centre on the mouth (eq. 11), in the unit of the points.
        deviations: (3,) sigma along each axis.

    Returns:
        (...) positive.
    """
    squared = (((points - center) / deviations) ** 2).sum(dim=-1)  # d^2 of eq. 12
    return torch.exp(-0.5 * squared) / (2 * math.pi * deviations.prod())


@dataclass(frozen=True)
class SmoothingKernel:
    """A Gaussian around the mouth with the range that its weights are normalised by."""

    center: tuple[float, float, float]
    deviations: tuple[float, float, float]
    lowest: float
    """Least weight over the grid, before normalisation."""
    highest: float
    """Greatest weight over the grid, before normalisation."""

    def __post_init__(self) -> None:
        if len(self.center) != 3 or len(self.deviations) != 3 or min(self.deviations) <= 0:
            raise ValueError(
                f"expected three coordinates and three positive deviations, got {self.center} and {self.deviations}"
            )
        if not self.lowest < self.highest:
            raise ValueError(f"expected lowest < highest weight, got {self.lowest} and {self.highest}")

    @classmethod
    def from_points(cls, points: Tensor, center: Sequence[float], deviations: Sequence[float]) -> SmoothingKernel:
        """The kernel normalised over the points (M, 3) of a grid, as in eq. 14.

        Raises:
            ValueError: all points have the same weight.
        """
        weights = compute_kernel(points.double(), _vector(center), _vector(deviations))
        return cls(_triple(center), _triple(deviations), float(weights.min()), float(weights.max()))

    @classmethod
    def from_bounds(
        cls, lower: Sequence[float], upper: Sequence[float], center: Sequence[float], deviations: Sequence[float]
    ) -> SmoothingKernel:
        """The kernel normalised over all points of a box: what a grid in it comes to as it gets finer.

        Raises:
            ValueError: lower is not below upper.
        """
        if not all(low < high for low, high in zip(lower, upper, strict=True)):
            raise ValueError(f"expected lower < upper along every axis, got {lower} and {upper}")
        corners = list(itertools.product(*zip(lower, upper, strict=True)))
        nearest = [min(max(value, low), high) for value, low, high in zip(center, lower, upper, strict=True)]
        return cls.from_points(torch.tensor([*corners, nearest], dtype=torch.float64), center, deviations)

    def weigh(self, points: Tensor) -> Tensor:
        """Weights (...) of points (..., 3): 1 where the grid's greatest is, 0 where its least is, clamped to 0..1."""
        center = torch.tensor(self.center, dtype=points.dtype, device=points.device)
        deviations = torch.tensor(self.deviations, dtype=points.dtype, device=points.device)
        weights = compute_kernel(points, center, deviations)
        return ((weights - self.lowest) / (self.highest - self.lowest)).clamp(0, 1)

    def smooth(self, points: Tensor, deformations: Tensor) -> Tensor:
        """Deformations (..., C) of points (..., 3), multiplied by the points' weights (eq. 15).

        Raises:
            ValueError: there is not one deformation for each point.
        """
        if points.shape[:-1] != deformations.shape[:-1] or points.shape[-1] != 3:
            raise ValueError(
                "expected points (..., 3) and deformations (..., C), "
                f"got {tuple(points.shape)} and {tuple(deformations.shape)}"
            )
        return deformations * self.weigh(points)[..., None]


def _vector(values: Sequence[float]) -> Tensor:
    return torch.tensor(_triple(values), dtype=torch.float64)


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
