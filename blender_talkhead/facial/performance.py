"""A recorded performance and the controls on it: strengths, blinks, gaze, head motion, smoothing, expressions.

The mouth is linear in its curves, so the gap between the lips is known for every mixture of them. Where speech shuts
the lips they stay shut under every control: all that speech does at the mouth is then scaled alike, and never up;
smoothing leaves out such frames; and what an expression would open there is taken back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .blendshapes import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from .blink_rate import MAX_RATE, thin_out_blinks
from .blinks import compute_blink_curve, decode_blinks
from .expressions import (
    BLINK,
    EXPRESSIONS,
    JAW,
    LID_SHAPING,
    LOOK,
    MOUTH,
    PRESSING,
    ROUNDING,
    SPREADING,
    UPPER_FACE,
    expression_curves,
)
from .rotations import scale_rotations

FloatArray = NDArray[np.float32]

MAX_STRENGTH = 2.0
LARGEST_SMOOTHING_SECONDS = 0.100
"""Standard deviation of the Gaussian at smoothing 1."""
CROSSFADE_SECONDS = 0.4
"""How long one expression takes to become another."""
CLOSED_MM = (0.4, 2.0)
"""Mean gaps of the lips up to which they count as shut, and from which they do not at all."""
SPEAKING_MM = (1.0, 2.5)
"""A shut mouth is one of speech when the lips part by this much close by in time; else it rests."""
PRESSED = (0.08, 0.25)
"""Weights of a lip press from which shut lips begin to be, and surely are, those of speech."""
NEAR_SECONDS = 0.35
EXPRESSION_GAP_MM = 0.1
"""Gap that an expression may leave between lips that speech shuts."""
_OPENING_MM = 0.3
"""A curve opens the mouth when it parts the lips by more than this at weight 1."""
_SMOOTHING_LEVELS = 4
_GUARD_STEPS = 8
_ROUNDED_GIVES_WAY = 0.6


@dataclass(frozen=True)
class Performance:
    """What a take knows of its motion: curves at the clip's own frames, before any control."""

    frame_rate: float
    weights: FloatArray
    """(T, 52) ARKit curves, 0..1."""
    residual: FloatArray
    """(T, K) weights, 0..1, of the shapes that hold what the ARKit curves leave out; they belong to the mouth."""
    lip_gaps: FloatArray
    """(52 + K, P) gap between facing points of the lips that each curve gives at weight 1, millimetres."""
    head_rotation: FloatArray | None = None
    """(T, 4) quaternions relative to rest, w first, backend axes."""
    eye_rotations: FloatArray | None = None
    """(T, 2, 4) of the left and right eye, relative to the head."""
    blinks: FloatArray | None = None
    """(N, 6) rows of BLINK_COLUMNS that the lids' curves are made of, with those that a higher rate adds; None where
    the curves alone are known."""

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.weights)


@dataclass(frozen=True)
class Controls:
    """The controls at each frame of a performance; each (T,) but for `expressions`."""

    mouth_strength: FloatArray
    """Factor on all that speech does at the mouth, the jaw too; 0..2."""
    jaw_strength: FloatArray
    """Factor on the jaw, beside that; 0..2."""
    upper_face_strength: FloatArray
    """Factor on brows, cheeks, nose and squints; 0..2."""
    blink_rate: FloatArray
    """Factor on the number of blinks, 0..2."""
    head_motion: FloatArray
    """Factor on the head's rotation, 0..2."""
    gaze: FloatArray
    """Factor on the eyes' rotation, and on the lids that follow it; 0..2."""
    smoothing: FloatArray
    """0..1: how much slower the face moves; blinks and shut lips stay."""
    expressions: FloatArray
    """(T, 5) amount of each of EXPRESSIONS, 0..1."""

    @classmethod
    def neutral(cls, num_frames: int) -> Controls:
        """Controls that change nothing."""
        ones, zeros = np.ones(num_frames, np.float32), np.zeros(num_frames, np.float32)
        expressions = np.zeros((num_frames, len(EXPRESSIONS)), np.float32)
        return cls(ones, ones, ones, ones, ones, ones, zeros, expressions)


@dataclass(frozen=True)
class ComposedPerformance:
    """A performance under its controls; see `Performance` for the arrays."""

    weights: FloatArray
    residual: FloatArray
    """(T, K) from 0 up to MAX_STRENGTH."""
    head_rotation: FloatArray | None = field(default=None)
    eye_rotations: FloatArray | None = field(default=None)


