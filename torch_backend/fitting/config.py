"""Settings of fits to scans."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch_backend.config import load_toml_config

DEFAULT_CONFIG = Path(__file__).resolve().parent.parent / "configs" / "fitting.toml"


@dataclass(frozen=True)
class ExpressionFitConfig:
    """Expression codes of a sequence; steps and codes count in the unit of the prior's size."""

    solver: Literal["gauss_newton", "adam"] = "gauss_newton"
    """How the objective is minimised: by Gauss-Newton with reweighting, or by Adam as in the paper."""
    window_frames: int = 10
    """Frames fitted together."""
    overlap_frames: int = 2
    """Frames that adjacent windows share."""
    points_per_frame: int = 5000
    """Random points of each frame: others in each step of Adam, one draw a window for Gauss-Newton."""
    sdf_weight: float = 10.0
    """lambda_sdf of equation 16."""
    temporal_weight: float = 0.1
    """lambda_temp of equation 16; 0 fits frames one by one."""
    regularization_weight: float = 0.0025
    """lambda_reg of equation 16."""
    huber_threshold: float = 0.05
    """Change of an entry between frames above which the Huber loss grows linearly."""
    bounded: bool = True
    """Whether codes that are made of blendshape weights are fitted as weights within 0..1 (ours); then
    `sparsity_weight` takes the place of `regularization_weight`."""
    sparsity_weight: float = 3e-4
    """Cost of a weight of 1."""
    moving_share: float = 0.5
    """Share of the points that are drawn where expressions move the head, in proportion to that; the paper's clouds
    hold the face alone."""
    iterations: int = 500
    """Steps of Adam a window."""
    learning_rate: float = 1e-3
    """Of Adam up to step `late_from`."""
    late_learning_rate: float = 1e-4
    """Of Adam after it."""
    late_from: int = 300
    """See above."""
    rounds: int = 20
    """Rounds of Gauss-Newton a window, at most."""
    refine_pose: bool = False
    """Whether each frame's head may turn and move a little beside its expression (Gauss-Newton only)."""

    def __post_init__(self) -> None:
        if not 0 <= self.overlap_frames < self.window_frames:
            raise ValueError(f"expected an overlap of 0 to {self.window_frames - 1} frames, got {self.overlap_frames}")
        if min(self.points_per_frame, self.iterations, self.rounds) < 1:
            raise ValueError("points_per_frame, iterations and rounds must be at least 1")
        if min(self.sdf_weight, self.learning_rate, self.late_learning_rate, self.huber_threshold) <= 0:
            raise ValueError("sdf_weight, learning rates and huber_threshold must be over 0")
        if min(self.temporal_weight, self.regularization_weight, self.sparsity_weight) < 0:
            raise ValueError("weights must not be negative")
        if not 0.0 <= self.moving_share <= 1.0:
            raise ValueError(f"expected a moving_share of 0 to 1, got {self.moving_share}")
        if self.refine_pose and self.solver != "gauss_newton":
            raise ValueError("refine_pose needs solver gauss_newton")


@dataclass(frozen=True)
class IdentityFitConfig:
    """The identity code of a scan; steps and codes count in spreads of the prior's entries."""

    iterations: int = 800
    """Steps of Adam."""
    points: int = 4000
    """Points of a step: half on the surface, half beside it where the scan has faces."""
    learning_rate: float = 0.01
    """Of the first two thirds."""
    late_learning_rate: float = 0.002
    """Of the last third."""
    near_mm: float = 8.0
    """How far beside the surface points are drawn."""
    prior_weight: float = 1e-4
    """Cost of a mean square entry of 1."""
    fit_expression: bool = False
    """Whether the scan's expression is fitted too; else it is taken as given."""

    def __post_init__(self) -> None:
        if min(self.iterations, self.points) < 1 or min(self.learning_rate, self.late_learning_rate) <= 0:
            raise ValueError("iterations, points and learning rates must be over 0")
        if self.near_mm <= 0 or self.prior_weight < 0:
            raise ValueError("near_mm must be over 0 and prior_weight not negative")


@dataclass(frozen=True)
class AlignmentConfig:
    """The built-in parametric head on landmarks and points; lengths in metres of the template."""

    outlier_m: float = 0.020
    """Landmarks farther from the template's after the similarity are left out (the paper's 0.020)."""
    iterations: int = 600
    """Steps of Adam."""
    learning_rate: float = 0.01
    """Of Adam, for shape and expression; poses take a fifth of it."""
    landmark_weight: float = 1.0
    """lambda_lmk of equation 31."""
    geometry_weight: float = 1.0
    """lambda_geo of equation 31."""
    regularization_weight: float = 1e-4
    """lambda_reg of equation 31."""
    smoothness_weight: float = 1e-3
    """lambda_smooth of equation 31."""

    def __post_init__(self) -> None:
        if self.outlier_m <= 0 or self.iterations < 1 or self.learning_rate <= 0:
            raise ValueError("outlier_m, iterations and learning_rate must be over 0")


@dataclass(frozen=True)
class FittingConfig:
    """All of them."""

    expression: ExpressionFitConfig = field(default_factory=ExpressionFitConfig)
    """Of sequences."""
    identity: IdentityFitConfig = field(default_factory=IdentityFitConfig)
    """Of scans."""
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    """Of both, before."""


def load_fitting_config(path: Path | None = None) -> FittingConfig:
    """Read settings; without a file, the shipped ones.

    Raises:
        ValueError: the file is broken.
        OSError: it cannot be read.
    """
    return load_toml_config(DEFAULT_CONFIG if path is None else path, FittingConfig)
