"""Teeth, gums and tongue follow the chin; identities carry shape and motion over."""

import numpy as np
import pytest

from blender_talkhead.facial.identities import random_identity, resolve_identity
from blender_talkhead.facial.identity_parameters import IDENTITY_PARAMETERS
from torch_backend.head import load_head
from torch_backend.head.identity import (
    EYE_PARAMETERS,
    LOCAL_PARAMETERS,
    apply_identity,
    identity_jacobians,
    warp_points,
)
from torch_backend.head.parts_motion import fit_jaw_motion, follow_jaw

MILLIMETRE = 1e-3


@pytest.fixture(scope="module")
def head():
    return load_head()


def rotation_matrix(axis, angle):
    """Rodrigues' formula."""
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def test_jaw_fit_recovers_known_motions():
    points = np.random.default_rng(0).normal(size=(9, 3))
    rotations = np.stack([rotation_matrix((1, 0, 0), 0.4), rotation_matrix((1, 0, 0), -2.0), np.eye(3)])
    translations = np.array([[0.1, 0.2, 0.3], [1.0, -1.0, 0.0], [0.0, 0.0, 0.0]])
    moved = np.einsum("nij,aj->nai", rotations, points) + translations[:, None]
    rotation, translation = fit_jaw_motion(points, moved, np.zeros(3))
    np.testing.assert_allclose(rotation, rotations, atol=1e-12)
    np.testing.assert_allclose(translation, translations, atol=1e-12)


def test_jaw_fit_never_turns_sideways():
    points = np.random.default_rng(1).normal(size=(9, 3))
    moved = points @ rotation_matrix((0, 1, 0), 0.2).T
    rotation, _ = fit_jaw_motion(points, moved[None], np.zeros(3))
    np.testing.assert_allclose(rotation[0] @ [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], atol=1e-12)
    with pytest.raises(ValueError, match="expected rest"):
        fit_jaw_motion(points, points, np.zeros(3))


def test_parts_follow_an_exact_rigid_motion_of_the_chin(head):
    anchors, jaw, first = head.regions["jaw_anchor"], head.regions["jaw_parts"], head.num_skin_vertices
    rotation = rotation_matrix((1, 0, 0), 0.2)
    shift = np.array([0.001, -0.002, 0.003])

    def move(points):
        return (points - head.jaw_hinge) @ rotation.T + head.jaw_hinge + shift - points

    offsets = move(head.vertices[anchors].astype(np.float64))
    result = follow_jaw(head, np.stack([offsets, np.zeros_like(offsets)]))
    assert result.shape == (2, len(head.vertices) - first, 3)
    np.testing.assert_allclose(result[0, jaw - first], move(head.vertices[jaw].astype(np.float64)), atol=1e-7)
    fixed = np.setdiff1d(np.arange(first, len(head.vertices)), jaw) - first
    assert not result[0, fixed].any()
    assert np.abs(result[1]).max() < 1e-8


@pytest.mark.parametrize(
    ("weights", "tolerance_mm"),
    [
        ({"jawOpen": 1.0}, 0.01),
        # A shifted jaw drops by a small share of a rotation, which is not quite one.
        ({"jawForward": 0.7}, 0.15),
        ({"jawLeft": 1.0, "jawForward": 0.3}, 0.15),
        # Half-way blends of a rotation are no rotation: the chord error of 20 degrees.
        ({"jawOpen": 0.4, "jawRight": 0.2}, 1.1),
        ({"jawOpen": 0.3, "mouthClose": 0.3, "mouthPucker": 0.8, "mouthShrugLower": 0.5}, 1.1),
    ],
)
def test_parts_follow_the_jaw_blendshapes(head, weights, tolerance_mm):
    moved = head.pose(weights) - head.vertices
    result = follow_jaw(head, moved[head.regions["jaw_anchor"]][None])[0]
    error = np.linalg.norm(result - moved[head.num_skin_vertices :], axis=1)
    assert error.max() < tolerance_mm * MILLIMETRE


