"""A corpus of noise with phones, in the format that the command corpus writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile


def write_corpus(folder: Path, count: int = 3) -> None:
    """Write a corpus of utterances of 1.5 seconds."""
    random = np.random.default_rng(0)
    (folder / "audio").mkdir(parents=True)
    rows = []
    for index in range(count):
        samples = (0.1 * random.standard_normal(24_000)).astype(np.float32)
        soundfile.write(folder / f"audio/u{index}.wav", samples, 16_000, subtype="PCM_16")
        rows.append({
            "id": f"u{index}", "audio": f"audio/u{index}.wav", "num_samples": 24_000, "engine": "e", "voice": "v",
            "language": "en", "text": "ma", "phones": [[0, 0.5, "SIL"], [0.5, 0.7, "M"], [0.7, 1.5, "AA"]],
        })  # fmt: skip
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "corpus.json").write_text(json.dumps({"format_version": 1, "corpus_hash": "abc"}))
