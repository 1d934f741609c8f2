"""Quiet and noisy recordings made fit for training: gain, then noise reduction (FaceTalk, supplement D).

The paper amplifies by 20 dB and reduces the noise by spectral gating. Here the gain follows the speech's level unless
it is given, and a Wiener filter with a decision-directed estimate of the signal-to-noise ratio (Ephraim and Malah 1984)
takes out noise that is steady, measured where the recording is quietest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

SAMPLE_RATE = 16_000
_WINDOW, _HOP = 512, 128
_QUIET_SHARE = 0.1
"""Of the frames: noise is measured in the quietest ones."""
_QUIET_BIAS = 1.3
"""The quietest frames hold less than the mean noise."""
_SMOOTHING = 0.97
"""How much of the ratio of the frame before counts in a frame's estimate."""
_OVERESTIMATE = 1.5
"""Noise is taken for this much more, against the chirping of what is left."""
_LOWEST_GAIN_DB = -20.0
_SPEECH_LEVEL_DB = -20.0
"""Level of the loud frames after an automatic gain, relative to full scale."""
_LOUD_QUANTILE = 0.9
_MOST_GAIN_DB = 40.0
_PEAK = 0.98
_SILENCE = 1e-7


@dataclass(frozen=True)
class CleanUp:
    """What is done to a recording."""

    gain_db: float | None = 0.0
    """Amplification in dB; None brings loud speech to -20 dB of full scale. Peaks are kept below full scale."""
    reduce_noise: bool = False
    """Whether steady noise is taken out."""

    def __post_init__(self) -> None:
        if self.gain_db is not None and not -60.0 <= self.gain_db <= 60.0:
            raise ValueError(f"expected a gain of -60 to 60 dB, got {self.gain_db}")


def clean_up(samples: NDArray[np.floating], settings: CleanUp) -> NDArray[np.float32]:
    """Amplify, then reduce noise.

    Args:
        samples: (S,) at 16 kHz, full scale -1..1.
        settings: what is done.

    Returns:
        (S,) of the same timing, within full scale.

    Raises:
        ValueError: no samples (S,).
    """
    if samples.ndim != 1 or not len(samples):
        raise ValueError(f"expected samples (S,), got {samples.shape}")
    values = np.asarray(samples, np.float64)
    if settings.reduce_noise:
        # Before the gain, which then follows the speech and not the noise; the filter itself knows no level.
        values = reduce_noise(values)
    gain_db = _measured_gain_db(values) if settings.gain_db is None else settings.gain_db
    values = values * 10.0 ** (gain_db / 20.0)
    peak = float(np.abs(values).max())
    return (values * (_PEAK / peak) if peak > 1.0 else values).astype(np.float32)


def reduce_noise(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take steady noise out of a recording.

    Args:
        samples: (S,) at 16 kHz; shorter than a tenth of a second it is given back as it is.
    """
    if len(samples) < SAMPLE_RATE // 10:
        return samples
    transform = ShortTimeFFT(hann(_WINDOW, sym=False), _HOP, SAMPLE_RATE)
    spectrum = transform.stft(samples)
    power = np.square(np.abs(spectrum))
    noise = _noise_power(power)
    gains = _wiener_gains(power / np.maximum(noise * _OVERESTIMATE, _SILENCE**2)[:, None])
    cleaned: NDArray[np.float64] = transform.istft(spectrum * gains, k1=len(samples))
    return cleaned


def _noise_power(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """(F,) mean power of each band in the quietest frames, the digitally silent ones aside."""
    loudness = power.sum(axis=0)
    heard = np.flatnonzero(loudness > _SILENCE**2 * _WINDOW)
    if not len(heard):
        return np.zeros(len(power))
    count = max(1, int(_QUIET_SHARE * len(heard)))
    quiet = heard[np.argsort(loudness[heard], kind="stable")[:count]]
    bias = 1.0 if count == len(heard) else _QUIET_BIAS
    measured: NDArray[np.float64] = bias * power[:, quiet].mean(axis=1)
    return measured


def _wiener_gains(ratios: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gains (F, T) of power over noise (F, T)."""
    lowest = 10.0 ** (_LOWEST_GAIN_DB / 20.0)
    gains = np.empty_like(ratios)
    before = np.zeros(len(ratios))
    for frame in range(ratios.shape[1]):
        ratio = ratios[:, frame]
        estimate = _SMOOTHING * before + (1.0 - _SMOOTHING) * np.maximum(ratio - 1.0, 0.0)
        gain = np.maximum(estimate / (1.0 + estimate), lowest)
        gains[:, frame] = gain
        before = np.square(gain) * ratio
    return gains


def _measured_gain_db(samples: NDArray[np.float64]) -> float:
    """Gain that brings the loud frames to the level of speech; none for silence."""
    blocks = samples[: len(samples) // _WINDOW * _WINDOW].reshape(-1, _WINDOW)
    levels = np.sqrt(np.square(blocks if len(blocks) else samples[None]).mean(axis=1))
    loud = float(np.quantile(levels, _LOUD_QUANTILE))
    if loud < _SILENCE:
        return 0.0
    return float(np.clip(_SPEECH_LEVEL_DB - 20.0 * np.log10(loud), -_MOST_GAIN_DB, _MOST_GAIN_DB))
