"""The 68 facial landmarks: points pinned into the mesh before the fill, and their order (author space, cm)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from torch_backend.head.rings import CONTACT_RING, MOUTH_POINTS

if TYPE_CHECKING:
    from torch_backend.head.template import Template

PINNED_MIDLINE = [
    (0.0, 8.66, -10.50),  # 8, chin
    (0.0, 9.53, 0.56),  # 27..30, bridge of the nose
    (0.0, 10.07, -0.56),
    (0.0, 10.75, -1.97),
    (0.0, 11.37, -3.17),
    (0.0, 9.93, -4.53),  # 33, nose base
]
"""Landmarks on the midline."""

PINNED_SIDE = [
    (1.5, 8.05, -10.45),  # 9..16, jaw line from the chin to the left ear
    (2.9, 6.6, -10.0),
    (4.2, 4.6, -9.0),
    (5.0, 2.9, -7.9),
    (5.8, 2.0, -6.2),
    (6.3, 1.6, -4.4),
    (6.65, 1.35, -2.6),
    (6.8, 1.3, -0.8),
    (1.5, 9.6, 1.95),  # 22..26, left brow from the nose outwards
    (2.4, 9.4, 2.5),
    (3.3, 8.9, 2.7),
    (4.2, 8.2, 2.5),
    (5.0, 7.4, 1.95),
    (0.66, 9.50, -4.42),  # 34, 35, nose base to the wing
    (1.46, 9.40, -4.13),
]
"""Landmarks of the left side."""


_LID_RING = 3
_OUTER_LIP_RING_OFFSET = 5
_EYE_POINTS = (16, 11, 5, 0, 27, 21)
"""Points of a lid ring: outer corner, upper outer, upper inner, inner corner, lower inner, lower outer."""
_LIP_UPPER_POINTS = (12, 7, 3, 0)
_LIP_LOWER_POINTS = (24, 21, 17)
_INNER_LIP_STEP = 4


def landmark_vertices(template: Template) -> NDArray[np.int32]:
    """Return the skin vertices (68,) of the landmarks in the 68-point order (0..16 jaw from the head's right ear)."""
    mirror, pinned = template.mirror, template.pinned
    midline, side = pinned[: len(PINNED_MIDLINE)], pinned[len(PINNED_MIDLINE) :]
    jaw, brow, nose = side[:8], side[8:13], side[13:15]
    lid = template.rings["eyelid"][_LID_RING]
    outer = template.rings["mouth"][CONTACT_RING + _OUTER_LIP_RING_OFFSET]
    inner = template.rings["mouth"][CONTACT_RING]
    half, last, step = (MOUTH_POINTS - 1) // 2, MOUTH_POINTS - 1, _INNER_LIP_STEP
    right_eye = mirror[lid[list(_EYE_POINTS)]]
    left_eye = lid[[_EYE_POINTS[i] for i in (3, 2, 1, 0, 5, 4)]]
    upper, lower = outer[list(_LIP_UPPER_POINTS)], outer[list(_LIP_LOWER_POINTS)]
    groups = [
        mirror[jaw[::-1]], midline[:1], jaw,  # 0..16
        mirror[brow[::-1]], brow,  # 17..26
        midline[1:5],  # 27..30
        mirror[nose[::-1]], midline[5:], nose,  # 31..35
        right_eye, left_eye,  # 36..47
        mirror[upper[:3]], upper[::-1], lower[::-1], mirror[lower[1:]],  # 48..59
        [mirror[inner[half]], mirror[inner[step]], inner[0], inner[step], inner[half]],  # 60..64
        [inner[last - step], inner[last], mirror[inner[last - step]]],  # 65..67
    ]  # fmt: skip
    return np.concatenate([np.asarray(group) for group in groups]).astype(np.int32)


LANDMARK_MIRROR = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31,
     45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55,
     64, 63, 62, 61, 60, 67, 66, 65]
)  # fmt: skip
"""(68,) the landmark on the other side of the face."""
