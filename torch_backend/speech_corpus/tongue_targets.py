"""What the tongue does in each phone: degrees of three gestures, from soft phone posteriors.

Three gestures, 0..1 each: the tip at the ridge behind the upper teeth (1 touches it), the back at the palate, the blade
between the teeth. They are places relative to teeth and palate, not amounts of motion: how far the tongue has to go
depends on how open the jaw is (torch_backend/head/tongue_motion.py). Targets are the places of articulation of English
consonants as any phonetics handbook gives them; vowels only tell high and front from low.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from torch_backend.speech_corpus.phones import PHONE_INDEX, PHONES, SILENCE, VOWELS

GESTURES = ("tip", "back", "between")

TIP: dict[str, float] = {
    "T": 1.0, "D": 1.0, "N": 1.0, "L": 1.0, "S": 0.85, "Z": 0.85, "SH": 0.75, "ZH": 0.75, "CH": 0.85, "JH": 0.85,
    "R": 0.55, "ER": 0.5, "Y": 0.25, "IY": 0.25,
}  # fmt: skip
"""Stops, nasal and lateral touch the ridge; sibilants leave a groove; /r/ curls without contact."""
BACK: dict[str, float] = {
    "K": 1.0, "G": 1.0, "NG": 1.0, "IY": 0.45, "Y": 0.5, "IH": 0.3, "UW": 0.45, "W": 0.45, "UH": 0.35, "OW": 0.3,
    "SH": 0.35, "ZH": 0.35, "CH": 0.35, "JH": 0.35, "R": 0.3, "ER": 0.3, "EY": 0.25, "OY": 0.15,
}  # fmt: skip
"""Velars touch the palate; high vowels raise the body half way."""
BETWEEN: dict[str, float] = {"TH": 1.0, "DH": 1.0}

_SMOOTHING_SECONDS = 0.110
_LIMITS = (0.10, 0.90)
"""Shares of the pull at which a gesture begins and is complete: traces of other phones move nothing."""
_FREE, _VOWEL, _SILENCE = 0.12, 0.30, 0.60
_DENTAL = 2.5
"""The fricatives of "then" and "thin" are short, and an encoder doubts them: they insist more than any other phone."""


def build_tongue_tables() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Targets and how strongly each phone insists on them.

    Returns:
        targets (40, 3) in 0..1 and dominance (40, 3), columns as GESTURES. A phone that needs the tongue insists;
        labials leave it where their neighbours want it.
    """
    targets = np.zeros((len(PHONES), len(GESTURES)))
    for column, table in enumerate((TIP, BACK, BETWEEN)):
        for phone, degree in table.items():
            targets[PHONE_INDEX[phone], column] = degree
    dominance = np.full(targets.shape, _FREE)
    for phone in VOWELS:
        dominance[PHONE_INDEX[phone]] = _VOWEL
    dominance[PHONE_INDEX[SILENCE]] = _SILENCE
    busy = [PHONE_INDEX[phone] for phone in PHONES if phone in {*TIP, *BACK, *BETWEEN} and phone not in VOWELS]
    dominance[busy] = np.where(targets[busy] > 0.0, 1.0, 0.45)
    for phone in BETWEEN:
        dominance[PHONE_INDEX[phone], GESTURES.index("between")] = _DENTAL
    return targets, dominance


_TARGETS, _DOMINANCE = build_tongue_tables()


def tongue_gestures(
    posteriors: NDArray[np.floating], row_rate: float, times: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Turn phone posteriors into gestures of the tongue. A value depends on the posteriors within 60 ms only.

    Args:
        posteriors: (A, 40) probabilities, columns as PHONES; row k is centred at (k + 0.5) / row_rate.
        row_rate: rows per second.
        times: (T,) seconds.

    Returns:
        (T, 3) in 0..1, columns as GESTURES; 0 in silence.

    Raises:
        ValueError: posteriors has another shape.
    """
    if posteriors.ndim != 2 or posteriors.shape[1] != len(PHONES) or not len(posteriors):
        raise ValueError(f"expected posteriors (A >= 1, {len(PHONES)}), got {posteriors.shape}")
    taps = max(1, round(_SMOOTHING_SECONDS * row_rate)) | 1
    window = np.hanning(taps + 2)[1:-1]
    padded = np.pad(posteriors.astype(np.float64), ((taps // 2, taps // 2), (0, 0)), mode="edge")
    smooth = np.lib.stride_tricks.sliding_window_view(padded, taps, axis=0) @ (window / window.sum())
    share = (smooth @ (_DOMINANCE * _TARGETS)) / np.maximum(smooth @ _DOMINANCE, 1e-9)
    degree = np.clip((share - _LIMITS[0]) / (_LIMITS[1] - _LIMITS[0]), 0.0, 1.0)
    rows = (np.arange(len(posteriors)) + 0.5) / row_rate
    columns = [np.interp(times, rows, degree[:, column]) for column in range(len(GESTURES))]
    return np.stack(columns, axis=1).astype(np.float32)
