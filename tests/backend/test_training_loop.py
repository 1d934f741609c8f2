"""The training loop: schedule, logs, moving average, and a resumed run equal to one that never stopped."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blender_talkhead.contract.errors import BackendError
from torch_backend.models.checkpoints import load_checkpoint
from torch_backend.training.loop import LoopConfig, batch_generator, compute_shares, learning_rate_at, train


class _StoppedError(Exception):
    pass


class _LineRecipe:
    """Fit y = 2 x0 - x1 with a small network that has dropout."""

    kind = "line"

    def __init__(self, stop_at: int | None = None, hidden: int = 8) -> None:
        self.stop_at = stop_at
        self.hidden = hidden

    def describe(self) -> dict[str, Any]:
        return {"hidden": self.hidden, "sizes": (2, 1)}

    def build_model(self) -> torch.nn.Module:
        return torch.nn.Sequential(
            torch.nn.Linear(2, self.hidden), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(self.hidden, 1)
        )

    def sample_batch(self, step: int, generator: np.random.Generator) -> dict[str, torch.Tensor]:
        if step == self.stop_at:
            raise _StoppedError
        inputs = torch.from_numpy(generator.normal(size=(16, 2)).astype(np.float32))
        return {"inputs": inputs, "targets": 2 * inputs[:, :1] - inputs[:, 1:]}

    def compute_loss(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        error = model(batch["inputs"]) - batch["targets"]
        squared, absolute = (error**2).mean(), 0.5 * error.abs().mean()
        return {"loss": squared + absolute, "squared": squared, "absolute": absolute, "metric_worst": error.abs().max()}

    def evaluate(self, model: torch.nn.Module) -> dict[str, float]:
        torch.rand(3)  # must not disturb the run
        inputs = torch.tensor([[1.0, 1.0], [0.5, -1.0]])
        return {"error": float((model(inputs) - torch.tensor([[1.0], [2.0]])).abs().mean())}


def _config(folder: Path, **changes: Any) -> LoopConfig:
    values: dict[str, Any] = {
        "steps": 30, "output": folder, "learning_rate": 0.02, "warmup": 5, "checkpoint_every": 7, "log_every": 5,
        "average_decay": 0.9, "device": "cpu",
    }  # fmt: skip
    return LoopConfig(**{**values, **changes})


def _tensors(folder: Path, name: str, kind: str) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / name, kind)[0]


def test_resumed_run_equals_uninterrupted_run_bit_for_bit(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = train(_LineRecipe(), _config(whole))
    for stop_at in (10, 23):  # between checkpoints, so that steps are repeated
        with pytest.raises(_StoppedError):
            train(_LineRecipe(stop_at), _config(parts, resume=True))
    metrics = train(_LineRecipe(), _config(parts, resume=True))
    assert metrics == expected
    for name, kind in (("model.safetensors", "line"), ("checkpoint.safetensors", "training_state")):
        first, second = _tensors(whole, name, kind), _tensors(parts, name, kind)
        assert first.keys() == second.keys()
        for key in first:
            assert torch.equal(first[key], second[key]), key
    read = lambda folder: [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]  # noqa: E731
    assert [line["step"] for line in read(parts)] == [5, 10, 15, 20, 25, 30]
    # Lines written by the first part up to the checkpoint hold the same means; later ones too where whole.
    assert read(whole)[-1]["means"] == read(parts)[-1]["means"]


def test_evaluation_does_not_change_the_run(tmp_path: Path) -> None:
    train(_LineRecipe(), _config(tmp_path / "rare"))
    train(_LineRecipe(), _config(tmp_path / "often", evaluate_every=3))
    first = _tensors(tmp_path / "rare", "model.safetensors", "line")
    second = _tensors(tmp_path / "often", "model.safetensors", "line")
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_dropout_is_active_and_random_state_matters(tmp_path: Path) -> None:
    train(_LineRecipe(), _config(tmp_path / "a", seed=0))
    train(_LineRecipe(), _config(tmp_path / "b", seed=1))
    first, second = (_tensors(tmp_path / name, "model.safetensors", "line") for name in "ab")
    assert not torch.equal(first["0.weight"], second["0.weight"])


def test_resume_refuses_other_settings(tmp_path: Path) -> None:
    train(_LineRecipe(), _config(tmp_path, steps=8))
    with pytest.raises(ValueError, match="other settings"):
        train(_LineRecipe(hidden=4), _config(tmp_path, steps=8, resume=True))


def test_resume_from_a_broken_state_is_a_backend_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(BackendError, match="broken"):
        train(_LineRecipe(), _config(tmp_path, resume=True))


def test_training_lowers_the_loss_and_logs_terms_and_shares(tmp_path: Path) -> None:
    seen: list[float] = []
    train(_LineRecipe(), _config(tmp_path, steps=200), report=lambda fraction, figures: seen.append(fraction))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["means"]["loss"] < 0.3 * lines[0]["means"]["loss"]
    assert seen == pytest.approx([step / 200 for step in range(5, 201, 5)])
    line = lines[0]
    assert line["means"]["loss"] == pytest.approx(line["means"]["squared"] + line["means"]["absolute"])
    assert set(line["shares"]) == {"squared", "absolute"}
    assert sum(line["shares"].values()) == pytest.approx(1)


def test_non_finite_loss_stops_the_run(tmp_path: Path) -> None:
    class _Broken(_LineRecipe):
        def compute_loss(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {"loss": super().compute_loss(model, batch)["loss"] * math.nan}

    with pytest.raises(FloatingPointError, match="step 0"):
        train(_Broken(), _config(tmp_path))


def test_learning_rate_by_hand() -> None:
    config = LoopConfig(steps=110, output=Path("x"), learning_rate=2.0, warmup=10, final_rate_fraction=0.1)
    assert learning_rate_at(0, config) == pytest.approx(0.2)
    assert learning_rate_at(9, config) == pytest.approx(2.0)
    assert learning_rate_at(60, config) == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert learning_rate_at(110, config) == pytest.approx(0.2)


def test_moving_average_by_hand(tmp_path: Path) -> None:
    """One weight, gradient -1 clipped to 1: Adam's first step is +rate; the average follows with decay 2 / 11."""

    class _One(_LineRecipe):
        def build_model(self) -> torch.nn.Module:
            model = torch.nn.Linear(1, 1, bias=False)
            torch.nn.init.zeros_(model.weight)
            return model

        def compute_loss(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {"loss": -model(torch.ones(1, 1)).sum()}

        def evaluate(self, model: torch.nn.Module) -> dict[str, float]:
            return {}

    train(_One(), _config(tmp_path, steps=1, learning_rate=0.5, warmup=0))
    state = _tensors(tmp_path, "checkpoint.safetensors", "training_state")
    assert float(state["model.weight"]) == pytest.approx(0.5, rel=1e-5)
    assert float(state["average.weight"]) == pytest.approx(0.5 * (1 - 2 / 11), rel=1e-5)


def test_shares_leave_metrics_out() -> None:
    assert compute_shares({"loss": 4.0, "a": 1.0, "b": 3.0, "metric_c": 9.0}) == {"a": 0.25, "b": 0.75}


def test_batches_depend_on_seed_step_and_process() -> None:
    draws = {tuple(batch_generator(*key).integers(0, 1000, 4)) for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))}
    assert len(draws) == 4
    assert batch_generator(3, 5).random() == batch_generator(3, 5).random()


@pytest.mark.parametrize("changes", [{"steps": 0}, {"learning_rate": 0.0}, {"average_decay": 1.0}])
def test_config_out_of_range(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        _config(Path("x"), **changes)
