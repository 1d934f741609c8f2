"""Diversity of expression codes drawn for the same speech (FaceTalk, eq. 20)."""

from __future__ import annotations

import numpy as np


def compute_code_diversity(takes: list[np.ndarray]) -> float:
    """How far takes of one recording lie apart; higher is more diverse.

    D = 1 / (N K) sum_i sum_j sum_{l != j} ||e_ij - e_il||. The norm is taken a frame and averaged over the frames,
    because recordings differ in length. The inner sum has K - 1 terms that nothing divides by: state K beside D.

    Args:
        takes: one array (K, T, E) for each of N recordings, in the unit of the codes; K is the same for all.

    Returns:
        D.

    Raises:
        ValueError: no recording, fewer than two takes, or another number of takes in one of them.
    """
    counts = {len(codes) for codes in takes}
    if len(counts) != 1 or min(counts) < 2 or any(codes.ndim != 3 for codes in takes):
        raise ValueError(f"expected arrays (K, T, E) with the same K >= 2, got {[codes.shape for codes in takes]}")
    total = 0.0
    for codes in takes:
        for index, code in enumerate(codes):
            distances = np.linalg.norm(codes.astype(np.float64) - code, axis=-1)  # (K, T); 0 for the take itself
            total += float(np.delete(distances, index, axis=0).mean(axis=1).sum())
    return total / (len(takes) * counts.pop())
