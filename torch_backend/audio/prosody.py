"""Prosody of a recording: energy, voicing and pitch, 100 rows per second, in one streaming pass.

The pitch tracker is YIN (de Cheveigne and Kawahara, 2002, steps 1 to 5) on speech decimated to 4 kHz, 50 times a
second. Every row depends on 75 ms of sound around it and on nothing else, so a part of a recording gives the same rows
as the whole; only what is relative to the speaker (loudness, median pitch) needs the whole recording.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter
from scipy.signal import resample_poly

SAMPLE_RATE = 16_000
HOP_LENGTH = 160
"""Samples between rows: 100 rows per second."""
ROW_RATE = SAMPLE_RATE / HOP_LENGTH
LOWEST_F0_HZ = 55.0
HIGHEST_F0_HZ = 500.0
VOICED_THRESHOLD = 0.5
"""Rows with more voicing than this have a pitch of their own."""

_DECIMATION = 4
_PITCH_RATE = SAMPLE_RATE // _DECIMATION
_WINDOW = 128  # 32 ms at 4 kHz: the sum of equation 1 in YIN
_LONGEST_LAG = int(_PITCH_RATE / LOWEST_F0_HZ)
_SHORTEST_LAG = int(_PITCH_RATE / HIGHEST_F0_HZ)
_TRANSFORM = 256
_YIN_THRESHOLD = 0.15
_POWER_FLOOR = 1e-12
_QUIETEST_REFERENCE = 1e-7
_ENERGY_LIMITS = (-9.0, 3.0)
_CHUNK_ROWS = 3_000
_REFERENCE_ROWS = 6_000
_REFERENCE_BLOCK = 200
_MARGIN = 1_600  # samples of context on both sides of a chunk, multiple of the hop


@dataclass(frozen=True)
class ProsodyTrack:
    """Prosody of a whole recording, R rows at 100 per second."""

    times: np.ndarray
    """(R,) float32 seconds: the centre of each row, (r + 0.5) / 100."""
    log_energy: np.ndarray
    """(R,) float32 natural logarithm of the power, relative to the recording's loud speech: about 0 in stressed
    vowels, -9 in silence."""
    voicing: np.ndarray
    """(R,) float32 in 0..1: how periodic the sound is; 0 where there is none."""
    f0_semitones: np.ndarray
    """(R,) float32 pitch relative to the speaker's median, in semitones; carried on smoothly through voiceless rows
    (use `voicing` to tell them apart); 0 throughout when nothing is voiced."""


@dataclass(frozen=True)
class SpeakerReference:
    """What makes prosody relative to the speaker and the recording level."""

    loud_power: float
    """Mean square of loud speech (95th percentile of the rows); full scale is 1."""
    median_f0_hz: float
    """Median pitch of the voiced rows; 0 when nothing is voiced."""


@dataclass(frozen=True)
class ProsodyRows:
    """Rows before anything is made relative: local measurements only."""

    power: np.ndarray
    """(R,) float32 mean square of the row's 25 ms."""
    voicing: np.ndarray
    """(R,) float32 in 0..1."""
    f0_hz: np.ndarray
    """(R,) float32 pitch; meaningful where voicing > VOICED_THRESHOLD."""


