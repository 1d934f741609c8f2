"""A training run of the phone encoder from a corpus: features first, then the recipe, then weights ready for use."""

from __future__ import annotations

import json
import logging
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torch_backend.config import config_from_dict
from torch_backend.models.checkpoints import load_checkpoint, save_checkpoint
from torch_backend.models.phone_encoder import PhoneEncoder, PhoneEncoderConfig
from torch_backend.speech_corpus.corpus import read_corpus_hash
from torch_backend.training.loop import MODEL_FILE, LoopConfig, train
from torch_backend.training.phone_encoder import PhoneEncoderRecipe, PhoneTrainingConfig
from torch_backend.training.phone_features import build_phone_features

logger = logging.getLogger(__name__)

FEATURE_FOLDER = "features"
_STATISTICS_BATCHES = 20
_SMALLEST_DEVIATION = 1e-3
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
    recipe = PhoneEncoderRecipe(config.recipe)
    figures = train(recipe, config.loop, report)
    standardize_weights(output / MODEL_FILE, recipe)
    return figures


def standardize_weights(path: Path, recipe: PhoneEncoderRecipe) -> None:
    """Measure mean and deviation of the hidden channels on training windows, and store them in the weights.

    Raises:
        BackendError: the file is no phone encoder.
    """
    network, metadata = _load_network(path)
    total = np.zeros(network.config.channels)
    squares = np.zeros_like(total)
    count = 0
    for step in range(_STATISTICS_BATCHES):
        batch = recipe.sample_batch(step, np.random.default_rng([17, step]))
        with torch.inference_mode():
            hidden = network(batch["log_mels"])[1][batch["labels"] >= 0].double().numpy()  # (rows, C)
        total += hidden.sum(axis=0)
        squares += np.square(hidden).sum(axis=0)
        count += len(hidden)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - np.square(mean), _SMALLEST_DEVIATION**2))
    network.feature_mean.copy_(torch.from_numpy(mean))
    network.feature_deviation.copy_(torch.from_numpy(deviation))
    save_checkpoint(path, network.state_dict(), metadata)


def export_phone_encoder(path: Path, output: Path, name: str) -> None:
    """Write weights in half precision under a name that models trained on the features will ask for.

    Args:
        path: standardised weights of a run.
        output: file to write.
        name: of the encoder, e.g. "shipped-1".

    Raises:
        BackendError: the file is no phone encoder.
        OutputError: the output cannot be written.
    """
    network, metadata = _load_network(path)
    state = {
        key: value.half() if value.is_floating_point() else value
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    save_checkpoint(output, state, {**metadata, "config": {**metadata["config"], "name": name}})


def _load_network(path: Path) -> tuple[PhoneEncoder, dict[str, Any]]:
    state, metadata = load_checkpoint(path, "phone_encoder")
    network = PhoneEncoder(config_from_dict(PhoneEncoderConfig, metadata["config"]["network"]))
    network.load_state_dict({key: value.float() for key, value in state.items()}, strict=False)
    return network.eval(), metadata
