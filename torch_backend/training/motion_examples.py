"""Speech features beside true blendshape curves, on one frame grid: what a motion model learns from.

An example folder holds `features.npy` (R, D) float16 (the speech encoder's channels, then the expression controls),
`curves.npy` (R, 52) float16 in ARKit order, and `index.json`: where the rows of every example are, and what they were
made from. It is made once; training reads it memory-mapped.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blender_talkhead.facial.blendshapes import BLENDSHAPE_INDEX
from torch_backend.audio.expression_controls import scale_controls
from torch_backend.audio.frame_grid import count_frames
from torch_backend.audio.prosody import compute_prosody
from torch_backend.audio.speech_encoder import SpeechEncoder
from torch_backend.head import load_head
from torch_backend.performance.perform import UPPER_FACE, perform_prosody
from torch_backend.speech_corpus.articulation import articulate
from torch_backend.speech_corpus.augmentation import augment_speech, make_background
from torch_backend.speech_corpus.corpus import CorpusUtterance, load_corpus, read_corpus_hash
from torch_backend.speech_corpus.phones import PhoneSegment

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
SAMPLE_RATE = 16_000
SHORTEST_SECONDS = 0.8
"""Shorter utterances are left out."""
NUM_BACKGROUND_VOICES = 40
"""Utterances that augmentation may mix in as babble."""
BACKGROUND = "background"
BACKGROUND_SAMPLES = 80_000
NO_UTTERANCE = -1
"""Utterance index of clips that are none of the corpus's; they are never held out."""
PERFORMED = tuple(name for name in UPPER_FACE if not name.startswith("eyeLook"))
PERFORMED_COLUMNS = [BLENDSHAPE_INDEX[name] for name in PERFORMED]
BLOCK_UTTERANCES = 40
"""Handed to a process at once."""


@dataclass(frozen=True)
class MotionExample:
    """One utterance, or one augmented copy of it."""

    id: str
    engine: str
    voice: str
    language: str
    utterance: int
    """Index of the utterance in the corpus."""
    copy: int
    """0 is the clean one."""
    start: int
    stop: int
    """Rows [start, stop) of the arrays."""


@dataclass(frozen=True)
class MotionExamples:
    """An example folder, opened."""

    features: np.ndarray
    """(R, D) float16."""
    curves: np.ndarray
    """(R, 52) float16."""
    examples: tuple[MotionExample, ...]
    frame_rate: float
    source: dict[str, Any]
    """Corpus hash, encoder, seed, copies, whether there are expression controls."""

    @property
    def feature_size(self) -> int:
        """D."""
        return int(self.features.shape[1])

    def split(self, held_out_voices: Sequence[str]) -> tuple[list[MotionExample], list[MotionExample]]:
        """Training and held-out examples.

        Args:
            held_out_voices: "engine/voice" names; without any, every 25th utterance of the corpus is held out, as
                for the phone encoder.

        Raises:
            ValueError: no example is left on one side.
        """
        if held_out_voices:
            held = [f"{example.engine}/{example.voice}" in held_out_voices for example in self.examples]
        else:
            held = [example.utterance % 25 == 0 for example in self.examples]  # -1 % 25 is 24
        train = [example for example, is_held in zip(self.examples, held, strict=True) if not is_held]
        held_out = [example for example, is_held in zip(self.examples, held, strict=True) if is_held]
        if not train or not held_out:
            raise ValueError(f"expected examples to train on and to hold out, got {len(train)} and {len(held_out)}")
        return train, held_out


@dataclass(frozen=True)
class ExampleSettings:
    """How examples are made from a corpus."""

    frame_rate: float
    """Frames per second of features and curves."""
    num_copies: int = 2
    """Augmented copies of every utterance, beside the clean one."""
    seed: int = 0
    """Of the augmentation."""
    expression_controls: bool = True
    """Whether to append them to the features."""
    num_backgrounds: int = 100
    """Clips of noise without speech, in which the mouth rests; their engine is "background"."""
    performed: bool = False
    """Lids, brows and cheeks as the performance draws them, another for every copy, in place of the rule that follows
    from the sound alone; without the lids' part of the gaze, which belongs to the eyes."""


