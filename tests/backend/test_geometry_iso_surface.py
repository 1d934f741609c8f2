"""Sparse surface extraction: the triangles of the dense grid, in fewer evaluations."""

from __future__ import annotations

from collections.abc import Callable

import igl
import numpy as np
import pytest

from torch_backend.geometry.grid import Grid
from torch_backend.geometry.iso_surface import Surface, SurfaceOptions, extract_dense_surface, extract_surface
from torch_backend.head.head import load_head
from torch_backend.head.signed_distance import signed_distance

Field = Callable[[np.ndarray], np.ndarray]
BOX = ((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5))


def sphere(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points - [0.01, 0.02, 0.03], axis=1) - 0.31


def torus(points: np.ndarray) -> np.ndarray:
    return np.hypot(np.hypot(points[:, 0], points[:, 1]) - 0.33, points[:, 2]) - 0.09


def blobs(points: np.ndarray) -> np.ndarray:
    """A large one and a far smaller one, smaller than a coarse cell."""
    return np.minimum(
        np.linalg.norm(points - [0.2, 0.1, 0.03], axis=1) - 0.17,
        np.linalg.norm(points - [-0.2, -0.14, -0.03], axis=1) - 0.02,
    )


def wavy(points: np.ndarray) -> np.ndarray:
    """A field that is no distance: its slope is up to 1.6."""
    return sphere(points) + 0.03 * np.sin(20 * points[:, 0])


def leaving(points: np.ndarray) -> np.ndarray:
    """A ball that the box cuts."""
    return np.linalg.norm(points - [0.4, 0.4, -0.4], axis=1) - 0.33


def assert_same(found: Surface, field: Field, resolution: int, box: tuple = BOX) -> None:
    vertices, faces = extract_dense_surface(field, box, resolution)
    np.testing.assert_array_equal(found.faces, faces)
    np.testing.assert_array_equal(found.vertices, vertices)
    assert found.num_contradictions == 0


@pytest.mark.parametrize("field", [sphere, torus, blobs, leaving])
@pytest.mark.parametrize(("resolution", "coarsest"), [(32, 16), (45, 8), (21, 1)])
def test_the_triangles_are_those_of_the_dense_grid(field: Field, resolution: int, coarsest: int) -> None:
    found = extract_surface(field, BOX, resolution, SurfaceOptions(coarsest=coarsest))
    assert_same(found, field, resolution)
    assert coarsest == 1 or found.num_evaluations < 0.3 * (resolution + 1) ** 3


def test_a_steeper_field_needs_its_slope() -> None:
    found = extract_surface(wavy, BOX, 40, SurfaceOptions(lipschitz=1.6))
    assert_same(found, wavy, 40)
    assert extract_surface(wavy, BOX, 40, SurfaceOptions(lipschitz=0.5)).num_contradictions > 0


def test_a_box_need_not_be_a_cube() -> None:
    box = ((-0.4, -0.5, -0.2), (0.43, 0.5, 0.31))
    found = extract_surface(sphere, box, 48)
    assert_same(found, sphere, 48, box)


def test_the_built_in_head() -> None:
    head = load_head()
    box = (tuple(head.pose({}).min(axis=0) - 0.02), tuple(head.pose({}).max(axis=0) + 0.02))

    def field(points: np.ndarray) -> np.ndarray:
        return signed_distance(head, points, {"jawOpen": 0.5})

    found = extract_surface(field, box, 40)
    vertices, faces = extract_dense_surface(field, box, 40)
    np.testing.assert_array_equal(found.faces, faces)
    np.testing.assert_array_equal(found.vertices, vertices)


def test_evaluations_at_256() -> None:
    """A ball that fills as much of its box as a head: 40 times fewer, 100 times with interpolation."""
    exact = extract_surface(sphere, BOX, 256)
    assert exact.num_evaluations <= 256**3 / 40
    interpolated = extract_surface(sphere, BOX, 256, SurfaceOptions(interpolate=True))
    assert interpolated.num_evaluations <= 256**3 / 100
    assert np.abs(sphere(interpolated.vertices)).max() < 1.1 * np.abs(sphere(exact.vertices)).max()
    assert len(interpolated.faces) == pytest.approx(len(exact.faces), rel=1e-3)


def test_sharp_bends_are_not_interpolated() -> None:
    def cut(points: np.ndarray) -> np.ndarray:
        return np.maximum(sphere(points), points[:, 0] + 0.3 * points[:, 1] - 0.1)

    exact, near = (extract_surface(cut, BOX, 64, SurfaceOptions(interpolate=choice)) for choice in (False, True))
    squared = igl.point_mesh_squared_distance(near.vertices, exact.vertices, exact.faces)[0]
    assert np.sqrt(squared).max() < 0.25 / 64
    assert near.num_evaluations < exact.num_evaluations


def test_the_frame_before_saves_evaluations() -> None:
    moved: Field = lambda points: sphere(points - [0.002, 0.0, 0.0])  # noqa: E731
    before = extract_surface(sphere, BOX, 64)
    options = SurfaceOptions(change_limit=0.002)
    found = extract_surface(moved, BOX, 64, options, before.band)
    assert_same(found, moved, 64)
    assert found.num_evaluations < extract_surface(moved, BOX, 64).num_evaluations
    too_low = SurfaceOptions(change_limit=0.0005)
    assert extract_surface(moved, BOX, 64, too_low, before.band).num_contradictions > 0


def test_nothing_there_is_an_empty_surface() -> None:
    found = extract_surface(lambda points: sphere(points) + 2.0, BOX, 32)
    assert found.vertices.shape == (0, 3) and found.faces.shape == (0, 3) and found.vertex_normals.shape == (0, 3)
    assert found.num_evaluations <= 27


def test_normals_point_outward() -> None:
    found = extract_surface(sphere, BOX, 48)
    outward = found.vertices - [0.01, 0.02, 0.03]
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    assert (found.vertex_normals * outward).sum(axis=1).min() > 0.98


def test_grids_number_their_corners() -> None:
    grid = Grid.over(((0.0, 0.0, 0.0), (1.0, 0.5, 0.26)), 8, coarsest=4)
    assert grid.cells == (8, 4, 3) and grid.padded_cells == (8, 4, 4) and grid.num_corners == 9 * 5 * 4
    numbers = np.arange(grid.num_padded_corners)
    np.testing.assert_array_equal(grid.numbers(grid.coordinates(numbers)), numbers)
    np.testing.assert_allclose(grid.points(grid.coordinates(np.array([10]))), [[0.125, 0.125, 0.0]])


@pytest.mark.parametrize(
    ("box", "resolution", "words"),
    [(((0, 0, 0), (1, 0, 1)), 8, "low < high"), (((0, 0), (1, 1)), 8, "low < high"), (BOX, 1, "at least 2")],
)
def test_impossible_grids_are_refused(box: tuple, resolution: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        extract_surface(sphere, box, resolution)


def test_bad_fields_and_options_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        extract_surface(lambda points: points[:, 0] * np.nan, BOX, 8)
    with pytest.raises(ValueError, match="must return"):
        extract_surface(lambda points: points, BOX, 8)
    for options, words in (
        ({"lipschitz": 0.0}, "lipschitz"),
        ({"coarsest": 6}, "power of 2"),
        ({"change_limit": -1.0}, "at least 0"),
    ):
        with pytest.raises(ValueError, match=words):
            SurfaceOptions(**options)
