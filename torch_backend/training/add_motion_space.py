"""Give weights that were trained without a motion space the one of their training examples; nothing is trained.

python -m torch_backend.training.add_motion_space WEIGHTS EXAMPLES [--output FILE]
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from torch_backend.config import config_from_dict, config_to_dict
from torch_backend.head import load_head
from torch_backend.models.builders import load_mmtalker
from torch_backend.models.checkpoints import save_checkpoint
from torch_backend.training.mmtalker import MMTalkerRecipe
from torch_backend.training.mmtalker_config import MMTalkerTrainingConfig
from torch_backend.training.motion_examples import load_motion_examples
from torch_backend.training.motion_space import MAX_SHAPES


def add_motion_space(weights: Path, examples: Path, output: Path) -> int:
    """Derive the motion space, store it with the weights, and evaluate them again.

    Args:
        weights: an MMTalker checkpoint.
        examples: the example folder it was trained on.
        output: file to write; may be `weights`.

    Returns:
        Number of shapes.

    Raises:
        BackendError: the weights are missing or broken.
        ValueError: the examples are none, or other ones than the weights name, or need too many shapes.
        OutputError: the file cannot be written.
    """
    model, metadata = load_mmtalker(weights)
    trained, opened = metadata["config"]["training"], load_motion_examples(examples)
    if opened.source != trained["source"]:
        raise ValueError(f"the weights were trained on {trained['source']}, {examples} holds {opened.source}")
    values = {
        "loop": {"steps": max(1, metadata["step"]), "output": ""},
        "model": config_to_dict(model.config),
        "loss": trained["loss"],
        "data": trained["data"],
    }
    recipe = MMTalkerRecipe(config_from_dict(MMTalkerTrainingConfig, values, where=weights.name), load_head(), opened)
    model.motion_space = recipe.derive_motion_space()
    if model.motion_space is None:
        raise ValueError(f"the motion of {examples} stands still, or needs more than {MAX_SHAPES} shapes")
    with torch.no_grad():
        metrics = {**metadata["metrics"], **recipe.evaluate(model)}
    metadata["config"]["model"] = config_to_dict(model.config)
    save_checkpoint(output, model.state_dict(), {**metadata, "metrics": metrics})
    return len(model.motion_space)


def main(arguments: Sequence[str] | None = None) -> int:
    """Add the motion space of an example folder to existing weights."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("weights", type=Path, help="MMTalker checkpoint")
    parser.add_argument("examples", type=Path, help="folder of the examples that it was trained on")
    parser.add_argument("--output", type=Path, help="file to write (default: the checkpoint itself)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    add_motion_space(options.weights, options.examples, options.output or options.weights)
    return 0


if __name__ == "__main__":
    sys.exit(main())
