"""A box divided into equal cubes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bounds = tuple[Sequence[float], Sequence[float]]
"""Lowest and highest corner of a box."""

CELL_CORNERS = np.array(
    [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)], dtype=np.int64
)
"""Corners of a cell in the order of libigl's Marching Cubes."""


@dataclass(frozen=True)
class Grid:
    """A box of cubic cells; its corners are numbered with x fastest."""

    origin: tuple[float, float, float]
    cell: float
    """Edge length of a cell, in the units of the points."""
    cells: tuple[int, int, int]
    """Cells along x, y and z; corners are one more."""
    padded_cells: tuple[int, int, int]
    """The same rounded up to whole coarse cells; corners are numbered in these."""

    @classmethod
    def over(cls, bounds: Bounds, resolution: int, coarsest: int = 1) -> Grid:
        """Return the grid over a box.

        Args:
            bounds: lowest and highest corner; the grid may reach less than a cell beyond the highest.
            resolution: cells along the longest side of the box.
            coarsest: cells along the edge of a coarse cell.

        Raises:
            ValueError: the box is empty or the resolution below 2.
        """
        low, high = (np.asarray(corner, dtype=np.float64) for corner in bounds)
        if low.shape != (3,) or high.shape != (3,) or not (np.isfinite(high - low).all() and (high > low).all()):
            raise ValueError(f"bounds must be two corners (3,) with low < high, got {bounds}")
        if resolution < 2:
            raise ValueError(f"resolution must be at least 2 cells, got {resolution}")
        cell = float((high - low).max()) / resolution
        counts = np.ceil((high - low) / cell - 1e-9).astype(int).tolist()
        padded = [-(-count // coarsest) * coarsest for count in counts]
        return cls(tuple(low.tolist()), cell, tuple(counts), tuple(padded))

    @property
    def num_corners(self) -> int:
        """How many values the dense extraction evaluates."""
        return int(np.prod([count + 1 for count in self.cells]))

    @property
    def num_padded_corners(self) -> int:
        """Above every number of a corner."""
        return int(np.prod([count + 1 for count in self.padded_cells]))

    def points(self, coordinates: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the places (n, 3) of corners whose coordinates (n, 3) count cells."""
        return np.asarray(self.origin) + self.cell * coordinates

    def coordinates(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the coordinates (n, 3) of numbered corners (n,)."""
        nx, ny = self.padded_cells[0] + 1, self.padded_cells[1] + 1
        return np.stack([numbers % nx, numbers // nx % ny, numbers // (nx * ny)], axis=-1)

    def numbers(self, coordinates: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers (...) of corners (..., 3)."""
        nx, ny = self.padded_cells[0] + 1, self.padded_cells[1] + 1
        result: NDArray[np.int64] = coordinates @ np.array([1, nx, nx * ny])
        return result
