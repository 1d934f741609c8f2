"""Phones with times (or soft phone posteriors) to ARKit blendshape curves, with coarticulation.

Dominance model (Loefqvist 1990; Cohen and Massaro 1993): every phone pulls each articulator towards its target with a
strength that is full inside the phone and falls off exponentially outside it; a curve is the weighted mean of the
pulls. Jaw, rounding, spreading and parting have weights and time constants of their own (viseme_targets.py).

Contact is not a pull. Over the means lie gates that nothing overrides:

- p b m: on the plateau of the gate mouthClose equals jawOpen and every curve that parts the lips is zero, so the lips
  meet whatever the speech rate; the plateau is wider than one frame at 24 fps, so that sampling cannot miss it;
- f v: the jaw is nearly shut, the lower lip rolls in under the upper teeth, the upper lip lifts;
- pauses: everything returns to rest and is still.

Vowels, in contrast, undershoot when they are short (Lindblom 1963). The curves are functions of time: the value at a
time does not depend on the other times asked for, so 24, 30 and 60 fps sample one curve. Nothing reaches further than
REACH_SECONDS beyond a phone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from torch_backend.audio.prosody import ProsodyTrack
from torch_backend.speech_corpus.expression import compute_expression
from torch_backend.speech_corpus.phones import (
    BILABIALS,
    LABIODENTALS,
    PHONE_INDEX,
    PHONES,
    SILENCE,
    VOWELS,
    PhoneSegment,
)
from torch_backend.speech_corpus.viseme_targets import (
    ARTICULATORS,
    CURVES,
    DIPHTHONGS,
    NEUTRAL_JAW_OPEN,
    OFFGLIDE_SHARE,
    UNDERSHOOT_SECONDS,
    build_dominance,
    build_targets,
    build_time_constants,
)

REACH_SECONDS = 0.5
"""A phone's pull ends this far before and behind it."""
CLOSURE_PLATEAU_SECONDS = 0.042
"""Shortest plateau of a closure: one frame at 24 fps, the slowest rate in use."""
CLOSURE_RAMP_SECONDS = 0.055
CONTACT_RAMP_SECONDS = 0.050
SHORTEST_PAUSE_SECONDS = 0.25
"""Silences from here on return to rest; shorter ones are bridged by the pulls of the neighbours."""

_GRID_RATE = 200.0
_SMOOTHING_SECONDS = 0.05
_GATE_INSET_SECONDS = 0.010
_PAUSE_ONSET_SECONDS, _PAUSE_RELEASE_SECONDS, _PAUSE_RAMP_SECONDS = 0.13, 0.14, 0.10
_LABIODENTAL_JAW_OPEN, _LABIODENTAL_ROLL, _LABIODENTAL_UPPER_UP = 0.025, 0.50, 0.22
_CLOSURE_PRESS, _CLOSURE_JAW_DROP, _CLOSURE_PUCKER_DROP = 0.35, 0.35, 0.20
_CLOSURE_POSTERIOR, _CONTACT_POSTERIOR = (0.15, 0.45), (0.20, 0.60)
_PAUSE_POSTERIOR = (0.50, 0.90)
_PAUSE_POSTERIOR_REACH_SECONDS = 0.08
_HALF_FRAME_SECONDS = 1.0 / 60.0

_TARGETS = build_targets()
_DOMINANCE = build_dominance()
_TIME_CONSTANTS = build_time_constants()
_COLUMN = {name: index for index, name in enumerate(CURVES)}
_GROUPS = {name: [_COLUMN[curve] for curve in group.curves] for name, group in ARTICULATORS.items()}
_MOUTH_CURVES = (*CURVES, "mouthClose", "mouthRollLower", "mouthPress")


@dataclass(frozen=True)
class _Gesture:
    """One target and the interval in which it is fully wanted."""

    start: float
    end: float
    phone_index: int
    target: np.ndarray


@dataclass(frozen=True)
class _Gates:
    """(T,) degrees 0..1 of bilabial closure, labiodental contact and rest."""

    closure: np.ndarray
    contact: np.ndarray
    rest: np.ndarray


