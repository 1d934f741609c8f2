"""Settings of an MMTalker training run; configs/mmtalker.toml has those of the shipped weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch_backend.models.mmtalker import MMTalkerConfig
from torch_backend.training.loop import LoopConfig


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss terms; the unit is the centimetre."""

    reconstruction: float = 1.0
    """lambda_1 of the paper."""
    velocity: float = 10.0
    """lambda_2."""
    eye: float = 0.01
    """lambda_3."""
    gap: float = 5.0
    """Of the vector between the lips at the contact pairs."""
    width: float = 2.0
    """Of the distance between the corners of the mouth."""
    lid: float = 4.0
    """Of L_rec + 10 L_vel (lambda_1 and lambda_2) once more, over the edges of the lids alone."""
    brow: float = 4.0
    """Of the same over points of forehead and brows."""
    probability: float = 0.05
    """Of the divergence of the sampling probabilities from their start."""
    lip_factor: float = 2.0
    """How much more a lip vertex counts than another in L_rec and L_vel."""
    closed_factor: float = 13.0
    """How much more a frame with a closure counts in the gap term."""


@dataclass(frozen=True)
class DataConfig:
    """What a training step draws."""

    processes: int = 1
    """Processes that compute the features; does not change them."""
    augmented_copies: int = 2
    """Augmented copies of every utterance, beside the clean one."""
    feature_noise: float = 0.6
    """Noise on the speech features, relative to each channel's standard deviation."""
    control_noise: float = 0.1
    """Noise on the expression controls, relative to their standard deviation."""
    drawn_points: int = 64
    """Points drawn on the surface at each step, beside the anchors."""
    held_out_voices: tuple[str, ...] = ()
    """Only evaluated on, as engine/voice; none: every 25th utterance."""
    espeak_weight: float = 0.35
    """Share of formant speech relative to its length."""
    foreign_weight: float = 0.7
    """Share of voices of other languages relative to their length: the shipped encoder has not heard them."""
    background_weight: float = 2.0
    """Share of noise without speech relative to its length."""
    identities: int = 0
    """Faces that losses are taken on, drawn at random beforehand; 0: the mean head alone."""
    evaluated_examples: int = 40
    """Clean held-out utterances that an evaluation uses at most."""


@dataclass(frozen=True)
class MMTalkerTrainingConfig:
    """All settings of a run."""

    loop: LoopConfig
    model: MMTalkerConfig = field(default_factory=MMTalkerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    data: DataConfig = field(default_factory=DataConfig)
