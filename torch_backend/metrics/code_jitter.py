"""How much expression codes jump from frame to frame (FaceTalk, Table 4 and Figure 9)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def frame_difference_mae(codes: NDArray[np.floating]) -> float:
    """Mean absolute difference between adjacent frames, over frames and entries (Table 4). Lower is smoother.

    Args:
        codes: (T, X) in the codes' unit.

    Raises:
        ValueError: fewer than 2 frames.
    """
    return float(np.abs(_differences(codes)).mean())


def frame_difference_rmse(codes: NDArray[np.floating]) -> float:
    """Root mean square difference between adjacent frames, over frames and entries (Table 4). Lower is smoother.

    Args:
        codes: (T, X) in the codes' unit.

    Raises:
        ValueError: fewer than 2 frames.
    """
    return float(np.sqrt(np.square(_differences(codes)).mean()))


def second_difference_rmse(codes: NDArray[np.floating]) -> float:
    """Root mean square of x[t-1] - 2 x[t] + x[t+1]: jitter alone, for steady motion has none (ours). Lower is smoother.

    Args:
        codes: (T, X) in the codes' unit.

    Raises:
        ValueError: fewer than 3 frames.
    """
    if codes.ndim != 2 or len(codes) < 3:
        raise ValueError(f"expected codes (T, X) of at least 3 frames, got {codes.shape}")
    return float(np.sqrt(np.square(np.diff(codes.astype(np.float64), n=2, axis=0)).mean()))


def neighbor_correlation(codes: NDArray[np.floating]) -> float:
    """Correlation of adjacent frames: cosine of codes without their mean, averaged (Figure 9). Higher is smoother.

    Args:
        codes: (T, X).

    Raises:
        ValueError: fewer than 2 frames.
    """
    _differences(codes)
    centered = codes.astype(np.float64) - codes.mean(axis=0, dtype=np.float64)
    lengths = np.linalg.norm(centered, axis=1)
    products = (centered[1:] * centered[:-1]).sum(axis=1)
    scale = lengths[1:] * lengths[:-1]
    return float(np.where(scale > 0, products / np.where(scale > 0, scale, 1.0), 1.0).mean())


def _differences(codes: NDArray[np.floating]) -> NDArray[np.float64]:
    if codes.ndim != 2 or len(codes) < 2:
        raise ValueError(f"expected codes (T, X) of at least 2 frames, got {codes.shape}")
    return np.diff(codes.astype(np.float64), axis=0)