def build_motion_examples(
    corpus: Path, output: Path, encoder: SpeechEncoder, settings: ExampleSettings, num_processes: int = 1
) -> None:
    """Compute an example folder. The result does not depend on the number of processes.

    Args:
        corpus: corpus folder.
        output: folder to make.
        encoder: frozen speech encoder; must be picklable for more than one process.
        settings: rate, copies, seed.
        num_processes: how many to use.

    Raises:
        ValueError: the corpus is no corpus.
    """
    utterances = load_corpus(corpus)
    chosen = np.random.default_rng([settings.seed, 1]).choice(
        len(utterances), min(NUM_BACKGROUND_VOICES, len(utterances)), replace=False
    )
    others = [utterances[index].load_samples() for index in sorted(chosen)]
    usable = [i for i, u in enumerate(utterances) if u.num_samples >= SHORTEST_SECONDS * SAMPLE_RATE]
    blocks = [usable[start : start + BLOCK_UTTERANCES] for start in range(0, len(usable), BLOCK_UTTERANCES)]
    jobs = ([(index, utterances[index]) for index in block] for block in blocks)
    run = partial(_encode_block, encoder=encoder, settings=settings, others=others)
    features, curves, examples, position = [], [], [], 0
    backgrounds = [encode_background(index, encoder, settings) for index in range(settings.num_backgrounds)]
    for done, block in enumerate(chain(_map(run, jobs, num_processes), [backgrounds])):
        for example, example_features, example_curves in block:
            stop = position + len(example_features)
            examples.append(replace(example, start=position, stop=stop))
            features.append(example_features)
            curves.append(example_curves)
            position = stop
        logger.info("features of %d of %d blocks", done + 1, len(blocks) + 1)
    source = {
        "corpus_hash": read_corpus_hash(corpus), "speech_encoder": encoder.name, "seed": settings.seed,
        "num_copies": settings.num_copies, "num_backgrounds": settings.num_backgrounds,
        "expression_controls": settings.expression_controls,
    }  # fmt: skip
    rate = settings.frame_rate
    save_motion_examples(output, np.concatenate(features), np.concatenate(curves), examples, rate, source)
    logger.info("%d examples, %.0f minutes", len(examples), position / rate / 60)


def _map(run: Callable[[Any], Any], jobs: Iterable[Any], num_processes: int) -> Iterator[Any]:
    if num_processes == 1:
        yield from map(run, jobs)
        return
    # Spawned, because a forked torch may hang in its thread pool.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(run, jobs)


def _encode_block(
    jobs: Sequence[tuple[int, CorpusUtterance]],
    encoder: SpeechEncoder,
    settings: ExampleSettings,
    others: Sequence[np.ndarray],
) -> list[tuple[MotionExample, np.ndarray, np.ndarray]]:
    """Examples (without their place in the arrays), features and curves of some utterances."""
    results = []
    for index, utterance in jobs:
        generator = np.random.default_rng([settings.seed, 2, index])
        for copy, (samples, segments) in enumerate(_copies(utterance, settings.num_copies, generator, others)):
            seed = int(np.random.SeedSequence([settings.seed, 4, index, copy]).generate_state(1)[0])
            features, curves = encode_example(samples, segments, encoder, settings, seed)
            example = MotionExample(
                utterance.id, utterance.engine, utterance.voice, utterance.language, index, copy, 0, len(features)
            )
            results.append((example, features, curves))
    return results


