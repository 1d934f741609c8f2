"""Scans brought onto the built-in head: similarities, without landmarks, and the parametric head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from blender_talkhead.facial.blendshapes import BLENDSHAPE_INDEX
from blender_talkhead.facial.identities import random_identity
from torch_backend.fitting.coarse_alignment import align_coarsely, follow_alignment
from torch_backend.fitting.config import AlignmentConfig
from torch_backend.fitting.parametric_fit import ParametricFitter, start_from_landmarks
from torch_backend.fitting.scan_normals import estimate_normals
from torch_backend.fitting.similarity import Similarity, align_landmarks, fit_similarity
from torch_backend.fitting.template_model import build_template_model, landmarks_of_head, visible_vertices
from torch_backend.head import Head, load_head
from torch_backend.head.identity import apply_identity

TRUTH = Similarity(1000.0, Rotation.from_euler("xyz", [1.4, 0.2, -0.3]).as_matrix(), np.array([30.0, -400.0, 5.0]))


def scanned(head: Head, pose: dict[str, float], number: int, seed: int) -> np.ndarray:
    """Points (n, 3) of the front of a posed head, with noise of 0.2 mm."""
    generator = np.random.default_rng(seed)
    posed = head.pose(pose).astype(np.float64)
    front = visible_vertices(load_head())
    front = front[load_head().vertices[front, 2] > 0.0]
    triangles = head.skin_triangles[np.isin(head.skin_triangles, front).all(axis=1)]
    chosen, shares = generator.integers(len(triangles), size=number), generator.dirichlet([1, 1, 1], number)
    points = np.einsum("nc,nci->ni", shares, posed[triangles[chosen]])
    return points + generator.normal(size=points.shape) * 2e-4


def test_similarity_is_found_exactly() -> None:
    points = np.random.default_rng(0).normal(size=(9, 3))
    found = fit_similarity(points, TRUTH.apply(points))
    assert found.scale == pytest.approx(1000.0)
    np.testing.assert_allclose(found.rotation, TRUTH.rotation, atol=1e-9)
    np.testing.assert_allclose(found.apply(points), TRUTH.apply(points), atol=1e-6)
    np.testing.assert_allclose(TRUTH.inverse().apply(TRUTH.apply(points)), points, atol=1e-9)
    np.testing.assert_allclose(TRUTH.after(found).apply(points), TRUTH.apply(found.apply(points)))
    rigid = fit_similarity(points, 2.0 * points, with_scale=False)
    assert rigid.scale == 1.0


def test_mirrored_points_give_a_rotation() -> None:
    points = np.random.default_rng(1).normal(size=(20, 3))
    assert np.linalg.det(fit_similarity(points, points * [-1, 1, 1]).rotation) == pytest.approx(1.0)


def test_landmarks_with_outliers() -> None:
    generator = np.random.default_rng(3)
    template = landmarks_of_head(load_head(), 68)
    scan = TRUTH.apply(template + generator.normal(size=template.shape) * 5e-4)
    scan[[5, 30, 48]] += 80.0  # 8 cm
    scan[10] = np.nan
    found, kept = align_landmarks(scan, template, 0.02)
    assert sorted(np.flatnonzero(~kept).tolist()) == [5, 10, 30, 48]
    np.testing.assert_allclose(found.after(TRUTH).apply(template), template, atol=1e-3)
    with pytest.raises(ValueError, match="are needed"):
        align_landmarks(generator.normal(size=(68, 3)) * 1000, template, 0.02)


@pytest.mark.parametrize("unit", [1.0, 1000.0, 7.0])
def test_scan_without_landmarks_in_any_unit(unit: float) -> None:
    head = apply_identity(load_head(), random_identity(4))
    points = scanned(head, {}, 4000, 1)
    truth = replace_scale(TRUTH, unit)
    found = align_coarsely(truth.apply(points), load_head())
    assert not found.is_doubtful
    errors = np.linalg.norm(found.similarity.after(truth).apply(points) - points, axis=1)
    assert errors.mean() < 0.004  # another person than the mean head, so there is no exact answer
    moved = Similarity(1.0, Rotation.from_rotvec([0.03, 0.04, 0.0]).as_matrix(), np.array([0.004, 0.0, 0.0])).apply(
        points
    )
    following = follow_alignment(truth.apply(moved), load_head(), found.similarity)
    errors = np.linalg.norm(following.after(truth).apply(moved) - points, axis=1)
    assert errors.mean() < 0.004


def test_no_head_is_doubtful() -> None:
    box = np.random.default_rng(0).uniform(-0.1, 0.1, (2000, 3))
    assert align_coarsely(box, load_head()).is_doubtful


def test_normals_of_a_ball() -> None:
    points = np.random.default_rng(0).normal(size=(3000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    assert np.abs((estimate_normals(points) * points).sum(axis=1)).mean() > 0.99
    assert not estimate_normals(points[:2]).any()


def test_parametric_head_finds_pose_shape_and_expression() -> None:
    identity = random_identity(7)
    head = apply_identity(load_head(), identity)
    poses = [{"jawOpen": 0.1 + 0.2 * frame, "mouthSmileLeft": 0.5, "mouthSmileRight": 0.5} for frame in range(4)]
    clouds = [TRUTH.apply(scanned(head, pose, 5000, number)) for number, pose in enumerate(poses)]
    landmarks = np.stack([TRUTH.apply(head.pose(pose)[head.landmarks68].astype(np.float64)) for pose in poses])
    template = build_template_model(load_head(), 68, 1000)
    start = start_from_landmarks(template.landmarks, landmarks, 0.02)
    fitter = ParametricFitter(template, clouds, start, landmarks, AlignmentConfig(iterations=400))
    found = fitter.fit()
    assert found.surface_errors_m.max() < 1e-3 and found.landmark_errors_m.max() < 2e-3
    opened = found.weights[:, BLENDSHAPE_INDEX["jawOpen"]]
    np.testing.assert_allclose(opened, [pose["jawOpen"] for pose in poses], atol=0.12)
    assert np.abs(found.weights[:, BLENDSHAPE_INDEX["mouthSmileLeft"]] - 0.5).max() < 0.12
    errors = [each.inverse().after(TRUTH) for each in found.to_scan]
    assert max(np.degrees(Rotation.from_matrix(each.rotation).magnitude()) for each in errors) < 1.0
    assert max(abs(each.scale - 1.0) for each in errors) < 0.02
    assert len({each.scale for each in found.to_scan}) == 1
    values = np.array([found.parameters[name] - identity.get(name, 0.0) for name in found.parameters])
    assert np.sqrt(np.square(values).mean()) < 0.5 * np.sqrt(np.mean([value**2 for value in identity.values()]))
    fixed = fitter.fit(np.zeros((4, 52)), found.parameters)
    assert not fixed.weights.any() and fixed.parameters == pytest.approx(found.parameters)


def test_wrong_numbers_are_named() -> None:
    template = build_template_model(load_head(), 478, 100)
    assert template.landmarks.shape == (478, 3)
    with pytest.raises(ValueError, match="landmarks of shape"):
        ParametricFitter(template, [np.zeros((5, 3))], [TRUTH], np.zeros((1, 68, 3)), AlignmentConfig())
    with pytest.raises(ValueError, match="68 or 478"):
        build_template_model(load_head(), 51, 100)


def replace_scale(similarity: Similarity, scale: float) -> Similarity:
    return replace(similarity, scale=scale, translation=similarity.translation * scale / similarity.scale)
