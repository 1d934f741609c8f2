"""Lips that nearly touch, touch: what is left between them at p, b and m is closed within the motion space.

A network that is unsure of a closure leaves a gap of some tenths of a millimetre, which no mouth that speaks makes: its
lips are either apart or in contact. Where the gap comes under a limit it is taken to zero, the more so the smaller it
is, whatever the sound. The order of gaps stays, so the step neither delays a closure nor invents one where the lips
were further apart. It was chosen on synthetic speech of voices that the encoder had not heard.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from blender_talkhead.facial.blendshapes import BLENDSHAPE_INDEX
from torch_backend.head.head import Head
from torch_backend.metrics.mouth_shape import MIDDLE_SHARE
from torch_backend.modules.motion_space import MotionSpace

LIMIT_MILLIMETRES = 1.0
"""Gaps from here on stay as they are. Held-out synthetic lips that are apart on purpose are further apart."""
CONTACT_WEIGHT = 300.0
"""Of the squared vector between the lips at a contact pair, against the squared change of a vertex."""
_MILLIMETRES_PER_CENTIMETRE = 10.0
_MILLIMETRES_PER_METRE = 1000.0
_MOUTH_CLOSE = BLENDSHAPE_INDEX["mouthClose"]


class LipSeal:
    """A change of the motion space's weights; set up once for a model."""

    def __init__(self, head: Head, space: MotionSpace) -> None:
        """Find the way from a motion to the nearest one whose lips touch.

        Args:
            head: the mean head.
            space: of the model, in centimetres.

        Raises:
            ValueError: the space is another head's.
        """
        shapes = space.shapes.cpu().numpy().astype(np.float64)  # (K, V, 3)
        if shapes.shape[1] != head.num_skin_vertices:
            raise ValueError(f"expected shapes of {head.num_skin_vertices} vertices, got {shapes.shape[1]}")
        upper, lower = np.asarray(head.lip_contact_pairs).T
        gaps = shapes[:, upper] - shapes[:, lower]  # (K, P, 3); at rest the lips touch
        flat, contact = shapes.reshape(len(shapes), -1), gaps.reshape(len(shapes), -1)
        products = flat @ flat.T
        # The nearest motion minimises (w' - w) products (w' - w) + weight |w' contact|^2.
        change = np.linalg.solve(products + CONTACT_WEIGHT * contact @ contact.T, products).T - np.eye(len(shapes))
        across = np.abs(head.vertices[upper, 0])
        middle = across < MIDDLE_SHARE * across.max()
        opening = gaps[:, middle, 1].mean(axis=1) * _MILLIMETRES_PER_CENTIMETRE
        self._change = torch.from_numpy(change.astype(np.float32)).to(space.shapes.device)
        self._opening = torch.from_numpy(opening.astype(np.float32)).to(space.shapes.device)

    def __call__(self, weights: torch.Tensor) -> torch.Tensor:
        """Weights (T, K) of a motion into those of the same with nearly closed lips closed."""
        apart = (weights @ self._opening / LIMIT_MILLIMETRES).clamp(0.0, 1.0)
        share = 1.0 - apart.square() * (3.0 - 2.0 * apart)
        sealed: torch.Tensor = weights + share[:, None] * (weights @ self._change)
        return sealed


class CurveSeal:
    """The same for curves of the built-in head: what is missing is added to mouthClose."""

    def __init__(self, head: Head) -> None:
        """Measure what every curve does to the lips.

        Args:
            head: the mean head, whose lips touch at rest.
        """
        upper, lower = np.asarray(head.lip_contact_pairs).T
        across = np.abs(head.vertices[upper, 0])
        middle = across < MIDDLE_SHARE * across.max()
        heights = head.blendshapes[..., 1].astype(np.float64) * _MILLIMETRES_PER_METRE
        self._opening = (heights[:, upper[middle]] - heights[:, lower[middle]]).mean(axis=1)

    def __call__(self, curves: NDArray[np.float32]) -> NDArray[np.float32]:
        """Curves (T, 52) into those of the same with nearly closed lips closed."""
        opening = np.maximum(curves @ self._opening, 0.0)
        apart = np.clip(opening / LIMIT_MILLIMETRES, 0.0, 1.0)
        share = 1.0 - apart**2 * (3.0 - 2.0 * apart)
        sealed = curves.copy()
        needed = share * opening / -self._opening[_MOUTH_CLOSE]
        sealed[:, _MOUTH_CLOSE] = np.minimum(curves[:, _MOUTH_CLOSE] + needed, 1.0)
        return sealed
