"""Fills a displacement given on some vertices smoothly over the rest of the mesh (harmonic and biharmonic solves)."""

from __future__ import annotations

from typing import Literal

import igl
import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray
from scipy.sparse.linalg import splu

from torch_backend.head.author_space import Array


class FieldSolver:
    """Solves L x = 0 or L M^-1 L x = 0 with fixed values, L the cotangent Laplacian and M the Voronoi mass matrix.

    Factorizations are kept by constraint set: the lip fields all share one.
    """

    def __init__(self, vertices: Array, triangles: NDArray[np.integer]) -> None:
        faces = triangles.astype(np.int64)
        laplacian = sparse.csc_matrix(igl.cotmatrix(vertices, faces))
        mass = sparse.csc_matrix(igl.massmatrix(vertices, faces, igl.MASSMATRIX_TYPE_VORONOI))
        inverse_mass = sparse.diags(1.0 / mass.diagonal())
        self._count = len(vertices)
        self._operators = {
            "harmonic": -laplacian,
            "biharmonic": sparse.csc_matrix(laplacian @ inverse_mass @ laplacian),
        }
        self._factors: dict[tuple[str, bytes], object] = {}

    def fill(
        self, fixed: NDArray[np.bool_], values: Array, kind: Literal["harmonic", "biharmonic"] = "biharmonic"
    ) -> Array:
        """Return values (V, C) that equal `values` where `fixed` (V,) and are smooth elsewhere.

        Raises:
            ValueError: when the shapes do not fit the mesh.
        """
        if fixed.shape != (self._count,) or values.ndim != 2 or len(values) != self._count:
            raise ValueError(
                f"expected fixed ({self._count},) and values ({self._count}, C), got {fixed.shape}, {values.shape}"
            )
        operator = self._operators[kind]
        free = ~fixed
        key = (kind, np.packbits(fixed).tobytes())
        if key not in self._factors:
            self._factors[key] = splu(sparse.csc_matrix(operator[free][:, free]))
        filled = values.copy()
        right_side = -(operator[free][:, fixed] @ values[fixed])
        filled[free] = self._factors[key].solve(right_side)  # type: ignore[attr-defined]
        return filled
