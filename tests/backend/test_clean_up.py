"""Quiet and noisy recordings made fit for training."""

from __future__ import annotations

import numpy as np
import pytest

from torch_backend.audio.clean_up import SAMPLE_RATE, CleanUp, clean_up, reduce_noise


def voice(seconds: float = 3.0) -> np.ndarray:
    """Harmonics of a voice in syllables with pauses."""
    times = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    harmonics = sum(np.sin(2 * np.pi * 120 * k * times) / k for k in range(1, 30))
    return 0.05 * harmonics * np.clip(np.sin(2 * np.pi * 1.5 * times), 0.0, None)


def ratio_db(found: np.ndarray, clean: np.ndarray) -> float:
    return float(10 * np.log10(np.square(clean).sum() / np.square(found - clean).sum()))


def test_steady_noise_is_taken_out() -> None:
    clean = voice()
    noise = np.random.default_rng(0).normal(size=len(clean))
    noisy = clean + noise * np.sqrt(np.square(clean).mean() / 10 ** (5 / 10))
    assert ratio_db(noisy, clean) == pytest.approx(5.0, abs=0.2)
    assert ratio_db(reduce_noise(noisy), clean) > 11.0


def test_clean_speech_and_timing_stay() -> None:
    clean = voice()
    found = clean_up(clean, CleanUp(0.0, reduce_noise=True))
    assert found.shape == clean.shape and found.dtype == np.float32
    assert ratio_db(found, clean) > 30.0
    shifts = np.correlate(found[:8000], clean[:8000], "full")
    assert int(shifts.argmax()) == 7999  # no shift


def test_noise_reduction_knows_no_level() -> None:
    noisy = voice() + np.random.default_rng(0).normal(size=int(3 * SAMPLE_RATE)) * 0.01
    np.testing.assert_allclose(reduce_noise(noisy * 0.01), reduce_noise(noisy) * 0.01, atol=1e-7)


def test_gain_is_that_asked_for_and_never_clips() -> None:
    quiet = voice() * 0.01
    np.testing.assert_allclose(clean_up(quiet, CleanUp(20.0)), quiet * 10.0, rtol=1e-5)
    loud = clean_up(voice(), CleanUp(60.0))
    assert np.abs(loud).max() == pytest.approx(0.98)
    np.testing.assert_array_equal(clean_up(quiet, CleanUp()), quiet.astype(np.float32))


def test_automatic_gain_forgets_the_level() -> None:
    quiet, loud = (clean_up(voice() * factor, CleanUp(None)) for factor in (0.05, 0.5))
    np.testing.assert_allclose(quiet, loud, rtol=1e-3, atol=1e-6)
    levels = np.sqrt(np.square(quiet[: len(quiet) // 512 * 512].reshape(-1, 512)).mean(axis=1))
    assert 20 * np.log10(np.quantile(levels, 0.9)) == pytest.approx(-20.0, abs=0.5)


def test_silence_and_short_recordings_are_no_trouble() -> None:
    assert not clean_up(np.zeros(20000), CleanUp(None, reduce_noise=True)).any()
    short = np.full(300, 0.1)
    np.testing.assert_allclose(clean_up(short, CleanUp(0.0, reduce_noise=True)), short, rtol=1e-6)
    with_silence = np.concatenate([np.zeros(16000), voice()])
    assert np.isfinite(clean_up(with_silence, CleanUp(None, reduce_noise=True))).all()


def test_wrong_inputs_are_named() -> None:
    with pytest.raises(ValueError, match="samples"):
        clean_up(np.zeros((2, 5)), CleanUp())
    with pytest.raises(ValueError, match="gain"):
        CleanUp(100.0)
