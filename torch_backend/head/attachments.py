"""What grows on the skin and follows it: every vertex of brows and lashes is a fixed sum of skin vertices.

The sums are affine: their shares add up to 1 and give the vertex's own place, so whatever moves a neighbourhood of the
skin rigidly, or stretches it evenly, moves the hairs on it in the same way. Displacements follow by the same shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from torch_backend.head.author_space import Array
from torch_backend.head.part_mesh import PartMesh

IntArray = NDArray[np.int64]

_LEAST_EXTENT = 1e-9
"""Relative size of the smallest extent of a neighbourhood that still tells a direction."""


@dataclass(frozen=True)
class Hair:
    """One hair: its vertices, and the skin vertices it stands on."""

    vertices: Array
    """(n, 3) cm, the root first."""
    anchors: IntArray
    """(k,) skin vertices round the root."""
    nearness: Array
    """(k,) how much each counts, above 0; the more, the larger its share."""
    root_shares: Array | None = None
    """(k,) shares of the anchors in the point that it grows out of; None for the nearness."""


@dataclass(frozen=True)
class Attachments:
    """Meshes of hairs, and the shares by which they follow the skin."""

    parts: dict[str, PartMesh]
    """By part name, in the order of the vertices."""
    anchors: NDArray[np.int32]
    """(A,) skin vertices that the hairs stand on, sorted."""
    weights: NDArray[np.float32]
    """(Vatt, A) shares of the anchors in each vertex; every row adds up to 1."""

    @property
    def vertices(self) -> Array:
        """(Vatt, 3) cm."""
        return np.concatenate([part.vertices for part in self.parts.values()])


def affine_shares(points: Array, anchors: Array, nearness: Array, root_shares: Array | None = None) -> Array:
    """Return shares (n, k) of anchors (k, 3) that add up to 1 and give points (n, 3).

    Of all such shares they are the nearest to those of the root (k,), each change weighed by the anchor's nearness.

    Raises:
        ValueError: fewer than 4 anchors, or all of them in one plane.
    """
    if len(anchors) < 4 or len(nearness) != len(anchors):
        raise ValueError(f"expected at least 4 anchors and a nearness for each, got {len(anchors)} and {len(nearness)}")
    first = nearness / nearness.sum() if root_shares is None else root_shares
    middle = first @ anchors
    rows = np.concatenate([(anchors - middle).T, np.ones((1, len(anchors)))])  # (4, k)
    wanted = np.concatenate([(points - middle).T, np.ones((1, len(points)))])  # (4, n)
    normal = (rows * nearness) @ rows.T
    extent = np.linalg.eigvalsh(normal[:3, :3])
    if extent[0] <= _LEAST_EXTENT * extent[-1]:
        raise ValueError("expected anchors that do not lie in one plane")
    correction = np.linalg.solve(normal, wanted - (rows @ first)[:, None])
    return first + (nearness[:, None] * (rows.T @ correction)).T


def attach(hairs: Mapping[str, Sequence[Hair]], parts: dict[str, PartMesh], skin: Array) -> Attachments:
    """Return the meshes of hairs with their shares of the skin.

    Args:
        hairs: of each part, in the order of its vertices.
        parts: their meshes.
        skin: (Vskin, 3) the skin's vertices at rest.
    """
    every = [hair for group in hairs.values() for hair in group]
    anchors = np.unique(np.concatenate([hair.anchors for hair in every]))
    weights = np.zeros((sum(len(hair.vertices) for hair in every), len(anchors)))
    row = 0
    for hair in every:
        shares = affine_shares(hair.vertices, skin[hair.anchors], hair.nearness, hair.root_shares)
        weights[row : row + len(shares), np.searchsorted(anchors, hair.anchors)] = shares
        row += len(shares)
    return Attachments(parts, anchors.astype(np.int32), weights.astype(np.float32))


def follow_skin(weights: NDArray[np.floating], anchor_offsets: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the displacements (n, Vatt, 3) of attached vertices for displacements (n, A, 3) of their anchors.

    Raises:
        ValueError: when the shapes do not belong together.
    """
    if anchor_offsets.ndim != 3 or anchor_offsets.shape[1:] != (weights.shape[1], 3):
        raise ValueError(f"expected anchor offsets (n, {weights.shape[1]}, 3), got {anchor_offsets.shape}")
    moved: NDArray[np.float32] = np.matmul(weights.astype(np.float32), anchor_offsets.astype(np.float32))
    return moved
