"""Inverting backward deformations whose inverse is known."""

from __future__ import annotations

import numpy as np
import pytest

from torch_backend.geometry.tracked_surface import InversionOptions, invert_deformation


def some_points(count: int = 400) -> np.ndarray:
    return np.random.default_rng(5).uniform(-1, 1, (count, 3))


def swirl(points: np.ndarray, turn: float) -> np.ndarray:
    """Turn each point about z by an angle that depends on what the turn keeps: radius and height."""
    angle = turn * np.exp(-(points[:, 0] ** 2 + points[:, 1] ** 2)) * np.cos(points[:, 2])
    x, y, z = points.T
    return np.stack([np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y, z], axis=1)


@pytest.mark.parametrize("turn", [0.2, 1.0, 2.5])
def test_a_swirl_is_undone(turn: float) -> None:
    """A turn of 2.5 is no contraction: the plain fixed point would not find it."""
    points = some_points()
    found = invert_deformation(lambda x: swirl(x, turn) - x, swirl(points, turn))
    assert found.has_converged.all() and found.residuals.max() <= 1e-5
    np.testing.assert_allclose(found.points, points, atol=5e-5)


def test_affine_deformations_are_undone() -> None:
    matrix = np.array([[1.3, 0.4, 0.0], [-0.2, 0.5, 0.1], [0.3, 0.0, 0.8]])
    points = some_points()
    canonical = points @ matrix.T + [0.1, -0.2, 0.3]
    found = invert_deformation(lambda x: x @ matrix.T + [0.1, -0.2, 0.3] - x, canonical)
    assert found.has_converged.all()
    np.testing.assert_allclose(found.points, points, atol=1e-4)


def test_a_mirrored_space_needs_newton() -> None:
    """x -> 3 - 2 x pushes the fixed point away from its solution; every point has one all the same."""
    found = invert_deformation(lambda x: 3.0 - 3.0 * x, 3.0 - 2.0 * some_points())
    assert found.has_converged.all()
    np.testing.assert_allclose(found.points, some_points(), atol=1e-5)


def test_starting_from_the_frame_before_is_cheaper() -> None:
    points = some_points()
    before = invert_deformation(lambda x: swirl(x, 1.0) - x, swirl(points, 1.0))
    canonical = swirl(points, 1.0)
    far = invert_deformation(lambda x: swirl(x, 1.02) - x, canonical)
    near = invert_deformation(lambda x: swirl(x, 1.02) - x, canonical, before)
    assert near.has_converged.all() and near.num_evaluations < 0.6 * far.num_evaluations
    np.testing.assert_allclose(near.points, far.points, atol=5e-5)


def test_what_has_no_solution_is_told() -> None:
    """x + offset(x) = |x| reaches no negative coordinate; the others are found."""
    canonical = np.array([[0.5, 0.2, 0.3], [-0.5, 0.2, 0.3]])
    found = invert_deformation(lambda x: np.abs(x) - x, canonical)
    assert found.has_converged.tolist() == [True, False]
    assert found.residuals[1] >= 0.5 - 1e-9 and np.isfinite(found.points).all()


def test_a_point_where_the_offset_is_not_finite_is_told() -> None:
    def offset(points: np.ndarray) -> np.ndarray:
        return np.where(points[:, :1] > 0, np.nan, 0.1) * np.ones((1, 3))

    found = invert_deformation(offset, np.array([[-0.5, 0.0, 0.0], [0.5, 0.0, 0.0]]))
    assert found.has_converged.tolist() == [True, False]


def test_shapes_and_options_are_checked() -> None:
    with pytest.raises(ValueError, match=r"\(V, 3\)"):
        invert_deformation(lambda x: x, np.zeros((4, 3)), invert_deformation(np.zeros_like, np.zeros((5, 3))))
    with pytest.raises(ValueError, match="offset must return"):
        invert_deformation(lambda x: x[:1], np.zeros((4, 3)))
    with pytest.raises(ValueError, match="above 0"):
        InversionOptions(tolerance=0.0)
