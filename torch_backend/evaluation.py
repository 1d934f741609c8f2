"""How near a predictor comes to the motion it was trained towards, on utterances it has not heard.

The true motion of an utterance of the corpus is the built-in head moved by the articulation model on the exact phone
times and prosody. The figures say how well a network learned that; how well it serves people's voices is measured on
recordings (benchmarks/real_speech.py), never concluded from here.

    python -m torch_backend.evaluation CORPUS [--weights FILE] [--limit N]
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from blender_talkhead.contract.motion_clip import ClipTemplate
from torch_backend.audio.frame_grid import count_frames
from torch_backend.audio.prosody import SAMPLE_RATE, compute_prosody
from torch_backend.head.head import Head, load_head
from torch_backend.metrics.eye_vertex_error import EyeVertexError
from torch_backend.metrics.lip_gap import LipGapAtClosures
from torch_backend.metrics.lip_vertex_error import LipVertexError
from torch_backend.metrics.upper_face_dynamics import UpperFaceDynamicsDeviation
from torch_backend.speech_corpus.articulation import articulate
from torch_backend.speech_corpus.phones import BILABIALS, PhoneSegment

_LOGGER = logging.getLogger(__name__)

FRAME_RATE = 30.0
HELD_OUT_EVERY = 25
"""Training leaves out every 25th utterance of the corpus (training/motion_examples.py)."""
CLOSURE_TOLERANCE_SECONDS = 0.02
"""A closure may be this much early or late, as in the check on recordings."""


class MotionPredictor(Protocol):
    """What evaluation needs of MMTalkerPredictor and its like."""

    def plan(self, num_vertices: int | None = None, identity: Any = None, seed: int = 0) -> ClipTemplate:
        """Choose the mesh."""

    def animate(
        self, samples: np.ndarray, plan: Any, progress: Callable[[float], None] | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first frame, vertex_offsets (n, V, 3) metres); `plan` is what the predictor's own `plan` gave."""


class SpokenUtterance(Protocol):
    """What evaluation needs of a corpus utterance."""

    @property
    def segments(self) -> Sequence[PhoneSegment]:
        """Exact phone times."""

    def load_samples(self) -> np.ndarray:
        """(S,) float32 at 16 kHz."""


@dataclass(frozen=True)
class MotionScores:
    """Errors against the articulated motion; every error is better when lower."""

    lip_vertex_error_m2: float
    """E_vl, as published: mean over frames of the largest squared error over the lips."""
    eye_vertex_error_m2: float
    """E_ve: the same over the eye region."""
    upper_face_dynamics_m: float
    """FDD with the paper's plain norm, signed: positive is too little motion."""
    upper_face_dynamics_m2: float
    """FDD with CodeTalker's squared norm, signed."""
    absolute_upper_face_dynamics_m: float
    """Mean over clips of the absolute plain FDD, where clips cannot cancel."""
    lip_gap_mm: float
    """Gap left between the lips at p b m."""
    true_lip_gap_mm: float
    """The same of the articulated motion: what is reachable."""
    lip_error_mm: float
    """Mean over frames of the largest distance over the lips: E_vl with the root, to read."""
    eye_error_mm: float
    """The same over the eye region."""
    num_clips: int
    num_frames: int
    num_closures: int


