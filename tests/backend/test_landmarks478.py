"""The 478 landmarks lie where the face mesh has them, left and right alike, and move with the face."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from blender_talkhead.contract.errors import BackendError
from torch_backend.head.head import load_head
from torch_backend.head.identity import apply_identity
from torch_backend.head.landmark_placement import (
    cast_rays,
    closest_on_triangles,
    pair_mirrored,
    pixel_rays,
    project_points,
    weighted_median,
)
from torch_backend.head.landmarks478 import (
    INNER_LIP_LOWER,
    INNER_LIP_UPPER,
    IRISES,
    LEFT_LIDS,
    MIDLINE,
    NUM_LANDMARKS,
    OF_LANDMARKS68,
    RIGHT_LIDS,
    landmarks478,
    load_placement,
    read_placement,
    save_placement,
)

MILLIMETRE = 0.001
FLIP = np.array([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def points(head):
    return landmarks478(head.vertices)


def test_every_landmark_is_a_place_in_a_face_of_the_head(head):
    placement = load_placement()
    assert placement.vertices.shape == placement.weights.shape == (NUM_LANDMARKS, 3)
    np.testing.assert_allclose(placement.weights.sum(axis=1), 1.0, atol=1e-5)
    assert placement.weights.min() >= 0.0
    polygons = [
        set(head.polygon_vertices[start:stop].tolist()) for start, stop in itertools.pairwise(head.polygon_starts)
    ]
    at_vertex: dict[int, list[set[int]]] = {}
    for polygon in polygons:
        for vertex in polygon:
            at_vertex.setdefault(vertex, []).append(polygon)
    for row in placement.vertices.tolist():
        assert any(set(row) <= polygon for polygon in at_vertex[row[0]])


def test_left_mirrors_right(points):
    mirror = load_placement().mirror
    np.testing.assert_array_equal(mirror[mirror], np.arange(NUM_LANDMARKS))
    assert np.linalg.norm(points[mirror] * FLIP - points, axis=1).max() < 0.1 * MILLIMETRE
    assert np.abs(points[list(MIDLINE), 0]).max() < 0.1 * MILLIMETRE
    np.testing.assert_array_equal(mirror[list(RIGHT_LIDS)], LEFT_LIDS)
    np.testing.assert_array_equal(mirror[list(INNER_LIP_LOWER)], INNER_LIP_LOWER[::-1])


def test_they_agree_with_the_68_landmarks_where_both_sets_mark_the_same_place(head, points):
    of_68 = np.array(OF_LANDMARKS68)
    shared = of_68 >= 0
    distance = np.linalg.norm(points[of_68[shared]] - head.vertices[head.landmarks68[shared]], axis=1)
    assert distance.mean() < 4.0 * MILLIMETRE
    assert distance.max() < 12.0 * MILLIMETRE


def test_irises_lie_on_the_eyeballs_and_look_ahead(head, points):
    for center, irises in zip(head.eye_centers[::-1], (IRISES[:5], IRISES[5:]), strict=True):
        offset = points[list(irises)] - center
        radius = np.linalg.norm(offset, axis=1)
        assert (radius > head.eye_radius - 0.5 * MILLIMETRE).all() and (radius < head.eye_radius + 2 * MILLIMETRE).all()
        assert np.linalg.norm(offset[0, :2]) < 1.5 * MILLIMETRE  # the centre, on the axis
        ring = np.linalg.norm(offset[1:, :2], axis=1)
        assert (ring > 4 * MILLIMETRE).all() and (ring < 9 * MILLIMETRE).all()


def test_inner_lips_touch_at_rest_and_part_with_the_jaw(head, points):
    upper, lower = list(INNER_LIP_UPPER[1:-1]), list(INNER_LIP_LOWER[1:-1])
    assert np.linalg.norm(points[upper] - points[lower], axis=1).max() < 4.0 * MILLIMETRE
    opened = landmarks478(head.pose({"jawOpen": 0.6}))
    assert (opened[upper, 1] - opened[lower, 1]).min() > 2.0 * MILLIMETRE
    sealed = landmarks478(head.pose({"jawOpen": 0.6, "mouthClose": 0.6}))
    assert np.linalg.norm(sealed[upper] - sealed[lower], axis=1).max() < 4.5 * MILLIMETRE


def test_a_blink_brings_the_lid_points_together(head, points):
    upper, lower = list(RIGHT_LIDS[2:7]), list(RIGHT_LIDS[:9:-1][:5])
    opening = (points[upper, 1] - points[lower, 1]).mean()
    shut = landmarks478(head.pose({"eyeBlinkRight": 1.0}))
    assert opening > 6 * MILLIMETRE
    assert np.abs(shut[upper, 1] - shut[lower, 1]).mean() < 0.25 * opening


def test_poses_and_identities_carry_them_in_batches(head):
    other = apply_identity(head, {"nose_width": 1.0})
    batch = landmarks478(np.stack([head.vertices, other.vertices]))
    assert batch.shape == (2, NUM_LANDMARKS, 3)
    np.testing.assert_array_equal(batch[0], landmarks478(head.vertices))
    assert np.linalg.norm(batch[1] - batch[0], axis=1).max() > MILLIMETRE
    with pytest.raises(ValueError, match="vertices"):
        landmarks478(head.vertices[:-1])


def test_a_placement_of_another_head_is_refused(head, tmp_path):
    path = tmp_path / "placed.npz"
    save_placement(head, load_placement(), path)
    np.testing.assert_array_equal(read_placement(path, head).vertices, load_placement().vertices)
    with pytest.raises(BackendError, match="another head"):
        read_placement(path, replace(head, vertices=head.vertices + np.float32(0.001)))
    path.write_bytes(b"")
    with pytest.raises(BackendError, match="cannot read"):
        read_placement(path, head)


def test_rays_through_projected_points_come_back():
    random = np.random.default_rng(0)
    projection = np.array([[800.0, 0, 200, 30], [0, -800, 200, 20], [0, 0, 1.1, 0.5], [0, 0, 1, 4]])
    points = random.normal(size=(5, 3))
    origins, directions = pixel_rays(projection, project_points(projection, points))
    along = np.einsum("ni,ni->n", points - origins, directions)
    np.testing.assert_allclose(origins + along[:, None] * directions, points, atol=1e-9)


def test_the_first_face_is_hit():
    square = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    vertices = np.concatenate([square, square - [0, 0, 1]])
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    down = np.array([[0.0, 0.0, -1.0]])
    hits = cast_rays(np.array([[0.75, 0.25, 2.0], [3.0, 0.0, 2.0]]), np.repeat(down, 2, axis=0), vertices, faces)
    assert hits.triangles.tolist() == [0, -1]
    np.testing.assert_allclose(hits.barycentric[0], [0.25, 0.5, 0.25])
    assert hits.facing[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("point", "place"),
    [
        ((0.25, 0.25, 5.0), (0.5, 0.25, 0.25)),
        ((0.5, -1.0, 0.0), (0.5, 0.5, 0.0)),
        ((2.0, 2.0, 0.0), (0.0, 0.5, 0.5)),
        ((-1.0, -1.0, 0.0), (1.0, 0.0, 0.0)),
    ],
)
def test_closest_place_on_a_triangle(point, place):
    corners = np.array([[[9.0, 9, 9], [9, 9, 9], [9, 9, 9]], [[0, 0, 0], [1, 0, 0], [0, 1, 0]]])
    triangle, found = closest_on_triangles(np.array(point), corners)
    assert triangle == 1
    np.testing.assert_allclose(found, place, atol=1e-12)


def test_median_shrugs_off_an_outlier():
    points = np.array([[0.0, 0, 0], [0.1, 0, 0], [-0.1, 0, 0], [50.0, 0, 0]])
    assert np.linalg.norm(weighted_median(points, np.ones(4))) < 0.2
    assert weighted_median(points, np.array([0.1, 0.1, 0.1, 9.0]))[0] > 40


def test_pairing_follows_the_mesh_where_distances_mislead():
    mirror = load_placement().mirror
    flat = landmarks478(load_head().vertices) / 0.045
    flat[:, 2] = 0.0
    edges = np.stack([np.arange(NUM_LANDMARKS), mirror], axis=1)
    np.testing.assert_array_equal(pair_mirrored(flat, edges), mirror)
