"""The corpus of synthesised speech: build it, read it, and know by its hash that it is the same.

A corpus is a folder:

- `corpus.json`: format version, seed, engine versions, minutes a voice, and the corpus hash;
- `manifest.jsonl`: one utterance a line, in order: `id`, `audio` (path in the folder), `num_samples`, `engine`,
  `voice`, `language`, `text`, `settings`, and `phones` as [start seconds, end seconds, phone];
- `audio/ID.wav`: 16 kHz, 16 bit, mono.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from torch_backend.speech_corpus.espeak import EspeakEngine
from torch_backend.speech_corpus.festival import FestivalEngine
from torch_backend.speech_corpus.flite import FliteEngine
from torch_backend.speech_corpus.phones import PhoneSegment
from torch_backend.speech_corpus.sentences import generate_sentences
from torch_backend.speech_corpus.synthesis import (
    SAMPLE_RATE,
    SynthesisEngine,
    SynthesisError,
    SynthesisRequest,
    Utterance,
)

_LOGGER = logging.getLogger(__name__)

FORMAT_VERSION = 1
ESPEAK_VOICE = "*"
"""In a plan: every sentence draws another of espeak's voices."""

ENGLISH_MINUTES: Mapping[str, float] = {
    "flite/slt": 11, "flite/rms": 11, "flite/awb": 11, "flite/kal16": 5,
    "festival/slt-hts": 9, "festival/kal": 5, "festival/ked": 8,
    "espeak/*": 20,
}  # fmt: skip
"""Engine/voice -> minutes of speech that the speech encoder learns from. Voices made from recordings of people matter
most, espeak least; voices of other languages (festival_voices.py) gained it nothing on English ones."""
UNHEARD_MINUTES: Mapping[str, float] = {
    f"festival/{voice}": 6 for voice in ("lp", "pc", "dita", "krb", "machac", "ph", "lj", "mv", "ona-hts")
}
"""Voices that the encoder does not learn from. A motion model does: only on them does it meet the encoder's features of
strangers, which are less sure than those of voices that the encoder knows, as a user's voice is."""
DEFAULT_MINUTES: Mapping[str, float] = {**ENGLISH_MINUTES, **UNHEARD_MINUTES}

_BLOCK_SENTENCES = 40


@dataclass(frozen=True)
class CorpusUtterance:
    """One utterance of a corpus on disk."""

    id: str
    audio_path: Path
    segments: tuple[PhoneSegment, ...]
    engine: str
    voice: str
    language: str
    text: str
    num_samples: int

    def load_samples(self) -> np.ndarray:
        """Return (S,) float32 at 16 kHz, -1..1.

        Raises:
            ValueError: the file does not hold the manifest's number of samples.
        """
        samples, sample_rate = soundfile.read(self.audio_path, dtype="float32")
        if sample_rate != SAMPLE_RATE or len(samples) != self.num_samples:
            raise ValueError(
                f"{self.audio_path.name}: expected {self.num_samples} samples at {SAMPLE_RATE} Hz, "
                f"got {len(samples)} at {sample_rate} Hz"
            )
        return samples


@dataclass(frozen=True)
class CorpusSummary:
    """What `build_corpus` made."""

    corpus_hash: str
    num_utterances: int
    minutes: float
    engine_versions: Mapping[str, str]


def build_corpus(
    output: Path,
    seed: int = 0,
    minutes: Mapping[str, float] = DEFAULT_MINUTES,
    num_processes: int = 1,
    allow_missing: bool = False,
) -> CorpusSummary:
    """Synthesise a corpus into a new folder. The same seed, plan and engine versions give the same corpus.

    Args:
        output: folder to make; must not exist or be empty.
        seed: of sentences and of voice settings.
        minutes: "engine/voice" -> minutes of speech.
        num_processes: voices synthesised side by side; does not change the result.
        allow_missing: leave out engines and festival voices that are not installed instead of raising.

    Returns:
        Hash and size of the corpus.

    Raises:
        SynthesisError: an engine is missing or failed.
        ValueError: the folder is not empty, or the plan names an unknown engine.
    """
    if output.exists() and any(output.iterdir()):
        raise ValueError(f"expected a new or empty folder, got {output}")
    versions = _find_versions(minutes, allow_missing)
    plan = {name: amount for name, amount in minutes.items() if name.split("/")[0] in versions}
    if allow_missing and "festival" in versions:
        found = {f"festival/{voice}" for voice in FestivalEngine().find_voices()}
        plan = {name: amount for name, amount in plan.items() if name in found or not name.startswith("festival/")}
    (output / "audio").mkdir(parents=True, exist_ok=True)
    jobs = [(output, seed, index, name, plan[name]) for index, name in enumerate(plan)]
    # A fresh process for every voice: espeak-ng's noise goes on from sentence to sentence, so that what it says
    # depends on everything that its process has said before.
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, mp_context=fresh, max_tasks_per_child=1) as pool:
        parts = list(pool.map(_build_voice, jobs))
    rows = [row for part in parts for row in part]
    with (output / "manifest.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    corpus_hash = compute_corpus_hash(rows, versions)
    total = sum(row["num_samples"] for row in rows) / SAMPLE_RATE / 60.0
    summary = CorpusSummary(corpus_hash, len(rows), total, versions)
    description = {
        "format_version": FORMAT_VERSION,
        "seed": seed,
        "minutes": plan,
        "engine_versions": versions,
        "corpus_hash": corpus_hash,
        "num_utterances": len(rows),
    }
    (output / "corpus.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return summary


def compute_corpus_hash(rows: Sequence[Mapping], versions: Mapping[str, str]) -> str:
    """Return the sha256 over engine versions, texts, settings, phones and sound of every utterance, in order."""
    digest = hashlib.sha256(json.dumps(dict(sorted(versions.items()))).encode())
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False).encode())
    return digest.hexdigest()


