"""Symmetric distance between a reconstructed head and the posed built-in one: union of skin and eyeballs, bag apart."""

from __future__ import annotations

from dataclasses import dataclass

import igl
import numpy as np
from numpy.typing import NDArray

from torch_backend.head.head import Head
from torch_backend.head.signed_distance import EYEBALL_MARGIN, SkinDistances, measure_skin

FloatArray = NDArray[np.float64]
REGIONS = ("lips", "eyelids")
_LEFT_OUT = ("mouth_bag", "neck_boundary")
_ON_SURFACE = 2e-6
"""Points further from the union's surface, metres, lie inside it: the hidden part of an eyeball, lids upon it."""


@dataclass(frozen=True)
class HeadDistances:
    """Distances in millimetres, each with the region of the nearest place of the true head."""

    to_truth: FloatArray
    """(n,) from points of the reconstruction to the true surface."""
    to_reconstruction: FloatArray
    """(m,) from points of the true surface to the reconstruction."""
    regions_to_truth: dict[str, NDArray[np.bool_]]
    regions_to_reconstruction: dict[str, NDArray[np.bool_]]

    def pooled(self, region: str | None = None) -> FloatArray:
        """Both directions together, of a region of REGIONS or of all; each direction has the same weight in sum."""
        if region is None:
            return np.concatenate([self.to_truth, self.to_reconstruction])
        return np.concatenate(
            [
                self.to_truth[self.regions_to_truth[region]],
                self.to_reconstruction[self.regions_to_reconstruction[region]],
            ]
        )


class HeadDistanceMeasure:
    """Draws points by area and measures both ways; the mouth bag and the cut of the neck are left out."""

    def __init__(self, head: Head, num_points: int = 20_000, seed: int = 0) -> None:
        """Prepare.

        Args:
            head: identity whose poses are the truth.
            num_points: drawn on either surface.
            seed: of the points.
        """
        self.head, self.num_points, self.seed = head, num_points, seed
        self._skin = head.num_skin_vertices
        self._triangles = head.skin_triangles.astype(np.int64)
        left_out = np.zeros(self._skin, bool)
        for name in _LEFT_OUT:
            left_out[head.regions[name]] = True
        # One row more: the closed bust.
        self._left_out = np.append(left_out[self._triangles].any(axis=1), True)
        self._regions = {}
        for name in REGIONS:
            inside = np.zeros(self._skin, bool)
            inside[head.regions[name]] = True
            self._regions[name] = np.append(inside[self._triangles].all(axis=1), False)

    def measure(self, weights: NDArray[np.floating], vertices: FloatArray, faces: NDArray[np.integer]) -> HeadDistances:
        """Compare a reconstruction with a pose.

        Args:
            weights: (52,) blendshape weights in ARKit order.
            vertices: (V, 3) reconstruction, metres.
            faces: (F, 3).

        Raises:
            ValueError: the reconstruction has no faces.
        """
        if not len(faces):
            raise ValueError("expected a reconstruction with faces, got none")
        generator = np.random.default_rng(self.seed)
        posed = self.head.pose(weights)[: self._skin].astype(np.float64)
        drawn = draw_by_area(vertices, faces, self.num_points, generator)
        found = measure_skin(self.head, drawn, posed, self._triangles)
        kept = ~self._left_out[found.faces] | found.is_eyeball
        true_points, true_found = self._draw_truth(posed, generator)
        squares = igl.point_mesh_squared_distance(true_points, np.ascontiguousarray(vertices), faces.astype(np.int64))[
            0
        ]
        return HeadDistances(
            np.abs(found.distances[kept]) * 1e3,
            np.sqrt(squares) * 1e3,
            {name: mask[found.faces[kept]] & ~found.is_eyeball[kept] for name, mask in self._regions.items()},
            {name: mask[true_found.faces] & ~true_found.is_eyeball for name, mask in self._regions.items()},
        )

    def _draw_truth(self, posed: FloatArray, generator: np.random.Generator) -> tuple[FloatArray, SkinDistances]:
        """Points of the union's surface by area, and what is nearest to each."""
        used = self._triangles[~self._left_out[:-1]]
        skin_area, radius = _areas(posed, used).sum(), self.head.eye_radius + EYEBALL_MARGIN
        ball_area = 4 * np.pi * radius**2
        on_skin = draw_by_area(posed, used, self.num_points, generator)
        count = round(self.num_points * ball_area / skin_area)
        rays = generator.normal(size=(2, count, 3))
        rays /= np.linalg.norm(rays, axis=2, keepdims=True)
        on_balls = (self.head.eye_centers[:, None] + radius * rays).reshape(-1, 3)
        points = np.concatenate([on_skin, on_balls])
        found = measure_skin(self.head, points, posed, self._triangles)
        kept = np.abs(found.distances) < _ON_SURFACE
        return points[kept], SkinDistances(
            found.distances[kept],
            found.faces[kept],
            found.nearest[kept],
            (np.arange(len(points)) >= len(on_skin))[kept],
        )


def draw_by_area(
    vertices: FloatArray, faces: NDArray[np.integer], count: int, generator: np.random.Generator
) -> FloatArray:
    """Return points (count, 3) of a mesh, uniform by area."""
    chances = np.cumsum(_areas(vertices, faces))
    chosen = np.minimum(np.searchsorted(chances, generator.random(count) * chances[-1]), len(faces) - 1)
    first, second = generator.random((2, count, 1))
    root = np.sqrt(first)
    one, two, three = vertices[faces[chosen]].transpose(1, 0, 2)
    points: FloatArray = (1 - root) * one + root * (1 - second) * two + root * second * three
    return points


def _areas(vertices: FloatArray, faces: NDArray[np.integer]) -> FloatArray:
    corners = vertices[faces]
    areas: FloatArray = (
        np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    )
    return areas