def articulate(
    segments: Sequence[PhoneSegment],
    times: np.ndarray,
    prosody: ProsodyTrack | None = None,
    expression_seed: int | None = None,
) -> np.ndarray:
    """Turn phones with times into blendshape curves.

    Args:
        segments: phones in order of time; gaps, and everything before the first and behind the last, are silence.
        times: (T,) seconds, ascending.
        prosody: adds the effort of loud speech to the jaw, and blinks, brows and squints (expression.py); without it
            the eyes and brows are still.
        expression_seed: varies the size of blinks and brow raises; None for none of that, which a network can learn.

    Returns:
        (T, 52) float32 in 0..1, columns as ARKIT_BLENDSHAPES.

    Raises:
        ValueError: a phone is unknown, a segment ends before it starts or starts before its predecessor, or times is
            not an ascending vector.
    """
    times = _validate_times(times)
    phones = _fill_silence(segments, times)
    curves = _interpolate_grid(phones, times)
    gates = _Gates(
        closure=_contact_gate(phones, times, BILABIALS, CLOSURE_RAMP_SECONDS),
        contact=_contact_gate(phones, times, LABIODENTALS, CONTACT_RAMP_SECONDS),
        rest=_rest_gate(phones, times),
    )
    return _finish(curves, gates, times, prosody, expression_seed)


def articulate_posteriors(
    posteriors: np.ndarray,
    posterior_times: np.ndarray,
    times: np.ndarray,
    prosody: ProsodyTrack | None = None,
    expression_seed: int | None = None,
) -> np.ndarray:
    """Turn soft phone posteriors into blendshape curves, by the rules of `articulate`.

    Each phone's posterior, held up exponentially before and behind its peaks, is the strength of its pull; for
    posteriors that are 0 or 1 this is the dominance model itself. The gates open and shut with the summed posteriors
    of p b m, of f v and of silence.

    Args:
        posteriors: (A, 40) probabilities, columns as PHONES.
        posterior_times: (A,) seconds, the centre of each row, ascending and evenly spaced.
        times: (T,) seconds, ascending.
        prosody: as in `articulate`.
        expression_seed: as in `articulate`.

    Returns:
        (T, 52) float32 in 0..1, columns as ARKIT_BLENDSHAPES.

    Raises:
        ValueError: the shapes do not fit together, or times is not an ascending vector.
    """
    times = _validate_times(times)
    posteriors = np.asarray(posteriors, np.float64)
    rows = np.asarray(posterior_times, np.float64)
    if posteriors.ndim != 2 or posteriors.shape != (len(rows), len(PHONES)) or not len(rows):
        raise ValueError(
            f"expected posteriors of shape ({len(rows)}, {len(PHONES)}) with at least one row, got {posteriors.shape}"
        )
    step = float(rows[1] - rows[0]) if len(rows) > 1 else 1.0 / 50.0
    smooth = np.zeros((len(rows), len(CURVES)))
    for name, columns in _GROUPS.items():
        pull = _hold_peaks(posteriors, step, *_TIME_CONSTANTS[name]) * _DOMINANCE[name]
        smooth[:, columns] = pull @ _TARGETS[:, columns] / (pull.sum(axis=1, keepdims=True) + 1e-9)
    smooth = _smooth_rows(smooth, max(1, round(_SMOOTHING_SECONDS / step)) | 1)
    curves = _interpolate_columns(times, rows, smooth)
    gates = _posterior_gates(posteriors, rows, step, times)
    return _finish(curves, gates, times, prosody, expression_seed)


def _validate_times(times: np.ndarray) -> np.ndarray:
    times = np.asarray(times, np.float64)
    if times.ndim != 1 or (len(times) > 1 and not (np.diff(times) > 0).all()):
        raise ValueError(f"expected ascending times of shape (T,), got shape {times.shape}")
    return times


