"""Features at points of the surface by barycentric interpolation of vertex features (MMTalker, eq. 6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from torch_backend.modules.sparse_product import SparseOperator


@dataclass(frozen=True)
class SurfacePoints:
    """Points of the template surface."""

    triangle_vertices: np.ndarray
    """(M, 3) int64, the corners of each point's triangle."""
    barycentric: np.ndarray
    """(M, 3), not negative, rows sum to 1."""

    def __post_init__(self) -> None:
        if self.triangle_vertices.shape != self.barycentric.shape or self.triangle_vertices.shape[1:] != (3,):
            raise ValueError(
                "expected triangle_vertices and barycentric of shape (M, 3), got "
                f"{self.triangle_vertices.shape} and {self.barycentric.shape}"
            )

    def __len__(self) -> int:
        return len(self.triangle_vertices)

    @classmethod
    def at_vertices(cls, vertices: np.ndarray) -> SurfacePoints:
        """The points that lie on vertices."""
        corners = np.repeat(np.asarray(vertices, dtype=np.int64)[:, None], 3, axis=1)
        return cls(corners, np.tile([1.0, 0.0, 0.0], (len(corners), 1)))

    def joined(self, other: SurfacePoints) -> SurfacePoints:
        """These points, then the other ones."""
        return SurfacePoints(
            np.concatenate([self.triangle_vertices, other.triangle_vertices]),
            np.concatenate([self.barycentric, other.barycentric]),
        )

    def vertices(self) -> np.ndarray:
        """Sorted indices of the vertices that any point needs (a corner of weight 0 is not needed)."""
        return np.unique(self.triangle_vertices[self.barycentric > 0])

    def interpolation(self, vertices: np.ndarray) -> SparseOperator:
        """The operator (len(vertices), ...) -> (M, ...) that interpolates values at `vertices`.

        Args:
            vertices: sorted, at least those of `vertices()`.
        """
        rows = np.repeat(np.arange(len(self)), 3)
        weights = self.barycentric.ravel()
        used = weights > 0
        columns = np.searchsorted(vertices, self.triangle_vertices.ravel()[used])
        matrix = scipy.sparse.coo_matrix((weights[used], (rows[used], columns)), shape=(len(self), len(vertices)))
        return SparseOperator(matrix)