def test_a_chin_at_rest_keeps_the_molars_at_rest(head):
    """A tilt of the chin alone would throw the last molar two millimetres about if it were believed."""
    anchors = head.vertices[head.regions["jaw_anchor"]].astype(np.float64)
    tilt = 0.02 * (anchors - anchors.mean(axis=0)) @ np.array([[0.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    assert 0.05 < np.linalg.norm(tilt, axis=1).max() / MILLIMETRE < 1.0
    assert np.abs(follow_jaw(head, tilt[None])).max() < 0.01 * MILLIMETRE


def test_a_small_opening_turns_about_the_hinge(head):
    """0.7 degrees of the jaw: hinge angle times lever."""
    anchors, jaw, first = head.regions["jaw_anchor"], head.regions["jaw_parts"], head.num_skin_vertices
    rotation = rotation_matrix((1, 0, 0), np.radians(0.7))

    def move(points):
        return (points - head.jaw_hinge) @ rotation.T + head.jaw_hinge - points

    result = follow_jaw(head, move(head.vertices[anchors].astype(np.float64))[None])[0]
    np.testing.assert_allclose(result[jaw - first], move(head.vertices[jaw].astype(np.float64)), atol=2e-5)


def test_follow_jaw_rejects_other_shapes(head):
    with pytest.raises(ValueError, match="jaw anchor offsets"):
        follow_jaw(head, np.zeros((2, 3, 3)))


def test_there_are_many_named_parameters_and_the_mean_is_the_mean(head):
    assert set(IDENTITY_PARAMETERS) == {*LOCAL_PARAMETERS, *EYE_PARAMETERS}
    assert apply_identity(head, resolve_identity("mean")) is head
    assert apply_identity(head, {"jaw_width": 0.0}) is head
    np.testing.assert_allclose(warp_points(head.vertices, {}), head.vertices, atol=1e-9)


def test_bad_parameters_are_rejected(head):
    with pytest.raises(ValueError, match="nose_size"):
        apply_identity(head, {"nose_size": 0.5})
    with pytest.raises(ValueError, match="jaw_width"):
        warp_points(head.vertices, {"jaw_width": 1.5})
    with pytest.raises(ValueError, match="jaw_width"):
        identity_jacobians(head, {"jaw_width": float("nan")})


@pytest.mark.parametrize("name", IDENTITY_PARAMETERS)
def test_each_parameter_changes_the_head_visibly_and_symmetrically(head, name):
    skin = head.num_skin_vertices
    moved = warp_points(head.vertices[:skin], {name: 1.0})
    assert 0.5 * MILLIMETRE < np.abs(moved - head.vertices[:skin]).max() < 20 * MILLIMETRE
    np.testing.assert_allclose(moved[head.mirror] * [-1, 1, 1], moved, atol=1e-9)


@pytest.mark.parametrize("identity", [3, "soft"])
def test_jacobians_match_finite_differences(head, identity):
    parameters = resolve_identity(identity)
    jacobian = identity_jacobians(head, parameters)
    chosen = np.random.default_rng(0).choice(len(head.vertices), 400, replace=False)
    points, step = head.vertices[chosen].astype(np.float64), 1e-6
    for axis in range(3):
        offset = np.eye(3)[axis] * step
        slope = (warp_points(points + offset, parameters) - warp_points(points - offset, parameters)) / (2 * step)
        np.testing.assert_allclose(jacobian[chosen, :, axis], slope, atol=2e-4)


def test_random_identities_are_valid_and_sealed(head):
    triangles, (upper, lower) = head.skin_triangles, head.lip_contact_pairs.T
    corners = head.vertices[triangles].astype(np.float64)
    rest = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    jaw_and_close = 0.4 * (head.blendshapes[24] + head.blendshapes[26])
    for seed in range(20):
        parameters = random_identity(seed)
        jacobian = identity_jacobians(head, parameters)
        assert np.linalg.det(jacobian).min() > 0.3
        moved = warp_points(head.vertices, parameters)
        corners = moved[triangles]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        # A face turns at most as far as the map's own normal transformation, so compare with the rest normal.
        assert (np.einsum("fi,fi->f", normal, rest) > 0).all()
        posed = moved + np.einsum("vij,vj->vi", jacobian, jaw_and_close)
        assert np.linalg.norm(posed[upper] - posed[lower], axis=1).max() < 1e-6


def test_identity_keeps_lids_on_a_round_eyeball(head):
    changed = apply_identity(
        head, {"eye_size": 1.0, "eye_spacing": 0.5, "eye_height": -0.5, "eye_tilt": 1.0, "cheekbone": 1.0}
    )
    margin = head.regions["lid_margin"]
    for blink in (0.0, 0.5, 1.0):
        posed = changed.pose({"eyeBlinkLeft": blink, "eyeBlinkRight": blink})
        for side, center in zip((1, -1), changed.eye_centers, strict=True):
            own = margin[changed.vertices[margin, 0] * side > 0]
            clearance = np.linalg.norm(posed[own] - center, axis=1) - changed.eye_radius
            assert clearance.min() > 0.1 * MILLIMETRE
    start, stop = changed.parts["eyes"]
    ball = changed.vertices[start : (start + stop) // 2]
    distance = np.linalg.norm(ball - changed.eye_centers[0], axis=1)
    assert distance.min() == pytest.approx(changed.eye_radius, rel=1e-4)
    assert distance.max() < changed.eye_radius * 1.03


def test_blendshapes_of_an_identity_are_those_of_the_mean_through_the_jacobian(head):
    parameters = {"mouth_width": 1.0, "face_length": 0.5}
    changed = apply_identity(head, parameters)
    jacobian = identity_jacobians(head, parameters)
    vertex = int(head.regions["mouth_corner_left"][0])
    expected = jacobian[vertex] @ head.blendshapes[44, vertex]
    np.testing.assert_allclose(changed.blendshapes[44, vertex], expected, atol=1e-7)
    width = np.abs(np.diff(changed.vertices[head.landmarks68[[48, 54]], 0]))
    assert width > 1.03 * np.abs(np.diff(head.vertices[head.landmarks68[[48, 54]], 0]))
