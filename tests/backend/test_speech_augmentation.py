import numpy as np
import pytest

from torch_backend.speech_corpus.augmentation import (
    AugmentationConfig,
    add_breath,
    add_reverb,
    apply_mu_law,
    augment_speech,
    equalize,
    limit_band,
    make_colored_noise,
    pad_speech,
    resample_speech,
)
from torch_backend.speech_corpus.phones import PhoneSegment

SEGMENTS = (PhoneSegment(0.0, 0.25, "SIL"), PhoneSegment(0.25, 0.75, "AA"), PhoneSegment(0.75, 1.0, "SIL"))


def make_speech(seconds=1.0):
    times = np.arange(int(16_000 * seconds)) / 16_000
    tone = 0.2 * np.sin(2 * np.pi * 200 * times)
    return (tone * ((times >= 0.25) & (times < 0.75))).astype(np.float32)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_resampling_divides_times_and_length(factor):
    sound, segments = resample_speech(make_speech(), SEGMENTS, factor)
    assert len(sound) == int(16_000 / factor)
    assert segments[1] == (pytest.approx(0.25 / factor), pytest.approx(0.75 / factor), "AA")
    spectrum = np.abs(np.fft.rfft(sound, 16_000))
    assert spectrum.argmax() == pytest.approx(200 * factor, abs=2)
    onset = np.flatnonzero(np.abs(sound) > 0.01)[0] / 16_000
    assert onset == pytest.approx(0.25 / factor, abs=0.001)


def test_padding_shifts_times_and_joins_silence():
    sound, segments = pad_speech(make_speech(), SEGMENTS, 0.1, 0.3)
    assert len(sound) == 16_000 + 1_600 + 4_800
    assert segments == (
        PhoneSegment(0.0, pytest.approx(0.35), "SIL"),
        PhoneSegment(pytest.approx(0.35), pytest.approx(0.85), "AA"),
        PhoneSegment(pytest.approx(0.85), pytest.approx(1.4), "SIL"),
    )


def test_padding_makes_silence_where_there_was_none():
    _, segments = pad_speech(make_speech(), SEGMENTS[1:2], 0.1, 0.0)
    assert segments == (PhoneSegment(0.0, 0.1, "SIL"), PhoneSegment(pytest.approx(0.35), pytest.approx(0.85), "AA"))


def test_colored_noise_has_unit_variance_and_the_wanted_slope():
    noise = make_colored_noise(1 << 16, 1.0, np.random.default_rng(0))
    assert noise.std() == pytest.approx(1.0, abs=1e-4)
    power = np.square(np.abs(np.fft.rfft(noise)))
    low, high = power[100:200].mean(), power[1000:2000].mean()
    assert 10 * np.log10(low / high) == pytest.approx(20.0, abs=1.5)  # amplitude as 1 / f: 20 dB a decade


def test_reverb_keeps_the_direct_sound_in_place_and_adds_the_tail():
    click = np.zeros(16_000, np.float32)
    click[1_000] = 1.0
    wet = add_reverb(click, 0.3, -6.0, np.random.default_rng(1))
    assert np.abs(wet).argmax() == 1_000 and np.abs(wet[:1_000]).max() < 1e-5
    tail = np.square(wet[1_001:]).sum()
    assert 10 * np.log10(tail) == pytest.approx(-6.0, abs=0.3)


def test_equalizer_with_equal_gains_is_a_plain_gain():
    speech = make_speech()
    np.testing.assert_allclose(equalize(speech, np.full(8, 6.0)), speech * 10 ** (6 / 20), atol=1e-5)


def test_band_limits_remove_what_lies_outside():
    times = np.arange(16_000) / 16_000
    inside, outside = np.sin(2 * np.pi * 1000 * times), np.sin(2 * np.pi * 6000 * times)
    assert limit_band(inside, 200, 3400)[4000:].std() == pytest.approx(inside.std(), rel=0.05)
    assert limit_band(outside, 200, 3400)[4000:].std() < 0.02


def test_mu_law_keeps_the_peak_and_rounds_relatively():
    speech = make_speech()
    coded = apply_mu_law(speech)
    assert np.abs(coded).max() == pytest.approx(np.abs(speech).max(), rel=0.05)
    loud = np.abs(speech) > 0.02
    assert np.abs(coded[loud] / speech[loud] - 1).max() < 0.05


def test_breath_stays_in_the_silence():
    speech = make_speech()
    breathy = add_breath(speech, SEGMENTS, 0.1, np.random.default_rng(2))
    changed = np.flatnonzero(breathy != speech) / 16_000
    assert len(changed) and ((changed < 0.25) | (changed >= 0.75)).all()


def test_a_copy_is_covered_by_its_phones_and_within_full_scale():
    generator = np.random.default_rng(3)
    for _ in range(20):
        sound, segments = augment_speech(make_speech(), SEGMENTS, generator, [make_speech(0.8)])
        assert sound.dtype == np.float32 and np.isfinite(sound).all() and np.abs(sound).max() <= 1.0
        assert segments[0].start_seconds == 0.0
        assert segments[-1].end_seconds == pytest.approx(len(sound) / 16_000, abs=2e-4)
        ends = [segment.end_seconds for segment in segments]
        assert [segment.start_seconds for segment in segments[1:]] == pytest.approx(ends[:-1])


def test_the_same_generator_state_gives_the_same_copy():
    copies = [augment_speech(make_speech(), SEGMENTS, np.random.default_rng(4)) for _ in range(2)]
    np.testing.assert_array_equal(copies[0][0], copies[1][0])
    assert copies[0][1] == copies[1][1]


def test_without_any_change_only_the_level_moves():
    config = AugmentationConfig(0, pause_probability=0, breath_probability=0, reverb_probability=0,
                                equalizer_probability=0, noise_probability=0, band_limit_probability=0,
                                mu_law_probability=0, level_db=(-6.0, -6.0))  # fmt: skip
    sound, segments = augment_speech(make_speech(), SEGMENTS, np.random.default_rng(5), config=config)
    np.testing.assert_allclose(sound, make_speech() / 0.2 * 10 ** (-6 / 20), atol=1e-3)
    assert segments == SEGMENTS


def test_a_bad_factor_is_refused():
    with pytest.raises(ValueError, match="positive"):
        resample_speech(make_speech(), SEGMENTS, 0.0)
