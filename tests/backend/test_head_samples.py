"""Training samples of the built-in head: distances against the true ones, correspondences, anchors."""

from __future__ import annotations

import numpy as np
import pytest

from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from blender_talkhead.facial.identities import random_identity
from torch_backend.head import load_head
from torch_backend.head.identity import apply_identity
from torch_backend.head.member_anchors import member_anchor_vertices
from torch_backend.head.signed_distance import signed_distance
from torch_backend.training.head_samples import HeadSampler, HeadSamplesConfig, HeadSpace

SPACE = HeadSpace()


def weights_of(**shapes: float) -> np.ndarray:
    weights = np.zeros(len(ARKIT_BLENDSHAPES), dtype=np.float32)
    for name, value in shapes.items():
        weights[BLENDSHAPE_INDEX[name]] = value
    return weights


def sampler(**changes) -> HeadSampler:
    values = {"near_points": 300, "box_points": 60, "correspondences": 400} | changes
    return HeadSampler(load_head(), HeadSamplesConfig(**values), SPACE)


def test_space_goes_there_and_back() -> None:
    points = np.array([[0.0, -0.03, 0.02], [0.1, 0.095, 0.02]])
    np.testing.assert_allclose(SPACE.to_model(points), [[0, 0, 0], [0.4, 0.5, 0]], atol=1e-6)
    np.testing.assert_allclose(SPACE.to_metres(SPACE.to_model(points)), points, atol=1e-7)


def test_distances_are_the_true_ones_in_the_models_unit() -> None:
    head = apply_identity(load_head(), random_identity(4))
    weights = weights_of(jawOpen=0.6, eyeBlinkLeft=1.0)
    samples = sampler().draw_distances(head, weights, np.random.default_rng(0))
    assert 300 < len(samples.points) <= 360 and samples.points.dtype == np.float32
    expected = signed_distance(head, SPACE.to_metres(samples.points), weights)
    np.testing.assert_allclose(samples.distances * 0.25, expected, atol=1e-7)
    box = sampler().box
    assert (samples.points >= box[0]).all() and (samples.points <= box[1]).all()
    third = np.abs(samples.distances[:300:3]) * 250  # of the 1 mm spread, where none was left out
    assert np.median(third) < 3.0
    assert (samples.distances < 0).sum() > 50 < (samples.distances > 0).sum()


def test_correspondences_at_rest_do_not_move() -> None:
    pairs = sampler().draw_correspondences(load_head(), weights_of(), np.random.default_rng(1))
    np.testing.assert_array_equal(pairs.posed, pairs.canonical)


def test_correspondences_lie_on_both_surfaces() -> None:
    head, weights = apply_identity(load_head(), random_identity(5)), weights_of(jawOpen=0.7, mouthSmileLeft=0.5)
    pairs = sampler(correspondence_spread_mm=0.0).draw_correspondences(head, weights, np.random.default_rng(2))
    moved = np.linalg.norm(pairs.posed - pairs.canonical, axis=1) * 0.25
    assert moved.max() > 0.01 and (moved < 1e-6).any()
    # The skin alone is the surface, away from the eyeballs that are united with it.
    for points, pose in ((pairs.posed, weights), (pairs.canonical, weights_of())):
        metres = SPACE.to_metres(points)
        away = np.min([np.linalg.norm(metres - center, axis=1) for center in head.eye_centers], axis=0) > 0.022
        assert np.abs(signed_distance(head, metres[away], pose)).max() < 2e-6


def test_samples_depend_on_the_generator_alone() -> None:
    draws = [sampler().draw_distances(load_head(), weights_of(), np.random.default_rng(s)).points for s in (0, 0, 1)]
    assert np.array_equal(draws[0], draws[1]) and not np.array_equal(draws[0], draws[2])


def test_face_share_draws_where_the_skin_moves() -> None:
    def mean_height(share: float) -> float:
        drawn = sampler(face_share=share, correspondences=4000)
        pairs = drawn.draw_correspondences(load_head(), weights_of(), np.random.default_rng(3))
        return float((SPACE.to_metres(pairs.posed)[:, 2] > 0.06).mean())

    assert mean_height(1.0) > mean_height(0.0) + 0.2


def test_anchors_are_mirrored_pairs_and_middle_ones() -> None:
    head = load_head()
    anchors = member_anchor_vertices(head)
    places = head.vertices[anchors]
    assert anchors.shape == (39,) and len(set(anchors.tolist())) == 39
    np.testing.assert_allclose(places[1:32:2], places[0:32:2] * [-1, 1, 1], atol=1e-6)
    assert (places[0:32:2, 0] > 0).all() and np.abs(places[32:, 0]).max() < 1e-6
    skin = head.vertices[: head.num_skin_vertices]
    skin = skin[skin[:, 1] > -0.12]
    gaps = np.linalg.norm(skin[:, None] - places[None], axis=2).min(axis=1)
    assert gaps.max() < 0.065
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + np.eye(39)
    assert apart.min() > 0.005


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="face_share"):
        HeadSamplesConfig(face_share=1.5)
    with pytest.raises(ValueError, match="metres_per_unit"):
        HeadSpace(metres_per_unit=0.0)
    with pytest.raises(ValueError, match=r"\(52,\)"):
        sampler().draw_distances(load_head(), np.zeros(3), np.random.default_rng(0))
