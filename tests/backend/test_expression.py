"""Blinks, brows and squints from made-up prosody."""

from __future__ import annotations

import numpy as np
import pytest

from blender_talkhead.facial.blendshapes import BLENDSHAPE_INDEX
from torch_backend.audio.prosody import ProsodyTrack
from torch_backend.speech_corpus.expression import (
    LONG_STRETCH_SECONDS,
    SHORTEST_BLINK_INTERVAL_SECONDS,
    blink_shape,
    compute_expression,
    find_blinks,
    find_brow_raises,
    find_pauses,
)


def track(seconds: float, pauses=(), accents=(), slope: float = -2.0) -> ProsodyTrack:
    """Speech at log energy -0.5 with pauses at -8; F0 declines by `slope` semitones a second, accents add 5."""
    times = (np.arange(round(seconds * 100)) + 0.5) / 100
    energy = np.full(len(times), -0.5)
    voicing = np.full(len(times), 0.9)
    for start, end in pauses:
        inside = (times >= start) & (times < end)
        energy[inside], voicing[inside] = -8.0, 0.0
    energy += 0.3 * np.sin(2 * np.pi * 4.3 * times) * (voicing > 0)
    pitch = slope * times
    for accent in accents:
        pitch = pitch + 5.0 * np.exp(-(((times - accent) / 0.08) ** 2))
    return ProsodyTrack(*(values.astype(np.float32) for values in (times, energy, voicing, pitch)))


def test_blink_closes_in_80_ms_and_opens_in_150_ms():
    times = np.arange(-0.05, 0.4, 0.001)
    shape = blink_shape(times)
    closed = times[shape > 1 - 1e-9]
    assert closed[0] == pytest.approx(0.080, abs=0.002) and closed[-1] == pytest.approx(0.120, abs=0.002)
    assert times[shape > 1e-9][0] == pytest.approx(0.0, abs=0.002)
    assert times[shape > 1e-9][-1] == pytest.approx(0.270, abs=0.003)
    assert (np.diff(shape[times < 0.08]) >= 0).all() and (np.diff(shape[times > 0.12]) <= 0).all()


def test_pauses_are_found_where_they_are():
    prosody = track(5.0, pauses=[(1.0, 1.5), (3.0, 3.1)])
    ((start, end),) = find_pauses(prosody)
    assert start == pytest.approx(1.0, abs=0.04) and end == pytest.approx(1.5, abs=0.04)


def test_blinks_fall_on_phrase_ends():
    prosody = track(6.0, pauses=[(0.0, 0.4), (2.0, 2.5), (4.0, 4.6)])
    assert find_blinks(prosody) == pytest.approx([2.03, 4.03], abs=0.05)


def test_blinks_keep_their_distance_and_long_stretches_get_some():
    prosody = track(20.0, pauses=[(9.0, 9.3), (9.8, 10.2)])
    blinks = np.array(find_blinks(prosody))
    gaps = np.diff(blinks)
    assert gaps.min() >= SHORTEST_BLINK_INTERVAL_SECONDS - 1e-6
    assert gaps.max() <= LONG_STRETCH_SECONDS[1] + SHORTEST_BLINK_INTERVAL_SECONDS
    assert len(blinks) >= 5


def test_steady_noise_has_no_accents_and_only_regular_blinks():
    times = ((np.arange(1000) + 0.5) / 100).astype(np.float32)
    noise = np.random.default_rng(0).normal(-0.3, 0.1, 1000).astype(np.float32)
    prosody = ProsodyTrack(times, noise, np.full(1000, 0.2, np.float32), np.zeros(1000, np.float32))
    assert not find_brow_raises(prosody)
    assert 1 <= len(find_blinks(prosody)) <= 4


def test_brows_rise_on_accents_above_the_declination():
    prosody = track(3.0, accents=[0.8, 2.1], slope=-3.0)
    events = find_brow_raises(prosody)
    assert [event.time_seconds for event in events] == pytest.approx([0.8, 2.1], abs=0.05)
    assert not find_brow_raises(track(3.0, slope=-3.0))  # declination alone raises nothing
    curves = compute_expression(prosody, np.array([0.2, 0.8, 1.5, 2.1]))
    inner = curves[:, BLENDSHAPE_INDEX["browInnerUp"]]
    assert inner[1] > 0.2 and inner[3] > 0.2 and inner[0] == inner[2] == 0.0


def test_quiet_pitch_peaks_raise_nothing():
    prosody = track(3.0, accents=[1.0])
    prosody.log_energy[80:120] = -3.5
    assert not find_brow_raises(prosody)


def test_curves_are_in_range_symmetric_and_leave_the_mouth_alone():
    prosody = track(8.0, pauses=[(3.0, 3.5)], accents=[1.0, 4.4, 6.0])
    curves = compute_expression(prosody, np.arange(0, 8, 1 / 30))
    assert curves.shape == (240, 52) and curves.min() >= 0 and curves.max() <= 1
    for name, index in BLENDSHAPE_INDEX.items():
        if name.startswith(("mouth", "jaw", "nose", "tongue", "eyeLook")):
            assert not curves[:, index].any(), name
        if name.endswith("Left"):
            np.testing.assert_array_equal(curves[:, index], curves[:, BLENDSHAPE_INDEX[name[:-4] + "Right"]])
    assert curves[:, BLENDSHAPE_INDEX["eyeBlinkLeft"]].max() > 0.9


def test_seed_decides_and_none_is_the_mean():
    prosody = track(6.0, accents=[1.0, 2.4, 4.4])
    times = np.arange(0, 6, 1 / 30)
    first, again, other = (compute_expression(prosody, times, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    np.testing.assert_array_equal(compute_expression(prosody, times), compute_expression(prosody, times))


def test_frame_rates_sample_one_curve():
    prosody = track(4.0, pauses=[(2.0, 2.4)], accents=[1.0])
    fine = compute_expression(prosody, np.arange(480) / 120)
    for every in (5, 4, 2):
        np.testing.assert_allclose(compute_expression(prosody, np.arange(0, 480, every) / 120), fine[::every])
