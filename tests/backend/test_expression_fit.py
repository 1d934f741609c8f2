"""Expression codes of point-cloud sequences, on a head in closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.backend.analytic_head import ALIVE, CODE_SIZE, IDENTITY_SIZE, AnalyticHead, smooth_codes
from torch_backend.fitting.code_prior import CodePrior, prior_of_codes, standard_prior
from torch_backend.fitting.config import ExpressionFitConfig, load_fitting_config
from torch_backend.fitting.expression_fit import ExpressionFitter, blend_shares, window_ranges
from torch_backend.fitting.window_solver import WindowProblem, _GaussNewton, expression_motion, temporal_loss
from torch_backend.metrics.code_jitter import frame_difference_mae, frame_difference_rmse, second_difference_rmse

IDENTITY = torch.tensor([0.1, -0.2, 0.0, 5.0])
CONFIG = ExpressionFitConfig(points_per_frame=300)


def prior() -> CodePrior:
    return prior_of_codes(smooth_codes(200))


def clouds(codes: np.ndarray, *, noise: float = 0.0, half: bool = False, seed: int = 3) -> list[np.ndarray]:
    """Surface points of each frame, a quarter of them missing on one side if `half`."""
    generator, head = np.random.default_rng(seed), AnalyticHead()
    made = []
    for code in codes:
        points = head.surface(IDENTITY, torch.from_numpy(code), 400, generator)
        points = points[points[:, 2] > -0.1] if half else points
        made.append((points + generator.normal(size=points.shape) * noise).astype(np.float32))
    return made


def fit(sequence: list[np.ndarray], config: ExpressionFitConfig = CONFIG, seed: int = 0):
    fitter = ExpressionFitter(AnalyticHead(), IDENTITY, prior(), config)  # type: ignore[arg-type]
    return fitter.fit(len(sequence), sequence.__getitem__, seed)


def test_windows_overlap_and_cover_every_frame() -> None:
    assert window_ranges(26, 10, 2) == [(0, 10), (8, 18), (16, 26)]
    assert window_ranges(12, 10, 2) == [(0, 10), (8, 12)]
    assert window_ranges(3, 10, 2) == [(0, 3)]
    np.testing.assert_allclose(blend_shares(4, 2), [1 / 3, 2 / 3, 1, 1])
    np.testing.assert_allclose(blend_shares(2, 0), [1, 1])


def test_codes_of_clean_clouds_are_found() -> None:
    truth = smooth_codes(18)
    found = fit(clouds(truth, half=True), replace(CONFIG, temporal_weight=1e-4, regularization_weight=1e-6))
    assert np.abs(found.codes - truth).max() < 0.01
    assert np.array_equal(found.codes[:, ALIVE:], np.zeros((18, CODE_SIZE - ALIVE)))  # entries that never vary
    assert found.surface_errors.max() < 2e-4
    assert not found.poses.any()


def test_adam_and_gauss_newton_minimise_the_same() -> None:
    truth = smooth_codes(8)
    sequence = clouds(truth, noise=0.002)
    adam = replace(CONFIG, solver="adam", iterations=700, learning_rate=0.01, late_learning_rate=1e-3, late_from=400)
    by_adam, by_gauss_newton = fit(sequence, adam).codes, fit(sequence).codes
    assert np.abs(by_adam - by_gauss_newton).max() < 0.03
    assert np.abs(by_gauss_newton - truth).max() < 0.15


def test_temporal_term_calms_noisy_clouds_and_keeps_the_surface() -> None:
    truth = smooth_codes(24)
    sequence = clouds(truth, noise=0.02, half=True)
    few = replace(CONFIG, points_per_frame=60)
    with_term, without = fit(sequence, few), fit(sequence, replace(few, temporal_weight=0.0))
    assert second_difference_rmse(with_term.codes) < 0.7 * second_difference_rmse(without.codes)
    assert np.square(with_term.codes - truth).mean() < np.square(without.codes - truth).mean()


def test_a_frame_without_points_lies_between_its_neighbours() -> None:
    truth = smooth_codes(9)
    sequence = clouds(truth)
    sequence[4] = np.zeros((0, 3), np.float32)
    found = fit(sequence)
    assert np.isnan(found.surface_errors[4]) and np.isfinite(np.delete(found.surface_errors, 4)).all()
    between = (found.codes[3] + found.codes[5]) / 2
    assert np.abs(found.codes[4] - between).max() < 0.15


def test_pose_is_found_beside_the_expression() -> None:
    truth = smooth_codes(6)
    turned = []
    for number, cloud in enumerate(clouds(truth)):
        angle = 0.03 * np.sin(number)
        matrix = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        turned.append((cloud @ matrix.T + [0.01, -0.02, 0.0]).astype(np.float32))
    still, moving = fit(turned), fit(turned, replace(CONFIG, refine_pose=True, temporal_weight=0.01))
    assert np.nanmean(moving.surface_errors) < 0.3 * np.nanmean(still.surface_errors)
    np.testing.assert_allclose(moving.poses[:, 4], 0.02, atol=4e-3)  # back to the model


def test_derivatives_match_finite_differences() -> None:
    sequence = clouds(smooth_codes(2), noise=0.01)
    problem = WindowProblem(
        AnalyticHead(), IDENTITY, prior(), sequence, smooth_codes(2) * 0.5,  # type: ignore[arg-type]
        np.zeros((2, 6), np.float32), None, np.random.default_rng(0),
    )  # fmt: skip
    solver = _GaussNewton(problem, replace(CONFIG, refine_pose=True))
    points, code = solver.points[0], solver.to_codes(solver.start)[0]
    values, jacobian = solver._jacobian(points, code)
    step = 1e-2
    for entry in range(ALIVE):
        moved = solver.start[:1].clone()
        moved[0, entry] += step
        others, _ = solver._jacobian(points, solver.to_codes(moved)[0])
        np.testing.assert_allclose(jacobian[:, entry], (others - values) / step, atol=2e-4)
    assert jacobian.shape == (300, ALIVE + 6)


def test_same_seed_gives_the_same_codes() -> None:
    sequence = clouds(smooth_codes(11), noise=0.01)
    assert np.array_equal(fit(sequence).codes, fit(sequence).codes)


def test_temporal_loss_is_hubers() -> None:
    codes = torch.tensor([[0.0, 0.0], [0.02, 1.0]])
    assert float(temporal_loss(codes, 0.05)) == pytest.approx(0.5 * 0.02**2 + 0.05 * (1.0 - 0.025))


def test_jitter_figures() -> None:
    codes = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 3.0]])
    assert frame_difference_mae(codes) == pytest.approx(1.0)
    assert frame_difference_rmse(codes) == pytest.approx(np.sqrt(10 / 4))
    assert second_difference_rmse(codes) == pytest.approx(np.sqrt(10 / 2))


def test_priors() -> None:
    codes = np.array([[1.0, 0.0, 5.0], [3.0, 0.0, 5.0]])
    found = prior_of_codes(codes)
    assert found.mean.tolist() == [2.0, 0.0, 5.0] and found.spread.tolist() == [1.0, 0.0, 0.0]
    assert found.size == 1.0 and found.alive.tolist() == [0]
    assert standard_prior(4).alive.tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="do not vary"):
        prior_of_codes(np.ones((3, 2)))


def test_wrong_inputs_are_named() -> None:
    with pytest.raises(ValueError, match="identity code"):
        ExpressionFitter(AnalyticHead(), torch.zeros(IDENTITY_SIZE + 1), prior(), CONFIG)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="frame 0"):
        fit([np.full((4, 3), np.nan)])
    with pytest.raises(ValueError, match="overlap"):
        ExpressionFitConfig(overlap_frames=10)


def test_settings_are_the_papers_where_it_names_them() -> None:
    named = {
        "window_frames": 10, "overlap_frames": 2, "points_per_frame": 5000, "sdf_weight": 10.0, "iterations": 500,
        "regularization_weight": 0.0025, "learning_rate": 1e-3, "late_learning_rate": 1e-4, "late_from": 300,
    }  # fmt: skip
    for settings in (load_fitting_config().expression, ExpressionFitConfig()):
        assert {name: getattr(settings, name) for name in named} == named
    assert ExpressionFitConfig().temporal_weight == 0.1  # ships with less, which was measured


def bounded_prior() -> CodePrior:
    """Codes made of weights within 0..1: one shape for either way of each entry, as left and right, and one unused."""
    free = prior()
    shapes = torch.cat([torch.eye(CODE_SIZE)[:ALIVE], -torch.eye(CODE_SIZE)[:ALIVE], torch.zeros(1, CODE_SIZE)])
    return replace(free, generators=shapes * 0.35)


def test_weights_of_shapes_are_found_within_their_bounds() -> None:
    truth = smooth_codes(12)
    head, sequence = AnalyticHead(), clouds(truth, half=True)
    config = replace(CONFIG, temporal_weight=1e-4, sparsity_weight=1e-6)
    fitter = ExpressionFitter(head, IDENTITY, bounded_prior(), config)  # type: ignore[arg-type]
    found = fitter.fit(len(sequence), sequence.__getitem__, 0).codes
    assert np.abs(found).max() <= 0.35 + 1e-6  # the truth goes to 0.4
    inside = np.abs(truth) < 0.3
    assert np.abs(found - truth)[inside].max() < 0.05
    free = ExpressionFitter(head, IDENTITY, bounded_prior(), replace(config, bounded=False))  # type: ignore[arg-type]
    assert np.abs(free.fit(len(sequence), sequence.__getitem__, 0).codes - truth).max() < 0.05


def test_adam_keeps_the_bounds_too() -> None:
    sequence = clouds(smooth_codes(4))
    config = replace(CONFIG, solver="adam", iterations=300, learning_rate=0.02, late_learning_rate=2e-3, late_from=200)
    fitter = ExpressionFitter(AnalyticHead(), IDENTITY, bounded_prior(), config)  # type: ignore[arg-type]
    by_adam = fitter.fit(4, sequence.__getitem__, 0).codes
    solver = replace(config, solver="gauss_newton")
    other = ExpressionFitter(AnalyticHead(), IDENTITY, bounded_prior(), solver)  # type: ignore[arg-type]
    assert np.abs(by_adam - other.fit(4, sequence.__getitem__, 0).codes).max() < 0.03


def test_points_are_drawn_where_expressions_move_the_head() -> None:
    points = np.array([[0.4, 0.0, 0.0], [-0.3, -0.3, -0.3], [0.0, 0.4, 0.0], [9.0, 0.0, 0.0]], np.float32)
    motion = expression_motion(AnalyticHead(), IDENTITY, prior(), points)  # type: ignore[arg-type]
    assert motion[3] < 1e-9 < motion[1] < 0.5 * motion[0]
    assert min(motion[0], motion[2]) > 0.003
