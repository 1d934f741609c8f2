"""What a neural head model learns the built-in head from: signed distances and where points of a pose come from.

Everything is in the model's unit, (metres - center) / metres_per_unit, with the backend's axes. Canonical is the
identity at rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from torch_backend.head import Head
from torch_backend.head.head import compute_vertex_normals
from torch_backend.head.signed_distance import signed_distance

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class HeadSpace:
    """Where the model's unit lies in the backend's metres: the head fills about -0.5 to 0.5, as official heads do."""

    metres_per_unit: float = 0.25
    """Length of the model's unit."""
    center_y_m: float = -0.03
    """Height of the model's origin."""
    center_z_m: float = 0.02
    """Depth of the model's origin."""

    def __post_init__(self) -> None:
        if self.metres_per_unit <= 0:
            raise ValueError(f"metres_per_unit must be over 0, got {self.metres_per_unit}")

    @property
    def center(self) -> NDArray[np.float64]:
        """(3,) the origin in metres; it lies on the plane of symmetry."""
        return np.array([0.0, self.center_y_m, self.center_z_m])

    def to_model(self, points: NDArray[np.floating]) -> FloatArray:
        """(..., 3) metres to the model's unit."""
        scaled: FloatArray = ((points - self.center) / self.metres_per_unit).astype(np.float32)
        return scaled

    def to_metres(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """(..., 3) of the model's unit to metres."""
        moved: NDArray[np.float64] = points.astype(np.float64) * self.metres_per_unit + self.center
        return moved


@dataclass(frozen=True)
class HeadSamplesConfig:
    """How many points of each kind, and how far from the surface."""

    near_points: int = 4000
    """Points near the surface, in equal parts of each spread."""
    near_spreads_mm: tuple[float, ...] = (1.0, 5.0, 20.0)
    """Standard deviations of their distance from a point of the surface, each axis."""
    box_points: int = 1000
    """Points anywhere in the box."""
    correspondences: int = 2000
    """Points of the skin with their canonical places."""
    correspondence_spread_mm: float = 1.0
    """Standard deviation of their way along the normal, the same at both places."""
    face_share: float = 0.5
    """Share of surface points that are drawn where expressions move the skin, in proportion to the motion's size."""
    box_margin_mm: float = 15.0
    """The box reaches this far beyond the mean head at rest."""

    def __post_init__(self) -> None:
        if min(self.near_points, self.box_points, self.correspondences) < 0 or not self.near_spreads_mm:
            raise ValueError(f"expected numbers of points of at least 0 and a spread, got {self}")
        if not 0.0 <= self.face_share <= 1.0:
            raise ValueError(f"face_share must be in 0..1, got {self.face_share}")


@dataclass(frozen=True)
class DistanceSamples:
    """Points with their signed distances, both in the model's unit."""

    points: FloatArray
    """(Q, 3) posed space."""
    distances: FloatArray
    """(Q,) negative inside; of skin and eyeballs together."""


@dataclass(frozen=True)
class Correspondences:
    """The same points of the skin in a pose and at rest, in the model's unit."""

    posed: FloatArray
    """(C, 3)."""
    canonical: FloatArray
    """(C, 3); canonical - posed is what the backward deformation predicts."""


class HeadSampler:
    """Draws samples of poses of heads; a head is the mean one or an identity of the same topology."""

    def __init__(self, mean_head: Head, config: HeadSamplesConfig, space: HeadSpace) -> None:
        """Prepare the shares of the surface.

        Args:
            mean_head: gives the box, and where expressions move the skin.
            config: numbers and spreads.
            space: the model's unit.
        """
        self.config, self.space = config, space
        skin = mean_head.num_skin_vertices
        rest = mean_head.vertices[:skin].astype(np.float64)
        margin = config.box_margin_mm * 1e-3
        self.box_m = np.stack([rest.min(axis=0) - margin, rest.max(axis=0) + margin])
        motion = np.linalg.norm(mean_head.blendshapes[:, :skin], axis=2).max(axis=0)
        self._face_motion = motion[mean_head.skin_triangles].mean(axis=1).astype(np.float64)

    @property
    def box(self) -> FloatArray:
        """(2, 3) lower and upper corner of the box in the model's unit: the bounds to extract surfaces in."""
        return self.space.to_model(self.box_m)

    def draw_distances(
        self, head: Head, weights: NDArray[np.floating], generator: np.random.Generator
    ) -> DistanceSamples:
        """Signed distances near the posed surface and in the box.

        Args:
            head: the identity.
            weights: (52,) blendshape weights in ARKit order.
            generator: all randomness comes from here.

        Raises:
            ValueError: the weights have another shape.
        """
        posed = head.pose(weights)[: head.num_skin_vertices].astype(np.float64)
        faces, barycentric = self._draw_places(head, posed, self.config.near_points, generator)
        surface = _interpolate(posed, head.skin_triangles[faces], barycentric)
        spreads = np.resize(np.array(self.config.near_spreads_mm) * 1e-3, len(surface))
        near = surface + generator.normal(size=surface.shape) * spreads[:, None]
        anywhere = generator.uniform(self.box_m[0], self.box_m[1], (self.config.box_points, 3))
        points = np.concatenate([near, anywhere])
        points = points[((points >= self.box_m[0]) & (points <= self.box_m[1])).all(axis=1)]
        distances = signed_distance(head, points, weights) / self.space.metres_per_unit
        return DistanceSamples(self.space.to_model(points), distances.astype(np.float32))

    def draw_correspondences(
        self, head: Head, weights: NDArray[np.floating], generator: np.random.Generator
    ) -> Correspondences:
        """Points at and beside the posed skin, and where they are at rest.

        Args:
            head: the identity.
            weights: (52,) blendshape weights in ARKit order.
            generator: all randomness comes from here.

        Raises:
            ValueError: the weights have another shape.
        """
        skin = head.num_skin_vertices
        rest, posed = head.vertices[:skin].astype(np.float64), head.pose(weights)[:skin].astype(np.float64)
        faces, barycentric = self._draw_places(head, posed, self.config.correspondences, generator)
        corners = head.skin_triangles[faces]
        beside = generator.normal(size=(len(faces), 1)) * self.config.correspondence_spread_mm * 1e-3
        places = []
        for vertices in (posed, rest):
            normals = _interpolate(
                compute_vertex_normals(vertices, head.skin_triangles).astype(np.float64), corners, barycentric
            )
            normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
            places.append(self.space.to_model(_interpolate(vertices, corners, barycentric) + beside * normals))
        return Correspondences(places[0], places[1])

    def _draw_places(
        self, head: Head, posed: NDArray[np.float64], number: int, generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Triangles (n,) and barycentric coordinates (n, 3): by area, and by area times motion."""
        corners = posed[head.skin_triangles]
        areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        moving = areas * self._face_motion
        share = self.config.face_share
        chances = (1.0 - share) * areas / areas.sum() + share * moving / moving.sum()
        faces = generator.choice(len(chances), size=number, p=chances / chances.sum())
        first, second = generator.uniform(size=(2, number))
        root = np.sqrt(first)
        return faces, np.stack([1.0 - root, root * (1.0 - second), root * second], axis=1)


def _interpolate(
    values: NDArray[np.float64], corners: NDArray[np.integer], barycentric: NDArray[np.float64]
) -> NDArray[np.float64]:
    mixed: NDArray[np.float64] = np.einsum("nk,nkc->nc", barycentric, values[corners])
    return mixed
