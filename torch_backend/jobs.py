"""Jobs of the command line alone: those that the add-on asks for are in blender_talkhead.contract.jobs (no torch)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blender_talkhead.contract.jobs import Device

TRAINED_MODELS = ("mmtalker", "facetalk", "phone_encoder")


@dataclass(frozen=True)
class TrainJob:
    """Train a model on a corpus."""

    model: str
    """One of TRAINED_MODELS."""
    corpus: Path
    """Folder of the command corpus; for facetalk also a folder of code sequences."""
    output: Path
    """Folder of the run; it stays after a failure, for --resume."""
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


@dataclass(frozen=True)
class ServeJob:
    """Be a worker: do jobs from stdin, one after another, until it ends."""

    idle_seconds: float = 120.0
    """Without a job for this long, models are let go."""
    exit_after_idle_seconds: float = 1800.0
    """Without a job for this long, the process ends."""
