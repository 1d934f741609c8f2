"""How FaceTalk's expression decoder is trained: crops of code sequences, noise, and the paper's loss (eq. 4)."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from torch_backend.config import config_from_dict, config_to_dict
from torch_backend.inference.facetalk_sampling import SamplingConfig
from torch_backend.models.facetalk import FRAME_RATE, KIND, FaceTalk, FaceTalkConfig
from torch_backend.training.code_sequences import INDEX_FILE, CodeSequences, load_code_sequences
from torch_backend.training.facetalk_evaluation import CLOSED_MM, evaluate_facetalk
from torch_backend.training.loop import LoopConfig, train
from torch_backend.training.mouth_codes import BUILT_IN_HEAD, MouthOfCodes, load_mouth_of_codes
from torch_backend.training.spoken_codes import build_spoken_sequences, is_corpus

DEFAULT_CONFIG = Path(__file__).resolve().parents[1] / "configs" / "facetalk.toml"
EVALUATED_LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Time steps that an evaluation looks at, as shares of all."""
EVALUATED_TAKES = 2
STATISTIC_ROWS = 40_000
"""Rows of codes and condition, at least, that their mean and deviation are measured on: a corpus has more than fit well
into memory as float32."""
SEQUENCE_FOLDER = "sequences"


@dataclass(frozen=True)
class CodeDataConfig:
    """What a training step draws."""

    batch_size: int = 32
    """Crops in a step."""
    null_probability: float = 0.25
    """Share of crops whose condition is replaced by the null condition."""
    lowest_modulation: float = 0.7
    """a of eq. 8: the least factor of a crop's codes. The paper gives no value."""
    highest_modulation: float = 1.3
    """b of eq. 8. Equal to a: no augmentation (ablation)."""
    velocity: float = 0.0
    """Weight of the squared error of frame-to-frame differences; the paper has none."""
    gap: float = 0.0
    """Weight of the squared error of the vectors between the lips, square millimetres; the paper has none. Only for
    codes of the built-in head."""
    closed_factor: float = 1.0
    """How much more a frame in which the lips touch counts in that."""
    whitening: float = 0.0
    """How far the codes' channels are brought to one size; see FaceTalk.set_statistics."""
    condition_noise: float = 0.0
    """Noise on the condition, relative to each channel's standard deviation."""
    evaluated_crops: int = 64
    """Held-out crops that an evaluation uses at most."""
    evaluated_sequences: int = 12
    """Held-out sequences that an evaluation samples takes of, where it can measure their mouth."""
    processes: int = 1
    """Processes that compute the features of a corpus; does not change them."""
    augmented_copies: int = 1
    """Augmented copies of every utterance of a corpus, beside the clean one."""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or not 0 <= self.null_probability <= 1 or self.velocity < 0:
            raise ValueError(
                "expected batch_size >= 1, null_probability in 0..1 and velocity >= 0, "
                f"got {self.batch_size}, {self.null_probability} and {self.velocity}"
            )
        if min(self.gap, self.closed_factor, self.condition_noise) < 0 or not 0 <= self.whitening <= 1:
            raise ValueError(
                "expected gap, closed_factor and condition_noise >= 0 and whitening in 0..1, "
                f"got {self.gap}, {self.closed_factor}, {self.condition_noise} and {self.whitening}"
            )
        if not 0 < self.lowest_modulation <= self.highest_modulation:
            raise ValueError(
                f"expected 0 < lowest <= highest modulation, got {self.lowest_modulation}..{self.highest_modulation}"
            )


@dataclass(frozen=True)
class FaceTalkTrainingConfig:
    """All settings of a run."""

    loop: LoopConfig
    model: FaceTalkConfig = field(default_factory=FaceTalkConfig)
    data: CodeDataConfig = field(default_factory=CodeDataConfig)


