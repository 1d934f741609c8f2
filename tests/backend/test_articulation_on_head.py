"""What the articulation rules look like on the built-in head, in millimetres."""

from __future__ import annotations

import numpy as np
import pytest

from torch_backend.head.head import load_head
from torch_backend.metrics.lip_gap import measure_lip_gap
from torch_backend.metrics.mouth_shape import measure_mouth
from torch_backend.speech_corpus.articulation import articulate
from torch_backend.speech_corpus.phones import VOWELS, PhoneSegment


@pytest.fixture(scope="module")
def head():
    return load_head()


def speak(head, *phones, rate: float = 100.0):
    """Positions (T, V, 3) of phones with durations between silences, and (start, end) of each phone."""
    segments, start = [PhoneSegment(0.0, 0.35, "SIL")], 0.35
    for phone, duration in phones:
        segments.append(PhoneSegment(start, start + duration, phone))
        start += duration
    segments.append(PhoneSegment(start, start + 0.35, "SIL"))
    times = np.arange(0.0, start + 0.35, 1 / rate)
    weights = articulate(segments, times)
    used = np.flatnonzero(weights.any(axis=0))
    positions = head.vertices + np.tensordot(weights[:, used], head.blendshapes[used], axes=1)
    return positions, times, [(s.start_seconds, s.end_seconds) for s in segments[1:-1]]


def gap_and_width_in(head, phone: str, duration: float = 0.2):
    positions, times, spans = speak(head, ("T", 0.05), (phone, duration), ("T", 0.05))
    rest_gap, rest_width = measure_mouth(head.vertices[None], head.regions)
    gap, width = measure_mouth(positions, head.regions)
    inside = (times > spans[1][0]) & (times < spans[1][1])
    return gap[inside] - rest_gap, width[inside] - rest_width


def test_open_vowel_parts_the_lips_naturally(head):
    gap, _ = gap_and_width_in(head, "AA")
    assert 9.0 < gap.max() < 14.0
    sustained, _ = gap_and_width_in(head, "AA", 1.0)
    assert sustained.max() < 14.5


def test_vowels_are_ordered_by_height(head):
    gaps = [gap_and_width_in(head, phone)[0].max() for phone in ("AA", "AE", "EH", "IH", "IY")]
    assert gaps == sorted(gaps, reverse=True)
    assert all(gap_and_width_in(head, phone)[0].max() > 1.0 for phone in VOWELS)


def test_rounded_vowels_narrow_and_front_vowels_widen(head):
    assert gap_and_width_in(head, "UW")[1].min() < -9.0
    assert gap_and_width_in(head, "IY")[1].max() > 5.0
    assert abs(gap_and_width_in(head, "AH")[1]).max() < 3.0


@pytest.mark.parametrize("closure", ["P", "B", "M"])
@pytest.mark.parametrize(("before", "after"), [("AA", "IY"), ("UW", "AE"), ("S", "AO")])
@pytest.mark.parametrize("duration", [0.03, 0.08, 0.16])
def test_lips_meet_along_their_whole_length_at_closures(head, closure, before, after, duration):
    positions, times, spans = speak(head, (before, 0.1), (closure, duration), (after, 0.1))
    middle = sum(spans[1]) / 2
    plateau = np.abs(times - middle) <= 0.017
    gap = measure_lip_gap(positions[plateau], head.lip_contact_pairs, head.vertices)
    assert np.abs(gap).max() < 0.3  # every contact pair, mm
    assert np.abs(gap).mean() < 0.1


@pytest.mark.parametrize("phone", ["F", "V"])
def test_labiodental_leaves_a_slit(head, phone):
    positions, times, spans = speak(head, ("AA", 0.15), (phone, 0.09), ("IY", 0.15))
    gap, _ = measure_mouth(positions, head.regions)
    assert 0.0 < gap[np.abs(times - sum(spans[1]) / 2) < 0.02].max() < 2.0


def test_mouth_never_moves_faster_than_lips_can(head):
    """Peak lip speeds in speech are about 200 mm/s for one lip; both together close at under 400 mm/s."""
    positions, _, _ = speak(head, ("AA", 0.15), ("P", 0.06), ("AA", 0.15), ("B", 0.05), ("AE", 0.12), ("M", 0.06))
    gap, _ = measure_mouth(positions, head.regions)
    assert np.abs(np.diff(gap)).max() * 100 < 400
