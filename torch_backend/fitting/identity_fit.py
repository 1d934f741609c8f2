"""The identity code of a scan: a person's head as one of the neural head model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import igl
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from torch_backend.fitting.code_prior import HeadPriors
from torch_backend.fitting.config import IdentityFitConfig
from torch_backend.models.nphm import BackwardNPHM
from torch_backend.modules.denormal_numbers import flushed_denormals

_POOL = 60_000
"""Points beside the surface that steps draw from."""
_FARTHEST = 0.04
"""Residuals beyond this (1 cm of the built-in head) pull no more: hair, clothes, holes."""
_EXPRESSION_REGULARIZATION = 2.5e-4
_REPORT_EVERY = 20
_EDGE_LENGTHS = 2.0
"""Points whose nearest place is this near to the scan's rim have no sign."""


@dataclass(frozen=True, eq=False)
class SurfaceSamples:
    """A scan in the model's unit and frame."""

    points: NDArray[np.float32]
    """(n, 3) on the surface."""
    near_points: NDArray[np.float32]
    """(m, 3) beside it, none for a point cloud."""
    near_distances: NDArray[np.float32]
    """(m,) signed, negative inside."""


@dataclass(frozen=True, eq=False)
class IdentityFit:
    """An identity code with how well it fits."""

    identity: torch.Tensor
    """(I,)."""
    expression: torch.Tensor
    """(X,) given, or fitted."""
    mean_error: float
    """Mean |signed distance| of the scan's points within reach, model's unit."""
    percentile_95: float
    """95 % of those points lie nearer."""
    far_share: float
    """Share of the scan's points farther off than any head of the model, left out of the figures."""


def sample_scan(
    points: NDArray[np.floating], triangles: NDArray[np.integer], near: float, inside: NDArray[np.floating], seed: int
) -> SurfaceSamples:
    """Draw what an identity is fitted to.

    Args:
        points: (n, 3) of the scan, model's unit and frame.
        triangles: (f, 3), may be none; either orientation.
        near: how far beside the surface.
        inside: (3,) a point within the head, which tells outside from inside.
        seed: of the draws.

    Raises:
        ValueError: faces without area.
    """
    generator = np.random.default_rng(seed)
    positions = points.astype(np.float64)
    none = np.zeros((0, 3), np.float32), np.zeros(0, np.float32)
    if not len(triangles):
        return SurfaceSamples(positions.astype(np.float32), *none)
    faces = _oriented(positions, _with_area(positions, triangles.astype(np.int64)), inside)
    on_surface, normals = _on_surface(positions, faces, _POOL, generator)
    offsets = generator.normal(size=len(on_surface)) * near * 0.5
    beside = on_surface + np.clip(offsets, -near, near)[:, None] * normals
    found = igl.signed_distance(beside, positions, faces, sign_type=igl.SIGNED_DISTANCE_TYPE_PSEUDONORMAL)
    distances, nearest = found[0], found[2]
    known = np.isfinite(distances) & ~_at_rim(nearest, positions, faces)
    return SurfaceSamples(
        on_surface.astype(np.float32), beside[known].astype(np.float32), distances[known].astype(np.float32)
    )


def fit_identity(
    model: BackwardNPHM,
    samples: SurfaceSamples,
    priors: HeadPriors,
    config: IdentityFitConfig,
    *,
    start: torch.Tensor | None = None,
    expression: torch.Tensor | None = None,
    seed: int = 0,
    report: Callable[[float], None] | None = None,
) -> IdentityFit:
    """Find the code whose surface passes through a scan.

    Args:
        model: the head, in evaluation mode.
        samples: the scan.
        priors: of the model's codes.
        config: the settings.
        start: (I,) first guess; None is the mean.
        expression: (X,) of the scan, or its first guess; None is the prior's mean.
        seed: decides the draws.
        report: called with the fraction done; may raise to stop.

    Raises:
        ValueError: no points within reach, or codes of another model.
    """
    subspace, prior = priors.identity, priors.expression
    if tuple(subspace.mean.shape) != (model.sizes.code_size,):
        raise ValueError(f"expected identity codes of {model.sizes.code_size} entries, got {len(subspace.mean)}")
    generator = np.random.default_rng(seed)
    first = torch.zeros(len(subspace.spreads)) if start is None else subspace.to_coefficients(start.float())
    coefficients = first.clone().requires_grad_(True)
    base = prior.mean if expression is None else expression.float()
    change = torch.zeros(len(prior.alive), requires_grad=True)
    trained = [coefficients, change] if config.fit_expression else [coefficients]
    optimizer = torch.optim.Adam(trained, config.learning_rate)
    for step in range(config.iterations):
        late = step * 3 >= config.iterations * 2
        optimizer.param_groups[0]["lr"] = config.late_learning_rate if late else config.learning_rate
        points, wanted = _draw(samples, config.points, generator)
        with torch.enable_grad(), flushed_denormals():
            code = base.index_add(0, prior.alive, change * prior.size)
            distances = model.signed_distance(points[None], subspace.to_code(coefficients)[None], code[None])[0]
            loss = (distances - wanted).abs().clamp_max(_FARTHEST).mean()
            loss = loss + config.prior_weight * coefficients.square().mean()
            loss = loss + _EXPRESSION_REGULARIZATION * (change.square().sum() + 1e-12).sqrt()
            gradients = torch.autograd.grad(loss, trained)
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        if report is not None and step % _REPORT_EVERY == 0:
            report(step / config.iterations)
    identity = subspace.to_code(coefficients).detach()
    return _measured(model, samples, identity, base.index_add(0, prior.alive, change.detach() * prior.size))


