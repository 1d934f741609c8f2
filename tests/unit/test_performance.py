"""Controls of a performance: what each changes, and that lips which meet in speech meet under all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from blender_talkhead.facial.blink_rate import find_blink_events
from blender_talkhead.facial.blinks import Blink, compute_blink_curve, encode_blinks
from blender_talkhead.facial.expressions import BLINK, EXPRESSIONS, MOUTH, UPPER_FACE, expression_curves
from blender_talkhead.facial.performance import (
    EXPRESSION_GAP_MM,
    Controls,
    Performance,
    compose_performance,
    crossfade,
    find_closures,
    measure_gaps,
)
from blender_talkhead.facial.performance_data import decode_performance, encode_performance
from blender_talkhead.facial.rotations import multiply_rotations, rotations_in_frame, scale_rotations
from tests.synthetic_clip import make_curves, make_rotations

FRAMES, RATE = 300, 30.0
JAW, CLOSE, SMILE = (BLENDSHAPE_INDEX[name] for name in ("jawOpen", "mouthClose", "mouthSmileLeft"))


def make_performance(seed: int = 0, num_residual: int = 4) -> Performance:
    """Random gaps of all mouth curves, but mouthClose seals jawOpen; closures of speech are exact."""
    random = np.random.default_rng(seed)
    gaps = np.zeros((len(ARKIT_BLENDSHAPES) + num_residual, 9), np.float32)
    gaps[list(MOUTH)] = random.uniform(-4, 8, (len(MOUTH), 9))
    gaps[JAW] = random.uniform(20, 30, 9)
    gaps[CLOSE] = -gaps[JAW]
    gaps[[BLENDSHAPE_INDEX[name + side] for name in ("mouthSmile",) for side in ("Left", "Right")]] = 0.0
    curves = make_curves(FRAMES)
    residual = np.zeros((FRAMES, num_residual), np.float32)
    residual[:, 1:] = random.uniform(0, 1, (FRAMES, num_residual - 1))
    head, eyes = make_rotations(FRAMES)
    return Performance(RATE, curves, residual, gaps, head, eyes)


def controls_with(**values: float) -> Controls:
    neutral = Controls.neutral(FRAMES)
    return dataclasses.replace(neutral, **{name: np.full(FRAMES, value, np.float32) for name, value in values.items()})


def with_expression(controls: Controls, name: str, amount: float = 1.0) -> Controls:
    amounts = np.zeros((FRAMES, len(EXPRESSIONS)), np.float32)
    amounts[:, EXPRESSIONS.index(name)] = amount
    return dataclasses.replace(controls, expressions=amounts)


def test_neutral_controls_change_nothing() -> None:
    performance = make_performance()
    composed = compose_performance(performance, Controls.neutral(FRAMES))
    np.testing.assert_array_equal(composed.weights, performance.weights)
    np.testing.assert_array_equal(composed.residual, performance.residual)
    np.testing.assert_allclose(composed.head_rotation, performance.head_rotation, atol=1e-6)
    np.testing.assert_allclose(composed.eye_rotations, performance.eye_rotations, atol=1e-6)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_closures_survive_every_control(seed: int, expression: str) -> None:
    random = np.random.default_rng(seed)
    performance = dataclasses.replace(make_performance(seed), residual=np.zeros((FRAMES, 4), np.float32))
    shut = find_closures(performance) == 1.0
    assert 20 < shut.sum() < FRAMES / 2, "there must be closures for this to mean anything"
    ranges = {"mouth_strength": 2, "jaw_strength": 2, "upper_face_strength": 2, "smoothing": 1, "blink_rate": 2}
    values = {name: np.float32(random.uniform(0, top)) for name, top in ranges.items()}
    composed = compose_performance(performance, with_expression(controls_with(**values), expression))
    before = measure_gaps(performance, performance.weights, performance.residual)[shut]
    after = measure_gaps(performance, composed.weights, composed.residual)[shut]
    assert (after.max(axis=1) <= 2.0 * np.maximum(before.max(axis=1), 0.0) + EXPRESSION_GAP_MM + 1e-3).all()
    assert ((composed.weights >= 0) & (composed.weights <= 1)).all()


def test_closures_survive_keyed_controls() -> None:
    performance = dataclasses.replace(make_performance(3), residual=np.zeros((FRAMES, 4), np.float32))
    ramp = np.linspace(0, 2, FRAMES, dtype=np.float32)
    amounts = np.stack([np.interp(np.arange(FRAMES), [60 * k, 60 * k + 60], [1, 0]) for k in range(5)], axis=1)
    controls = dataclasses.replace(
        Controls.neutral(FRAMES), mouth_strength=ramp, jaw_strength=ramp[::-1], expressions=amounts.astype(np.float32)
    )
    composed = compose_performance(performance, controls)
    shut = find_closures(performance) == 1.0
    before = measure_gaps(performance, performance.weights, performance.residual)[shut].max(axis=1)
    after = measure_gaps(performance, composed.weights, composed.residual)[shut].max(axis=1)
    assert (after <= 2.0 * np.maximum(before, 0.0) + EXPRESSION_GAP_MM + 1e-3).all()


def test_lips_that_rest_may_be_opened_and_pressed_ones_not() -> None:
    weights = np.zeros((60, len(ARKIT_BLENDSHAPES)), np.float32)
    weights[30:, BLENDSHAPE_INDEX["mouthPressLeft"]] = 0.35
    gaps = np.zeros((len(ARKIT_BLENDSHAPES), 3), np.float32)
    performance = Performance(30.0, weights, np.zeros((60, 0), np.float32), gaps)
    shut = find_closures(performance)
    assert (shut[:30] == 0.0).all()
    assert (shut[30:] == 1.0).all()


def test_strengths_scale_their_part_alone() -> None:
    performance = make_performance()
    half = compose_performance(performance, controls_with(mouth_strength=0.5))
    np.testing.assert_allclose(half.weights[:, MOUTH], 0.5 * performance.weights[:, MOUTH], atol=1e-6)
    np.testing.assert_allclose(half.residual, 0.5 * performance.residual, atol=1e-6)
    others = [column for column in range(52) if column not in MOUTH]
    np.testing.assert_array_equal(half.weights[:, others], performance.weights[:, others])
    upper = compose_performance(performance, controls_with(upper_face_strength=0.25))
    np.testing.assert_allclose(upper.weights[:, UPPER_FACE], 0.25 * performance.weights[:, UPPER_FACE], atol=1e-6)
    np.testing.assert_array_equal(upper.weights[:, MOUTH], performance.weights[:, MOUTH])
    still = compose_performance(performance, controls_with(mouth_strength=0.0))
    assert not still.weights[:, MOUTH].any() and not still.residual.any()
    open_frames = find_closures(performance) == 0.0
    jaw = compose_performance(performance, controls_with(jaw_strength=0.5))
    np.testing.assert_allclose(jaw.weights[open_frames, JAW], 0.5 * performance.weights[open_frames, JAW], atol=1e-6)
    np.testing.assert_array_equal(jaw.weights[:, SMILE], performance.weights[:, SMILE])


def test_blinks_are_thinned_out_and_added() -> None:
    performance = make_performance()
    counts = [
        len(find_blink_events(compose_performance(performance, controls_with(blink_rate=rate)).weights[:, BLINK[0]]))
        for rate in (0.0, 0.5, 1.0, 1.5, 2.0)
    ]
    assert counts[0] == 0 and counts[2] == 6 and all(low < high for low, high in pairwise(counts)), counts
    assert 2 <= counts[1] <= 4 and counts[4] >= 11
    thinned = compose_performance(performance, controls_with(blink_rate=0.5)).weights[:, BLINK]
    same = thinned == performance.weights[:, BLINK]
    assert (same | (thinned == 0.0)).all(), "a blink stays as it is or goes"


def test_planned_blinks_follow_the_rate() -> None:
    blinks = [Blink(0.5 + k, 0.08, 0.04, 0.15, 1.0, (k % 4 + 1) / 2) for k in range(8)]  # rates 0.5, 1, 1.5, 2
    weights = np.zeros((FRAMES, 52), np.float32)
    times = np.arange(FRAMES) / RATE
    weights[:, BLINK] = compute_blink_curve(blinks, times)[:, None]
    performance = dataclasses.replace(make_performance(), weights=weights, blinks=encode_blinks(blinks))
    for rate, count in ((0.0, 0), (0.5, 2), (1.0, 4), (1.5, 6), (2.0, 8)):
        composed = compose_performance(performance, controls_with(blink_rate=rate))
        assert len(find_blink_events(composed.weights[:, BLINK[1]])) == count
    keyed = dataclasses.replace(Controls.neutral(FRAMES), blink_rate=np.where(times < 4, 0.0, 1.0).astype(np.float32))
    curve = compose_performance(performance, keyed).weights[:, BLINK[0]]
    assert not curve[times < 4].any() and len(find_blink_events(curve)) == 2
    back = decode_performance(encode_performance(performance))
    np.testing.assert_array_equal(back.blinks, performance.blinks)


def test_smoothing_slows_the_face_but_no_blink() -> None:
    performance = make_performance()
    speeds = []
    for amount in (0.0, 0.5, 1.0):
        composed = compose_performance(performance, controls_with(smoothing=amount))
        speeds.append(float(np.abs(np.diff(composed.weights[:, SMILE])).mean()))
        np.testing.assert_array_equal(composed.weights[:, BLINK], performance.weights[:, BLINK])
    assert speeds[0] > speeds[1] > speeds[2]


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions_in_silence_are_their_curves(name: str) -> None:
    performance = dataclasses.replace(
        make_performance(), weights=np.zeros((FRAMES, 52), np.float32), residual=np.zeros((FRAMES, 4), np.float32)
    )
    composed = compose_performance(performance, with_expression(controls_with(), name, 0.5))
    expected = np.zeros(52)
    for curve, value in expression_curves(name).items():
        expected[BLENDSHAPE_INDEX[curve]] = 0.5 * value
    np.testing.assert_allclose(composed.weights, np.tile(expected, (FRAMES, 1)), atol=1e-6)


def test_expressions_fade_into_each_other() -> None:
    steps = np.zeros((60, 2), np.float32)
    steps[:30, 0] = steps[30:, 1] = 1.0
    faded = crossfade(steps, RATE)
    np.testing.assert_allclose(faded.sum(axis=1), 1.0, atol=1e-6)
    assert (np.diff(faded[:, 1]) >= -1e-6).all() and faded[20, 1] < 1e-6 and faded[40, 1] > 1 - 1e-6


def test_rotations_are_scaled_about_their_axis() -> None:
    performance = make_performance()
    composed = compose_performance(performance, controls_with(head_motion=2.0, gaze=0.0))
    assert composed.head_rotation is not None and composed.eye_rotations is not None
    angle = 2 * np.arctan2(performance.head_rotation[:, 1], performance.head_rotation[:, 0])
    np.testing.assert_allclose(2 * np.arctan2(*composed.head_rotation[:, 1::-1].T), 2 * angle, atol=1e-5)
    np.testing.assert_allclose(composed.eye_rotations, [[[1, 0, 0, 0]] * 2] * FRAMES, atol=1e-6)


def test_rotation_algebra() -> None:
    half = np.sqrt(0.5)
    about_x, about_z = np.array([half, half, 0, 0]), np.array([half, 0, 0, half])
    np.testing.assert_allclose(multiply_rotations(about_x, about_x), [0, 1, 0, 0], atol=1e-7)
    np.testing.assert_allclose(multiply_rotations(about_x, about_z), [0.5, 0.5, -0.5, 0.5], atol=1e-7)
    # A frame whose x axis is our y: a turn about our y is one about its x.
    about_y = np.array([[half, 0, half, 0]], np.float32)
    np.testing.assert_allclose(rotations_in_frame(about_y, about_z), [[half, half, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(scale_rotations(about_y, np.array([2.0])), [[0, 0, 1, 0]], atol=1e-6)


def test_stored_data_come_back() -> None:
    performance = make_performance()
    data = encode_performance(performance)
    back = decode_performance(data)
    for name, tolerance in (("weights", 0.5 / 65535), ("residual", 0.5 / 65535), ("head_rotation", 0.5 / 32767)):
        assert np.abs(getattr(back, name) - getattr(performance, name)).max() <= tolerance * 1.01
    np.testing.assert_array_equal(back.lip_gaps, performance.lip_gaps)
    assert back.eye_rotations is not None and back.eye_rotations.shape == (FRAMES, 2, 4)
    assert encode_performance(back) == data
    assert decode_performance(encode_performance(dataclasses.replace(back, head_rotation=None))).head_rotation is None


@pytest.mark.parametrize("damage", [lambda d: b"", lambda d: d[:40], lambda d: d[:-9], lambda d: b"XXXX" + d[4:]])
def test_damaged_data_are_refused(damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ValueError, match="damaged"):
        decode_performance(damage(encode_performance(make_performance())))
