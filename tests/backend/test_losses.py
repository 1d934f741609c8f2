"""Losses against hand-computed values, with symmetry and gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from torch_backend.losses import (
    eye_motion_loss,
    lip_gap_loss,
    lip_width_loss,
    motion_distribution,
    reconstruction_loss,
    velocity_loss,
    weighted_mean,
)


def _random(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).requires_grad_()


def test_reconstruction_by_hand() -> None:
    predicted = torch.tensor([[[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]])
    true = torch.tensor([[[1.0, 0.0, 0.0], [0.0, -2.0, 0.0]]])
    assert torch.equal(reconstruction_loss(predicted, true), torch.tensor([[13.0, 4.0]]))
    assert torch.equal(reconstruction_loss(true, predicted), reconstruction_loss(predicted, true))


def test_velocity_by_hand() -> None:
    predicted = torch.tensor([[[0.0, 0, 0]], [[1.0, 0, 0]], [[1.0, 5, 0]]])
    true = torch.tensor([[[9.0, 9, 9]], [[9.0, 9, 9]], [[9.0, 9, 6]]])
    # steps: (1,0,0) against 0, and (0,5,0) against (0,0,-3)
    assert torch.equal(velocity_loss(predicted, true), torch.tensor([[1.0], [34.0]]))


def test_velocity_ignores_a_constant_error() -> None:
    true = _random(0, 5, 3, 3)
    assert float(velocity_loss(true + 4.0, true).detach().abs().max()) < 1e-20


def test_motion_distribution_by_hand() -> None:
    positions = torch.tensor([[[0.0, 0, 0]], [[3.0, 4, 0]], [[3.0, 4, 15]]])
    assert torch.allclose(motion_distribution(positions, 0.0), torch.tensor([[0.25], [0.75]]))


def test_eye_loss_by_hand() -> None:
    """True shares (3/4, 1/4) against predicted (1/4, 3/4): KL = 1/2 ln 3. A still second point has none."""
    true = torch.tensor([[0.0, 0], [3.0, 0], [4.0, 0]])[..., None] * torch.tensor([1.0, 0, 0])
    predicted = torch.tensor([[0.0, 0], [0.5, 1], [2.0, 2]])[..., None] * torch.tensor([0.0, 1, 0])
    loss = eye_motion_loss(predicted, true, epsilon=0.0)
    assert loss.tolist() == pytest.approx([0.5 * math.log(3), 0.0], rel=1e-5)


def test_eye_loss_is_least_at_the_truth_and_blind_to_scale() -> None:
    true = _random(1, 8, 4, 3).detach()
    assert float(eye_motion_loss(true, true).abs().max()) < 1e-7
    assert float(eye_motion_loss(3 * true, true).abs().max()) < 1e-3
    assert float(eye_motion_loss(_random(2, 8, 4, 3).detach(), true).min()) > 0


def test_eye_loss_of_a_still_prediction_has_a_finite_gradient() -> None:
    predicted = torch.zeros(6, 2, 3, requires_grad=True)
    eye_motion_loss(predicted, _random(3, 6, 2, 3).detach().float()).sum().backward()
    assert predicted.grad is not None
    assert bool(torch.isfinite(predicted.grad).all())


def test_gap_by_hand() -> None:
    """Upper lip 1 too high and lower lip 2 too low in pair 0: the gap is 3 too large; pair 1 is right but shifted."""
    true = torch.zeros(1, 4, 3)
    predicted = torch.zeros(1, 4, 3)
    predicted[0, 0, 1], predicted[0, 1, 1] = 1.0, -2.0
    predicted[0, 2:] = 5.0
    pairs = torch.tensor([[0, 1], [2, 3]])
    assert lip_gap_loss(predicted, true, pairs).tolist() == [4.5]
    assert lip_gap_loss(predicted, true, pairs.flip(1)).tolist() == [4.5]


def test_width_by_hand() -> None:
    true = torch.zeros(2, 3, 3)
    predicted = torch.zeros(2, 3, 3)
    predicted[0, 0, 0], predicted[0, 2, 0] = 2.0, -1.0
    predicted[1, :, 0] = 7.0  # shifted as a whole
    predicted[1, 0, 1] = 9.0  # not a width
    assert lip_width_loss(predicted, true, torch.tensor([0, 2])).tolist() == [9.0, 0.0]


def test_weighted_mean_by_hand() -> None:
    values = torch.tensor([[1.0, 3.0], [5.0, 7.0]])
    assert float(weighted_mean(values, torch.tensor([1.0, 1.0]))) == 4.0
    assert float(weighted_mean(values, torch.tensor([3.0, 1.0]))) == pytest.approx((0.75 * 6 + 0.25 * 10) / 2)


def test_gradients() -> None:
    true = _random(5, 4, 3, 3).detach()
    pairs, corners = torch.tensor([[0, 1], [1, 2]]), torch.tensor([0, 2])
    functions = [
        lambda p: reconstruction_loss(p, true),
        lambda p: velocity_loss(p, true),
        lambda p: eye_motion_loss(p, true),
        lambda p: lip_gap_loss(p, true, pairs),
        lambda p: lip_width_loss(p, true, corners),
        lambda p: weighted_mean(p[..., 0], p[0, :, 1].exp()),
    ]
    for function in functions:
        assert torch.autograd.gradcheck(function, _random(6, 4, 3, 3))


@pytest.mark.parametrize("shape", [(4, 3, 2), (4, 2, 3)])
def test_shapes_are_checked(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected two tensors"):
        reconstruction_loss(torch.zeros(shape), torch.zeros(4, 3, 3))
