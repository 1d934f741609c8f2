"""Where the eyes look: at the viewer most of the time, with small saccades, and away now and then.

- Spells of looking at the viewer and away: of the lengths that Lee, Badler and Badler (2002, "Eyes Alive") measured,
  apart for speakers (about 3.1 s and 0.9 s) and for listeners (7.9 s and 0.4 s).
- Speakers look away as they begin to speak and back as they end (Kendon, 1967).
- Between two saccades the eyes fixate for a few tenths of a second. A saccade of A degrees takes 21 + 2.2 A ms
  (Carpenter, 1988; Bahill, Clark and Stark, 1975, "The main sequence").
- The eyes keep their target while the head turns: they counter-rotate (vestibulo-ocular reflex).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.facial.blinks import Blink
from torch_backend.performance.curves import draw_lognormal, follow_targets
from torch_backend.performance.phrasing import Phrasing

SACCADE_SECONDS = (0.021, 0.0022)
"""Duration of a saccade: constant part, and part a degree."""
SPEAKER_SPELLS_SECONDS = (3.1, 0.93)
"""Mean time of looking at the viewer, and away, while speaking."""
LISTENER_SPELLS_SECONDS = (7.9, 0.43)
FIXATION_MEAN_SECONDS, FIXATION_SIGMA, SHORTEST_FIXATION_SECONDS = 0.75, 0.6, 0.18
FACE_SPREAD_DEGREES = (1.1, 0.8)
"""Deviation of fixations on the viewer's face, sideways and in height: eyes and mouth, seen from about a metre."""
AVERSION_DEGREES = (4.0, 11.0)
AVERSION_AT_START_SHARE = 0.55
"""Of passages, those that begin with a look away."""
LIMIT_DEGREES = (14.0, 9.0)
_SPELL_SIGMA = 0.6
_BLINK_PULL_SECONDS = 0.25


@dataclass(frozen=True)
class Saccade:
    """A jump of the eyes."""

    start_seconds: float
    yaw_degrees: float
    """Where it ends: towards the head's left is positive."""
    pitch_degrees: float
    """Up is positive."""
    duration_seconds: float


def saccade_seconds(degrees: float) -> float:
    """Duration of a saccade of this size, on the main sequence."""
    return SACCADE_SECONDS[0] + SACCADE_SECONDS[1] * degrees


def plan_gaze(phrasing: Phrasing, blinks: tuple[Blink, ...], seed: int) -> tuple[Saccade, ...]:
    """Plan the saccades of a recording.

    Args:
        phrasing: of `find_phrasing`.
        blinks: natural ones; large saccades like to hide behind them.
        seed: decides.

    Returns:
        Saccades, ascending; the eyes begin at rest, straight ahead.
    """
    generator = np.random.default_rng([seed, 2])
    aversions = _plan_aversions(phrasing, generator)
    blink_starts = np.array([blink.start_seconds + blink.closing_seconds / 2 for blink in blinks])
    saccades: list[Saccade] = []
    position = np.zeros(2)
    time = generator.uniform(0.1, FIXATION_MEAN_SECONDS)
    while time < phrasing.duration_seconds:
        while aversions and aversions[0][1] <= time:
            aversions.pop(0)
        away = aversions[0] if aversions and aversions[0][0] <= time else None
        if away is None:
            target = generator.standard_normal(2) * np.array(FACE_SPREAD_DEGREES)
        else:
            target = away[2] + 0.5 * generator.standard_normal(2)
        target = np.clip(target, -np.array(LIMIT_DEGREES), LIMIT_DEGREES)
        size = float(np.linalg.norm(target - position))
        if size >= 4.0 and len(blink_starts):
            nearest = float(blink_starts[np.abs(blink_starts - time).argmin()])
            earliest = saccades[-1].start_seconds + SHORTEST_FIXATION_SECONDS if saccades else 0.0
            time = nearest if abs(nearest - time) < _BLINK_PULL_SECONDS and nearest > earliest else time
        saccades.append(Saccade(time, float(target[0]), float(target[1]), saccade_seconds(size)))
        position = target
        time = _next_time(time, aversions, generator)
    return tuple(saccades)


def compute_gaze(saccades: tuple[Saccade, ...], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Direction of the gaze in the room (T, 2): degrees to the head's left, and up."""
    targets = np.array([(each.yaw_degrees, each.pitch_degrees) for each in saccades], np.float64).reshape(-1, 2)
    starts = [each.start_seconds for each in saccades]
    return follow_targets(times, starts, [each.duration_seconds for each in saccades], targets)


def _next_time(
    time: float, aversions: list[tuple[float, float, NDArray[np.float64]]], generator: np.random.Generator
) -> float:
    """The end of this fixation, or an earlier border of a look away."""
    fixation = draw_lognormal(generator, FIXATION_MEAN_SECONDS, FIXATION_SIGMA)
    following = time + max(fixation, SHORTEST_FIXATION_SECONDS)
    coming = aversions[:2]  # those that have ended are gone
    borders = [border for spell in coming for border in spell[:2] if border > time + SHORTEST_FIXATION_SECONDS]
    return min([following, *borders])


def _plan_aversions(
    phrasing: Phrasing, generator: np.random.Generator
) -> list[tuple[float, float, NDArray[np.float64]]]:
    """Looks away: (start, end, direction in degrees), ascending, apart from each other."""
    spells: list[tuple[float, float, NDArray[np.float64]]] = []
    onsets = [start - 0.1 for start, end in phrasing.passages if end - start > 1.5]
    wanted = [max(onset, 0.05) for onset in onsets if generator.uniform() < AVERSION_AT_START_SHARE]
    time = draw_lognormal(generator, SPEAKER_SPELLS_SECONDS[0], _SPELL_SIGMA)
    while time < phrasing.duration_seconds or wanted:
        at_start = bool(wanted) and wanted[0] <= time
        begin = wanted.pop(0) if at_start else time
        if begin >= phrasing.duration_seconds:
            break
        speaking = phrasing.is_speech(begin + 0.15)
        toward, away = SPEAKER_SPELLS_SECONDS if speaking else LISTENER_SPELLS_SECONDS
        end = begin + max(draw_lognormal(generator, away, _SPELL_SIGMA), 2 * SHORTEST_FIXATION_SECONDS)
        closing = [stop for stop in phrasing.passage_ends(begin, end) if begin + SHORTEST_FIXATION_SECONDS < stop]
        end = min([end, *closing])  # speakers look back as they end
        if not spells or begin > spells[-1][1] + 0.3:
            spells.append((begin, end, _draw_direction(generator)))
        time = end + draw_lognormal(generator, toward, _SPELL_SIGMA)
    return spells


def _draw_direction(generator: np.random.Generator) -> NDArray[np.float64]:
    size = generator.uniform(*AVERSION_DEGREES)
    side = 1.0 if generator.uniform() < 0.5 else -1.0
    slope = np.radians(generator.uniform(-40.0, 35.0))
    return np.array([side * size * np.cos(slope), size * np.sin(slope)])
