"""Identity codes of scans, on a head in closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.backend.analytic_head import RADIUS, AnalyticHead, smooth_codes
from torch_backend.fitting.code_prior import HeadPriors, prior_of_codes, subspace_of_codes
from torch_backend.fitting.config import IdentityFitConfig
from torch_backend.fitting.identity_fit import SurfaceSamples, fit_identity, sample_scan

CONFIG = IdentityFitConfig(iterations=300, points=600, learning_rate=0.05, late_learning_rate=0.005)
IDENTITY = torch.tensor([0.5, -0.3, 0.2, 0.0])


def ball(steps: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """A triangulated unit ball, counter-clockwise from outside."""
    polar, around = np.meshgrid(np.linspace(0, np.pi, steps), np.linspace(0, 2 * np.pi, 2 * steps)[:-1], indexing="ij")
    points = np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)], axis=-1)
    width = 2 * steps - 1
    corner = (np.arange(steps - 1)[:, None] * width + np.arange(width)[None]).ravel()
    right = (np.arange(steps - 1)[:, None] * width + (np.arange(width) + 1)[None] % width).ravel()
    triangles = np.concatenate(
        [np.stack([corner, corner + width, right], 1), np.stack([right, corner + width, right + width], 1)]
    )
    return points.reshape(-1, 3), triangles


def scan_of(identity: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    points, triangles = ball()
    return points * RADIUS * (1.0 + 0.2 * identity[:3].numpy()), triangles


def subspace():
    """The first three entries vary, the fourth follows the first."""
    codes = np.random.default_rng(0).normal(size=(300, 4)) * 0.4
    codes[:, 3] = codes[:, 0]
    return subspace_of_codes(codes)


PRIORS = HeadPriors(subspace(), prior_of_codes(smooth_codes(50)))


def test_a_mesh_gives_its_identity() -> None:
    points, triangles = scan_of(IDENTITY)
    for faces in (triangles, triangles[:, ::-1]):  # whichever way the scan's faces look
        samples = sample_scan(points, faces, 0.03, np.zeros(3), 0)
        assert len(samples.near_points) > 10_000
        found = fit_identity(AnalyticHead(), samples, PRIORS, replace(CONFIG, prior_weight=0.0))
        np.testing.assert_allclose(found.identity[:3], IDENTITY[:3], atol=0.03)  # beside it the distances are others
        assert found.identity[3] == pytest.approx(
            float(found.identity[0]), abs=0.02
        )  # codes beside the set mean nothing
        assert found.mean_error < 1.5e-3 and found.far_share == 0.0


def test_a_cloud_with_a_known_expression_gives_its_identity() -> None:
    generator = np.random.default_rng(2)
    code = torch.from_numpy(smooth_codes(5)[4])
    points = AnalyticHead().surface(IDENTITY, code, 4000, generator)
    points = np.concatenate([points, generator.normal(size=(300, 3)) + 2.0])  # something that is no head
    samples = sample_scan(points, np.zeros((0, 3), np.int64), 0.03, np.zeros(3), 0)
    found = fit_identity(AnalyticHead(), samples, PRIORS, CONFIG, expression=code)
    np.testing.assert_allclose(found.identity[:3], IDENTITY[:3], atol=0.02)
    assert found.far_share == pytest.approx(300 / 4300, abs=0.01)
    assert torch.equal(found.expression, code)


def test_the_expression_can_be_fitted_beside_it() -> None:
    code = torch.from_numpy(smooth_codes(5)[4])
    points = AnalyticHead().surface(IDENTITY, code, 4000, np.random.default_rng(2))
    samples = sample_scan(points, np.zeros((0, 3), np.int64), 0.03, np.zeros(3), 0)
    settings = replace(CONFIG, fit_expression=True, iterations=600)
    found = fit_identity(AnalyticHead(), samples, PRIORS, settings)
    assert found.mean_error < 2e-3
    assert (found.expression - code).abs().max() < 0.15


def test_signed_distances_are_those_of_the_ball_and_rims_are_left_out() -> None:
    points, triangles = ball(60)
    front = triangles[(points[triangles][:, :, 2] > 0).all(axis=1)]
    samples = sample_scan(points, front, 0.1, np.zeros(3), 1)
    lengths = np.linalg.norm(samples.near_points, axis=1) - 1.0
    np.testing.assert_allclose(samples.near_distances, lengths, atol=3e-3)
    assert samples.near_points[:, 2].min() > 0.0
    assert abs(samples.near_distances).max() <= 0.1 + 1e-6


def test_a_scan_far_away_is_refused() -> None:
    samples = SurfaceSamples(np.full((50, 3), 9.0, np.float32), np.zeros((0, 3), np.float32), np.zeros(0, np.float32))
    with pytest.raises(ValueError, match="alignment"):
        fit_identity(AnalyticHead(), samples, PRIORS, replace(CONFIG, iterations=2))


def test_subspace_holds_what_varies() -> None:
    found = subspace()
    assert found.directions.shape == (3, 4)
    code = torch.tensor([0.3, 0.1, -0.2, 0.3])
    np.testing.assert_allclose(found.to_code(found.to_coefficients(code)), code, atol=1e-5)
