"""Seconds and evaluations of surface extraction from the built-in head's signed distance.

    python -m benchmarks.surface_extraction [--resolutions 64 128 256] [--dense]

The head is talking: each frame opens the jaw a little further. Printed for each resolution are the evaluations of the
dense cube (resolution to the third) and of the dense grid over the head's own box, then for each way of extraction its
evaluations, how many times fewer that is, seconds in all and without the evaluations, and for those that interpolate
the distance of the vertices from the exact surface. With --dense the dense grid is evaluated too and its triangles are
compared. Threads: set OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import igl
import numpy as np
from numpy.typing import NDArray

from torch_backend.geometry.grid import Bounds, Grid
from torch_backend.geometry.iso_surface import Band, Surface, SurfaceOptions, extract_dense_surface, extract_surface
from torch_backend.head.head import Head, load_head
from torch_backend.head.signed_distance import signed_distance

_MARGIN_M = 0.01
_JAW_STEP = 0.05


class TimedField:
    """The signed distance of the head with an open jaw, and the seconds that it took."""

    def __init__(self, head: Head, jaw_open: float) -> None:
        self._head = head
        self._weights = {"jawOpen": jaw_open}
        self.seconds = 0.0

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (Q,) metres."""
        start = time.perf_counter()
        values = signed_distance(self._head, points, self._weights)
        self.seconds += time.perf_counter() - start
        return values


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resolutions", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--dense", action="store_true", help="evaluate the dense grid too and compare the triangles")
    options = parser.parse_args(arguments)
    head = load_head()
    rest, opened = head.pose({}), head.pose({"jawOpen": 0.5 + _JAW_STEP})
    low = np.minimum(rest, opened).min(axis=0) - _MARGIN_M
    high = np.maximum(rest, opened).max(axis=0) + _MARGIN_M
    box = (tuple(low.tolist()), tuple(high.tolist()))
    steps = np.linalg.norm(opened - head.pose({"jawOpen": 0.5}), axis=1)
    for resolution in options.resolutions:
        measure(head, box, resolution, float(steps.max()), options.dense)
    return 0


def measure(head: Head, box: Bounds, resolution: int, change_limit: float, dense: bool) -> None:
    """Print the lines of one resolution."""
    show(f"resolution {resolution}: cube {resolution**3:,}, box {Grid.over(box, resolution).num_corners:,} evaluations")
    before = extract_surface(TimedField(head, 0.5), box, resolution)
    exact = timed("exact", head, box, resolution, SurfaceOptions())
    reused = timed("frame before", head, box, resolution, SurfaceOptions(change_limit=change_limit), before.band)
    show(f"  the same triangles with the frame before: {is_same(reused, exact.vertices, exact.faces)}")
    near = timed("interpolated", head, box, resolution, SurfaceOptions(interpolate=True))
    squared = igl.point_mesh_squared_distance(near.vertices, exact.vertices, exact.faces)[0]
    shares = ", ".join(f"{share:.1%} {1000 * np.quantile(np.sqrt(squared), share):.3f}" for share in (0.5, 0.95, 0.999))
    show(f"  its distance from the exact surface, mm: {shares}, most {1000 * np.sqrt(squared.max()):.3f}")
    if dense:
        start = time.perf_counter()
        vertices, faces = extract_dense_surface(TimedField(head, 0.5 + _JAW_STEP), box, resolution)
        show(f"  dense: {time.perf_counter() - start:.1f} s, the same triangles: {is_same(exact, vertices, faces)}")


def timed(
    name: str, head: Head, box: Bounds, resolution: int, options: SurfaceOptions, last: Band | None = None
) -> Surface:
    """Extract one frame and print what it took."""
    field = TimedField(head, 0.5 + _JAW_STEP)
    start = time.perf_counter()
    surface = extract_surface(field, box, resolution, options, last)
    seconds = time.perf_counter() - start
    count = surface.num_evaluations
    dense = Grid.over(box, resolution).num_corners
    show(
        f"  {name}: {count:,} evaluations, {resolution**3 / count:.0f}x fewer than the cube, {dense / count:.0f}x than "
        f"the box; {seconds:.2f} s, {seconds - field.seconds:.2f} s without them; {len(surface.vertices):,} vertices, "
        f"{surface.num_contradictions} contradictions"
    )
    return surface


def is_same(surface: Surface, vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> bool:
    """Whether two meshes are equal to the last bit."""
    return np.array_equal(surface.faces, faces) and np.array_equal(surface.vertices, vertices)


def show(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
