"""What a run of the backend is asked to do: one frozen dataclass a command (no torch)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "float32", "bfloat16"]

METHODS = ("mmtalker",)
TRAINED_MODELS = ("mmtalker", "phone_encoder")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16")
MIN_VERTICES, MAX_VERTICES = 500, 50_000
MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class AnimateJob:
    """Turn a recording into a result folder."""

    audio: Path
    output: Path
    """The result folder; replaced when it is an older result."""
    method: str = "mmtalker"
    vertices: int | None = None
    """Vertices of the skin; None is the built-in head's own mesh."""
    identity: str | None = None
    """Name or seed of an identity of the built-in head; None is the mean head."""
    seed: int = 0
    device: Device = "auto"
    precision: Precision = "auto"
    threads: int | None = None
    """Processor threads; None leaves it to torch."""
    weights: Path | None = None
    """Another checkpoint than the shipped one."""
    encoder: str | None = None
    """Speech encoder: a folder, a file or a name; None is the one that the weights name."""
    scene_frame_rate: float | None = None
    """The scene's rate, noted in the result; the clip keeps the method's rate."""


@dataclass(frozen=True)
class TrainJob:
    """Train a model on a corpus."""

    model: str
    """One of TRAINED_MODELS."""
    corpus: Path
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
class InfoJob:
    """Tell versions, devices and shipped weights."""


Job = AnimateJob | TrainJob | EvaluateJob | CorpusJob | InfoJob
