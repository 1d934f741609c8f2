"""A run of the head model's training, from settings to the file that ships."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch_backend.config import config_from_dict
from torch_backend.modules.denormal_numbers import flushed_denormals
from torch_backend.training.loop import MODEL_FILE, train
from torch_backend.training.nphm import HeadModelRecipe, HeadTrainingConfig
from torch_backend.training.nphm_export import export_head_model

DEFAULT_CONFIG = Path(__file__).resolve().parents[1] / "configs" / "nphm_head.toml"
HEAD_FILE = "nphm.safetensors"
"""In the folder of a run: the head model for use, with raw codes."""


def load_training_config(path: Path, output: Path, **loop_changes: Any) -> HeadTrainingConfig:
    """Read the settings of a run.

    Args:
        path: TOML file with the tables [model], [samples], [data], [loss] and [loop].
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
    return config_from_dict(HeadTrainingConfig, values, where=path.name)


def train_head_model(
    output: Path,
    config_path: Path | None = None,
    start: Path | None = None,
    pools: Path | None = None,
    report: Callable[[float, dict[str, float]], None] | None = None,
    **loop_changes: Any,
) -> dict[str, float]:
    """Train the built-in head's model; writes OUTPUT/nphm.safetensors.

    Args:
        output: folder of the run.
        config_path: TOML settings; without one the shipped settings.
        start: model.safetensors of an earlier run to begin with.
        pools: folder of the kept distances; by default in the run's.
        report: called with the fraction done and the figures of the last log line.
        **loop_changes: override fields of the loop.

    Raises:
        ValueError: the settings are not usable.
        OutputError: the folder cannot be written.
    """
    config = load_training_config(config_path or DEFAULT_CONFIG, output, **loop_changes)
    with flushed_denormals():
        recipe = HeadModelRecipe(config, pools or output / "samples", start)
        figures = train(recipe, config.loop, report)
    export_head_model(recipe, output / MODEL_FILE, output / HEAD_FILE)
    return figures
