"""Sampling and triangulating a surface: statistics, exactness, topology, anchors, determinism."""

from __future__ import annotations

import numpy as np
import pytest

from blender_talkhead.facial.blendshapes import BLENDSHAPE_INDEX
from torch_backend.geometry.blue_noise import select_blue_noise
from torch_backend.geometry.mesh_topology import (
    boundary_loops,
    euler_characteristic,
    find_manifold_problem,
    unique_edges,
)
from torch_backend.geometry.parameterization import count_flipped_triangles
from torch_backend.geometry.point_location import locate_by_walking, neighbor_triangles
from torch_backend.geometry.surface_sampling import SurfaceSamples, initial_face_probabilities, sample_surface
from torch_backend.geometry.surface_template import SurfaceTemplate
from torch_backend.head import Head, load_head


@pytest.fixture(scope="module")
def head() -> Head:
    return load_head()


@pytest.fixture(scope="module")
def head_surface(head: Head) -> SurfaceTemplate:
    skin = head.num_skin_vertices
    regions = {name: ids for name, ids in head.regions.items() if ids.max() < skin}
    return SurfaceTemplate(
        head.vertices[:skin], head.skin_triangles, head.uv, regions, head.landmarks68, head.lip_contact_pairs
    )


def make_square(size: int = 2, hole: bool = False) -> SurfaceTemplate:
    """Return a unit square of size x size cells as a flat template, without the middle cells when `hole`."""
    row, column = np.meshgrid(np.arange(size + 1), np.arange(size + 1), indexing="ij")
    plane = np.stack([column.ravel(), row.ravel()], axis=1) / size
    corner = (row[:-1, :-1] * (size + 1) + column[:-1, :-1]).ravel()
    triangles = np.concatenate(
        [
            np.stack([corner, corner + 1, corner + size + 2], axis=1),
            np.stack([corner, corner + size + 2, corner + size + 1], axis=1),
        ]
    )
    if hole:
        center = plane[triangles].mean(axis=1)
        triangles = triangles[(np.abs(center - 0.5) > 1 / 6).any(axis=1)]
        used, triangles = np.unique(triangles, return_inverse=True)
        plane, triangles = plane[used], triangles.reshape(-1, 3)
    vertices = np.concatenate([plane, np.zeros((len(plane), 1))], axis=1)
    return SurfaceTemplate(vertices, triangles, plane)


def test_drawn_points_follow_the_probabilities() -> None:
    surface = make_square(1)
    samples = sample_surface(surface, 2000, seed=3, probabilities=np.array([0.8, 0.2]))
    drawn = samples.triangle_indices[samples.num_anchors :]
    expected = np.array([0.8, 0.2]) * len(drawn)
    observed = np.bincount(drawn, minlength=2)
    chi_square = ((observed - expected) ** 2 / expected).sum()
    assert chi_square < 6.63  # one degree of freedom, p = 0.01


def test_interpolation_is_exact_for_linear_fields_and_takes_leading_axes() -> None:
    surface = make_square(3)
    samples = sample_surface(surface, 200, seed=0)
    weights = samples.barycentric.astype(np.float64)
    assert weights.min() >= 0.0
    assert weights.sum(axis=1) == pytest.approx(1.0, abs=1e-6)
    linear = surface.positions @ np.array([[2.0, -1.0], [0.5, 3.0], [0.0, 0.0]]) + [1.0, 2.0]
    expected = samples.uv @ np.array([[2.0, -1.0], [0.5, 3.0]]) + [1.0, 2.0]
    assert samples.interpolate(linear) == pytest.approx(expected, abs=1e-5)
    clip = np.stack([linear, 2.0 * linear]).astype(np.float32)[None]  # (1, 2, V, 2)
    assert samples.interpolate(clip).shape == (1, 2, 200, 2)
    assert samples.interpolate(clip)[0, 1] == pytest.approx(2.0 * samples.interpolate(clip)[0, 0])
    assert samples.interpolate(clip).dtype == np.float32


def test_a_barycentric_value_by_hand() -> None:
    surface = make_square(1)
    samples = sample_surface(surface, 60, seed=0)
    values = np.array([[1.0], [10.0], [100.0], [1000.0]])
    for point in (0, 20, 59):
        corners, weights = samples.triangle_vertices[point], samples.barycentric[point]
        by_hand = sum(float(weights[k]) * values[corners[k], 0] for k in range(3))
        assert samples.interpolate(values)[point, 0] == pytest.approx(by_hand, rel=1e-6)
        assert corners.tolist() == surface.faces[samples.triangle_indices[point]].tolist()


def test_the_same_seed_gives_the_same_samples() -> None:
    surface = make_square(3)
    first, second, other = (sample_surface(surface, 150, seed) for seed in (5, 5, 6))
    assert np.array_equal(first.barycentric, second.barycentric)
    assert np.array_equal(first.faces, second.faces)
    assert not np.array_equal(first.uv, other.uv)


