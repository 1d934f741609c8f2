"""What is known of a head model's codes before a fit: where they lie, which entries are alive, and their size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

_SUBSPACE_FLOOR = 1e-2
"""Spread of a direction, in shares of the largest, below which it is rounding or curvature of the codes' set."""
_ALIVE = 1e-4
"""Spread of an entry, in shares of the largest, below which it never varies in the model's codes."""


@dataclass(frozen=True, eq=False)
class CodePrior:
    """Statistics of codes that a model was trained on."""

    mean: torch.Tensor
    """(C,) float32."""
    spread: torch.Tensor
    """(C,) float32 standard deviation of each entry; 0 for entries that stay at their mean and are not fitted."""
    size: float
    """Root mean square length of the codes without their mean: the unit in which a fit takes its steps."""
    generators: torch.Tensor | None = None
    """(W, C) where every code is w @ generators with w within 0..1, as of blendshapes; None for other models."""

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.mean.shape != self.spread.shape or not bool((self.spread >= 0).all()):
            raise ValueError(f"expected mean and spread (C,), got {tuple(self.mean.shape)}, {tuple(self.spread.shape)}")
        if not self.size > 0:
            raise ValueError(f"expected a size over 0, got {self.size}; the codes do not vary")

    @property
    def alive(self) -> torch.Tensor:
        """(K,) int64 entries that are fitted."""
        return torch.nonzero(self.spread > 0).flatten()


def prior_of_codes(codes: NDArray[np.floating] | torch.Tensor) -> CodePrior:
    """Statistics of codes.

    Args:
        codes: (n, C), n at least 2.

    Raises:
        ValueError: fewer than two codes, or codes that do not vary.
    """
    values = torch.as_tensor(np.asarray(codes), dtype=torch.float64)
    if values.ndim != 2 or len(values) < 2:
        raise ValueError(f"expected at least two codes (n, C), got {tuple(values.shape)}")
    mean = values.mean(dim=0)
    spread = (values - mean).square().mean(dim=0).sqrt()
    spread = torch.where(spread > _ALIVE * spread.max(), spread, torch.zeros_like(spread))
    return CodePrior(mean.float(), spread.float(), float(spread.square().sum().sqrt()))


def standard_prior(size: int) -> CodePrior:
    """Where nothing is known: codes of length about 1 without an empty entry, as official models keep theirs."""
    return CodePrior(torch.zeros(size), torch.full((size,), size**-0.5), 1.0)


@dataclass(frozen=True, eq=False)
class CodeSubspace:
    """The directions in which a model's identity codes differ, with their spreads: codes beside it mean nothing."""

    mean: torch.Tensor
    """(C,)."""
    directions: torch.Tensor
    """(k, C) orthonormal."""
    spreads: torch.Tensor
    """(k,) standard deviations along them, over 0."""

    def to_code(self, coefficients: torch.Tensor) -> torch.Tensor:
        """(C,) code of coefficients (k,) in spreads."""
        return self.mean + (coefficients * self.spreads) @ self.directions

    def to_coefficients(self, code: torch.Tensor) -> torch.Tensor:
        """(k,) coefficients of the code's part within the subspace."""
        return ((code - self.mean) @ self.directions.T) / self.spreads


def subspace_of_codes(codes: NDArray[np.floating] | torch.Tensor, most: int = 256) -> CodeSubspace:
    """Principal directions of codes.

    Args:
        codes: (n, C), n at least 2.
        most: directions at most.

    Raises:
        ValueError: fewer than two codes, or codes that do not vary.
    """
    values = np.asarray(codes, np.float64)
    if values.ndim != 2 or len(values) < 2:
        raise ValueError(f"expected at least two codes (n, C), got {values.shape}")
    mean = values.mean(axis=0)
    return subspace_of_factors((values - mean) / np.sqrt(len(values) - 1), mean, most)


def subspace_of_factors(factors: NDArray[np.floating], mean: NDArray[np.floating], most: int = 256) -> CodeSubspace:
    """Principal directions of codes mean + w @ factors with independent standard normal w.

    Args:
        factors: (n, C).
        mean: (C,).
        most: directions at most.

    Raises:
        ValueError: the codes do not vary.
    """
    _, lengths, directions = np.linalg.svd(np.asarray(factors, np.float64), full_matrices=False)
    kept = (lengths > _SUBSPACE_FLOOR * lengths[0])[:most].sum() if lengths[0] > 0 else 0
    if kept == 0:
        raise ValueError("the codes do not vary")
    arrays = (mean, directions[:kept], lengths[:kept])
    return CodeSubspace(*(torch.from_numpy(np.asarray(array).astype(np.float32)) for array in arrays))


@dataclass(frozen=True, eq=False)
class HeadPriors:
    """What is known of both codes of a head model."""

    identity: CodeSubspace
    """Of identity codes."""
    expression: CodePrior
    """Of expression codes."""
