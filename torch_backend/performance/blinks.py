"""When and how a person blinks, speaking or silent.

- Rate: about 20 a minute in speech and 15 in silence. Bentivoglio et al. (1997) found 26 in conversation and 17 at
  rest, Doughty (2001) 10.5 to 32.5 and 8 to 21. Intervals are log-normal: short ones are common, long ones happen
  (Garcia et al., 2011).
- Place: pulled towards the ends of phrases, where speakers and listeners blink (Nakano and Kitazawa, 2010), else to a
  dip of energy.
- Shape: lids close faster than they open (Sforza et al., 2008); now and then a second blink follows at once. Half of
  people's blinks are not complete, but blinks that shut look more natural (Trutoiu et al., 2011): few of these are not.

What of this is published, and how it was looked up: benchmarks/performance_statistics.py.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.facial.blinks import Blink
from torch_backend.audio.prosody import ProsodyTrack
from torch_backend.performance.curves import draw_lognormal
from torch_backend.performance.phrasing import Phrasing

SPEECH_INTERVAL_SECONDS, SILENCE_INTERVAL_SECONDS = 2.9, 4.6
"""Mean time between blinks, a double one counted once."""
INTERVAL_SIGMA = 0.55
SHORTEST_INTERVAL_SECONDS = 0.9
LONGEST_INTERVAL_SECONDS = 12.0
DOUBLE_SHARE = 0.10
DOUBLE_DISTANCE_SECONDS = (0.36, 0.52)
"""From the start of a blink to the start of its twin."""
PHRASE_END_SHARE = 0.8
"""Of blinks that could move to a phrase end, those that do."""
PHRASE_END_DELAY_SECONDS = (-0.05, 0.25)
CLOSING_SECONDS = (0.080, 0.100)
CLOSED_SECONDS = (0.034, 0.055)
"""At least one frame at 30 per second, so that the shut lids are seen."""
OPENING_SECONDS = (0.140, 0.200)
LONGEST_BLINK_SECONDS = CLOSING_SECONDS[1] + CLOSED_SECONDS[1] + OPENING_SECONDS[1]
SHALLOW_SHARE = 0.08
SHALLOW_CLOSURE = (0.75, 0.92)

_REACH = (0.55, 1.6)  # a blink moves to a phrase end within this part of its interval
_DIP_SECONDS = 0.25
_EXTRA_DISTANCE_SECONDS = 0.7
_AHEAD_SECONDS = 1.0  # whether the person speaks so long after a blink decides how soon the next one comes
_GOLDEN = 0.6180339887498949


def plan_blinks(prosody: ProsodyTrack, phrasing: Phrasing, seed: int) -> tuple[Blink, ...]:
    """Plan the natural blinks of a recording, and as many more that a raised blink rate can add.

    Args:
        prosody: of the whole recording.
        phrasing: of `find_phrasing`.
        seed: decides; same seed, same blinks.

    Returns:
        Blinks ascending in start; those with `rate` <= 1 are the natural ones.
    """
    generator = np.random.default_rng([seed, 1])
    natural = _draw_starts(prosody, phrasing, generator)
    blinks: list[Blink] = []
    # Multiples of the golden ratio: whatever rate is asked for, the blinks that stay are spread evenly.
    ranks = (generator.uniform() + _GOLDEN * np.arange(1, len(natural) + 1)) % 1.0
    for index, (start, rank) in enumerate(zip(natural, ranks, strict=True)):
        next_start = natural[index + 1] if index + 1 < len(natural) else phrasing.duration_seconds
        blinks.append(_draw_blink(start, float(rank), generator))
        twin = start + generator.uniform(*DOUBLE_DISTANCE_SECONDS)
        if generator.uniform() < DOUBLE_SHARE and next_start - twin > SHORTEST_INTERVAL_SECONDS:
            blinks.append(_draw_blink(max(twin, blinks[-1].end_seconds - 0.08), float(rank), generator))
    borders = [0.0, *(blink.start_seconds for blink in blinks), phrasing.duration_seconds]
    extra = [
        float(start + generator.uniform(0.4, 0.6) * (stop - start))
        for start, stop in pairwise(borders)
        if stop - start >= 2.5 * _EXTRA_DISTANCE_SECONDS
    ]
    ranks = 2.0 - (generator.uniform() + _GOLDEN * np.arange(1, len(extra) + 1)) % 1.0
    blinks += [_draw_blink(start, float(rank), generator) for start, rank in zip(extra, ranks, strict=True)]
    return tuple(sorted(blinks, key=lambda blink: blink.start_seconds))


def _draw_blink(start: float, rate: float, generator: np.random.Generator) -> Blink:
    shallow = generator.uniform() < SHALLOW_SHARE
    closing, closed, opening, depth = (
        float(generator.uniform(*span)) for span in (CLOSING_SECONDS, CLOSED_SECONDS, OPENING_SECONDS, SHALLOW_CLOSURE)
    )
    return Blink(float(start), closing, closed, opening, depth if shallow else 1.0, rate)


def _draw_starts(prosody: ProsodyTrack, phrasing: Phrasing, generator: np.random.Generator) -> list[float]:
    """Starts of blinks from the beginning of the recording to its end."""
    ends = np.array([end for _, end in phrasing.phrases])
    last = phrasing.duration_seconds - LONGEST_BLINK_SECONDS
    starts: list[float] = []
    # The recording begins somewhere within an interval.
    previous = -generator.uniform() * SPEECH_INTERVAL_SECONDS
    while True:
        speaks = phrasing.is_speech(max(previous, 0.0) + _AHEAD_SECONDS)
        mean = SPEECH_INTERVAL_SECONDS if speaks else SILENCE_INTERVAL_SECONDS
        interval = draw_lognormal(generator, mean, INTERVAL_SIGMA)
        interval = float(np.clip(interval, SHORTEST_INTERVAL_SECONDS, LONGEST_INTERVAL_SECONDS))
        start = _place(previous, interval, ends, prosody, generator)
        if start > last:  # no recording ends with shut lids
            if start < phrasing.duration_seconds and last - max(previous, 0.0) >= SHORTEST_INTERVAL_SECONDS:
                starts.append(last)
            return starts
        if start > 0.0:
            starts.append(start)
        previous = start


def _place(
    previous: float,
    interval: float,
    ends: NDArray[np.float64],
    prosody: ProsodyTrack,
    generator: np.random.Generator,
) -> float:
    """The next blink: at a phrase end near the wanted interval, else at a dip of energy near it."""
    wanted = previous + interval
    jump, delay = generator.uniform(), generator.uniform(*PHRASE_END_DELAY_SECONDS)
    low, high = (previous + share * interval for share in _REACH)
    near = ends[(ends >= max(low, previous + SHORTEST_INTERVAL_SECONDS + 0.05)) & (ends <= high)]
    if len(near) and jump < PHRASE_END_SHARE:
        return float(near[np.abs(near - wanted).argmin()] + delay)
    first, last = np.searchsorted(prosody.times, [wanted - _DIP_SECONDS, wanted + _DIP_SECONDS])
    if first == last:
        return wanted
    dip = float(prosody.times[first + int(prosody.log_energy[first:last].argmin())])
    return max(dip, previous + SHORTEST_INTERVAL_SECONDS)
