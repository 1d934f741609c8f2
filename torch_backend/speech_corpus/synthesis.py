"""What every speech synthesis engine of the corpus takes and gives: requests, utterances, phone times."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import Protocol

import numpy as np
from scipy.signal import resample_poly

from torch_backend.speech_corpus.phones import PHONE_INDEX, SILENCE, PhoneSegment

SAMPLE_RATE = 16_000
"""Hz; every utterance is brought to it."""


class SynthesisError(RuntimeError):
    """An engine is missing, failed, or gave sound and phone times that do not fit together."""


@dataclass(frozen=True)
class SynthesisRequest:
    """One sentence to speak."""

    text: str
    """A sentence of letters, spaces, apostrophes and commas."""
    voice: str
    """A name from the engine's `voices`."""
    tempo: float = 1.0
    """Duration factor: 1.2 speaks slower."""
    pitch: float = 1.0
    """Factor on the voice's usual pitch."""
    pitch_range: float = 1.0
    """Factor on the voice's usual spread of the pitch."""


@dataclass(frozen=True)
class Utterance:
    """A spoken sentence with the engine's own phone times."""

    samples: np.ndarray
    """(S,) int16 at 16 kHz."""
    segments: tuple[PhoneSegment, ...]
    """Phones that cover the sound without gaps, from 0 to S / 16 000 seconds."""
    engine: str
    voice: str
    text: str
    settings: Mapping[str, float] = field(default_factory=dict)
    language: str = "en"
    """Language of the recordings behind the voice; other languages than English give English phones approximately."""

    @property
    def duration_seconds(self) -> float:
        """Length of the sound."""
        return len(self.samples) / SAMPLE_RATE


class SynthesisEngine(Protocol):
    """A text-to-speech engine that knows when it spoke each phone."""

    name: str
    voices: tuple[str, ...]

    def find_version(self) -> str | None:
        """Return the installed version, or None when the engine is not installed."""
        ...

    def synthesize(self, requests: Sequence[SynthesisRequest]) -> Iterator[Utterance | None]:
        """Speak every request in order; None for a sentence whose times and sound do not fit together.

        Raises:
            SynthesisError: the engine is missing or stopped working.
        """
        ...


def read_program_version(program: str, pattern: str) -> str | None:
    """Ask a program for its version.

    Args:
        program: name or path.
        pattern: regular expression whose first group is the version in the answer to --version.

    Returns:
        The version, "unknown" when the answer does not match, or None when the program is not installed.
    """
    if shutil.which(program) is None:
        return None
    reply = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=20)
    found = re.search(pattern, reply.stdout + reply.stderr)
    return found.group(1) if found else "unknown"


def resample_to_corpus_rate(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return (S,) int16 at 16 kHz from (S0,) int16 at another rate, band-limited."""
    if sample_rate == SAMPLE_RATE:
        return samples.astype(np.int16)
    divisor = gcd(sample_rate, SAMPLE_RATE)
    resampled = resample_poly(samples.astype(np.float32), SAMPLE_RATE // divisor, sample_rate // divisor)
    return np.clip(np.round(resampled), -32768, 32767).astype(np.int16)


def fit_segments(
    ends: Sequence[tuple[str, float]], duration_seconds: float, tolerance_seconds: float = 0.5
) -> tuple[PhoneSegment, ...] | None:
    """Turn (phone, end time) pairs into segments that cover the sound exactly.

    Args:
        ends: phones (members of PHONES) and their end times in seconds, in order.
        duration_seconds: length of the sound.
        tolerance_seconds: how far the last end may be from the end of the sound.

    Returns:
        Segments without gaps and without empty ones, neighbouring silences joined, the remainder of the sound
        silence; None when the times do not fit the sound.

    Raises:
        ValueError: a phone is not in PHONES.
    """
    if not ends or abs(ends[-1][1] - duration_seconds) > tolerance_seconds:
        return None
    segments: list[PhoneSegment] = []
    position = 0.0
    for phone, end in [*ends, (SILENCE, duration_seconds)]:
        if phone not in PHONE_INDEX:
            raise ValueError(f"expected a phone of PHONES, got {phone!r}")
        stop = min(end, duration_seconds)
        if stop <= position + 1e-6:
            continue
        if phone == SILENCE and segments and segments[-1].phone == SILENCE:
            segments[-1] = PhoneSegment(segments[-1].start_seconds, stop, SILENCE)
        else:
            segments.append(PhoneSegment(position, stop, phone))
        position = stop
    return tuple(segments)
