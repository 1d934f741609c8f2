"""Blinks, gaze, head motion and breathing, from made-up prosody: closed forms and published ranges."""

from __future__ import annotations

import numpy as np
import pytest

from blender_talkhead.facial.blinks import Blink, blink_shape, compute_blink_curve, decode_blinks, encode_blinks
from torch_backend.audio.prosody import ProsodyTrack
from torch_backend.performance.blinks import CLOSED_SECONDS, CLOSING_SECONDS, OPENING_SECONDS, plan_blinks
from torch_backend.performance.breathing import compute_filling, plan_breaths
from torch_backend.performance.brows import compute_free_raises, plan_free_raises
from torch_backend.performance.curves import follow_targets, minimum_jerk
from torch_backend.performance.gaze import compute_gaze, plan_gaze, saccade_seconds
from torch_backend.performance.head_motion import compute_head_angles
from torch_backend.performance.perform import UPPER_FACE, aim_eyes, perform_prosody, perform_recording
from torch_backend.performance.phrasing import find_phrasing
from torch_backend.performance.rotations import multiply_quaternions, quaternions_from_angles, rotate_vectors

EYES = np.array([[0.032, 0.0135, 0.0775], [-0.032, 0.0135, 0.0775]])
RATE = 30.0


def talk(seconds: float, phrase: float = 3.0, pause: float = 0.6, accent_every: float = 1.5) -> ProsodyTrack:
    """Phrases and pauses in turn; syllables at 4.3 a second; an accent of 5 semitones in every so many seconds."""
    times = (np.arange(round(seconds * 100)) + 0.5) / 100
    speaking = (times % (phrase + pause)) < phrase
    energy = np.where(speaking, -0.5 + 0.3 * np.sin(2 * np.pi * 4.3 * times), -8.0)
    since = times % (phrase + pause)
    pitch = -2.0 * since
    for accent in np.arange(0.8, phrase, accent_every):
        pitch = pitch + 5.0 * np.exp(-(((since - accent) / 0.08) ** 2))
    columns = (times, energy, np.where(speaking, 0.9, 0.0), pitch)
    return ProsodyTrack(*(values.astype(np.float32) for values in columns))


def silence(seconds: float) -> ProsodyTrack:
    times = ((np.arange(round(seconds * 100)) + 0.5) / 100).astype(np.float32)
    zeros = np.zeros(len(times), np.float32)
    return ProsodyTrack(times, zeros - 9.0, zeros, zeros)


def natural_starts(prosody: ProsodyTrack, seed: int = 0) -> np.ndarray:
    return np.array([b.start_seconds for b in plan_blinks(prosody, find_phrasing(prosody), seed) if b.rate <= 1.0])


def test_a_blink_closes_in_its_time_and_opens_more_slowly():
    blink = Blink(1.0, 0.08, 0.04, 0.2, 1.0, 0.5)
    times = np.arange(0.9, 1.5, 0.001)
    shape = blink_shape(blink, times)
    assert times[shape > 1 - 1e-9][[0, -1]] == pytest.approx([1.08, 1.12], abs=0.003)
    assert times[shape > 1e-9][[0, -1]] == pytest.approx([1.0, 1.32], abs=0.003)
    assert shape[np.abs(times - 1.04).argmin()] == pytest.approx(
        0.5, abs=0.01
    )  # a smoothstep is half way at its middle
    assert (np.diff(shape[times < 1.08]) >= 0).all() and (np.diff(shape[times > 1.12]) <= 0).all()


def test_lids_close_1_4_to_1_5_times_as_fast_as_they_open():
    closing, opening = (sum(span) / 2 for span in (CLOSING_SECONDS, OPENING_SECONDS))
    speed = np.diff(blink_shape(Blink(1.0, closing, 0.04, opening, 1.0, 0.5), np.arange(0.9, 1.5, 0.001)))
    assert 1.40 <= speed.max() / -speed.min() <= 1.47  # Sforza et al. (2008)