def _measured(
    model: BackwardNPHM, samples: SurfaceSamples, identity: torch.Tensor, expression: torch.Tensor
) -> IdentityFit:
    points = torch.from_numpy(samples.points[:: max(1, len(samples.points) // 20_000)])
    with torch.no_grad():
        errors = model.signed_distance(points[None], identity[None], expression[None])[0].abs().numpy()
    within = errors[errors < _FARTHEST]
    if not len(within):
        raise ValueError("no point of the scan lies on the head; check its alignment, unit and axes")
    return IdentityFit(
        identity, expression, float(within.mean()), float(np.quantile(within, 0.95)), 1.0 - len(within) / len(errors)
    )


def _draw(samples: SurfaceSamples, number: int, generator: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Points (number, 3) and their signed distances: half on the surface, half beside it where that is known."""
    count = number // 2 if len(samples.near_points) else number
    on_surface = samples.points[generator.integers(len(samples.points), size=count)]
    if not len(samples.near_points):
        return torch.from_numpy(on_surface), torch.zeros(count)
    rows = generator.integers(len(samples.near_points), size=number - count)
    points = np.concatenate([on_surface, samples.near_points[rows]])
    distances = np.concatenate([np.zeros(count, np.float32), samples.near_distances[rows]])
    return torch.from_numpy(points), torch.from_numpy(distances)


def _with_area(points: NDArray[np.float64], triangles: NDArray[np.int64]) -> NDArray[np.int64]:
    corners = points[triangles]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    if not (areas > 0).any():
        raise ValueError("the scan's faces have no area")
    return triangles[areas > 0]


def _oriented(
    points: NDArray[np.float64], triangles: NDArray[np.int64], inside: NDArray[np.floating]
) -> NDArray[np.int64]:
    """Triangles whose normals look away from a point within the head, on the whole."""
    corners = points[triangles]
    crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outward = ((corners.mean(axis=1) - inside) * crosses).sum()
    return triangles if outward >= 0 else np.ascontiguousarray(triangles[:, ::-1])


def _on_surface(
    points: NDArray[np.float64], triangles: NDArray[np.int64], number: int, generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Area-uniform points (number, 3) and the unit normals of their triangles."""
    corners = points[triangles]
    crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = np.linalg.norm(crosses, axis=1)
    chosen = generator.choice(len(areas), number, p=areas / areas.sum())
    first, second = np.sqrt(generator.uniform(size=number)), generator.uniform(size=number)
    shares = np.stack([1 - first, first * (1 - second), first * second], axis=1)
    return np.einsum("nc,nci->ni", shares, corners[chosen]), crosses[chosen] / areas[chosen, None]


def _at_rim(
    nearest: NDArray[np.float64], points: NDArray[np.float64], triangles: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which places lie at an open rim of the scan, where outside and inside meet."""
    rim = _boundary_vertices(triangles)
    if not len(rim):
        return np.zeros(len(nearest), bool)
    corners = points[triangles]
    length = float(np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1).mean())
    distances, _ = cKDTree(points[rim]).query(nearest)
    return np.asarray(distances < _EDGE_LENGTHS * length)


def _boundary_vertices(triangles: NDArray[np.int64]) -> NDArray[np.int64]:
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    return np.unique(unique[counts == 1])
