"""The tongue goes where its phones are made, through no tooth and no palate, and rests in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from torch_backend.audio.loading import decode_audio
from torch_backend.audio.shipped_encoder import ShippedEncoder
from torch_backend.head.author_space import author_to_backend
from torch_backend.head.head import load_head
from torch_backend.head.identity import apply_identity
from torch_backend.head.signed_distance import signed_distance
from torch_backend.head.tongue_motion import BEFORE_TEETH, PALATE, RIDGE, build_tongue_motion
from torch_backend.inference.spoken_tongue import SpokenTongue
from torch_backend.metrics.tongue_collisions import measure_tongue_cut
from torch_backend.speech_corpus.phones import PHONE_INDEX, PHONES
from torch_backend.speech_corpus.tongue_targets import GESTURES, tongue_gestures

DEMO = Path(__file__).resolve().parents[2] / "blender_talkhead" / "demo" / "demo_sentence.wav"
RATE = 50.0
TIP, BACK, BETWEEN = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
IDENTITY = {"face_width": 0.5, "jaw_width": -0.5, "mouth_width": 0.6}


@pytest.fixture(scope="module")
def head():
    return load_head()


def pose(head, gestures, parameters=None, **weights):
    """Posed vertices (n, V, 3) of rows of gestures over one jaw, and the tongue's motion."""
    own = apply_identity(head, parameters or {})
    motion = build_tongue_motion(head, own, parameters or {})
    part = slice(*head.parts["tongue"])
    posed = np.repeat(own.pose(weights)[None], len(gestures), axis=0)
    posed[:, part] += motion.displace(motion.weights(np.array(gestures), (posed - own.vertices)[:, part]))
    return own, posed, motion


def one_hot(*phones):
    posteriors = np.zeros((len(phones), len(PHONES)))
    posteriors[np.arange(len(phones)), [PHONE_INDEX[phone] for phone in phones]] = 1.0
    return posteriors


def gestures_of(phone, rows=8):
    """Gestures in the middle of a phone held between vowels."""
    posteriors = one_hot(*["AH"] * 10, *[phone] * rows, *["AH"] * 10)
    return tongue_gestures(posteriors, RATE, np.array([(10 + rows / 2) / RATE]))[0]


@pytest.mark.parametrize("jaw", [0.0, 0.08, 0.2, 0.35])
def test_the_tip_reaches_the_ridge_however_open_the_jaw_is(head, jaw):
    _, posed, motion = pose(head, [TIP], jawOpen=jaw)
    tip = posed[0, slice(*head.parts["tongue"])][motion.tip]
    assert abs(tip[1] - author_to_backend(RIDGE)[1]) < 0.0002
    assert abs(tip[2] - author_to_backend(RIDGE)[2]) < 0.004  # forward it is as near as makes no difference


@pytest.mark.parametrize("jaw", [0.0, 0.12, 0.25])
def test_the_back_reaches_the_palate(head, jaw):
    _, posed, motion = pose(head, [BACK], jawOpen=jaw)
    assert abs(posed[0, slice(*head.parts["tongue"])][motion.back][1] - author_to_backend(PALATE)[1]) < 0.0002


def test_the_blade_passes_between_the_teeth_only_when_they_are_apart(head):
    front = head.vertices[slice(*head.parts["teeth"])]
    front = front[np.abs(front[:, 0]) < 0.005, 2].max()
    for jaw, passes in ((0.0, False), (0.05, False), (0.17, True), (0.25, True)):
        _, posed, motion = pose(head, [BETWEEN], jawOpen=jaw)
        tip = posed[0, slice(*head.parts["tongue"])][motion.tip]
        assert (tip[2] > front) == passes
        if passes:
            assert abs(tip[2] - author_to_backend(BEFORE_TEETH)[2]) < 0.002


@pytest.mark.parametrize("parameters", [{}, IDENTITY])
@pytest.mark.parametrize("jaw", [0.0, 0.08, 0.12, 0.17, 0.3, 0.42])
def test_no_gesture_cuts_teeth_or_palate(head, parameters, jaw):
    gestures = [(0.0, 0.0, 0.0), TIP, BACK, BETWEEN, (0.5, 0.5, 0.0), (0.6, 0.0, 0.5), (0.0, 0.0, 0.5)]
    own, posed, _ = pose(head, gestures, parameters, jawOpen=jaw)
    assert measure_tongue_cut(own, posed).max() < 0.6  # a soft tongue pressed on an edge
    tongue = posed[:, slice(*head.parts["tongue"])].reshape(-1, 3)
    assert signed_distance(own, tongue, {"jawOpen": jaw}).min() > -0.0003