def test_blink_rate_chooses_whole_blinks():
    blinks = [Blink(float(i), 0.08, 0.04, 0.2, 1.0, rate) for i, rate in enumerate((0.2, 0.9, 1.4))]
    times = np.arange(0, 3, 0.01)
    peaks = [compute_blink_curve(blinks, times, rate).reshape(3, 100).max(axis=1) for rate in (0.0, 0.5, 1.0, 2.0)]
    np.testing.assert_allclose(peaks, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]], atol=1e-6)
    # the rate at the start of a blink decides, also where it falls within the blink
    falling = np.where(times < 0.05, 1.0, 0.0)
    np.testing.assert_array_equal(
        compute_blink_curve(blinks[:1], times, falling), compute_blink_curve(blinks[:1], times)
    )


def test_blinks_survive_their_rows():
    blinks = (Blink(1.5, 0.0625, 0.03125, 0.25, 0.75, 1.5),)
    assert decode_blinks(encode_blinks(blinks)) == blinks
    assert encode_blinks(()).shape == (0, 6)
    with pytest.raises(ValueError, match=r"\(N, 6\)"):
        decode_blinks(np.zeros((2, 5)))


@pytest.mark.parametrize("phrase", [2.0, 6.0, 40.0])
def test_blinks_come_between_the_rates_of_rest_and_conversation_whatever_the_phrases(phrase: float):
    rates = [len(natural_starts(talk(600.0, phrase=phrase), seed)) / 10.0 for seed in range(3)]
    assert 17.0 <= np.mean(rates) <= 26.0  # the means of Bentivoglio et al.
    silent = [len(natural_starts(silence(600.0), seed)) / 10.0 for seed in range(3)]
    assert 8.0 <= np.mean(silent) <= 21.0  # Doughty's interval for silence
    assert np.mean(silent) < 0.85 * np.mean(rates)


def test_intervals_are_log_normal_and_blinks_gather_at_phrase_ends():
    prosody = talk(1800.0)
    starts = natural_starts(prosody)
    gaps = np.diff(starts)
    twins = gaps < 0.6
    assert 0.05 <= twins.mean() <= 0.15  # about one in ten is a double blink
    logs = np.log(gaps[~twins])
    skew = np.mean((logs - logs.mean()) ** 3) / logs.std() ** 3
    assert abs(skew) < 0.6 < np.mean((gaps - gaps.mean()) ** 3) / gaps.std() ** 3  # the logarithm is the even one
    assert 0.35 <= logs.std() <= 0.75
    since = (starts % 3.6) - 3.0  # pauses begin at 3.0 of every 3.6 s
    near = ((since > -0.1) & (since < 0.35)).mean()
    assert near > 2.5 * 0.45 / 3.6


def test_phases_of_blinks_are_within_the_published_ranges():
    for blink in plan_blinks(talk(60.0), find_phrasing(talk(60.0)), 5):
        phases = (blink.closing_seconds, blink.closed_seconds, blink.opening_seconds)
        for value, (low, high) in zip(phases, (CLOSING_SECONDS, CLOSED_SECONDS, OPENING_SECONDS), strict=True):
            assert low <= value <= high
        assert 0.2 <= sum(phases) <= 0.4 and blink.opening_seconds > 1.3 * blink.closing_seconds


@pytest.mark.parametrize("seed", range(20))
def test_no_blink_is_cut_off(seed: int):
    prosody = talk(12.0)
    blinks = plan_blinks(prosody, find_phrasing(prosody), seed)
    assert blinks[0].start_seconds >= 0.0 and max(blink.end_seconds for blink in blinks) <= 12.0


def test_half_the_rate_keeps_half_the_blinks_and_double_adds_as_many():
    prosody = talk(900.0)
    ranks = np.array([blink.rate for blink in plan_blinks(prosody, find_phrasing(prosody), 1)])
    natural = (ranks <= 1.0).sum()
    assert (ranks <= 0.5).sum() == pytest.approx(natural / 2, rel=0.12)
    assert 1.5 * natural <= (ranks <= 2.0).sum() <= 2.1 * natural


