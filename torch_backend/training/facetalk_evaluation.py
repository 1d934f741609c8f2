"""FaceTalk against the articulated truth: takes of held-out utterances, measured by maps of the codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from torch_backend.inference.facetalk_sampling import SamplingConfig, sample_codes
from torch_backend.metrics.code_diversity import compute_code_diversity
from torch_backend.models.facetalk import FaceTalk
from torch_backend.training.code_sequences import CodeSequences
from torch_backend.training.mouth_codes import MouthOfCodes

CLOSED_MM = 0.6
"""In truth the lips touch in frames whose opening is less than this."""
MET_MM = 1.0
"""A closure is met when the lips come nearer than this in one of its frames."""
SMALLEST_MOTION_MM = 1.0
"""Opening that a closure must come from and go to: lips at rest are none."""
_AROUND_FRAMES = 6

FloatArray = NDArray[np.float64]


def evaluate_facetalk(
    model: FaceTalk, sequences: CodeSequences, indices: Sequence[int], mouth: MouthOfCodes, sampling: SamplingConfig
) -> dict[str, float]:
    """Sample takes of sequences and compare them with their codes.

    Args:
        model: in evaluation mode.
        sequences: in the built-in head's expression space.
        indices: which of them to use.
        mouth: the measures.
        sampling: how to draw; its takes are those that diversity is measured over.

    Returns:
        closure_gap_mm: opening in the frames where the lips touch in truth, lower is better;
        closures_met: share of the closures in which the lips come nearer than 1 mm, higher is better;
        opening_r, width_r, lid_r: correlation with the truth, frames pooled, higher is better;
        opening_share: standard deviation of the opening over the true one, 1 is right;
        motion_share: mean frame-to-frame change of the opening over the true one, 1 is right;
        lid_share: the same of the lids;
        diversity: eq. 20 over `sampling.takes`, in code units; 0 for one take.
    """
    pairs, takes = [], []
    for index in indices:
        rows = sequences.rows(index)
        condition = torch.from_numpy(np.asarray(sequences.condition[rows], np.float32))
        drawn = sample_codes(model, condition, sampling).cpu().numpy()
        takes.append(drawn)
        pairs.append((np.asarray(sequences.codes[rows], np.float64), drawn[0].astype(np.float64)))
    figures = measure_codes(pairs, mouth)
    figures["diversity"] = compute_code_diversity(takes) if sampling.takes > 1 else 0.0
    return figures


def measure_codes(pairs: Sequence[tuple[FloatArray, FloatArray]], mouth: MouthOfCodes) -> dict[str, float]:
    """Compare true and predicted codes (T, E) of some sequences; see `evaluate_facetalk`."""
    opening, width, lids = (
        [[codes @ measure for codes in pair] for pair in pairs] for measure in (mouth.opening, mouth.width, mouth.lids)
    )
    gaps, met = [], []
    for true, predicted in opening:
        closed = np.abs(true) < CLOSED_MM
        gaps.append(np.abs(predicted[closed]))
        met += [bool(predicted[start:stop].min() < MET_MM) for start, stop in _closures(true, closed)]
    at_closures = np.concatenate(gaps)
    return {
        "closure_gap_mm": float(at_closures.mean()) if len(at_closures) else 0.0,
        "closures_met": float(np.mean(met)) if met else 1.0,
        "opening_r": _correlation(opening),
        "width_r": _correlation(width),
        "lid_r": _correlation(lids),
        "opening_share": _ratio(opening, lambda values: float(np.std(values))),
        "motion_share": _ratio(opening, lambda values: float(np.abs(np.diff(values)).mean())),
        "lid_share": _ratio(lids, lambda values: float(np.abs(np.diff(values)).mean())),
    }


def _closures(opening: FloatArray, closed: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Runs of closed frames with an open mouth shortly before and behind them."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], closed, [False]]).astype(np.int8)))
    runs = [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
    return [
        (start, stop)
        for start, stop in runs
        if opening[max(0, start - _AROUND_FRAMES) : start].max(initial=0.0) > SMALLEST_MOTION_MM
        and opening[stop : stop + _AROUND_FRAMES].max(initial=0.0) > SMALLEST_MOTION_MM
    ]


def _correlation(pairs: Sequence[Sequence[FloatArray]]) -> float:
    """Pearson's r over all frames; 0 where either side is constant."""
    true, predicted = (np.concatenate([pair[side] for pair in pairs]) for side in range(2))
    if true.std() < 1e-9 or predicted.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(true, predicted)[0, 1])


def _ratio(pairs: Sequence[Sequence[FloatArray]], measure: Callable[[FloatArray], float]) -> float:
    """A measure of the predicted over that of the true frames."""
    true, predicted = (measure(np.concatenate([pair[side] for pair in pairs])) for side in range(2))
    return float(predicted / max(true, 1e-9))
