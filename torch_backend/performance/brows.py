"""Brow raises that pitch does not tell, beside those on pitch accents (speech_corpus/expression.py).

Of the quick raises of speakers' brows, 71 % go with a rise of pitch and no more (Cave et al., 1996): others come right
before a turn of speech begins (Cave, Guaitella and Santi, 2002), or where something is stressed otherwise.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from torch_backend.performance.curves import minimum_jerk
from torch_backend.performance.phrasing import Phrasing

ONSET_SHARE = 0.6
"""Of passages, those that a raise announces."""
ONSET_LEAD_SECONDS = (0.05, 0.30)
BETWEEN_SHARE = 0.6
"""Of stretches of speech without an accent that have room, those with a raise."""
SHORTEST_STRETCH_SECONDS = 1.1
HEIGHT = (0.30, 0.60)
"""Of these raises; 1 is the highest accent's."""
RISE_SECONDS, FALL_SECONDS = 0.20, 0.34
_CLEAR_SECONDS = 0.45


def plan_free_raises(phrasing: Phrasing, seed: int) -> tuple[tuple[float, float], ...]:
    """Plan the raises that are not on an accent.

    Args:
        phrasing: of `find_phrasing`.
        seed: decides.

    Returns:
        (time of the peak in seconds, height 0..1), ascending, clear of the accents and of each other.
    """
    generator = np.random.default_rng([seed, 5])
    wanted: list[float] = []
    for start, _ in phrasing.passages:
        chance, lead = generator.uniform(), generator.uniform(*ONSET_LEAD_SECONDS)
        if chance < ONSET_SHARE and start > RISE_SECONDS:
            wanted.append(start - lead)
    accents = np.array([accent.time_seconds for accent in phrasing.accents])
    for start, end in phrasing.phrases:
        inside = accents[(accents >= start) & (accents <= end)]
        borders = np.concatenate([[start], inside, [end]])
        for low, high in pairwise(borders):
            chance, place = generator.uniform(), generator.uniform(0.35, 0.65)
            if chance < BETWEEN_SHARE and high - low >= SHORTEST_STRETCH_SECONDS:
                wanted.append(float(low + place * (high - low)))
    raises: list[tuple[float, float]] = []
    for time in sorted(wanted):
        height = float(generator.uniform(*HEIGHT))
        is_clear = not len(accents) or np.abs(accents - time).min() >= _CLEAR_SECONDS
        if is_clear and (not raises or time - raises[-1][0] >= RISE_SECONDS + FALL_SECONDS):
            raises.append((time, height))
    return tuple(raises)


def compute_free_raises(raises: tuple[tuple[float, float], ...], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """How high the brows are (T,), 0..1, at ascending times in seconds."""
    total = np.zeros(len(times))
    for peak, height in raises:
        begin, stop = np.searchsorted(times, [peak - RISE_SECONDS, peak + FALL_SECONDS])
        since = times[begin:stop] - peak
        shape = minimum_jerk(1.0 + since / RISE_SECONDS) * (1.0 - minimum_jerk(since / FALL_SECONDS))
        total[begin:stop] = np.maximum(total[begin:stop], height * shape)
    return total
