"""Conformal map of a disc with holes onto the unit disc of the UV plane, without flipped triangles.

The map is the discrete Riemann map of the surface: holes are capped, the outer boundary goes to the circle with
each boundary arc as long as its harmonic measure seen from the vertex that shall lie in the centre, and the
interior follows harmonically (cotangent weights). For the exact operator this is the conformal map that sends the
centre to 0; all positive weights would make it injective for certain (Tutte, Floater), and cotangents
are replaced by positive ones only where a triangle would flip.

A head on a neck is a tube with a cap, and any conformal map of it gives the neck nearly the whole disc: mouth and
eyes would share 2 % of the area. So radii beyond the core, where the face is, are compressed: the map stays
conformal in the core and turns gradually anisotropic towards the back of the head and the neck.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import splu

from torch_backend.geometry.mesh_topology import (
    IntArray,
    as_triangles,
    boundary_loops,
    count_components,
    find_manifold_problem,
    loop_length,
)

FloatArray = NDArray[np.float64]

UV_LIMIT = 0.98
"""Largest radius of the map: arccos(u), which the spatial encoding takes, has an infinite slope at +-1."""

_LARGEST_FREE_CORE_RADIUS = 0.3
"""A core wider than this fills the disc well enough; nothing is compressed then (a face mask, a flat patch)."""

_COMPRESSION = 2.0
"""Growth of the angular distortion outside the core: 1 + _COMPRESSION * log(radius / core)."""

_SMALLEST_POSITIVE_WEIGHT = 1e-2
_MAX_REPAIR_ROUNDS = 12
_LEAST_MEASURE = 0.02
"""Smallest share of the circle that a boundary vertex gets, relative to an even division."""

_MAX_UNTANGLE_SWEEPS = 10


def conformal_parameterization(
    vertices: NDArray[np.floating],
    triangles: NDArray[np.integer],
    *,
    center_vertex: int | None = None,
    core_area: float = 0.2,
) -> NDArray[np.float32]:
    """Map a surface with the topology of a disc with holes onto the UV disc of radius 0.98.

    Args:
        vertices: (V, 3) positions in backend model space (x to the head's left, y up, z out of the face).
            For a head, those of an open-mouth pose: at rest both lips would fall on the same place.
        triangles: (F, 3) counter-clockwise from outside.
        center_vertex: vertex that comes to lie in the centre and is enlarged most; the foremost (largest z) if None.
        core_area: share of the surface area round the centre that stays conformal when the rest is compressed.

    Returns:
        (V, 2) float32 with radius <= 0.98; no triangle is flipped, the surface's up (+y) at the centre is +v and
        its left (+x) is +u. Vertices that no triangle uses lie at 0.

    Raises:
        ValueError: shapes do not fit; the mesh is closed, in several pieces, not manifold, has handles or triangles
            without area; the centre lies on the outer boundary; or the map could not be made free of flips.
    """
    points, faces = _checked_surface(vertices, triangles)
    if not 0.0 < core_area <= 1.0:
        raise ValueError(f"core_area: expected a share in (0, 1], got {core_area}")
    loops = sorted(boundary_loops(faces), key=lambda loop: loop_length(points, loop), reverse=True)
    outer = loops[0]
    capped_points, capped_faces = _cap_holes(points, faces, loops[1:])
    center = int(np.argmax(points[:, 2])) if center_vertex is None else int(center_vertex)
    if not 0 <= center < len(points) or center in outer:
        raise ValueError(f"center_vertex: expected an inner vertex in [0, {len(points)}), got {center}")
    disc = _riemann_map(capped_points, capped_faces, outer, center)
    disc = _compress_beyond_core(disc, capped_points, capped_faces, core_area)
    disc = _turn_upright(disc, capped_points, center)
    uv: NDArray[np.float32] = (UV_LIMIT * disc[: len(points)]).astype(np.float32)
    flipped = count_flipped_triangles(uv, faces)
    if flipped:
        raise ValueError(f"conformal_parameterization: expected 0 flipped triangles, got {flipped} after rounding")
    return uv


def count_flipped_triangles(uv: NDArray[np.floating], triangles: NDArray[np.integer]) -> int:
    """Return how many triangles have no positive area in the UV plane (clockwise or collapsed).

    Args:
        uv: (V, 2) plane positions.
        triangles: (F, 3) indices into them.
    """
    return int((signed_areas(uv, triangles) <= 0.0).sum())


def signed_areas(uv: NDArray[np.floating], triangles: NDArray[np.integer]) -> FloatArray:
    """Return the (F,) areas of the triangles in the plane, positive when counter-clockwise."""
    corners = np.asarray(uv, dtype=np.float64)[np.asarray(triangles)]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    areas: FloatArray = 0.5 * (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])
    return areas


def singular_values(
    vertices: NDArray[np.floating], uv: NDArray[np.floating], triangles: NDArray[np.integer]
) -> FloatArray:
    """Return the (F, 2) singular values (larger first) of each triangle's linear map from the surface to the plane.

    Their ratio is the conformal distortion (1 = angles kept), their product the change of area, in 1 / length^2.
    """
    corners = np.asarray(vertices, dtype=np.float64)[np.asarray(triangles)]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    base = np.linalg.norm(first, axis=1)
    along = (first * second).sum(axis=1) / base
    height = np.linalg.norm(np.cross(first, second), axis=1) / base
    plane = np.asarray(uv, dtype=np.float64)[np.asarray(triangles)]
    column_x = (plane[:, 1] - plane[:, 0]) / base[:, None]
    column_y = (plane[:, 2] - plane[:, 0] - along[:, None] * column_x) / height[:, None]
    values: FloatArray = np.linalg.svd(np.stack([column_x, column_y], axis=-1), compute_uv=False)
    return values


def _checked_surface(vertices: NDArray[np.floating], triangles: NDArray[np.integer]) -> tuple[FloatArray, IntArray]:
    points = np.ascontiguousarray(vertices, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise ValueError(f"vertices: expected finite values of shape (V, 3), got shape {points.shape}")
    faces = as_triangles(triangles, len(points))
    pieces = count_components(faces)
    if pieces != 1:
        raise ValueError(f"expected one connected surface, got {pieces} pieces: split the mesh and map each piece")
    problem = find_manifold_problem(faces)
    if problem is not None:
        raise ValueError(f"expected a manifold, consistently oriented surface, got one where {problem}")
    num_loops = len(boundary_loops(faces))
    if num_loops == 0:
        raise ValueError("expected a surface with a boundary, got a closed one: cut it open first (a head at the neck)")
    used, edges = len(np.unique(faces)), (len(faces) * 3 + sum(len(loop) for loop in boundary_loops(faces))) // 2
    handles = (2 - num_loops - (used - edges + len(faces))) // 2
    if handles:
        raise ValueError(f"expected a disc with holes, got a surface with {handles} handles: cut them open first")
    corners = points[faces]
    doubled = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    empty = doubled <= 1e-10 * longest**2
    if empty.any():
        raise ValueError(f"expected triangles with area, got {int(empty.sum())} without (first: {int(empty.argmax())})")
    return points, faces


def _cap_holes(points: FloatArray, faces: IntArray, holes: list[IntArray]) -> tuple[FloatArray, IntArray]:
    """Close each hole with a fan round the mean of its loop."""
    all_points, all_faces, apex = [points], [faces], len(points)
    for loop in holes:
        all_points.append(points[loop].mean(axis=0, keepdims=True))
        all_faces.append(np.stack([np.roll(loop, -1), loop, np.full(len(loop), apex)], axis=1))
        apex += 1
    return np.concatenate(all_points), np.concatenate(all_faces)


def _riemann_map(points: FloatArray, faces: IntArray, outer: IntArray, center: int) -> FloatArray:
    """Return the (V, 2) map onto the unit disc with `center` at 0; no triangle of `faces` is flipped."""
    exact = _cotangent_weights(points, faces)
    positive_floor = _SMALLEST_POSITIVE_WEIGHT * float(np.median(np.abs(exact.data)))
    repaired = np.zeros(len(points), dtype=bool)
    for round_index in range(_MAX_REPAIR_ROUNDS):
        if round_index == _MAX_REPAIR_ROUNDS - 1:
            repaired[:] = True
        weights = _with_positive_weights(exact, repaired, positive_floor)
        disc = _solve_disc(weights, outer, center)
        bad = signed_areas(disc, faces) <= 0.0
        if not bad.any():
            return disc
        repaired[faces[bad]] = True
        if round_index:
            repaired[faces[repaired[faces].any(axis=1)]] = True
    raise ValueError(f"expected a map without flipped triangles, got {int(bad.sum())}: the mesh is too degenerate")


def _cotangent_weights(points: FloatArray, faces: IntArray) -> csr_matrix:
    corners = points[faces]
    rows, columns, values = [], [], []
    for corner in range(3):
        start, stop = (corner + 1) % 3, (corner + 2) % 3
        first, second = corners[:, start] - corners[:, corner], corners[:, stop] - corners[:, corner]
        cotangent = (first * second).sum(axis=1) / np.linalg.norm(np.cross(first, second), axis=1)
        rows.append(faces[:, start])
        columns.append(faces[:, stop])
        values.append(0.5 * cotangent)
    half = csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(len(points), len(points))
    )
    return (half + half.T).tocsr()


def _with_positive_weights(exact: csr_matrix, repaired: NDArray[np.bool_], floor: float) -> csr_matrix:
    weights = exact.tocoo(copy=True)
    touched = repaired[weights.row] | repaired[weights.col]
    weights.data[touched] = np.maximum(weights.data[touched], floor)
    return weights.tocsr()


def _solve_disc(weights: csr_matrix, outer: IntArray, center: int) -> FloatArray:
    """Return the (V, 2) harmonic map onto the unit disc, its boundary spaced by the harmonic measure."""
    size = weights.shape[0]
    laplacian = (diags(np.asarray(weights.sum(axis=1)).ravel()) - weights).tocsr()
    used = np.asarray(np.abs(weights).sum(axis=1)).ravel() > 0.0
    inner = np.setdiff1d(np.flatnonzero(used), outer)
    factor = splu(laplacian[inner][:, inner].tocsc())
    source = np.zeros(len(inner))
    source[np.searchsorted(inner, center)] = 1.0
    coupling = laplacian[outer][:, inner]
    measure = -(coupling @ factor.solve(source))
    measure /= measure.sum()
    # Obtuse triangles can make it negative, and boundary far behind the rest has none left in floating point.
    measure = np.maximum(measure, _LEAST_MEASURE / len(outer))
    measure /= measure.sum()
    angles = 2.0 * np.pi * (np.cumsum(measure) - 0.5 * measure)
    disc = np.zeros((size, 2))
    disc[outer] = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    disc[inner] = factor.solve(-(coupling.T @ disc[outer]))
    return disc


def _compress_beyond_core(disc: FloatArray, points: FloatArray, faces: IntArray, core_area: float) -> FloatArray:
    """Compress radii beyond the core so that the conformal distortion there grows as D = 1 + c log(radius / core).

    A radial map g has the distortion (g / r) / g'. Setting it to D gives g = core * (1 + c log(r / core)) ** (1 / c),
    which joins the identity in the core with its slope. Thin triangles that the bend flips are untangled; should that
    fail, the bend is blended with the identity, which flips nothing.
    """
    core = _core_radius(disc, points, faces, core_area)
    if core >= _LARGEST_FREE_CORE_RADIUS:
        return disc
    radius = np.linalg.norm(disc, axis=1)

    def grown(values: FloatArray) -> FloatArray:
        return core * (1.0 + _COMPRESSION * np.log(np.maximum(values / core, 1.0))) ** (1.0 / _COMPRESSION)

    wanted = np.where(radius <= core, radius, grown(radius)) / grown(np.ones(1))
    compressed = disc * (wanted / np.maximum(radius, 1e-12))[:, None]
    for amount in np.linspace(1.0, 0.1, 10):
        blended = _untangle((1.0 - amount) * disc + amount * compressed, faces)
        if count_flipped_triangles(blended, faces) == 0:
            return blended
    return disc


def _untangle(uv: FloatArray, faces: IntArray) -> FloatArray:
    """Unflip few triangles by moving their inner vertices to the middle of the star of faces round each.

    The middle is the point with the largest distance to the star's outline (a small linear program), so no move
    makes a valid star invalid. Rings of neighbours join while flips are left.
    """
    moved = uv.copy()
    fixed = np.ones(len(uv), dtype=bool)
    fixed[faces] = False
    fixed[np.concatenate(boundary_loops(faces))] = True
    active = np.zeros(len(uv), dtype=bool)
    for _ in range(_MAX_UNTANGLE_SWEEPS):
        bad = signed_areas(moved, faces) <= 0.0
        if not bad.any():
            break
        active[faces[active[faces].any(axis=1)]] = True
        active[faces[bad]] = True
        for vertex in np.flatnonzero(active & ~fixed):
            star = faces[(faces == vertex).any(axis=1)]
            turn = np.argmax(star == vertex, axis=1)
            starts = moved[np.take_along_axis(star, ((turn + 1) % 3)[:, None], axis=1)[:, 0]]
            stops = moved[np.take_along_axis(star, ((turn + 2) % 3)[:, None], axis=1)[:, 0]]
            middle = _star_middle(starts, stops)
            if middle is not None:
                moved[vertex] = middle
    return moved


def _star_middle(starts: FloatArray, stops: FloatArray) -> FloatArray | None:
    """Return the point farthest to the left of all edges starts -> stops, or None when no point is left of all."""
    edges = stops - starts
    lengths = np.linalg.norm(edges, axis=1)
    scale = float(lengths.mean())
    if scale == 0.0 or (lengths == 0.0).any():
        return None
    origin = starts.mean(axis=0)
    normals = np.stack([-edges[:, 1], edges[:, 0]], axis=1) / lengths[:, None]
    limits = (normals * (starts - origin)).sum(axis=1) / scale
    rows = np.concatenate([-normals, np.ones((len(edges), 1))], axis=1)
    solution = linprog([0.0, 0.0, -1.0], A_ub=rows, b_ub=-limits, bounds=[(None, None)] * 3, method="highs")
    if not solution.success or solution.x[2] <= 0.0:
        return None
    middle: FloatArray = origin + scale * solution.x[:2]
    return middle


def _core_radius(disc: FloatArray, points: FloatArray, faces: IntArray, core_area: float) -> float:
    corners = points[faces]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    radii = np.linalg.norm(disc[faces].mean(axis=1), axis=1)
    order = np.argsort(radii)
    covered = np.cumsum(areas[order]) / areas.sum()
    return float(radii[order][min(np.searchsorted(covered, core_area), len(order) - 1)])


def _turn_upright(disc: FloatArray, points: FloatArray, center: int) -> FloatArray:
    """Rotate the disc so that (u, v) follows (x, y) round the centre."""
    near = np.argsort(np.linalg.norm(points - points[center], axis=1))[: max(8, len(points) // 20)]
    plane = disc[near, 0] + 1j * disc[near, 1]
    wanted = (points[near, 0] - points[center, 0]) + 1j * (points[near, 1] - points[center, 1])
    turn = np.vdot(plane, wanted)
    if abs(turn) < 1e-12:
        return disc
    turned = (disc[:, 0] + 1j * disc[:, 1]) * turn / abs(turn)
    return np.stack([turned.real, turned.imag], axis=-1)
