"""Mouth and lids of the built-in head as linear maps of its expression codes: no surface is needed to measure them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from torch_backend.head import Head, load_head
from torch_backend.head.expression_codes import ExpressionSpace, load_expression_space
from torch_backend.metrics.mouth_shape import MIDDLE_SHARE
from torch_backend.training.face_motion import mouth_corner

BUILT_IN_HEAD = "built-in head"
"""Fact `head` of code sequences in the built-in head's expression space."""
_LEAST_SHARE = 1e-4
"""Directions of the lips' gap that move it less than this share of the strongest are left out."""


class MouthOfCodes:
    """Linear maps from codes (T, E) to what is measured at the mouth and the lids, in millimetres."""

    def __init__(self, head: Head, space: ExpressionSpace) -> None:
        """Make the maps.

        Args:
            head: the mean head, whose lips touch at rest.
            space: its expression space.
        """
        to_curves = np.linalg.pinv(space.matrix)  # (E, 52); exact for what moves skin
        shapes = head.blendshapes.astype(np.float64) * 1e3
        upper, lower = np.asarray(head.lip_contact_pairs).T
        gaps = shapes[:, upper] - shapes[:, lower]  # (52, P, 3)
        across = np.abs(head.vertices[upper, 0])
        middle = across < MIDDLE_SHARE * across.max()
        corners = [mouth_corner(head, side) for side in ("left", "right")]
        lids = np.asarray(head.regions["lid_margin"])
        self.opening: NDArray[np.float64] = to_curves @ gaps[:, middle, 1].mean(axis=1)
        """(E,) mean height of the gap in the middle of the lips."""
        self.width: NDArray[np.float64] = to_curves @ (shapes[:, corners[0], 0] - shapes[:, corners[1], 0])
        """(E,) change of the distance between the corners."""
        self.lids: NDArray[np.float64] = to_curves @ shapes[:, lids, 1].mean(axis=1)
        """(E,) mean height of the lid margins."""
        left, values, _ = np.linalg.svd(to_curves @ gaps.reshape(len(gaps), -1), full_matrices=False)
        kept = values > _LEAST_SHARE * values[0]
        self.gap: NDArray[np.float64] = left[:, kept] * values[kept] / np.sqrt(len(upper))
        """(E, R): the squared length of codes @ gap is the mean square of the vectors between the lips."""


@lru_cache(maxsize=1)
def load_mouth_of_codes() -> MouthOfCodes:
    """Return the maps of the built-in head; they are made once and shared."""
    return MouthOfCodes(load_head(), load_expression_space())