def count_rows(num_samples: int) -> int:
    """Return the number of prosody rows of a recording: one per full hop, at least one."""
    return max(1, num_samples // HOP_LENGTH)


def measure_rows(samples: np.ndarray, first_row: int, num_rows: int) -> ProsodyRows:
    """Measure rows first_row .. first_row + num_rows, reading only their samples and 100 ms around them.

    Args:
        samples: (S,) float32 at 16 kHz, -1..1, may be memory-mapped.
        first_row: first row wanted, >= 0.
        num_rows: how many rows; rows past the end of the recording are silence.

    Returns:
        The rows; the same values whatever part of the recording is asked for.

    Raises:
        ValueError: samples is not one-dimensional or a count is negative.
    """
    if samples.ndim != 1:
        raise ValueError(f"expected samples of shape (S,), got {samples.shape}")
    if first_row < 0 or num_rows < 0:
        raise ValueError(f"expected first_row and num_rows >= 0, got {first_row} and {num_rows}")
    parts = [
        _measure_chunk(samples, row, min(_CHUNK_ROWS, first_row + num_rows - row))
        for row in range(first_row, first_row + num_rows, _CHUNK_ROWS)
    ]
    if not parts:
        empty = np.zeros(0, np.float32)
        return ProsodyRows(empty, empty, empty)
    power, voicing, f0_hz = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return ProsodyRows(power, voicing, f0_hz)


def fit_speaker_reference(rows: ProsodyRows) -> SpeakerReference:
    """Return the loudness and the median pitch that rows are made relative to."""
    loud_power = max(float(np.percentile(rows.power, 95)), _QUIETEST_REFERENCE) if len(rows.power) else 1.0
    voiced = rows.f0_hz[rows.voicing > VOICED_THRESHOLD]
    return SpeakerReference(loud_power, float(np.median(voiced)) if len(voiced) else 0.0)


def measure_speaker_reference(samples: np.ndarray) -> SpeakerReference:
    """Return the loudness and median pitch of a recording from at most about a minute of it, taken evenly.

    Args:
        samples: (S,) float32 at 16 kHz, may be memory-mapped.
    """
    num_rows = count_rows(len(samples))
    step = max(1, math.ceil(num_rows / _REFERENCE_ROWS))
    blocks = [
        measure_rows(samples, start, min(_REFERENCE_BLOCK, num_rows - start))
        for start in range(0, num_rows, _REFERENCE_BLOCK * step)
    ]
    joined = (np.concatenate([getattr(b, name) for b in blocks]) for name in ("power", "voicing", "f0_hz"))
    return fit_speaker_reference(ProsodyRows(*joined))


def compute_log_energy(rows: ProsodyRows, reference: SpeakerReference) -> np.ndarray:
    """Return (R,) float32 log power relative to loud speech, limited to -9..3."""
    ratio = (rows.power + _POWER_FLOOR) / reference.loud_power
    return np.clip(np.log(ratio), *_ENERGY_LIMITS).astype(np.float32)


def compute_prosody(samples: np.ndarray) -> ProsodyTrack:
    """Measure a whole recording; memory beyond the result does not grow with its length.

    Args:
        samples: (S,) float32 at 16 kHz, -1..1, may be memory-mapped.

    Returns:
        The prosody track.

    Raises:
        ValueError: samples is not one-dimensional.
    """
    num_rows = count_rows(len(samples)) if samples.ndim == 1 else 0
    rows = measure_rows(samples, 0, num_rows)
    reference = measure_speaker_reference(samples)
    return ProsodyTrack(
        times=((np.arange(num_rows) + 0.5) / ROW_RATE).astype(np.float32),
        log_energy=compute_log_energy(rows, reference),
        voicing=rows.voicing,
        f0_semitones=_continuous_semitones(rows, reference.median_f0_hz),
    )


def _continuous_semitones(rows: ProsodyRows, median_f0_hz: float) -> np.ndarray:
    """Pitch in semitones about the median, octave slips removed, joined straight through voiceless rows."""
    voiced = np.flatnonzero(rows.voicing > VOICED_THRESHOLD)
    if median_f0_hz <= 0 or not len(voiced):
        return np.zeros(len(rows.f0_hz), np.float32)
    semitones = 12.0 * np.log2(rows.f0_hz[voiced] / median_f0_hz)
    semitones = np.clip(median_filter(semitones, 5, mode="nearest"), -14.0, 14.0)
    return np.interp(np.arange(len(rows.f0_hz)), voiced, semitones).astype(np.float32)


def _measure_chunk(samples: np.ndarray, first_row: int, num_rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    start = first_row * HOP_LENGTH - _MARGIN
    stop = (first_row + num_rows) * HOP_LENGTH + _MARGIN
    chunk = np.zeros(stop - start, np.float32)
    inside = samples[max(0, start) : max(0, min(stop, len(samples)))]
    offset = max(0, -start)
    chunk[offset : offset + len(inside)] = inside
    centres = np.arange(num_rows) * HOP_LENGTH + _MARGIN + HOP_LENGTH // 2
    power = _row_power(chunk, centres)
    # Pitch moves slowly: one measurement serves an even row and the odd row after it, between whose centres it lies.
    odd = first_row % 2
    pairs = (np.arange((num_rows + odd + 1) // 2) * 2 - odd + 1) * HOP_LENGTH + _MARGIN
    voicing, f0_hz = _row_pitch(resample_poly(chunk, 1, _DECIMATION), pairs // _DECIMATION)
    voicing, f0_hz = (np.repeat(values, 2)[odd : odd + num_rows] for values in (voicing, f0_hz))
    voicing = np.where(power > 1e-8, voicing, 0.0).astype(np.float32)
    return power, voicing, f0_hz


def _row_power(chunk: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Mean square of 25 ms around each centre, from a running sum in double precision."""
    sums = np.concatenate([[0.0], np.cumsum(np.square(chunk, dtype=np.float64))])
    return np.maximum((sums[centres + 200] - sums[centres - 200]) / 400.0, 0.0).astype(np.float32)


def _row_pitch(signal: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """YIN: the lag of the first deep dip of the normalised difference function, and how deep it is."""
    length = _WINDOW + _LONGEST_LAG + 2
    frames = np.lib.stride_tricks.sliding_window_view(signal, length)[centres - length // 2].astype(np.float32)
    frames = frames - frames.mean(axis=1, keepdims=True)
    lags = np.arange(_LONGEST_LAG + 2)
    spectrum = np.fft.rfft(frames, _TRANSFORM, axis=1)
    window_spectrum = np.fft.rfft(frames[:, :_WINDOW], _TRANSFORM, axis=1)
    correlation = np.fft.irfft(spectrum * np.conj(window_spectrum), _TRANSFORM, axis=1)[:, : len(lags)]
    sums = np.pad(np.cumsum(np.square(frames, dtype=np.float64), axis=1), ((0, 0), (1, 0)))
    energy = sums[:, lags + _WINDOW] - sums[:, lags]
    difference = np.maximum(energy[:, :1] + energy - 2.0 * correlation, 0.0)
    running = np.cumsum(difference[:, 1:], axis=1)
    normalised = np.ones_like(difference)
    normalised[:, 1:] = difference[:, 1:] * lags[1:] / np.maximum(running, 1e-12)
    lag = _first_dip(normalised)
    row = np.arange(len(lag))
    left, middle, right = (normalised[row, lag + shift] for shift in (-1, 0, 1))
    curvature = left - 2.0 * middle + right
    shift = np.where(curvature > 1e-9, 0.5 * (left - right) / np.maximum(curvature, 1e-9), 0.0)
    f0_hz = (_PITCH_RATE / (lag + np.clip(shift, -0.5, 0.5))).astype(np.float32)
    audible = energy[:, 0] > 1e-9
    return np.where(audible, np.clip(1.0 - middle, 0.0, 1.0), 0.0), f0_hz


def _first_dip(normalised: np.ndarray) -> np.ndarray:
    """The bottom of the first dip below the threshold, else the deepest place."""
    inner = normalised[:, _SHORTEST_LAG : _LONGEST_LAG + 1]
    is_dip = (inner <= normalised[:, _SHORTEST_LAG - 1 : _LONGEST_LAG]) & (
        inner < normalised[:, _SHORTEST_LAG + 1 : _LONGEST_LAG + 2]
    )
    deep = is_dip & (inner < _YIN_THRESHOLD)
    return _SHORTEST_LAG + np.where(deep.any(axis=1), deep.argmax(axis=1), inner.argmin(axis=1))
