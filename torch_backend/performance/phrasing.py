"""Phrases, pauses and accents of a recording: what the performance is timed by."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from torch_backend.audio.prosody import VOICED_THRESHOLD, ProsodyTrack
from torch_backend.performance.curves import follow_targets
from torch_backend.speech_corpus.expression import BrowRaise, find_brow_raises, find_pauses

SHORTEST_PHRASE_SECONDS = 0.15
"""Shorter sounds between two pauses are a click or a breath, and no speech."""
LEAST_VOICED_SHARE = 0.12
"""Of a phrase; less is noise. Phrases of the recordings it was tried on have 0.6 and more."""
LEAST_PITCH_DEVIATION = 0.2
"""Semitones, over a phrase; less is the hum of a machine. Phrases of speech have 1.4 and more."""
SETTLING_SECONDS = 0.6
"""How long the head takes to come to rest after a phrase, and to wake before one."""
BRIDGED_PAUSE_SECONDS = 0.7
"""Between phrases with less pause the head does not come to rest."""


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
        if start - begin >= SHORTEST_PHRASE_SECONDS and _has_a_voice(prosody, begin, start):
            phrases.append((begin, start))
        begin = end
    accents = find_brow_raises(prosody) if phrases else []
    starts = [start for start, _ in phrases]
    spoken = [each for each in accents if (index := bisect_right(starts, each.time_seconds)) and
              each.time_seconds <= phrases[index - 1][1]]  # fmt: skip
    return Phrasing(duration, tuple(phrases), tuple(spoken))


def _has_a_voice(prosody: ProsodyTrack, start: float, end: float) -> bool:
    """Whether a sound is voiced here and there, with a pitch that moves: noise and humming machines are not."""
    rows = slice(*np.searchsorted(prosody.times, [start, end]))
    pitch = prosody.f0_semitones[rows][prosody.voicing[rows] > VOICED_THRESHOLD]
    enough = len(pitch) >= max(2.0, LEAST_VOICED_SHARE * len(prosody.times[rows]))
    return bool(enough and pitch.std() >= LEAST_PITCH_DEVIATION)
