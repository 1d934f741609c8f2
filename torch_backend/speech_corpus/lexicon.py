"""The pronunciation lexicon behind the corpus sentences: `lexicon.txt`, a fixed list in the repository."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from torch_backend.speech_corpus.phones import PHONE_INDEX, PHONES

_LEXICON_PATH = Path(__file__).with_name("lexicon.txt")


@lru_cache(maxsize=1)
def load_lexicon() -> dict[str, tuple[str, ...]]:
    """Return word -> phones (members of PHONES), in the order of the file.

    Raises:
        ValueError: a line names a phone that is not in PHONES, or repeats a word.
    """
    lexicon: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(_LEXICON_PATH.read_text(encoding="utf-8").splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        word, *phones = line.split()
        unknown = [phone for phone in phones if phone not in PHONE_INDEX]
        if unknown or not phones or word in lexicon:
            raise ValueError(f"lexicon line {number}: expected a new word and known phones, got {line!r}")
        lexicon[word] = tuple(phones)
    return lexicon


@lru_cache(maxsize=1)
def compute_word_weights() -> tuple[tuple[str, ...], np.ndarray]:
    """Return (words, probabilities) that favour words with rare phones.

    A word weighs the mean over its phones of count ** -0.5, so that OY, ZH or UH, which plain text hardly has, are
    heard often enough to be learnt.

    Returns:
        words: N words, and probabilities: (N,) float64 summing to 1.
    """
    lexicon = load_lexicon()
    counts = np.zeros(len(PHONES))
    for phones in lexicon.values():
        np.add.at(counts, [PHONE_INDEX[phone] for phone in phones], 1.0)
    rarity = 1.0 / np.sqrt(np.maximum(counts, 1.0))
    weights = np.array([rarity[[PHONE_INDEX[phone] for phone in phones]].mean() for phones in lexicon.values()])
    return tuple(lexicon), weights / weights.sum()
