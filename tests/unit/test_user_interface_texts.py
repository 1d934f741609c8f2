"""Texts and estimates of the panel, without Blender."""

from __future__ import annotations

import math

import pytest

from blender_talkhead.session import Session
from blender_talkhead.ui.estimates import corrected_speed_factor, estimate_animation, estimate_sequence, with_takes
from blender_talkhead.ui.wrapped_text import describe_bytes, describe_seconds, letters_per_line, wrap_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1 s"),
        (7.6, "8 s"),
        (59.4, "59 s"),
        (61.0, "1 min"),
        (78.0, "1 min 20 s"),
        (599.0, "10 min"),
        (640.0, "11 min"),
        (7_260.0, "2 h 1 min"),
        (7_200.0, "2 h"),
    ],
)
def test_time_spans(seconds: float, text: str) -> None:
    assert describe_seconds(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "1 KB"), (640_000, "640 KB"), (1.25e6, "1.2 MB"), (12.4e6, "12 MB"), (1.36e9, "1.4 GB"), (12e9, "12 GB")],
)
def test_sizes(count: float, text: str) -> None:
    assert describe_bytes(count) == text


def test_texts_are_wrapped() -> None:
    text = "The recording is gone; was it moved? Choose it again\nsecond paragraph"
    lines = wrap_text(text, 24)
    assert all(len(line) <= 24 for line in lines)
    assert " ".join(lines) == text.replace("\n", " ")
    assert lines[-1] == "second paragraph"
    path = "/a/very/long/path/without/any/blank/in/it/at/all.wav"
    assert "".join(wrap_text(path, 20)) == path
    assert len(wrap_text("word " * 500, 24)) == 12 and wrap_text("word " * 500, 24)[-1].endswith("…")
    assert wrap_text("", 24) == [""]


def test_narrow_and_wide_regions() -> None:
    assert letters_per_line(100, 1.0) == 24
    assert letters_per_line(10_000, 1.0) == 160
    assert letters_per_line(600, 2.0) == letters_per_line(300, 1.0)
    assert letters_per_line(300, 1.0) < letters_per_line(400, 1.0)


def test_estimates_meet_the_results_page() -> None:
    """docs/results.md: 10 minutes at 5,000 vertices at 18.3 x real time, 573 MB for 1 minute, 582 MB for 10."""
    ten_minutes = estimate_animation(600.0, 5_000, "basis", 30.0)
    assert math.isclose(ten_minutes.seconds, 600 / 18.3, rel_tol=0.2)
    assert math.isclose(ten_minutes.memory_bytes, 582e6, rel_tol=0.1)
    assert math.isclose(estimate_animation(60.0, 5_000, "basis", 30.0).memory_bytes, 573e6, rel_tol=0.1)


def test_estimates_by_storage() -> None:
    """Positions of all frames take 12 bytes a vertex; parts of the head come on top of the skin."""
    cache = estimate_animation(10.0, 5_000, "cache", 24.0)
    assert cache.file_bytes == 241 * 9_282 * 12
    assert estimate_animation(10.0, 5_000, "per-frame", 24.0).file_bytes == cache.file_bytes
    assert estimate_animation(10.0, 5_000, "basis", 24.0).file_bytes < cache.file_bytes / 3
    seconds = [estimate_animation(t, v, "basis", 24.0).seconds for t, v in ((1, 1_500), (1, 5_000), (60, 5_000))]
    assert seconds == sorted(seconds)
    doubled = estimate_animation(60, 5_000, "basis", 24.0, speed_factor=2.0)
    assert doubled.seconds == 2 * seconds[-1]


def test_the_last_run_corrects_the_estimate() -> None:
    assert corrected_speed_factor(1.0, 10.0, 20.0) == 2.0  # the first run counts in full
    assert math.isclose(corrected_speed_factor(2.0, 20.0, 40.0), math.sqrt(2.0 * 4.0))
    assert corrected_speed_factor(2.0, 20.0, 20.0) == 2.0
    assert corrected_speed_factor(1.0, 10.0, 1e9) == 50.0
    assert corrected_speed_factor(3.0, 0.0, 5.0) == 3.0


def test_session_keeps_few_notes_and_forgets_all() -> None:
    kept = Session()
    for number in range(20):
        kept.note("warning", f"text {number}")
        kept.note("warning", f"text {number}")
    assert [note.text for note in kept.notes] == [f"text {number}" for number in range(14, 20)]
    kept.package, kept.missing = "talkhead", "nothing found"
    kept.reset()
    assert kept == Session()


def test_session_asks_for_one_check() -> None:
    calls: list[None] = []
    kept = Session()
    kept.ask_for_check()
    kept.start_check = lambda: calls.append(None)
    kept.missing = "nothing found"
    kept.ask_for_check()
    assert calls == []
    kept.missing = ""
    kept.ask_for_check()
    assert len(calls) == 1


def test_estimates_of_facetalk_grow_with_takes_and_cells() -> None:
    one, two = estimate_sequence(10.0, 64), estimate_sequence(10.0, 64, takes=2)
    assert two.file_bytes == 2 * one.file_bytes and one.seconds < two.seconds < 2 * one.seconds
    fine = estimate_sequence(10.0, 128)
    assert fine.file_bytes == 4 * one.file_bytes and 2 * one.seconds < fine.seconds < 5 * one.seconds
    tracked = estimate_animation(10.0, 5_000, "basis", 24.0)
    assert with_takes(tracked, 10.0, 3).file_bytes == 3 * tracked.file_bytes
    assert with_takes(tracked, 10.0, 1).seconds > tracked.seconds
    assert estimate_sequence(10.0, 64, speed_factor=3.0).seconds == pytest.approx(3 * one.seconds)
