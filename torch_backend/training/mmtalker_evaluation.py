"""MMTalker against the articulated truth: lips, corners of the mouth and lids on held-out utterances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from torch_backend.head import Head
from torch_backend.models.mmtalker import MMTalker, PointDecoder
from torch_backend.modules.surface_points import SurfacePoints
from torch_backend.training.face_motion import FaceMotion, build_face_anchors, find_closed_frames
from torch_backend.training.motion_examples import MotionExample, MotionExamples

MILLIMETRES_PER_CENTIMETRE = 10.0
MET_MILLIMETRES = 1.0
"""A closure is met when the lips come nearer than this in one of its frames."""


def evaluate_mmtalker(
    model: MMTalker, head: Head, examples: MotionExamples, held_out: Sequence[MotionExample]
) -> dict[str, float]:
    """Measure on whole utterances.

    Args:
        model: in evaluation mode.
        head: the head that the model was built on.
        examples: features and true curves.
        held_out: which of them to use.

    Returns:
        closure_gap_mm: gap left between the lips in the frames of p, b and m (0 in truth), lower is better;
        closures_met: share of the closures in which the lips come nearer than 1 mm, higher is better;
        opening_r, width_r, lid_r: correlation of lip gap, mouth width and lid motion with the truth, all frames
        pooled, higher is better;
        lip_error_mm: mean distance of the anchor points on the lips from the truth, lower is better;
        motion_share: mean frame-to-frame motion of the lips over the true one, 1 is right.
    """
    motion, anchors = FaceMotion(head), build_face_anchors(head)
    points = SurfacePoints.at_vertices(anchors.vertices)
    decoder = PointDecoder(model, points)
    terms = model.compute_vertex_terms()
    tracks = [_Tracks(anchors.pairs, anchors.corners, anchors.lids) for _ in range(2)]
    closed_frames = []
    for example in held_out:
        rows = slice(example.start, example.stop)
        features = torch.from_numpy(examples.features[rows].astype(np.float32)).to(model.device)
        code = model.encode_audio(features, terms)
        predicted = decoder.decode(code, terms, 0, len(features)).cpu().numpy()
        curves = examples.curves[rows].astype(np.float32)
        true = motion.displacements(curves, points)
        gaps = true[:, anchors.pairs[:, 0]] - true[:, anchors.pairs[:, 1]]
        closed_frames.append(find_closed_frames(curves, gaps))
        tracks[0].add(predicted)
        tracks[1].add(true)
    return _figures(tracks[0], tracks[1], closed_frames)


class _Tracks:
    """Measurements of one side (prediction or truth), utterance by utterance."""

    def __init__(self, pairs: np.ndarray, corners: np.ndarray, lids: np.ndarray) -> None:
        self.pairs, self.corners, self.lids = pairs, corners, lids
        self.gap: list[np.ndarray] = []
        self.width: list[np.ndarray] = []
        self.lid: list[np.ndarray] = []
        self.lips: list[np.ndarray] = []

    def add(self, offsets: np.ndarray) -> None:
        """Measure an utterance (T, A, 3), centimetres."""
        self.gap.append((offsets[:, self.pairs[:, 0], 1] - offsets[:, self.pairs[:, 1], 1]).mean(axis=1))
        self.width.append(offsets[:, self.corners[0], 0] - offsets[:, self.corners[1], 0])
        self.lid.append(np.abs(offsets[:, self.lids, 1]).mean(axis=1))
        self.lips.append(offsets[:, np.unique(self.pairs)])


def _figures(predicted: _Tracks, true: _Tracks, closed_frames: Sequence[np.ndarray]) -> dict[str, float]:
    gaps = [np.abs(gap) * MILLIMETRES_PER_CENTIMETRE for gap in predicted.gap]
    at_closures = np.concatenate([gap[closed] for gap, closed in zip(gaps, closed_frames, strict=True)])
    met = [
        bool(gap[start:stop].min() < MET_MILLIMETRES)
        for gap, closed in zip(gaps, closed_frames, strict=True)
        for start, stop in _runs(closed)
    ]
    lip_error = np.concatenate(
        [np.linalg.norm(a - b, axis=-1).mean(axis=1) for a, b in zip(predicted.lips, true.lips, strict=True)]
    )
    steps = [
        np.mean([np.linalg.norm(np.diff(lips, axis=0), axis=-1).mean() for lips in side.lips])
        for side in (predicted, true)
    ]
    return {
        "closure_gap_mm": float(at_closures.mean()) if len(at_closures) else 0.0,
        "closures_met": float(np.mean(met)) if met else 1.0,
        "opening_r": _correlation(predicted.gap, true.gap),
        "width_r": _correlation(predicted.width, true.width),
        "lid_r": _correlation(predicted.lid, true.lid),
        "lip_error_mm": float(lip_error.mean()) * MILLIMETRES_PER_CENTIMETRE,
        "motion_share": float(steps[0] / max(steps[1], 1e-9)),
    }


def _correlation(predicted: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> float:
    """Pearson's r over all frames; 0 where either side is constant."""
    first, second = np.concatenate(predicted), np.concatenate(true)
    if first.std() < 1e-9 or second.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """[start, stop) of every run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