def _fill_silence(segments: Sequence[PhoneSegment], times: np.ndarray) -> list[PhoneSegment]:
    """Segments without gaps from well before the first time to well behind the last; neighbouring silences merge."""
    begin = min([float(times[0]) if len(times) else 0.0, *(float(s[0]) for s in segments[:1])]) - 2 * REACH_SECONDS
    finish = max([float(times[-1]) if len(times) else 0.0, *(float(s[1]) for s in segments[-1:])]) + 2 * REACH_SECONDS
    filled: list[PhoneSegment] = [PhoneSegment(begin, begin, SILENCE)]
    for start, end, phone in [*segments, PhoneSegment(finish, finish, SILENCE)]:
        if phone not in PHONE_INDEX:
            raise ValueError(f"expected a phone of {' '.join(PHONES)}, got {phone!r}")
        last = filled[-1]
        if end < start or start < last.start_seconds - 1e-6:
            raise ValueError(f"expected segments in order of time, got {(start, end, phone)} behind {tuple(last)}")
        if start > last.end_seconds + 1e-6:
            _append_silence(filled, start)
        if phone == SILENCE:
            _append_silence(filled, end)
        elif end > start:
            filled.append(PhoneSegment(start, end, phone))
    return filled


def _append_silence(filled: list[PhoneSegment], end: float) -> None:
    """Continue with silence until `end`: the last segment grows when it is silence itself."""
    last = filled[-1]
    if last.phone == SILENCE:
        filled[-1] = PhoneSegment(last.start_seconds, max(end, last.end_seconds), SILENCE)
    elif end > last.end_seconds:
        filled.append(PhoneSegment(last.end_seconds, end, SILENCE))


def _reach_of_vowel(duration: float) -> float:
    return 1.0 - float(np.exp(-duration / UNDERSHOOT_SECONDS))


def _build_gestures(phones: Sequence[PhoneSegment]) -> list[_Gesture]:
    """Targets in time: undershoot applied, diphthongs split into nucleus and offglide."""
    gestures = []
    jaw = _COLUMN["jawOpen"]
    for start, end, phone in phones:
        index = PHONE_INDEX[phone]
        target = _TARGETS[index].copy()
        if phone in VOWELS:
            reach = _reach_of_vowel(end - start)
            target = target * reach
            target[jaw] += NEUTRAL_JAW_OPEN * (1.0 - reach)
        if phone in DIPHTHONGS:
            towards, share = DIPHTHONGS[phone]
            turn = end - OFFGLIDE_SHARE * (end - start)
            glide = target + share * _reach_of_vowel(end - start) * (_TARGETS[PHONE_INDEX[towards]] - target)
            gestures += [_Gesture(start, turn, index, target), _Gesture(turn, end, index, glide)]
        else:
            gestures.append(_Gesture(start, end, index, target))
    return gestures


def _interpolate_grid(phones: Sequence[PhoneSegment], times: np.ndarray) -> np.ndarray:
    """Weighted means of the targets: computed on a fixed 200 Hz grid, smoothed, then read at `times`."""
    if not len(times):
        return np.zeros((0, len(CURVES)))
    margin = 2 * _SMOOTHING_SECONDS
    first = int(np.floor((times[0] - margin) * _GRID_RATE))
    grid = np.arange(first, int(np.ceil((times[-1] + margin) * _GRID_RATE)) + 1) / _GRID_RATE
    weighted = np.zeros((len(grid), len(CURVES)))
    weights = np.zeros((len(grid), len(CURVES)))
    for gesture in _build_gestures(phones):
        begin, stop = np.searchsorted(grid, [gesture.start - REACH_SECONDS, gesture.end + REACH_SECONDS])
        if begin == stop:
            continue
        part = slice(int(begin), int(stop))
        before = np.maximum(0.0, gesture.start - grid[part])
        after = np.maximum(0.0, grid[part] - gesture.end)
        for name, columns in _GROUPS.items():
            ahead_seconds, after_seconds = (constants[gesture.phone_index] for constants in _TIME_CONSTANTS[name])
            strength = _DOMINANCE[name][gesture.phone_index]
            pull = (strength * np.exp(-before / ahead_seconds - after / after_seconds))[:, None]
            weighted[part, columns] += pull * gesture.target[columns]
            weights[part, columns] += pull
    smooth = _smooth_rows(weighted / (weights + 1e-12), round(_SMOOTHING_SECONDS * _GRID_RATE) | 1)
    return _interpolate_columns(times, grid, smooth)


