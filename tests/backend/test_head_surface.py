"""Signed distances, the implicit surface the mesh lies on, colours, and the solvers behind the expressions."""

import numpy as np
import pytest

from torch_backend.head import load_head
from torch_backend.head.appearance import SkinPalette, skin_color
from torch_backend.head.author_space import (
    author_to_backend,
    author_vectors_to_backend,
    backend_to_author,
    smoothstep,
)
from torch_backend.head.field_solver import FieldSolver
from torch_backend.head.implicit_surface import (
    capsule,
    cast_to_skin,
    ellipsoid,
    skin_field,
    smooth_intersection,
    smooth_union,
)
from torch_backend.head.part_mesh import sweep_closed
from torch_backend.head.refit import uneven_skin
from torch_backend.head.signed_distance import close_boundaries, signed_distance
from torch_backend.head.template import flip_to_delaunay, inside_polygon

MILLIMETRE = 1e-3


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def outer_faces(head):
    """Centres and normals of 500 faces of face, cranium and neck, away from folds."""
    corners = head.vertices[head.skin_triangles].astype(np.float64)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    folded = np.zeros(head.num_skin_vertices, dtype=bool)
    for region in ("mouth_bag", "lips", "ears", "nostrils", "eye_region", "neck_boundary"):
        folded[head.regions[region]] = True
    plain = np.nonzero(~folded[head.skin_triangles].any(axis=1))[0]
    chosen = np.random.default_rng(0).choice(plain, 500, replace=False)
    return corners.mean(axis=1)[chosen], normal[chosen]


@pytest.mark.parametrize("offset_mm", [-2.0, -0.3, 0.3, 2.0])
def test_distance_beside_a_face_is_the_offset(head, outer_faces, offset_mm):
    center, normal = outer_faces
    distance = signed_distance(head, center + normal * offset_mm * MILLIMETRE)
    error = np.abs(distance - offset_mm * MILLIMETRE)
    assert np.median(error) < 0.01 * MILLIMETRE
    assert (error < 0.1 * MILLIMETRE).mean() > 0.95  # the others lie in folds, where another face is nearer


def test_distance_has_unit_gradient_near_the_surface(head, outer_faces):
    center, normal = outer_faces
    points, step = center[:150] + 0.001 * normal[:150], 1e-5
    axes = np.vstack([np.eye(3), -np.eye(3)]) * step
    values = signed_distance(head, (points[:, np.newaxis] + axes).reshape(-1, 3)).reshape(-1, 6)
    length = np.linalg.norm((values[:, :3] - values[:, 3:]) / (2 * step), axis=1)
    assert np.median(length) == pytest.approx(1.0, abs=0.01)
    assert (np.abs(length - 1.0) < 0.05).mean() > 0.95


def test_distance_knows_inside_outside_and_the_open_mouth(head):
    tongue_tip = head.vertices[slice(*head.parts["tongue"])][-1].astype(np.float64)
    points = np.stack([np.zeros(3), [0.0, 0.5, 0.0], tongue_tip, head.eye_centers[0].astype(np.float64)])
    distance = signed_distance(head, points)
    assert distance[0] < -0.03
    assert distance[1] > 0.2
    assert distance[2] > 0.0
    assert distance[3] == pytest.approx(-(head.eye_radius + 0.0007), abs=0.004)
    between_lips = head.vertices[head.lip_contact_pairs[11, 0]] + np.array([0.0, -0.006, -0.002])
    closed, opened = (signed_distance(head, between_lips[None], {"jawOpen": w})[0] for w in (0.0, 0.7))
    assert closed < 0.0 < opened


def test_distance_after_refinement_stays_close(head, outer_faces):
    points = outer_faces[0][:50]
    difference = signed_distance(head, points, refinements=1) - signed_distance(head, points)
    assert np.abs(difference).max() < 1.5 * MILLIMETRE
    with pytest.raises(ValueError, match=r"\(n, 3\)"):
        signed_distance(head, np.zeros((4, 2)))


