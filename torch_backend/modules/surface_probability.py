"""Learnable sampling probability of each triangle of the template (MMTalker, section III-B)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

LARGEST_LOG_CHANGE = 1.4
"""A triangle's probability can become about four times, or a quarter of, its initial one (before normalisation)."""
GAIN = 20.0
"""Scales the learned numbers: a step draws about one triangle in eighty, so each is moved rarely."""


class SurfaceProbability(nn.Module):
    """p_f, initialised by the distance to the key points, learned through importance weights.

    Training points are drawn from the initial probabilities q (so that a batch does not depend on the weights of the
    network), and a point in triangle f counts p_f / q_f in the loss: the loss is then an unbiased estimate of the loss
    under p, and a differentiable function of p. No score function is needed, as the draw itself does not depend on p.

    Minimised over p, such a loss would flee from the triangles that are hard. So the gradient that reaches p is
    reversed: p moves to where the network is worst, and sampling is dense where there is detail left to learn. The
    divergence from q holds it back (`divergence`).
    """

    def __init__(self, initial: torch.Tensor) -> None:
        """Start at the initial probabilities.

        Args:
            initial: (F,), positive; normalised here.

        Raises:
            ValueError: a probability is not positive.
        """
        super().__init__()
        if initial.ndim != 1 or not bool((initial > 0).all()):
            raise ValueError(f"expected (F,) positive probabilities, got shape {tuple(initial.shape)}")
        self.register_buffer("initial", (initial / initial.sum()).float())
        self.change = nn.Parameter(torch.zeros(len(initial)))

    def log_probabilities(self) -> torch.Tensor:
        """Log p (F,)."""
        initial: torch.Tensor = self.initial  # type: ignore[assignment]
        return torch.log_softmax(initial.log() + LARGEST_LOG_CHANGE * torch.tanh(GAIN * self.change), dim=0)

    def importance_weights(self, faces: torch.Tensor) -> torch.Tensor:
        """p_f / q_f of the drawn points, divided by their mean, with reversed gradient.

        Args:
            faces: (M,) triangle of each point, drawn from the initial probabilities.

        Returns:
            (M,) positive, mean 1.
        """
        initial: torch.Tensor = self.initial  # type: ignore[assignment]
        ratios = torch.exp(self.log_probabilities()[faces] - initial[faces].log())
        return _ReversedGradient.apply(ratios / ratios.mean())

    def divergence(self) -> torch.Tensor:
        """KL(p || q), at least 0."""
        initial: torch.Tensor = self.initial  # type: ignore[assignment]
        log_p = self.log_probabilities()
        return (log_p.exp() * (log_p - initial.log())).sum()


class _ReversedGradient(torch.autograd.Function):
    """Identity whose gradient changes sign."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return -gradients[0]
