"""festival: diphone and HTS voices made from recordings of people, with exact phone times.

One festival process speaks many sentences of one voice; each writes a sound file and a list of segment end times.
"""

from __future__ import annotations

import logging
import math
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import soundfile

from torch_backend.speech_corpus.festival_voices import VOICES, FestivalVoice
from torch_backend.speech_corpus.synthesis import (
    SynthesisError,
    SynthesisRequest,
    Utterance,
    fit_segments,
    read_program_version,
    resample_to_corpus_rate,
)

_LOGGER = logging.getLogger(__name__)
_SENTENCES_PER_PROCESS = 60
_SECONDS_PER_SENTENCE = 20.0
_SPEAK = """\
(define (speak text stem)
  (let ((utterance (eval (list 'Utterance 'Text text))))
    (utt.synth utterance)
    (utt.save.wave utterance (string-append stem ".wav") 'riff)
    (utt.save.segs utterance (string-append stem ".seg"))))
"""
_MISSING_DIPHONE = re.compile(r"using default diphone")
_MOST_MISSING_DIPHONES = 1


class FestivalEngine:
    """The festival program with whichever of VOICES are installed."""

    name = "festival"
    voices = tuple(VOICES)

    def __init__(self, program: str = "festival") -> None:
        self._program = program

    def find_version(self) -> str | None:
        """Return the installed version, or None when festival is not installed."""
        return read_program_version(self._program, r"System:\s*(\S+)")

    def find_voices(self) -> tuple[str, ...]:
        """Return the voices that are installed here, in the order of VOICES.

        Raises:
            SynthesisError: festival is not installed or failed.
        """
        reply = self._run("(print (voice.list))", timeout=30.0)
        installed = set(re.findall(r"[\w.]+", reply))
        return tuple(name for name, voice in VOICES.items() if voice.function.removeprefix("voice_") in installed)

    def synthesize(self, requests: Sequence[SynthesisRequest]) -> Iterator[Utterance | None]:
        """Speak every request in order; None for a sentence that lacks diphones or whose times do not fit.

        Raises:
            SynthesisError: festival or the voice is not installed, or festival stopped.
            ValueError: a voice is unknown.
        """
        for voice_name, group in groupby(requests, key=lambda request: request.voice):
            if voice_name not in VOICES:
                raise ValueError(f"expected a voice of {self.voices}, got {voice_name!r}")
            batch = list(group)
            for start in range(0, len(batch), _SENTENCES_PER_PROCESS):
                yield from self._speak_batch(VOICES[voice_name], batch[start : start + _SENTENCES_PER_PROCESS])

    def _speak_batch(self, voice: FestivalVoice, batch: Sequence[SynthesisRequest]) -> Iterator[Utterance | None]:
        with tempfile.TemporaryDirectory(prefix="talkhead-festival-") as folder:
            script = [_SPEAK, f"({voice.function})"]
            if voice.kind == "hts":
                script.append("(set! usual_parameters hts_engine_params)")
            for index, request in enumerate(batch):
                script += [*_settings(voice, request), f'(format t "sentence {index}\\n")']
                script.append(f'(speak "{_escape(request.text)}" "{folder}/{index}")')
            output = self._run("\n".join(script), timeout=_SECONDS_PER_SENTENCE * len(batch))
            missing = _count_missing_diphones(output)
            if not any(Path(folder).glob("*.seg")):
                raise SynthesisError(f"festival: {voice.function} spoke nothing; is {voice.package} installed?")
            for index, request in enumerate(batch):
                if missing.get(index, 0) > _MOST_MISSING_DIPHONES:
                    yield None
                else:
                    yield _collect(voice, request, Path(folder) / str(index))

    def _run(self, script: str, timeout: float) -> str:
        """Run a Scheme script; return what it printed on both streams."""
        with tempfile.NamedTemporaryFile("w", suffix=".scm", prefix="talkhead-", encoding="ascii") as file:
            file.write(script + "\n")
            file.flush()
            try:
                reply = subprocess.run(
                    [self._program, "-b", file.name],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    timeout=timeout,
                    check=False,
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise SynthesisError(f"festival failed: {error}") from error
        return reply.stdout.decode("utf-8", errors="replace")


def _settings(voice: FestivalVoice, request: SynthesisRequest) -> list[str]:
    if voice.kind == "hts":
        values = [f'(list "-r" {1.0 / request.tempo:.3f})']
        if voice.usual_pitch_hz:
            values.append(f'(list "-fm" {12.0 * math.log2(request.pitch):.2f})')
        return [f"(set! hts_engine_params (append usual_parameters (list {' '.join(values)})))"]
    settings = [f"(Parameter.set 'Duration_Stretch {request.tempo:.3f})"]
    if voice.usual_pitch_hz:
        mean_hz, spread_hz = voice.usual_pitch_hz * request.pitch, 15.0 * request.pitch_range
        settings.append(
            f"(set! int_lr_params '((target_f0_mean {mean_hz:.1f}) (target_f0_std {spread_hz:.1f}) "
            "(model_f0_mean 170) (model_f0_std 34)))"
        )
    return settings


def _escape(text: str) -> str:
    return text.encode("ascii", errors="ignore").decode().replace("\\", " ").replace('"', " ")


def _count_missing_diphones(output: str) -> dict[int, int]:
    """Sentence index -> how many of its diphones the voice does not have."""
    counts: dict[int, int] = {}
    index = -1
    for line in output.splitlines():
        if line.startswith("sentence "):
            index = int(line.split()[1])
        elif _MISSING_DIPHONE.search(line):
            counts[index] = counts.get(index, 0) + 1
    return counts


def _collect(voice: FestivalVoice, request: SynthesisRequest, stem: Path) -> Utterance | None:
    sound, times = stem.with_suffix(".wav"), stem.with_suffix(".seg")
    if not sound.exists() or not times.exists():
        _LOGGER.debug("festival: no sound for %r", request.text)
        return None
    samples, sample_rate = soundfile.read(sound, dtype="int16")
    samples = resample_to_corpus_rate(samples, sample_rate)
    ends = []
    for line in times.read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split()
        if len(fields) >= 3:
            ends.append((voice.convert_phone(fields[2]), float(fields[0])))
    segments = fit_segments(ends, len(samples) / 16_000)
    if segments is None:
        return None
    name = next(name for name, known in VOICES.items() if known is voice)
    settings = {"tempo": request.tempo, "pitch": request.pitch, "pitch_range": request.pitch_range}
    return Utterance(samples, segments, "festival", name, request.text, settings, voice.language)