def compose_performance(performance: Performance, controls: Controls) -> ComposedPerformance:
    """Apply controls to a performance. Neutral controls give it back as it is.

    Raises:
        ValueError: the controls are of another number of frames.
    """
    if controls.mouth_strength.shape != (performance.num_frames,):
        raise ValueError(f"expected controls of {performance.num_frames} frames, got {controls.mouth_strength.shape}")
    strength = np.clip(controls.mouth_strength, 0.0, MAX_STRENGTH)
    shut = find_closures(performance)
    strength = np.where(strength > 1.0, strength + shut * (1.0 - strength), strength)  # no gap that is left grows
    weights, residual = _smoothed(performance, np.clip(controls.smoothing, 0.0, 1.0), shut)
    strength = np.minimum(strength, np.maximum(1.0, 1.0 / np.maximum(weights[:, MOUTH].max(axis=1), 1e-6)))
    weights[:, MOUTH] *= strength[:, None]
    jaw = np.clip(controls.jaw_strength, 0.0, MAX_STRENGTH)
    weights[:, JAW] *= (jaw + (1.0 - jaw) * shut)[:, None]
    weights[:, UPPER_FACE] *= np.clip(controls.upper_face_strength, 0.0, MAX_STRENGTH)[:, None]
    gaze = np.clip(controls.gaze, 0.0, MAX_STRENGTH)
    weights[:, LOOK] *= gaze[:, None]
    rates = np.clip(controls.blink_rate, 0.0, MAX_RATE)
    weights[:, BLINK] = _blinking(performance, weights[:, BLINK], rates)
    weights = np.clip(weights, 0.0, 1.0)
    residual = residual * strength[:, None]
    weights = _with_expressions(performance, controls.expressions, weights, residual, shut)
    head, eyes = performance.head_rotation, performance.eye_rotations
    return ComposedPerformance(
        weights.astype(np.float32),
        residual.astype(np.float32),
        None if head is None else scale_rotations(head, np.clip(controls.head_motion, 0.0, MAX_STRENGTH)),
        None if eyes is None else scale_rotations(eyes, gaze),
    )


def measure_gaps(performance: Performance, weights: FloatArray, residual: FloatArray) -> FloatArray:
    """Return the gap (T, P) between facing points of the lips, millimetres; negative is overlap."""
    count = len(ARKIT_BLENDSHAPES)
    gaps = np.matmul(weights, performance.lip_gaps[:count]) + np.matmul(residual, performance.lip_gaps[count:])
    return gaps.astype(np.float32)


def find_closures(performance: Performance) -> FloatArray:
    """Return (T,) how far each frame is one of lips that speech shuts, 0..1.

    The lips touch or nearly so, and part soon after or did so shortly before, or are pressed together as for p b m: a
    mouth at rest may be opened.
    """
    opening = np.maximum(measure_gaps(performance, performance.weights, performance.residual), 0.0).mean(axis=1)
    reach = max(1, round(NEAR_SECONDS * performance.frame_rate))
    padded = np.pad(opening, reach, mode="edge")
    near = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=1)
    pressed = performance.weights[:, PRESSING].max(axis=1)
    spoken = np.maximum(_smoothstep(near, *SPEAKING_MM), _smoothstep(pressed, *PRESSED))
    shut: FloatArray = ((1.0 - _smoothstep(opening, *CLOSED_MM)) * spoken).astype(np.float32)
    return shut


def crossfade(amounts: FloatArray, frame_rate: float) -> FloatArray:
    """Soften the steps in time of (T, N) amounts, over CROSSFADE_SECONDS."""
    length = max(1, round(CROSSFADE_SECONDS * frame_rate)) | 1
    window = np.hanning(length + 2)[1:-1]
    return _filter_rows(amounts, window / window.sum())


