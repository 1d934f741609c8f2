"""The frozen head's mesh: a consistently oriented manifold with three holes, exactly mirror symmetric."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial import cKDTree

from blender_talkhead.contract.errors import BackendError
from torch_backend.head import load_head
from torch_backend.head.author_space import author_to_backend
from torch_backend.head.eyeballs import build_eyeballs
from torch_backend.head.head import PART_NAMES, TEMPLATE_PATH, read_head, save_head, triangulate_polygons
from torch_backend.head.landmarks import LANDMARK_MIRROR
from torch_backend.head.rings import ear_rings, eyelid_rings, mouth_rings, neck_ring, nostril_rings
from torch_backend.head.teeth import build_gums, build_teeth
from torch_backend.head.tongue import build_tongue

FLIP = np.array([-1.0, 1.0, 1.0], np.float32)


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def directed_edges(head):
    triangles = head.skin_triangles
    return [(int(t[i]), int(t[(i + 1) % 3])) for t in triangles for i in range(3)]


def signed_volume(vertices, triangles):
    a, b, c = (vertices[triangles[:, i]].astype(np.float64) for i in range(3))
    return np.einsum("fi,fi->", a, np.cross(b, c)) / 6.0


def test_skin_is_a_consistently_oriented_manifold(directed_edges):
    assert len(set(directed_edges)) == len(directed_edges)


def test_skin_has_three_boundary_loops_and_euler_number_minus_one(head, directed_edges):
    present = set(directed_edges)
    following = {b: a for a, b in present if (b, a) not in present}
    loops = []
    while following:
        start, current, length = next(iter(following)), None, 0
        current = start
        while current in following:
            current, length = following.pop(current), length + 1
        assert current == start
        loops.append(length)
    assert sorted(loops) == [32, 32, 52]
    undirected = {tuple(sorted(edge)) for edge in present}
    assert head.num_skin_vertices - len(undirected) + len(head.skin_triangles) == -1
    assert set(np.unique(head.skin_triangles)) == set(range(head.num_skin_vertices))


def test_vertex_count_is_near_five_thousand(head):
    assert 4900 <= head.num_skin_vertices <= 5100


def test_no_face_is_degenerate_at_rest_outside_the_touching_lips(head):
    corners = head.vertices[head.skin_triangles].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2.0
    assert area.min() > 1e-10


def test_every_part_is_closed_and_points_outwards(head):
    assert tuple(head.parts) == PART_NAMES
    bounds = [head.parts[name] for name in PART_NAMES]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == len(head.vertices)
    assert all(a[1] == b[0] for a, b in pairwise(bounds))
    triangles = head.all_triangles
    for name in PART_NAMES:
        start, stop = head.parts[name]
        own = triangles[(triangles[:, 0] >= start) & (triangles[:, 0] < stop)]
        assert own.min() >= start and own.max() < stop
        if name in ("brows", "lashes"):  # strips of one face's thickness
            continue
        assert signed_volume(head.vertices, own) > 0, name
        if name != "skin":
            edges = {(int(t[i]), int(t[(i + 1) % 3])) for t in own for i in range(3)}
            assert len(edges) == 3 * len(own)
            assert all((b, a) in edges for a, b in edges), name


def test_head_has_human_size_and_faces_z(head):
    size = np.ptp(head.vertices, axis=0)
    assert 0.20 < size[0] < 0.24  # with the shoulders
    nose_tip = head.vertices[head.landmarks68[30]]
    assert nose_tip[2] == pytest.approx(head.vertices[:, 2].max(), abs=0.002)
    assert abs(nose_tip[0]) == 0.0


def test_skin_is_exactly_mirror_symmetric(head):
    skin = head.vertices[: head.num_skin_vertices]
    np.testing.assert_array_equal(skin[head.mirror] * FLIP, skin)
    np.testing.assert_array_equal(head.mirror[head.mirror], np.arange(len(skin)))
    faces = {tuple(sorted(t)) for t in head.skin_triangles.tolist()}
    assert {tuple(sorted(t)) for t in head.mirror[head.skin_triangles].tolist()} == faces


def test_triangles_are_fans_of_the_polygons(head):
    starts = np.array([0, 3, 7], np.int32)
    corners = np.array([5, 6, 7, 0, 1, 2, 3], np.int32)
    np.testing.assert_array_equal(triangulate_polygons(starts, corners), [[5, 6, 7], [0, 1, 2], [0, 2, 3]])
    sides = np.diff(head.polygon_starts)
    assert set(sides.tolist()) == {3, 4}


def test_uv_map_is_inside_the_square_and_has_no_flipped_triangle(head):
    assert head.uv.shape == (head.num_skin_vertices, 2)
    assert np.abs(head.uv).max() <= 0.98 + 1e-6
    a, b, c = (head.uv[head.skin_triangles[:, i]].astype(np.float64) for i in range(3))
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    assert (area > 0).all() or (area < 0).all()


def test_regions_are_sorted_sets_on_the_skin_with_mirrored_sides(head):
    expected = {
        "lips", "lips_inner_upper", "lips_inner_lower", "mouth_corner_left", "mouth_corner_right", "eye_region",
        "upper_face", "eyelids", "lid_margin", "ears", "neck_boundary", "mouth_bag", "jaw_anchor", "nostrils",
        "jaw_parts",
    }  # fmt: skip
    assert set(head.regions) == expected
    for name, indices in head.regions.items():
        assert indices.dtype == np.int32 and len(indices) > 0
        assert (np.diff(indices) > 0).all(), name
        assert (indices < head.num_skin_vertices).all() == (name != "jaw_parts"), name
        if not name.endswith(("left", "right", "jaw_parts")):
            np.testing.assert_array_equal(np.sort(head.mirror[indices]), indices)
    left, right = head.regions["mouth_corner_left"], head.regions["mouth_corner_right"]
    assert (head.vertices[left, 0] > 0.02).all()
    np.testing.assert_array_equal(np.sort(head.mirror[left]), right)
    assert set(head.regions["lips_inner_upper"]) < set(head.regions["lips"])
    assert not set(head.regions["lips_inner_upper"]) & set(head.regions["lips_inner_lower"])


def test_neck_boundary_region_is_the_longest_boundary_loop(head, directed_edges):
    present = set(directed_edges)
    boundary = {a for a, b in present if (b, a) not in present}
    neck = set(head.regions["neck_boundary"].tolist())
    assert neck < boundary
    assert len(neck) == 52
    assert head.vertices[list(neck), 1].max() < -0.15


def test_contact_pairs_touch_at_rest_and_cover_both_inner_lips(head):
    upper, lower = head.lip_contact_pairs.T
    np.testing.assert_array_equal(head.vertices[upper], head.vertices[lower])
    np.testing.assert_array_equal(np.sort(upper), head.regions["lips_inner_upper"])
    np.testing.assert_array_equal(np.sort(lower), head.regions["lips_inner_lower"])
    x = head.vertices[upper, 0]
    assert (np.diff(x) > 0).all()


def test_landmarks_are_distinct_symmetric_and_in_order(head):
    points = head.vertices[head.landmarks68]
    assert len(set(head.landmarks68.tolist())) == 68
    np.testing.assert_array_equal(np.sort(LANDMARK_MIRROR), np.arange(68))
    np.testing.assert_array_equal(points[LANDMARK_MIRROR] * FLIP, points)
    assert (np.diff(points[:17, 0]) > 0).all()  # jaw, from the head's right ear to the left
    assert points[8, 1] == points[:17, 1].min()
    assert (np.diff(points[27:31, 1]) < 0).all()  # down the nose
    assert points[36:42, 0].max() < 0 < points[42:48, 0].min()
    assert points[51, 1] > points[62, 1] >= points[66, 1] > points[57, 1]


def test_colors_are_linear_rgb_and_fields_are_shares(head):
    assert head.vertex_colors.shape == head.vertices.shape
    assert head.vertex_colors.min() >= 0 and head.vertex_colors.max() <= 1
    assert head.appearance_fields.min() >= 0 and head.appearance_fields.max() <= 1


def test_frozen_file_is_small_and_survives_a_round_trip(head, tmp_path):
    assert TEMPLATE_PATH.stat().st_size < 6_000_000
    save_head(head, tmp_path / "copy.npz")
    copy = read_head(tmp_path / "copy.npz")
    np.testing.assert_array_equal(copy.blendshapes, head.blendshapes)
    assert copy.parts == head.parts and copy.eye_radius == head.eye_radius
    assert set(copy.regions) == set(head.regions)


def test_broken_files_are_backend_errors(tmp_path):
    with pytest.raises(BackendError, match="missing"):
        read_head(tmp_path / "missing.npz")
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK not an archive")
    with pytest.raises(BackendError, match="broken"):
        read_head(broken)
    np.savez(tmp_path / "empty.npz", vertices=np.zeros((3, 3)))
    with pytest.raises(BackendError, match="empty"):
        read_head(tmp_path / "empty.npz")


def test_shared_head_cannot_be_written_to(head):
    with pytest.raises(ValueError, match="read-only"):
        head.vertices[0, 0] = 1.0


def test_frozen_file_is_what_the_code_builds(head):
    """Parts and rings only: the fill's connectivity may differ by machine, which is why the file is frozen."""
    for name, build in (
        ("eyes", build_eyeballs),
        ("teeth", build_teeth),
        ("gums", build_gums),
        ("tongue", build_tongue),
    ):
        part, (start, stop) = build(), head.parts[name]
        np.testing.assert_allclose(author_to_backend(part.vertices), head.vertices[start:stop], atol=1e-5)
        np.testing.assert_allclose(part.colors, head.vertex_colors[start:stop], atol=1e-4)
    skin = cKDTree(head.vertices[: head.num_skin_vertices])
    nostrils, _ = nostril_rings()
    ears, _ = ear_rings()
    for ring in [*eyelid_rings(), *mouth_rings().rings, *nostrils, *ears, neck_ring()]:
        assert skin.query(author_to_backend(ring))[0].max() < 1e-5
