"""The one training loop: on accelerate, with checkpoints from which a run resumes as if it had never stopped.

What makes a resumed run equal to an uninterrupted one, bit for bit:
- a batch depends on (seed, step, process) only, never on a running iterator;
- the learning rate is a function of the step only, so that the step is the scheduler's whole state;
- weights, moving average, optimizer moments, loss scaler and the random states of torch are in the checkpoint;
- evaluation runs on a fork of the random state.

A run's folder holds config.json, log.jsonl (one line a logged step), checkpoint.safetensors (the newest training
state) and, at the end, model.safetensors (weights for use; the moving average when there is one).
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device

from blender_talkhead.contract.errors import OutputError
from torch_backend.config import config_to_dict
from torch_backend.models.checkpoints import save_checkpoint
from torch_backend.training.state import TrainingState, load_training_state, save_training_state

logger = logging.getLogger(__name__)

CHECKPOINT_FILE = "checkpoint.safetensors"
MODEL_FILE = "model.safetensors"
LOG_FILE = "log.jsonl"
CONFIG_FILE = "config.json"
METRIC_PREFIX = "metric_"
"""Entries of compute_loss with this prefix are logged, but are no terms of the loss."""

# Fields that may differ between a run and its continuation: they do not change what a step does.
_FREE_FIELDS = ("output", "resume", "checkpoint_every", "evaluate_every", "log_every", "device")


class Recipe(Protocol):
    """What to train. The loop asks for batches and losses and knows nothing else."""

    kind: str
    """Kind of the resulting checkpoint, e.g. "mmtalker"."""

    def describe(self) -> dict[str, Any]:
        """JSON-able settings from which the model can be built again; stored as the checkpoint's config."""

    def build_model(self) -> torch.nn.Module:
        """A fresh model; torch is seeded before the call."""

    def sample_batch(self, step: int, generator: np.random.Generator) -> Any:
        """The batch of a step (0-based), from `generator` alone: tensors nested in dicts, lists, tuples."""

    def compute_loss(self, model: torch.nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        """Scalars: "loss", and the terms it is the sum of (weights applied). "metric_..." entries are only logged."""

    def evaluate(self, model: torch.nn.Module) -> dict[str, float]:
        """Figures on held-out data; the model is in evaluation mode, without gradients."""


@dataclass(frozen=True)
class LoopConfig:
    """Settings of the loop."""

    steps: int
    """Optimizer steps in all."""
    output: Path
    """Folder of the run."""
    learning_rate: float = 1e-3
    """Peak rate of Adam."""
    warmup: int = 50
    """Steps of linear warmup."""
    final_rate_fraction: float = 0.02
    """The cosine falls to this share of the peak rate."""
    weight_decay: float = 0.0
    """Decoupled (AdamW); at 0 the optimizer is Adam."""
    gradient_clip: float = 1.0
    """Largest gradient norm; 0 switches clipping off."""
    average_decay: float = 0.0
    """Decay of the moving average of the weights; 0 switches it off."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    """Precision of the model's forward pass."""
    device: Literal["auto", "cpu"] = "auto"
    """auto takes the accelerator where there is one."""
    seed: int = 0
    """Seed of the weights, the batches and the dropout."""
    checkpoint_every: int = 200
    """Steps between training states on disk; 0 writes only the last one."""
    evaluate_every: int = 0
    """Steps between evaluations; 0 evaluates only at the end."""
    log_every: int = 20
    """Steps between log lines; a line holds the means since the line before."""
    resume: bool = False
    """Continue from the folder's training state where there is one."""

    def __post_init__(self) -> None:
        for name in ("steps", "learning_rate", "log_every"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.average_decay < 1:
            raise ValueError(f"average_decay must be in [0, 1), got {self.average_decay}")


def learning_rate_at(step: int, config: LoopConfig) -> float:
    """Rate of a step (0-based): linear warmup, then half a cosine from the peak to `final_rate_fraction` of it."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    progress = max(0, step - config.warmup) / max(1, config.steps - config.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.learning_rate * warm * (config.final_rate_fraction + (1 - config.final_rate_fraction) * cosine)


def batch_generator(seed: int, step: int, process_index: int = 0) -> np.random.Generator:
    """The generator that a step's batch is drawn from."""
    return np.random.default_rng(np.random.SeedSequence([seed, step, process_index]))


def train(
    recipe: Recipe, config: LoopConfig, report: Callable[[float, dict[str, float]], None] | None = None
) -> dict[str, float]:
    """Train to the end and write model.safetensors.

    Args:
        recipe: model, batches and losses.
        config: settings.
        report: called at each log line with the fraction done and the logged figures; may raise to stop the run.

    Returns:
        The figures of the last evaluation, with the mean loss since the last log line as "train_loss".

    Raises:
        ValueError: the folder holds a training state of other settings.
        FloatingPointError: the loss is not finite.
        OutputError: the folder cannot be written.
        BackendError: the training state to resume from is broken.
    """
    run = _Run(recipe, config)
    while run.step < config.steps:
        terms = run.advance()
        run.log.add(terms)
        last = run.step == config.steps
        if config.evaluate_every and run.step % config.evaluate_every == 0 and not last:
            run.evaluate()
        if run.step % config.log_every == 0 or last:
            figures = run.log.flush(run.step, learning_rate_at(run.step - 1, config), run.metrics)
            if report is not None:
                report(run.step / config.steps, figures)
        if config.checkpoint_every and run.step % config.checkpoint_every == 0 and not last:
            run.save()
    run.evaluate()
    run.save()
    run.export()
    return dict(run.metrics)


class _Run:
    """Model, optimizer and counters of one run."""

    def __init__(self, recipe: Recipe, config: LoopConfig) -> None:
        self.recipe = recipe
        self.config = config
        self.accelerator = Accelerator(mixed_precision=config.mixed_precision, cpu=config.device == "cpu")
        self.step = 0
        self.metrics: dict[str, float] = {}
        torch.manual_seed(config.seed)
        model = recipe.build_model()
        optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.average = _clone_floats(self.bare_model) if config.average_decay else {}
        # Dropout differs between processes; the weights, made above, do not.
        torch.manual_seed(config.seed + 1 + self.accelerator.process_index)
        self._prepare_folder()
        state_path = config.output / CHECKPOINT_FILE
        if config.resume and state_path.is_file():
            self._restore(load_training_state(state_path))
        self.log = _Log(config.output / LOG_FILE, self.step, self.accelerator.is_main_process)

    @property
    def bare_model(self) -> torch.nn.Module:
        """The model without accelerate's wrappers."""
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def advance(self) -> dict[str, float]:
        """One optimizer step; returns the loss and its terms."""
        config = self.config
        rate = learning_rate_at(self.step, config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        generator = batch_generator(config.seed, self.step, self.accelerator.process_index)
        batch = send_to_device(self.recipe.sample_batch(self.step, generator), self.accelerator.device)
        self.model.train()
        losses = self.recipe.compute_loss(self.model, batch)
        terms = {name: float(value.detach()) for name, value in losses.items()}
        if not math.isfinite(terms["loss"]):
            raise FloatingPointError(f"the loss is {terms['loss']} at step {self.step}: {terms}")
        self.optimizer.zero_grad()
        self.accelerator.backward(losses["loss"])
        if config.gradient_clip:
            self.accelerator.clip_grad_norm_(self.model.parameters(), config.gradient_clip)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return terms

    def evaluate(self) -> None:
        """Measure on held-out data, with the moving average where there is one; the random state stays untouched."""
        model = self.bare_model
        with torch.random.fork_rng(), torch.no_grad(), _averaged(model, self.average):
            model.eval()
            self.metrics = {name: float(value) for name, value in self.recipe.evaluate(model).items()}
            model.train()
        logger.info("step %d evaluation %s", self.step, _rounded(self.metrics))

    def save(self) -> None:
        """Write the training state."""
        random_states = self._gather_random_states()
        if not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        state = TrainingState(
            step=self.step,
            model=self.bare_model.state_dict(),
            average=self.average,
            optimizer=self.optimizer.state_dict(),
            random_states=random_states,
            loss_scaler=scaler.state_dict() if scaler is not None else {},
            config=self._described(),
            metrics=self.metrics,
        )
        save_training_state(self.config.output / CHECKPOINT_FILE, state)

    def export(self) -> None:
        """Write the weights for use."""
        self.metrics["train_loss"] = self.log.last_loss
        if not self.accelerator.is_main_process:
            return
        weights = {**self.bare_model.state_dict(), **self.average}
        metadata = {
            "kind": self.recipe.kind,
            "config": self.recipe.describe(),
            "step": self.step,
            "metrics": self.metrics,
            "training": _plain_loop_config(self.config),
        }
        save_checkpoint(self.config.output / MODEL_FILE, weights, metadata)

    def _described(self) -> dict[str, Any]:
        return {"recipe": self.recipe.describe(), "loop": _plain_loop_config(self.config)}

    def _prepare_folder(self) -> None:
        if not self.accelerator.is_main_process:
            return
        try:
            self.config.output.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self._described(), indent=1, sort_keys=True)
            (self.config.output / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write the run folder {self.config.output}: {error}") from error

    def _restore(self, state: TrainingState) -> None:
        # Through JSON, because tuples come back as lists.
        current = json.loads(json.dumps(self._described()))
        if state.config != current:
            different = [key for key in ("recipe", "loop") if state.config.get(key) != current[key]]
            raise ValueError(
                f"{self.config.output} holds a run of other settings ({', '.join(different)} differ): "
                f"expected {current}, found {state.config}. Give another output folder, or do not resume."
            )
        self.bare_model.load_state_dict(state.model)
        self.average = {name: tensor.to(self.accelerator.device) for name, tensor in state.average.items()}
        self.optimizer.load_state_dict(state.optimizer)
        if self.accelerator.scaler is not None and state.loss_scaler:
            self.accelerator.scaler.load_state_dict(state.loss_scaler)
        self.step = state.step
        self.metrics = state.metrics
        self._set_random_states(state.random_states)
        logger.info("resumed at step %d", self.step)

    def _gather_random_states(self) -> dict[str, torch.Tensor]:
        device = self.accelerator.device
        states = {"cpu": torch.get_rng_state()}
        if device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(device)
        return {name: self.accelerator.gather(state[None].to(device)).cpu() for name, state in states.items()}

    def _set_random_states(self, states: Mapping[str, torch.Tensor]) -> None:
        index = self.accelerator.process_index
        if len(states["cpu"]) != self.accelerator.num_processes:
            logger.warning("the number of processes has changed: dropout will differ from an uninterrupted run")
            return
        torch.set_rng_state(states["cpu"][index])
        if "cuda" in states and self.accelerator.device.type == "cuda":
            torch.cuda.set_rng_state(states["cuda"][index], self.accelerator.device)

    def _update_average(self) -> None:
        if not self.average:
            return
        # A young average follows closely, so that it does not remember the random start.
        decay = min(self.config.average_decay, (1 + self.step) / (10 + self.step))
        for name, value in self.bare_model.state_dict().items():
            if name in self.average:
                self.average[name].lerp_(value.detach().to(self.average[name].dtype), 1 - decay)


class _Log:
    """log.jsonl: the means of the loss, of each term and of its share, since the line before."""

    def __init__(self, path: Path, step: int, enabled: bool) -> None:
        self.path = path
        self.enabled = enabled
        self.last_loss = math.nan
        self._sums: dict[str, float] = {}
        self._count = 0
        self._start = time.monotonic()
        if enabled:
            # Lines after the checkpoint that we resume from would appear twice.
            lines = path.read_text(encoding="utf-8").splitlines() if step and path.is_file() else []
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            _write_then_rename(path, "".join(f"{line}\n" for line in kept))

    def add(self, terms: Mapping[str, float]) -> None:
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1

    def flush(self, step: int, learning_rate: float, metrics: Mapping[str, float]) -> dict[str, float]:
        """Write a line; returns its means."""
        means = {name: value / self._count for name, value in self._sums.items()}
        shares = compute_shares(means)
        self.last_loss = means["loss"]
        self._sums, self._count = {}, 0
        if self.enabled:
            line = {
                "step": step,
                "learning_rate": learning_rate,
                "seconds": round(time.monotonic() - self._start, 2),
                "means": means,
                "shares": shares,
                "metrics": dict(metrics),
            }
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        logger.info("step %d means %s shares %s", step, _rounded(means), _rounded(shares))
        return means


def compute_shares(terms: Mapping[str, float]) -> dict[str, float]:
    """Share of each term in the sum of all terms: those beside "loss" that carry no metric prefix."""
    parts = {name: value for name, value in terms.items() if name != "loss" and not name.startswith(METRIC_PREFIX)}
    total = sum(parts.values())
    return {name: value / total if total else 0.0 for name, value in parts.items()}


def _plain_loop_config(config: LoopConfig) -> dict[str, Any]:
    return {name: value for name, value in config_to_dict(config).items() if name not in _FREE_FIELDS}


def _clone_floats(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items() if value.is_floating_point()}


@contextmanager
def _averaged(model: torch.nn.Module, average: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """The model with the moving average as its weights, inside the block."""
    if not average:
        yield
        return
    own = {name: value.detach().clone() for name, value in model.state_dict().items()}
    model.load_state_dict({**own, **average})
    try:
        yield
    finally:
        model.load_state_dict(own)


def _write_then_rename(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in values.items()}
