"""From a corpus to the weights that ship: features, training, and the export of small, standardised weights."""

from __future__ import annotations

import dataclasses
import logging
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torch_backend.config import config_from_dict
from torch_backend.models.checkpoints import load_checkpoint, save_checkpoint
from torch_backend.models.phone_encoder import PhoneEncoder, PhoneEncoderConfig
from torch_backend.training.loop import MODEL_FILE, LoopConfig, train
from torch_backend.training.phone_encoder import PhoneEncoderRecipe, PhoneTrainingConfig
from torch_backend.training.phone_features import build_phone_features

_LOGGER = logging.getLogger(__name__)

DEFAULT_CONFIG = Path(__file__).resolve().parents[1] / "configs" / "phone_encoder.toml"
FEATURE_FOLDER = "features"
_STATISTICS_BATCHES = 20
_SMALLEST_DEVIATION = 1e-3


@dataclasses.dataclass(frozen=True)
class PhoneEncoderTrainingConfig:
    """What configs/phone_encoder.toml holds."""

    recipe: PhoneTrainingConfig
    loop: LoopConfig
    augmented_copies: int = 4
    """Augmented copies of every utterance, beside the clean one."""


def load_training_config(path: Path, output: Path, **loop_changes: Any) -> PhoneEncoderTrainingConfig:
    """Read settings.

    Args:
        path: TOML file.
        output: folder of the run, which holds the features too.
        **loop_changes: override fields of the loop.

    Raises:
        ValueError: not TOML, unknown keys or values of the wrong type.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from error
    values["loop"] = {**values.get("loop", {}), "output": str(output), **loop_changes}
    values["recipe"] = {**values.get("recipe", {}), "features": str(output / FEATURE_FOLDER)}
    return config_from_dict(PhoneEncoderTrainingConfig, values, where=path.name)


def train_phone_encoder(
    corpus: Path,
    output: Path,
    config_path: Path | None = None,
    report: Callable[[float, dict[str, float]], None] | None = None,
    num_processes: int = 1,
    **loop_changes: Any,
) -> dict[str, float]:
    """Train the phone network on a corpus; writes OUTPUT/model.safetensors, ready for use as an encoder.

    Args:
        corpus: folder made by `build_corpus`.
        output: folder of the run; features already in it are used again.
        config_path: TOML settings; without one the shipped settings.
        report: called with the fraction done and the figures of the last log line.
        num_processes: for the features.
        **loop_changes: override fields of the loop: steps, seed, device, resume, mixed_precision ...

    Returns:
        Figures on the held-out sentences.

    Raises:
        ValueError: the settings or the corpus are not usable.
        OutputError: the folder cannot be written.
    """
    config = load_training_config(config_path or DEFAULT_CONFIG, output, **loop_changes)
    if not (output / FEATURE_FOLDER / "index.json").is_file():
        _LOGGER.info("computing log-mels of the corpus and of %d augmented copies", config.augmented_copies)
        build_phone_features(corpus, output / FEATURE_FOLDER, config.augmented_copies, config.loop.seed, num_processes)
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
