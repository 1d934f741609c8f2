"""A performance as few bytes: what a .blend file keeps of a take, so that its controls need no inference."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .performance import FloatArray, Performance
from .remainder import CURVE_STEPS

_MAGIC = b"THP1"
_HALF = 32767
_PLAIN = ("lip_gaps", "blinks")
"""Arrays stored as they are."""


def encode_performance(performance: Performance) -> bytes:
    """Pack a performance: curves in steps of 1/65535, rotations in steps of 1/32767, differences in time, deflated.

    About 4 kB a second of speech. `decode_performance` gives it back to within half a step.
    """
    arrays: list[tuple[str, NDArray[Any]]] = [
        ("weights", _differences(np.round(np.clip(performance.weights, 0, 1) * CURVE_STEPS))),
        ("residual", _differences(np.round(np.clip(performance.residual, 0, 1) * CURVE_STEPS))),
        ("lip_gaps", np.ascontiguousarray(performance.lip_gaps, "<f4")),
    ]
    if performance.blinks is not None:
        arrays.append(("blinks", np.ascontiguousarray(performance.blinks, "<f4")))
    for name in ("head_rotation", "eye_rotations"):
        rotation = getattr(performance, name)
        if rotation is not None:
            arrays.append((name, _differences(np.round(np.clip(rotation, -1, 1) * _HALF) + _HALF)))
    header = {
        "frame_rate": performance.frame_rate,
        "arrays": [[name, list(array.shape)] for name, array in arrays],
    }
    text = json.dumps(header).encode()
    body = b"".join(array.tobytes() for _, array in arrays)
    return _MAGIC + struct.pack("<I", len(text)) + text + zlib.compress(body, 6)


def decode_performance(data: bytes) -> Performance:
    """Unpack what `encode_performance` gave.

    Raises:
        ValueError: it is something else, or damaged.
    """
    try:
        if data[:4] != _MAGIC:
            raise ValueError(f"expected data that begins with {_MAGIC!r}, got {data[:4]!r}")
        (length,) = struct.unpack("<I", data[4:8])
        header = json.loads(data[8 : 8 + length])
        body = zlib.decompress(data[8 + length :])
        fields: dict[str, Any] = {"frame_rate": float(header["frame_rate"])}
        start = 0
        for name, shape in header["arrays"]:
            kind = np.dtype("<f4" if name in _PLAIN else "<u2")
            count = int(np.prod(shape))
            array = np.frombuffer(body, kind, count, start).reshape(shape)
            start += count * kind.itemsize
            fields[name] = _restore(name, array)
        return Performance(**fields)
    except (struct.error, zlib.error, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the stored performance is damaged: {error}") from error


def _differences(values: NDArray[np.floating]) -> NDArray[np.uint16]:
    steps = values.astype("<u2")
    return np.diff(steps, axis=0, prepend=np.zeros_like(steps[:1])).astype("<u2")  # wraps round, and back again


def _restore(name: str, array: NDArray[Any]) -> FloatArray:
    if name in _PLAIN:
        return array.astype(np.float32)
    steps = np.cumsum(array, axis=0, dtype=np.uint16).astype(np.float32)
    return steps / np.float32(CURVE_STEPS) if name in ("weights", "residual") else (steps - _HALF) / np.float32(_HALF)
