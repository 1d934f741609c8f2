"""Softplus with beta 100, the activation of every neural head model's network: nearly a rectifier, yet smooth."""

from __future__ import annotations

import torch
from torch.nn import functional

BETA = 100.0
_LINEAR_ABOVE = 20.0
"""beta x beyond which softplus is x itself, as in torch.nn.Softplus."""


def smooth_rectifier(values: torch.Tensor) -> torch.Tensor:
    """log(1 + exp(100 x)) / 100, in place where no gradient is recorded.

    Args:
        values: any shape; overwritten when gradients are off, so it must be the caller's own.

    Returns:
        The same shape.
    """
    if torch.is_grad_enabled():
        return functional.softplus(values, BETA, _LINEAR_ABOVE)
    return torch.ops.aten.softplus.out(values, BETA, _LINEAR_ABOVE, out=values)