def encode_background(
    index: int, encoder: SpeechEncoder, settings: ExampleSettings
) -> tuple[MotionExample, np.ndarray, np.ndarray]:
    """A clip of noise without speech, with features and curves."""
    samples = make_background(BACKGROUND_SAMPLES, np.random.default_rng([settings.seed, 3, index]))
    features, curves = encode_example(samples, (), encoder, settings, index)
    name = f"{BACKGROUND}_{index:05d}"
    return MotionExample(name, BACKGROUND, "none", "en", NO_UTTERANCE, 0, 0, len(features)), features, curves


def encode_example(
    samples: np.ndarray,
    segments: Sequence[PhoneSegment],
    encoder: SpeechEncoder,
    settings: ExampleSettings,
    performance_seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Features and true curves of one recording.

    Args:
        samples: (S,) float32 at 16 kHz.
        segments: its phones.
        encoder: frozen speech encoder.
        settings: rate, controls, whether performed.
        performance_seed: decides the performance.

    Returns:
        (T, D) float16 and (T, 52) float16; frame i is at time i / frame_rate, the last one within the recording.
    """
    num_frames = count_frames(len(samples) / SAMPLE_RATE, settings.frame_rate)
    times = np.arange(num_frames) / settings.frame_rate
    normalization = encoder.fit_normalization(samples)
    features = encoder.encode(samples, 0, num_frames, settings.frame_rate, normalization).cpu().numpy()
    prosody = compute_prosody(samples)
    curves = articulate(segments, times, prosody)
    if settings.performed:
        performance = perform_prosody(prosody, times, load_head().eye_centers, performance_seed)
        curves[:, PERFORMED_COLUMNS] = performance.upper_face[:, [UPPER_FACE.index(name) for name in PERFORMED]]
    curves = curves.astype(np.float16)
    if settings.expression_controls:  # the truth has them already: no need to compute the rule twice
        features = np.concatenate([features, scale_controls(curves)], axis=1)
    return features.astype(np.float16), curves


def save_motion_examples(
    output: Path,
    features: np.ndarray,
    curves: np.ndarray,
    examples: Sequence[MotionExample],
    frame_rate: float,
    source: dict[str, Any],
) -> None:
    """Write an example folder; the index comes last, so that a folder with an index is complete."""
    output.mkdir(parents=True, exist_ok=True)
    (output / "index.json").unlink(missing_ok=True)
    np.save(output / "features.npy", features.astype(np.float16))
    np.save(output / "curves.npy", curves.astype(np.float16))
    index = {
        "format_version": FORMAT_VERSION,
        "frame_rate": frame_rate,
        "source": source,
        "examples": [asdict(example) for example in examples],
    }
    (output / "index.json").write_text(json.dumps(index) + "\n", encoding="utf-8")


def load_motion_examples(folder: Path) -> MotionExamples:
    """Open an example folder; the arrays stay on disk.

    Raises:
        ValueError: the folder is no example folder of this version.
    """
    index_path = folder / "index.json"
    if not index_path.is_file():
        raise ValueError(f"expected an example folder with index.json, got {folder}")
    index = json.loads(index_path.read_text(encoding="utf-8"))
    if index.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"expected example format {FORMAT_VERSION}, got {index.get('format_version')}")
    return MotionExamples(
        features=np.load(folder / "features.npy", mmap_mode="r", allow_pickle=False),
        curves=np.load(folder / "curves.npy", mmap_mode="r", allow_pickle=False),
        examples=tuple(MotionExample(**row) for row in index["examples"]),
        frame_rate=index["frame_rate"],
        source=index["source"],
    )


def _copies(
    utterance: CorpusUtterance, num_copies: int, generator: np.random.Generator, others: Sequence[np.ndarray]
) -> list[tuple[np.ndarray, Sequence[PhoneSegment]]]:
    """The clean recording, then augmented ones, each with its phones."""
    samples = utterance.load_samples()
    copies: list[tuple[np.ndarray, Sequence[PhoneSegment]]] = [(samples, utterance.segments)]
    copies += [augment_speech(samples, utterance.segments, generator, others) for _ in range(num_copies)]
    return copies
