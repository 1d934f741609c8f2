"""Joining triangles to quads: a grid becomes squares again, both sides alike, and what is no good quad stays."""

from __future__ import annotations

import numpy as np

from torch_backend.geometry.quad_pairing import pair_triangles
from torch_backend.head import load_head
from torch_backend.inference.skin_mesh import build_skin_mesh


def grid(columns: int, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, triangles and mirror images of a flat grid that is symmetric about x = 0."""
    x, y = np.meshgrid(np.arange(columns) - (columns - 1) / 2, np.arange(rows, dtype=float))
    number = np.arange(columns * rows).reshape(rows, columns)
    lower = np.stack([number[:-1, :-1], number[:-1, 1:], number[1:, 1:]], axis=-1).reshape(-1, 3)
    upper = np.stack([number[:-1, :-1], number[1:, 1:], number[1:, :-1]], axis=-1).reshape(-1, 3)
    vertices = np.stack([x, y, np.zeros_like(x)], axis=-1).reshape(-1, 3)
    return vertices, np.concatenate([lower, upper]), number[:, ::-1].ravel()


def test_a_grid_becomes_squares_again() -> None:
    vertices, triangles, mirror = grid(7, 5)
    quads, left = pair_triangles(vertices, triangles, mirror)
    assert len(left) == 0 and len(quads) == 24
    sides = np.linalg.norm(np.roll(vertices[quads], -1, axis=1) - vertices[quads], axis=2)
    np.testing.assert_allclose(sides, 1.0)
    areas = np.cross(vertices[quads[:, 1]] - vertices[quads[:, 0]], vertices[quads[:, 3]] - vertices[quads[:, 0]])
    assert (areas[:, 2] > 0).all()  # oriented as the triangles


def test_folds_and_darts_stay_triangles() -> None:
    fold = np.array([[0, 0, 0], [1, 0, 0], [0.5, 0.8, 0], [0.5, 0.1, 0.9]])
    quads, left = pair_triangles(fold, np.array([[0, 1, 2], [1, 0, 3]]), np.arange(4))
    assert len(quads) == 0 and left.tolist() == [0, 1]
    dart = np.array([[0, 0, 0], [2, 0, 0], [1, 0.3, 0], [1, 2, 0]])
    assert len(pair_triangles(dart, np.array([[0, 1, 2], [0, 2, 3]]), np.arange(4))[0]) == 0


def test_the_heads_own_mesh_is_mostly_quads_alike_on_both_sides() -> None:
    head = load_head()
    mesh = build_skin_mesh(head, None, 0, None)
    sizes = np.diff(mesh.polygon_starts)
    assert (sizes == 4).mean() > 0.8 and set(sizes) == {3, 4}
    polygons = {
        frozenset(mesh.polygon_vertices[start : start + size].tolist())
        for start, size in zip(mesh.polygon_starts, sizes, strict=False)
    }
    mirrored = {frozenset(head.mirror[sorted(each)].tolist()) for each in polygons}
    assert len(polygons & mirrored) > 0.97 * len(polygons)
    assert np.unique(mesh.polygon_vertices).tolist() == list(range(head.num_skin_vertices))
    edges = np.stack([mesh.polygon_vertices, _following(mesh.polygon_starts, mesh.polygon_vertices)], axis=1)
    assert len(np.unique(edges, axis=0)) == len(edges)  # each side of an edge once: oriented, no overlap


def _following(starts: np.ndarray, corners: np.ndarray) -> np.ndarray:
    following = np.roll(corners, -1)
    following[starts[1:] - 1] = corners[starts[:-1]]
    return following
