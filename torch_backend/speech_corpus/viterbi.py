"""From phone posteriors to phones with times: the best path through a phone bigram (Viterbi 1967).

The bigram is counted on frames of the training corpus, so that staying in a phone is a transition like any other and
carries its typical duration. `python -m torch_backend.speech_corpus.viterbi CORPUS` counts it again.
"""

from __future__ import annotations

import argparse
import itertools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from torch_backend.speech_corpus.phones import PHONE_INDEX, PHONES, SILENCE, PhoneSegment

_LOGGER = logging.getLogger(__name__)

BIGRAM_PATH = Path(__file__).with_name("phone_bigram.npz")
POSTERIOR_RATE = 50.0
TRANSITION_WEIGHT = 0.5
"""Weight of the bigram against the posteriors."""
PRIOR_WEIGHT = 0.3
"""How much of the phones' frequency in the training corpus is taken out of the posteriors."""

_SMOOTHING_COUNT = 0.5
_POSTERIOR_FLOOR, _PRIOR_FLOOR = 1e-5, 1e-4


@dataclass(frozen=True)
class PhoneBigram:
    """Statistics of phones over frames, 50 a second."""

    log_transitions: np.ndarray
    """(40, 40) log probability of the column's phone after the row's phone."""
    log_priors: np.ndarray
    """(40,) log probability of each phone, floored."""


def label_rows(segments: Sequence[PhoneSegment], num_rows: int, row_rate: float = POSTERIOR_RATE) -> np.ndarray:
    """Return (num_rows,) phone indices at the row centres (row + 0.5) / row_rate; silence where there is no segment."""
    labels = np.full(num_rows, PHONE_INDEX[SILENCE], np.int64)
    centres = (np.arange(num_rows) + 0.5) / row_rate
    for start, end, phone in segments:
        first, stop = np.searchsorted(centres, [start, end])
        labels[first:stop] = PHONE_INDEX[phone]
    return labels


def estimate_bigram(utterances: Iterable[Sequence[PhoneSegment]]) -> PhoneBigram:
    """Count a bigram on the frames of utterances with known phones.

    Args:
        utterances: phones of each utterance, in order of time.

    Returns:
        The bigram, add-half smoothed.
    """
    counts = np.full((len(PHONES), len(PHONES)), _SMOOTHING_COUNT)
    occurrences = np.zeros(len(PHONES))
    for segments in utterances:
        if not segments:
            continue
        labels = label_rows(segments, int(segments[-1].end_seconds * POSTERIOR_RATE))
        occurrences += np.bincount(labels, minlength=len(PHONES))
        np.add.at(counts, (labels[:-1], labels[1:]), 1.0)
    return PhoneBigram(
        log_transitions=np.log(counts / counts.sum(axis=1, keepdims=True)),
        log_priors=np.log(occurrences / max(occurrences.sum(), 1.0) + _PRIOR_FLOOR),
    )


def save_bigram(bigram: PhoneBigram, path: Path = BIGRAM_PATH) -> None:
    """Write a bigram as a .npz file."""
    np.savez_compressed(
        path,
        phones=np.array(PHONES),
        log_transitions=bigram.log_transitions.astype(np.float32),
        log_priors=bigram.log_priors.astype(np.float32),
    )


@lru_cache(maxsize=4)
def load_bigram(path: Path = BIGRAM_PATH) -> PhoneBigram:
    """Read a bigram.

    Raises:
        ValueError: the file is of another phone set.
        OSError: the file cannot be read.
    """
    with np.load(path, allow_pickle=False) as arrays:
        if tuple(arrays["phones"]) != PHONES:
            raise ValueError(f"{path.name}: expected a bigram over the {len(PHONES)} phones of phones.py")
        return PhoneBigram(arrays["log_transitions"].astype(np.float64), arrays["log_priors"].astype(np.float64))


def decode_phones(
    posteriors: np.ndarray,
    bigram: PhoneBigram,
    transition_weight: float = TRANSITION_WEIGHT,
    prior_weight: float = PRIOR_WEIGHT,
) -> np.ndarray:
    """Find the most probable sequence of phones.

    Maximises the sum over rows of log p(phone) - prior_weight log prior + transition_weight log transition.

    Args:
        posteriors: (A, 40) probabilities, 50 rows a second.
        bigram: from `load_bigram` or `estimate_bigram`.
        transition_weight: 0 is the most probable phone of each row alone.
        prior_weight: 0 leaves the posteriors as they are.

    Returns:
        (A,) phone indices.

    Raises:
        ValueError: posteriors has another shape.
    """
    posteriors = np.asarray(posteriors, np.float64)
    if posteriors.ndim != 2 or posteriors.shape[1] != len(PHONES):
        raise ValueError(f"expected posteriors of shape (A, {len(PHONES)}), got {posteriors.shape}")
    num_rows = len(posteriors)
    if num_rows == 0:
        return np.zeros(0, np.int64)
    emission = np.log(posteriors + _POSTERIOR_FLOOR) - prior_weight * bigram.log_priors
    transition = transition_weight * bigram.log_transitions
    came_from = np.zeros((num_rows, len(PHONES)), np.int16)
    best = emission[0]
    for row in range(1, num_rows):
        scores = best[:, None] + transition
        came_from[row] = scores.argmax(axis=0)
        best = scores.max(axis=0) + emission[row]
    path = np.zeros(num_rows, np.int64)
    path[-1] = int(best.argmax())
    for row in range(num_rows - 1, 0, -1):
        path[row - 1] = came_from[row, path[row]]
    return path


def join_rows(labels: np.ndarray, row_rate: float = POSTERIOR_RATE) -> list[PhoneSegment]:
    """Join equal neighbours of (A,) phone indices into segments; row k covers k / row_rate .. (k + 1) / row_rate."""
    labels = np.asarray(labels)
    if not len(labels):
        return []
    borders = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    return [
        PhoneSegment(start / row_rate, stop / row_rate, PHONES[int(labels[start])])
        for start, stop in itertools.pairwise(borders)
    ]


def decode_segments(posteriors: np.ndarray, bigram: PhoneBigram | None = None) -> list[PhoneSegment]:
    """Decode posteriors, 50 rows a second, into phones with times, by the bigram that ships unless another is given."""
    return join_rows(decode_phones(posteriors, bigram or load_bigram()))


def main() -> None:
    """Count the bigram of a corpus and write it where `load_bigram` finds it."""
    from torch_backend.speech_corpus.corpus import load_corpus  # reads sound: not needed to decode

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("corpus", type=Path, help="folder made by build_corpus")
    parser.add_argument("--output", type=Path, default=BIGRAM_PATH)
    parser.add_argument("--language", default="en", help="count utterances of this language only (default: en)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    utterances = [u for u in load_corpus(arguments.corpus) if u.language.startswith(arguments.language)]
    save_bigram(estimate_bigram(u.segments for u in utterances), arguments.output)
    _LOGGER.info("bigram of %d utterances in %s", len(utterances), arguments.output.name)


if __name__ == "__main__":
    main()
