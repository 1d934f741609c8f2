"""The conformal map against closed forms: identity, Moebius, stereographic; flips, holes, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from torch_backend.geometry.mesh_topology import boundary_loops, directed_edges, euler_characteristic
from torch_backend.geometry.parameterization import (
    UV_LIMIT,
    conformal_parameterization,
    count_flipped_triangles,
    signed_areas,
    singular_values,
)
from torch_backend.head import load_head

Mesh = tuple[NDArray[np.float64], NDArray[np.int64]]


def make_disc(num_rings: int = 16, first_ring: int = 0) -> Mesh:
    """Return a flat unit disc of rings of 6k points, (x, y, 0); without the inner rings when `first_ring` > 0."""
    points = [np.zeros((1, 2))] if first_ring == 0 else []
    for ring in range(max(first_ring, 1), num_rings + 1):
        angles = 2 * np.pi * np.arange(6 * ring) / (6 * ring)
        points.append(ring / num_rings * np.stack([np.cos(angles), np.sin(angles)], axis=1))
    flat = np.concatenate(points)
    triangles = Delaunay(flat).simplices
    corners = flat[triangles]
    keep = np.linalg.norm(corners.mean(axis=1), axis=1) > (first_ring - 0.2) / num_rings
    triangles = triangles[keep & (np.abs(signed_areas(flat, triangles)) > 1e-9)]
    turned = signed_areas(flat, triangles) < 0
    triangles[turned] = triangles[turned][:, [0, 2, 1]]
    return np.concatenate([flat, np.zeros((len(flat), 1))], axis=1), triangles.astype(np.int64)


def as_complex(uv: NDArray[np.floating]) -> NDArray[np.complex128]:
    return (uv[:, 0] + 1j * uv[:, 1]).astype(np.complex128) / UV_LIMIT


def test_flipped_triangles_are_counted_on_a_hand_made_mesh() -> None:
    uv = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 0.0]])
    triangles = np.array([[0, 1, 2], [1, 2, 3], [0, 1, 4]])  # counter-clockwise, clockwise, collapsed
    assert count_flipped_triangles(uv, triangles) == 2
    assert signed_areas(uv, triangles) == pytest.approx([0.5, -0.5, 0.0])


def test_singular_values_of_a_known_linear_map() -> None:
    triangle = np.array([[0.0, 0.0, 5.0], [2.0, 0.0, 5.0], [0.5, 1.0, 5.0]])
    stretched = triangle[:, :2] * [3.0, 0.5]
    assert singular_values(triangle, stretched, np.array([[0, 1, 2]]))[0] == pytest.approx([3.0, 0.5])


def test_a_flat_disc_is_mapped_by_a_similarity() -> None:
    points, triangles = make_disc()
    uv = conformal_parameterization(points, triangles, center_vertex=0)
    assert np.abs(uv - UV_LIMIT * points[:, :2]).max() < 3e-4  # the boundary is a polygon, not a circle


def test_up_is_up_whatever_the_order_of_the_boundary() -> None:
    points, triangles = make_disc(8)
    turn = np.array([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    uv = conformal_parameterization(points @ turn.T, triangles, center_vertex=0)
    assert np.abs(uv - UV_LIMIT * (points @ turn.T)[:, :2]).max() < 1e-3


def test_another_center_gives_the_moebius_transformation_of_the_disc() -> None:
    points, triangles = make_disc(40)
    center = int(np.argmin(np.linalg.norm(points[:, :2] - [0.3, 0.2], axis=1)))
    uv = as_complex(conformal_parameterization(points, triangles, center_vertex=center))
    z, a = points[:, 0] + 1j * points[:, 1], points[center, 0] + 1j * points[center, 1]
    exact = (z - a) / (1 - np.conj(a) * z)
    turned = uv * np.vdot(uv, exact) / abs(np.vdot(uv, exact))
    assert np.abs(turned - exact).max() < 0.03
    assert np.abs(turned - exact).mean() < 0.006


def test_a_hemisphere_is_mapped_stereographically() -> None:
    flat, triangles = make_disc(32)
    radius, angle = np.linalg.norm(flat[:, :2], axis=1), np.arctan2(flat[:, 1], flat[:, 0])
    slope = 0.5 * np.pi * radius  # rings at equal angles from the pole (+z), up to the equator
    sphere = np.stack([np.sin(slope) * np.cos(angle), np.sin(slope) * np.sin(angle), np.cos(slope)], axis=1)
    uv = conformal_parameterization(sphere, triangles)
    exact = UV_LIMIT * np.tan(slope / 2)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert np.abs(uv - exact).max() < 0.01
    values = singular_values(sphere, uv, triangles)
    assert np.percentile(values[:, 0] / values[:, 1], 95) < 1.06


def test_an_annulus_keeps_its_hole() -> None:
    points, triangles = make_disc(12, first_ring=4)
    center = int(np.argmin(np.linalg.norm(points[:, :2] - [0.6, 0.0], axis=1)))
    uv = conformal_parameterization(points, triangles, center_vertex=center)
    assert count_flipped_triangles(uv, triangles) == 0
    outer, hole = boundary_loops(triangles)
    assert np.linalg.norm(uv[outer], axis=1) == pytest.approx(UV_LIMIT, abs=1e-5)
    x, y = uv[hole].astype(np.float64).T
    hole_area = 0.5 * abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())
    covered = signed_areas(uv, triangles).sum()
    polygon = 0.5 * len(outer) * np.sin(2 * np.pi / len(outer)) * UV_LIMIT**2
    assert hole_area > 0.01
    assert covered + hole_area == pytest.approx(polygon, rel=0.05)


def test_a_long_tube_is_compressed_but_its_cap_stays_conformal() -> None:
    flat, triangles = make_disc(24)
    radius, angle = np.linalg.norm(flat[:, :2], axis=1), np.arctan2(flat[:, 1], flat[:, 0])
    slope = np.minimum(radius * 24 / 8, 1.0) * np.pi / 2  # the first 8 rings: a half sphere; the rest: a tube behind it
    depth = np.maximum(radius * 24 - 8, 0.0) * np.pi / 16
    surface = np.stack([np.sin(slope) * np.cos(angle), np.sin(slope) * np.sin(angle), np.cos(slope) - depth], axis=1)
    uv = conformal_parameterization(surface, triangles, center_vertex=0)
    assert count_flipped_triangles(uv, triangles) == 0
    plane_radius = np.linalg.norm(uv, axis=1)
    # The exact map would give the cap a radius of exp(-pi) = 0.043.
    assert plane_radius[np.isclose(radius, 8 / 24)].min() > 0.25
    values = singular_values(surface, uv, triangles)
    cap = (surface[triangles][:, :, 2].min(axis=1)) > 0.5
    assert (values[cap, 0] / values[cap, 1]).max() < 1.2


def test_bad_surfaces_are_refused_with_a_remedy() -> None:
    points, triangles = make_disc(4)
    octahedron = np.array([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=np.float64)
    sides = [[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4], [1, 0, 5], [2, 1, 5], [3, 2, 5], [0, 3, 5]]
    with pytest.raises(ValueError, match=r"closed.*cut"):
        conformal_parameterization(octahedron, np.array(sides))
    both = np.concatenate([triangles, triangles + len(points)])
    with pytest.raises(ValueError, match="2 pieces: split"):
        conformal_parameterization(np.concatenate([points, points + 5.0]), both)
    with pytest.raises(ValueError, match="manifold"):
        conformal_parameterization(points, np.concatenate([triangles, triangles[:1]]))
    with pytest.raises(ValueError, match="manifold"):
        conformal_parameterization(points, np.concatenate([triangles[:-1], triangles[-1:, ::-1]]))
    with pytest.raises(ValueError, match="without"):
        conformal_parameterization(points * [1.0, 0.0, 0.0], triangles)
    with pytest.raises(ValueError, match="inner vertex"):
        conformal_parameterization(points, triangles, center_vertex=int(boundary_loops(triangles)[0][0]))
    with pytest.raises(ValueError, match=r"\(F, 3\)"):
        conformal_parameterization(points, triangles[:, :2])
    with pytest.raises(ValueError, match="finite"):
        conformal_parameterization(np.where(points == points[3], np.nan, points), triangles)


def test_a_torus_with_a_hole_is_refused() -> None:
    size = 6
    row, column = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    a, b = 2 * np.pi * row.ravel() / size, 2 * np.pi * column.ravel() / size
    points = np.stack([(3 + np.cos(b)) * np.cos(a), (3 + np.cos(b)) * np.sin(a), np.sin(b)], axis=1)
    corner = [(row + i) % size * size + (column + j) % size for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
    quads = np.stack([c.ravel() for c in corner], axis=1)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])[1:]
    with pytest.raises(ValueError, match="1 handles"):
        conformal_parameterization(points, triangles)


def test_euler_characteristic_and_loops_by_hand() -> None:
    square = np.array([[0, 1, 2], [0, 2, 3]])
    assert euler_characteristic(square) == 4 - 5 + 2
    assert boundary_loops(square)[0].tolist() == [0, 1, 2, 3]
    assert directed_edges(square)[:3].tolist() == [[0, 1], [1, 2], [2, 0]]
    fan_touching = np.array([[0, 1, 2], [0, 3, 4]])
    with pytest.raises(ValueError, match="fans"):
        boundary_loops(fan_touching)


def test_the_built_in_heads_map() -> None:
    head = load_head()
    skin = head.num_skin_vertices
    open_pose = head.pose({"jawOpen": 0.9, "mouthFunnel": 0.5})[:skin]
    uv = conformal_parameterization(open_pose, head.skin_triangles)
    assert count_flipped_triangles(uv, head.skin_triangles) == 0
    assert np.abs(uv).max() <= UV_LIMIT + 1e-6
    assert count_flipped_triangles(head.uv, head.skin_triangles) == 0
    landmarks = head.landmarks68
    assert uv[landmarks[57], 1] < uv[landmarks[33], 1] < uv[landmarks[27], 1]  # mouth below nose base below bridge
    assert uv[landmarks[45], 0] > uv[landmarks[36], 0]  # the head's left is +u
    upper, lower = head.lip_contact_pairs.T
    assert np.linalg.norm(uv[upper] - uv[lower], axis=1).min() > 0.02
    values = singular_values(open_pose, uv, head.skin_triangles)
    center = open_pose[head.skin_triangles].mean(axis=1)
    face = (center[:, 2] > 0.04) & (center[:, 1] > -0.1)
    assert np.median(values[face, 0] / values[face, 1]) < 1.2
    assert signed_areas(uv, head.skin_triangles)[face].sum() > 0.25 * np.pi
