"""flite: four voices made from recordings of people, with exact phone times."""

from __future__ import annotations

import logging
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import soundfile

from torch_backend.speech_corpus.arpabet import convert_radio_phone
from torch_backend.speech_corpus.synthesis import (
    SynthesisError,
    SynthesisRequest,
    Utterance,
    fit_segments,
    read_program_version,
    resample_to_corpus_rate,
)

_LOGGER = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 60.0

_USUAL_PITCH_HZ = {"slt": 180.0, "rms": 100.0, "awb": 130.0, "kal16": 105.0}
_USUAL_SPREAD_HZ = 20.0


class FliteEngine:
    """The flite program, one process a sentence (a call with several sentences would print one mixed list)."""

    name = "flite"
    voices = tuple(_USUAL_PITCH_HZ)

    def __init__(self, program: str = "flite") -> None:
        self._program = program

    def find_version(self) -> str | None:
        """Return the installed version, or None when flite is not installed."""
        return read_program_version(self._program, r"version:?\s*(\S+)")

    def synthesize(self, requests: Sequence[SynthesisRequest]) -> Iterator[Utterance | None]:
        """Speak every request in order; None for a sentence that flite split or mistimed.

        Raises:
            SynthesisError: flite is not installed or failed.
            ValueError: a voice is unknown.
        """
        with tempfile.TemporaryDirectory(prefix="talkhead-flite-") as folder:
            for request in requests:
                yield self._speak(request, Path(folder) / "sentence.wav")

    def _speak(self, request: SynthesisRequest, path: Path) -> Utterance | None:
        if request.voice not in _USUAL_PITCH_HZ:
            raise ValueError(f"expected a voice of {self.voices}, got {request.voice!r}")
        pitch_hz = _USUAL_PITCH_HZ[request.voice] * request.pitch
        spread_hz = _USUAL_SPREAD_HZ * request.pitch_range
        command = [self._program, "-voice", request.voice, "-psdur", "-t", request.text, "-o", str(path)]
        for setting in (
            f"duration_stretch={request.tempo:.3f}",
            f"int_f0_target_mean={pitch_hz:.1f}",
            f"int_f0_target_stddev={spread_hz:.1f}",
        ):
            command += ["--setf", setting]
        try:
            reply = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            raise SynthesisError(f"flite failed on {request.text!r}: {error}") from error
        samples, sample_rate = soundfile.read(path, dtype="int16")
        samples = resample_to_corpus_rate(samples, sample_rate)
        ends = []
        for token in reply.stdout.split():
            phone, end = token.rsplit(":", 1)
            ends.append((convert_radio_phone(phone), float(end)))
        segments = fit_segments(ends, len(samples) / 16_000)
        if segments is None:
            _LOGGER.debug("flite: times and sound do not fit for %r", request.text)
            return None
        settings = {"tempo": request.tempo, "pitch_hz": pitch_hz, "spread_hz": spread_hz}
        return Utterance(samples, segments, self.name, request.voice, request.text, settings)
