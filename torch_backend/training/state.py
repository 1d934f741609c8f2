"""The whole state of a training run in one safetensors file: no pickle, one atomic rename."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from torch_backend.models.checkpoints import load_checkpoint, save_checkpoint

STATE_KIND = "training_state"


@dataclass
class TrainingState:
    """Everything that the next step depends on."""

    step: int
    """Steps done."""
    model: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor]
    """Moving average of the weights; empty without one."""
    optimizer: dict[str, Any]
    """state_dict of a torch optimizer."""
    random_states: dict[str, torch.Tensor]
    """Name of the generator ("cpu", "cuda") -> (processes, bytes) uint8."""
    loss_scaler: dict[str, Any]
    """state_dict of the float16 loss scaler; empty without one."""
    config: dict[str, Any]
    """Settings of the run; a resumed run must have the same."""
    metrics: dict[str, float]


def save_training_state(path: Path, state: TrainingState) -> None:
    """Write the state by write-then-rename, so that an interruption never leaves half a file.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {f"model.{name}": tensor for name, tensor in state.model.items()}
    tensors.update({f"average.{name}": tensor for name, tensor in state.average.items()})
    tensors.update({f"random.{name}": tensor for name, tensor in state.random_states.items()})
    scalars: dict[str, dict[str, Any]] = {}
    for index, values in state.optimizer["state"].items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                scalars.setdefault(str(index), {})[name] = value
    metadata = {
        "kind": STATE_KIND,
        "config": state.config,
        "step": state.step,
        "metrics": state.metrics,
        "optimizer_scalars": scalars,
        "optimizer_groups": state.optimizer["param_groups"],
        "loss_scaler": state.loss_scaler,
    }
    save_checkpoint(path, tensors, metadata)


def load_training_state(path: Path) -> TrainingState:
    """Read a state written by `save_training_state`.

    Raises:
        BackendError: the file is missing, broken or of another version.
    """
    tensors, metadata = load_checkpoint(path, STATE_KIND)
    optimizer_state: dict[int, dict[str, Any]] = {
        int(index): dict(values) for index, values in metadata["optimizer_scalars"].items()
    }
    for name, tensor in _with_prefix(tensors, "optimizer.").items():
        index, _, key = name.partition(".")
        optimizer_state.setdefault(int(index), {})[key] = tensor
    return TrainingState(
        step=metadata["step"],
        model=_with_prefix(tensors, "model."),
        average=_with_prefix(tensors, "average."),
        optimizer={"state": optimizer_state, "param_groups": metadata["optimizer_groups"]},
        random_states=_with_prefix(tensors, "random."),
        loss_scaler=metadata["loss_scaler"],
        config=metadata["config"],
        metrics=metadata["metrics"],
    )


def _with_prefix(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