def _smoothed(performance: Performance, smoothing: FloatArray, shut: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Curves and residual, each frame smoothed as its control says; blinks and shut lips stay as they are."""
    original = np.concatenate([performance.weights, performance.residual], axis=1)
    if not smoothing.any():
        return performance.weights.copy(), performance.residual.copy()
    position = smoothing * (_SMOOTHING_LEVELS - 1)
    result = np.zeros_like(original)
    for level in range(_SMOOTHING_LEVELS):
        share = np.clip(1.0 - np.abs(position - level), 0.0, 1.0).astype(np.float32)
        if share.any():
            sigma = LARGEST_SMOOTHING_SECONDS * level / (_SMOOTHING_LEVELS - 1) * performance.frame_rate
            result += share[:, None] * (original if level == 0 else _filter_rows(original, _gaussian(sigma)))
    result += shut[:, None] * (original - result)
    result[:, BLINK] = original[:, BLINK]
    count = len(ARKIT_BLENDSHAPES)
    return result[:, :count].copy(), result[:, count:].copy()


def _blinking(performance: Performance, lids: FloatArray, rates: FloatArray) -> FloatArray:
    """The curves of both lids (T, 2) at other blink rates."""
    if (rates == 1.0).all():
        return lids
    if performance.blinks is None:
        return thin_out_blinks(lids, rates, performance.frame_rate).astype(np.float32)
    blinks, times = decode_blinks(performance.blinks), np.arange(len(lids)) / performance.frame_rate
    natural, wanted = (compute_blink_curve(blinks, times, rate) for rate in (1.0, rates.astype(np.float64)))
    beside = np.where(natural[:, None] > 0.0, 0.0, lids)
    return np.maximum(beside, np.where((wanted == natural)[:, None], lids, wanted[:, None])).astype(np.float32)


def _with_expressions(
    performance: Performance, amounts: FloatArray, speech: FloatArray, residual: FloatArray, shut: FloatArray
) -> FloatArray:
    """Add the expressions under the speech; what would open shut lips is taken back."""
    patterns = np.zeros((len(EXPRESSIONS), len(ARKIT_BLENDSHAPES)), np.float32)
    for row, name in enumerate(EXPRESSIONS):
        for curve, value in expression_curves(name).items():
            patterns[row, BLENDSHAPE_INDEX[curve]] = value
    added = np.clip(amounts, 0.0, 1.0) @ patterns
    if not added.any():
        return speech
    opens = performance.lip_gaps[: len(ARKIT_BLENDSHAPES)].mean(axis=1) > _OPENING_MM
    opening = [column for column in MOUTH if opens[column]]
    added[:, opening] *= (1.0 - shut)[:, None]
    rounded = np.clip(speech[:, ROUNDING].sum(axis=1), 0.0, 1.0)
    added[:, SPREADING] *= (1.0 - _ROUNDED_GIVES_WAY * rounded)[:, None]
    mouth = np.zeros(len(ARKIT_BLENDSHAPES), bool)
    mouth[list(MOUTH)] = True
    added[:, mouth] *= _guard(performance, speech, residual, added * mouth, shut)[:, None]
    result = np.clip(speech + added, 0.0, 1.0)
    result[:, BLINK] = np.maximum(speech[:, BLINK], added[:, BLINK])
    result[:, LID_SHAPING] *= 1.0 - speech[:, BLINK].max(axis=1, keepdims=True)
    return result


def _guard(
    performance: Performance, speech: FloatArray, residual: FloatArray, added: FloatArray, shut: FloatArray
) -> FloatArray:
    """Return (T,) the largest share of what is added that leaves shut lips shut."""
    kept: FloatArray = np.ones(len(speech), np.float32)
    frames = np.flatnonzero((shut > 0.0) & added.any(axis=1))
    alone = np.maximum(measure_gaps(performance, speech[frames], residual[frames]), 0.0).max(axis=1)
    allowed = alone + EXPRESSION_GAP_MM + np.where(shut[frames] < 1.0, (1.0 - shut[frames]) * 10.0, 0.0)
    for step in range(_GUARD_STEPS, -1, -1):
        share = step / _GUARD_STEPS
        mixed = np.clip(speech[frames] + share * added[frames], 0.0, 1.0)
        kept[frames] = share
        is_open = measure_gaps(performance, mixed, residual[frames]).max(axis=1) > allowed
        frames, allowed = frames[is_open], allowed[is_open]
        if not len(frames):
            break
    if (kept == 1.0).all():
        return kept
    return np.minimum(kept, _filter_rows(kept[:, None], _gaussian(1.5))[:, 0])


def _gaussian(sigma: float) -> NDArray[np.float64]:
    reach = max(1, int(np.ceil(3.0 * sigma)))
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    normalized: NDArray[np.float64] = window / window.sum()
    return normalized


def _filter_rows(rows: NDArray[np.floating], window: NDArray[np.floating]) -> FloatArray:
    """Weighted moving mean in time of (T, N), edges repeated; a constant stays as it is."""
    reach = len(window) // 2
    padded = np.pad(rows, ((reach, reach), (0, 0)), mode="edge")
    result = np.zeros(rows.shape, np.float64)
    for offset, weight in enumerate(window):
        result += weight * padded[offset : offset + len(rows)]
    return result.astype(np.float32)


def _smoothstep(values: NDArray[np.floating], low: float, high: float) -> NDArray[np.floating]:
    x = np.clip((values - low) / (high - low), 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)
