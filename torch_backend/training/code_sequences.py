"""Expression codes with what drives them, frame by frame: what FaceTalk is trained on.

A folder holds codes.npy (T, E), condition.npy (T, D), both float32 or float16 and opened without object loading, and
index.json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from blender_talkhead.contract.errors import OutputError

FORMAT_VERSION = 1
INDEX_FILE = "index.json"
_ARRAYS = ("codes", "condition")


@dataclass(frozen=True)
class CodeSequences:
    """Sequences one after another."""

    codes: np.ndarray
    """(T, E) expression codes, float32 or float16."""
    condition: np.ndarray
    """(T, D) speech features or landmark features of the same frames, float32 or float16."""
    starts: tuple[int, ...]
    """S + 1 rows: sequence i is starts[i] .. starts[i + 1]."""
    names: tuple[str, ...]
    """S names."""
    held_out: tuple[bool, ...]
    """S, whether a sequence is only evaluated on."""
    frame_rate: float
    facts: dict[str, Any] = field(default_factory=dict)
    """JSON-able: where codes and condition come from; goes into the checkpoint."""
    weights: tuple[float, ...] = ()
    """S, how often a frame of a sequence is drawn, relative to the others; empty: all alike."""

    def __post_init__(self) -> None:
        rows, count = len(self.codes), len(self.names)
        if self.codes.ndim != 2 or self.condition.ndim != 2 or len(self.condition) != rows:
            raise ValueError(
                "expected codes (T, E) and condition (T, D) of as many frames, "
                f"got {self.codes.shape} and {self.condition.shape}"
            )
        ordered = all(low < high for low, high in zip(self.starts, self.starts[1:], strict=False))
        if len(self.starts) != count + 1 or len(self.held_out) != count or not ordered:
            raise ValueError(f"expected {count + 1} rising starts and {count} marks, got {self.starts}")
        if self.starts[0] != 0 or self.starts[-1] != rows:
            raise ValueError(f"expected starts from 0 to {rows}, got {self.starts[0]}..{self.starts[-1]}")
        if self.weights and (len(self.weights) != count or min(self.weights) < 0):
            raise ValueError(f"expected {count} weights that are not negative, got {self.weights}")
        if self.frame_rate <= 0:
            raise ValueError(f"expected a positive frame rate, got {self.frame_rate}")

    def indices(self, held_out: bool) -> list[int]:
        """Sequences to train on, or to evaluate on."""
        return [index for index, mark in enumerate(self.held_out) if mark == held_out]

    def rows(self, index: int) -> slice:
        """Rows of a sequence."""
        return slice(self.starts[index], self.starts[index + 1])


def save_code_sequences(folder: Path, sequences: CodeSequences) -> None:
    """Write a folder; the index comes last, so that a half-written folder is none.

    Raises:
        OutputError: it cannot be written.
    """
    index = {
        "format_version": FORMAT_VERSION,
        "starts": list(sequences.starts),
        "names": list(sequences.names),
        "held_out": list(sequences.held_out),
        "frame_rate": sequences.frame_rate,
        "facts": sequences.facts,
        "weights": list(sequences.weights),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _ARRAYS:
            array = np.asarray(getattr(sequences, name))
            array = array if array.dtype == np.float16 else array.astype(np.float32)
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        partial = folder / f".{INDEX_FILE}.partial"
        partial.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
        partial.replace(folder / INDEX_FILE)
    except OSError as error:
        raise OutputError(f"cannot write the code sequences {folder}: {error}") from error


def load_code_sequences(folder: Path) -> CodeSequences:
    """Open a folder; the arrays are memory-mapped.

    Raises:
        ValueError: the folder is missing, broken or of another version.
    """
    try:
        index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        if index["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format version {index['format_version']}, this version reads {FORMAT_VERSION}")
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS}
        return CodeSequences(
            **arrays,
            starts=tuple(index["starts"]),
            names=tuple(index["names"]),
            held_out=tuple(index["held_out"]),
            frame_rate=float(index["frame_rate"]),
            facts=dict(index["facts"]),
            weights=tuple(index.get("weights", ())),
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} holds no usable code sequences ({error}); make them again") from error
