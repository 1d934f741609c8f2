import numpy as np
import pytest

from torch_backend.audio.log_mel import (
    NUM_MELS,
    ChannelMeanAccumulator,
    build_mel_filterbank,
    compute_channel_mean,
    compute_log_mel,
    normalize_log_mel,
)


def test_filter_corners_match_the_mel_formula_computed_by_hand():
    # 66 corners equally spaced in mels from 60 to 7600 Hz: mel = 2595 log10(1 + f / 700)
    low, high = 2595 * np.log10(1 + 60 / 700), 2595 * np.log10(1 + 7600 / 700)
    corners = [700 * (10 ** ((low + (high - low) * i / 65) / 2595) - 1) for i in (40, 41, 42)]
    weights = build_mel_filterbank()[:, 40]
    bins = np.arange(257) * 16_000 / 512
    inside = (bins > corners[0]) & (bins < corners[2])
    assert (weights[inside] > 0).all() and (weights[~inside] == 0).all()
    rising = (bins - corners[0]) / (corners[1] - corners[0])
    falling = (corners[2] - bins) / (corners[2] - corners[1])
    triangle = np.clip(np.minimum(rising, falling), 0, None)
    np.testing.assert_allclose(weights, triangle / triangle.sum(), atol=1e-6)


def test_every_filter_sums_to_one():
    for warp in (0.9, 1.0, 1.12):
        np.testing.assert_allclose(build_mel_filterbank(warp).sum(axis=0), 1.0, atol=1e-5)


def test_a_click_is_loudest_in_the_row_centred_on_it():
    samples = np.zeros(16_000, np.float32)
    samples[37 * 160 + 80] = 1.0  # row 37 is centred on sample 37.5 * 160
    energy = compute_log_mel(samples, 0, 100).mean(axis=1)
    assert energy.argmax() == 37
    np.testing.assert_allclose(energy[36], energy[38], rtol=0.02)


def test_a_row_equals_a_plain_transform():
    generator = np.random.default_rng(0)
    samples = generator.normal(0, 0.1, 3200).astype(np.float32)
    row = 9
    frame = samples[row * 160 + 80 - 200 : row * 160 + 80 + 200].astype(np.float64)
    frame = frame - frame.mean()
    frame[1:] = frame[1:] - 0.95 * frame[:-1].copy()
    spectrum = np.array(
        [np.sum(frame * np.hanning(400) * np.exp(-2j * np.pi * k * np.arange(400) / 512)) for k in range(257)]
    )
    expected = np.log(np.abs(spectrum) ** 2 @ build_mel_filterbank() + 1e-8)
    np.testing.assert_allclose(compute_log_mel(samples, row, 1)[0], expected, atol=1e-4)


def test_part_of_a_recording_gives_the_rows_of_the_whole():
    samples = np.random.default_rng(1).normal(0, 0.1, 16_000 * 25).astype(np.float32)
    whole = compute_log_mel(samples, 0, 2500)
    np.testing.assert_allclose(compute_log_mel(samples, 1990, 30), whole[1990:2020], atol=1e-5)


def test_sound_outside_the_recording_is_silence():
    rows = compute_log_mel(np.ones(1600, np.float32), -20, 5)
    np.testing.assert_allclose(rows, np.log(1e-8), atol=1e-4)


def test_streamed_channel_mean_is_the_weighted_mean_of_all_rows():
    generator = np.random.default_rng(2)
    samples = (generator.normal(0, 0.1, 16_000 * 45) * np.linspace(0, 1, 16_000 * 45)).astype(np.float32)
    rows = compute_log_mel(samples, 0, 4500).astype(np.float64)
    weights = np.exp(0.5 * rows.mean(axis=1))
    expected = (weights[:, None] * rows).sum(axis=0) / weights.sum()
    np.testing.assert_allclose(compute_channel_mean(samples), expected, atol=1e-4)


def test_channel_mean_does_not_depend_on_the_share_of_pause():
    generator = np.random.default_rng(3)
    speech = generator.normal(0, 0.1, 32_000).astype(np.float32)
    with_pause = np.concatenate([speech, generator.normal(0, 1e-5, 320_000).astype(np.float32)])
    np.testing.assert_allclose(compute_channel_mean(with_pause), compute_channel_mean(speech), atol=0.1)


def test_level_drops_out_of_normalized_log_mels():
    samples = np.random.default_rng(4).normal(0, 0.3, 16_000).astype(np.float32)
    results = []
    for gain in (1.0, 0.2):
        sound = gain * samples
        results.append(normalize_log_mel(compute_log_mel(sound, 0, 100), compute_channel_mean(sound)))
    np.testing.assert_allclose(results[0], results[1], atol=0.02)


def test_digital_silence_is_limited_from_below():
    normalized = normalize_log_mel(np.full((3, NUM_MELS), -18.0, np.float32), np.zeros(NUM_MELS, np.float32))
    np.testing.assert_allclose(normalized, -10 / 3)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="shape"):
        compute_log_mel(np.zeros((2, 10), np.float32), 0, 1)
    with pytest.raises(ValueError, match="num_rows"):
        compute_log_mel(np.zeros(10, np.float32), 0, -1)
    with pytest.raises(ValueError, match="at least one row"):
        ChannelMeanAccumulator().compute()
