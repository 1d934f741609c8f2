"""Pooling and bootstrap of the lip-sync scores: by hand on made-up clips, and against lipcheck itself where it is."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.lip_sync_scores import load_lipcheck, mouth_speed, score_system, to_curve_rate

TOOLS = Path(os.environ.get("TALKHEAD_CHECK_TOOLS", Path(__file__).parents[2] / ".." / "shared" / "tools"))


class FakeClip(SimpleNamespace):
    def score(self, opening, width=None, frac=0.15, closed=None, lag=True):
        assert closed == 0.0
        mins = np.array([opening[a:b].min() for a, b in self.clos])
        row = {"closure_recall": float((mins <= 0.5).mean()), "r": self.r, "width_r": self.r / 2, "lag_ms": self.lag}
        return {**row, "closure_auc": 0.5, "silence_motion": 0.25}


def fake_clip(num_rows, closures, r, lag, pause=10):
    core = np.zeros(num_rows, bool)
    core[:pause] = True
    return FakeClip(n=num_rows, clos=closures, r=r, lag=lag, core=core)


def test_pooling_by_hand():
    """Recall: clip 1 shuts 1 of 1, clip 2 shuts 1 of 3: 2 / 4. r: (0.8 x 100 + 0.2 x 300) / 400. Gaps 0, 0, 2, 4."""
    first, second = np.full(100, 5.0), np.full(300, 5.0)
    first[50:53] = 0.0
    second[50:53], second[100:103], second[200:203] = 0.0, 2.0, 4.0
    clips = [fake_clip(100, [(48, 55)], 0.8, 10.0), fake_clip(300, [(48, 55), (98, 105), (198, 205)], 0.2, -30.0)]
    figures = score_system(clips, [(first, first), (second, second)])
    assert figures["closure_recall"].value == pytest.approx(0.5)
    assert figures["r"].value == pytest.approx(0.35)
    assert figures["width_r"].value == pytest.approx(0.175)
    assert figures["lag_ms"].value == -10.0
    assert figures["gap_mm"].value == pytest.approx(1.5)
    assert figures["silence_motion"].value == pytest.approx(0.25)
    assert figures["recall_minus_null"].value == pytest.approx(0.5 - figures["null"].value)
    # two clips: a resample is (1, 1), (1, 2), (2, 1) or (2, 2), so the interval runs from one clip to the other
    assert (figures["r"].low, figures["r"].high) == pytest.approx((0.2, 0.8))
    assert (figures["gap_mm"].low, figures["gap_mm"].high) == pytest.approx((0.0, 2.0))


def test_overlapping_lips_count_as_closed_not_as_negative_gap():
    opening = np.full(100, 3.0)
    opening[50] = -0.4
    figures = score_system([fake_clip(100, [(48, 55)], 0.5, 0.0)], [(opening, opening)])
    assert figures["gap_mm"].value == 0.0


def test_curves_must_be_as_long_as_their_clip():
    clip = fake_clip(100, [(48, 55)], 0.5, 0.0)
    with pytest.raises(ValueError, match="100 rows, got 99"):
        score_system([clip], [(np.zeros(99), np.zeros(100))])


def test_speed_and_resampling_by_hand():
    assert mouth_speed(np.array([0.0, 1.0, 1.0, 0.0])) == pytest.approx(50.0)  # (0 + 1 + 0 + 1) mm / 4 rows
    rows = to_curve_rate(np.array([0.0, 3.0]), np.array([0.0, 0.03]), 3)
    np.testing.assert_allclose(rows, [0.5, 1.5, 2.5])


@pytest.mark.skipif(not (TOOLS / "lipcheck.py").is_file(), reason="lipcheck.py is not in TALKHEAD_CHECK_TOOLS")
def test_pooled_figures_are_those_of_lipcheck():
    lipcheck = load_lipcheck(TOOLS)
    generator = np.random.default_rng(3)
    clips, curves = [], []
    for phones in ("SIL P AA T AA M IY SIL", "SIL S EH B AO N UW P AE SIL"):
        times = np.arange(len(phones.split()) + 1) * 0.15
        segments = [(s, e, p) for s, e, p in zip(times, times[1:], phones.split(), strict=False)]
        clip = lipcheck.Clip(segments, round(times[-1] * 100))
        clips.append(clip)
        opening = np.clip(12 * clip.to + generator.normal(0, 0.8, clip.n), 0, None)
        curves.append((opening, 10 * clip.tw + generator.normal(0, 1, clip.n)))
    expected = lipcheck.judge(clips, curves, closed=0.0, shifts=200, seed=0)
    figures = score_system(clips, curves, seed=0)
    for name in ("closure_recall", "closure_auc", "r", "width_r", "lag_ms"):
        assert figures[name].value == pytest.approx(expected[name]["value"], abs=1e-4), name
    assert figures["null"].value == pytest.approx(expected["closure_recall"]["null_mean"], abs=1e-4)
