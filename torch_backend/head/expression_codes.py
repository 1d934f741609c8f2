"""Expression codes of the built-in head: a fixed linear map between the 52 ARKit weights and 200 numbers.

The first coordinates are those of a pose's displacement field in an orthonormal basis, so that the distance of two
codes is the root mean square of how far the face lies apart, in millimetres; lips and eyelids count more than their
area. Gaze and the tongue's stretching out move no skin: they follow as coordinates of their own. The rest are 0.

The map depends on the template alone. It splits into coordinates that are the same for a mirrored pose and such that
change their sign, so that equal sizes of the two kinds do not mix them differently on different machines.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from torch_backend.head.head import Head, load_head

CODE_SIZE = 200
"""Length of a code, that of the official neural head models."""
EMPHASIS = 10.0
"""How much more than its area a vertex of the lips or the eyelids counts."""
_EMPHASIZED_REGIONS = ("lips", "eyelids")
_STILL_MM = 1.0
"""Vertices that no blendshape moves further are no part of the face that is averaged over."""
_NO_MOTION_MM = 1e-3
"""Root mean square below which a direction moves nothing."""
_STEADINESS_MM = 3e-4
"""Cost of a weight of 1 in `decode`: chooses the smallest of weights that look alike, and is far below any shape."""
_ROUNDS = 400
_CHECKED_EVERY = 25
_SETTLED = 1e-6
"""Change of all weights in a round, and their distance from the bounded ones, at which the search ends."""
_PENALTY = 0.05
_RELAXATION = 1.6
_MIRRORED = {"Left": "Right", "Right": "Left"}


@dataclass(frozen=True, eq=False)
class ExpressionSpace:
    """The map: codes = weights @ matrix."""

    matrix: NDArray[np.float64]
    """(52, 200) millimetres; its first `num_motion` columns are the basis's, then one for each shape without skin."""
    num_motion: int
    """Coordinates that move the skin."""
    num_coordinates: int
    """Columns that are not 0: those, and one for each blendshape that moves no skin."""
    mirror_signs: NDArray[np.float64]
    """(200,) 1 or -1: a mirrored pose's skin has the code times these. Not for the coordinates after `num_motion`."""

    def encode(self, weights: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the codes (..., 200) of blendshape weights (..., 52) in ARKit order.

        Raises:
            ValueError: another number of weights.
        """
        weights = np.asarray(weights, dtype=np.float64)
        if weights.shape[-1:] != (len(self.matrix),):
            raise ValueError(f"expected weights (..., {len(self.matrix)}), got {weights.shape}")
        return (weights @ self.matrix).astype(np.float32)

    def decode(self, codes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the weights (..., 52) within 0..1 whose codes are nearest to codes (..., 200).

        Raises:
            ValueError: another length of codes, or values that are not finite.
        """
        codes = np.asarray(codes, dtype=np.float64)
        if codes.shape[-1:] != (self.matrix.shape[1],) or not np.isfinite(codes).all():
            raise ValueError(f"expected finite codes (..., {self.matrix.shape[1]}), got {codes.shape}")
        targets = codes.reshape(-1, codes.shape[-1]) @ self.matrix.T
        weights = _solve_bounded(self._products, targets)
        return weights.reshape(*codes.shape[:-1], len(self.matrix)).astype(np.float32)

    @cached_property
    def _products(self) -> NDArray[np.float64]:
        products: NDArray[np.float64] = self.matrix @ self.matrix.T
        return products + _STEADINESS_MM**2 * np.eye(len(products))


def build_expression_space(head: Head) -> ExpressionSpace:
    """Return the space of a head: the built-in mean head's serves all its identities.

    Raises:
        ValueError: the head's blendshapes need more coordinates than a code has.
    """
    products = _displacement_products(head)
    symmetric, antisymmetric = _mirror_bases()
    columns, signs = [], []
    for basis, sign in ((symmetric, 1.0), (antisymmetric, -1.0)):
        values, vectors = np.linalg.eigh(basis.T @ products @ basis)
        for value, vector in zip(values[::-1], vectors.T[::-1], strict=True):
            if value > _NO_MOTION_MM**2:
                column = products @ (basis @ vector) / np.sqrt(value)
                columns.append(column * np.sign(column[np.abs(column).argmax()]))
                signs.append(sign)
    order = np.argsort([-np.linalg.norm(column) for column in columns], kind="stable")
    still = np.flatnonzero(np.diag(products) <= _NO_MOTION_MM**2)
    count = len(columns) + len(still)
    if count > CODE_SIZE:
        raise ValueError(f"expected at most {CODE_SIZE} coordinates, got {count}")
    matrix, mirror_signs = np.zeros((len(products), CODE_SIZE)), np.ones(CODE_SIZE)
    for place, index in enumerate(order):
        matrix[:, place], mirror_signs[place] = columns[index], signs[index]
    matrix[still, len(columns) + np.arange(len(still))] = 1.0
    matrix.setflags(write=False)
    return ExpressionSpace(matrix, len(columns), count, mirror_signs)


@lru_cache(maxsize=1)
def load_expression_space() -> ExpressionSpace:
    """Return the built-in head's space; it is made once and shared."""
    return build_expression_space(load_head())


def _displacement_products(head: Head) -> NDArray[np.float64]:
    """(52, 52) scalar products of the skin's displacement fields: weighted means over the face, square millimetres."""
    skin = head.num_skin_vertices
    rest, triangles = head.vertices[:skin].astype(np.float64), head.skin_triangles
    fields = head.blendshapes[:, :skin].astype(np.float64) * 1e3
    edges = rest[triangles[:, 1:]] - rest[triangles[:, :1]]
    areas = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    shares: NDArray[np.float64] = np.bincount(triangles.ravel(), np.repeat(areas, 3), skin).astype(np.float64)
    for name in _EMPHASIZED_REGIONS:
        shares[head.regions[name]] *= EMPHASIS
    shares[np.linalg.norm(fields, axis=2).max(axis=0) < _STILL_MM] = 0.0
    scaled = fields * np.sqrt(shares / shares.sum())[None, :, None]
    flat = scaled.reshape(len(fields), -1)
    products: NDArray[np.float64] = flat @ flat.T
    return products


def _mirror_bases() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Orthonormal (52, n) and (52, m): weights that a mirror leaves as they are, and weights that it negates."""
    count = len(ARKIT_BLENDSHAPES)
    partners = np.array([BLENDSHAPE_INDEX[_mirrored_name(name)] for name in ARKIT_BLENDSHAPES])
    swap = np.zeros((count, count))
    swap[np.arange(count), partners] = 1.0
    even = [np.eye(count)[i] + swap[i] for i in range(count) if i <= partners[i]]
    odd = [np.eye(count)[i] - swap[i] for i in range(count) if i < partners[i]]
    bases = [np.stack(rows, axis=1) for rows in (even, odd)]
    return bases[0] / np.linalg.norm(bases[0], axis=0), bases[1] / np.linalg.norm(bases[1], axis=0)


def _mirrored_name(name: str) -> str:
    for side, other in _MIRRORED.items():
        if name.endswith(side):
            return name.removesuffix(side) + other
    return name


def _solve_bounded(products: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares within 0..1 for all rows at once: min w P w / 2 - w t, by the alternating direction method.

    Args:
        products: (K, K) positive definite.
        targets: (T, K).

    Returns:
        (T, K).
    """
    values, vectors = np.linalg.eigh(products)
    exact = (targets @ vectors / values) @ vectors.T
    solved = np.clip(exact, 0.0, 1.0)
    rows = np.flatnonzero(np.abs(exact - solved).max(axis=1, initial=0.0) > 1e-6)
    if not len(rows):
        return solved
    # Scaled by the diagonal, so that one penalty fits small and large shapes.
    scale = 1.0 / np.sqrt(np.diag(products))
    inverse = np.linalg.inv(products * np.outer(scale, scale) + _PENALTY * np.eye(len(scale)))
    wanted, upper = targets[rows] * scale, 1.0 / scale
    free = np.clip(exact[rows] / scale, 0.0, upper)
    bounded, dual = free.copy(), np.zeros_like(free)
    for number in range(_ROUNDS):
        before = bounded
        free = (wanted + _PENALTY * (bounded - dual)) @ inverse
        relaxed = _RELAXATION * free + (1.0 - _RELAXATION) * bounded
        bounded = np.clip(relaxed + dual, 0.0, upper)
        dual += relaxed - bounded
        if number % _CHECKED_EVERY == 0:
            moved = max(np.abs((bounded - before) * scale).max(), np.abs((free - bounded) * scale).max())
            if moved < _SETTLED:
                break
    solved[rows] = bounded * scale
    return solved
