"""Delaunay triangulation between loops: forced edges, holes, flips on the surface."""

from __future__ import annotations

import numpy as np
import pytest

from torch_backend.geometry.mesh_topology import euler_characteristic, unique_edges
from torch_backend.geometry.triangulation import (
    flip_along_folds,
    flip_to_surface_delaunay,
    points_in_loops,
    triangulate_uv,
)


def edge_set(faces: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(edge) for edge in unique_edges(faces).tolist()}


def grid_with_hole() -> tuple[np.ndarray, list[np.ndarray]]:
    row, column = np.meshgrid(np.arange(7), np.arange(7), indexing="ij")
    points = np.stack([column.ravel(), row.ravel()], axis=1).astype(np.float64)
    points = points[~((points == 3).all(axis=1))]
    number = {tuple(point): i for i, point in enumerate(points.astype(int).tolist())}
    outer = [(i, 0) for i in range(6)] + [(6, i) for i in range(6)]
    outer += [(6 - i, 6) for i in range(6)] + [(0, 6 - i) for i in range(6)]
    hole = [(2, 2), (3, 2), (4, 2), (4, 3), (4, 4), (3, 4), (2, 4), (2, 3)]
    return points, [np.array([number[p] for p in outer]), np.array([number[p] for p in hole])]


def test_a_square_with_a_hole() -> None:
    points, loops = grid_with_hole()
    faces = triangulate_uv(points, loops)
    assert euler_characteristic(faces) == 0
    corners = points[faces]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    areas = 0.5 * (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])
    assert areas.min() > 0
    assert areas.sum() == pytest.approx(36.0 - 4.0)
    assert faces.dtype == np.int32


def test_a_forced_edge_replaces_the_delaunay_diagonal() -> None:
    kite = np.array([[0.0, 0.0], [2.0, -0.2], [4.0, 0.0], [2.0, 0.2]])
    loop = [np.arange(4)]
    assert (1, 3) in edge_set(triangulate_uv(kite, loop))
    assert (0, 2) in edge_set(triangulate_uv(kite, loop, np.array([[0, 2]])))


def test_a_forced_edge_through_many_triangles() -> None:
    random = np.random.default_rng(0)
    ring = 2 * np.pi * np.arange(40) / 40
    inner = 0.8 * (random.random((200, 2)) - 0.5)
    points = np.concatenate([np.stack([np.cos(ring), np.sin(ring)], axis=1), inner])
    faces = triangulate_uv(points, [np.arange(40)], np.array([[3, 24], [40, 41]]))
    assert {(3, 24), (40, 41)} <= edge_set(faces)
    assert euler_characteristic(faces) == 1
    assert len(np.unique(faces)) == len(points)


def test_crossing_forced_edges_are_refused() -> None:
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match="cross"):
        triangulate_uv(square, [np.arange(4)], np.array([[0, 2], [1, 3]]))


def test_points_outside_the_loops_are_refused() -> None:
    points = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [2.0, 0.5]])
    with pytest.raises(ValueError, match="1 points lie outside"):
        triangulate_uv(points, [np.arange(4)])
    with pytest.raises(ValueError, match="outer boundary"):
        triangulate_uv(points, [])


def test_points_in_loops_by_hand() -> None:
    outer = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]])
    hole = np.array([[1.0, 1.0], [3.0, 1.0], [3.0, 3.0], [1.0, 3.0]])
    points = np.array([[0.5, 0.5], [2.0, 2.0], [5.0, 2.0], [3.5, 2.0], [2.0, -1.0]])
    assert points_in_loops(points, [outer, hole]).tolist() == [True, False, False, True, False]


def test_flips_follow_the_surface_not_the_plane() -> None:
    # In the plane the vertical diagonal is the short one; the surface is five times as high, so there it is the other.
    plane = np.array([[0.0, 0.0], [2.0, -0.9], [4.0, 0.0], [2.0, 0.9]])
    surface = np.stack([plane[:, 0], 5.0 * plane[:, 1], np.zeros(4)], axis=1)
    vertical = np.array([[0, 1, 3], [1, 2, 3]])
    assert edge_set(flip_to_surface_delaunay(vertical, plane, surface)) >= {(0, 2)}
    flat = np.concatenate([plane, np.zeros((4, 1))], axis=1)
    assert edge_set(flip_to_surface_delaunay(vertical, plane, flat)) >= {(1, 3)}
    assert edge_set(flip_to_surface_delaunay(vertical, plane, surface, np.array([[1, 3]]))) >= {(1, 3)}


def test_the_surface_delaunay_condition_holds_everywhere_afterwards() -> None:
    random = np.random.default_rng(4)
    ring = 2 * np.pi * np.arange(30) / 30
    points = np.concatenate([np.stack([np.cos(ring), np.sin(ring)], axis=1), 0.9 * (random.random((150, 2)) - 0.5)])
    positions = np.concatenate([points * [3.0, 1.0], np.zeros((len(points), 1))], axis=1)
    loop = np.arange(30)
    faces = triangulate_uv(points, [loop], positions=positions)
    boundary = {tuple(sorted(edge)) for edge in zip(loop.tolist(), np.roll(loop, -1).tolist(), strict=True)}
    opposite: dict[tuple[int, int], list[float]] = {}
    for face in faces.tolist():
        for k in range(3):
            apex, a, b = face[k], face[(k + 1) % 3], face[(k + 2) % 3]
            u, v = positions[a] - positions[apex], positions[b] - positions[apex]
            angle = float(np.arccos(u @ v / np.linalg.norm(u) / np.linalg.norm(v)))
            opposite.setdefault((min(a, b), max(a, b)), []).append(angle)
    inner = {edge: angles for edge, angles in opposite.items() if edge not in boundary}
    assert all(len(angles) == 2 for angles in inner.values())
    assert max(sum(angles) for angles in inner.values()) < np.pi + 1e-4


def test_edges_turn_along_a_roof_ridge() -> None:
    plane = np.array([[0.0, 0.0], [1.0, -1.0], [2.0, 0.0], [1.0, 1.0]])
    roof = np.concatenate([plane, (1.0 - np.abs(plane[:, 1:]))], axis=1)  # ridge along y = 0, from point 0 to point 2
    normals = np.array([[0.0, 0.0, 1.0], [0.0, -1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    across = np.array([[0, 1, 3], [1, 2, 3]])
    assert edge_set(flip_along_folds(across, plane, roof, normals)) >= {(0, 2)}
    along = np.array([[0, 1, 2], [0, 2, 3]])
    assert edge_set(flip_along_folds(along, plane, roof, normals)) >= {(0, 2)}
