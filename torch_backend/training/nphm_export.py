"""A trained head model as the file that ships: raw expression codes, and where its space lies."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn

from torch_backend.head.head_space import canonical_weights
from torch_backend.models.checkpoints import load_checkpoint
from torch_backend.models.nphm import BACKWARD_KIND, BackwardNPHM
from torch_backend.models.nphm_import import ImportedHeadModel, save_head_model
from torch_backend.training.expression_draws import draw_expressions
from torch_backend.training.nphm import HeadModelRecipe

NUM_EXPRESSIONS = 600
"""Codes that travel along, for the fits."""


def export_head_model(recipe: HeadModelRecipe, trained: Path, output: Path) -> None:
    """Write the head model of a run.

    Args:
        recipe: the one that trained it.
        trained: the run's model.safetensors.
        output: file to write.

    Raises:
        BackendError: the run's file is missing or broken.
        OutputError: the file cannot be written.
    """
    tensors, metadata = load_checkpoint(trained, BACKWARD_KIND)
    model = BackwardNPHM(recipe.config.model)
    model.load_state_dict(tensors)
    take_raw_codes(model, torch.from_numpy(recipe.scales), recipe.expressions.num_motion)
    drawn = draw_expressions(NUM_EXPRESSIONS, recipe.speech, np.random.default_rng(recipe.config.data.seed))
    exported = ImportedHeadModel(
        model.eval(), torch.from_numpy(recipe.codes), torch.from_numpy(recipe.expressions.encode(drawn))
    )
    save_head_model(
        output,
        exported,
        step=metadata["step"],
        metrics=metadata["metrics"],
        training={"recipe": metadata["config"], "loop": metadata.get("training", {})},
        head_space=asdict(recipe.space),
        canonical_weights=canonical_weights().tolist(),
        box=recipe.sampler.box.tolist(),
    )


def take_raw_codes(model: BackwardNPHM, scales: torch.Tensor, num_codes: int) -> None:
    """Fold the whitening of the expression codes into the weights: entries are divided by `scales` (X,) no longer.

    Entries from `num_codes` on get no weight: they move no skin.
    """
    factors = torch.where(torch.arange(len(scales)) < num_codes, 1.0 / scales, torch.zeros_like(scales))
    with torch.no_grad():
        for number in (0, model.deformation.skip_layer):
            weight = cast(nn.Linear, model.deformation.layers[number]).weight
            weight[:, -len(scales) :] *= factors