def test_tongue_out_passes_over_the_lower_teeth(head):
    weights = [{"jawOpen": 0.6, "tongueOut": amount} for amount in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
    assert measure_tongue_cut(head, np.stack([head.pose(each) for each in weights])).max() < 0.3


def test_a_tooth_in_the_tongue_is_found(head):
    posed = head.vertices.copy()
    posed[slice(*head.parts["tongue"])] += np.array([0.0, 0.0, 0.006], np.float32)
    assert measure_tongue_cut(head, posed[None])[0] > 1.0
    with pytest.raises(ValueError, match="positions"):
        measure_tongue_cut(head, posed)


@pytest.mark.parametrize(
    ("phone", "gesture"),
    [("T", "tip"), ("D", "tip"), ("N", "tip"), ("L", "tip"), ("K", "back"), ("NG", "back"), ("TH", "between")],
)
def test_consonants_complete_their_gesture_between_vowels(phone, gesture):
    degrees = gestures_of(phone)
    assert degrees[GESTURES.index(gesture)] > 0.95
    assert np.delete(degrees, GESTURES.index(gesture)).max() < 0.05


def test_sibilants_come_near_without_contact_and_labials_leave_the_tongue_alone():
    assert 0.6 < gestures_of("S")[0] < 0.97
    assert gestures_of("M").max() < 0.05
    assert gestures_of("AA").max() < 0.05


def test_a_short_stop_still_arrives():
    assert gestures_of("T", rows=3)[0] > 0.8


def test_silence_and_its_doubts_rest():
    doubtful = np.full((40, len(PHONES)), 0.03 / 39)
    doubtful[:, PHONE_INDEX["SIL"]] = 0.97
    for posteriors in (one_hot(*["SIL"] * 40), doubtful):
        assert not tongue_gestures(posteriors, RATE, np.linspace(0, 0.8, 24)).any()


def test_gestures_look_no_further_than_a_tenth_of_a_second():
    posteriors = np.random.default_rng(0).dirichlet(np.full(40, 0.1), 60)
    changed = posteriors.copy()
    changed[:20], changed[40:] = one_hot("TH"), one_hot("K")
    times = np.array([0.53, 0.6, 0.67])  # rows 26 to 33
    np.testing.assert_array_equal(tongue_gestures(posteriors, RATE, times), tongue_gestures(changed, RATE, times))


def test_wrong_posteriors_are_rejected():
    with pytest.raises(ValueError, match="posteriors"):
        tongue_gestures(np.zeros((5, 39)), RATE, np.zeros(1))


def test_a_spoken_sentence_moves_the_tongue_the_same_in_any_blocks(head, tmp_path):
    samples = np.array(decode_audio(DEMO, tmp_path, lambda _: None).samples)
    num_frames = int(len(samples) / 16_000 * 30)
    part, motion = slice(*head.parts["tongue"]), build_tongue_motion(head, head, {})
    jaw = head.pose({"jawOpen": 0.12}) - head.vertices
    results = []
    for block in (num_frames, 7):
        tongue = SpokenTongue(motion, head.parts["tongue"], ShippedEncoder.load(), samples, num_frames)
        moved = []
        for first in range(0, num_frames, block):
            offsets = np.repeat(jaw[None], min(block, num_frames - first), axis=0)
            tongue.move(first, offsets)
            moved.append(offsets[:, part] - jaw[part])
        results.append(np.concatenate(moved))
        assert tongue.out_weights.shape == (num_frames,)
    np.testing.assert_allclose(results[0], results[1], atol=1e-8)
    tip = results[0][:, motion.tip, 1]
    assert tip.max() > 0.005 and tip.min() < 0.001  # it rises to the ridge in "voice", "watch", "lips", and comes down
    assert np.linalg.matrix_rank(results[0].reshape(num_frames, -1), tol=1e-4) <= 3


def test_with_another_encoder_the_tongue_stays_with_the_jaw(head):
    tongue = SpokenTongue(build_tongue_motion(head, head, {}), head.parts["tongue"], object(), np.zeros(1600), 3)
    offsets = np.zeros((3, *head.vertices.shape), np.float32)
    tongue.move(0, offsets)
    assert not offsets.any()
