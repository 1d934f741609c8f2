"""How well posteriors name phones: frames, visemes, and the events that a mouth must not miss."""

from __future__ import annotations

import numpy as np

from torch_backend.speech_corpus.phones import BILABIALS, LABIODENTALS, PHONE_INDEX, PHONES
from torch_backend.speech_corpus.visemes import build_viseme_matrix

_EVENT_THRESHOLD = 0.3


class PhoneAccuracy:
    """Accumulates rows of posteriors against true phones.

    `compute` gives, all in 0..1 and higher is better: `phone`, `viseme` (share of rows whose most probable phone or
    viseme is right), `viseme_speech` (the same over rows that are not silence), and `bilabial_recall`,
    `labiodental_recall` (share of runs of P B M, of F V, in which the summed posterior of the group exceeds 0.3
    within the run widened by one row on both sides), and `bilabial_precision` (share of runs of summed P B M
    posterior over 0.5 that touch a true one within one row).
    """

    def __init__(self) -> None:
        self._visemes = build_viseme_matrix()
        self._counts: dict[str, list[float]] = {}

    def accumulate(self, posteriors: np.ndarray, labels: np.ndarray) -> None:
        """Take in one utterance.

        Args:
            posteriors: (A, 40) float, rows summing to one.
            labels: (A,) int indices of PHONES.

        Raises:
            ValueError: the shapes do not fit.
        """
        if posteriors.shape != (len(labels), len(PHONES)):
            raise ValueError(f"expected posteriors of shape {(len(labels), len(PHONES))}, got {posteriors.shape}")
        viseme_of = self._visemes.argmax(axis=1)
        viseme_right = (posteriors @ self._visemes).argmax(axis=1) == viseme_of[labels]
        speech = labels != PHONE_INDEX["SIL"]
        self._add("phone", posteriors.argmax(axis=1) == labels)
        self._add("viseme", viseme_right)
        self._add("viseme_speech", viseme_right[speech])
        for name, group in (("bilabial", BILABIALS), ("labiodental", LABIODENTALS)):
            indices = [PHONE_INDEX[phone] for phone in sorted(group)]
            evidence, truth = posteriors[:, indices].sum(axis=1), np.isin(labels, indices)
            hits = [evidence[max(0, a - 1) : b + 1].max() > _EVENT_THRESHOLD for a, b in find_runs(truth)]
            self._add(f"{name}_recall", np.array(hits))
            if name == "bilabial":
                claimed = [truth[max(0, a - 1) : b + 1].any() for a, b in find_runs(evidence > 0.5)]
                self._add("bilabial_precision", np.array(claimed))

    def compute(self) -> dict[str, float]:
        """Return the figures; one without any rows or events is left out."""
        return {name: hits / total for name, (hits, total) in self._counts.items() if total}

    def _add(self, name: str, hits: np.ndarray) -> None:
        entry = self._counts.setdefault(name, [0.0, 0.0])
        entry[0] += float(hits.sum())
        entry[1] += len(hits)


def find_runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Return [start, stop) of every run of true values in (N,) flags."""
    edges = np.diff(np.concatenate([[0], flags.astype(np.int8), [0]]))
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))
