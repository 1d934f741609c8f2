"""Moods and strengths under real speech: what they leave between lips that speech shuts, and what goes through what.

    python -m benchmarks.moods RECORDING ... [--mixtures 20] [--seed 0]

Each recording is animated by the backend on the head's own mesh; each mood at strength 1, and random mixtures of all
controls, are laid over the clip's vertices as the bake does (curves change, the rest of the motion stays, scaled with
the mouth). "Shut" are the frames whose lips speech shuts. Millimetres; a lid cut below 0 is clearance.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from blender_talkhead.contract.jobs import AnimateJob
from blender_talkhead.contract.motion_clip import MotionClip, load_motion_clip
from blender_talkhead.facial.expressions import BLINK, EXPRESSIONS
from blender_talkhead.facial.performance import Controls, Performance, compose_performance, find_closures
from torch_backend.emitter import Emitter
from torch_backend.handlers import animate
from torch_backend.head import Head, load_head
from torch_backend.metrics.face_collisions import count_teeth_through_lips, measure_lid_cut, measure_lip_overlap
from torch_backend.metrics.lip_gap import measure_lip_gap

STRENGTHS = ("mouth_strength", "jaw_strength", "upper_face_strength", "blink_rate", "gaze")
EVERY = 4
"""Of all frames, those in which collisions are looked for; every shut frame is measured."""


@dataclass
class Worst:
    """The worst of each fault so far."""

    gap_mm: float = 0.0
    gap_beyond_mm: float = 0.0
    lid_cut_mm: float = -np.inf
    overlap_mm: float = -np.inf
    teeth: int = 0
    jump: float = 0.0
    """Largest change of a curve but the blink's within a frame, beyond that of speech alone."""


def controls_of(num_frames: int, mixtures: int, seed: int) -> Iterator[tuple[str, Controls]]:
    """Each mood, then random mixtures under one name."""
    neutral, random = Controls.neutral(num_frames), np.random.default_rng(seed)
    for row, name in enumerate(EXPRESSIONS):
        amounts = np.zeros((num_frames, len(EXPRESSIONS)), np.float32)
        amounts[:, row] = 1.0
        yield name, replace(neutral, expressions=amounts)
    for _ in range(mixtures):
        amounts = np.zeros((num_frames, len(EXPRESSIONS)), np.float32)
        amounts[:, random.integers(len(EXPRESSIONS))] = random.uniform()
        values = {name: np.full(num_frames, random.uniform(0, 2), np.float32) for name in STRENGTHS}
        smoothing = np.full(num_frames, random.uniform(), np.float32)
        yield "mixtures", replace(neutral, **values, smoothing=smoothing, expressions=amounts)


def measure_clip(clip: MotionClip, head: Head, mixtures: int, seed: int, worst: dict[str, Worst]) -> int:
    """Measure a clip under all controls; returns the number of its shut frames."""
    if clip.blendshape_weights is None or clip.performance is None:
        raise ValueError("expected a clip with a performance, got one without")
    weights, shapes = np.asarray(clip.blendshape_weights, np.float32), np.asarray(clip.performance.blendshapes)
    upper, lower = head.lip_contact_pairs.T
    gaps = 1000.0 * (shapes[:, upper, 1] - shapes[:, lower, 1])
    remainder = np.asarray(clip.vertex_offsets, np.float32) - np.tensordot(weights, shapes, 1)
    left = (1000.0 * (remainder[:, upper, 1] - remainder[:, lower, 1])).astype(np.float32)
    # What the curves leave out of the motion is one shape a frame here, so that the gap it makes is in the sum.
    performance = Performance(
        clip.info.frame_rate, weights, np.eye(len(weights), dtype=np.float32),
        np.concatenate([gaps, left]).astype(np.float32),
    )  # fmt: skip
    shut = find_closures(performance) == 1.0
    rows = np.flatnonzero(shut | (np.arange(len(weights)) % EVERY == 0))
    alone = None
    for name, controls in controls_of(len(weights), mixtures, seed):
        composed = compose_performance(performance, controls)
        kept = composed.residual[rows] @ remainder.reshape(len(weights), -1)
        posed = head.vertices + np.tensordot(composed.weights[rows], shapes, 1)
        posed = (posed + kept.reshape(posed.shape)).astype(np.float32)
        gap = np.maximum(measure_lip_gap(posed[shut[rows]], head.lip_contact_pairs, head.vertices), 0.0)
        gap = gap.max(axis=1, initial=0.0)
        moves = np.abs(np.diff(np.delete(composed.weights, BLINK, axis=1), axis=0)).max()
        alone = (gap, moves) if alone is None else alone
        found = worst.setdefault(name, Worst())
        found.gap_mm = max(found.gap_mm, float(gap.max(initial=0.0)))
        found.gap_beyond_mm = max(found.gap_beyond_mm, float((gap - alone[0]).max(initial=0.0)))
        found.lid_cut_mm = max(found.lid_cut_mm, float(measure_lid_cut(head, posed).max()))
        found.overlap_mm = max(found.overlap_mm, float(measure_lip_overlap(head, posed).max()))
        found.teeth += int((count_teeth_through_lips(head, posed) > 0).sum())
        found.jump = max(found.jump, float(moves - alone[1]))
    return int(shut.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="+", type=Path)
    parser.add_argument("--mixtures", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    head, worst, shut = load_head(), dict[str, Worst](), 0
    for number, recording in enumerate(options.recordings):
        with tempfile.TemporaryDirectory() as folder:
            clip = load_motion_clip(animate(AnimateJob(recording, Path(folder) / "clip"), Emitter(as_json=False)))
            shut += measure_clip(clip, head, options.mixtures, options.seed + number, worst)
    print(f"{len(options.recordings)} recordings, {shut} frames with shut lips")
    for name, found in worst.items():
        print(
            f"{name:10} gap {found.gap_mm:.3f}, beyond neutral {found.gap_beyond_mm:.3f}; "
            f"lid cut {found.lid_cut_mm:.3f}; lip overlap {found.overlap_mm:.3f}; "
            f"frames with teeth through lips {found.teeth}; jump {found.jump:.3f}"
        )


if __name__ == "__main__":
    main()
