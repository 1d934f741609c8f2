"""Smooth transitions that the performance is made of; each is a function of time, whatever frames sample it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def minimum_jerk(x: FloatArray) -> FloatArray:
    """0 to 1 while x goes from 0 to 1, as limbs, head and eyes move (Flash and Hogan, 1985)."""
    x = np.clip(x, 0.0, 1.0)
    curve: FloatArray = x**3 * (10.0 + x * (6.0 * x - 15.0))
    return curve


def follow_targets(
    times: FloatArray, starts: Sequence[float], durations: Sequence[float], targets: FloatArray
) -> FloatArray:
    """Move from target to target, at rest between.

    Args:
        times: (T,) seconds, ascending.
        starts: when each of N moves begins, ascending.
        durations: seconds that each takes, above 0; a move ends at the latest when the next begins.
        targets: (N, C) where each leads.

    Returns:
        (T, C); zero before the first move.
    """
    output = np.zeros((len(times), targets.shape[1]))
    if not len(starts):
        return output
    begins = np.asarray(starts, np.float64)
    room = np.append(np.diff(begins), np.inf)
    lengths = np.minimum(np.asarray(durations, np.float64), np.maximum(room, 1e-6))
    index = np.searchsorted(begins, times, "right") - 1
    moving = index >= 0
    index = index[moving]
    share = minimum_jerk((times[moving] - begins[index]) / lengths[index])[:, None]
    before = np.concatenate([np.zeros((1, targets.shape[1])), targets[:-1]])
    output[moving] = before[index] + share * (targets[index] - before[index])
    return output


def sum_of_waves(
    times: FloatArray, frequencies: tuple[float, float], num_waves: int, generator: np.random.Generator
) -> FloatArray:
    """Slow, smooth, never repeating motion (T,) of mean square 1, from waves of random frequency and phase."""
    low, high = frequencies
    total = np.zeros(len(times))
    for wave in range(num_waves):
        frequency = low + (high - low) * (wave + generator.uniform(0.2, 0.8)) / num_waves
        total += np.sin(2.0 * np.pi * (frequency * times + generator.uniform()))
    return total * np.sqrt(2.0 / num_waves)


def draw_lognormal(generator: np.random.Generator, mean: float, sigma: float) -> float:
    """One draw of a log-normal distribution with this mean, and `sigma` the deviation of its logarithm."""
    return float(mean * np.exp(sigma * generator.standard_normal() - sigma * sigma / 2.0))
