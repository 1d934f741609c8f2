"""Fewer or more blinks in a curve of the lids whose events are not known."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_RATE = 2.0
"""Largest factor on the number of blinks."""
_CLOSING_SECONDS, _CLOSED_SECONDS, _OPENING_SECONDS = 0.080, 0.040, 0.150
_LEAST_PEAK = 0.4
"""A blink closes the lids at least so far; less is a narrowing of the eyes."""
_EDGE = 0.02
_LEAST_DISTANCE_SECONDS = 0.5
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class BlinkEvent:
    """One blink of a curve."""

    start: int
    stop: int
    """First frame of it, and the one behind its last."""
    peak: int


def find_blink_events(curve: NDArray[np.floating]) -> list[BlinkEvent]:
    """Return the blinks of a curve of lids (T,), 0 open to 1 shut."""
    above = np.concatenate([[False], curve > _EDGE, [False]])
    edges = np.flatnonzero(np.diff(above.astype(np.int8))).reshape(-1, 2)
    return [
        BlinkEvent(int(start), int(stop), int(start + curve[start:stop].argmax()))
        for start, stop in edges
        if curve[start:stop].max() >= _LEAST_PEAK
    ]


def thin_out_blinks(lids: NDArray[np.floating], rates: NDArray[np.floating], frame_rate: float) -> NDArray[np.floating]:
    """Leave out blinks, or add some between those that are there.

    Which ones are chosen follows from their number alone, evenly spread, so that a rate gives the same blinks again,
    and those of a lower rate are among those of a higher one.

    Args:
        lids: (T, 2) curves of the left and right lid, 0 open to 1 shut.
        rates: (T,) factor on the number of blinks, 0..MAX_RATE; 1 changes nothing.
        frame_rate: frames per second.

    Returns:
        (T, 2).
    """
    result = lids.copy()
    if (rates == 1.0).all():
        return result
    events = find_blink_events(lids.max(axis=1))
    for number, event in enumerate(events):
        if _rank(number) >= rates[event.peak]:
            result[event.start : event.stop] = 0.0
    seconds = np.arange(len(lids)) / frame_rate
    for number, frame in enumerate(_free_places(events, len(lids), frame_rate)):
        if _rank(number) < (rates[frame] - 1.0) / (MAX_RATE - 1.0):
            shape = blink_shape(seconds - frame / frame_rate + _CLOSING_SECONDS)
            result = np.maximum(result, shape[:, None])
    return result


def blink_shape(seconds: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return how far the lids are shut, 0..1, at times since a blink began."""
    closing = _smoothstep(seconds / _CLOSING_SECONDS)
    return closing * (1.0 - _smoothstep((seconds - _CLOSING_SECONDS - _CLOSED_SECONDS) / _OPENING_SECONDS))


def _rank(number: int) -> float:
    return float(((number + 1) * _GOLDEN) % 1.0)


def _free_places(events: list[BlinkEvent], num_frames: int, frame_rate: float) -> list[int]:
    """Frames of blinks that could be added: one in the middle of each stretch between two that has room."""
    borders = [0, *(event.peak for event in events), num_frames - 1]
    places: list[int] = []
    for start, stop in itertools.pairwise(borders):
        if (stop - start) / 2 >= _LEAST_DISTANCE_SECONDS * frame_rate:
            places.append(round((start + stop) / 2))
    return places


def _smoothstep(x: NDArray[np.floating]) -> NDArray[np.floating]:
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)