def test_main_sequence():
    assert saccade_seconds(10.0) == pytest.approx(0.043)  # 21 ms + 2.2 ms a degree
    prosody = talk(120.0)
    saccades = plan_gaze(find_phrasing(prosody), (), 3)
    directions = np.array([(0.0, 0.0), *((s.yaw_degrees, s.pitch_degrees) for s in saccades)])
    sizes = np.linalg.norm(np.diff(directions, axis=0), axis=1)
    np.testing.assert_allclose([s.duration_seconds for s in saccades], 0.021 + 0.0022 * sizes, atol=1e-9)
    starts = np.array([s.start_seconds for s in saccades])
    assert np.diff(starts).min() >= 0.18 - 1e-9  # a fixation lasts at least so long
    assert 0.3 <= np.median(np.diff(starts)) <= 0.9
    assert np.abs(directions[:, 0]).max() <= 14.0 and np.abs(directions[:, 1]).max() <= 9.0


def test_speakers_look_at_the_viewer_most_of_the_time_and_listeners_more():
    def share_away(prosody: ProsodyTrack) -> float:
        times = np.arange(0, 600, 0.05)
        gaze = compute_gaze(plan_gaze(find_phrasing(prosody), (), 0), times)
        return float((np.linalg.norm(gaze, axis=1) > 3.6).mean())

    speaking, silent = share_away(talk(600.0)), share_away(silence(600.0))
    assert 0.15 <= speaking <= 0.38  # Lee et al.: 0.93 of 4.0 s, and more at phrase starts
    assert silent < 0.12 and silent < speaking  # 0.43 of 8.3 s


def test_eyes_meet_at_the_point_and_undo_the_head():
    gaze = np.array([[0.0, 0.0], [10.0, -5.0]])
    head = quaternions_from_angles(np.array([0.0, 4.0]), np.array([0.0, -6.0]), np.array([0.0, 2.0]))
    angles = aim_eyes(gaze, head, EYES)
    assert angles[0, :, 1] == pytest.approx([-np.degrees(np.arctan(0.032)), np.degrees(np.arctan(0.032))])
    assert angles[0, :, 0] == pytest.approx([0.0, 0.0], abs=1e-9)
    eyes = quaternions_from_angles(angles[..., 0], angles[..., 1])
    rays = rotate_vectors(multiply_quaternions(head[:, None], eyes), np.array([0.0, 0.0, 1.0]))
    places = rotate_vectors(head[:, None], EYES[None])
    y, p = np.radians(gaze[1])
    point = EYES.mean(axis=0) + np.array([np.sin(y) * np.cos(p), np.sin(p), np.cos(y) * np.cos(p)])
    for ray, place in zip(rays[1], places[1], strict=True):
        np.testing.assert_allclose(np.cross(ray, point - place), 0.0, atol=1e-9)


def test_angles_turn_where_their_names_say():
    forward, up = np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0])
    half = np.sqrt(0.5)
    np.testing.assert_allclose(rotate_vectors(quaternions_from_angles(45.0, 0.0), forward), [0, half, half])
    np.testing.assert_allclose(rotate_vectors(quaternions_from_angles(0.0, 45.0), forward), [half, 0, half])
    np.testing.assert_allclose(rotate_vectors(quaternions_from_angles(0.0, 0.0, 45.0), up), [half, half, 0])


def test_moves_have_no_jerks_at_their_ends():
    x = np.array([0.0, 0.5, 1.0])
    np.testing.assert_allclose(minimum_jerk(x), [0.0, 0.5, 1.0])
    times = np.array([0.0, 1.0, 1.5, 2.0, 5.0])
    np.testing.assert_allclose(
        follow_targets(times, [1.0], [1.0], np.array([[4.0]]))[:, 0], [0.0, 0.0, 2.0, 4.0, 4.0], atol=1e-12
    )


