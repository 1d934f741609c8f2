"""How a speaker's head moves with the voice.

The head of a talker follows pitch and loudness (Munhall et al., 2004; Yehia, Kuratate and Vatikiotis-Bateson, 2002):
it nods at accents, rises with the pitch, takes another posture from phrase to phrase and sways a little. Slow movements
(below 1.8 Hz) prevail, quick ones up to 7 Hz mark stress (Hadar, Steiner, Grant and Rose, 1983). In pauses it comes
back to rest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from torch_backend.audio.prosody import VOICED_THRESHOLD, ProsodyTrack
from torch_backend.performance.curves import draw_lognormal, follow_targets, minimum_jerk, sum_of_waves
from torch_backend.performance.phrasing import Phrasing

PITCH_DEGREES_PER_SEMITONE = 0.36
LARGEST_PITCH_FOLLOWING_DEGREES = 2.8
NOD_DEGREES = (1.6, 4.2)
"""Of the lowest and the highest accent."""
NOD_DOWN_SECONDS, NOD_UP_SECONDS = 0.22, 0.42
POSTURE_DEGREES = (1.5, 3.2, 1.7)
"""Deviation of a phrase's posture: pitch, yaw, roll."""
POSTURE_SECONDS = 0.7
POSTURE_HELD_SECONDS, SHORTEST_POSTURE_SECONDS = 2.8, 1.4
"""In a long phrase another posture follows after about so long."""
SWAY_DEGREES = (0.6, 1.2, 0.6)
SWAY_HERTZ = (0.12, 0.55)
LIMIT_DEGREES = (7.0, 9.0, 5.0)
_PITCH_WINDOW_ROWS = 35


def compute_head_angles(
    prosody: ProsodyTrack, phrasing: Phrasing, times: NDArray[np.float64], seed: int
) -> NDArray[np.float64]:
    """Angles of the head without breathing.

    Args:
        prosody: of the whole recording.
        phrasing: of `find_phrasing`.
        times: (T,) seconds, ascending.
        seed: decides postures, sway and how far nods go.

    Returns:
        (T, 3) degrees: pitch (up), yaw (to the head's left), roll (towards the left shoulder); zero in silence.
    """
    generator = np.random.default_rng([seed, 3])
    angles = follow_targets(times, *_plan_postures(phrasing, generator))
    for axis, size in enumerate(SWAY_DEGREES):
        angles[:, axis] += size * sum_of_waves(times, SWAY_HERTZ, 6, generator)
    angles[:, 0] += _follow_pitch(prosody, times)
    angles[:, 0] -= _nod(phrasing, times, generator)
    limit = np.array(LIMIT_DEGREES)
    soft: NDArray[np.float64] = limit * np.tanh(angles * phrasing.activity(times)[:, None] / limit)
    return soft


def _plan_postures(
    phrasing: Phrasing, generator: np.random.Generator
) -> tuple[list[float], list[float], NDArray[np.float64]]:
    """Starts, durations and targets of the moves: another posture as each phrase begins, and within long ones."""
    starts: list[float] = []
    for start, end in phrasing.phrases:
        time = start - POSTURE_SECONDS / 2
        while time < end - SHORTEST_POSTURE_SECONDS or time < start:
            starts.append(time)
            time += max(SHORTEST_POSTURE_SECONDS, draw_lognormal(generator, POSTURE_HELD_SECONDS, 0.35))
    targets = generator.standard_normal((len(starts), 3)) * np.array(POSTURE_DEGREES)
    durations = [POSTURE_SECONDS * float(generator.uniform(0.8, 1.4)) for _ in starts]
    return starts, durations, targets.clip(-2.0 * np.array(POSTURE_DEGREES), 2.0 * np.array(POSTURE_DEGREES))


def _follow_pitch(prosody: ProsodyTrack, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T,) degrees up: pitch over a syllable or two, relative to the speaker's median, where there is a voice."""
    if not len(prosody.times):
        return np.zeros(len(times))
    window = np.hanning(_PITCH_WINDOW_ROWS + 2)[1:-1]
    voiced = (prosody.voicing > VOICED_THRESHOLD).astype(np.float64)
    pad = _PITCH_WINDOW_ROWS // 2

    def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.convolve(np.pad(values, pad), window, mode="valid")

    # Weighted by voicing, and fading where little is voiced.
    mean = smooth(prosody.f0_semitones * voiced) / (smooth(voiced) + 0.15 * window.sum())
    degrees = PITCH_DEGREES_PER_SEMITONE * mean
    limit = LARGEST_PITCH_FOLLOWING_DEGREES
    return np.interp(times, prosody.times, limit * np.tanh(degrees / limit))


def _nod(phrasing: Phrasing, times: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """(T,) degrees down: lowest a moment behind each accent."""
    total = np.zeros(len(times))
    low, high = NOD_DEGREES
    for accent in phrasing.accents:
        size = (low + (high - low) * accent.height) * generator.uniform(0.6, 1.2)
        bottom = accent.time_seconds + 0.06
        begin, stop = np.searchsorted(times, [bottom - NOD_DOWN_SECONDS, bottom + NOD_UP_SECONDS])
        since = times[begin:stop] - bottom
        down = minimum_jerk(1.0 + since / NOD_DOWN_SECONDS)
        total[begin:stop] += size * down * (1.0 - minimum_jerk(since / NOD_UP_SECONDS))
    return total
