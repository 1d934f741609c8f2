"""Motion of teeth, gums and tongue with the jaw, read from the skin of the chin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from torch_backend.head.head import Head

TRUSTED_SHIFT_M = (0.001, 0.003)
"""Mean shifts of the chin, metres, from which its own rotation begins to count and from which it counts fully."""

RESTING_SHIFT_M = (0.0003, 0.001)
"""Mean shifts of the chin up to which the parts rest, and from which they follow fully: blinks move the chin's skin."""


def fit_jaw_motion(
    rest: NDArray[np.floating], moved: NDArray[np.floating], hinge: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit what a jaw can do, a rotation about the left-right axis and a translation, in the least-squares sense.

    The closed form of the planar Procrustes problem in the y-z plane; sideways only the mean shift counts. The chin is
    small and the molars are far from it: a tenth of a millimetre of noise in a chin at rest would throw them about. So
    while the chin as a whole hardly moves, the angle is that of a rotation about the hinge that shifts the chin so far.

    Args:
        rest: (A, 3) points, metres.
        moved: (n, A, 3) the same points, n times moved.
        hinge: (3,) a point on the jaw's axis.

    Returns:
        rotation (n, 3, 3) and translation (n, 3): moved = rest @ rotation^T + translation.

    Raises:
        ValueError: when the shapes do not belong together or fewer than 2 points are given.
    """
    if rest.ndim != 2 or moved.shape[1:] != rest.shape or rest.shape[-1] != 3 or len(rest) < 2:
        raise ValueError(f"expected rest (A >= 2, 3) and moved (n, A, 3), got {rest.shape} and {moved.shape}")
    rest64, moved64 = rest.astype(np.float64), moved.astype(np.float64)
    center, moved_center = rest64.mean(axis=0), moved64.mean(axis=1)
    arms, moved_arms = rest64 - center, moved64 - moved_center[:, None]
    cross = (arms[:, 1] * moved_arms[..., 2] - arms[:, 2] * moved_arms[..., 1]).sum(axis=1)
    dot = (arms[:, 1] * moved_arms[..., 1] + arms[:, 2] * moved_arms[..., 2]).sum(axis=1)
    shift = moved_center - center
    lever = center - hinge
    hinged = (lever[1] * shift[:, 2] - lever[2] * shift[:, 1]) / (lever[1] ** 2 + lever[2] ** 2)
    trust = _smooth_step(np.linalg.norm(shift, axis=1), TRUSTED_SHIFT_M)
    angle = trust * np.arctan2(cross, dot) + (1.0 - trust) * hinged
    rotation = np.zeros((len(moved), 3, 3))
    rotation[:, 0, 0] = 1.0
    rotation[:, 1, 1] = rotation[:, 2, 2] = np.cos(angle)
    rotation[:, 2, 1] = np.sin(angle)
    rotation[:, 1, 2] = -rotation[:, 2, 1]
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
    rotation, translation = fit_jaw_motion(rest, rest + offsets, head.jaw_hinge)
    first = head.num_skin_vertices
    followers = head.regions["jaw_parts"]
    points = head.vertices[followers].astype(np.float64)
    moved = np.einsum("nij,pj->npi", rotation, points) + translation[:, None]
    following = _smooth_step(np.linalg.norm(offsets.mean(axis=1), axis=1), RESTING_SHIFT_M)
    result = np.zeros((len(offsets), len(head.vertices) - first, 3), dtype=np.float32)
    result[:, followers - first] = following[:, None, None] * (moved - points)
    return result


def _smooth_step(values: NDArray[np.floating], limits: tuple[float, float]) -> NDArray[np.float64]:
    """0 below the lower limit, 1 above the upper one, smooth between."""
    share = np.clip((values.astype(np.float64) - limits[0]) / (limits[1] - limits[0]), 0.0, 1.0)
    result: NDArray[np.float64] = share * share * (3.0 - 2.0 * share)
    return result
