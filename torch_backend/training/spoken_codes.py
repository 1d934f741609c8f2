"""Code sequences of the synthesised corpus: speech features, and what the articulated built-in head shows with them.

The mouth follows the phones (speech_corpus/articulation.py); lids, brows and cheeks are performed
(performance/perform.py), another time for every copy of an utterance, so that they are no function of the sound. Gaze,
with what the lids do for it, is not in the codes: it belongs to the eyes and is added when a take is made.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np

from torch_backend.audio.speech_encoder import load_speech_encoder
from torch_backend.evaluation import HELD_OUT_EVERY
from torch_backend.head.expression_codes import load_expression_space
from torch_backend.models.facetalk import FRAME_RATE
from torch_backend.training.code_sequences import CodeSequences, save_code_sequences
from torch_backend.training.motion_examples import (
    BACKGROUND,
    ExampleSettings,
    MotionExample,
    MotionExamples,
    build_motion_examples,
    load_motion_examples,
)
from torch_backend.training.mouth_codes import BUILT_IN_HEAD

logger = logging.getLogger(__name__)

ESPEAK_WEIGHT, FOREIGN_WEIGHT, BACKGROUND_WEIGHT = 0.35, 0.7, 2.0
"""Share of formant speech, of voices of other languages and of noise without speech, relative to their length; as for
MMTalker (training/mmtalker_config.py)."""
_EXAMPLES = ".examples"


def is_corpus(folder: Path) -> bool:
    """Whether a folder is one of the command corpus."""
    return (folder / "corpus.json").is_file()


def build_spoken_sequences(
    corpus: Path, output: Path, speech_encoder: str | None, num_copies: int, seed: int, num_processes: int = 1
) -> None:
    """Compute features and codes of a corpus and write them as a folder of code sequences.

    Args:
        corpus: folder of the command corpus.
        output: folder to make.
        speech_encoder: as for load_speech_encoder; None is the shipped one.
        num_copies: augmented copies of every utterance, beside the clean one.
        seed: of augmentation and performance.
        num_processes: how many to use; the result does not depend on it.

    Raises:
        ValueError: the corpus is no corpus.
        BackendError: the encoder's weights are missing or broken.
        OutputError: the folder cannot be written.
    """
    encoder = load_speech_encoder(speech_encoder, "cpu")
    logger.info("computing the features of %s", encoder.name)
    settings = ExampleSettings(FRAME_RATE, num_copies, seed, expression_controls=False, performed=True)
    examples = output / _EXAMPLES
    build_motion_examples(corpus, examples, encoder, settings, num_processes)
    save_code_sequences(output, encode_examples(load_motion_examples(examples)))
    shutil.rmtree(examples)


def encode_examples(examples: MotionExamples) -> CodeSequences:
    """Return the code sequences of examples; every 25th utterance is held out, as for the other models.

    Raises:
        ValueError: the examples follow each other with gaps.
    """
    space = load_expression_space()
    ordered = sorted(examples.examples, key=lambda example: example.start)
    codes = np.empty((len(examples.curves), space.matrix.shape[1]), np.float16)
    for example in ordered:
        codes[example.start : example.stop] = space.encode(examples.curves[example.start : example.stop])
    return CodeSequences(
        codes=codes,
        condition=examples.features,
        starts=(0, *(example.stop for example in ordered)),
        names=tuple(f"{example.id}_{example.copy}" for example in ordered),
        held_out=tuple(_is_held_out(example) for example in ordered),
        frame_rate=examples.frame_rate,
        facts={**examples.source, "head": BUILT_IN_HEAD},
        weights=tuple(_weigh(example) for example in ordered),
    )


def _is_held_out(example: MotionExample) -> bool:
    return example.utterance >= 0 and example.utterance % HELD_OUT_EVERY == 0


def _weigh(example: MotionExample) -> float:
    weight = 1.0 if example.language == "en" else FOREIGN_WEIGHT
    kinds = {"espeak": ESPEAK_WEIGHT, BACKGROUND: BACKGROUND_WEIGHT}
    return weight * kinds.get(example.engine, 1.0)