class FaceTalkRecipe:
    """Recipe for training/loop.py."""

    kind = KIND

    def __init__(self, config: FaceTalkTrainingConfig, sequences: CodeSequences) -> None:
        """Take the settings and the data; sizes and encoder of the model come from the data.

        Raises:
            ValueError: another frame rate than the model's, or nothing to train on.
        """
        if sequences.frame_rate != FRAME_RATE:
            raise ValueError(f"expected sequences at {FRAME_RATE} frames per second, got {sequences.frame_rate}")
        self.sequences = sequences
        self.train_indices = sequences.indices(held_out=False)
        self.held_out_indices = sequences.indices(held_out=True)
        if not self.train_indices:
            raise ValueError("expected sequences to train on, got none; are all held out?")
        model = replace(
            config.model,
            code_size=sequences.codes.shape[1],
            condition_size=sequences.condition.shape[1],
            speech_encoder=str(sequences.facts.get("speech_encoder", config.model.speech_encoder)),
        )
        self.config = replace(config, model=model)
        weights = sequences.weights or (1.0,) * len(sequences.names)
        amounts = np.cumsum([self._length(index) * weights[index] for index in self.train_indices])
        self._shares = amounts / amounts[-1]
        self.mouth = load_mouth_of_codes() if sequences.facts.get("head") == BUILT_IN_HEAD else None
        if config.data.gap and self.mouth is None:
            raise ValueError("gap needs codes of the built-in head; set it to 0 for those of another one")
        self._num_rows = len(sequences.codes)
        self._noise = self._condition_noise()

    def describe(self) -> dict[str, Any]:
        """Settings, and where the codes come from."""
        return {
            "model": config_to_dict(self.config.model),
            "data": config_to_dict(self.config.data),
            "sequences": self.sequences.facts,
        }

    def build_model(self) -> FaceTalk:
        """A fresh network that knows mean and deviation of the data."""
        model = FaceTalk(self.config.model)
        rows = np.concatenate([np.arange(*self.sequences.rows(i).indices(self._num_rows)) for i in self.train_indices])
        rows = rows[:: max(1, len(rows) // STATISTIC_ROWS)]
        codes, condition = (
            torch.from_numpy(np.asarray(values[rows], np.float32))
            for values in (self.sequences.codes, self.sequences.condition)
        )
        model.set_statistics(codes, condition, self.config.data.whitening)
        return model

    def sample_batch(self, step: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """Draw crops.

        Returns:
            codes (B, N, E), condition (B, N + 2 m, D), valid (B, N) float32: 0 after the end of a short sequence,
            noise (B, N, E), times (B,) int64, dropped (B,) bool.
        """
        data = self.config.data
        chosen = np.searchsorted(self._shares, generator.random(data.batch_size), side="right")
        crops = []
        for item in chosen:
            index = self.train_indices[min(int(item), len(self.train_indices) - 1)]
            latest = max(0, self._length(index) - self.config.model.crop_frames)
            crops.append(self._cut(index, int(generator.integers(latest + 1))))
        batch = _stack(crops)
        factors = generator.uniform(data.lowest_modulation, data.highest_modulation, data.batch_size)
        batch["codes"] = modulate_codes(batch["codes"], torch.from_numpy(factors.astype(np.float32)))
        batch["noise"] = torch.from_numpy(generator.standard_normal(batch["codes"].shape, dtype=np.float32))
        if data.condition_noise:
            drawn = generator.standard_normal(batch["condition"].shape, dtype=np.float32)
            batch["condition"] += torch.from_numpy(self._noise * drawn)
        batch["times"] = torch.from_numpy(generator.integers(self.config.model.num_steps, size=data.batch_size))
        batch["dropped"] = torch.from_numpy(generator.random(data.batch_size) < data.null_probability)
        return batch

    def compute_loss(self, model: torch.nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Eq. 4 over the valid frames, in standardised codes, and our own terms where they are asked for."""
        predicted, clean = _predict(model, batch)
        valid = batch["valid"]
        terms = {"codes": _mean_over((predicted - clean).square().mean(-1), valid)}
        if self.config.data.velocity:
            difference = (predicted - clean).diff(dim=1).square().mean(-1)  # (B, N - 1)
            terms["velocity"] = self.config.data.velocity * _mean_over(difference, valid[:, 1:])
        if self.config.data.gap and self.mouth is not None:
            terms["gap"] = self.config.data.gap * self._gap_loss(_bare(model), predicted - clean, batch, self.mouth)
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}

    def _gap_loss(self, model: FaceTalk, error: Tensor, batch: dict[str, Tensor], mouth: MouthOfCodes) -> Tensor:
        """Mean squared error of the vectors between the lips, from standardised errors (B, N, E)."""
        gap, opening = (torch.from_numpy(each).to(error) for each in (mouth.gap, mouth.opening))
        closed = (batch["codes"] @ opening).abs() < CLOSED_MM
        weights = torch.where(closed, self.config.data.closed_factor, 1.0) * batch["valid"]
        return _mean_over(((error * model.code_deviation) @ gap).square().sum(-1) * weights, batch["valid"])

    def evaluate(self, model: torch.nn.Module) -> dict[str, float]:
        """Squared error on held-out crops at fixed time steps, with and without their condition; the same noise."""
        if not self.held_out_indices:
            return {}
        batch = _stack([
            self._cut(index, first)
            for index in self.held_out_indices
            for first in range(0, self._length(index), self.config.model.crop_frames)
        ][: self.config.data.evaluated_crops])  # fmt: skip
        count = len(batch["codes"])
        noise = np.random.default_rng(0).standard_normal(batch["codes"].shape, dtype=np.float32)
        batch["noise"] = torch.from_numpy(noise)
        device = next(model.parameters()).device
        figures = {}
        for level in EVALUATED_LEVELS:
            batch["times"] = torch.full((count,), int(level * self.config.model.num_steps))
            for name, dropped in (("", False), ("null_", True)):
                batch["dropped"] = torch.full((count,), dropped)
                here = {key: value.to(device) for key, value in batch.items()}
                predicted, clean = _predict(model, here)
                error = _mean_over((predicted - clean).square().mean(-1), here["valid"])
                figures[f"{name}error_{round(100 * level)}"] = float(error)
        if self.mouth is not None:
            chosen = _spread(self.held_out_indices, self.config.data.evaluated_sequences)
            bare = _bare(model)
            figures |= evaluate_facetalk(
                bare, self.sequences, chosen, self.mouth, SamplingConfig(takes=EVALUATED_TAKES)
            )
        return figures

    def _condition_noise(self) -> np.ndarray:
        """(D,) float32 standard deviation of the noise on each channel."""
        condition = self.sequences.condition
        rows = np.asarray(condition[:: max(1, len(condition) // STATISTIC_ROWS)], np.float32)
        noise: np.ndarray = np.float32(self.config.data.condition_noise) * rows.std(axis=0)
        return noise

    def _length(self, index: int) -> int:
        rows = self.sequences.rows(index)
        return rows.stop - rows.start

    def _cut(self, index: int, first: int) -> dict[str, np.ndarray]:
        """A crop; beyond the ends of the sequence the end rows repeat."""
        rows = self.sequences.rows(index)
        margin = self.config.model.condition_kernel // 2
        frames = first + np.arange(-margin, self.config.model.crop_frames + margin) + rows.start
        inside = np.clip(frames, rows.start, rows.stop - 1)
        own = slice(margin, margin + self.config.model.crop_frames)
        return {
            "codes": np.asarray(self.sequences.codes[inside[own]], np.float32),
            "condition": np.asarray(self.sequences.condition[inside], np.float32),
            "valid": (frames[own] < rows.stop).astype(np.float32),
        }


def modulate_codes(codes: Tensor, factors: Tensor) -> Tensor:
    """Expression augmentation: codes (B, N, E) times one factor (B,) for each sequence (eq. 8)."""
    return codes * factors[:, None, None]


def load_training_config(path: Path, output: Path, **loop_changes: Any) -> FaceTalkTrainingConfig:
    """Read the settings of a run.

    Args:
        path: TOML file with the tables [model], [data] and [loop].
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
    return config_from_dict(FaceTalkTrainingConfig, values, where=path.name)


def train_facetalk(
    data: Path,
    output: Path,
    config_path: Path | None = None,
    speech_encoder: str | None = None,
    report: Callable[[float, dict[str, float]], None] | None = None,
    **loop_changes: Any,
) -> dict[str, float]:
    """Train the expression decoder; writes OUTPUT/model.safetensors.

    Args:
        data: folder of code sequences (training/code_sequences.py), or a corpus of `python -m torch_backend corpus`.
        output: folder of the run; holds the sequences of a corpus too, which a later run in the same folder uses again.
        config_path: TOML settings; without one the shipped settings.
        speech_encoder: of a corpus: a local folder or a name as for load_speech_encoder; None is the shipped encoder.
        report: called with the fraction done and the figures of the last log line.
        **loop_changes: override fields of the loop: steps, seed, device, resume, mixed_precision ...

    Returns:
        Figures of the last evaluation.

    Raises:
        ValueError: the settings or the data are not usable.
        BackendError: the encoder's weights are missing or broken.
        OutputError: the folder cannot be written.
    """
    config = load_training_config(config_path or DEFAULT_CONFIG, output, **loop_changes)
    folder = data
    if is_corpus(data):
        folder = output / SEQUENCE_FOLDER
        if not (folder / INDEX_FILE).is_file():
            copies, processes = config.data.augmented_copies, config.data.processes
            build_spoken_sequences(data, folder, speech_encoder, copies, config.loop.seed, processes)
    return train(FaceTalkRecipe(config, load_code_sequences(folder)), config.loop, report)


def _predict(model: torch.nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Predicted and true standardised codes (B, N, E)."""
    bare = _bare(model)
    clean = bare.standardize(batch["codes"])
    noisy = bare.diffuse(clean, batch["noise"], batch["times"])
    return model(noisy, batch["times"], batch["condition"], batch["dropped"]).float(), clean


def _bare(model: torch.nn.Module) -> FaceTalk:
    """The network itself: wrappers for several processes pass on nothing but the call."""
    return cast(FaceTalk, getattr(model, "module", model))


def _spread(indices: list[int], count: int) -> list[int]:
    """At most `count` of the sequences, evenly spread over the list."""
    if len(indices) <= count:
        return indices
    return [indices[int(place)] for place in np.linspace(0, len(indices) - 1, count)]


def _mean_over(values: Tensor, valid: Tensor) -> Tensor:
    return (values * valid).sum() / valid.sum().clamp(min=1)


def _stack(crops: list[dict[str, np.ndarray]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.stack([crop[name] for crop in crops])) for name in crops[0]}
