"""One canonical surface carried through frames whose deformation is known backwards: x_canonical = x + offset(x).

Each frame's places x are found by iteration, starting from those of the frame before, so that the vertices and faces
stay the same ones throughout: a motion of fixed topology.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Offset = Callable[[FloatArray], NDArray[np.floating]]
"""Points (Q, 3) of a frame to what must be added to each to reach the canonical space, (Q, 3)."""


@dataclass(frozen=True)
class InversionOptions:
    """When the search for each point ends."""

    tolerance: float = 1e-5
    """Largest accepted distance of x + offset(x) from the canonical point, in the units of the points."""
    max_iterations: int = 30
    max_newton_iterations: int = 8
    """For points that did not converge; each costs four evaluations a point."""
    difference_step: float = 1e-4
    """Of the finite differences of these, in the units of the points."""

    def __post_init__(self) -> None:
        if not (self.tolerance > 0 and self.difference_step > 0):
            raise ValueError(
                f"tolerance and difference_step must be above 0, got {self.tolerance}, {self.difference_step}"
            )
        if self.max_iterations < 1 or self.max_newton_iterations < 0:
            raise ValueError(
                f"expected 1 iteration or more, got {self.max_iterations} and {self.max_newton_iterations}"
            )


@dataclass(frozen=True)
class InvertedPoints:
    """Where canonical points lie in a frame."""

    points: FloatArray
    """(V, 3); for a point without a solution the place that came nearest."""
    residuals: FloatArray
    """(V,) distances of points + offset(points) from the canonical points."""
    has_converged: NDArray[np.bool_]
    """(V,) whether the residual is within the tolerance."""
    inverse_jacobians: FloatArray
    """(V, 3, 3) as far as the search has learnt them: with the points they are where the next frame begins."""
    num_evaluations: int
    """Points for which the offset was asked."""


def invert_deformation(
    offset: Offset, canonical: FloatArray, last: InvertedPoints | None = None, options: InversionOptions | None = None
) -> InvertedPoints:
    """Find the points x with x + offset(x) = canonical.

    The first step is the fixed point's x = canonical - offset(x); the following ones learn the inverse Jacobian of each
    point from what they see (Broyden). Points that this does not settle get damped Newton steps.

    Args:
        offset: the backward deformation of the frame.
        canonical: (V, 3) points of the canonical surface.
        last: the same points in the frame before, where the search begins; None begins at the canonical points.
        options: when to stop.

    Returns:
        The points, and which of them have converged.

    Raises:
        ValueError: shapes do not belong together.
    """
    chosen = InversionOptions() if options is None else options
    canonical = np.asarray(canonical, dtype=np.float64)
    begin = canonical if last is None else last.points
    if canonical.ndim != 2 or canonical.shape[1] != 3 or begin.shape != canonical.shape:
        raise ValueError(f"canonical and last.points must both be (V, 3), got {canonical.shape} and {begin.shape}")
    with np.errstate(invalid="ignore"):  # where the offset is not finite; such points end as not converged
        search = _Search(offset, canonical, begin, chosen.tolerance)
        if last is not None:
            search.inverse_jacobians = last.inverse_jacobians.copy()
        _broyden(search, chosen.max_iterations)
        for _ in range(chosen.max_newton_iterations):
            if not len(search.open_points):
                break
            _newton_step(search, chosen.difference_step)
    lengths = np.linalg.norm(search.best_errors, axis=1)
    return InvertedPoints(
        search.best, lengths, lengths <= chosen.tolerance, search.inverse_jacobians, search.num_evaluations
    )


class _Search:
    """The best place of each point so far, and what was learnt about the inverse Jacobian there."""

    def __init__(self, offset: Offset, canonical: FloatArray, start: FloatArray, tolerance: float) -> None:
        self._offset = offset
        self._canonical = canonical
        self._tolerance = tolerance
        self.num_evaluations = 0
        self.inverse_jacobians = np.tile(np.eye(3), (len(start), 1, 1))
        self.best = start.copy()
        self.best_errors = self.errors(start, np.arange(len(start)))

    @property
    def open_points(self) -> NDArray[np.int64]:
        """Indices of the points that have not converged."""
        return np.flatnonzero(~(np.linalg.norm(self.best_errors, axis=1) <= self._tolerance))

    def errors(self, points: FloatArray, rows: NDArray[np.int64]) -> FloatArray:
        """Return (n, 3) how far x + offset(x) is from the canonical points of these rows."""
        if not len(points):
            return np.zeros((0, 3))
        offsets = np.asarray(self._offset(points), dtype=np.float64)
        if offsets.shape != points.shape:
            raise ValueError(f"offset must return {points.shape} for as many points, got {offsets.shape}")
        self.num_evaluations += len(points)
        errors: FloatArray = points + offsets - self._canonical[rows]
        return np.where(np.isfinite(errors), errors, np.inf)

    def keep_better(self, rows: NDArray[np.int64], points: FloatArray, errors: FloatArray) -> NDArray[np.bool_]:
        """Take over the places that are nearer; returns which these are."""
        is_better = np.linalg.norm(errors, axis=1) < np.linalg.norm(self.best_errors[rows], axis=1)
        self.best[rows[is_better]] = points[is_better]
        self.best_errors[rows[is_better]] = errors[is_better]
        return is_better


def _broyden(search: _Search, max_iterations: int) -> None:
    rows = search.open_points
    points, errors = search.best[rows].copy(), search.best_errors[rows].copy()
    inverse = search.inverse_jacobians[rows]
    for _ in range(max_iterations):
        if not len(rows):
            return
        steps = -np.einsum("nij,nj->ni", inverse, errors)
        points = points + steps
        new_errors = search.errors(points, rows)
        changes = new_errors - errors
        seen = np.einsum("nij,nj->ni", inverse, changes)
        scale = np.einsum("ni,ni->n", steps, seen)
        is_safe = np.isfinite(scale) & (np.abs(scale) > 1e-3 * np.einsum("ni,ni->n", steps, steps))
        gain = (steps - seen)[is_safe] / scale[is_safe, None]
        along = np.einsum("ni,nij->nj", steps[is_safe], inverse[is_safe])
        inverse[is_safe] += gain[:, :, None] * along[:, None, :]
        errors = new_errors
        search.keep_better(rows, points, errors)
        search.inverse_jacobians[rows] = inverse
        is_open = np.isin(rows, search.open_points) & np.isfinite(errors).all(axis=1)
        rows, points, errors, inverse = rows[is_open], points[is_open], errors[is_open], inverse[is_open]


def _newton_step(search: _Search, difference_step: float) -> None:
    rows = search.open_points
    points, errors = search.best[rows], search.best_errors[rows]
    columns = [(search.errors(points + difference_step * axis, rows) - errors) / difference_step for axis in np.eye(3)]
    jacobians = np.stack(columns, axis=-1)
    is_usable = np.isfinite(jacobians).all(axis=(1, 2)) & np.isfinite(errors).all(axis=1)
    is_usable[is_usable] &= np.abs(np.linalg.det(jacobians[is_usable])) > 1e-6
    rows, points = rows[is_usable], points[is_usable]
    steps = -np.linalg.solve(jacobians[is_usable], errors[is_usable][:, :, None])[:, :, 0]
    for damping in (1.0, 0.5, 0.25, 0.1):
        if not len(rows):
            return
        tried = points + damping * steps
        is_better = search.keep_better(rows, tried, search.errors(tried, rows))
        rows, points, steps = rows[~is_better], points[~is_better], steps[~is_better]
