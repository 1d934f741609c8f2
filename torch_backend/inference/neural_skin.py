"""Points of the built-in head's skin carried by the neural head model: its deformation, inverted frame by frame."""

from __future__ import annotations

import logging

import numpy as np
import torch
from numpy.typing import NDArray

from torch_backend.geometry.tracked_surface import InversionOptions, InvertedPoints, invert_deformation
from torch_backend.head.expression_codes import load_expression_space
from torch_backend.inference.head_model import BuiltInHeadModel, snap_to_canonical_surface

logger = logging.getLogger(__name__)

TOLERANCE_M = 2e-5
"""How exactly a point's place is found."""
LOST_M = 5e-4
"""A point that is further from every solution moves as the head's own shapes say."""
_ITERATIONS = 20
_APPROACHING_STEPS = 8


class NeuralSkin:
    """Moves skin points by the neural head model; what it makes of the head at rest is no motion.

    The points stand on the learned canonical surface. Where they are at rest by the model is subtracted, so that a clip
    keeps the exact form of its head and takes the motion from the model.
    """

    def __init__(
        self,
        head_model: BuiltInHeadModel,
        identity_code: NDArray[np.float32],
        canonical: NDArray[np.floating],
        reach_m: float = 0.0,
    ) -> None:
        """Find the points' places at rest.

        Args:
            head_model: the network.
            identity_code: (I,) whose face.
            canonical: (P, 3) the points in the canonical pose, metres.
            reach_m: how far they may lie from the learned surface, beyond the few millimetres that its errors are.
        """
        self._head_model = head_model
        self._space = load_expression_space()
        self._unit = head_model.space.metres_per_unit
        device = next(head_model.model.parameters()).device
        self._identity = torch.from_numpy(np.asarray(identity_code, np.float32))[None].to(device)
        points = head_model.space.to_model(np.asarray(canonical, np.float64))
        points = _approach(head_model, points, self._identity, reach_m / self._unit)
        self._canonical = snap_to_canonical_surface(head_model, points, self._identity).astype(np.float64)
        self._options = InversionOptions(TOLERANCE_M / self._unit, _ITERATIONS, 4)
        self._rest = self._place(np.zeros(self._space.matrix.shape[1], np.float32), None)

    @property
    def rest_points(self) -> NDArray[np.float64]:
        """(P, 3) where the model has the points at rest, metres."""
        return self._head_model.space.to_metres(self._rest.points)

    def move(self, curves: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Carry the points along.

        Args:
            curves: (n, 52) of frames that follow each other.

        Returns:
            Displacements from rest (n, P, 3) in metres, and whether each was found (n, P).
        """
        moved = np.empty((len(curves), len(self._canonical), 3), np.float32)
        is_found = np.empty(moved.shape[:2], bool)
        last = self._rest  # not the block before: a take then does not depend on what was asked for earlier
        for row, code in enumerate(self._space.encode(curves)):
            last = self._place(code, last)
            moved[row] = (last.points - self._rest.points) * self._unit
            is_found[row] = last.residuals * self._unit < LOST_M
        return moved, is_found & (self._rest.residuals * self._unit < LOST_M)

    def _place(self, code: NDArray[np.float32], last: InvertedPoints | None) -> InvertedPoints:
        expression = torch.from_numpy(code)[None].to(self._identity.device)

        def offset(points: NDArray[np.float64]) -> NDArray[np.float32]:
            asked = torch.from_numpy(points.astype(np.float32))[None].to(self._identity.device)
            with torch.inference_mode():
                moves: NDArray[np.float32] = (
                    self._head_model.model.deform(asked, self._identity, expression)[0][0].cpu().numpy()
                )
            return moves

        return invert_deformation(offset, self._canonical, last, self._options)


def _approach(
    head_model: BuiltInHeadModel, points: NDArray[np.float32], identity: torch.Tensor, reach: float
) -> NDArray[np.float32]:
    """Walk from points (P, 3) down the canonical distance, in small steps and no further than `reach`; model units."""
    if reach <= 0:
        return points
    places = torch.from_numpy(points)[None].to(identity.device)
    start, step = places, reach / _APPROACHING_STEPS
    for _ in range(_APPROACHING_STEPS):
        with torch.enable_grad():
            asked = places.detach().requires_grad_(True)
            padded = torch.nn.functional.pad(asked, (0, head_model.model.config.hyper_size))
            values = head_model.model.canonical_signed_distance(padded, identity)
            (gradient,) = torch.autograd.grad(values.sum(), asked)
        change = values.detach()[..., None] * gradient / gradient.square().sum(-1, keepdim=True).clamp_min(0.1)
        places = places - change * (step / change.norm(dim=-1, keepdim=True).clamp_min(step))
    is_near = (places - start).norm(dim=-1, keepdim=True) <= reach
    found: NDArray[np.float32] = torch.where(is_near, places, start)[0].cpu().numpy()
    return found
