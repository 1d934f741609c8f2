"""Motion of teeth, gums and tongue with the jaw, read from the skin of the chin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from torch_backend.head.head import Head


def fit_rigid_motion(
    rest: NDArray[np.floating], moved: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit rotation and translation that carry points onto moved points, in the least-squares sense (Kabsch, 1976).

    Args:
        rest: (A, 3) points.
        moved: (n, A, 3) the same points, n times moved.

    Returns:
        rotation (n, 3, 3) and translation (n, 3): moved = rest @ rotation^T + translation.

    Raises:
        ValueError: when the shapes do not belong together or fewer than 3 points are given.
    """
    if rest.ndim != 2 or moved.shape[1:] != rest.shape or rest.shape[-1] != 3 or len(rest) < 3:
        raise ValueError(f"expected rest (A >= 3, 3) and moved (n, A, 3), got {rest.shape} and {moved.shape}")
    rest64, moved64 = rest.astype(np.float64), moved.astype(np.float64)
    center, moved_center = rest64.mean(axis=0), moved64.mean(axis=1)
    covariance = np.einsum("nai,aj->nij", moved64 - moved_center[:, None], rest64 - center)
    left, _, right = np.linalg.svd(covariance)  # (n, 3, 3)
    signs = np.ones((len(moved), 3))
    signs[:, 2] = np.sign(np.linalg.det(left @ right))
    rotation = (left * signs[:, None, :]) @ right
    return rotation, moved_center - np.einsum("nij,j->ni", rotation, center)


def follow_jaw(head: Head, jaw_anchor_offsets: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the displacements of all parts but the skin that belong to a motion of the chin.

    The jaw's rigid motion is fitted to the anchor vertices; lower teeth, lower gums and tongue take it, the
    upper teeth, upper gums and the eyes stay.

    Args:
        head: the head the offsets belong to.
        jaw_anchor_offsets: (n, A, 3) displacements of the vertices head.regions["jaw_anchor"], metres.

    Returns:
        (n, V - Vskin, 3) displacements of the non-skin vertices, metres.

    Raises:
        ValueError: when the offsets have another shape.
    """
    anchors = head.regions["jaw_anchor"]
    offsets = np.asarray(jaw_anchor_offsets)
    if offsets.ndim != 3 or offsets.shape[1:] != (len(anchors), 3):
        raise ValueError(f"expected jaw anchor offsets (n, {len(anchors)}, 3), got {offsets.shape}")
    rest = head.vertices[anchors]
    rotation, translation = fit_rigid_motion(rest, rest + offsets)
    first = head.num_skin_vertices
    followers = head.regions["jaw_parts"]
    points = head.vertices[followers].astype(np.float64)
    moved = np.einsum("nij,pj->npi", rotation, points) + translation[:, None]
    result = np.zeros((len(offsets), len(head.vertices) - first, 3), dtype=np.float32)
    result[:, followers - first] = moved - points
    return result