def test_the_head_nods_at_accents_and_rests_in_pauses():
    prosody = talk(60.0, phrase=3.0, pause=2.5)
    times = np.arange(0, 60, 1 / RATE)
    phrasing = find_phrasing(prosody)
    assert len(phrasing.accents) >= 18
    angles = np.mean([compute_head_angles(prosody, phrasing, times, seed) for seed in range(40)], axis=0)
    accents = np.array([accent.time_seconds for accent in phrasing.accents])
    at = np.interp(accents + 0.06, times, angles[:, 0])
    before = np.interp(accents - 0.2, times, angles[:, 0])
    assert np.mean(before - at) > 1.0  # degrees down
    since = times % 5.5
    assert np.abs(angles[(since > 3.8) & (since < 5.1)]).max() < 1e-6


def test_some_brow_raises_are_on_no_accent():
    prosody = talk(600.0, phrase=4.0, pause=1.0)
    phrasing = find_phrasing(prosody)
    raises = plan_free_raises(phrasing, 0)
    share = len(raises) / (len(raises) + len(phrasing.accents))
    assert 0.15 <= share <= 0.45  # 71 % of raises go with a rise of pitch: Cave et al. (1996)
    accents = np.array([accent.time_seconds for accent in phrasing.accents])
    assert min(np.abs(accents - time).min() for time, _ in raises) >= 0.45
    times = np.arange(0.0, 600.0, 0.01)
    heights = compute_free_raises(raises, times)
    assert heights[[round(time * 100) for time, _ in raises]].min() > 0.25 and heights.max() <= 0.6
    assert not plan_free_raises(find_phrasing(silence(60.0)), 0)


def test_head_speed_is_that_of_a_speaker():
    times = np.arange(0, 120, 1 / RATE)
    rotation = perform_prosody(talk(120.0), times, EYES, 0).head_rotation.astype(np.float64)
    cosines = np.clip((rotation[1:] * rotation[:-1]).sum(axis=1), -1.0, 1.0)
    speed = np.degrees(2.0 * np.arccos(cosines)) * RATE
    assert 3.0 <= speed.mean() <= 15.0 and speed.max() < 80.0
    turned = np.degrees(2.0 * np.arccos(np.clip(rotation[:, 0], -1, 1)))
    assert turned.max() < 13.0


def test_breathing_at_rest_is_12_to_20_a_minute_and_speakers_breathe_in_before_they_speak():
    times = np.arange(0, 300, 0.05)
    filling = compute_filling(plan_breaths(find_phrasing(silence(300.0)), 0), times)
    breaths = ((filling[1:] >= 0.5) & (filling[:-1] < 0.5)).sum() / 5.0
    assert 12 <= breaths <= 20 and filling.min() >= 0 and filling.max() <= 1
    phrasing = find_phrasing(talk(60.0, phrase=3.0, pause=0.8))
    knots = plan_breaths(phrasing, 0)
    assert (np.diff(knots[:, 0]) > 0).all()
    onsets = [start for start, _ in phrasing.phrases[1:-1]]
    assert compute_filling(knots, np.array(onsets)).min() > 0.9


def test_silence_has_nothing_but_blinks_gaze_and_breathing():
    times = np.arange(0, 60, 1 / RATE)
    take = perform_prosody(silence(60.0), times, EYES, 0)
    for name, curve in zip(UPPER_FACE, take.upper_face.T, strict=True):
        assert name.startswith(("eyeBlink", "eyeLook")) or not curve.any(), name
    assert np.degrees(2 * np.abs(take.head_rotation[:, 1:])).max() <= 0.46
    assert not take.phrasing.accents and not take.phrasing.phrases
    assert take.upper_face[:, UPPER_FACE.index("eyeBlinkLeft")].max() > 0.9