class StillFace:
    """A predictor that never moves: the error that any network must beat."""

    def __init__(self, template: ClipTemplate) -> None:
        self._template = template

    def plan(self, num_vertices: int | None = None, identity: Any = None, seed: int = 0) -> ClipTemplate:
        """Return the template it was made with."""
        del num_vertices, identity, seed
        return self._template

    def animate(
        self, samples: np.ndarray, plan: ClipTemplate, progress: Callable[[float], None] | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield zeros."""
        del progress
        num_frames = count_frames(len(samples) / SAMPLE_RATE, FRAME_RATE)
        yield 0, np.zeros((num_frames, *plan.template_vertices.shape), np.float32)


def template_of_head(head: Head) -> ClipTemplate:
    """Return the built-in head itself as a template, without texture coordinates."""
    return ClipTemplate(
        template_vertices=head.vertices,
        polygon_starts=head.polygon_starts,
        polygon_vertices=head.polygon_vertices,
        corner_uvs=np.zeros((len(head.polygon_vertices), 2), np.float32),
        vertex_colors=head.vertex_colors,
        regions=dict(head.regions),
        parts=dict(head.parts),
    )


def articulate_head(head: Head, segments: Sequence[PhoneSegment], samples: np.ndarray) -> np.ndarray:
    """Compute the true motion of an utterance.

    Args:
        head: the built-in head.
        segments: exact phone times.
        samples: (S,) float32 at 16 kHz.

    Returns:
        (T, V, 3) float32 positions in metres, 30 frames a second.
    """
    times = np.arange(count_frames(len(samples) / SAMPLE_RATE, FRAME_RATE)) / FRAME_RATE
    weights = articulate(segments, times, compute_prosody(samples))
    used = np.flatnonzero(weights.any(axis=0))
    offsets = np.tensordot(weights[:, used], head.blendshapes[used], axes=1)
    return np.asarray(head.vertices + offsets, np.float32)


def closure_frames(segments: Iterable[PhoneSegment]) -> list[tuple[int, int]]:
    """Return, for each p b m, its first frame and the frame behind its last, widened by the tolerance."""
    spans = []
    for start, end, phone in segments:
        if phone in BILABIALS:
            first = max(0, math.ceil((start - CLOSURE_TOLERANCE_SECONDS) * FRAME_RATE - 1e-9))
            last = math.floor((end + CLOSURE_TOLERANCE_SECONDS) * FRAME_RATE + 1e-9)
            spans.append((first, max(last, first) + 1))
    return spans


def evaluate_predictor(
    predictor: MotionPredictor, utterances: Iterable[SpokenUtterance], head: Head, seed: int = 0
) -> MotionScores:
    """Run a predictor on utterances with known phones and compare with the articulated motion.

    Args:
        predictor: its native mesh must be the built-in head, vertex by vertex.
        utterances: held-out utterances.
        head: the built-in head.
        seed: handed to the predictor's plan.

    Returns:
        The scores, pooled over the utterances.

    Raises:
        ValueError: the predictor's mesh is another one, there is no utterance, or a prediction is too short.
    """
    plan = predictor.plan(None, None, seed)
    shape = plan.template_vertices.shape
    if shape != head.vertices.shape or not np.allclose(plan.template_vertices, head.vertices, atol=1e-5):
        raise ValueError(
            f"expected a predictor on the built-in head, {head.vertices.shape} vertices at their rest positions, "
            f"got a template of shape {shape}"
        )
    lips, eyes = LipVertexError(head.regions["lips"]), EyeVertexError(head.regions["eye_region"])
    plain = UpperFaceDynamicsDeviation(head.regions["upper_face"], "plain")
    squared = UpperFaceDynamicsDeviation(head.regions["upper_face"], "squared")
    gap, true_gap = LipGapAtClosures(head.lip_contact_pairs), LipGapAtClosures(head.lip_contact_pairs)
    num_clips = num_frames = 0
    for utterance in utterances:
        samples = utterance.load_samples()
        true = articulate_head(head, utterance.segments, samples)
        predicted = _collect(predictor, samples, plan)
        for metric in (lips, eyes):
            metric.update(true, predicted)
        for dynamics in (plain, squared):
            dynamics.update(true, predicted, head.vertices)
        closures = closure_frames(utterance.segments)
        gap.update(predicted, head.vertices, closures)
        true_gap.update(true, head.vertices, closures)
        num_clips, num_frames = num_clips + 1, num_frames + len(true)
    if not num_clips:
        raise ValueError("expected at least one utterance to evaluate on, got none")
    return MotionScores(
        lip_vertex_error_m2=lips.compute(),
        eye_vertex_error_m2=eyes.compute(),
        upper_face_dynamics_m=plain.compute(),
        upper_face_dynamics_m2=squared.compute(),
        absolute_upper_face_dynamics_m=plain.compute_absolute(),
        lip_gap_mm=gap.compute(),
        true_lip_gap_mm=true_gap.compute(),
        lip_error_mm=lips.compute_euclidean_mm(),
        eye_error_mm=eyes.compute_euclidean_mm(),
        num_clips=num_clips,
        num_frames=num_frames,
        num_closures=gap.num_events,
    )


def _collect(predictor: MotionPredictor, samples: np.ndarray, plan: ClipTemplate) -> np.ndarray:
    """(T, V, 3) positions of a whole utterance."""
    blocks = [offsets for _, offsets in predictor.animate(samples, plan, None)]
    return np.asarray(plan.template_vertices + np.concatenate(blocks), np.float32)


def main(arguments: Sequence[str] | None = None) -> int:
    """Score the shipped or another MMTalker on every 25th utterance of a corpus, beside a face that does not move."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("corpus", type=Path, help="folder made by `python -m torch_backend corpus`")
    parser.add_argument("--weights", type=Path, help="MMTalker checkpoint (default: the shipped one)")
    parser.add_argument("--limit", type=int, default=40, help="utterances of each group at most (default: 40)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    from torch_backend.inference.mmtalker import MMTalkerPredictor  # torch: only when something is predicted
    from torch_backend.speech_corpus.corpus import load_corpus

    head = load_head()
    held_out = load_corpus(options.corpus)[::HELD_OUT_EVERY]
    groups = {
        "": [utterance for utterance in held_out if utterance.language == "en"],
        ", voices that the shipped encoder has not heard": [each for each in held_out if each.language != "en"],
    }
    predictors: dict[str, MotionPredictor] = {
        "mmtalker": MMTalkerPredictor.load(options.weights),
        "still face": StillFace(template_of_head(head)),
    }
    scores = {}
    for group, utterances in groups.items():
        chosen = utterances[:: max(1, len(utterances) // options.limit)][: options.limit]
        _LOGGER.info("%d of %d held-out utterances%s", len(chosen), len(utterances), group)
        for name, each in predictors.items() if chosen else ():
            scores[f"{name}{group}"] = asdict(evaluate_predictor(each, chosen, head))
    sys.stdout.write(json.dumps(scores, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
