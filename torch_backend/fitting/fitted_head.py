"""A head model as fits need it: the network, what its codes look like, and where the built-in head lies in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from blender_talkhead.contract.errors import BackendError
from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES
from blender_talkhead.facial.identity_parameters import IDENTITY_PARAMETERS
from torch_backend.config import config_from_dict
from torch_backend.fitting.code_prior import (
    CodePrior,
    HeadPriors,
    prior_of_codes,
    subspace_of_codes,
    subspace_of_factors,
)
from torch_backend.head.expression_codes import load_expression_space
from torch_backend.head.head_space import HeadSpace
from torch_backend.head.identity_codes import load_identity_codes
from torch_backend.inference.head_model import SHIPPED_WEIGHTS
from torch_backend.models.checkpoints import file_sha256
from torch_backend.models.nphm import BackwardNPHM
from torch_backend.models.nphm_import import load_head_model

SPACE_KEY = "head_space"
"""Entry of a checkpoint's description: the unit of a model of the built-in head; official models have none."""
_USUAL_PARAMETER = 0.35
"""Size of identity parameters."""
_DRAWN_EXPRESSIONS = 300
_STILL_MM = 1e-3


@dataclass(frozen=True, eq=False)
class FittedHead:
    """What fits work with."""

    model: BackwardNPHM
    """In evaluation mode, its weights frozen."""
    priors: HeadPriors
    """Of its codes."""
    space: HeadSpace | None
    """Where the built-in head lies in the model's unit; None for models of other heads."""
    sha256: str
    """Of the model's file."""


def load_fitted_head(path: Path | None = None) -> FittedHead:
    """Read a head model of kind "nphm_backward", ours or an imported official one.

    Args:
        path: the file; None is the shipped model.

    Raises:
        BackendError: the file is missing, broken, of another kind, or its codes are missing.
    """
    file = SHIPPED_WEIGHTS if path is None else Path(path)
    imported = load_head_model(file)
    model = cast(BackwardNPHM, imported.model)
    try:
        space = _read_space(imported.metadata)
        if space is not None:
            priors = _built_in_priors()
        else:
            codes = imported.identity_codes, imported.expression_codes
            priors = HeadPriors(subspace_of_codes(codes[0]), prior_of_codes(codes[1]))
    except (TypeError, ValueError) as error:
        raise BackendError(
            f"the head model {file} cannot be fitted with: {error}. Make or import it again with its training codes."
        ) from error
    return FittedHead(model.eval().requires_grad_(False), priors, space, file_sha256(file))


def _read_space(metadata: Mapping[str, Any]) -> HeadSpace | None:
    values = metadata.get(SPACE_KEY)
    return None if values is None else config_from_dict(HeadSpace, values, SPACE_KEY)


@lru_cache(maxsize=1)
def _built_in_priors() -> HeadPriors:
    """Codes of our own models are fixed maps of identities and expressions.

    Identity codes are all but linear in the parameters: one code for each gives their statistics.
    """
    identities = load_identity_codes()
    factors = [identities.encode({name: _USUAL_PARAMETER}) for name in IDENTITY_PARAMETERS]
    subspace = subspace_of_factors(np.stack(factors), np.zeros(identities.code_size))
    space = load_expression_space()
    generator = np.random.default_rng(0)
    weights = generator.uniform(size=(_DRAWN_EXPRESSIONS, len(ARKIT_BLENDSHAPES)))
    weights *= generator.uniform(size=weights.shape) < 0.15
    drawn = space.encode(weights)
    drawn[:, space.num_motion :] = 0.0  # gaze and tongue move no skin
    prior = prior_of_codes(drawn)
    moving = np.linalg.norm(space.matrix[:, : space.num_motion], axis=1) > _STILL_MM
    generators = torch.from_numpy(space.matrix[moving].astype(np.float32))
    return HeadPriors(subspace, CodePrior(torch.zeros_like(prior.mean), prior.spread, prior.size, generators))
