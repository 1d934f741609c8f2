"""Training samples of the built-in head: distances against the true ones, correspondences, anchors, codes, draws."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from blender_talkhead.facial.identities import random_identity
from torch_backend.head import load_head
from torch_backend.head.head_space import HeadSpace, canonical_weights
from torch_backend.head.identity import apply_identity
from torch_backend.head.identity_codes import GLOBAL_SIZE, LOCAL_SIZE, PLACES, load_identity_codes
from torch_backend.head.member_anchors import member_anchor_vertices
from torch_backend.head.signed_distance import signed_distance
from torch_backend.training.expression_draws import draw_expressions, make_speech_frames
from torch_backend.training.head_pools import load_or_make_pool, make_pool
from torch_backend.training.head_samples import HeadSampler, HeadSamplesConfig

SPACE = HeadSpace()


def weights_of(**shapes: float) -> np.ndarray:
    weights = np.zeros(len(ARKIT_BLENDSHAPES), dtype=np.float32)
    for name, value in shapes.items():
        weights[BLENDSHAPE_INDEX[name]] = value
    return weights


def sampler(**changes) -> HeadSampler:
    return HeadSampler(load_head(), HeadSamplesConfig(**({"near_points": 300, "box_points": 60} | changes)), SPACE)


def test_space_goes_there_and_back() -> None:
    points = np.array([[0.0, -0.03, 0.02], [0.1, 0.095, 0.02]])
    np.testing.assert_allclose(SPACE.to_model(points), [[0, 0, 0], [0.4, 0.5, 0]], atol=1e-6)
    np.testing.assert_allclose(SPACE.to_metres(SPACE.to_model(points)), points, atol=1e-7)


def test_distances_are_the_true_ones_in_the_models_unit() -> None:
    drawn, weights = sampler(), weights_of(jawOpen=0.6, eyeBlinkLeft=1.0)
    face = drawn.make_face(random_identity(4))
    samples = drawn.draw_distances(face, weights, np.random.default_rng(0))
    assert samples.points.shape == (360, 3) and samples.points.dtype == np.float32
    expected = signed_distance(
        apply_identity(load_head(), random_identity(4)), SPACE.to_metres(samples.points), weights
    )
    np.testing.assert_allclose(samples.distances * 0.25, expected, atol=1e-7)
    box = drawn.box
    assert (samples.points >= box[0]).all() and (samples.points <= box[1]).all()
    closest = np.abs(samples.distances[:300:3]) * 250  # of the smallest spread
    assert np.median(closest) < 1.5
    assert (samples.distances < 0).sum() > 50 < (samples.distances > 0).sum()


def test_points_come_from_as_far_from_the_canonical_surface() -> None:
    drawn, weights = sampler(near_points=2000, box_points=0, near_spreads_mm=(1.0,)), weights_of(jawOpen=0.8)
    face = drawn.make_face({})
    samples = drawn.draw_distances(face, weights, np.random.default_rng(1))
    moved = np.linalg.norm(samples.canonical - samples.points, axis=1) * 250
    assert moved.max() > 5 and np.median(moved) < 5
    there = signed_distance(load_head(), SPACE.to_metres(samples.canonical), canonical_weights()) * 4
    difference = np.abs(there - samples.distances) * 250
    assert np.median(difference) < 0.01  # where lips are near each other another place may be nearer
    assert np.percentile(difference, 90) < 0.3


def test_canonical_pose_comes_from_itself() -> None:
    drawn = sampler()
    samples = drawn.draw_distances(drawn.make_face({}), canonical_weights(), np.random.default_rng(1))
    np.testing.assert_allclose(samples.canonical, samples.points, atol=1e-6)


def test_correspondences_lie_on_both_surfaces() -> None:
    drawn, weights = sampler(), weights_of(jawOpen=0.7, mouthSmileLeft=0.5)
    faces = [drawn.make_face(random_identity(5)), drawn.make_face({})]
    posed, canonical = drawn.draw_correspondences(
        faces, np.stack([weights, canonical_weights()]), 400, 0.0, np.random.default_rng(2)
    )
    np.testing.assert_allclose(posed[1], canonical[1], atol=1e-6)
    head = apply_identity(load_head(), random_identity(5))
    moved = np.linalg.norm(posed[0] - canonical[0], axis=1) * 0.25
    assert moved.max() > 0.01 and (moved < 1e-6).any()
    # The skin alone is the surface, away from the eyeballs that are united with it.
    for points, pose in ((posed[0], weights), (canonical[0], canonical_weights())):
        metres = SPACE.to_metres(points)
        away = np.min([np.linalg.norm(metres - center, axis=1) for center in head.eye_centers], axis=0) > 0.022
        assert np.abs(signed_distance(head, metres[away], pose)).max() < 2e-6


def test_samples_depend_on_the_generator_alone() -> None:
    drawn = sampler()
    face = drawn.make_face({})
    draws = [drawn.draw_distances(face, weights_of(), np.random.default_rng(s)).points for s in (0, 0, 1)]
    assert np.array_equal(draws[0], draws[1]) and not np.array_equal(draws[0], draws[2])


def test_shares_draw_where_the_skin_moves_and_where_it_is_fine() -> None:
    def drawn_faces(**shares: float) -> np.ndarray:
        return sampler(**shares).draw_places(4000, np.random.default_rng(3))[0]

    head = load_head()
    fine = np.isin(head.skin_triangles, np.concatenate([head.regions["lips"], head.regions["eyelids"]])).all(axis=1)
    even = drawn_faces(motion_share=0.0, fine_share=0.0)
    assert fine[even].mean() < 0.1
    assert fine[drawn_faces(motion_share=0.0, fine_share=1.0)].all()
    high = head.vertices[head.skin_triangles[:, 0], 2] > 0.06
    assert high[drawn_faces(motion_share=1.0, fine_share=0.0)].mean() > high[even].mean() + 0.2


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


def test_identity_codes_hold_parameters_and_local_motion() -> None:
    codes, head = load_identity_codes(), load_head()
    assert codes.code_size == 1344 and not codes.encode({}).any()
    parameters = {"nose_width": 0.5, "jaw_width": -0.3}
    code = codes.encode(parameters)
    assert np.count_nonzero(code[:GLOBAL_SIZE]) == 2 and code[:GLOBAL_SIZE].max() == 0.5
    moved = apply_identity(head, parameters).vertices.astype(np.float64) - head.vertices
    local = code[GLOBAL_SIZE:].reshape(40, LOCAL_SIZE)
    vertex, anchor = codes.places[3, 4], codes.anchors[3]
    expected = (moved[vertex] - moved[anchor]) * 1e3 * [-1, 1, 1]  # an odd member is mirrored
    np.testing.assert_allclose(local[3, 12:15], expected, atol=1e-4)
    np.testing.assert_allclose(local[2], local[3], atol=1e-4)  # identities are symmetric
    assert not local[:, 3 * PLACES :].any()


def test_expressions_are_faces() -> None:
    speech = make_speech_frames(6, 3)
    assert len(speech) > 200 and speech[:, BLENDSHAPE_INDEX["jawOpen"]].max() > 0.2
    drawn = draw_expressions(400, speech, np.random.default_rng(0))
    assert drawn.min() >= 0 and drawn.max() <= 1 and drawn.shape == (400, 52)
    jaw, close = (drawn[:, BLENDSHAPE_INDEX[name]] for name in ("jawOpen", "mouthClose"))
    assert (close <= jaw).all() and (close > 0.01).any()
    assert (drawn.max(axis=0) > 0).sum() == 47  # all but gaze and the tongue
    assert np.array_equal(draw_expressions(400, speech, np.random.default_rng(0)), drawn)


def test_pools_are_made_once(tmp_path: Path) -> None:
    drawn, made = sampler(), []
    faces = [drawn.make_face({})]

    def make():
        made.append(1)
        return make_pool(drawn, faces, [0, 0], np.stack([weights_of(), canonical_weights()]), 5, lambda _: None)

    first = load_or_make_pool(tmp_path / "pool", {"seed": 5}, make)
    again = load_or_make_pool(tmp_path / "pool", {"seed": 5}, make)
    assert len(made) == 1
    np.testing.assert_array_equal(first.points, again.points)
    points, distances, canonical = again.take(np.array([1, 0]), np.array([[3, 4], [5, 6]]))
    np.testing.assert_array_equal(points, first.points[[[1, 1], [0, 0]], [[3, 4], [5, 6]]])
    assert distances.shape == (2, 2) and canonical.shape == (2, 2, 3)
    load_or_make_pool(tmp_path / "pool", {"seed": 6}, make)
    assert len(made) == 2
    assert json.loads((tmp_path / "pool" / "index.json").read_text())["seed"] == 6


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="motion_share"):
        HeadSamplesConfig(motion_share=0.8, fine_share=0.5)
    with pytest.raises(ValueError, match="metres_per_unit"):
        HeadSpace(metres_per_unit=0.0)
