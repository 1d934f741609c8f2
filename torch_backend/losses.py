"""Losses as functions: per-element values; whoever trains reduces and weighs them.

All take displacements (or positions) in one unit; MMTalker trains in centimetres.
"""

from __future__ import annotations

import torch

MOTION_EPSILON = 1e-4
"""Added to the motion of each frame before it becomes a distribution (same unit as the displacements)."""
STILL_MOTION = 0.02
"""A point whose true motion sums to less than this over the frames is still and has no eye loss."""


def reconstruction_loss(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Squared distance ||y - y^||^2 (MMTalker, eq. 8, unreduced).

    Args:
        predicted: (T, M, 3).
        true: (T, M, 3).

    Returns:
        (T, M).
    """
    _validate_pair(predicted, true)
    return ((predicted - true) ** 2).sum(-1)


def velocity_loss(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Squared distance of the frame-to-frame differences (MMTalker, eq. 9, unreduced).

    Args:
        predicted: (T, M, 3).
        true: (T, M, 3).

    Returns:
        (T - 1, M).
    """
    _validate_pair(predicted, true)
    return reconstruction_loss(predicted.diff(dim=0), true.diff(dim=0))


def motion_distribution(positions: torch.Tensor, epsilon: float = MOTION_EPSILON) -> torch.Tensor:
    """How a point's motion spreads over the frames: (|step| + epsilon) / sum over the frames.

    Args:
        positions: (T, J, 3).
        epsilon: keeps a still point's distribution defined (it is then uniform).

    Returns:
        (T - 1, J), each column sums to 1.
    """
    # The root is smooth at zero, where the norm's gradient is not defined.
    motion = (positions.diff(dim=0).square().sum(-1) + epsilon**2).sqrt()
    return motion / motion.sum(dim=0, keepdim=True)


def eye_motion_loss(
    predicted: torch.Tensor, true: torch.Tensor, epsilon: float = MOTION_EPSILON, still: float = STILL_MOTION
) -> torch.Tensor:
    """KL(true || predicted) of the motion over the frames, per point of the eye region (MMTalker, eq. 10).

    Coordinates are no distribution; the distance that a point moves in each frame, divided by the sum over the
    frames, is one. A point that is still in truth has none, and its loss is 0.

    Args:
        predicted: (T, J, 3).
        true: (T, J, 3).
        epsilon: see `motion_distribution`.
        still: true motion, summed over the frames, below which a point is skipped.

    Returns:
        (J,), at least 0.
    """
    _validate_pair(predicted, true)
    true_share = motion_distribution(true, epsilon)
    divergence = (true_share * (true_share.log() - motion_distribution(predicted, epsilon).log())).sum(0)
    moves = true.diff(dim=0).norm(dim=-1).sum(0) > still
    return torch.where(moves, divergence, torch.zeros_like(divergence))


def lip_gap_loss(predicted: torch.Tensor, true: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """Squared error of the vector from the lower to the upper lip, averaged over the contact pairs.

    Args:
        predicted: (T, M, 3).
        true: (T, M, 3).
        pairs: (P, 2) indices of points that touch when the lips are closed, upper first.

    Returns:
        (T,).
    """
    _validate_pair(predicted, true)
    error = predicted - true
    return (error[:, pairs[:, 0]] - error[:, pairs[:, 1]]).square().sum(-1).mean(-1)


def lip_width_loss(predicted: torch.Tensor, true: torch.Tensor, corners: torch.Tensor) -> torch.Tensor:
    """Squared error of the distance between the corners of the mouth along x.

    Args:
        predicted: (T, M, 3).
        true: (T, M, 3).
        corners: (2,) indices of the left and the right corner.

    Returns:
        (T,).
    """
    _validate_pair(predicted, true)
    error = (predicted - true)[..., 0]
    return (error[:, corners[0]] - error[:, corners[1]]).square()


def weighted_mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean of `values` with weights of the last dimension, normalised to mean 1.

    Args:
        values: (..., M).
        weights: (M,), not negative.
    """
    return (values * (weights / weights.mean())).mean()


def _validate_pair(predicted: torch.Tensor, true: torch.Tensor) -> None:
    if predicted.shape != true.shape or predicted.shape[-1] != 3:
        raise ValueError(f"expected two tensors (T, M, 3), got {tuple(predicted.shape)} and {tuple(true.shape)}")
