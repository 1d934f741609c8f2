"""Points whose deformed place is given: x with x + offset(x) = target, by Broyden's method on all points at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Inverse:
    """Solution of `invert_deformation`."""

    points: torch.Tensor
    """(..., 3) the best x found."""
    residuals: torch.Tensor
    """(...) length of x + offset(x) - target."""


def invert_deformation(
    offsets: Callable[[torch.Tensor], torch.Tensor],
    targets: torch.Tensor,
    *,
    start: torch.Tensor | None = None,
    tolerance: float = 1e-5,
    iterations: int = 30,
) -> Inverse:
    """Solve x + offset(x) = target for every point; no gradient is recorded.

    Broyden's good method started from the identity, as a fixed-point iteration that learns the Jacobian; it converges
    where the plain iteration does not (offsets that change by more than the step taken). All points are evaluated in
    each round until the last has converged.

    Args:
        offsets: (..., 3) -> (..., 3), of points of the shape of `targets`.
        targets: (..., 3).
        start: first guess; by default the targets.
        tolerance: residual length at which a point has converged.
        iterations: rounds at most.

    Returns:
        The best point seen for each target, and how far its image lies from it.

    Raises:
        ValueError: the start has another shape than the targets.
    """
    if start is not None and start.shape != targets.shape:
        raise ValueError(f"expected a start of shape {tuple(targets.shape)}, got {tuple(start.shape)}")
    with torch.no_grad():
        points = targets.clone() if start is None else start.clone()
        errors = points + offsets(points) - targets
        inverse_jacobian = torch.eye(3, dtype=points.dtype, device=points.device).expand(*points.shape, 3).clone()
        best, residuals = points.clone(), errors.norm(dim=-1)
        for _ in range(iterations):
            if bool((residuals <= tolerance).all()):
                break
            step = -(inverse_jacobian @ errors.unsqueeze(-1)).squeeze(-1)
            step = torch.where((residuals > tolerance).unsqueeze(-1), step, torch.zeros_like(step))
            points = points + step
            new_errors = points + offsets(points) - targets
            change = (inverse_jacobian @ (new_errors - errors).unsqueeze(-1)).squeeze(-1)
            projected = (step.unsqueeze(-2) @ inverse_jacobian).squeeze(-2)
            scale = (step * change).sum(dim=-1, keepdim=True)
            safe = scale.abs() > 1e-14
            update = torch.where(safe, (step - change) / torch.where(safe, scale, torch.ones_like(scale)), 0.0)
            inverse_jacobian = inverse_jacobian + update.unsqueeze(-1) * projected.unsqueeze(-2)
            errors = new_errors
            lengths = errors.norm(dim=-1)
            better = lengths < residuals
            best = torch.where(better.unsqueeze(-1), points, best)
            residuals = torch.where(better, lengths, residuals)
    return Inverse(best, residuals)