def make_noise(kind: str, seconds: float = 10.0) -> np.ndarray:
    count, random = round(16_000 * seconds), np.random.default_rng(0)
    times = np.arange(count) / 16_000
    if kind.startswith("hum"):
        return sum(np.sin(2 * np.pi * float(kind[3:]) * k * times + k) / k for k in (1, 2, 3, 4))
    frequencies = np.maximum(np.fft.rfftfreq(count, 1 / 16_000), 1.0)
    exponent = {"white": 0.0, "pink": 0.5, "brown": 1.0, "clicks": 0.5, "swelling": 0.5}[kind]
    noise = np.fft.irfft(np.fft.rfft(random.standard_normal(count)) / frequencies**exponent, count)
    noise /= noise.std()
    if kind == "clicks":
        for start in random.integers(0, count - 400, 15):
            noise[start : start + 400] += 100.0 * np.hanning(400) * random.standard_normal(400)
    return noise * np.exp(1.5 * np.sin(2 * np.pi * times / 4)) if kind == "swelling" else noise


@pytest.mark.parametrize("level", [0.0003, 0.003, 0.05])
@pytest.mark.parametrize("kind", ["white", "pink", "brown", "clicks", "swelling", "hum50", "hum100"])
def test_noise_without_a_voice_is_silence(kind: str, level: float):
    take = perform_recording((level * make_noise(kind)).astype(np.float32), 301, RATE, EYES, 0)
    assert not take.phrasing.phrases and not take.phrasing.accents
    assert np.degrees(2 * np.abs(take.head_rotation[:, 1:])).max() <= 0.46
    for name, curve in zip(UPPER_FACE, take.upper_face.T, strict=True):
        assert name.startswith(("eyeBlink", "eyeLook")) or not curve.any(), name


@pytest.mark.parametrize("kind", ["white", "brown", "hum100"])
def test_loud_noise_behind_speech_is_silence(kind: str):
    times = np.arange(3 * 16_000) / 16_000
    pitch = 120.0 + 25.0 * np.sin(2 * np.pi * 0.7 * times)
    voice = sum(np.sin(2 * np.pi * k * np.cumsum(pitch) / 16_000) / k for k in range(1, 12))
    voice *= 0.1 * (0.55 + 0.45 * np.sin(2 * np.pi * 4.0 * times))
    noise = make_noise(kind, 6.0)
    sound = np.concatenate([voice, 0.1 * np.std(voice) / noise.std() * noise, voice]).astype(np.float32)
    phrasing = perform_recording(sound, 361, RATE, EYES, 0).phrasing
    assert phrasing.is_speech(1.5) and phrasing.is_speech(10.5)
    assert not any(phrasing.is_speech(seconds) for seconds in np.arange(3.8, 8.4, 0.2))


def test_seed_decides_and_frame_rates_sample_one_performance():
    prosody = talk(20.0)
    fine = perform_prosody(prosody, np.arange(2400) / 120, EYES, 7)
    for every in (5, 4, 2):
        coarse = perform_prosody(prosody, np.arange(0, 2400, every) / 120, EYES, 7)
        for name in ("upper_face", "head_rotation", "eye_rotations"):
            np.testing.assert_allclose(getattr(coarse, name), getattr(fine, name)[::every], atol=1e-6)
    other = perform_prosody(prosody, np.arange(2400) / 120, EYES, 8)
    assert np.abs(other.head_rotation - fine.head_rotation).max() > 1e-3
    assert other.blinks != fine.blinks


def test_curves_and_rotations_are_valid_for_every_length():
    for num_frames in (1, 2, 4, 31):
        take = perform_prosody(talk(max(0.1, num_frames / RATE)), np.arange(num_frames) / RATE, EYES, 0)
        assert take.upper_face.shape == (num_frames, len(UPPER_FACE)) and take.head_rotation.shape == (num_frames, 4)
        assert take.eye_rotations.shape == (num_frames, 2, 4)
        assert take.upper_face.min() >= 0 and take.upper_face.max() <= 1
        for rotation in (take.head_rotation, take.eye_rotations):
            np.testing.assert_allclose(np.linalg.norm(rotation, axis=-1), 1.0, atol=1e-6)
