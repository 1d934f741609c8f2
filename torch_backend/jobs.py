"""Jobs of the command line alone: those that the add-on asks for are in blender_talkhead.contract.jobs (no torch)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from blender_talkhead.contract.jobs import Device

TRAINED_MODELS = ("mmtalker", "facetalk", "nphm", "phone_encoder")


@dataclass(frozen=True)
class TrainJob:
    """Train a model."""

    model: str
    """One of TRAINED_MODELS."""
    output: Path
    """Folder of the run; it stays after a failure, for --resume."""
    corpus: Path | None = None
    """Folder of the command corpus; for facetalk also a folder of code sequences; nphm needs none."""
    config: Path | None = None
    """TOML settings; None is the shipped settings."""
    encoder: str | None = None
    resume: bool = False
    steps: int | None = None
    seed: int | None = None
    device: Device = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class EvaluateJob:
    """Compare a model with the motion that it was trained towards, on utterances it has not heard."""

    corpus: Path
    weights: Path | None = None
    encoder: str | None = None
    limit: int = 40
    """Utterances at most."""
    device: Device = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class CorpusJob:
    """Synthesise training speech."""

    output: Path
    seed: int = 0
    minutes: float | None = None
    """Minutes in all, shared among the voices as in the shipped plan; None is that plan itself."""
    processes: int = 1
    allow_missing: bool = False
    """Leave out voices whose engine is not installed."""


FitCondition = Literal["speech", "landmarks"]
FIT_CONDITIONS: tuple[FitCondition, ...] = ("speech", "landmarks")


@dataclass(frozen=True)
class FitIdentityJob:
    """Make the head of a scan an identity of FaceTalk's head model."""

    scan: Path
    output: Path
    """File of the identity."""
    landmarks: Path | None = None
    """(68 or 478, 3) array; None aligns without."""
    aligned: bool = False
    """The scan lies in the head's frame already: metres of the built-in head, or another model's unit."""
    head_weights: Path | None = None
    """None is the shipped head model."""
    config: Path | None = None
    seed: int = 0
    threads: int | None = None


@dataclass(frozen=True)
class FitExpressionsJob:
    """Turn clips of scans with sound into code sequences."""

    clips: list[Path]
    """Folders as torch_backend.fitting.clip describes them."""
    output: Path
    """Folder of code sequences; what is finished in it is not fitted again."""
    identity: Path | None = None
    """None finds the built-in head's nearest for each clip."""
    recorded_rate: float = 24.0
    """Scans per second."""
    condition: FitCondition = "speech"
    encoder: str | None = None
    gain_db: float = 0.0
    auto_gain: bool = False
    """Instead of gain_db, what brings loud speech to its usual level."""
    reduce_noise: bool = False
    held_out_every: int = 0
    aligned: bool = False
    head_weights: Path | None = None
    config: Path | None = None
    seed: int = 0
    threads: int | None = None


@dataclass(frozen=True)
class ServeJob:
    """Be a worker: do jobs from stdin, one after another, until it ends."""

    idle_seconds: float = 120.0
    """Without a job for this long, models are let go."""
    exit_after_idle_seconds: float = 1800.0
    """Without a job for this long, the process ends."""
