"""A head model in closed form: a ball whose surface goes in and out in six places, for fits whose truth is known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from torch_backend.modules.deformation_inverse import invert_deformation

RADIUS = 0.4
CODE_SIZE = 8
ALIVE = 6
IDENTITY_SIZE = 4
BUMP = 0.08
"""How far a bump reaches at an entry of 1."""
_WIDTH = 0.25
_DIRECTIONS = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0.6, 0, 0.8]])


class AnalyticHead(torch.nn.Module):
    """Has what fits use of BackwardNPHM. Identity entries scale the ball along x, y, z; the last does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = SimpleNamespace(code_size=IDENTITY_SIZE)
        self.expression_size = CODE_SIZE

    def deform(self, points, identity, expression):
        """Points are drawn in by the bumps that stand at them."""
        del identity
        centers = RADIUS * _DIRECTIONS.to(points)
        squares = (points[:, :, None] - centers).square().sum(dim=-1)
        heights = torch.exp(-squares / (2 * _WIDTH**2)) * expression[:, None, :ALIVE] * BUMP
        offsets = -(heights[..., None] * _DIRECTIONS.to(points)).sum(dim=2)
        return offsets, offsets[..., :2] * 0.0

    def canonical_signed_distance(self, points, identity):
        """About the distance to an ellipsoid."""
        scaled = points[..., :3] / (1.0 + 0.2 * identity[:, None, :3])
        return scaled.norm(dim=-1) - RADIUS

    def signed_distance(self, points, identity, expression):
        """As BackwardNPHM's."""
        offsets, hyper = self.deform(points, identity, expression)
        return self.canonical_signed_distance(torch.cat([points + offsets, hyper], dim=-1), identity)

    def surface(self, identity, expression, number: int, generator: np.random.Generator) -> np.ndarray:
        """Points (n, 3) on the posed surface."""
        directions = generator.normal(size=(1, number, 3))
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        canonical = torch.from_numpy(RADIUS * directions).float() * (1.0 + 0.2 * identity[None, None, :3])
        posed = invert_deformation(lambda x: self.deform(x, identity[None], expression[None])[0], canonical)
        return posed.points[0].numpy()


def smooth_codes(num_frames: int) -> np.ndarray:
    """(T, CODE_SIZE) codes that move like speech; the last two entries stay 0."""
    times = np.arange(num_frames)[:, None] / 24.0
    rates = np.array([2.0, 1.3, 3.1, 0.7, 2.4, 1.1])
    codes = np.zeros((num_frames, CODE_SIZE), np.float32)
    codes[:, :ALIVE] = 0.4 * np.sin(2 * np.pi * rates * times + np.arange(ALIVE))
    return codes
