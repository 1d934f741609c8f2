"""Marching Cubes that asks a signed distance only where the surface can be, from a coarse grid to the full one.

Every corner of the grid carries an interval that holds its value. What was evaluated bounds what lies around it, since
the values change by at most `lipschitz` times the distance: a corner whose interval leaves out 0 has a known sign and
needs no evaluation, a cell that is known as a whole is not divided further. In the end Marching Cubes needs signs of
corners, and values only at the ends of edges that the surface crosses, so the triangles are those of the dense grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import igl
import numpy as np
from numpy.typing import NDArray

from torch_backend.geometry.grid import CELL_CORNERS, Bounds, Grid

FloatArray = NDArray[np.float64]
SignedDistance = Callable[[FloatArray], NDArray[np.floating]]
"""Points (Q, 3) to their signed distances (Q,): negative inside, positive outside."""

_EDGES = np.array(
    [(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7)], dtype=np.int64
)
_HALVES = np.stack(np.meshgrid(*3 * [np.arange(3)], indexing="ij"), axis=-1).reshape(-1, 3)
"""(27, 3) corners of the eight children of a cell, in half cells."""
_TO_CORNERS = np.linalg.norm(_HALVES[:, None] - 2 * CELL_CORNERS[None], axis=-1)
"""(27, 8) distances of those from the cell's corners, in half cells."""
_ROUNDING = 1e-6
"""Of a cell: intervals are widened by it, so that rounding never decides about a sign."""
_CHUNK = 20_000
_BENDS_BAND = 0.5
"""With interpolation: how far from the surface second differences are evaluated, in coarser cells."""


@dataclass(frozen=True)
class SurfaceOptions:
    """How `extract_surface` saves evaluations."""

    lipschitz: float = 1.0
    """Upper bound of the gradient's length. 1 is right for exact distances; give learned or deformed fields a margin.
    Too low a value can lose thin parts; `Surface.num_contradictions` tells when it was seen to be."""
    coarsest: int = 16
    """Cells of the full grid along the edge of the first, coarse cells; a power of 2."""
    interpolate: bool = False
    """Evaluate every second corner near the surface and interpolate between them by cubics; where the field bends too
    sharply for that it is evaluated. The triangles are those of the dense grid only nearly."""
    kink: float = 0.2
    """With `interpolate`: second differences above this share of a coarse cell's edge are bends too sharp."""
    change_limit: float = float("inf")
    """Largest change of any value since the frame that `last` comes from; infinity does not use that frame."""

    def __post_init__(self) -> None:
        if not self.lipschitz > 0:
            raise ValueError(f"lipschitz must be above 0, got {self.lipschitz}")
        if self.coarsest < 1 or self.coarsest & (self.coarsest - 1):
            raise ValueError(f"coarsest must be a power of 2, got {self.coarsest}")
        if not self.change_limit >= 0:
            raise ValueError(f"change_limit must be at least 0, got {self.change_limit}")


@dataclass(frozen=True)
class Band:
    """Every value that one frame evaluated, for the next frame."""

    grid: Grid
    keys: NDArray[np.int64]
    """(n,) rising numbers of corners."""
    values: FloatArray
    """(n,)"""


@dataclass(frozen=True)
class Surface:
    """A triangle mesh of the zero level."""

    vertices: FloatArray
    """(V, 3)"""
    faces: NDArray[np.int64]
    """(F, 3) counter-clockwise seen from outside, where the values are positive."""
    num_evaluations: int
    num_contradictions: int
    """Evaluated values that `lipschitz` or `change_limit` had excluded: above 0 the bound was too low."""
    band: Band

    @property
    def vertex_normals(self) -> FloatArray:
        """(V, 3) unit normals, outward: those of the faces weighted by their angles."""
        if not len(self.faces):
            return np.zeros((0, 3))
        weighting = igl.PerVertexNormalsWeightingType.PER_VERTEX_NORMALS_WEIGHTING_TYPE_ANGLE
        normals = igl.per_vertex_normals(self.vertices, self.faces, weighting)
        return np.nan_to_num(np.asarray(normals, dtype=np.float64))


