"""The forward process of a diffusion model: how much of a clean sample is left after t steps of noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor

COSINE_OFFSET = 0.008
"""Keeps the first steps from being too small ("Improved Denoising Diffusion Probabilistic Models", eq. 17)."""
LARGEST_BETA = 0.999


def compute_cosine_betas(num_steps: int) -> Tensor:
    """Variance that each step adds, by the cosine schedule.

    f(u) = cos^2((u + s) / (1 + s) * pi / 2), beta_i = min(1 - f((i + 1) / n) / f(i / n), 0.999).

    Args:
        num_steps: n, how many steps there are.

    Returns:
        (num_steps,) float64 in (0, 0.999].

    Raises:
        ValueError: num_steps is not positive.
    """
    if num_steps < 1:
        raise ValueError(f"expected at least one diffusion step, got {num_steps}")
    position = torch.linspace(0, 1, num_steps + 1, dtype=torch.float64)
    level = torch.cos((position + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2) ** 2
    return (1 - level[1:] / level[:-1]).clamp(max=LARGEST_BETA)


def compute_signal_levels(betas: Tensor) -> Tensor:
    """alpha-bar: share of the clean sample's variance that is left after each step (num_steps,)."""
    return torch.cumprod(1 - betas, dim=0)


def space_times_by_signal(levels: Tensor, steps: int, lowest: float) -> list[int]:
    """Time steps at equal distances of half the log of the signal-to-noise ratio, the last one being 0.

    In this variable a sampler of second order is equally exact from coarse to fine. Equal distances of time leave the
    last part too coarse where little is left open by the condition: the spread of the samples comes out too small.

    Args:
        levels: (num_steps,) alpha-bar, falling.
        steps: how many.
        lowest: half log signal-to-noise ratio to start at; the nearest time step is the first.

    Returns:
        `steps` different time steps, falling.

    Raises:
        ValueError: there are fewer time steps than asked for.
    """
    log_ratio = 0.5 * torch.log(levels / (1 - levels)).double()  # (num_steps,), falling
    top = int((log_ratio - lowest).abs().argmin())
    if not 1 <= steps <= top + 1:
        raise ValueError(f"expected 1..{top + 1} steps, got {steps}")
    wanted = torch.linspace(float(log_ratio[0]), float(log_ratio[top]), steps, dtype=torch.float64)
    if steps == 1:
        return [top]
    times = [int((log_ratio - value).abs().argmin()) for value in wanted]  # rising
    for index in range(1, steps):
        times[index] = max(times[index], times[index - 1] + 1)
    for index in range(steps):
        times[index] = min(times[index], top - (steps - 1 - index))
    return times[::-1]


def add_noise(clean: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
    """Eq. 3 of FaceTalk: sqrt(alpha-bar) x_0 + sqrt(1 - alpha-bar) noise.

    Args:
        clean: x_0 (B, ...).
        noise: standard normal, of the same shape.
        levels: (B,) alpha-bar of each sample's time step.

    Raises:
        ValueError: the shapes do not fit.
    """
    if clean.shape != noise.shape or levels.shape != clean.shape[:1]:
        raise ValueError(
            f"expected noise of shape {tuple(clean.shape)} and levels of shape {tuple(clean.shape[:1])}, "
            f"got {tuple(noise.shape)} and {tuple(levels.shape)}"
        )
    level = levels.view(-1, *[1] * (clean.ndim - 1)).to(clean.dtype)
    return level.sqrt() * clean + (1 - level).sqrt() * noise
