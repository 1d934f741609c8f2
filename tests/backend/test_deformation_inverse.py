"""Inversion of deformations with known inverses."""

from __future__ import annotations

import pytest
import torch

from torch_backend.modules.deformation_inverse import invert_deformation


def test_translation_is_undone_in_one_step() -> None:
    shift = torch.tensor([0.1, -0.2, 0.3])
    calls = []
    targets = torch.randn(4, 7, 3, generator=torch.Generator().manual_seed(0))
    found = invert_deformation(lambda x: calls.append(1) or shift.expand_as(x), targets)
    torch.testing.assert_close(found.points, targets - shift, atol=1e-6, rtol=0)
    assert len(calls) == 2


def test_strong_linear_map_is_undone_where_the_plain_iteration_diverges() -> None:
    """x -> A x with |A - 1| over 1."""
    matrix = torch.tensor([[2.5, 0.4, 0.0], [-0.3, 0.6, 0.2], [0.0, 0.1, 2.2]], dtype=torch.float64)
    targets = torch.randn(50, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = invert_deformation(lambda x: x @ matrix.T - x, targets, tolerance=1e-10)
    torch.testing.assert_close(found.points, targets @ torch.linalg.inv(matrix).T, atol=1e-8, rtol=0)
    assert found.residuals.shape == (50,)


def test_target_without_a_place_keeps_its_residual() -> None:
    """x + offset(x) = |x| is never negative."""
    targets = torch.tensor([[-1.0, 0.5, 0.5]])
    found = invert_deformation(lambda x: x.abs() - x, targets)
    assert float(found.residuals) >= 0.99


def test_good_start_saves_rounds() -> None:
    calls = []

    def offsets(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return 0.2 * torch.sin(3 * x)

    truth = torch.randn(30, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    targets = truth + offsets(truth)
    calls.clear()
    cold = invert_deformation(offsets, targets)
    cold_calls = len(calls)
    calls.clear()
    warm = invert_deformation(offsets, targets, start=truth + 1e-4)
    assert len(calls) < cold_calls
    torch.testing.assert_close(warm.points, truth, atol=1e-4, rtol=0)
    torch.testing.assert_close(cold.points, truth, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match=r"\(30, 3\).*\(2, 3\)"):
        invert_deformation(offsets, targets, start=truth[:2])