def test_closing_an_open_cube_makes_it_watertight():
    cube = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4)]  # no lid at z = 1
    triangles = np.array([t for q in quads for t in ((q[0], q[1], q[2]), (q[0], q[2], q[3]))])
    vertices, faces = close_boundaries(cube, triangles)
    assert len(vertices) == 9 and len(faces) == 14
    edges = {(int(t[i]), int(t[(i + 1) % 3])) for t in faces for i in range(3)}
    assert len(edges) == 3 * len(faces) and all((b, a) in edges for a, b in edges)
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    assert abs(np.einsum("fi,fi->", a, np.cross(b, c)) / 6) == pytest.approx(1.0)


def test_fill_vertices_lie_on_the_implicit_skin(head):
    free = np.ones(head.num_skin_vertices, dtype=bool)
    for region in ("mouth_bag", "lips", "ears", "nostrils", "eye_region", "neck_boundary"):
        free[head.regions[region]] = False
    for center in head.eye_centers:  # the lids' insides
        free &= np.linalg.norm(head.vertices[: head.num_skin_vertices] - center, axis=1) > 1.15 * head.eye_radius
    points = backend_to_author(head.vertices[: head.num_skin_vertices][free])
    off_surface = np.abs(skin_field(points))
    faired = uneven_skin(np.abs(points[:, :1]) * [1, 0, 0] + points * [0, 1, 1]) > 0
    assert np.percentile(off_surface[~faired], 99) < 0.02  # cm
    assert np.median(off_surface[faired]) < 0.05
    assert off_surface[faired].max() < 0.3
    inside = skin_field(np.array([[0.0, 0.0, 3.0], [0.0, 0.0, 30.0]]))
    assert inside[0] < 0 < inside[1]


def test_smooth_set_operations_meet_min_and_max_away_from_the_blend():
    a, b = np.array([1.0, -3.0, 0.5]), np.array([5.0, 2.0, 0.5])
    np.testing.assert_allclose(smooth_union(a, b, 1.0), [1.0, -3.0, 0.25])
    np.testing.assert_allclose(smooth_intersection(a, b, 1.0), [5.0, 2.0, 0.75])


