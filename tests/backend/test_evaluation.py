"""Evaluation of a predictor: perfect, offset and still predictors whose scores are known beforehand."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from torch_backend import evaluation
from torch_backend.evaluation import StillFace, closure_frames, evaluate_predictor, template_of_head
from torch_backend.head.head import load_head
from torch_backend.speech_corpus.phones import PhoneSegment


@dataclass(frozen=True)
class Spoken:
    segments: tuple[PhoneSegment, ...]
    seconds: float

    def load_samples(self) -> np.ndarray:
        times = np.arange(round(self.seconds * 16_000)) / 16_000
        voice = 0.2 * np.sin(2 * np.pi * 120 * times) * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * times))
        return voice.astype(np.float32)


UTTERANCES = (
    Spoken(
        (
            PhoneSegment(0.0, 0.3, "SIL"), PhoneSegment(0.3, 0.38, "M"), PhoneSegment(0.38, 0.6, "AA"),
            PhoneSegment(0.6, 0.7, "P"), PhoneSegment(0.7, 0.85, "IY"), PhoneSegment(0.85, 1.2, "SIL"),
        ),
        1.2,
    ),
    Spoken((PhoneSegment(0.0, 0.2, "SIL"), PhoneSegment(0.2, 0.5, "AO"), PhoneSegment(0.5, 0.8, "SIL")), 0.8),
)  # fmt: skip


class TruthPlus(StillFace):
    """Predicts the truth moved by `shift`, in two blocks."""

    def __init__(self, head, utterance, shift=(0.0, 0.0, 0.0)):
        super().__init__(template_of_head(head))
        self._truth = evaluation.articulate_head(head, utterance.segments, utterance.load_samples()) - head.vertices
        self._shift = np.array(shift, np.float32)

    def animate(self, samples, plan, progress=None):
        offsets = self._truth + self._shift
        yield 0, offsets[:10]
        yield 10, offsets[10:]


@pytest.fixture(scope="module")
def head():
    return load_head()


def test_truth_scores_zero(head):
    scores = evaluate_predictor(TruthPlus(head, UTTERANCES[0]), UTTERANCES[:1], head)
    assert scores.lip_vertex_error_m2 == pytest.approx(0.0, abs=1e-12)
    assert scores.eye_vertex_error_m2 == pytest.approx(0.0, abs=1e-12)
    assert scores.upper_face_dynamics_m == pytest.approx(0.0, abs=1e-9)
    assert scores.lip_gap_mm == pytest.approx(scores.true_lip_gap_mm, abs=1e-3)
    assert (scores.num_clips, scores.num_frames, scores.num_closures) == (1, 37, 2)


def test_constant_offset_gives_its_square(head):
    """3 mm right and 4 mm up everywhere: 25e-6 m^2 at the lips and at the eyes, no change of the lip gap."""
    moved = TruthPlus(head, UTTERANCES[0], shift=(0.003, 0.004, 0.0))
    scores = evaluate_predictor(moved, UTTERANCES[:1], head)
    assert scores.lip_vertex_error_m2 == pytest.approx(25e-6, rel=1e-3)
    assert scores.eye_vertex_error_m2 == pytest.approx(25e-6, rel=1e-3)
    assert scores.lip_error_mm == pytest.approx(5.0, rel=1e-3)
    assert scores.lip_gap_mm == pytest.approx(scores.true_lip_gap_mm, abs=1e-3)


def test_still_face_is_off_by_the_motion_itself(head):
    scores = evaluate_predictor(StillFace(template_of_head(head)), UTTERANCES, head)
    worst = []
    for utterance in UTTERANCES:
        truth = evaluation.articulate_head(head, utterance.segments, utterance.load_samples())
        for frame in truth:
            worst.append(max(float(np.sum((frame[v] - head.vertices[v]) ** 2)) for v in head.regions["lips"]))
    assert scores.lip_vertex_error_m2 == pytest.approx(np.mean(worst), rel=1e-4)
    assert scores.lip_gap_mm == 0.0


def test_articulated_lips_meet_at_closures_and_open_for_vowels(head):
    truth = evaluation.articulate_head(head, UTTERANCES[0].segments, UTTERANCES[0].load_samples())
    scores = evaluate_predictor(StillFace(template_of_head(head)), UTTERANCES[:1], head)
    assert scores.true_lip_gap_mm < 0.15
    middle = head.lip_contact_pairs[np.abs(head.vertices[head.lip_contact_pairs[:, 0], 0]).argmin()]
    gap = 1000 * (truth[:, middle[0], 1] - truth[:, middle[1], 1])
    assert 8.0 < gap[15:18].max() < 14.5  # inside /aa/


def test_closures_in_frames():
    segments = [PhoneSegment(0.10, 0.15, "B"), PhoneSegment(0.15, 0.3, "AA"), PhoneSegment(0.3, 0.31, "M")]
    # 0.08..0.17 s holds frames 3, 4, 5; 0.28..0.33 s holds frame 9
    assert closure_frames(segments) == [(3, 6), (9, 10)]


def test_other_meshes_and_empty_sets_are_refused(head):
    template = template_of_head(head)
    other = replace(template, template_vertices=template.template_vertices[:-1])
    with pytest.raises(ValueError, match="built-in head"):
        evaluate_predictor(StillFace(other), UTTERANCES[:1], head)
    with pytest.raises(ValueError, match="at least one utterance"):
        evaluate_predictor(StillFace(template), [], head)
