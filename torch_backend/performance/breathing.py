"""Breathing: quick breaths in pauses of speech, even ones in silence (about 14 a minute; adults at rest take 12 to 20).

Speakers breathe in quickly between phrases and spend the phrase breathing out; at rest, breathing in takes about two
fifths of a breath.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from torch_backend.performance.curves import draw_lognormal, minimum_jerk
from torch_backend.performance.phrasing import Phrasing

REST_BREATH_SECONDS, REST_SIGMA, REST_INHALATION = 4.3, 0.10, 0.4
SPEECH_INHALATION_SECONDS = 0.55
SHORTEST_BREATHING_PAUSE_SECONDS = 0.30
SHORTEST_BREATH_SECONDS = 1.8
"""A pause so soon after a breath needs none."""
HEAD_DEGREES = 0.45
"""How far the head rises with a full breath."""


def plan_breaths(phrasing: Phrasing, seed: int) -> NDArray[np.float64]:
    """Plan when the lungs are empty and full.

    Returns:
        (N, 2) times in seconds, strictly ascending, and the filling at that time, 0..1; from before the recording to
        behind its end.
    """
    generator = np.random.default_rng([seed, 4])
    knots = [(-0.2, 0.0)]
    for start, end in [*phrasing.phrases, (phrasing.duration_seconds + REST_BREATH_SECONDS,) * 2]:
        _breathe_at_rest(knots, start, generator)
        pause = start - knots[-1][0]
        since_full = start - next((time for time, filling in reversed(knots) if filling > 0.5), -np.inf)
        if pause >= SHORTEST_BREATHING_PAUSE_SECONDS and since_full >= SHORTEST_BREATH_SECONDS:
            begin = start - min(SPEECH_INHALATION_SECONDS, 0.8 * pause)
            knots += [(begin, knots[-1][1]), (start, 1.0)]
        if end > start and end > knots[-1][0]:
            knots.append((end, max(0.0, knots[-1][1] - 0.35 * (end - knots[-1][0]))))
    return np.array(knots)


def compute_filling(knots: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Filling of the lungs (T,), 0..1, smooth between the knots."""
    index = np.clip(np.searchsorted(knots[:, 0], times, "right") - 1, 0, len(knots) - 2)
    before, after = knots[index], knots[index + 1]
    share = minimum_jerk((times - before[:, 0]) / (after[:, 0] - before[:, 0]))
    filling: NDArray[np.float64] = before[:, 1] + share * (after[:, 1] - before[:, 1])
    return filling


def _breathe_at_rest(knots: list[tuple[float, float]], until: float, generator: np.random.Generator) -> None:
    """Append even breaths as long as a whole one fits before `until`, with room for a quick one."""
    while True:
        length = draw_lognormal(generator, REST_BREATH_SECONDS, REST_SIGMA)
        begin = knots[-1][0]
        if begin + length > until - SPEECH_INHALATION_SECONDS:
            return
        knots += [(begin + REST_INHALATION * length, 1.0), (begin + length, 0.0)]
