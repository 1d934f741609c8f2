"""Make clean synthetic speech sound like recordings of other people in other rooms, with the phone times kept right.

What carries a model from synthetic voices to recordings, in this order: other vocal tracts and tempos (resampling),
pauses with breath, rooms, microphones (equalisation, band limits, coding), noise and other speakers behind.
Every function takes and returns sound of full scale 1 and draws from the generator it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import butter, sosfilt

from torch_backend.speech_corpus.phones import SILENCE, PhoneSegment
from torch_backend.speech_corpus.synthesis import SAMPLE_RATE


@dataclass(frozen=True)
class AugmentationConfig:
    """How often and how strongly sound is changed. Probabilities are per copy, ranges uniform unless stated."""

    resample_probability: float = 0.75
    resample_range: tuple[float, float] = (0.82, 1.22)
    """Speed factors: pitch, formants and tempo move together."""
    pause_probability: float = 0.5
    longest_pause_seconds: float = 0.7
    """Silence added before and, independently, after."""
    long_pause_probability: float = 0.12
    """Share of the ends that get one to four seconds instead."""
    breath_probability: float = 0.4
    reverb_probability: float = 0.5
    reverb_seconds: tuple[float, float] = (0.08, 0.6)
    reverb_level_db: tuple[float, float] = (-18.0, -3.0)
    """Energy of the tail relative to the direct sound."""
    equalizer_probability: float = 0.7
    equalizer_spread_db: float = 5.0
    noise_probability: float = 0.85
    noise_snr_db: tuple[float, float] = (5.0, 40.0)
    babble_share: float = 0.3
    """Share of the noise that is other speakers."""
    band_limit_probability: float = 0.3
    mu_law_probability: float = 0.1
    level_db: tuple[float, float] = (-25.0, 0.0)
    """Peak level of the result."""


def resample_speech(
    samples: np.ndarray, segments: Sequence[PhoneSegment], factor: float
) -> tuple[np.ndarray, tuple[PhoneSegment, ...]]:
    """Play faster (factor > 1) or slower by linear interpolation: times divide by the factor.

    Args:
        samples: (S,) float32.
        segments: phones of the sound.
        factor: speed, > 0.

    Returns:
        (floor(S / factor),) float32 and the phones with their times divided by factor.

    Raises:
        ValueError: factor is not positive.
    """
    if factor <= 0:
        raise ValueError(f"expected a positive speed factor, got {factor}")
    positions = np.arange(int(len(samples) / factor), dtype=np.float64) * factor
    resampled = np.interp(positions, np.arange(len(samples)), samples).astype(np.float32)
    return resampled, tuple(PhoneSegment(s / factor, e / factor, phone) for s, e, phone in segments)


def pad_speech(
    samples: np.ndarray, segments: Sequence[PhoneSegment], lead_seconds: float, tail_seconds: float
) -> tuple[np.ndarray, tuple[PhoneSegment, ...]]:
    """Add digital silence before and after; it joins a silence that is already there.

    Returns:
        The longer sound, and phones shifted by the lead and covering the longer sound.
    """
    lead, tail = round(lead_seconds * SAMPLE_RATE), round(tail_seconds * SAMPLE_RATE)
    shift = lead / SAMPLE_RATE
    padded = np.pad(samples, (lead, tail))
    shifted = [PhoneSegment(s + shift, e + shift, phone) for s, e, phone in segments]
    if lead:
        if shifted and shifted[0].phone == SILENCE:
            shifted[0] = PhoneSegment(0.0, shifted[0].end_seconds, SILENCE)
        else:
            shifted.insert(0, PhoneSegment(0.0, shift, SILENCE))
    if tail:
        end = len(padded) / SAMPLE_RATE
        if shifted and shifted[-1].phone == SILENCE:
            shifted[-1] = PhoneSegment(shifted[-1].start_seconds, end, SILENCE)
        else:
            shifted.append(PhoneSegment(shifted[-1].end_seconds if shifted else 0.0, end, SILENCE))
    return padded, tuple(shifted)


def make_colored_noise(num_samples: int, exponent: float, generator: np.random.Generator) -> np.ndarray:
    """Return (S,) float32 noise of unit variance whose amplitude falls as frequency ** -exponent."""
    length = next_fast_len(max(num_samples, 2), real=True)
    spectrum = rfft(generator.standard_normal(length, dtype=np.float32))
    spectrum /= (np.arange(len(spectrum), dtype=np.float32) + 1.0) ** exponent
    noise = irfft(spectrum, length)[:num_samples]
    return (noise / (noise.std() + 1e-9)).astype(np.float32)


def add_reverb(samples: np.ndarray, seconds: float, level_db: float, generator: np.random.Generator) -> np.ndarray:
    """Convolve with a decaying noise tail (-60 dB after `seconds`); the direct sound stays where it was."""
    length = max(int(seconds * SAMPLE_RATE), 1)
    response = generator.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
    response *= 10.0 ** (level_db / 20.0) / np.sqrt(np.square(response).sum())
    response[0] = 1.0
    size = next_fast_len(len(samples) + length, real=True)
    product = rfft(samples, size) * rfft(response.astype(np.float32), size)
    return irfft(product, size)[: len(samples)].astype(np.float32)


def equalize(samples: np.ndarray, gains_db: np.ndarray) -> np.ndarray:
    """Filter with a smooth response: gains (G,) in dB at frequencies equally spaced on a square-root scale."""
    size = next_fast_len(len(samples) + 1024, real=True)
    spectrum = rfft(samples, size)
    position = np.sqrt(np.linspace(0.0, 1.0, len(spectrum)))
    gain = 10.0 ** (np.interp(position, np.linspace(0.0, 1.0, len(gains_db)), gains_db) / 20.0)
    return irfft(spectrum * gain.astype(np.float32), size)[: len(samples)].astype(np.float32)


def limit_band(samples: np.ndarray, low_hz: float, high_hz: float) -> np.ndarray:
    """Band-pass of fourth order, as a telephone or a cheap microphone does."""
    sections = butter(4, [low_hz, high_hz], "band", fs=SAMPLE_RATE, output="sos")
    return sosfilt(sections, samples).astype(np.float32)


def apply_mu_law(samples: np.ndarray) -> np.ndarray:
    """Code the sound, scaled to its peak, with 8 bit mu-law and back; the peak is kept."""
    peak = float(np.abs(samples).max()) + 1e-9
    scaled = samples / peak
    coded = np.round(np.sign(scaled) * np.log1p(255.0 * np.abs(scaled)) / np.log(256.0) * 127.0) / 127.0
    return (np.sign(coded) * (256.0 ** np.abs(coded) - 1.0) / 255.0 * peak).astype(np.float32)


def add_breath(
    samples: np.ndarray, segments: Sequence[PhoneSegment], speech_level: float, generator: np.random.Generator
) -> np.ndarray:
    """Put one breath-like burst of band-limited noise into a silence of over 0.2 s, if there is one."""
    silences = [s for s in segments if s.phone == SILENCE and s.end_seconds - s.start_seconds > 0.2]
    if not silences:
        return samples
    silence = silences[int(generator.integers(len(silences)))]
    length = silence.end_seconds - silence.start_seconds
    duration = generator.uniform(0.15, min(0.45, length - 0.02))
    start = int((silence.start_seconds + generator.uniform(0.0, length - duration)) * SAMPLE_RATE)
    count = min(int(duration * SAMPLE_RATE), len(samples) - start)
    if count < 16:
        return samples
    centre = generator.uniform(500.0, 2000.0)
    burst = generator.standard_normal(count) * np.hanning(count)
    sections = butter(2, [centre / 2.0, min(7500.0, centre * 3.0)], "band", fs=SAMPLE_RATE, output="sos")
    burst = sosfilt(sections, burst)
    burst *= speech_level * 10.0 ** (generator.uniform(-30.0, -10.0) / 20.0) / (burst.std() + 1e-9)
    result = samples.copy()
    result[start : start + count] += burst.astype(np.float32)
    return result


def augment_speech(
    samples: np.ndarray,
    segments: Sequence[PhoneSegment],
    generator: np.random.Generator,
    others: Sequence[np.ndarray] = (),
    config: AugmentationConfig | None = None,
) -> tuple[np.ndarray, tuple[PhoneSegment, ...]]:
    """Draw one changed copy of an utterance.

    Args:
        samples: (S,) float32 at 16 kHz, -1..1.
        segments: its phones, covering it.
        generator: what the copy is drawn from; the same state gives the same copy.
        others: sounds of other speakers for babble, float32; without them all noise is coloured noise.
        config: probabilities and ranges.

    Returns:
        (S',) float32 within -1..1, and the phones in the copy's own time.
    """
    config = config or AugmentationConfig()
    phones: tuple[PhoneSegment, ...] = tuple(segments)
    sound = np.asarray(samples, np.float32)
    if generator.random() < config.resample_probability:
        sound, phones = resample_speech(sound, phones, float(generator.uniform(*config.resample_range)))
    sound, phones = pad_speech(sound, phones, _draw_pause(generator, config), _draw_pause(generator, config))
    level = float(np.sqrt(np.square(samples, dtype=np.float64).mean())) + 1e-5
    if generator.random() < config.breath_probability:
        sound = add_breath(sound, phones, level, generator)
    if generator.random() < config.reverb_probability:
        sound = add_reverb(
            sound, generator.uniform(*config.reverb_seconds), generator.uniform(*config.reverb_level_db), generator
        )
    if generator.random() < config.equalizer_probability:
        sound = equalize(sound, generator.normal(0.0, config.equalizer_spread_db, 8))
    if generator.random() < config.noise_probability:
        sound = sound + level * _draw_noise(len(sound), generator, others, config)
    return _draw_channel(sound, generator, config), phones


def make_background(num_samples: int, generator: np.random.Generator) -> np.ndarray:
    """Draw the sound of a place where nobody speaks: coloured noise, at times hum, swelling, clicks, a narrow band.

    Args:
        num_samples: length at 16 kHz.
        generator: what it is drawn from.

    Returns:
        (S,) float32 with a peak between -70 and 0 dB.
    """
    times = np.arange(num_samples, dtype=np.float32) / SAMPLE_RATE
    noise = make_colored_noise(num_samples, generator.uniform(0.0, 1.3), generator)
    if generator.random() < 0.35:
        fundamental = float(generator.choice([50.0, 60.0, generator.uniform(80.0, 400.0)]))
        hum = sum(np.sin(2.0 * np.pi * k * fundamental * times) / k for k in range(1, int(generator.integers(2, 9))))
        noise = noise + hum * generator.uniform(0.1, 1.5)
    if generator.random() < 0.35:
        rate = 2.0 * np.pi * generator.uniform(0.05, 2.0)
        noise = noise * (1.0 + generator.uniform(0.2, 0.8) * np.sin(rate * times + generator.uniform(0.0, 6.0)))
    if generator.random() < 0.25:
        for start in generator.integers(0, num_samples, int(generator.integers(1, 6))):
            length = min(int(generator.uniform(0.002, 0.03) * SAMPLE_RATE), num_samples - int(start))
            click = generator.standard_normal(length) * np.exp(-5.0 * np.arange(length) / max(length, 1))
            noise[start : start + length] += click * generator.uniform(2.0, 15.0)
    noise = noise.astype(np.float32)
    if generator.random() < 0.3:
        noise = limit_band(noise, generator.uniform(30.0, 400.0), generator.uniform(1500.0, 7000.0))
    level = 10.0 ** (generator.uniform(-70.0, 0.0) / 20.0)
    return (noise / (np.abs(noise).max() + 1e-9) * level).astype(np.float32)


def _draw_pause(generator: np.random.Generator, config: AugmentationConfig) -> float:
    """Seconds of silence for one end."""
    if generator.random() < config.long_pause_probability:
        return float(generator.uniform(1.0, 4.0))
    if generator.random() < config.pause_probability:
        return float(generator.uniform(0.0, config.longest_pause_seconds))
    return 0.0


def _draw_noise(
    num_samples: int, generator: np.random.Generator, others: Sequence[np.ndarray], config: AugmentationConfig
) -> np.ndarray:
    """Noise for speech of unit level: coloured, or one to four other speakers; sometimes it swells."""
    snr_db = generator.uniform(*config.noise_snr_db)
    if others and generator.random() < config.babble_share:
        noise = np.zeros(num_samples, np.float32)
        for _ in range(int(generator.integers(1, 5))):
            other = others[int(generator.integers(len(others)))]
            rolled = np.roll(other, int(generator.integers(len(other))))
            noise += np.resize(rolled, num_samples) / (other.std() + 1e-4)
        noise /= noise.std() + 1e-9
        snr_db = max(snr_db, 12.0)
    else:
        noise = make_colored_noise(num_samples, generator.uniform(0.0, 1.1), generator)
    if generator.random() < 0.2:
        rate = 2.0 * np.pi * generator.uniform(0.1, 3.0) / SAMPLE_RATE
        noise = noise * (1.0 + 0.7 * np.sin(rate * np.arange(num_samples, dtype=np.float32)))
    return (noise * 10.0 ** (-snr_db / 20.0)).astype(np.float32)


def _draw_channel(sound: np.ndarray, generator: np.random.Generator, config: AugmentationConfig) -> np.ndarray:
    """Band limits, coding and level."""
    if generator.random() < config.band_limit_probability:
        high_hz = float(generator.choice([3400.0, 3800.0, 5500.0, 7000.0]))
        sound = limit_band(sound, generator.uniform(30.0, 300.0), high_hz)
    if generator.random() < config.mu_law_probability:
        sound = apply_mu_law(sound)
    level = 10.0 ** (generator.uniform(*config.level_db) / 20.0)
    return (sound / (np.abs(sound).max() + 1e-6) * level).astype(np.float32)