def test_a_square_with_a_hole_keeps_its_topology_and_area() -> None:
    surface = make_square(3, hole=True)
    samples = sample_surface(surface, 400, seed=1)
    assert find_manifold_problem(samples.faces) is None
    assert euler_characteristic(samples.faces) == 0
    assert len(np.unique(samples.faces)) == 400
    outer, hole = (samples.uv[loop] for loop in boundary_loops(samples.faces))
    assert (np.abs(outer - 0.5).max(axis=1) == pytest.approx(0.5, abs=1e-6)) and len(outer) >= 12
    assert np.abs(hole - 0.5).max(axis=1) == pytest.approx(1 / 6, abs=1e-6)
    assert count_flipped_triangles(samples.uv, samples.faces) == 0


def test_points_keep_apart() -> None:
    samples = sample_surface(make_square(3), 500, seed=2)
    edges = unique_edges(samples.faces)
    lengths = np.linalg.norm(samples.uv[edges[:, 0]] - samples.uv[edges[:, 1]], axis=1)
    hexagonal = np.sqrt(2 / (np.sqrt(3) * 500))
    assert lengths.min() > 0.35 * hexagonal
    assert np.median(lengths) == pytest.approx(hexagonal, rel=0.1)


def test_blue_noise_against_the_definition() -> None:
    random = np.random.default_rng(0)
    candidates = random.random((3000, 2))
    obstacles = np.array([[0.5, 0.5]])
    chosen = select_blue_noise(candidates, np.full(3000, 0.1), 60, obstacles)
    assert len(set(chosen.tolist())) == 60
    points = np.concatenate([obstacles, candidates[chosen]])
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    nearest = np.where(np.eye(len(points), dtype=bool), np.inf, distance).min()
    assert nearest > 0.3 * np.sqrt(2 / (np.sqrt(3) * 60))
    with pytest.raises(ValueError, match=r"0\.\.3000"):
        select_blue_noise(candidates, np.full(3000, 0.1), 3001, obstacles)


def test_walking_finds_the_triangle_a_search_finds() -> None:
    surface = make_square(5)
    random = np.random.default_rng(1)
    points = random.random((50, 2))
    start = random.integers(0, len(surface.faces), 50)
    found, weights = locate_by_walking(points, start, surface.plane, surface.faces, neighbor_triangles(surface.faces))
    back = np.einsum("nk,nkc->nc", weights, surface.plane[surface.faces[found]])
    assert back == pytest.approx(points)
    assert weights.min() > -1e-8
    outside, _ = locate_by_walking(
        np.array([[2.0, 0.5]]), start[:1], surface.plane, surface.faces, neighbor_triangles(surface.faces)
    )
    assert outside.tolist() == [-1]


def test_bad_arguments_are_refused() -> None:
    surface = make_square(1)
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        sample_surface(surface, 100, 0, probabilities=np.ones(3))
    with pytest.raises(ValueError, match=">= 0"):
        sample_surface(surface, 100, 0, probabilities=np.array([1.0, -1.0]))
    with pytest.raises(ValueError, match="expected at least"):
        sample_surface(surface, 10, 0)
    with pytest.raises(ValueError, match="uv"):
        SurfaceTemplate(surface.vertices, surface.triangles, surface.vertices)


def test_initial_probabilities_fall_with_the_distance_to_key_points() -> None:
    square = make_square(8)
    surface = SurfaceTemplate(0.2 * square.vertices, square.triangles, square.uv, {}, np.array([0]))
    chances = initial_face_probabilities(surface)
    assert chances.sum() == pytest.approx(1.0)
    center = surface.positions[surface.faces].mean(axis=1)
    distance = np.linalg.norm(center - surface.positions[0], axis=1)
    density = chances / surface.face_areas
    order = np.argsort(distance)
    assert (np.diff(density[order]) <= 1e-9 * density.max()).all()
    assert density.max() > 5 * density.min()


@pytest.fixture(scope="module", params=[500, 1500, 5000])
def head_samples(request: pytest.FixtureRequest, head_surface: SurfaceTemplate) -> SurfaceSamples:
    return sample_surface(head_surface, request.param, seed=0)