def test_primitives_match_hand_values():
    points = np.array([[3.0, 0.0, 0.0], [0.0, 0.0, 5.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(ellipsoid(points, (0, 0, 0), (2.0, 2.0, 2.0)), [1.0, 3.0, -1.0])
    np.testing.assert_allclose(capsule(points, (0, 0, 0), (0, 0, 4), (1.0, 0.5)), [2.0, 0.5, 0.0])


def test_rays_that_miss_the_skin_are_an_error():
    with pytest.raises(ValueError, match="meet the skin"):
        cast_to_skin(np.array([[0.0, 30.0, 0.0]]), (0.0, 1.0, 0.0), 5.0)


def test_author_space_round_trip_and_origin():
    points = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_allclose(backend_to_author(author_to_backend(points)), points, atol=1e-12)
    np.testing.assert_allclose(author_to_backend([0.0, -1.0, -1.35]), np.zeros(3), atol=1e-15)
    np.testing.assert_allclose(author_to_backend([1.0, 9.0, 3.65]), [0.01, 0.05, 0.10], atol=1e-15)
    np.testing.assert_allclose(author_vectors_to_backend([1.0, 2.0, 3.0]), [0.01, 0.03, 0.02])
    np.testing.assert_allclose(smoothstep([-1.0, 0.5, 2.0], 0.0, 1.0), [0.0, 0.5, 1.0])


def grid_mesh(count):
    x, y = np.meshgrid(np.linspace(0, 1, count), np.linspace(0, 1, count), indexing="ij")
    vertices = np.stack([x.ravel(), y.ravel(), np.zeros(count * count)], axis=1)
    index = np.arange(count * count).reshape(count, count)
    a, b, c, d = index[:-1, :-1].ravel(), index[1:, :-1].ravel(), index[1:, 1:].ravel(), index[:-1, 1:].ravel()
    return vertices, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def test_field_solver_reproduces_linear_fields_exactly():
    vertices, triangles = grid_mesh(9)
    linear = vertices[:, :2] @ np.array([[2.0, -1.0], [0.5, 3.0]])
    border = (vertices[:, :2] == 0).any(axis=1) | (vertices[:, :2] == 1).any(axis=1)
    solver = FieldSolver(vertices, triangles)
    np.testing.assert_allclose(solver.fill(border, linear, "harmonic"), linear, atol=1e-10)
    scattered = border.copy()
    scattered[[20, 40]] = True
    filled = solver.fill(scattered, np.where(scattered[:, None], linear, 0.0), "biharmonic")
    np.testing.assert_allclose(filled[scattered], linear[scattered], atol=1e-12)
    assert np.abs(filled).max() <= np.abs(linear).max() * 1.2
    with pytest.raises(ValueError, match="expected fixed"):
        solver.fill(border[:-1], linear)


def test_flipping_makes_a_sliver_pair_delaunay_and_keeps_the_boundary():
    points = np.array([[0.0, 0, 0], [4, 0, 0], [2, 0.3, 0], [2, -0.3, 0]])
    flipped = flip_to_delaunay(points, np.array([[0, 1, 2], [1, 0, 3]]))
    assert {tuple(sorted(t)) for t in flipped.tolist()} == {(0, 2, 3), (1, 2, 3)}
    good = np.array([[0, 3, 2], [3, 1, 2]])
    np.testing.assert_array_equal(flip_to_delaunay(points, good), good)


def test_points_inside_a_polygon():
    square = np.array([[0.0, 0], [2, 0], [2, 2], [0, 2]])
    points = np.array([[1.0, 1], [3, 1], [-1, 1], [1, 3], [0.1, 1.9]])
    np.testing.assert_array_equal(inside_polygon(points, square), [True, False, False, False, True])


def test_swept_solid_is_closed_and_outward():
    around = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    polar = np.linspace(0, np.pi, 34)[1:-1, None]
    rings = np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar) + 0 * around], -1)
    vertices, polygons = sweep_closed(np.array([0.0, 0, 1]), rings, np.array([0.0, 0, -1]))
    triangles = np.array([(p[0], p[i], p[i + 1]) for p in polygons for i in range(1, len(p) - 1)])
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    assert np.einsum("fi,fi->", a, np.cross(b, c)) / 6 == pytest.approx(4 / 3 * np.pi, rel=0.01)


def test_colors_put_lips_brows_and_hair_where_they_belong(head):
    skin = head.num_skin_vertices
    colors = skin_color(head.vertices[:skin], head.appearance_fields)
    np.testing.assert_allclose(colors, head.vertex_colors[:skin], atol=1e-6)
    cheek = np.argmin(np.linalg.norm(head.vertices[:skin] - author_to_backend([5.0, 6.3, -4.6]), axis=1))
    crown = np.argmax(head.vertices[:skin, 1])
    lip = int(head.landmarks68[57])
    inside = int(head.regions["mouth_bag"][0])
    assert colors[crown].mean() < 0.3 * colors[cheek].mean()
    redness = colors[:, 0] / colors[:, 1]
    assert redness[inside] > 1.5 * redness[cheek]
    brow = skin_color(author_to_backend([[2.4, 9.4, 2.15]]), np.zeros((1, head.appearance_fields.shape[1])))
    assert brow.mean() < 0.85 * colors[cheek].mean()  # a tint under the brow hairs
    assert colors[lip, 0] > colors[lip, 1]


def test_palette_changes_the_skin_and_wrong_shapes_are_rejected(head):
    fields = head.appearance_fields[:10]
    dark = skin_color(head.vertices[:10], fields, SkinPalette(skin=(0.2, 0.1, 0.07)))
    assert dark.shape == (10, 3)
    with pytest.raises(ValueError, match="fields"):
        skin_color(head.vertices[:10], fields[:5])
