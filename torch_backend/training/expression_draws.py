"""Expressions for a head model to learn: frames of articulated speech, mixtures of blendshapes, single ones."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from torch_backend.head.head_space import canonical_weights
from torch_backend.speech_corpus.articulation import articulate
from torch_backend.speech_corpus.lexicon import load_lexicon
from torch_backend.speech_corpus.phones import VOWELS, PhoneSegment
from torch_backend.speech_corpus.sentences import generate_sentences

FRAME_RATE = 24.0
_SHARES = (0.5, 0.32, 0.1, 0.04, 0.04)
"""Of speech, of mixtures, of single blendshapes, of rest, of the canonical pose."""
_NO_SKIN = ("eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "tongueOut")
_MOUTH_LIMIT = 1.8
"""Largest sum of the mouth's weights in a mixture: more of them at once make no face."""
_SPEECH_FACTOR = (0.6, 1.5)

_CLOSE, _JAW = BLENDSHAPE_INDEX["mouthClose"], BLENDSHAPE_INDEX["jawOpen"]
_UPPER = ("eyeBlink", "eyeSquint", "eyeWide", "eyeLookDown", "eyeLookUp", "browDown", "browOuterUp", "cheekSquint")


def make_speech_frames(num_sentences: int, seed: int) -> NDArray[np.float32]:
    """Return blendshape weights (T, 52) of articulated sentences; phones last as long as chance has it."""
    lexicon, generator = load_lexicon(), np.random.default_rng([seed, 0x50EE])
    frames = []
    for sentence in generate_sentences(num_sentences, seed):
        words = (word.strip(",") for word in sentence.split())
        phones = [phone for word in words for phone in lexicon.get(word, ())]
        if not phones:
            continue
        means = np.where([phone in VOWELS for phone in phones], 0.12, 0.075)
        ends = 0.3 + np.cumsum(means * generator.lognormal(0.0, 0.35, len(phones)))
        starts = [0.3, *ends]
        segments = [
            PhoneSegment(float(a), float(b), phone) for phone, (a, b) in zip(phones, pairwise(starts), strict=True)
        ]
        times = np.arange(0.0, float(ends[-1]) + 0.3, 1.0 / FRAME_RATE)
        frames.append(articulate(segments, times))
    return np.concatenate(frames)


def draw_expressions(count: int, speech: NDArray[np.floating], generator: np.random.Generator) -> NDArray[np.float32]:
    """Return `count` expressions (count, 52), weights within 0..1.

    Args:
        count: how many.
        speech: (T, 52) frames of speech to draw from.
        generator: all randomness comes from here.
    """
    kinds = generator.choice(len(_SHARES), size=count, p=_SHARES)
    drawn = np.zeros((count, len(ARKIT_BLENDSHAPES)), np.float32)
    for row, kind in zip(drawn, kinds, strict=True):
        if kind == 0:
            row[:] = speech[generator.integers(len(speech))] * generator.uniform(*_SPEECH_FACTOR)
            _add_upper_face(row, generator)
        elif kind == 1:
            _mix(row, generator)
        elif kind == 2:
            _set(row, ARKIT_BLENDSHAPES[generator.integers(len(row))], generator.uniform(0.3, 1.0), generator, 0.5)
        elif kind == 4:
            row[:] = canonical_weights()
    drawn[:, [BLENDSHAPE_INDEX[name] for name in _NO_SKIN]] = 0.0
    drawn[:, _CLOSE] = np.minimum(drawn[:, _CLOSE], drawn[:, _JAW])  # beyond that the lips would pass each other
    return np.clip(drawn, 0.0, 1.0)


def _add_upper_face(row: NDArray[np.float32], generator: np.random.Generator) -> None:
    if generator.random() < 0.35:
        _set(row, "eyeBlinkLeft", generator.random() ** 0.5, generator, 0.95)
    for stem in _UPPER[1:]:
        if generator.random() < 0.12:
            _set(row, f"{stem}Left", generator.random(), generator, 0.9)
    if generator.random() < 0.15:
        row[BLENDSHAPE_INDEX["browInnerUp"]] = generator.random()
    if generator.random() < 0.2:
        side = "mouthSmileLeft" if generator.random() < 0.6 else "mouthFrownLeft"
        _set(row, side, 0.6 * generator.random(), generator, 0.9)


def _mix(row: NDArray[np.float32], generator: np.random.Generator) -> None:
    if generator.random() < 0.6:
        row[_JAW] = generator.random() ** 1.5
    if generator.random() < 0.3:
        row[_CLOSE] = row[_JAW] * generator.random()
    for name in generator.choice(ARKIT_BLENDSHAPES, size=int(generator.integers(1, 7)), replace=False):
        if name not in ("jawOpen", "mouthClose"):
            _set(row, str(name), generator.random(), generator, 0.7)
    mouth = [index for name, index in BLENDSHAPE_INDEX.items() if name.startswith("mouth") and index != _CLOSE]
    total = row[mouth].sum()
    if total > _MOUTH_LIMIT:
        row[mouth] *= _MOUTH_LIMIT / total


def _set(
    row: NDArray[np.float32], name: str, weight: float, generator: np.random.Generator, symmetric_chance: float
) -> None:
    """One blendshape, and by chance its mirror image nearly alike; otherwise one side by chance."""
    for side, other in (("Left", "Right"), ("Right", "Left")):
        if name.endswith(side):
            partner = name.removesuffix(side) + other
            if generator.random() < symmetric_chance:
                row[BLENDSHAPE_INDEX[partner]] = weight * generator.uniform(0.9, 1.0)
            elif generator.random() < 0.5:
                name = partner
            break
    row[BLENDSHAPE_INDEX[name]] = weight
