"""A training run of the phone encoder from a corpus: features first, then the recipe."""

from __future__ import annotations

import json
import logging
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch_backend.config import config_from_dict
from torch_backend.speech_corpus.corpus import read_corpus_hash
from torch_backend.training.loop import LoopConfig, train
from torch_backend.training.phone_encoder import PhoneEncoderRecipe, PhoneTrainingConfig
from torch_backend.training.phone_features import build_phone_features

logger = logging.getLogger(__name__)

FEATURE_FOLDER = "features"
DEFAULT_CONFIG = Path(__file__).resolve().parents[1] / "configs" / "phone_encoder.toml"


@dataclass(frozen=True)
class PhoneRunConfig:
    """All settings of a run."""

    loop: LoopConfig
    recipe: PhoneTrainingConfig
    augmented_copies: int = 4
    """Augmented copies of every utterance, beside the clean one."""
    feature_processes: int = 1
    """Processes that compute the features."""


def load_run_config(path: Path, output: Path, **loop_changes: Any) -> PhoneRunConfig:
    """Read the settings of a run.

    Args:
        path: TOML file with augmented_copies, feature_processes and the tables [recipe], [recipe.network], [loop].
        output: folder of the run.
        **loop_changes: override fields of the loop.

    Raises:
        ValueError: not TOML, unknown keys or values of the wrong type.
        OSError: the file cannot be read.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from error
    values["loop"] = {**values.get("loop", {}), "output": str(output), **loop_changes}
    values["recipe"] = {**values.get("recipe", {}), "features": str(output / FEATURE_FOLDER)}
    return config_from_dict(PhoneRunConfig, values, where=path.name)


def train_phone_encoder(
    corpus: Path,
    output: Path,
    config_path: Path | None = None,
    report: Callable[[float, dict[str, float]], None] | None = None,
    **loop_changes: Any,
) -> dict[str, float]:
    """Train the phone encoder on a synthesised corpus; writes OUTPUT/model.safetensors.

    Args:
        corpus: folder of `python -m torch_backend corpus`.
        output: folder of the run; holds the features too, which a later run in the same folder uses again.
        config_path: TOML settings; without one the shipped settings.
        report: called with the fraction done and the figures of the last log line.
        **loop_changes: override fields of the loop: steps, seed, device, resume ...

    Returns:
        Figures of the last evaluation.

    Raises:
        ValueError: the settings or the corpus are not usable, or the folder's features are of another corpus.
        OutputError: the folder cannot be written.
    """
    config = load_run_config(config_path or DEFAULT_CONFIG, output, **loop_changes)
    folder = output / FEATURE_FOLDER
    index = folder / "index.json"
    if not index.is_file():
        logger.info("computing the features of %s", corpus)
        build_phone_features(corpus, folder, config.augmented_copies, config.loop.seed, config.feature_processes)
    elif json.loads(index.read_text(encoding="utf-8"))["corpus_hash"] != read_corpus_hash(corpus):
        raise ValueError(f"{folder} holds the features of another corpus; name another --output")
    return train(PhoneEncoderRecipe(config.recipe), config.loop, report)
