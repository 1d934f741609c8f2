"""Log-mels and phone labels of a corpus, clean and in augmented copies, computed once and kept as plain arrays.

A feature folder holds `log_mels.npy` (R, 64) float16, `labels.npy` (R,) uint8 (indices of PHONES), and
`index.json`: for every utterance its id, engine, voice, language and the row ranges of its copies, clean first.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from torch_backend.audio.log_mel import compute_log_mel, count_mel_rows
from torch_backend.speech_corpus.augmentation import augment_speech, make_background
from torch_backend.speech_corpus.corpus import CorpusUtterance, load_corpus, read_corpus_hash
from torch_backend.speech_corpus.phones import PHONE_INDEX, PhoneSegment

_LOGGER = logging.getLogger(__name__)

ROW_RATE = 100.0
_MEL_WARP_PROBABILITY = 0.6
_MEL_WARP_RANGE = (0.9, 1.12)
_NUM_OTHERS = 40
BACKGROUND = "background"
"""Engine of clips without speech."""
_BACKGROUND_SAMPLES = 80_000


@dataclass(frozen=True)
class FeatureUtterance:
    """One utterance of a feature folder."""

    id: str
    engine: str
    voice: str
    language: str
    copies: tuple[tuple[int, int], ...]
    """[start, stop) rows of each copy; the first is the clean one."""


@dataclass(frozen=True)
class PhoneFeatures:
    """A feature folder, opened."""

    log_mels: np.ndarray
    """(R, 64) float16, not normalised."""
    labels: np.ndarray
    """(R,) uint8."""
    utterances: tuple[FeatureUtterance, ...]
    corpus_hash: str


def label_rows(segments: Sequence[PhoneSegment], num_rows: int, row_rate: float = ROW_RATE) -> np.ndarray:
    """Return (R,) uint8: the phone at the centre (r + 0.5) / row_rate of every row, SIL outside all segments."""
    times = (np.arange(num_rows) + 0.5) / row_rate
    labels = np.full(num_rows, PHONE_INDEX["SIL"], np.uint8)
    starts = np.array([segment.start_seconds for segment in segments])
    index = np.searchsorted(starts, times, side="right") - 1
    for row in np.flatnonzero(index >= 0):
        segment = segments[index[row]]
        if times[row] < segment.end_seconds:
            labels[row] = PHONE_INDEX[segment.phone]
    return labels


def build_phone_features(
    corpus: Path, output: Path, num_copies: int, seed: int, num_processes: int = 1, num_backgrounds: int = 250
) -> None:
    """Compute a feature folder: the corpus, its copies, and recordings of nothing but background noise.

    The result does not depend on the number of processes.

    Args:
        corpus: corpus folder.
        output: folder to make.
        num_copies: augmented copies of every utterance, beside the clean one.
        seed: of the augmentation.
        num_processes: how many to use.
        num_backgrounds: clips of 5 s without speech, engine "background".

    Raises:
        ValueError: the corpus is no corpus.
    """
    utterances = load_corpus(corpus)
    output.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng([seed, 1])
    chosen = generator.choice(len(utterances), min(_NUM_OTHERS, len(utterances)), replace=False)
    others = [utterances[index].load_samples() for index in sorted(chosen)]
    blocks = [list(range(start, min(start + 50, len(utterances)))) for start in range(0, len(utterances), 50)]
    jobs = [(block, [utterances[i] for i in block], others, num_copies, seed) for block in blocks]
    if num_processes > 1:
        with ProcessPoolExecutor(num_processes) as pool:
            parts = list(pool.map(_featurize_block, jobs))
    else:
        parts = [_featurize_block(job) for job in jobs]
    copies = [copy for part in parts for copy in part]
    copies += [_featurize_background(np.random.default_rng([seed, 3, index])) for index in range(num_backgrounds)]
    kinds = [(u.id, u.engine, u.voice, u.language) for u in utterances]
    kinds += [(f"background_{index:05d}", BACKGROUND, "none", "en") for index in range(num_backgrounds)]
    log_mels = np.concatenate([mel for group in copies for mel, _ in group])
    labels = np.concatenate([label for group in copies for _, label in group])
    np.save(output / "log_mels.npy", log_mels)
    np.save(output / "labels.npy", labels)
    rows, position = [], 0
    for (identifier, engine, voice, language), group in zip(kinds, copies, strict=True):
        ranges = []
        for mel, _ in group:
            ranges.append([position, position + len(mel)])
            position += len(mel)
        rows.append({"id": identifier, "engine": engine, "voice": voice, "language": language, "copies": ranges})
    index = {"corpus_hash": read_corpus_hash(corpus), "seed": seed, "num_copies": num_copies, "utterances": rows}
    (output / "index.json").write_text(json.dumps(index) + "\n", encoding="utf-8")
    _LOGGER.info("%d utterances, %.0f minutes with copies", len(rows), len(log_mels) / ROW_RATE / 60.0)


def load_phone_features(path: Path) -> PhoneFeatures:
    """Open a feature folder.

    Raises:
        ValueError: the folder is no feature folder.
    """
    if not (path / "index.json").exists():
        raise ValueError(f"expected a feature folder with index.json, got {path}")
    index = json.loads((path / "index.json").read_text(encoding="utf-8"))
    utterances = tuple(
        FeatureUtterance(
            row["id"], row["engine"], row["voice"], row["language"], tuple((a, b) for a, b in row["copies"])
        )
        for row in index["utterances"]
    )
    return PhoneFeatures(
        np.load(path / "log_mels.npy", mmap_mode="r", allow_pickle=False),
        np.load(path / "labels.npy", allow_pickle=False),
        utterances,
        index["corpus_hash"],
    )


def _featurize_block(
    job: tuple[list[int], list[CorpusUtterance], list[np.ndarray], int, int],
) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    indices, utterances, others, num_copies, seed = job
    return [
        _featurize(utterance, others, num_copies, np.random.default_rng([seed, 2, index]))
        for index, utterance in zip(indices, utterances, strict=True)
    ]


def _featurize_background(generator: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    sound = make_background(_BACKGROUND_SAMPLES, generator)
    num_rows = count_mel_rows(len(sound))
    return [(compute_log_mel(sound, 0, num_rows).astype(np.float16), label_rows((), num_rows))]


def _featurize(
    utterance: CorpusUtterance, others: list[np.ndarray], num_copies: int, generator: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    samples = utterance.load_samples()
    copies = [(samples, utterance.segments, 1.0)]
    for _ in range(num_copies):
        warp = float(generator.uniform(*_MEL_WARP_RANGE)) if generator.random() < _MEL_WARP_PROBABILITY else 1.0
        copies.append((*augment_speech(samples, utterance.segments, generator, others), warp))
    result = []
    for sound, segments, warp in copies:
        num_rows = count_mel_rows(len(sound))
        # a few hundred distinct filterbanks would be too many to keep: warps are rounded to a hundredth
        log_mel = compute_log_mel(sound, 0, num_rows, round(warp, 2))
        result.append((log_mel.astype(np.float16), label_rows(segments, num_rows)))
    return result
