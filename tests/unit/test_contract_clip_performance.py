"""The performance of a motion clip on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blender_talkhead.contract.clip_performance import (
    BLINKS_FILE,
    PERFORMANCE_FILE,
    ClipPerformance,
    load_clip_performance,
    save_clip_performance,
)
from blender_talkhead.facial.blinks import BLINK_COLUMNS

PERFORMANCE = ClipPerformance(
    blendshapes=np.arange(52 * 4 * 3, dtype=np.float32).reshape(52, 4, 3),
    blinks=np.array([[1.0, 0.08, 0.04, 0.2, 1.0, 0.5]], np.float32),
    pivots={"head": (0.0, 0.0, 0.0), "eye_left": (0.03, 0.01, 0.08), "eye_right": (-0.03, 0.01, 0.08)},
    max_error_m=0.0015,
    mean_error_m=0.00006,
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    save_clip_performance(tmp_path, PERFORMANCE)
    loaded = load_clip_performance(tmp_path, 4)
    assert loaded is not None
    np.testing.assert_array_equal(loaded.blendshapes, PERFORMANCE.blendshapes)
    np.testing.assert_array_equal(loaded.blinks, PERFORMANCE.blinks)
    assert loaded.pivots == PERFORMANCE.pivots
    assert loaded.max_error_m == pytest.approx(0.0015) and loaded.mean_error_m == pytest.approx(0.00006)
    assert loaded.blinks.shape[1] == len(BLINK_COLUMNS)


def test_a_clip_may_have_none(tmp_path: Path) -> None:
    assert load_clip_performance(tmp_path, 4) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blendshapes": np.zeros((52, 5, 3), np.float32)}, "blendshapes must be float32"),
        ({"blendshapes": np.full((52, 4, 3), np.nan, np.float32)}, "finite"),
        ({"blinks": np.zeros((1, 5), np.float32)}, "blinks must be float32"),
        ({"blinks": np.zeros((1, 6), np.float32)}, "longer than 0"),
        ({"pivots": {"head": (0.0, 0.0, 0.0)}}, "pivots must be"),
        ({"max_error_m": float("inf")}, "finite"),
    ],
)
def test_wrong_values_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PERFORMANCE, **changes).validate(4)


@pytest.mark.parametrize(
    "content", [[], {}, {"pivots": [], "max_error_mm": 1, "mean_error_mm": 1}, {"pivots": {"head": [1, 2]}}]
)
def test_damaged_files_are_refused(tmp_path: Path, content: object) -> None:
    save_clip_performance(tmp_path, PERFORMANCE)
    (tmp_path / PERFORMANCE_FILE).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=PERFORMANCE_FILE):
        load_clip_performance(tmp_path, 4)


def test_missing_files_are_errors(tmp_path: Path) -> None:
    save_clip_performance(tmp_path, PERFORMANCE)
    (tmp_path / BLINKS_FILE).unlink()
    with pytest.raises(OSError):
        load_clip_performance(tmp_path, 4)
