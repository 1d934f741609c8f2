import numpy as np
import pytest

from torch_backend.audio.prosody import (
    VOICED_THRESHOLD,
    compute_log_energy,
    compute_prosody,
    fit_speaker_reference,
    measure_rows,
    measure_speaker_reference,
)


def make_tone(frequency_hz, seconds=2.0, amplitude=0.1):
    times = np.arange(int(16_000 * seconds)) / 16_000
    harmonics = [np.sin(2 * np.pi * frequency_hz * k * times) / k for k in range(1, 8)]
    return (amplitude * np.sum(harmonics, axis=0)).astype(np.float32)


@pytest.mark.parametrize("frequency_hz", [80.0, 120.0, 220.0, 333.0, 420.0])
def test_pitch_of_a_harmonic_tone(frequency_hz):
    rows = measure_rows(make_tone(frequency_hz), 10, 180)
    np.testing.assert_allclose(rows.f0_hz, frequency_hz, rtol=0.02)
    assert (rows.voicing > 0.8).all()


def test_noise_and_silence_are_voiceless():
    noise = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    assert np.percentile(measure_rows(noise, 0, 200).voicing, 95) < VOICED_THRESHOLD
    assert measure_rows(np.zeros(32_000, np.float32), 0, 200).voicing.max() == 0


def test_power_is_the_mean_square():
    rows = measure_rows(np.full(16_000, 0.5, np.float32), 50, 1)
    np.testing.assert_allclose(rows.power, 0.25, rtol=1e-5)


def test_a_glide_is_followed_in_semitones():
    # an octave up in 4 s: 12 semitones, about the median in the middle
    times = np.arange(64_000) / 16_000
    phase = 2 * np.pi * 110.0 * 4 / np.log(2) * (2 ** (times / 4) - 1)
    samples = (0.1 * sum(np.sin(k * phase) / k for k in range(1, 6))).astype(np.float32)
    track = compute_prosody(samples)
    expected = 12 * track.times / 4 - 6
    np.testing.assert_allclose(track.f0_semitones[20:-20], expected[20:-20], atol=0.35)


def test_pitch_is_carried_through_voiceless_rows():
    gap = np.zeros(16_000, np.float32)
    track = compute_prosody(np.concatenate([make_tone(100.0), gap, make_tone(200.0)]))
    middle = track.f0_semitones[245:255].mean()
    assert track.f0_semitones[100] < middle < track.f0_semitones[400]
    np.testing.assert_allclose(track.f0_semitones[400] - track.f0_semitones[100], 12.0, atol=0.3)


def test_energy_is_relative_to_loud_speech_and_limited():
    samples = np.concatenate([np.zeros(16_000, np.float32), make_tone(150.0, 4.0)])
    loud, quiet = compute_prosody(samples), compute_prosody(0.01 * samples)
    np.testing.assert_allclose(loud.log_energy[150:], quiet.log_energy[150:], atol=0.01)
    assert abs(np.median(loud.log_energy[150:])) < 0.2
    assert loud.log_energy[10] == -9.0


def test_part_of_a_recording_gives_the_rows_of_the_whole():
    samples = np.random.default_rng(1).normal(0, 0.1, 16_000 * 40).astype(np.float32)
    whole, part = measure_rows(samples, 0, 4000), measure_rows(samples, 2980, 40)
    for name in ("power", "voicing", "f0_hz"):
        np.testing.assert_allclose(getattr(part, name), getattr(whole, name)[2980:3020], rtol=1e-4, atol=1e-5)


def test_reference_of_a_long_recording_is_close_to_that_of_all_its_rows():
    parts = [make_tone(f, 2.0, 0.02 + 0.001 * i) for i, f in enumerate(np.linspace(90, 150, 40))]
    samples = np.concatenate(parts)
    sparse, full = measure_speaker_reference(samples), fit_speaker_reference(measure_rows(samples, 0, 8_000))
    np.testing.assert_allclose(sparse.median_f0_hz, full.median_f0_hz, rtol=0.05)
    np.testing.assert_allclose(sparse.loud_power, full.loud_power, rtol=0.1)


def test_silence_gives_a_flat_finite_track():
    track = compute_prosody(np.zeros(20_000, np.float32))
    assert np.isfinite(track.log_energy).all() and (track.f0_semitones == 0).all()
    assert len(track.times) == 125 and track.times[0] == pytest.approx(0.005)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="shape"):
        compute_prosody(np.zeros((2, 100), np.float32))
    with pytest.raises(ValueError, match="first_row"):
        measure_rows(np.zeros(100, np.float32), -1, 2)


def test_log_energy_of_the_reference_itself_is_zero():
    rows = measure_rows(np.full(16_000, 0.1, np.float32), 20, 50)
    np.testing.assert_allclose(compute_log_energy(rows, fit_speaker_reference(rows)), 0.0, atol=1e-3)
