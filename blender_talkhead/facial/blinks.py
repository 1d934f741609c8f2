"""Blinks as events, and the curve of the lids that they make: what the backend plans and stores with a clip."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Blink:
    """One blink: the lids close, stay shut for a moment, and open more slowly than they closed."""

    start_seconds: float
    """When the lids begin to close."""
    closing_seconds: float
    closed_seconds: float
    opening_seconds: float
    closure: float
    """How far the lids close: 1 is shut."""
    rate: float
    """The blink happens where the blink rate is at least this: 0..1 for the natural blinks, which all happen at rate 1;
    1..2 for those that a higher rate adds. Half of the natural ones happen at 0.5, evenly spread."""

    @property
    def end_seconds(self) -> float:
        """When the lids are open again."""
        return self.start_seconds + self.closing_seconds + self.closed_seconds + self.opening_seconds


BLINK_COLUMNS = tuple(entry.name for entry in fields(Blink))
"""Columns of blinks as an array."""


_OPENING_POWER = 0.55  # lids close 1.4 to 1.5 times as fast as they open (Sforza et al., 2008), and open at once


def encode_blinks(blinks: Iterable[Blink]) -> NDArray[np.float32]:
    """Return blinks as rows (N, 6) float32 of BLINK_COLUMNS."""
    rows = [astuple(blink) for blink in blinks]
    return np.array(rows, np.float32).reshape(-1, len(BLINK_COLUMNS))


def decode_blinks(rows: NDArray[np.floating]) -> tuple[Blink, ...]:
    """Return the blinks of rows (N, 6).

    Raises:
        ValueError: another shape.
    """
    if rows.ndim != 2 or rows.shape[1] != len(BLINK_COLUMNS):
        raise ValueError(f"expected blinks of shape (N, {len(BLINK_COLUMNS)}), got {rows.shape}")
    return tuple(Blink(*(float(value) for value in row)) for row in rows)


def compute_blink_curve(blinks: Iterable[Blink], times: FloatArray, rate: float | FloatArray = 1.0) -> FloatArray:
    """Compute how far the lids are closed.

    Args:
        blinks: in any order.
        times: (T,) seconds, ascending.
        rate: factor on the natural rate, 0..2; one number, or (T,) that changes with time. A blink takes the rate at
            its start and is whole or not at all.

    Returns:
        (T,) float64 in 0..1.
    """
    times = np.asarray(times, np.float64)
    rates = np.broadcast_to(np.asarray(rate, np.float64), times.shape)
    curve = np.zeros(len(times))
    for blink in blinks:
        begin = int(np.searchsorted(times, blink.start_seconds, "left"))
        stop = int(np.searchsorted(times, blink.end_seconds, "right"))
        if begin < stop and rates[begin] >= blink.rate:
            part = slice(begin, stop)
            curve[part] = np.maximum(curve[part], blink_shape(blink, times[part]))
    return curve


def blink_shape(blink: Blink, times: FloatArray) -> FloatArray:
    """Closure of the lids (T,) of one blink: a smooth fall, a plateau, and a rise that begins fast and ends slowly."""
    since = np.asarray(times, np.float64) - blink.start_seconds
    closing = _smoothstep(since / blink.closing_seconds)
    after = (since - blink.closing_seconds - blink.closed_seconds) / blink.opening_seconds
    opening = _smoothstep(np.clip(after, 0.0, 1.0) ** _OPENING_POWER)
    shape: FloatArray = blink.closure * closing * (1.0 - opening)
    return shape


def _smoothstep(x: FloatArray) -> FloatArray:
    x = np.clip(x, 0.0, 1.0)
    smooth: FloatArray = x * x * (3.0 - 2.0 * x)
    return smooth
