"""The neural head that ships: network, unit, canonical pose, and its surface as a mesh that can be carried along."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blender_talkhead.contract.errors import BackendError
from torch_backend.head.head_space import HeadSpace
from torch_backend.models.checkpoints import file_sha256
from torch_backend.models.nphm import BackwardNPHM
from torch_backend.models.nphm_import import load_head_model

SHIPPED_WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "nphm.safetensors"
_SNAP_STEPS = 4
_SNAP_LIMIT = 0.012
"""A vertex is moved at most this far onto the learned surface, model units: 3 mm."""
_DIFFERENCE = 1e-3


@dataclass(frozen=True, eq=False)
class BuiltInHeadModel:
    """A head model of the built-in head."""

    model: BackwardNPHM
    """In evaluation mode on the CPU."""
    space: HeadSpace
    """The model's unit."""
    canonical_weights: NDArray[np.float32]
    """(52,) pose of the canonical space."""
    box: NDArray[np.float32]
    """(2, 3) lower and upper corner of where surfaces are searched, model units."""
    expression_codes: NDArray[np.float32]
    """(n, 200) some that it was trained on."""
    identity_codes: NDArray[np.float32]
    """(n, 1344) those it was trained on; the first, zeros, is the mean head's."""
    metadata: dict[str, Any]
    sha256: str
    """Of the file."""

    @property
    def mean_identity(self) -> torch.Tensor:
        """(1, 1344)."""
        return torch.zeros(1, self.model.sizes.code_size)


def load_built_in_head_model(path: Path | None = None) -> BuiltInHeadModel:
    """Read the shipped head model, or another one of the built-in head.

    Args:
        path: file written by `export_head_model`; None for the shipped one.

    Raises:
        BackendError: the file is missing, broken or no model of the built-in head.
    """
    file = SHIPPED_WEIGHTS if path is None else Path(path)
    imported = load_head_model(file)
    if not isinstance(imported.model, BackwardNPHM) or "head_space" not in imported.metadata:
        raise BackendError(
            f"{file} is no model of the built-in head: expected one that `python -m torch_backend train nphm` made."
        )
    try:
        space = HeadSpace(**imported.metadata["head_space"])
        canonical = np.array(imported.metadata["canonical_weights"], np.float32)
        box = np.array(imported.metadata["box"], np.float32).reshape(2, 3)
    except (KeyError, TypeError, ValueError) as error:
        raise BackendError(
            f"the description inside {file} is broken ({error}). Install the extension again."
        ) from error
    return BuiltInHeadModel(
        model=imported.model,
        space=space,
        canonical_weights=canonical,
        box=box,
        expression_codes=imported.expression_codes.numpy(),
        identity_codes=imported.identity_codes.numpy(),
        metadata=imported.metadata,
        sha256=file_sha256(file),
    )


def snap_to_canonical_surface(
    head_model: BuiltInHeadModel, points: NDArray[np.floating], identity: torch.Tensor
) -> NDArray[np.float32]:
    """Move points (V, 3) near the canonical surface onto the learned one, along its gradient; model units.

    Points that would have to move further than 3 mm stay where they are: the network has no surface there.
    """
    start = torch.from_numpy(np.asarray(points, np.float32))[None]
    places = start.clone()
    axes = torch.eye(3) * _DIFFERENCE
    with torch.no_grad():
        for _ in range(_SNAP_STEPS):
            values = _canonical_values(head_model, places, identity)
            ahead = [_canonical_values(head_model, places + axis, identity) for axis in axes]
            gradient = torch.stack([(value - values) / _DIFFERENCE for value in ahead], dim=-1)
            square = gradient.square().sum(-1, keepdim=True).clamp_min(0.1)
            places = places - values[..., None] * gradient / square
        is_near = (places - start).norm(dim=-1, keepdim=True) <= _SNAP_LIMIT
        return torch.where(is_near, places, start)[0].numpy()


def _canonical_values(head_model: BuiltInHeadModel, places: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
    padded = torch.nn.functional.pad(places, (0, head_model.model.config.hyper_size))
    return head_model.model.canonical_signed_distance(padded, identity)
