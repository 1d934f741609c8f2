"""Rules of the articulation model: what must hold for every utterance, and hand-made timelines."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from torch_backend.audio.prosody import ProsodyTrack
from torch_backend.speech_corpus.articulation import articulate, articulate_posteriors
from torch_backend.speech_corpus.phones import BILABIALS, PHONE_INDEX, PHONES, PhoneSegment
from torch_backend.speech_corpus.viseme_targets import build_dominance, build_targets, build_time_constants

PARTING = ("mouthFunnel", "mouthUpperUpLeft", "mouthUpperUpRight", "mouthLowerDownLeft", "mouthLowerDownRight")


def timeline(*phones: tuple[str, float], start: float = 0.0) -> list[PhoneSegment]:
    segments = []
    for phone, duration in phones:
        segments.append(PhoneSegment(start, start + duration, phone))
        start += duration
    return segments


def curve(weights: np.ndarray, name: str) -> np.ndarray:
    return weights[:, BLENDSHAPE_INDEX[name]].astype(np.float64)


def one_hot(segments: list[PhoneSegment], rate: float = 50.0) -> tuple[np.ndarray, np.ndarray]:
    rows = (np.arange(round(segments[-1].end_seconds * rate)) + 0.5) / rate
    posteriors = np.zeros((len(rows), len(PHONES)))
    posteriors[:, PHONE_INDEX["SIL"]] = 1.0
    for start, end, phone in segments:
        inside = (rows >= start) & (rows < end)
        posteriors[inside] = 0.0
        posteriors[inside, PHONE_INDEX[phone]] = 1.0
    return posteriors, rows


utterances = st.lists(st.tuples(st.sampled_from(PHONES), st.floats(0.02, 0.3)), min_size=1, max_size=14)


@settings(max_examples=40, deadline=None)
@given(utterances)
def test_values_stay_in_range_and_both_sides_move_alike(phones):
    segments = timeline(("SIL", 0.3), *phones, ("SIL", 0.3))
    weights = articulate(segments, np.arange(0, segments[-1].end_seconds, 1 / 30))
    assert weights.dtype == np.float32 and weights.shape[1] == 52
    assert weights.min() >= 0.0 and weights.max() <= 1.0
    for name, index in BLENDSHAPE_INDEX.items():
        if name.endswith("Left") and name not in ("jawLeft", "mouthLeft"):
            np.testing.assert_array_equal(weights[:, index], weights[:, BLENDSHAPE_INDEX[name[:-4] + "Right"]])
    for name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
        assert not curve(weights, name).any()


@settings(max_examples=60, deadline=None)
@given(
    before=st.sampled_from(PHONES),
    closure=st.sampled_from(sorted(BILABIALS)),
    after=st.sampled_from(PHONES),
    durations=st.tuples(st.floats(0.02, 0.3), st.floats(0.01, 0.25), st.floats(0.02, 0.3)),
    phase=st.floats(0.0, 1.0),
    frame_rate=st.sampled_from([24.0, 30.0, 60.0]),
)
def test_closures_are_complete_at_every_speech_rate(before, closure, after, durations, phase, frame_rate):
    segments = timeline(("SIL", 0.3), (before, durations[0]), (closure, durations[1]), (after, durations[2]))
    middle = (segments[2].start_seconds + segments[2].end_seconds) / 2
    plateau = articulate(segments, np.linspace(middle - 1 / 60, middle + 1 / 60, 9))  # one frame at 30 fps
    np.testing.assert_allclose(curve(plateau, "mouthClose"), curve(plateau, "jawOpen"), atol=1e-7)
    for name in PARTING:
        assert curve(plateau, name).max() < 1e-6, name
    frames = articulate(segments, (np.arange(60) + phase) / frame_rate)  # some frame falls on the plateau
    near = np.abs((np.arange(60) + phase) / frame_rate - middle) <= 0.5 / frame_rate + 1e-9
    left_open = np.abs(curve(frames, "jawOpen") - curve(frames, "mouthClose"))[near]
    assert left_open.min() < 1e-6


def test_open_vowel_parts_the_lips_and_is_not_sealed():
    segments = timeline(("SIL", 0.4), ("AA", 0.4), ("SIL", 0.4))
    weights = articulate(segments, np.array([0.6]))
    assert curve(weights, "jawOpen")[0] == pytest.approx(build_targets()[PHONE_INDEX["AA"], 0], rel=0.05)
    assert curve(weights, "mouthClose")[0] == 0.0


@pytest.mark.parametrize("phone", ["F", "V"])
def test_labiodental_tucks_the_lower_lip_under_the_teeth(phone):
    segments = timeline(("SIL", 0.3), ("AA", 0.2), (phone, 0.09), ("AA", 0.2), ("SIL", 0.3))
    contact = articulate(segments, np.array([0.545]))
    vowel = articulate(segments, np.array([0.40]))
    assert curve(contact, "mouthRollLower")[0] == pytest.approx(0.5)
    assert curve(contact, "jawOpen")[0] < 0.051 < 0.2 < curve(vowel, "jawOpen")[0]
    assert curve(contact, "mouthUpperUpLeft")[0] >= 0.2
    assert curve(contact, "mouthClose")[0] == 0.0
    assert curve(vowel, "mouthRollLower")[0] == 0.0


def test_rounding_begins_before_the_vowel_and_passes_through_labials():
    times = np.arange(0, 1.2, 0.005)
    boot = timeline(("SIL", 0.4), ("B", 0.09), ("UW", 0.18), ("T", 0.08), ("SIL", 0.4))
    beat = timeline(("SIL", 0.4), ("B", 0.09), ("IY", 0.18), ("T", 0.08), ("SIL", 0.4))
    rounded, spread = articulate(boot, times), articulate(beat, times)
    pucker = curve(rounded, "mouthPucker")
    peak = pucker.max()
    ahead = np.searchsorted(times, 0.49 - 0.05)  # 50 ms before the vowel, inside /b/: lips shut and already rounded
    assert pucker[ahead] > 0.4 * peak
    assert curve(rounded, "mouthClose")[ahead] == pytest.approx(curve(rounded, "jawOpen")[ahead], abs=1e-6)
    assert curve(spread, "mouthPucker").max() < 0.02
    assert times[np.argmax(pucker > 0.2 * peak)] < 0.49 - 0.10  # under way 100 ms before the vowel


def test_short_vowels_undershoot_monotonically():
    heights = []
    for duration in (0.03, 0.05, 0.08, 0.12, 0.2, 0.3):
        segments = timeline(("SIL", 0.3), ("T", 0.06), ("AE", duration), ("T", 0.06), ("SIL", 0.3))
        heights.append(curve(articulate(segments, np.arange(0.3, 0.9, 0.005)), "jawOpen").max())
    assert all(shorter < longer for shorter, longer in itertools.pairwise(heights))
    assert heights[0] < 0.6 * heights[-1]


def test_silence_is_zero_and_pauses_come_to_rest():
    assert not articulate([], np.arange(0, 1, 1 / 30)).any()
    assert not articulate([PhoneSegment(0.0, 2.0, "SIL")], np.arange(0, 2, 1 / 30)).any()
    segments = timeline(("SIL", 0.5), ("AA", 0.2), ("SIL", 0.8), ("IY", 0.2), ("SIL", 0.5))
    times = np.arange(0.0, 2.2, 0.01)
    weights = articulate(segments, times)
    still = ((times >= 0.0) & (times < 0.35)) | ((times >= 0.84) & (times <= 1.35)) | (times >= 1.85)
    assert not weights[still].any()
    assert curve(weights, "jawOpen")[times == 0.6][0] > 0.2


def test_a_gap_between_segments_is_silence():
    with_gap = [PhoneSegment(0.3, 0.5, "AA"), PhoneSegment(1.2, 1.4, "UW")]
    filled = timeline(("SIL", 0.3), ("AA", 0.2), ("SIL", 0.7), ("UW", 0.2), ("SIL", 0.3))
    times = np.arange(0, 1.6, 1 / 30)
    np.testing.assert_allclose(articulate(with_gap, times), articulate(filled, times), atol=1e-6)


@pytest.mark.parametrize("changed", ["AA", "UW", "M", "F", "S"])
def test_a_phone_one_second_away_changes_nothing(changed):
    rest = [("EH", 0.15), ("N", 0.10), ("D", 0.10), ("IH", 0.15)] * 4
    one = timeline(("SIL", 0.3), ("IY", 0.1), *rest, ("SIL", 0.3))
    other = timeline(("SIL", 0.3), (changed, 0.1), *rest, ("SIL", 0.3))
    times = np.arange(1.4, 2.4, 1 / 60)
    np.testing.assert_array_equal(articulate(one, times), articulate(other, times))


def test_curves_are_functions_of_time_whatever_the_frame_rate():
    segments = timeline(("SIL", 0.3), ("B", 0.07), ("OY", 0.2), ("Z", 0.1), ("F", 0.08), ("AY", 0.2), ("SIL", 0.4))
    fine = articulate(segments, np.arange(0, 160) / 120)
    for rate, every in ((24, 5), (30, 4), (60, 2)):
        coarse = articulate(segments, np.arange(0, 160, every) / 120)
        assert len(coarse) == -(-160 * rate // 120)
        np.testing.assert_allclose(coarse, fine[::every], atol=1e-6)
    alone = articulate(segments, np.array([0.5]))
    np.testing.assert_allclose(alone[0], articulate(segments, np.array([0.1, 0.5, 0.9]))[1], atol=1e-6)


def test_shifting_the_utterance_shifts_the_curves():
    phones = (("SIL", 0.3), ("W", 0.08), ("AH", 0.12), ("N", 0.1), ("SIL", 0.3))
    times = np.arange(0, 0.9, 1 / 30)
    np.testing.assert_allclose(
        articulate(timeline(*phones), times), articulate(timeline(*phones, start=10.0), times + 10.0), atol=1e-5
    )


def test_same_input_same_bytes():
    segments = timeline(("SIL", 0.3), ("HH", 0.05), ("EH", 0.1), ("L", 0.08), ("OW", 0.2), ("SIL", 0.3))
    times = np.arange(0, 1, 1 / 30)
    assert articulate(segments, times).tobytes() == articulate(segments, times).tobytes()


def test_long_vowel_reaches_the_closed_form_of_the_dominance_model():
    """At 100 ms inside a vowel between silences: weights 0.5 and 2 x 0.5 exp(-0.1 / tau), silence aims at zero."""
    segments = timeline(("SIL", 0.2), ("AE", 0.2), ("SIL", 0.2))
    target = build_targets()[PHONE_INDEX["AE"], 0]
    undershoot = 1 - np.exp(-0.2 / 0.030)
    aim = undershoot * target + (1 - undershoot) * 0.10
    expected = aim / (1 + 2 * np.exp(-0.1 / 0.050))
    reached = curve(articulate(segments, np.array([0.3])), "jawOpen")[0]
    assert reached == pytest.approx(expected, rel=0.02)  # the 50 ms smoothing rounds the top a little


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([PhoneSegment(0.0, 0.1, "XX")], "XX"),
        ([PhoneSegment(0.2, 0.1, "AA")], "order of time"),
        ([PhoneSegment(0.5, 0.6, "AA"), PhoneSegment(0.1, 0.2, "AA")], "order of time"),
    ],
)
def test_bad_segments_are_named(segments, message):
    with pytest.raises(ValueError, match=message):
        articulate(segments, np.arange(3) / 30)


def test_bad_times_and_posteriors_are_named():
    with pytest.raises(ValueError, match="ascending"):
        articulate([], np.array([0.1, 0.0]))
    with pytest.raises(ValueError, match="40"):
        articulate_posteriors(np.zeros((3, 39)), np.arange(3) / 50, np.arange(2) / 30)


def test_sure_posteriors_agree_with_segments():
    segments = timeline(
        ("SIL", 0.4), ("M", 0.1), ("EH", 0.12), ("N", 0.08), ("IY", 0.12), ("S", 0.1), ("AO", 0.14), ("SIL", 0.4)
    )
    posteriors, rows = one_hot(segments)
    times = np.arange(0, 1.4, 1 / 30)
    soft, hard = articulate_posteriors(posteriors, rows, times), articulate(segments, times)
    for name in ("jawOpen", "mouthPucker", "mouthStretchLeft"):
        assert np.corrcoef(curve(soft, name), curve(hard, name))[0, 1] > 0.95, name
    closed = np.argmin(np.abs(times - 0.45))
    assert curve(soft, "mouthClose")[closed] == pytest.approx(curve(soft, "jawOpen")[closed], abs=1e-6)
    assert not soft[times < 0.25].any()


def test_uncertain_closure_shuts_the_mouth_in_proportion():
    rows = (np.arange(50) + 0.5) / 50
    times = np.arange(30) / 30
    shut = []
    for share in (0.0, 0.15, 0.30, 0.45):
        posteriors = np.zeros((50, len(PHONES)))
        posteriors[:, PHONE_INDEX["P"]] = share
        posteriors[:, PHONE_INDEX["AA"]] = 1 - share
        weights = articulate_posteriors(posteriors, rows, times)
        shut.append(float(curve(weights, "mouthClose")[15] / curve(weights, "jawOpen")[15]))
    np.testing.assert_allclose(shut, [0.0, 0.0, 0.5, 1.0], atol=1e-6)


def test_effort_opens_loud_vowels_wider_but_never_a_closure():
    segments = timeline(("SIL", 0.3), ("AA", 0.2), ("P", 0.1), ("AA", 0.2), ("SIL", 0.3))
    times = np.arange(0, 1.1, 0.01)
    rows = ((np.arange(110) + 0.5) / 100).astype(np.float32)
    level = np.where(rows < 0.55, 0.0, -2.5).astype(np.float32)
    flat = np.zeros(110, np.float32)
    weights = articulate(segments, times, ProsodyTrack(rows, level, flat, flat))
    plain = articulate(segments, times)
    jaw, without = curve(weights, "jawOpen"), curve(plain, "jawOpen")
    assert jaw[times == 0.4][0] > without[times == 0.4][0]
    assert jaw[np.searchsorted(times, 0.7)] < without[np.searchsorted(times, 0.7)]
    plateau = (times > 0.53) & (times < 0.57)
    np.testing.assert_allclose(curve(weights, "mouthClose")[plateau], jaw[plateau], atol=1e-7)


def test_tables_cover_every_phone():
    targets = build_targets()
    assert targets.shape[0] == len(PHONES) and targets.min() >= 0 and targets.max() <= 1
    assert not targets[PHONE_INDEX["SIL"]].any()
    for weights in build_dominance().values():
        assert weights.shape == (len(PHONES),) and weights.min() > 0
    ahead, after = build_time_constants()["rounding"]
    assert ahead[PHONE_INDEX["UW"]] == pytest.approx(0.1) and ahead[PHONE_INDEX["T"]] < 0.1 and after.max() < 0.1
    heights = [targets[PHONE_INDEX[phone], 0] for phone in ("AA", "AE", "EH", "IH", "IY")]
    assert heights == sorted(heights, reverse=True)  # vowel height
    assert len(ARKIT_BLENDSHAPES) == 52