@dataclass
class _Level:
    """Corners of one level with the intervals that hold their values."""

    keys: NDArray[np.int64]
    """(n,) rising."""
    low: FloatArray
    high: FloatArray
    """(n,) equal to `low` where the value is known."""
    cells: NDArray[np.int64]
    """(m, 3) lowest corners of the cells that may hold the surface."""
    corners: NDArray[np.int64]
    """(m, 8) their corners as indices of `keys`."""

    @property
    def is_uncertain(self) -> NDArray[np.bool_]:
        """(n,) whether not even the sign is known."""
        return (self.low <= 0) & (self.high >= 0) & (self.low != self.high)


def extract_surface(
    signed_distance: SignedDistance,
    bounds: Bounds,
    resolution: int,
    options: SurfaceOptions | None = None,
    last: Band | None = None,
) -> Surface:
    """Return the zero level of a signed distance, with the triangles of the dense grid in fewer evaluations.

    Args:
        signed_distance: negative inside. It is also asked up to a coarse cell beyond the highest corner of the box.
        bounds: lowest and highest corner of the box to search.
        resolution: cells along the longest side of the box.
        options: how evaluations are saved.
        last: band of the frame before, whose values bound this frame's with `options.change_limit`.

    Returns:
        The surface, open where it leaves the box, empty where the box holds none.

    Raises:
        ValueError: the box is empty, or a value is not finite.
    """
    chosen = SurfaceOptions() if options is None else options
    grid = Grid.over(bounds, resolution, chosen.coarsest)
    slope = chosen.lipschitz * grid.cell
    evaluator = _Evaluator(grid, signed_distance)
    step = chosen.coarsest
    level = _first_level(grid, step)
    while True:
        if last is not None and last.grid == grid and np.isfinite(chosen.change_limit):
            _bound_by_last(level, last, chosen.change_limit)
        evaluator.evaluate(level, level.is_uncertain)
        if step == 1:
            break
        children = _divide(grid, level, step, slope)
        if chosen.interpolate and step == 2:
            _complete_support(grid, evaluator, level)
            evaluator.support = _Support(grid, level, chosen.kink)
        level, step = children, step // 2
    edges = level.corners[:, _EDGES].reshape(-1, 2)
    crossed = (level.low[edges].min(axis=1) <= 0) & (level.high[edges].max(axis=1) >= 0)
    is_end = np.zeros(len(level.keys), bool)
    is_end[edges[crossed]] = True
    evaluator.evaluate(level, is_end)
    vertices, faces = _march(grid, level)
    return Surface(vertices, faces, evaluator.num_evaluations, evaluator.num_contradictions, evaluator.band())


