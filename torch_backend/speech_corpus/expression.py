"""Blinks, brow raises and squints that follow from the sound alone, so that a network can learn them.

- Blinks gather where a phrase ends (people blink at pauses more than inside phrases), otherwise at the deepest dip of
  energy once a stretch without a blink has become long. Lids close in about 80 ms and open in about 150 ms.
- Brows rise on pitch accents: peaks of F0 above the speaker's declination line, with energy.
- Lids narrow a little on loud, voiced speech.

Everything is a function of the prosody track; the optional seed only varies how large the events are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from torch_backend.audio.prosody import VOICED_THRESHOLD, ProsodyTrack

BLINK_CLOSING_SECONDS = 0.080
BLINK_CLOSED_SECONDS = 0.040
BLINK_OPENING_SECONDS = 0.150
SHORTEST_BLINK_INTERVAL_SECONDS = 1.2
"""A blink keeps this distance from the one before."""
LONG_STRETCH_SECONDS = (2.8, 4.6)
"""Without a phrase end, the next blink falls at the deepest energy dip between these times after the last one."""
SHORTEST_PAUSE_SECONDS = 0.20

BROW_RISE_SECONDS = 0.160
BROW_FALL_SECONDS = 0.280
ACCENT_SEMITONES = (2.2, 6.5)
"""Height above the declination line at which the brows begin to rise, and at which they are up."""
SHORTEST_ACCENT_INTERVAL_SECONDS = 0.7
BROW_INNER_UP, BROW_OUTER_UP = 0.55, 0.35
EYE_SQUINT, CHEEK_SQUINT = 0.14, 0.07

_QUIET_LOG_ENERGY = -4.5
_ACCENT_LOG_ENERGY = -2.2
_SMALLEST_CONTRAST = 1.5
_BLINK_DELAY_SECONDS = 0.03
_SIZE_SPREAD = 0.15
_STEEPEST_DECLINATION = -8.0
_TALLEST_ACCENT = 10.0  # semitones; pitch further up is an octave slip of the tracker


@dataclass(frozen=True)
class BrowRaise:
    """One raise of the brows."""

    time_seconds: float
    """When the brows are highest."""
    height: float
    """0..1."""


def compute_expression(
    prosody: ProsodyTrack, times: np.ndarray, seed: int | None = None, lids: np.ndarray | None = None
) -> np.ndarray:
    """Compute the curves of lids and brows.

    Args:
        prosody: of the whole recording.
        times: (T,) seconds, ascending.
        seed: varies the size of events by up to 15 %; None: no variation.
        lids: (T,) closure of the lids, 0..1, in place of the rule's blinks.

    Returns:
        (T, 52) float64 in 0..1, columns as ARKIT_BLENDSHAPES; all but lids, cheeks and brows are zero.
    """
    generator = None if seed is None else np.random.default_rng(seed)
    output = np.zeros((len(times), len(ARKIT_BLENDSHAPES)))
    blink = _blink_by_rule(prosody, times) if lids is None else np.asarray(lids, np.float64)
    brow = np.zeros(len(times))
    for event in find_brow_raises(prosody):
        height = event.height * (1.0 if generator is None else 1.0 + _SIZE_SPREAD * generator.uniform(-1.0, 1.0))
        brow = np.maximum(brow, height * _raise_shape(times - event.time_seconds))
    squint = _loudness(prosody, times) * (1.0 - blink)
    for name, curve in (
        ("eyeBlink", blink),
        ("browOuterUp", BROW_OUTER_UP * brow),
        ("eyeSquint", EYE_SQUINT * squint),
        ("cheekSquint", CHEEK_SQUINT * squint),
    ):
        for side in ("Left", "Right"):
            output[:, BLENDSHAPE_INDEX[name + side]] = curve
    output[:, BLENDSHAPE_INDEX["browInnerUp"]] = BROW_INNER_UP * brow
    return np.clip(output, 0.0, 1.0)


def build_upper_face_generators() -> np.ndarray:
    """Return what blinks, brow raises and squints of size 1 move, (3, 52)."""
    rows = np.zeros((3, len(ARKIT_BLENDSHAPES)))
    for row, name, size in (
        (0, "eyeBlink", 1.0),
        (1, "browOuterUp", BROW_OUTER_UP),
        (2, "eyeSquint", EYE_SQUINT),
        (2, "cheekSquint", CHEEK_SQUINT),
    ):
        rows[row, [BLENDSHAPE_INDEX[name + side] for side in ("Left", "Right")]] = size
    rows[1, BLENDSHAPE_INDEX["browInnerUp"]] = BROW_INNER_UP
    return rows


def _blink_by_rule(prosody: ProsodyTrack, times: np.ndarray) -> np.ndarray:
    blink = np.zeros(len(times))
    for start in find_blinks(prosody):
        blink = np.maximum(blink, blink_shape(times - start))
    return blink


def blink_shape(seconds: np.ndarray) -> np.ndarray:
    """Closing of the lids, 0..1, at times (in seconds, any shape) since the blink began."""
    closing = _smoothstep(seconds / BLINK_CLOSING_SECONDS)
    opening = _smoothstep((seconds - BLINK_CLOSING_SECONDS - BLINK_CLOSED_SECONDS) / BLINK_OPENING_SECONDS)
    return closing * (1.0 - opening)


def find_pauses(prosody: ProsodyTrack) -> list[tuple[float, float]]:
    """Return (start, end) in seconds of every stretch without speech of at least SHORTEST_PAUSE_SECONDS."""
    energy = _smooth(prosody.log_energy, 5)
    quietest, loudest = (float(value) for value in np.percentile(energy, [5, 95]))
    step = _row_step(prosody)
    voiced_share = float((prosody.voicing > VOICED_THRESHOLD).mean())
    if loudest - quietest < _SMALLEST_CONTRAST and voiced_share < 0.2:  # room noise: there is no speech to end
        return [(float(prosody.times[0]) - step / 2, float(prosody.times[-1]) + step / 2)]
    threshold = max(_QUIET_LOG_ENERGY, quietest + 0.4 * (loudest - quietest))
    quiet = np.concatenate([[False], energy < threshold, [False]])
    edges = np.flatnonzero(np.diff(quiet.astype(np.int8)))
    first = float(prosody.times[0]) - step / 2
    spans = [(first + start * step, first + end * step) for start, end in edges.reshape(-1, 2)]
    return [(start, end) for start, end in spans if end - start >= SHORTEST_PAUSE_SECONDS]


def find_blinks(prosody: ProsodyTrack) -> list[float]:
    """Return the start times of the blinks, in seconds, ascending.

    Phrase ends come first; the stretches between them that are still too long are filled at energy dips.
    """
    if not len(prosody.times):
        return []
    first, last = float(prosody.times[0]), float(prosody.times[-1])
    blinks: list[float] = []
    energy = _smooth(prosody.log_energy, 11)
    previous = first - SHORTEST_BLINK_INTERVAL_SECONDS / 2
    for phrase_end, _ in [*find_pauses(prosody), (last + 0.1, last + 0.2)]:
        blinks += _fill_long_stretch(prosody.times, energy, previous, phrase_end)
        previous = blinks[-1] if blinks else previous
        ends_speech = first + 0.1 < phrase_end <= last
        if ends_speech and phrase_end + _BLINK_DELAY_SECONDS - previous >= SHORTEST_BLINK_INTERVAL_SECONDS:
            blinks.append(phrase_end + _BLINK_DELAY_SECONDS)
            previous = blinks[-1]
    return blinks


def _fill_long_stretch(times: np.ndarray, energy: np.ndarray, previous: float, until: float) -> list[float]:
    """Blinks at energy dips between `previous` and `until`, leaving room for the one at `until`."""
    shortest, longest = LONG_STRETCH_SECONDS
    added: list[float] = []
    while until - previous > longest:
        low = int(np.searchsorted(times, previous + shortest, side="left"))
        high = int(np.searchsorted(times, previous + longest, side="right"))
        if low == high:
            break
        previous = float(times[low + int(energy[low:high].argmin())])
        added.append(previous)
    if added and until - added[-1] < SHORTEST_BLINK_INTERVAL_SECONDS:
        added.pop()
    return added


def find_brow_raises(prosody: ProsodyTrack) -> list[BrowRaise]:
    """Return the brow raises on pitch accents, ascending in time."""
    if len(prosody.times) < 2:
        return []
    pauses = find_pauses(prosody)
    loudness = _smooth(prosody.log_energy, 7)
    borders = [float(prosody.times[0]), *(edge for pause in pauses for edge in pause), float(prosody.times[-1])]
    events: list[BrowRaise] = []
    for start, end in zip(borders[::2], borders[1::2], strict=True):
        events += _accents_of_phrase(prosody, loudness, start, end)
    return events


def _accents_of_phrase(prosody: ProsodyTrack, loudness: np.ndarray, start: float, end: float) -> list[BrowRaise]:
    rows = np.arange(np.searchsorted(prosody.times, start, "left"), np.searchsorted(prosody.times, end, "right"))
    voiced = rows[prosody.voicing[rows] > VOICED_THRESHOLD]
    if len(voiced) < 15:
        return []
    slope, level = np.polyfit(prosody.times[voiced].astype(np.float64), prosody.f0_semitones[voiced], 1)
    if not _STEEPEST_DECLINATION <= slope <= 0.0:
        slope = float(np.clip(slope, _STEEPEST_DECLINATION, 0.0))
        level = float(np.mean(prosody.f0_semitones[voiced] - slope * prosody.times[voiced]))
    height = _smooth(prosody.f0_semitones[rows], 7) - (level + slope * prosody.times[rows])
    loud = loudness[rows] > _ACCENT_LOG_ENERGY
    credible = loud & (prosody.voicing[rows] > VOICED_THRESHOLD) & (height < _TALLEST_ACCENT)
    height = np.where(credible, height, -np.inf)
    chosen: list[BrowRaise] = []
    low, high = ACCENT_SEMITONES
    for index in np.argsort(-height, kind="stable"):
        if height[index] < low:
            break
        time = float(prosody.times[rows[index]])
        if all(abs(time - event.time_seconds) >= SHORTEST_ACCENT_INTERVAL_SECONDS for event in chosen):
            share = min(1.0, float(height[index] - low) / (high - low))
            chosen.append(BrowRaise(time, 0.3 + 0.7 * share))
    return sorted(chosen, key=lambda event: event.time_seconds)


def _raise_shape(seconds: np.ndarray) -> np.ndarray:
    rise = _smoothstep(1.0 + seconds / BROW_RISE_SECONDS)
    return rise * (1.0 - _smoothstep(seconds / BROW_FALL_SECONDS))


def _loudness(prosody: ProsodyTrack, times: np.ndarray) -> np.ndarray:
    """(T,) 0..1: loud voiced speech, averaged over a syllable."""
    if not len(prosody.times):
        return np.zeros(len(times))
    voiced_energy = np.where(prosody.voicing > VOICED_THRESHOLD, np.clip(1.0 + prosody.log_energy / 3.0, 0.0, 1.0), 0.0)
    return np.interp(times, prosody.times, _smooth(voiced_energy, 31))


def _row_step(prosody: ProsodyTrack) -> float:
    return float(prosody.times[1] - prosody.times[0]) if len(prosody.times) > 1 else 0.01


def _smooth(values: np.ndarray, num_taps: int) -> np.ndarray:
    """Hann-weighted moving mean, edges repeated."""
    window = np.hanning(num_taps + 2)[1:-1]
    padded = np.pad(np.asarray(values, np.float64), num_taps // 2, mode="edge")
    return np.convolve(padded, window / window.sum(), mode="valid")


def _smoothstep(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)
