"""Controls of a performance in any combination, keyed in any way: lips that speech shuts stay shut, nothing jumps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from blender_talkhead.facial.blinks import Blink, compute_blink_curve, encode_blinks
from blender_talkhead.facial.expressions import BLINK, EXPRESSIONS, MOUTH
from blender_talkhead.facial.performance import (
    EXPRESSION_GAP_MM,
    Controls,
    Performance,
    compose_performance,
    crossfade,
    find_closures,
    measure_gaps,
)
from tests.synthetic_clip import make_curves, make_rotations

FRAMES, RATE, NUM_KEYS = 180, 30.0, 5
STRENGTHS = ("mouth_strength", "jaw_strength", "upper_face_strength", "blink_rate", "head_motion", "gaze")
SMALLEST_BLINK_SECONDS = 0.08
"""Closing time of the quickest blink here."""


def make_performance(seed: int) -> Performance:
    """Curves that close the lips now and then, with a small gap left at some closures, and planned blinks."""
    random = np.random.default_rng(seed)
    residual_shapes = 3
    gaps = np.zeros((len(ARKIT_BLENDSHAPES) + residual_shapes, 7), np.float32)
    gaps[list(MOUTH)] = random.uniform(-4, 8, (len(MOUTH), 7))
    gaps[BLENDSHAPE_INDEX["jawOpen"]] = random.uniform(20, 30, 7)
    gaps[BLENDSHAPE_INDEX["mouthClose"]] = -gaps[BLENDSHAPE_INDEX["jawOpen"]]
    for side in ("Left", "Right"):
        gaps[BLENDSHAPE_INDEX["mouthSmile" + side]] = random.uniform(0.0, 0.4)
    gaps[len(ARKIT_BLENDSHAPES) :] = random.uniform(-0.3, 0.3, (residual_shapes, 7))
    curves, (head, eyes) = make_curves(FRAMES), make_rotations(FRAMES)
    residual = np.zeros((FRAMES, residual_shapes), np.float32)
    residual[:, 0] = random.uniform(0, 1, FRAMES)
    blinks = [Blink(0.3 + 0.7 * k, 0.08, 0.04, 0.15, 1.0, (k % 4 + 1) / 2) for k in range(7)]
    curves[:, BLINK] = compute_blink_curve(blinks, np.arange(FRAMES) / RATE)[:, None]
    return Performance(RATE, curves, residual, gaps, head, eyes, encode_blinks(blinks))


@st.composite
def keyed(draw: st.DrawFn, top: float) -> np.ndarray:
    """A control over time: keys at random frames, held, stepped or in straight lines."""
    values = draw(st.lists(st.floats(0.0, top, width=32), min_size=NUM_KEYS, max_size=NUM_KEYS))
    frames = sorted(draw(st.sets(st.integers(0, FRAMES - 1), min_size=NUM_KEYS, max_size=NUM_KEYS)))
    time = np.arange(FRAMES)
    if draw(st.booleans()):
        return np.interp(time, frames, values).astype(np.float32)
    return np.array(values, np.float32)[np.clip(np.searchsorted(frames, time, "right") - 1, 0, NUM_KEYS - 1)]


@st.composite
def all_controls(draw: st.DrawFn) -> Controls:
    moods = draw(st.lists(st.integers(0, len(EXPRESSIONS) - 1), min_size=NUM_KEYS, max_size=NUM_KEYS))
    chosen = np.zeros((FRAMES, len(EXPRESSIONS)), np.float32)
    chosen[np.arange(FRAMES), np.repeat(moods, FRAMES // NUM_KEYS)] = 1.0
    amounts = crossfade(chosen, RATE) * draw(keyed(1.0))[:, None]
    strengths = {name: draw(keyed(2.0)) for name in STRENGTHS}
    return Controls(**strengths, smoothing=draw(keyed(1.0)), expressions=amounts)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 50), controls=all_controls())
def test_closures_survive_any_combination(seed: int, controls: Controls) -> None:
    performance = make_performance(seed)
    shut = find_closures(performance) == 1.0
    assert shut.any(), "there must be closures for this to mean anything"
    composed = compose_performance(performance, controls)
    before = np.maximum(measure_gaps(performance, performance.weights, performance.residual)[shut], 0.0)
    after = measure_gaps(performance, composed.weights, composed.residual)[shut]
    assert (after.max(axis=1, initial=0.0) <= before.max(axis=1, initial=0.0) + EXPRESSION_GAP_MM + 1e-3).all()


@settings(max_examples=40, deadline=None)
@given(controls=all_controls())
def test_curves_stay_in_their_range_and_rotations_stay_rotations(controls: Controls) -> None:
    composed = compose_performance(make_performance(1), controls)
    assert np.isfinite(composed.weights).all() and composed.weights.min() >= 0.0 and composed.weights.max() <= 1.0
    assert np.isfinite(composed.residual).all() and composed.residual.min() >= 0.0
    for rotation in (composed.head_rotation, composed.eye_rotations):
        assert rotation is not None
        np.testing.assert_allclose(np.linalg.norm(rotation, axis=-1), 1.0, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(rate=keyed(2.0))
def test_no_blink_is_cut_by_a_keyed_rate(rate: np.ndarray) -> None:
    performance = make_performance(2)
    controls = dataclasses.replace(Controls.neutral(FRAMES), blink_rate=rate)
    lids = compose_performance(performance, controls).weights[:, BLINK[0]]
    assert np.abs(np.diff(lids)).max() <= 1.5 / SMALLEST_BLINK_SECONDS / RATE + 1e-3  # the steepest a smoothstep is


@pytest.mark.parametrize("name", EXPRESSIONS[1:])
def test_an_expression_comes_and_goes_without_a_jump(name: str) -> None:
    performance = make_performance(3)
    still = dataclasses.replace(performance, weights=np.zeros((FRAMES, 52), np.float32))
    chosen = np.zeros((FRAMES, len(EXPRESSIONS)), np.float32)
    chosen[:60, 0] = chosen[60:120, EXPRESSIONS.index(name)] = chosen[120:, 0] = 1.0
    controls = dataclasses.replace(Controls.neutral(FRAMES), expressions=crossfade(chosen, RATE))
    composed = compose_performance(still, controls)
    assert np.abs(np.diff(composed.weights, axis=0)).max() <= 0.2
