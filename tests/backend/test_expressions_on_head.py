"""Moods and strengths under articulated speech, on the built-in head: lips still meet, nothing goes through a face."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest

from blender_talkhead.facial.blendshapes import BLENDSHAPE_INDEX
from blender_talkhead.facial.blinks import Blink, compute_blink_curve
from blender_talkhead.facial.expressions import BLINK, EXPRESSIONS, MOUTH
from blender_talkhead.facial.performance import Controls, Performance, compose_performance, crossfade
from torch_backend.head.head import load_head
from torch_backend.metrics.face_collisions import measure_collisions
from torch_backend.metrics.lip_gap import measure_lip_gap
from torch_backend.speech_corpus.articulation import articulate
from torch_backend.speech_corpus.phones import PhoneSegment

RATE = 30.0
PHONES = ("AA", "P", "IY", "B", "UW", "M", "AE", "F", "OW", "M", "EH", "P", "AO", "B", "IH")
PHONE_SECONDS, REST_SECONDS = 0.12, 0.4
LARGEST_GAP_MM = 0.2
"""Between shut lips, beyond what speech alone leaves."""
LARGEST_LID_CUT_MM, LARGEST_OVERLAP_MM = 0.2, 0.3


@cache
def spoken() -> tuple[Performance, np.ndarray]:
    """Speech on the mean head with a blink in it, and (T,) whether p, b or m shut the lips."""
    head = load_head()
    starts = REST_SECONDS + PHONE_SECONDS * np.arange(len(PHONES))
    end = float(starts[-1]) + PHONE_SECONDS
    segments = [PhoneSegment(0.0, REST_SECONDS, "SIL")]
    segments += [PhoneSegment(float(s), float(s) + PHONE_SECONDS, p) for s, p in zip(starts, PHONES, strict=True)]
    segments.append(PhoneSegment(end, end + REST_SECONDS, "SIL"))
    times = np.arange(0.0, end + REST_SECONDS, 1.0 / RATE)
    weights = articulate(segments, times).astype(np.float32)
    weights[:, BLINK] = compute_blink_curve([Blink(1.0, 0.09, 0.045, 0.17, 1.0, 0.5)], times)[:, None]
    middles = np.array([s + PHONE_SECONDS / 2 for s, p in zip(starts, PHONES, strict=True) if p in ("P", "B", "M")])
    shut = (np.abs(times[:, None] - middles) <= 0.5 / RATE).any(axis=1)
    upper, lower = head.lip_contact_pairs.T
    gaps = 1000.0 * (head.blendshapes[:, upper, 1] - head.blendshapes[:, lower, 1])
    empty = np.zeros((len(times), 0), np.float32)
    return Performance(RATE, weights, empty, gaps.astype(np.float32)), shut


def controls_of(expression: str, **strengths: float) -> Controls:
    performance, _ = spoken()
    count = performance.num_frames
    amounts = np.zeros((count, len(EXPRESSIONS)), np.float32)
    amounts[:, EXPRESSIONS.index(expression)] = 1.0
    values = {name: np.full(count, value, np.float32) for name, value in strengths.items()}
    return dataclasses.replace(Controls.neutral(count), expressions=amounts, **values)


def gap_at_closures(weights: np.ndarray) -> np.ndarray:
    head, (_, shut) = load_head(), spoken()
    positions = head.vertices + np.tensordot(weights[shut], head.blendshapes, axes=1)
    return np.maximum(measure_lip_gap(positions, head.lip_contact_pairs, head.vertices), 0.0).max(axis=1)


@pytest.mark.parametrize("mouth", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_lips_meet_at_p_b_m_under_every_mood(expression: str, mouth: float):
    performance, shut = spoken()
    assert shut.sum() >= 6
    alone = gap_at_closures(performance.weights)
    controls = controls_of(expression, mouth_strength=mouth, jaw_strength=mouth, smoothing=0.6)
    assert (gap_at_closures(compose_performance(performance, controls).weights) <= alone + LARGEST_GAP_MM).all()


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_nothing_goes_through_anything_under_a_mood(expression: str):
    performance, _ = spoken()
    composed = compose_performance(performance, controls_of(expression))
    found = measure_collisions(load_head(), composed.weights[::2])
    assert found.lid_cut_mm <= LARGEST_LID_CUT_MM and found.lip_overlap_mm <= LARGEST_OVERLAP_MM
    assert found.teeth_through_lips == 0


@pytest.mark.parametrize("expression", EXPRESSIONS[1:])
def test_a_keyed_mood_does_not_jump(expression: str):
    performance, _ = spoken()
    count = performance.num_frames
    chosen = np.zeros((count, len(EXPRESSIONS)), np.float32)
    chosen[:, 0] = 1.0
    chosen[count // 3 : 2 * count // 3] = np.eye(len(EXPRESSIONS), dtype=np.float32)[EXPRESSIONS.index(expression)]
    controls = dataclasses.replace(Controls.neutral(count), expressions=crossfade(chosen, RATE))
    change = np.abs(np.diff(compose_performance(performance, controls).weights - performance.weights, axis=0))
    assert change[:, list(MOUTH)].max() <= 0.45, "the mouth of a mood gives way to speech within a few frames"
    assert change[:, [BLENDSHAPE_INDEX[name] for name in ("browInnerUp", "browDownLeft")]].max() <= 0.2


@pytest.mark.parametrize("side", ["Left", "Right"])
def test_brows_stay_while_lids_close(side: str):
    head = load_head()
    shape = 1000.0 * head.blendshapes[BLENDSHAPE_INDEX["eyeBlink" + side]]
    eye = head.eye_centers[0 if side == "Left" else 1]
    skin = np.arange(len(head.vertices)) < head.num_skin_vertices
    near = skin & (np.abs(head.vertices[:, 0] - eye[0]) < 0.022) & (head.vertices[:, 2] > 0.06)
    brow = near & (head.vertices[:, 1] > eye[1] + 0.022)
    assert brow.sum() > 10 and np.abs(shape[brow, 1]).max() < 0.2
