"""Brows and lashes: what they are, and that they go where the skin under them goes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from torch_backend.head import load_head
from torch_backend.head.attachments import affine_shares, follow_skin
from torch_backend.head.brows_lashes import BROW_HAIRS, LOWER_LASHES, UPPER_LASHES
from torch_backend.head.identity import apply_identity

MILLIMETRE = 1e-3
LASH_VERTICES = 5


@pytest.fixture(scope="module")
def head():
    return load_head()


def lash_roots(head, vertices):
    """Return the middle of the root edge of every lash (L, 3)."""
    lashes = vertices[slice(*head.parts["lashes"])].reshape(-1, LASH_VERTICES, 3)
    return lashes[:, :2].mean(axis=1)


def distance_to_margin(head, vertices):
    """Return how far every lash's root is from the margin of the lids, whose triangles are sampled densely."""
    on_margin = np.isin(head.skin_triangles, head.regions["lid_margin"]).all(axis=1)
    corners = vertices[head.skin_triangles[on_margin]].astype(np.float64)
    first, second = np.meshgrid(np.linspace(0, 1, 13), np.linspace(0, 1, 13))
    inside = first + second <= 1.0 + 1e-9
    shares = np.stack([first[inside], second[inside], 1.0 - first[inside] - second[inside]], axis=1)
    return cKDTree(np.einsum("sk,fkc->sfc", shares, corners).reshape(-1, 3)).query(lash_roots(head, vertices))[0]


def rotation(axis, angle):
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def test_parts_have_the_hairs_of_both_sides_and_few_vertices(head):
    count = {name: head.parts[name][1] - head.parts[name][0] for name in ("brows", "lashes")}
    assert count == {"brows": 2 * 4 * BROW_HAIRS, "lashes": 2 * LASH_VERTICES * (UPPER_LASHES + LOWER_LASHES)}
    assert sum(count.values()) <= 1300
    assert len(head.attachment_weights) == sum(count.values())


def test_shares_give_the_place_and_add_up_to_one(head):
    np.testing.assert_allclose(head.attachment_weights.sum(axis=1), 1.0, atol=1e-5)
    place = head.attachment_weights @ head.vertices[head.attachment_anchors]
    np.testing.assert_allclose(place, head.vertices[head.parts["brows"][0] :], atol=1e-6)


def test_hairs_follow_rigid_and_affine_motion_of_the_skin_exactly(head):
    rng = np.random.default_rng(0)
    turn = rotation(rng.normal(size=3), 0.7)
    stretch = np.eye(3) + 0.2 * rng.normal(size=(3, 3))
    hairs, anchors = head.vertices[head.parts["brows"][0] :], head.vertices[head.attachment_anchors]
    for matrix in (turn, stretch):
        moved = follow_skin(head.attachment_weights, (anchors @ (matrix - np.eye(3)).T)[None] + np.float32(0.003))[0]
        np.testing.assert_allclose(moved, hairs @ (matrix - np.eye(3)).T + 0.003, atol=2e-6)


def test_both_sides_are_mirror_images(head):
    for name in ("brows", "lashes"):
        hairs = head.vertices[slice(*head.parts[name])]
        left, right = hairs[: len(hairs) // 2], hairs[len(hairs) // 2 :]
        np.testing.assert_allclose(right * [-1, 1, 1], left, atol=1e-7)


@pytest.mark.parametrize("amount", [0.0, 0.5, 1.0])
def test_lashes_stay_on_the_margin_when_the_eye_closes(head, amount):
    posed = head.pose({"eyeBlinkLeft": amount, "eyeBlinkRight": amount})
    assert distance_to_margin(head, posed).max() < 0.3 * MILLIMETRE


@pytest.mark.parametrize("eye_size", [-1.0, 1.0])
def test_lashes_stay_on_the_margin_of_larger_and_smaller_eyes(head, eye_size):
    changed = apply_identity(head, {"eye_size": eye_size, "eye_spacing": 1.0, "eye_hood": 1.0})
    for weights in ({}, {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}):
        assert distance_to_margin(changed, changed.pose(weights)).max() < 0.3 * MILLIMETRE


def test_upper_lashes_turn_down_with_the_lid(head):
    def pitch(vertices):
        lashes = vertices[slice(*head.parts["lashes"])].reshape(-1, LASH_VERTICES, 3)
        lashes = lashes[UPPER_LASHES // 3 : 2 * UPPER_LASHES // 3]  # those in the middle point forwards
        along = lashes[:, 4] - lashes[:, :2].mean(axis=1)
        return np.degrees(np.arctan2(along[:, 1], along[:, 2])).mean()

    change = pitch(head.vertices) - pitch(head.pose({"eyeBlinkLeft": 1.0}))
    assert 25.0 < change < 45.0


def test_brows_rise_with_the_skin(head):
    brows = slice(*head.parts["brows"])
    rise = (head.pose({"browInnerUp": 1.0, "browOuterUpLeft": 1.0, "browOuterUpRight": 1.0}) - head.vertices)[brows, 1]
    assert rise.min() > 0.5 * MILLIMETRE


def test_affine_shares_of_a_tetrahedron_are_barycentric():
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    shares = affine_shares(np.array([[0.2, 0.3, 0.1], [2.0, 0, 0]]), corners, np.ones(4))
    np.testing.assert_allclose(shares, [[0.4, 0.2, 0.3, 0.1], [-1, 2, 0, 0]], atol=1e-12)


def test_what_cannot_carry_a_hair_is_refused():
    flat = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    with pytest.raises(ValueError, match="one plane"):
        affine_shares(np.zeros((1, 3)), flat, np.ones(4))
    with pytest.raises(ValueError, match="at least 4"):
        affine_shares(np.zeros((1, 3)), flat[:3], np.ones(3))
    with pytest.raises(ValueError, match=r"\(n, 5, 3\)"):
        follow_skin(np.zeros((2, 5)), np.zeros((1, 4, 3)))
