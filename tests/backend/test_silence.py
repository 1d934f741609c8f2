"""Where nobody speaks, nothing but blinks, gaze and breath moves, with the weights that ship."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from torch_backend.audio.loading import decode_audio
from torch_backend.inference.mmtalker import MMTalkerPredictor
from torch_backend.inference.performed_motion import PerformedMotion
from torch_backend.performance.breathing import HEAD_DEGREES

RATE = 30.0
DEMO = Path(__file__).resolve().parents[2] / "blender_talkhead" / "demo" / "demo_sentence.wav"
SILENCE_SECONDS, BORDER_SECONDS = 6.0, 0.5
LARGEST_SHARE = 0.10
"""Of the mouth's speed in speech that it may have in silence."""


@pytest.fixture(scope="module")
def predictor() -> MMTalkerPredictor:
    return MMTalkerPredictor.load()


def make_room_noise(level: float) -> np.ndarray:
    count = round(16_000 * SILENCE_SECONDS)
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(count))
    noise = np.fft.irfft(spectrum / np.maximum(np.fft.rfftfreq(count, 1 / 16_000), 40.0) ** 0.7, count)
    return level * noise / noise.std()


@pytest.mark.parametrize("decibels", [-np.inf, -50.0, -30.0])
def test_the_mouth_rests_and_the_head_is_still_in_silence(
    predictor: MMTalkerPredictor, tmp_path: Path, decibels: float
) -> None:
    speech = np.asarray(decode_audio(DEMO, tmp_path).samples, np.float64)
    noise = make_room_noise(0.2 * np.abs(speech).max() * 10.0 ** (decibels / 20.0))
    samples = np.concatenate([speech, noise, speech]).astype(np.float32)
    motion = PerformedMotion(predictor, predictor.plan(1_500), samples, seed=0)
    offsets = np.concatenate([block for _, block in motion.animate()])
    lips = predictor.plan(1_500).regions["lips"]
    speed = RATE * np.linalg.norm(np.diff(offsets[:, lips], axis=0), axis=2).mean(axis=1)
    times = np.arange(len(offsets)) / RATE
    first, last = len(speech) / 16_000 + BORDER_SECONDS, len(speech) / 16_000 + SILENCE_SECONDS - BORDER_SECONDS
    silent = (times > first) & (times < last)
    spoken = (times < first - 2 * BORDER_SECONDS) | (times > last + 2 * BORDER_SECONDS)
    assert speed[silent[1:]].mean() <= LARGEST_SHARE * speed[spoken[1:]].mean()
    turned = np.degrees(2.0 * np.abs(motion.performance.head_rotation[:, 1:])).max(axis=1)
    assert turned[silent].max() <= HEAD_DEGREES + 0.02 < turned[spoken].max()
