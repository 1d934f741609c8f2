"""A scan's identity as a file: what `--identity FILE.safetensors` of FaceTalk names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from blender_talkhead.contract.errors import BackendError
from torch_backend.models.checkpoints import load_checkpoint, save_checkpoint

KIND = "nphm_identity"


@dataclass(frozen=True, eq=False)
class FittedIdentity:
    """An identity of one head model."""

    identity_code: torch.Tensor
    """(I,) float32."""
    facts: dict[str, Any]
    """JSON-able: head_model_sha256, scan, errors in millimetres, alignment, the built-in head's parameters if known."""

    @property
    def head_model_sha256(self) -> str:
        """Of the head model's file that the code belongs to."""
        return str(self.facts["head_model_sha256"])


def save_fitted_identity(path: Path, fitted: FittedIdentity) -> None:
    """Write an identity.

    Raises:
        ValueError: the facts do not name the head model.
        OutputError: the file cannot be written.
    """
    if not fitted.facts.get("head_model_sha256"):
        raise ValueError(f"expected facts with head_model_sha256, got {sorted(fitted.facts)}")
    save_checkpoint(path, {"identity_code": fitted.identity_code.float()}, {"kind": KIND, "config": fitted.facts})


def load_fitted_identity(path: Path, head_model_sha256: str | None = None) -> FittedIdentity:
    """Read an identity.

    Args:
        path: a file of `save_fitted_identity`.
        head_model_sha256: of the head model it is meant for; None takes any.

    Raises:
        BackendError: the file is missing, broken, of another kind, or an identity of another head model.
    """
    tensors, metadata = load_checkpoint(path, KIND)
    facts, code = metadata["config"], tensors.get("identity_code")
    if code is None or code.ndim != 1 or not bool(torch.isfinite(code).all()) or "head_model_sha256" not in facts:
        raise BackendError(f"the identity {path} is broken. Fit it again with `python -m torch_backend fit identity`.")
    if head_model_sha256 is not None and facts["head_model_sha256"] != head_model_sha256:
        raise BackendError(
            f"the identity {path} was fitted with another head model. Fit it again with `python -m torch_backend fit "
            "identity`, or pass that model."
        )
    return FittedIdentity(code.float(), facts)
