"""Log-mel spectrogram, 100 rows per second, and its normalisation over a whole recording in one streaming pass."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.fft import rfft

SAMPLE_RATE = 16_000
HOP_LENGTH = 160
"""Samples between rows: 100 rows per second."""
WINDOW_LENGTH = 400
"""25 ms."""
NUM_MELS = 64

_TRANSFORM = 512
_LOWEST_HZ, _HIGHEST_HZ = 60.0, 7_600.0
_LIMIT_HZ = 7_990.0
_PRE_EMPHASIS = 0.95
_POWER_FLOOR = 1e-8  # about the power of 16 bit rounding in a filter
_CHUNK_ROWS = 2_000
_LOUDNESS_EXPONENT = 0.5
_CONTRAST = 3.0
_LOWEST_NORMALIZED = -10.0 / _CONTRAST


def count_mel_rows(num_samples: int) -> int:
    """Return the number of rows of a recording: one per full hop, at least one."""
    return max(1, num_samples // HOP_LENGTH)


@lru_cache(maxsize=64)
def build_mel_filterbank(warp: float = 1.0) -> np.ndarray:
    """Build triangular filters, equally spaced in mels between 60 and 7600 Hz, each summing to one.

    Args:
        warp: factor on all corner frequencies; other than 1 it imitates a longer or shorter vocal tract.

    Returns:
        (257, 64) float32, read-only: weights of the bins of a 512-point transform at 16 kHz.
    """
    mels = np.linspace(_hz_to_mel(_LOWEST_HZ), _hz_to_mel(_HIGHEST_HZ), NUM_MELS + 2)
    corners = np.clip(_mel_to_hz(mels) * warp, 0.0, _LIMIT_HZ)
    bins = np.arange(_TRANSFORM // 2 + 1) * SAMPLE_RATE / _TRANSFORM
    filterbank = np.zeros((len(bins), NUM_MELS))
    for index in range(NUM_MELS):
        left, centre, right = corners[index : index + 3]
        centre = max(centre, left + 1.0)
        right = max(right, centre + 1.0)
        rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
        weights = np.maximum(0.0, np.minimum(rising, falling))
        if weights.sum() < 1e-3:  # a filter between two bins takes the nearer one
            weights[np.argmin(np.abs(bins - centre))] = 1.0
        filterbank[:, index] = weights / weights.sum()
    filterbank = filterbank.astype(np.float32)
    filterbank.setflags(write=False)
    return filterbank


def compute_log_mel(samples: np.ndarray, first_row: int, num_rows: int, warp: float = 1.0) -> np.ndarray:
    """Compute rows first_row .. first_row + num_rows, reading only their samples.

    Row t is centred on sample (t + 0.5) * 160, that is on time (t + 0.5) / 100 s. Sound outside the recording is
    silence, before its beginning too: first_row may be negative.

    Args:
        samples: (S,) float32 at 16 kHz, -1..1, may be memory-mapped.
        first_row: first row wanted.
        num_rows: how many, >= 0.
        warp: see build_mel_filterbank.

    Returns:
        (num_rows, 64) float32 natural logarithm of the power in each filter.

    Raises:
        ValueError: samples is not one-dimensional, or num_rows is negative.
    """
    if samples.ndim != 1:
        raise ValueError(f"expected samples of shape (S,), got {samples.shape}")
    if num_rows < 0:
        raise ValueError(f"expected num_rows >= 0, got {num_rows}")
    filterbank = build_mel_filterbank(warp)
    result = np.empty((num_rows, NUM_MELS), np.float32)
    for start in range(0, num_rows, _CHUNK_ROWS):
        stop = min(start + _CHUNK_ROWS, num_rows)
        result[start:stop] = _compute_chunk(samples, first_row + start, stop - start, filterbank)
    return result


class ChannelMeanAccumulator:
    """The mean of each channel over a recording, every row weighted by its loudness, in constant memory.

    The weight is the square root of the row's power (geometric mean over channels), so the mean is that of the
    speech, whatever share of the recording is pause, and a recording's level and microphone drop out.
    """

    def __init__(self) -> None:
        self._weight = 0.0
        self._sum = np.zeros(NUM_MELS)

    def add(self, log_mel: np.ndarray) -> None:
        """Take in (R, 64) rows."""
        weights = np.exp(_LOUDNESS_EXPONENT * log_mel.mean(axis=1, dtype=np.float64))
        self._weight += float(weights.sum())
        self._sum += weights @ log_mel

    def compute(self) -> np.ndarray:
        """Return (64,) float32 means.

        Raises:
            ValueError: nothing was added.
        """
        if self._weight == 0.0:
            raise ValueError("expected at least one row of log-mels, got none")
        return (self._sum / self._weight).astype(np.float32)


def compute_channel_mean(samples: np.ndarray) -> np.ndarray:
    """Return (64,) float32 channel means of a whole recording (S,), read chunk by chunk."""
    accumulator = ChannelMeanAccumulator()
    num_rows = count_mel_rows(len(samples))
    for start in range(0, num_rows, _CHUNK_ROWS):
        accumulator.add(compute_log_mel(samples, start, min(_CHUNK_ROWS, num_rows - start)))
    return accumulator.compute()


def normalize_log_mel(log_mel: np.ndarray, channel_mean: np.ndarray) -> np.ndarray:
    """Return (R, 64) float32: deviation from the channel means over 3, not below -10 / 3 (digital silence)."""
    return np.maximum((log_mel - channel_mean) * np.float32(1.0 / _CONTRAST), np.float32(_LOWEST_NORMALIZED))


def _compute_chunk(samples: np.ndarray, first_row: int, num_rows: int, filterbank: np.ndarray) -> np.ndarray:
    margin = (WINDOW_LENGTH - HOP_LENGTH) // 2
    start = first_row * HOP_LENGTH - margin
    length = (num_rows - 1) * HOP_LENGTH + WINDOW_LENGTH
    sound = np.zeros(length, np.float32)
    low, high = max(0, start), min(len(samples), start + length)
    if high > low:
        sound[low - start : high - start] = samples[low:high]
    frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW_LENGTH)[::HOP_LENGTH]
    frames = frames - frames.mean(axis=1, keepdims=True)
    frames[:, 1:] = frames[:, 1:] - _PRE_EMPHASIS * frames[:, :-1]
    frames *= _window()
    spectrum = rfft(frames, _TRANSFORM, axis=1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    return np.log(power @ filterbank + np.float32(_POWER_FLOOR))


@lru_cache(maxsize=1)
def _window() -> np.ndarray:
    return np.hanning(WINDOW_LENGTH).astype(np.float32)


def _hz_to_mel(frequency_hz: float) -> float:
    return float(2595.0 * np.log10(1.0 + frequency_hz / 700.0))


def _mel_to_hz(mels: np.ndarray) -> np.ndarray:
    return 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
