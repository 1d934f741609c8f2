"""How the phone network is trained: windows of augmented synthetic speech, more weight on what lips must not miss."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from torch_backend.audio.log_mel import NUM_MELS, ChannelMeanAccumulator, normalize_log_mel
from torch_backend.metrics.phone_accuracy import PhoneAccuracy
from torch_backend.models.phone_encoder import PhoneEncoder, PhoneEncoderConfig
from torch_backend.speech_corpus.festival_voices import UNRELIABLE_PHONES
from torch_backend.speech_corpus.phones import BILABIALS, LABIODENTALS, PHONE_INDEX, PHONES
from torch_backend.speech_corpus.visemes import build_lip_matrix, build_viseme_matrix
from torch_backend.training.phone_features import BACKGROUND, FeatureUtterance, load_phone_features

_LOGGER = logging.getLogger(__name__)

_IGNORED = -100


@dataclass(frozen=True)
class PhoneTrainingConfig:
    """Settings of the recipe."""

    features: Path
    """Feature folder (training/phone_features.py)."""
    network: PhoneEncoderConfig = field(default_factory=PhoneEncoderConfig)
    held_out_voices: tuple[str, ...] = ()
    """Voices that are only evaluated on, as engine/voice; none: every 25th sentence."""
    batch_size: int = 16
    window_rows: int = 400
    """Rows of 10 ms in a window."""
    espeak_weight: float = 0.35
    """Share of formant speech relative to its length."""
    foreign_weight: float = 0.7
    """Share of voices of other languages relative to their length."""
    background_share: float = 0.08
    """Share of the windows that hold no speech, only noise."""
    foreign_classes: Literal["viseme", "lips"] = "viseme"
    """How finely rows of other languages are judged: by viseme, or only by what the lips do (visemes.py)."""
    labial_weight: float = 1.6
    """Weight of p b m f v in the loss."""
    label_smoothing: float = 0.05
    num_frequency_masks: int = 2
    widest_frequency_mask: int = 8
    num_time_masks: int = 1
    widest_time_mask: int = 12
    offset_deviation: float = 0.15
    """Standard deviation of a shift of all log-mels of a window."""
    warp: float = 0.0
    """Largest relative change of the mel axis of a window, 0 for none."""
    stretch: float = 0.0
    """Largest relative change of the tempo of a window, 0 for none."""
    tilt_deviation: float = 0.0
    """Standard deviation of a smooth random spectral colour, in normalised units."""
    noise_floor_probability: float = 0.0
    """Share of windows to which a smooth noise floor is added in the spectral domain."""


class PhoneEncoderRecipe:
    """Recipe for training/loop.py."""

    kind = "phone_encoder"

    def __init__(self, config: PhoneTrainingConfig) -> None:
        self.config = config
        self.features = load_phone_features(config.features)
        self.train_utterances, self.held_out_utterances = _split(self.features.utterances, config.held_out_voices)
        if not self.train_utterances:
            raise ValueError("expected utterances to train on, got none; are all voices held out?")
        self._shares = np.cumsum(_sampling_weights(self.train_utterances, config))
        self._channel_means: dict[int, np.ndarray] = {}
        classes = build_lip_matrix() if config.foreign_classes == "lips" else build_viseme_matrix()
        self._foreign_classes = torch.from_numpy(classes)
        weights = torch.ones(len(PHONES))
        weights[[PHONE_INDEX[phone] for phone in sorted(BILABIALS | LABIODENTALS)]] = config.labial_weight
        self._phone_weights = weights

    def describe(self) -> dict[str, Any]:
        """Size of the network, and what it learned from."""
        voices = sorted(
            {f"{u.engine}/{u.voice}" for u in self.train_utterances if u.engine not in ("espeak", BACKGROUND)}
        )
        if any(u.engine == "espeak" for u in self.train_utterances):
            voices.append("espeak/*")
        settings = {
            name: value
            for name, value in dataclasses.asdict(self.config).items()
            if name not in ("features", "network", "held_out_voices")
        }
        return {
            "network": dataclasses.asdict(self.config.network),
            "phones": list(PHONES),
            "voices": voices,
            "corpus_hash": self.features.corpus_hash,
            "recipe": settings,
        }

    def build_model(self) -> nn.Module:
        """Return a fresh network."""
        return PhoneEncoder(self.config.network)

    def sample_batch(self, step: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """Draw windows.

        Returns:
            log_mels (B, W, 64) float32, labels (B, W / 2) int64 with -100 for rows without a usable label, foreign
            (B,) bool: windows of voices of other languages.
        """
        config = self.config
        rows = config.window_rows
        log_mels = np.zeros((config.batch_size, rows, NUM_MELS), np.float32)
        labels = np.full((config.batch_size, rows // 2), _IGNORED, np.int64)
        foreign = np.zeros(config.batch_size, bool)
        for item in range(config.batch_size):
            draw = generator.random() * self._shares[-1]
            utterance = self.train_utterances[int(np.searchsorted(self._shares, draw, side="right"))]
            window, phones = self._cut_window(utterance, generator)
            count = len(window) // 2 * 2
            log_mels[item, :count] = window[:count]
            labels[item, : count // 2] = phones[:count].reshape(-1, 2)[:, int(generator.integers(2))]
            foreign[item] = utterance.language != "en"
        return {
            "log_mels": torch.from_numpy(log_mels),
            "labels": torch.from_numpy(labels),
            "foreign": torch.from_numpy(foreign),
        }

    def compute_loss(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy over phones; over classes for voices of other languages, whose phones are only alike."""
        logits = model(batch["log_mels"])[0].float()  # (B, A, 40)
        loss = compute_phone_loss(
            logits,
            batch["labels"],
            batch["foreign"],
            self._phone_weights.to(logits.device),
            self._foreign_classes.to(logits.device),
            self.config.label_smoothing,
        )
        return {"loss": loss}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Measure on held-out utterances: clean (copy 0) and augmented (copy 1), English voices only."""
        figures: dict[str, float] = {}
        device = next(model.parameters()).device
        for copy, name in ((0, "clean"), (1, "augmented")):
            accuracy = PhoneAccuracy()
            for utterance in self.held_out_utterances:
                if utterance.language != "en" or utterance.engine == BACKGROUND or copy >= len(utterance.copies):
                    continue
                log_mels, labels = self._load_copy(*utterance.copies[copy])
                count = len(log_mels) // 2 * 2
                logits = model(torch.from_numpy(log_mels[None, :count]).to(device))[0]
                posteriors = torch.softmax(logits[0].float(), dim=-1).cpu().numpy()
                accuracy.accumulate(posteriors, labels[:count:2].astype(np.int64))
            figures |= {f"{name}_{key}": value for key, value in accuracy.compute().items()}
        return figures

    def _load_copy(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """(R, 64) float32 normalised log-mels and (R,) labels of one copy."""
        log_mel = self.features.log_mels[start:stop].astype(np.float32)
        if start not in self._channel_means:
            accumulator = ChannelMeanAccumulator()
            accumulator.add(log_mel)
            self._channel_means[start] = accumulator.compute()
        return normalize_log_mel(log_mel, self._channel_means[start]), self.features.labels[start:stop]

    def _cut_window(self, utterance: FeatureUtterance, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(R, 64) float32 and (R,) int64 of at most window_rows rows, changed at random."""
        config = self.config
        copy = utterance.copies[int(generator.integers(len(utterance.copies)))]
        log_mels, phones = self._load_copy(*copy)
        factor = 1.0 + (generator.uniform(-config.stretch, config.stretch) if config.stretch else 0.0)
        wanted = int(config.window_rows * factor) if config.stretch else config.window_rows
        start = int(generator.integers(0, max(1, len(log_mels) - wanted + 1)))
        log_mels, phones = log_mels[start : start + wanted], phones[start : start + wanted].astype(np.int64)
        if config.stretch:
            log_mels, phones = stretch_rows(log_mels, phones, factor, config.window_rows)
        unreliable = [PHONE_INDEX[phone] for phone in UNRELIABLE_PHONES.get(utterance.language, ())]
        if unreliable:
            phones = np.where(np.isin(phones, unreliable), _IGNORED, phones)
        return self._change_spectrum(log_mels, generator), phones

    def _change_spectrum(self, log_mels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Warp, colour, noise floor, level and masks, in this order."""
        config = self.config
        if config.warp:
            log_mels = warp_mels(log_mels, 1.0 + generator.uniform(-config.warp, config.warp))
        if config.tilt_deviation:
            log_mels = log_mels + _smooth_curve(generator, config.tilt_deviation)
        if config.noise_floor_probability and generator.random() < config.noise_floor_probability:
            floor = generator.uniform(-2.6, -0.5) + _smooth_curve(generator, 0.3)
            floor = floor + generator.normal(0.0, 0.25, log_mels.shape).astype(np.float32)
            log_mels = np.logaddexp(3.0 * log_mels, 3.0 * floor) / 3.0
        log_mels = log_mels.astype(np.float32) + np.float32(generator.normal(0.0, config.offset_deviation))
        for _ in range(config.num_frequency_masks):
            width = int(generator.integers(0, config.widest_frequency_mask))
            first = int(generator.integers(0, NUM_MELS - width))
            log_mels[:, first : first + width] = 0.0
        for _ in range(config.num_time_masks):
            width = int(generator.integers(0, config.widest_time_mask))
            first = int(generator.integers(0, max(1, len(log_mels) - width)))
            log_mels[first : first + width] = 0.0
        return log_mels


def compute_phone_loss(
    logits: Tensor,
    labels: Tensor,
    foreign: Tensor,
    phone_weights: Tensor,
    foreign_classes: Tensor,
    label_smoothing: float,
) -> Tensor:
    """Weighted mean of the row losses.

    A row of an English voice costs the smoothed cross-entropy of its phone; a row of another voice costs minus the
    logarithm of the probability of its phone's whole class.

    Args:
        logits: (B, A, 40).
        labels: (B, A) int64, -100 for rows that do not count.
        foreign: (B,) bool.
        phone_weights: (40,) weight of each phone.
        foreign_classes: (40, G) zero-one matrix.
        label_smoothing: share of the target spread evenly over all phones.

    Returns:
        The loss; 0 when no row counts.
    """
    counted = labels != _IGNORED
    target = labels.clamp(min=0)
    log_probabilities = functional.log_softmax(logits, dim=-1)
    of_phone = log_probabilities.gather(-1, target[..., None])[..., 0]
    exact = -(1.0 - label_smoothing) * of_phone - label_smoothing * log_probabilities.mean(dim=-1)
    same_class = (foreign_classes @ foreign_classes.T)[target] > 0.5  # (B, A, 40)
    grouped = -torch.logsumexp(log_probabilities.masked_fill(~same_class, -torch.inf), dim=-1)
    row_loss = torch.where(foreign[:, None], grouped, exact)
    weights = phone_weights[target] * counted
    return (row_loss * weights).sum() / weights.sum().clamp(min=1e-6)


def warp_mels(log_mels: np.ndarray, factor: float) -> np.ndarray:
    """Stretch the mel axis: channel c of the result is channel c * factor of the input, the last one beyond its end.

    Args:
        log_mels: (R, 64).
        factor: > 0.

    Returns:
        (R, 64) float32, linearly interpolated.
    """
    position = np.minimum(np.arange(NUM_MELS) * factor, NUM_MELS - 1.0)
    low = np.minimum(position.astype(int), NUM_MELS - 2)
    share = (position - low).astype(np.float32)
    return (log_mels[:, low] * (1.0 - share) + log_mels[:, low + 1] * share).astype(np.float32)


def stretch_rows(
    log_mels: np.ndarray, labels: np.ndarray, factor: float, longest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Play rows `factor` times as fast: rows interpolated linearly, labels from the nearest row.

    Returns:
        (R', 64) float32 and (R',), R' = min(longest, floor((R - 1) / factor) + 1).
    """
    position = np.arange(min(longest, int((len(log_mels) - 1) / factor) + 1)) * factor
    low = np.minimum(position.astype(int), max(len(log_mels) - 2, 0))
    high = np.minimum(low + 1, len(log_mels) - 1)
    share = (position - low).astype(np.float32)[:, None]
    stretched = log_mels[low] * (1.0 - share) + log_mels[high] * share
    nearest = np.minimum(np.round(position).astype(int), len(labels) - 1)
    return stretched.astype(np.float32), labels[nearest]


def _smooth_curve(generator: np.random.Generator, deviation: float) -> np.ndarray:
    """(64,) float32: five random values joined by straight lines."""
    knots = generator.normal(0.0, deviation, 5)
    return np.interp(np.linspace(0.0, 4.0, NUM_MELS), np.arange(5), knots).astype(np.float32)


def _split(
    utterances: tuple[FeatureUtterance, ...], held_out_voices: tuple[str, ...]
) -> tuple[list[FeatureUtterance], list[FeatureUtterance]]:
    if held_out_voices:
        held_out = [u for u in utterances if f"{u.engine}/{u.voice}" in held_out_voices]
        if not held_out:
            raise ValueError(f"expected voices of the corpus to hold out, got {held_out_voices}")
        return [u for u in utterances if f"{u.engine}/{u.voice}" not in held_out_voices], held_out
    train = [u for index, u in enumerate(utterances) if index % 25]
    return train, [u for index, u in enumerate(utterances) if index % 25 == 0]


def _sampling_weights(utterances: list[FeatureUtterance], config: PhoneTrainingConfig) -> np.ndarray:
    """(N,) length of each utterance times the share of its kind."""
    weights = []
    for utterance in utterances:
        start, stop = utterance.copies[0]
        share = config.espeak_weight if utterance.engine == "espeak" else 1.0
        share *= config.foreign_weight if utterance.language != "en" else 1.0
        weights.append((stop - start) * share)
    shares = np.array(weights, dtype=np.float64)
    background = np.array([utterance.engine == BACKGROUND for utterance in utterances])
    for kind, share in ((background, config.background_share), (~background, 1.0 - config.background_share)):
        shares[kind] *= share / max(shares[kind].sum(), 1.0)
    return shares
