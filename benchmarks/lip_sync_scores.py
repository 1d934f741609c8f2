"""Pooled lip-sync scores of mouth curves, with bootstrap intervals over clips.

Scores of one clip come from lipcheck (a script outside this repository, given as an imported module). Pooling over
clips follows its `judge`: figures about events are weighted by their number, correlations by duration, the lag is the
median over clips. The null of a figure is its mean over time-shifted copies of the curves.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

CURVE_RATE = 100
"""Rows per second of the curves that are scored; row i is at (i + 0.5) / CURVE_RATE."""
RESAMPLES = 2_000
NULL_SHIFTS = 200

Curves = tuple[np.ndarray, np.ndarray]
"""Opening in millimetres above rest, and mouth width in millimetres, of one clip at CURVE_RATE."""


@dataclass(frozen=True)
class Figure:
    """One pooled figure and its 95 % bootstrap interval over clips."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class _ClipScores:
    """What pooling needs of one clip."""

    row: Mapping[str, float]
    null_recalls: np.ndarray
    """(shifts,) closure recall of time-shifted copies."""
    gaps_mm: np.ndarray
    """(closures,) smallest gap in each p b m interval."""
    weights: Mapping[str, float]


def load_lipcheck(tools: Path) -> ModuleType:
    """Import lipcheck.py from its folder.

    Raises:
        FileNotFoundError: it is not there.
    """
    path = tools / "lipcheck.py"
    if not path.is_file():
        raise FileNotFoundError(f"no lipcheck.py in {tools}; give --tools or TALKHEAD_CHECK_TOOLS")
    specification = importlib.util.spec_from_file_location("lipcheck", path)
    if specification is None or specification.loader is None:
        raise FileNotFoundError(f"cannot import {path}")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def score_system(clips: Sequence[Any], curves: Sequence[Curves], seed: int = 0) -> dict[str, Figure]:
    """Score the curves of one system.

    Args:
        clips: lipcheck.Clip of each recording.
        curves: of each recording, as long as its clip.
        seed: of the null's shifts and of the bootstrap.

    Returns:
        name -> figure: closure_recall, recall_minus_null, null, closure_auc, gap_mm, r, width_r, lag_ms,
        silence_motion.

    Raises:
        ValueError: a curve is not as long as its clip.
    """
    for clip, (opening, width) in zip(clips, curves, strict=True):
        if len(opening) != clip.n or len(width) != clip.n:
            raise ValueError(f"expected curves of {clip.n} rows, got {len(opening)} and {len(width)}")
    scores = _score_clips(clips, curves, seed)
    everything = np.arange(len(scores))
    draws = np.random.default_rng(seed).integers(len(scores), size=(RESAMPLES, len(scores)))
    figures = {}
    for name, pool in _POOLS.items():
        samples = np.array([pool(scores, draw) for draw in draws])
        samples = samples[np.isfinite(samples)]
        low, high = np.percentile(samples, [2.5, 97.5]) if len(samples) else (np.nan, np.nan)
        figures[name] = Figure(float(pool(scores, everything)), float(low), float(high))
    return figures


def mouth_speed(opening: np.ndarray, rows: np.ndarray | None = None) -> float:
    """Mean absolute speed of the opening in mm/s over `rows`, a mask (default: all)."""
    speed = np.abs(np.diff(opening, prepend=opening[:1])) * CURVE_RATE
    return float(speed[rows].mean() if rows is not None else speed.mean())


def to_curve_rate(values: np.ndarray, times: np.ndarray, num_rows: int) -> np.ndarray:
    """Read a curve given at `times` on the rows that are scored."""
    return np.interp((np.arange(num_rows) + 0.5) / CURVE_RATE, times, values)


def _score_clips(clips: Sequence[Any], curves: Sequence[Curves], seed: int) -> list[_ClipScores]:
    generator = np.random.default_rng(seed)
    null = np.full((NULL_SHIFTS, len(clips)), np.nan)
    for shift in range(NULL_SHIFTS):
        for index, (clip, (opening, _)) in enumerate(zip(clips, curves, strict=True)):
            least = min(CURVE_RATE // 2, clip.n // 4)
            rolled = np.roll(opening, int(generator.integers(least, max(least + 1, clip.n - least))))
            row = clip.score(rolled, None, closed=0.0, lag=False) if len(clip.clos) else {}
            null[shift, index] = row.get("closure_recall", np.nan)
    scores = []
    for index, (clip, (opening, width)) in enumerate(zip(clips, curves, strict=True)):
        events = float(len(clip.clos))
        scores.append(
            _ClipScores(
                row=clip.score(opening, width, closed=0.0),
                null_recalls=null[:, index],
                gaps_mm=np.array([max(0.0, float(opening[start:stop].min())) for start, stop in clip.clos]),
                weights={"events": events, "rows": float(clip.n), "pause": float(clip.core.sum())},
            )
        )
    return scores


_Pool = Callable[[Sequence[_ClipScores], np.ndarray], float]


def _weighted(name: str, weight: str) -> _Pool:
    def pool(scores: Sequence[_ClipScores], draw: np.ndarray) -> float:
        rows = [(scores[i].row[name], scores[i].weights[weight]) for i in draw if name in scores[i].row]
        rows = [(value, amount) for value, amount in rows if np.isfinite(value) and amount > 0]
        total = sum(amount for _, amount in rows)
        return sum(value * amount for value, amount in rows) / total if total else float("nan")

    return pool


def _null(scores: Sequence[_ClipScores], draw: np.ndarray) -> float:
    chosen = [scores[i] for i in draw if scores[i].weights["events"]]
    if not chosen:
        return float("nan")
    return float(np.average([s.null_recalls.mean() for s in chosen], weights=[s.weights["events"] for s in chosen]))


def _recall_minus_null(scores: Sequence[_ClipScores], draw: np.ndarray) -> float:
    return _recall(scores, draw) - _null(scores, draw)


def _gap(scores: Sequence[_ClipScores], draw: np.ndarray) -> float:
    gaps = np.concatenate([scores[i].gaps_mm for i in draw])
    return float(gaps.mean()) if len(gaps) else float("nan")


def _lag(scores: Sequence[_ClipScores], draw: np.ndarray) -> float:
    lags = [scores[i].row["lag_ms"] for i in draw if "lag_ms" in scores[i].row]
    return float(np.median(lags)) if lags else float("nan")


_recall = _weighted("closure_recall", "events")
_POOLS: dict[str, _Pool] = {
    "closure_recall": _recall,
    "null": _null,
    "recall_minus_null": _recall_minus_null,
    "closure_auc": _weighted("closure_auc", "events"),
    "gap_mm": _gap,
    "r": _weighted("r", "rows"),
    "width_r": _weighted("width_r", "rows"),
    "lag_ms": _lag,
    "silence_motion": _weighted("silence_motion", "pause"),
}
