"""Skin vertices of the built-in head that a neural head model's local members stand on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from torch_backend.head.head import Head

_PAIR_LANDMARKS = (45, 42, 44, 54, 52, 56, 35, 24, 16)
"""Of the 68, on the head's own left: eye corners, lid, mouth corner, lips, nose wing, brow, ear."""
_MIDDLE_LANDMARKS = (27, 30, 51, 57, 8)
"""Of the 68, on the plane of symmetry: bridge and tip of the nose, lips, chin. The mouth bag's end joins them."""
_HIDDEN_REGIONS = ("nostrils", "neck_boundary")
NUM_PAIRS, NUM_MIDDLE = 16, 7
"""Of the official layout: mirrored pairs first, then members on the plane of symmetry."""
_LOWEST_Y = -0.12
"""Anchors stand above this, metres: below is the bust, which does not move."""


def member_anchor_vertices(head: Head, num_pairs: int = NUM_PAIRS, num_middle: int = NUM_MIDDLE) -> NDArray[np.int32]:
    """Choose anchors: landmarks first, then each time the vertex farthest from all chosen ones.

    Args:
        head: the built-in head; identities of it have the same anchors.
        num_pairs: mirrored pairs.
        num_middle: anchors on the plane of symmetry.

    Returns:
        (2 * num_pairs + num_middle,) vertices: [left, right, left, right, ..., middle, ...], left being the head's own.

    Raises:
        ValueError: more anchors than vertices.
    """
    skin = head.vertices[: head.num_skin_vertices].astype(np.float64)
    hidden = np.zeros(len(skin), dtype=bool)
    for name in _HIDDEN_REGIONS:
        hidden[head.regions[name]] = True
    usable = ~hidden & (skin[:, 1] > _LOWEST_Y)
    own = np.asarray(head.mirror) == np.arange(len(skin))
    landmarks = np.asarray(head.landmarks68)
    on_left, on_middle = np.flatnonzero(usable & ~own & (skin[:, 0] > 0)), np.flatnonzero(usable & own)
    left = _farthest_points(skin, on_left, landmarks[list(_PAIR_LANDMARKS)], num_pairs)
    bag = np.intersect1d(head.regions["mouth_bag"], on_middle)
    throat = bag[[int(skin[bag, 2].argmin())]]
    fixed = np.concatenate([landmarks[list(_MIDDLE_LANDMARKS)], throat])
    middle = _farthest_points(skin, on_middle, fixed, num_middle)
    pairs = np.stack([left, np.asarray(head.mirror)[left]], axis=1).ravel()
    return np.concatenate([pairs, middle]).astype(np.int32)


def _farthest_points(
    positions: NDArray[np.float64], candidates: NDArray[np.integer], first: NDArray[np.integer], number: int
) -> NDArray[np.integer]:
    """`number` vertices: the first ones, then candidates as far as possible from those chosen."""
    chosen = [int(vertex) for vertex in first[:number]]
    if number > len(chosen) + len(candidates):
        raise ValueError(f"expected at most {len(chosen) + len(candidates)} anchors, got {number}")
    distances = np.full(len(candidates), np.inf)
    for vertex in chosen:
        distances = np.minimum(distances, np.linalg.norm(positions[candidates] - positions[vertex], axis=1))
    while len(chosen) < number:
        vertex = int(candidates[int(distances.argmax())])
        chosen.append(vertex)
        distances = np.minimum(distances, np.linalg.norm(positions[candidates] - positions[vertex], axis=1))
    return np.array(chosen)
