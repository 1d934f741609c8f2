"""Phrases, pauses and accents of a recording: what the performance is timed by."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d, minimum_filter1d

from torch_backend.audio.prosody import VOICED_THRESHOLD, ProsodyTrack
from torch_backend.performance.curves import follow_targets
from torch_backend.speech_corpus.expression import BrowRaise, find_brow_raises, find_pauses

SHORTEST_PHRASE_SECONDS = 0.15
"""Shorter sounds between two pauses are a click or a breath, and no speech."""
LEAST_VOICED_SHARE = 0.12
"""Of a phrase; less is noise. Phrases of the recordings it was tried on have 0.6 and more."""
LEAST_PITCH_RANGE = 0.3
"""Semitones within 0.6 s; less is the hum of a machine."""
LONGEST_UNVOICED_SECONDS, UNVOICED_EDGE_SECONDS = 0.7, 0.3
"""Sound without a voice for longer is no speech; up to so much of it belongs to the phrase before and behind."""
SETTLING_SECONDS = 0.6
"""How long the head takes to come to rest after a phrase, and to wake before one."""
BRIDGED_PAUSE_SECONDS = 0.7
"""Between phrases with less pause the head does not come to rest."""
_PITCH_WINDOW_ROWS = 61


@dataclass(frozen=True)
class Phrasing:
    """Phrases of a recording and what is between them."""

    duration_seconds: float
    phrases: tuple[tuple[float, float], ...]
    """(start, end) in seconds, ascending."""
    accents: tuple[BrowRaise, ...]
    """Pitch accents within the phrases, ascending."""

    @cached_property
    def passages(self) -> tuple[tuple[float, float], ...]:
        """Phrases, joined over pauses in which the head does not come to rest."""
        joined: list[tuple[float, float]] = []
        for start, end in self.phrases:
            if joined and start - joined[-1][1] < BRIDGED_PAUSE_SECONDS:
                joined[-1] = (joined[-1][0], end)
            else:
                joined.append((start, end))
        return tuple(joined)

    def is_speech(self, seconds: float) -> bool:
        """Whether a moment lies in a passage."""
        index = bisect_right(self.passages, (seconds, np.inf)) - 1
        return index >= 0 and seconds <= self.passages[index][1]

    def passage_ends(self, after: float, before: float) -> list[float]:
        """Ends of passages between two moments."""
        first = max(0, bisect_right(self.passages, (after, np.inf)) - 1)
        last = bisect_right(self.passages, (before, np.inf))
        return [end for _, end in self.passages[first:last] if after < end < before]

    def activity(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """(T,) 0..1: 1 in passages, 0 from SETTLING_SECONDS after them to as long before the next."""
        moves: list[tuple[float, float, float]] = []
        for start, end in self.passages:
            wake = start - SETTLING_SECONDS / 2
            if moves and wake < moves[-1][0] + SETTLING_SECONDS / 2:
                wake = moves[-1][0] + SETTLING_SECONDS / 2
            moves += [(wake, SETTLING_SECONDS, 1.0), (end, SETTLING_SECONDS, 0.0)]
        starts, durations, targets = zip(*moves, strict=True) if moves else ((), (), ())
        return follow_targets(times, starts, durations, np.array(targets, np.float64).reshape(-1, 1))[:, 0]


def find_phrasing(prosody: ProsodyTrack) -> Phrasing:
    """Find the phrases of a recording and its pitch accents."""
    step = float(prosody.times[1] - prosody.times[0]) if len(prosody.times) > 1 else 0.01
    duration = float(prosody.times[-1]) + step / 2 if len(prosody.times) else 0.0
    phrases, begin = [], 0.0
    for start, end in [*find_pauses(prosody), (duration, duration)]:
        if start - begin >= SHORTEST_PHRASE_SECONDS:
            phrases += _spans_with_a_voice(prosody, begin, start)
        begin = end
    accents = find_brow_raises(prosody) if phrases else []
    starts = [start for start, _ in phrases]
    spoken = []
    for accent in accents:
        index = bisect_right(starts, accent.time_seconds)
        if index and accent.time_seconds <= phrases[index - 1][1]:
            spoken.append(accent)
    return Phrasing(duration, tuple(phrases), tuple(spoken))


def _spans_with_a_voice(prosody: ProsodyTrack, start: float, end: float) -> list[tuple[float, float]]:
    """The parts of a sound that are voiced here and there, with a pitch that moves: noise and humming machines are not.

    A sound that is so throughout is given back as it is.
    """
    rows = slice(*np.searchsorted(prosody.times, [start, end]))
    times, pitch = prosody.times[rows].astype(np.float64), prosody.f0_semitones[rows]
    if not len(times):
        return []
    moving = maximum_filter1d(pitch, _PITCH_WINDOW_ROWS) - minimum_filter1d(pitch, _PITCH_WINDOW_ROWS)
    voiced = times[(prosody.voicing[rows] > VOICED_THRESHOLD) & (moving >= LEAST_PITCH_RANGE)]
    if len(voiced) < 2:
        return []
    gaps = np.flatnonzero(np.diff(voiced) > LONGEST_UNVOICED_SECONDS)
    spans = []
    for first, last in zip([0, *(gaps + 1)], [*gaps, len(voiced) - 1], strict=True):
        begin = max(start, float(voiced[first]) - UNVOICED_EDGE_SECONDS)
        stop = min(end, float(voiced[last]) + UNVOICED_EDGE_SECONDS)
        inside = ((times >= begin) & (times <= stop)).sum()
        if stop - begin >= SHORTEST_PHRASE_SECONDS and last + 1 - first >= LEAST_VOICED_SHARE * inside:
            spans.append((begin, stop))
    return spans