def load_corpus(path: Path) -> list[CorpusUtterance]:
    """Read the manifest of a corpus; sound is loaded utterance by utterance with `load_samples`.

    Args:
        path: the corpus folder.

    Returns:
        The utterances in order, with exact phone times covering each from 0 to its end.

    Raises:
        ValueError: the folder is no corpus of this version, or a sound file is missing.
    """
    description_path = path / "corpus.json"
    if not description_path.exists():
        raise ValueError(f"expected a corpus folder with corpus.json, got {path}")
    version = json.loads(description_path.read_text(encoding="utf-8")).get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(f"expected corpus format {FORMAT_VERSION}, got {version}")
    utterances = []
    for line in (path / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        segments = tuple(PhoneSegment(start, end, phone) for start, end, phone in row["phones"])
        audio_path = path / row["audio"]
        if not audio_path.exists():
            raise ValueError(f"{row['id']}: expected sound at {audio_path}")
        utterances.append(
            CorpusUtterance(
                id=row["id"],
                audio_path=audio_path,
                segments=segments,
                engine=row["engine"],
                voice=row["voice"],
                language=row["language"],
                text=row["text"],
                num_samples=row["num_samples"],
            )
        )
    return utterances


def read_corpus_hash(path: Path) -> str:
    """Return the hash that `build_corpus` wrote."""
    return str(json.loads((path / "corpus.json").read_text(encoding="utf-8"))["corpus_hash"])


def _make_engine(name: str) -> SynthesisEngine:
    engines: dict[str, type] = {"flite": FliteEngine, "festival": FestivalEngine, "espeak": EspeakEngine}
    if name not in engines:
        raise ValueError(f"expected an engine of {sorted(engines)}, got {name!r}")
    return engines[name]()


def _find_versions(minutes: Mapping[str, float], allow_missing: bool) -> dict[str, str]:
    versions = {}
    for name in sorted({voice.split("/")[0] for voice in minutes}):
        version = _make_engine(name).find_version()
        if version is not None:
            versions[name] = version
        elif not allow_missing:
            raise SynthesisError(f"{name} is not installed; install it or build without its voices")
    return versions


def _build_voice(job: tuple[Path, int, int, str, float]) -> list[dict]:
    """Synthesise one voice until it has its minutes; runs in a process of its own."""
    output, seed, index, name, minutes = job
    engine_name, voice = name.split("/", 1)
    engine = _make_engine(engine_name)
    generator = np.random.default_rng([seed, index])
    rows: list[dict] = []
    spoken = 0.0
    for block in range(10_000):
        if spoken >= minutes * 60.0:
            break
        sentences = generate_sentences(_BLOCK_SENTENCES, seed=(seed * 1_000 + index) * 10_000 + block)
        requests = [_draw_request(generator, text, voice, engine) for text in sentences]
        for utterance in _speak_block(engine, requests):
            if utterance is None or spoken >= minutes * 60.0:
                continue
            spoken += utterance.duration_seconds
            rows.append(
                _write_utterance(output, f"{engine_name}_{voice.replace('*', 'all')}_{len(rows):05d}", utterance)
            )
    _LOGGER.info("%s: %d sentences, %.1f minutes", name, len(rows), spoken / 60.0)
    return rows


def _speak_block(engine: SynthesisEngine, requests: Sequence[SynthesisRequest]) -> Iterator[Utterance | None]:
    """Speak a block; an espeak voice that this installation lacks only costs its own sentence."""
    if engine.name != "espeak":
        yield from engine.synthesize(requests)
        return
    for request in requests:
        try:
            yield from engine.synthesize([request])
        except SynthesisError as error:
            _LOGGER.debug("%s", error)


def _draw_request(generator: np.random.Generator, text: str, voice: str, engine: SynthesisEngine) -> SynthesisRequest:
    """Draw tempo and pitch: the voice's own half of the time, widely varied otherwise."""
    tempo = 1.0 if generator.random() < 0.4 else float(generator.uniform(0.72, 1.35))
    pitch = 1.0 if generator.random() < 0.4 else float(2.0 ** generator.uniform(-0.45, 0.5))
    pitch_range = float(generator.uniform(0.4, 1.75))
    if voice == ESPEAK_VOICE:
        voice = engine.voices[int(generator.integers(len(engine.voices)))]
    return SynthesisRequest(text, voice, round(tempo, 3), round(pitch, 3), round(pitch_range, 3))


def _write_utterance(output: Path, identifier: str, utterance: Utterance) -> dict:
    audio = f"audio/{identifier}.wav"
    soundfile.write(output / audio, utterance.samples, SAMPLE_RATE, subtype="PCM_16")
    return {
        "id": identifier,
        "audio": audio,
        "audio_sha256": hashlib.sha256(utterance.samples.tobytes()).hexdigest(),
        "num_samples": len(utterance.samples),
        "engine": utterance.engine,
        "voice": utterance.voice,
        "language": utterance.language,
        "text": utterance.text,
        "settings": dict(utterance.settings),
        "phones": [[round(s.start_seconds, 5), round(s.end_seconds, 5), s.phone] for s in utterance.segments],
    }
