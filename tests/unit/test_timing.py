"""Time conversion: closed forms, exact sync over long recordings, and properties."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blender_talkhead.facial.timing import (
    count_scene_frames,
    frame_rate_of,
    resample_positions,
    scene_frame,
    split_frame_rate,
    time_of_scene_frame,
)

RATES: dict[str, tuple[int, float, Fraction]] = {
    "23.976": (24, 1.001, Fraction(24000, 1001)),
    "24": (24, 1.0, Fraction(24)),
    "25": (25, 1.0, Fraction(25)),
    "29.97": (30, 1.001, Fraction(30000, 1001)),
    "30": (30, 1.0, Fraction(30)),
    "60": (60, 1.0, Fraction(60)),
}


def test_hand_computed_values() -> None:
    assert scene_frame(2.0, 1, 25, 1.0) == 51.0
    assert scene_frame(1.001, 10, 30, 1.001) == pytest.approx(40.0, abs=1e-12)
    assert time_of_scene_frame(51, 1, 25, 1.0) == 2.0
    np.testing.assert_allclose(resample_positions(4, 30, 30), [0, 1, 2, 3])
    np.testing.assert_allclose(resample_positions(4, 30, 24), [0, 1.25, 2.5, 3.0])
    np.testing.assert_allclose(resample_positions(3, 30, 60), [0, 0.5, 1, 1.5, 2])
    np.testing.assert_allclose(resample_positions(1, 30, 24), [0])


@pytest.mark.parametrize("name", RATES)
def test_ten_minutes_stay_in_sync(name: str) -> None:
    fps, fps_base, exact = RATES[name]
    num_source = 10 * 60 * 30 + 1
    positions = resample_positions(num_source, 30.0, frame_rate_of(fps, fps_base))
    indices = [0, 1, 7, 1000, len(positions) // 2, len(positions) - 2, len(positions) - 1]
    for index in indices:
        exact_seconds = float(Fraction(index) / exact)
        shown_seconds = positions[index] / 30.0
        assert abs(shown_seconds - min(exact_seconds, 600.0)) < 1e-6
        assert abs(time_of_scene_frame(index + 5, 5, fps, fps_base) - exact_seconds) < 1e-6
    last_seconds = float(Fraction(len(positions) - 1) / exact)
    assert 600.0 - 1e-6 <= last_seconds < 600.0 + 1 / float(exact)
    assert positions[-1] == num_source - 1


@pytest.mark.parametrize("name", RATES)
def test_spellings_of_a_rate(name: str) -> None:
    fps, fps_base, exact = RATES[name]
    assert split_frame_rate(float(name)) == (fps, fps_base)
    assert split_frame_rate(float(exact)) == (fps, fps_base)


@given(st.floats(1, 1000))
def test_splitting_keeps_the_rate(frame_rate: float) -> None:
    fps, fps_base = split_frame_rate(frame_rate)
    assert fps == int(fps) and frame_rate_of(fps, fps_base) == pytest.approx(frame_rate, abs=2e-3)


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.sampled_from(sorted(RATES)))
def test_frame_and_time_are_inverse(time_seconds: float, start: float, name: str) -> None:
    fps, fps_base, _ = RATES[name]
    frame = scene_frame(time_seconds, start, fps, fps_base)
    assert time_of_scene_frame(frame, start, fps, fps_base) == pytest.approx(time_seconds, abs=1e-6)


@given(st.integers(1, 5000), st.sampled_from([24.0, 25.0, 30.0]), st.floats(1, 240))
def test_resampling_covers_the_clip(num_source: int, source_rate: float, scene_rate: float) -> None:
    positions = resample_positions(num_source, source_rate, scene_rate)
    assert len(positions) == count_scene_frames(num_source, source_rate, scene_rate)
    assert positions[0] == 0
    assert positions[-1] == pytest.approx(num_source - 1, abs=1e-5)
    assert (np.diff(positions) > 0).all() if len(positions) > 1 else True
    steps = np.diff(positions)[:-1]
    np.testing.assert_allclose(steps, source_rate / scene_rate, atol=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda: frame_rate_of(0, 1),
        lambda: frame_rate_of(24, float("nan")),
        lambda: split_frame_rate(0.5),
        lambda: split_frame_rate(float("nan")),
        lambda: count_scene_frames(0, 30, 24),
        lambda: resample_positions(3, 30, 0),
    ],
)
def test_impossible_rates_are_refused(call) -> None:
    with pytest.raises(ValueError):
        call()
