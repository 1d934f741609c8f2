"""Draw the picture of docs/performance.md: python docs/draw_performance.py [names] [--output FOLDER].

`expressions`: the same moments of speech under each mood. The speech is articulated from phones, the controls' own code
lays the moods under it. Needs the Python that has both torch and the bpy module.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import bpy  # noqa: F401  (bpy makes the modules of the next imports importable)

# isort: split
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from picture_studio import Image, Sitter, View, draw_chosen, join_tiles, with_caption

from blender_talkhead.facial.expressions import EXPRESSIONS
from blender_talkhead.facial.performance import Controls, Performance, compose_performance
from torch_backend.head import Head
from torch_backend.speech_corpus.articulation import articulate
from torch_backend.speech_corpus.phones import PhoneSegment

PHONES = ("AA", "P", "IY", "UW", "M", "EH")
REST_SECONDS, PHONE_SECONDS, RATE = 0.5, 0.15, 30.0
TILE_PX, SAMPLES = 180, 10


def speak(head: Head) -> tuple[Performance, list[int]]:
    """Phones between pauses as a performance, and the frames of rest and of the middle of each phone."""
    starts = [REST_SECONDS + PHONE_SECONDS * index for index in range(len(PHONES))]
    end = starts[-1] + PHONE_SECONDS
    segments = [PhoneSegment(start, start + PHONE_SECONDS, phone) for start, phone in zip(starts, PHONES, strict=True)]
    weights = articulate(segments, np.arange(0.0, end + REST_SECONDS, 1.0 / RATE)).astype(np.float32)
    upper, lower = head.lip_contact_pairs.T
    gaps = 1000.0 * (head.blendshapes[:, upper, 1] - head.blendshapes[:, lower, 1])
    performance = Performance(RATE, weights, np.zeros((len(weights), 0), np.float32), gaps.astype(np.float32))
    return performance, [0, *(round((start + 0.5 * PHONE_SECONDS) * RATE) for start in starts)]


def draw_expressions() -> Image:
    """Return one row a mood, one column a moment."""
    sitter = Sitter.invite(samples=SAMPLES)
    performance, frames = speak(sitter.head)
    view = View(TILE_PX, 11.0, zoom=1.55, raise_heads=0.02)
    tiles: list[Image] = []
    for row, name in enumerate(EXPRESSIONS):
        amounts = np.zeros((performance.num_frames, len(EXPRESSIONS)), np.float32)
        amounts[:, row] = 1.0
        controls = dataclasses.replace(Controls.neutral(performance.num_frames), expressions=amounts)
        weights = compose_performance(performance, controls).weights
        captions = ("at rest", *(phone.lower() for phone in PHONES))
        tiles += [
            with_caption(sitter.photograph(sitter.head.pose(weights[frame]), view), f"{name}, {caption}")
            for frame, caption in zip(frames, captions, strict=True)
        ]
    return join_tiles(tiles, len(frames))


if __name__ == "__main__":
    draw_chosen("Draw the picture of the page about the performance.", {"expressions": draw_expressions})