def _smooth_rows(values: np.ndarray, num_taps: int) -> np.ndarray:
    """Hann-weighted moving mean along the first axis, edges repeated."""
    if num_taps < 2 or not len(values):
        return values
    window = np.hanning(num_taps + 2)[1:-1]
    padded = np.pad(values, ((num_taps // 2, num_taps // 2), (0, 0)), mode="edge")
    frames = np.lib.stride_tricks.sliding_window_view(padded, num_taps, axis=0)
    return np.asarray(frames @ (window / window.sum()))


def _interpolate_columns(times: np.ndarray, grid: np.ndarray, values: np.ndarray) -> np.ndarray:
    columns = [np.interp(times, grid, values[:, column]) for column in range(values.shape[1])]
    return np.stack(columns, axis=1) if len(times) else np.zeros((0, values.shape[1]))


def _smoothstep(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def _contact_gate(
    phones: Sequence[PhoneSegment], times: np.ndarray, members: frozenset[str], ramp_seconds: float
) -> np.ndarray:
    """1 on a plateau inside each phone of `members`, smooth ramps outside it."""
    gate = np.zeros(len(times))
    for start, end, phone in phones:
        if phone in members:
            middle = (start + end) / 2
            half = max((end - start) / 2 - _GATE_INSET_SECONDS, CLOSURE_PLATEAU_SECONDS / 2)
            reach = half + ramp_seconds
            begin, stop = np.searchsorted(times, [middle - reach, middle + reach])
            part = slice(int(begin), int(stop))
            gate[part] = np.maximum(gate[part], _smoothstep(1.0 - (np.abs(times[part] - middle) - half) / ramp_seconds))
    return gate


def _rest_gate(phones: Sequence[PhoneSegment], times: np.ndarray) -> np.ndarray:
    """1 inside pauses, once the mouth has settled and until it prepares for the next phone."""
    gate = np.zeros(len(times))
    for start, end, phone in phones:
        if phone == SILENCE and end - start >= SHORTEST_PAUSE_SECONDS:
            settled, ready = start + _PAUSE_ONSET_SECONDS, end - _PAUSE_RELEASE_SECONDS
            if settled > ready:
                settled = ready = (settled + ready) / 2
            begin, stop = np.searchsorted(times, [start, end])
            part = slice(int(begin), int(stop))
            distance = np.maximum(settled - times[part], times[part] - ready)
            gate[part] = np.maximum(gate[part], _smoothstep(1.0 - distance / _PAUSE_RAMP_SECONDS))
    return gate


def _hold_peaks(
    posteriors: np.ndarray, step: float, ahead_seconds: np.ndarray, after_seconds: np.ndarray
) -> np.ndarray:
    """(A, 40) largest of every row's posterior, decayed exponentially with the distance in time."""
    held = posteriors.copy()
    fade, rise = np.exp(-step / after_seconds), np.exp(-step / ahead_seconds)
    for row in range(1, len(held)):
        np.maximum(held[row], held[row - 1] * fade, out=held[row])
    early = posteriors.copy()
    for row in range(len(early) - 2, -1, -1):
        np.maximum(early[row], early[row + 1] * rise, out=early[row])
    return np.maximum(held, early)


def _posterior_gates(posteriors: np.ndarray, rows: np.ndarray, step: float, times: np.ndarray) -> _Gates:
    def share(members: frozenset[str], limits: tuple[float, float]) -> np.ndarray:
        total = posteriors[:, sorted(PHONE_INDEX[phone] for phone in members)].sum(axis=1)
        # held for half a frame on both sides: a peak between two frames still shuts one of them
        held = [np.interp(times + shift, rows, total) for shift in (-_HALF_FRAME_SECONDS, 0.0, _HALF_FRAME_SECONDS)]
        return np.clip((np.max(held, axis=0) - limits[0]) / (limits[1] - limits[0]), 0.0, 1.0)

    silence = posteriors[:, PHONE_INDEX[SILENCE]]
    reach = max(1, round(_PAUSE_POSTERIOR_REACH_SECONDS / step))
    padded = np.pad(silence, reach, mode="edge")
    lowest = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).min(axis=1)
    lowest = _smooth_rows(lowest[:, None], 2 * reach + 1)[:, 0]
    rest = (np.interp(times, rows, lowest) - _PAUSE_POSTERIOR[0]) / (_PAUSE_POSTERIOR[1] - _PAUSE_POSTERIOR[0])
    return _Gates(
        closure=share(BILABIALS, _CLOSURE_POSTERIOR),
        contact=share(LABIODENTALS, _CONTACT_POSTERIOR),
        rest=_smoothstep(rest),
    )


def _finish(
    curves: np.ndarray,
    gates: _Gates,
    times: np.ndarray,
    prosody: ProsodyTrack | None,
    expression_seed: int | None,
) -> np.ndarray:
    """Apply effort and gates, spread the curves over the 52 columns, add the upper face."""
    values = {name: curves[:, column] for name, column in _COLUMN.items()}
    if prosody is not None:
        effort = _vocal_effort(prosody, times)
        values["jawOpen"] = values["jawOpen"] * effort
    values = _apply_gates(values, gates)
    output = np.zeros((len(times), len(ARKIT_BLENDSHAPES)))
    if prosody is not None:
        output += compute_expression(prosody, times, expression_seed)
    for name in _MOUTH_CURVES:
        for column in columns_of_curve(name):
            output[:, column] = values[name]
    return np.clip(output, 0.0, 1.0).astype(np.float32)


def build_mouth_generators() -> np.ndarray:
    """Return the curves that speech moves together, (G, 52) rows of 0 and 1: left and right are one."""
    rows = np.zeros((len(_MOUTH_CURVES), len(ARKIT_BLENDSHAPES)))
    for row, name in zip(rows, _MOUTH_CURVES, strict=True):
        row[columns_of_curve(name)] = 1.0
    return rows


def columns_of_curve(name: str) -> list[int]:
    """Columns of a curve: its own, or those of its left and right one."""
    if name in BLENDSHAPE_INDEX:
        return [BLENDSHAPE_INDEX[name]]
    return [BLENDSHAPE_INDEX[name + side] for side in ("Left", "Right")]


def _vocal_effort(prosody: ProsodyTrack, times: np.ndarray) -> np.ndarray:
    """(T,) factor on the jaw, 0.82..1.14: loud and stressed syllables open wider than their vowel alone says.

    The jaw falls further in loud speech (Schulman 1989; Geumann 2001) and under stress and emphasis, by some 10 to 30 %
    (de Jong 1995; Erickson 2002).
    """
    smooth = _smooth_rows(np.asarray(prosody.log_energy, np.float64)[:, None], 15)[:, 0]
    level = np.interp(times, prosody.times, smooth)
    return np.clip(1.09 + 0.08 * level, 0.82, 1.14)


def _apply_gates(values: dict[str, np.ndarray], gates: _Gates) -> dict[str, np.ndarray]:
    closure = gates.closure
    contact = gates.contact * (1.0 - closure)
    moving = 1.0 - gates.rest * (1.0 - closure)
    result = {name: curve * moving for name, curve in values.items()}
    jaw = result["jawOpen"]
    jaw = jaw * (1.0 - contact) + np.minimum(jaw, _LABIODENTAL_JAW_OPEN) * contact
    jaw = jaw * (1.0 - _CLOSURE_JAW_DROP * closure)
    apart = 1.0 - closure
    result["jawOpen"] = jaw
    result["mouthClose"] = closure * jaw
    result["mouthPress"] = _CLOSURE_PRESS * closure
    result["mouthPucker"] = result["mouthPucker"] * (1.0 - _CLOSURE_PUCKER_DROP * closure)
    result["mouthFunnel"] = result["mouthFunnel"] * apart * (1.0 - contact)
    result["mouthLowerDown"] = result["mouthLowerDown"] * apart * (1.0 - contact)
    result["mouthUpperUp"] = np.maximum(result["mouthUpperUp"] * apart, _LABIODENTAL_UPPER_UP * contact)
    result["mouthRollLower"] = _LABIODENTAL_ROLL * contact
    return result