def test_the_heads_samples_are_one_manifold(head_samples: SurfaceSamples, head_surface: SurfaceTemplate) -> None:
    faces = head_samples.faces
    assert find_manifold_problem(faces) is None
    assert len(np.unique(faces)) == len(head_samples.uv)
    assert euler_characteristic(faces) == euler_characteristic(head_surface.faces)
    assert len(boundary_loops(faces)) == 3
    assert count_flipped_triangles(head_samples.uv, faces) == 0
    # Orientation as the template's: most triangles face the way the interpolated normals do.
    positions = head_samples.interpolate(head_surface.positions)
    corners = positions[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outward = head_samples.interpolate(head_surface.vertex_normals)[faces].sum(axis=1)
    assert ((normals * outward).sum(axis=1) > 0).mean() > 0.98


def test_the_heads_lips_and_lids_are_kept(
    head_samples: SurfaceSamples, head_surface: SurfaceTemplate, head: Head
) -> None:
    pairs = head_samples.lip_contact_pairs
    assert len(pairs) >= 7
    positions = head_samples.interpolate(head_surface.positions)
    assert np.abs(positions[pairs[:, 0]] - positions[pairs[:, 1]]).max() < 1e-6  # sealed at rest
    regions = head_samples.regions
    assert set(pairs[:, 0].tolist()) <= set(regions["lips_inner_upper"].tolist())
    assert set(pairs[:, 1].tolist()) <= set(regions["lips_inner_lower"].tolist())
    assert len(regions["mouth_corner_left"]) >= 1
    assert len(regions["mouth_corner_right"]) >= 1
    assert len(regions["eye_region"]) >= 20
    assert len(regions["lid_margin"]) >= 40
    edges = {tuple(edge) for edge in unique_edges(head_samples.faces).tolist()}
    for side in (0, 1):  # the contact lines are edges, so the crease between lip and lining is sharp
        steps = np.sort(np.stack([pairs[:-1, side], pairs[1:, side]], axis=1), axis=1)
        assert all(tuple(step) in edges for step in steps.tolist())
    assert not any(tuple(sorted(pair)) in edges for pair in pairs.tolist())


def test_opening_the_mouth_does_not_tear_stitches(
    head_samples: SurfaceSamples, head_surface: SurfaceTemplate, head: Head
) -> None:
    skin = head.num_skin_vertices
    jaw = head.blendshapes[BLENDSHAPE_INDEX["jawOpen"], :skin]
    moved = head_samples.interpolate(head_surface.positions + jaw)
    rest = head_samples.interpolate(head_surface.positions)
    edges = unique_edges(head_samples.faces)
    inside = np.zeros(len(rest), dtype=bool)
    inside[head_samples.regions["mouth_bag"]] = True
    on_lips = np.zeros(len(rest), dtype=bool)
    on_lips[head_samples.regions["lips"]] = True
    lip_edges = edges[on_lips[edges].all(axis=1) & ~inside[edges].any(axis=1)]
    lengthening = np.linalg.norm(moved[lip_edges[:, 0]] - moved[lip_edges[:, 1]], axis=1) - np.linalg.norm(
        rest[lip_edges[:, 0]] - rest[lip_edges[:, 1]], axis=1
    )
    opening = np.linalg.norm(jaw[head.lip_contact_pairs[:, 0]] - jaw[head.lip_contact_pairs[:, 1]], axis=1).max()
    # The corners of the mouth go half way with the jaw, and edges round them with them; a stitch would go all the way.
    corners = np.concatenate([head_samples.regions[f"mouth_corner_{side}"] for side in ("left", "right")])
    distances = np.linalg.norm(rest[lip_edges][:, :, None] - rest[corners], axis=-1)
    at_corner = distances.min(axis=(1, 2)) < 0.002
    assert lengthening[~at_corner].max() < 0.4 * opening
    assert lengthening[at_corner].max() < 0.5 * opening


def test_the_heads_samples_lie_on_it(head_samples: SurfaceSamples, head_surface: SurfaceTemplate) -> None:
    import igl

    positions = head_samples.interpolate(head_surface.positions)
    squared = igl.point_mesh_squared_distance(head_surface.positions, positions, head_samples.faces.astype(np.int64))[0]
    hidden = np.zeros(len(head_surface.positions), dtype=bool)
    hidden[head_surface.regions["mouth_bag"]] = True
    millimetres = 1000.0 * np.sqrt(np.maximum(squared[~hidden], 0.0))
    bound = {500: 2.0, 1500: 0.8, 5000: 0.35}[len(positions)]
    assert millimetres.mean() < bound


@pytest.mark.parametrize(("num_points", "seed"), [(350, 3), (350, 5), (1300, 0), (1300, 4), (2000, 3)])
def test_uneven_learned_probabilities_still_give_one_manifold(
    head_surface: SurfaceTemplate, num_points: int, seed: int
) -> None:
    # Points between a thinned boundary and the template's own, and lid lines cutting corners, once broke these.
    noise = np.exp(np.random.default_rng(seed).normal(0.0, 1.0, len(head_surface.faces)))
    samples = sample_surface(head_surface, num_points, seed, initial_face_probabilities(head_surface) * noise)
    assert len(np.unique(samples.faces)) == num_points
    assert euler_characteristic(samples.faces) == euler_characteristic(head_surface.faces)
    assert count_flipped_triangles(samples.uv, samples.faces) == 0


def test_the_mouth_is_sampled_whatever_was_learned(head_surface: SurfaceTemplate) -> None:
    chances = initial_face_probabilities(head_surface)
    bag = np.isin(head_surface.faces, head_surface.regions["mouth_bag"]).all(axis=1)
    samples = sample_surface(head_surface, 1500, 0, np.where(bag, 0.0, chances))
    drawn = bag[samples.triangle_indices[samples.num_anchors :]].sum()
    assert drawn == pytest.approx(chances[bag].sum() * 1500, rel=0.35)
