"""The demo recording that ships: one sentence, spoken by a free voice, made again by this module at any time.

python -m torch_backend.speech_corpus.demo_sentence FOLDER
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import soundfile

from torch_backend.speech_corpus.festival import FestivalEngine
from torch_backend.speech_corpus.festival_voices import VOICES
from torch_backend.speech_corpus.synthesis import SAMPLE_RATE, SynthesisError, SynthesisRequest

_LOGGER = logging.getLogger(__name__)

TEXT = "Give me your voice, and watch my lips: every word becomes a movement."
VOICE = "slt-hts"
_TEMPO = 0.95
_PEAK = 0.7
_EDGE_SECONDS = 0.2
_LONGEST_SECONDS = 4.2
_DESCRIPTION = """\
Recording: {name}
Words:     {text}
Voice:     {voice} (festival {version}, Debian package {package}),
           a synthetic female voice trained on recordings of a speaker of the CMU ARCTIC database.
Licence:   the voice is free software (BSD-style, Carnegie Mellon University and the HTS Working Group); use and
           distribution of what it speaks are not restricted.
Made by:   python -m torch_backend.speech_corpus.demo_sentence FOLDER
"""


def make_demo_sentence(folder: Path) -> Path:
    """Speak the sentence into FOLDER/demo_sentence.wav (16 kHz, 16 bit) and describe it in demo_sentence.txt.

    Raises:
        SynthesisError: festival or its voice is not installed, or the sentence came out too long.
    """
    engine = FestivalEngine()
    utterance = next(engine.synthesize([SynthesisRequest(TEXT, VOICE, tempo=_TEMPO)]))
    if utterance is None:
        raise SynthesisError("festival gave no usable sound for the demo sentence")
    spoken = [segment for segment in utterance.segments if segment.phone != "SIL"]
    start = max(0, round((spoken[0].start_seconds - _EDGE_SECONDS) * SAMPLE_RATE))
    stop = round((spoken[-1].end_seconds + _EDGE_SECONDS) * SAMPLE_RATE)
    samples = utterance.samples[start:stop].astype(np.float32)
    if len(samples) > _LONGEST_SECONDS * SAMPLE_RATE:
        raise SynthesisError(f"expected at most {_LONGEST_SECONDS} s, got {len(samples) / SAMPLE_RATE:.2f} s")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "demo_sentence.wav"
    soundfile.write(path, samples / np.abs(samples).max() * _PEAK, SAMPLE_RATE, subtype="PCM_16")
    description = _DESCRIPTION.format(
        name=path.name, text=TEXT, voice=VOICES[VOICE].function.removeprefix("voice_"), version=engine.find_version(),
        package=VOICES[VOICE].package,
    )  # fmt: skip
    path.with_suffix(".txt").write_text(description, encoding="utf-8")
    _LOGGER.info("%s: %.2f s", path, len(samples) / SAMPLE_RATE)
    return path


def main() -> None:
    """Read the folder from the command line."""
    parser = argparse.ArgumentParser(description="Speak the demo sentence again.")
    parser.add_argument("folder", type=Path)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    make_demo_sentence(parser.parse_args().folder)


if __name__ == "__main__":
    main()