def extract_dense_surface(
    signed_distance: SignedDistance, bounds: Bounds, resolution: int
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return vertices and faces from evaluating the whole grid: the plain reference of `extract_surface`."""
    grid = Grid.over(bounds, resolution)
    values = np.empty(grid.num_corners)
    for first in range(0, len(values), 10 * _CHUNK):
        keys = np.arange(first, min(first + 10 * _CHUNK, len(values)))
        values[keys] = signed_distance(grid.points(grid.coordinates(keys)))
    points = grid.points(grid.coordinates(np.arange(len(values))))
    nx, ny, nz = (count + 1 for count in grid.cells)
    vertices, faces, _ = igl.marching_cubes(values, points, nx, ny, nz, 0.0)
    return vertices, faces


class _Evaluator:
    """Evaluates corners of a grid, each once."""

    def __init__(self, grid: Grid, signed_distance: SignedDistance) -> None:
        self._grid = grid
        self._signed_distance = signed_distance
        self._keys: list[NDArray[np.int64]] = []
        self._values: list[FloatArray] = []
        self.num_contradictions = 0
        self.support: _Support | None = None
        """Interpolate between these corners where that is close enough."""

    @property
    def num_evaluations(self) -> int:
        return sum(len(each) for each in self._keys)

    def evaluate(self, level: _Level, wanted: NDArray[np.bool_]) -> None:
        """Make the values of corners known where they are not."""
        needed = np.flatnonzero(wanted & (level.low != level.high))
        if self.support is not None:
            values = self.support.interpolate(level.keys[needed])
            found = np.isfinite(values)
            level.low[needed[found]] = level.high[needed[found]] = values[found]
            needed = needed[~found]
        if not len(needed):
            return
        points = self._grid.points(self._grid.coordinates(level.keys[needed]))
        values = np.asarray(self._signed_distance(points), dtype=np.float64)
        if values.shape != (len(points),):
            raise ValueError(f"signed_distance must return ({len(points)},) for as many points, got {values.shape}")
        if not np.isfinite(values).all():
            raise ValueError("signed_distance must be finite everywhere in the box; check the codes it is made from")
        slack = _ROUNDING * self._grid.cell
        excluded = (values < level.low[needed] - slack) | (values > level.high[needed] + slack)
        self.num_contradictions += int(excluded.sum())
        level.low[needed] = level.high[needed] = values
        self._keys.append(level.keys[needed])
        self._values.append(values)

    def band(self) -> Band:
        """Return what was evaluated."""
        keys = np.concatenate([np.empty(0, np.int64), *self._keys])
        order = np.argsort(keys)
        return Band(self._grid, keys[order], np.concatenate([np.empty(0), *self._values])[order])


def _first_level(grid: Grid, step: int) -> _Level:
    axes = [np.arange(0, count, step) for count in grid.cells]
    cells = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    keys, corners = np.unique(grid.numbers(cells[:, None] + step * CELL_CORNERS), return_inverse=True)
    unknown = np.full(len(keys), np.inf)
    return _Level(keys, -unknown, unknown, cells, corners.reshape(-1, 8))


def _bound_by_last(level: _Level, last: Band, change_limit: float) -> None:
    if not len(last.keys):
        return
    place = np.minimum(np.searchsorted(last.keys, level.keys), len(last.keys) - 1)
    found = (last.keys[place] == level.keys) & (level.low != level.high)
    values = last.values[place[found]]
    level.low[found] = np.maximum(level.low[found], values - change_limit)
    level.high[found] = np.minimum(level.high[found], values + change_limit)


def _divide(grid: Grid, level: _Level, step: int, slope: float) -> _Level:
    """Return the next finer level: the children of cells whose sign is not known throughout.

    Args:
        grid: the grid.
        level: the coarser level.
        step: its cells' edge, in cells of the grid.
        slope: largest change of a value along an edge of a cell of the grid.
    """
    diagonal = np.sqrt(3.0) * step * slope * (1 + _ROUNDING)
    # As far as the nearest corner, a point of a cell lies within half its diagonal; as far as any, within all of it.
    low, high = level.low[level.corners], level.high[level.corners]
    outside = (low.min(axis=1) > diagonal / 2) | (low.max(axis=1) > diagonal)
    inside = (high.max(axis=1) < -diagonal / 2) | (high.min(axis=1) < -diagonal)
    kept = ~(outside | inside)
    low, high, cells = low[kept], high[kept], level.cells[kept]
    half = step // 2
    numbers = grid.numbers(cells[:, None] + half * _HALVES)  # (m, 27)
    keys, inverse = _unique(numbers, grid.num_padded_corners)
    child_low, child_high = np.full(len(keys), -np.inf), np.full(len(keys), np.inf)
    reach = _TO_CORNERS * (half * slope)
    reach = np.where(reach > 0, reach + _ROUNDING * slope, 0.0)
    for first in range(0, len(cells), _CHUNK):
        part = slice(first, first + _CHUNK)
        np.maximum.at(child_low, inverse[part], (low[part, None] - reach).max(axis=2))
        np.minimum.at(child_high, inverse[part], (high[part, None] + reach).min(axis=2))
    children = (cells[:, None] + half * CELL_CORNERS).reshape(-1, 3)
    places = (CELL_CORNERS[:, None] + CELL_CORNERS[None]) @ np.array([9, 3, 1])  # (8, 8) of the 27
    corners = inverse[:, places].reshape(-1, 8)
    in_box = (children < grid.cells).all(axis=1)
    return _Level(keys, child_low, child_high, children[in_box], corners[in_box])


def _unique(numbers: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rising distinct numbers, all below `count`, and where each is among them; without sorting."""
    present = np.zeros(count, bool)
    present[numbers] = True
    keys = np.flatnonzero(present)
    place = np.empty(count, np.int32)  # only the pages that are written take memory
    place[keys] = np.arange(len(keys), dtype=np.int32)
    return keys, place[numbers].astype(np.int64)


def _complete_support(grid: Grid, evaluator: _Evaluator, level: _Level) -> None:
    """Evaluate what interpolation needs: corners of the crossed cells, and neighbours of the nearest ones."""
    low, high = level.low[level.corners], level.high[level.corners]
    is_crossed = (low.min(axis=1) <= 0) & (high.max(axis=1) >= 0)
    wanted = np.zeros(len(level.keys), bool)
    wanted[level.corners[is_crossed]] = True
    evaluator.evaluate(level, wanted)
    near = np.flatnonzero((level.low == level.high) & (np.abs(level.low) <= _BENDS_BAND * 2 * grid.cell))
    wanted[:] = False
    for offset in 2 * np.concatenate([np.eye(3, dtype=np.int64), -np.eye(3, dtype=np.int64)]):
        index = _indices_at(grid, level.keys, grid.coordinates(level.keys[near]) + offset)
        wanted[index[index >= 0]] = True
    evaluator.evaluate(level, wanted)


def _march(grid: Grid, level: _Level) -> tuple[FloatArray, NDArray[np.int64]]:
    signed = np.where(level.low > 0, level.low, level.high)
    is_positive = signed[level.corners] > 0
    is_crossed = is_positive.any(axis=1) & ~is_positive.all(axis=1)
    if not is_crossed.any():
        return np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    # In the order of the dense grid, so that even the rounding is that of the dense extraction.
    order = np.argsort(grid.numbers(level.cells[is_crossed]))
    used, corners = _unique(level.corners[is_crossed][order], len(level.keys))
    points = grid.points(grid.coordinates(level.keys[used]))
    # A side without an evaluated value is known to be far enough: any value of its sign does.
    vertices, faces, _ = igl.marching_cubes(signed[used], points, corners, 0.0)
    return vertices, faces


class _Support:
    """Corners of a level of step 2, and interpolation between them.

    Args:
        grid: the grid.
        level: the corners.
        kink: second differences above this share of their spacing are bends too sharp.
    """

    def __init__(self, grid: Grid, level: _Level, kink: float) -> None:
        self._grid = grid
        self._keys = level.keys
        self._limit = kink * 2 * grid.cell
        self._known = np.where(level.low == level.high, level.low, np.nan)
        places = grid.coordinates(level.keys)
        offsets = 2 * np.eye(3, dtype=np.int64)
        sums = [self._values_at(places + offset) + self._values_at(places - offset) for offset in offsets]
        self._bends = np.stack([each - 2 * self._known for each in sums], axis=1)
        """(n, 3) second differences along each axis, NaN where a neighbour is not known."""

    def interpolate(self, keys: NDArray[np.int64]) -> FloatArray:
        """Return values between the corners, NaN where they bend too sharply or too little is known.

        Along each axis with an odd coordinate it is the cubic through four corners: the mean of the two neighbours
        less an eighth of their mean second difference.
        """
        coordinates = self._grid.coordinates(keys)
        odd = coordinates % 2
        total, bend_sum = np.zeros(len(keys)), np.zeros((len(keys), 3))
        bend_count, sharpest = np.zeros((len(keys), 3)), np.zeros(len(keys))
        for offset in 2 * CELL_CORNERS - 1:
            index = _indices_at(self._grid, self._keys, coordinates + offset * odd)
            total += np.where(index >= 0, self._known[index], np.nan) / 8
            bends = np.where((index >= 0)[:, None], self._bends[index], np.nan)
            is_known = np.isfinite(bends)
            bend_sum += np.where(is_known, bends, 0.0)
            bend_count += is_known
            sharpest = np.maximum(sharpest, np.where(is_known & (odd > 0), np.abs(bends), 0.0).max(axis=1))
        with np.errstate(invalid="ignore"):
            values: FloatArray = total - np.where(odd > 0, bend_sum / bend_count, 0.0).sum(axis=1) / 8
        values[sharpest > self._limit] = np.nan
        return values

    def _values_at(self, coordinates: NDArray[np.int64]) -> FloatArray:
        index = _indices_at(self._grid, self._keys, coordinates)
        return np.where(index >= 0, self._known[index], np.nan)


def _indices_at(grid: Grid, keys: NDArray[np.int64], coordinates: NDArray[np.int64]) -> NDArray[np.int64]:
    numbers = grid.numbers(coordinates)
    place = np.minimum(np.searchsorted(keys, numbers), len(keys) - 1)
    inside = ((coordinates >= 0) & (coordinates <= grid.padded_cells)).all(axis=1)
    return np.where((keys[place] == numbers) & inside, place, -1)
