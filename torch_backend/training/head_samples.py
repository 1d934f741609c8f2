"""What a neural head model learns the built-in head from: signed distances, and where points of a pose come from.

Everything is in the model's unit, (metres - center) / metres_per_unit, with the backend's axes. Canonical is the
identity in the pose of head/head_space.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from torch_backend.head import Head
from torch_backend.head.head_space import HeadSpace, canonical_weights
from torch_backend.head.identity import apply_identity, identity_jacobians
from torch_backend.head.identity_codes import load_identity_codes
from torch_backend.head.signed_distance import measure_skin

FloatArray = NDArray[np.float32]
_FINE_REGIONS = ("lips", "eyelids")
_SPREAD_SIGMAS = 3.0


@dataclass(frozen=True)
class HeadSamplesConfig:
    """How many points of each kind, and how far from the surface."""

    near_points: int = 2600
    """Points near the surface, in equal parts of each spread."""
    near_spreads_mm: tuple[float, ...] = (0.7, 2.5, 10.0)
    """Standard deviations of their distance from a point of the surface, each axis."""
    box_points: int = 400
    """Points anywhere in the box."""
    motion_share: float = 0.4
    """Share of surface points that are drawn where blendshapes move the skin, in proportion to the largest share of a
    blendshape's reach."""
    fine_share: float = 0.3
    """Share of surface points that are drawn on lips and eyelids, by area."""
    box_margin_mm: float = 15.0
    """The box reaches this far beyond the mean head at rest."""

    def __post_init__(self) -> None:
        if min(self.near_points, self.box_points) < 0 or not self.near_spreads_mm:
            raise ValueError(f"expected numbers of points of at least 0 and a spread, got {self}")
        if min(self.motion_share, self.fine_share) < 0 or self.motion_share + self.fine_share > 1.0:
            raise ValueError(f"motion_share and fine_share must be at least 0 and at most 1 together, got {self}")


@dataclass(frozen=True, eq=False)
class SampledFace:
    """An identity that is drawn from."""

    head: Head
    code: FloatArray
    """(1344,) identity code."""
    jacobians: FloatArray | None
    """(Vskin, 3, 3) that carry the mean head's displacements over; None for the mean head."""
    canonical: NDArray[np.float64]
    """(Vskin, 3) canonical skin, metres."""
    canonical_units: FloatArray
    """(Vskin, 3) the same in the model's unit."""
    anchors: FloatArray
    """(39, 3) canonical places of the members' anchors, in the model's unit."""


@dataclass(frozen=True)
class DistanceSamples:
    """Points with their signed distances, in the model's unit."""

    points: FloatArray
    """(Q, 3) posed space."""
    distances: FloatArray
    """(Q,) negative inside; of skin and eyeballs together."""
    canonical: FloatArray
    """(Q, 3) where the points come from: as far from the same place of the canonical surface, along its normal."""


class HeadSampler:
    """Draws samples of poses; a head is the mean one or an identity of the same topology."""

    def __init__(self, mean_head: Head, config: HeadSamplesConfig, space: HeadSpace) -> None:
        """Prepare the shares of the surface.

        Args:
            mean_head: gives the box, and where expressions move the skin.
            config: numbers and spreads.
            space: the model's unit.
        """
        self.config, self.space, self.mean_head = config, space, mean_head
        self._skin = mean_head.num_skin_vertices
        self.triangles = mean_head.skin_triangles.astype(np.int64)
        rest = mean_head.vertices[: self._skin].astype(np.float64)
        margin = config.box_margin_mm * 1e-3
        self.box_m = np.stack([rest.min(axis=0) - margin, rest.max(axis=0) + margin])
        self._chances = np.cumsum(self._face_chances(rest))
        self._fields = mean_head.blendshapes[:, : self._skin].reshape(len(mean_head.blendshapes), -1)

    @property
    def box(self) -> FloatArray:
        """(2, 3) lower and upper corner of the box in the model's unit: the bounds to extract surfaces in."""
        return self.space.to_model(self.box_m)

    def make_face(self, parameters: Mapping[str, float]) -> SampledFace:
        """Return the identity of parameters as something to draw from."""
        codes = load_identity_codes()
        head = apply_identity(self.mean_head, parameters)
        jacobians = None
        if head is not self.mean_head:
            jacobians = identity_jacobians(self.mean_head, parameters)[: self._skin]
        canonical = head.pose(canonical_weights())[: self._skin].astype(np.float64)
        units = self.space.to_model(canonical)
        return SampledFace(head, codes.encode(parameters), jacobians, canonical, units, units[codes.anchors])

    def draw_distances(
        self, face: SampledFace, weights: NDArray[np.floating], generator: np.random.Generator
    ) -> DistanceSamples:
        """Signed distances near the posed surface and in the box, as many points as the settings say.

        Args:
            face: the identity.
            weights: (52,) blendshape weights in ARKit order.
            generator: all randomness comes from here.
        """
        posed = face.head.pose(weights)[: self._skin].astype(np.float64)
        faces, barycentric = self.draw_places(self.config.near_points, generator)
        surface = _interpolate(posed[self.triangles[faces]], barycentric)
        spreads = np.resize(np.array(self.config.near_spreads_mm) * 1e-3, len(surface))
        offsets = np.clip(generator.normal(size=surface.shape), -_SPREAD_SIGMAS, _SPREAD_SIGMAS)
        near = surface + offsets * spreads[:, None]
        anywhere = generator.uniform(self.box_m[0], self.box_m[1], (self.config.box_points, 3))
        points = np.clip(np.concatenate([near, anywhere]), self.box_m[0], self.box_m[1])
        found = measure_skin(face.head, points, posed, self.triangles)
        canonical = self._carry_back(face, posed, points, found.faces, found.nearest)
        still = found.is_eyeball | (found.faces == len(self.triangles))
        canonical[still] = points[still]
        distances = found.distances / self.space.metres_per_unit
        return DistanceSamples(
            self.space.to_model(points), distances.astype(np.float32), self.space.to_model(canonical)
        )

    def draw_correspondences(
        self,
        faces: Sequence[SampledFace],
        weights: NDArray[np.floating],
        count: int,
        spread_mm: float,
        generator: np.random.Generator,
    ) -> tuple[FloatArray, FloatArray]:
        """Points at and close to the skin, and where they are in the canonical pose; quick, without distances.

        Args:
            faces: E identities.
            weights: (E, 52) a pose of each.
            count: Q points of each.
            spread_mm: half of the points lie beside the skin, along its normal, with this standard deviation.
            generator: all randomness comes from here.

        Returns:
            posed and canonical (E, Q, 3) in the model's unit.
        """
        moved = (weights.astype(np.float32) @ self._fields).reshape(len(faces), self._skin, 3)
        posed, canonical = np.empty((2, len(faces), count, 3), np.float32)
        scale = 1e-3 * spread_mm / self.space.metres_per_unit
        for row, face in enumerate(faces):
            offsets = moved[row] if face.jacobians is None else (face.jacobians @ moved[row][:, :, None])[:, :, 0]
            vertices = self.space.to_model(face.head.vertices[: self._skin] + offsets)
            chosen, barycentric = self.draw_places(count, generator)
            beside = generator.standard_normal((count, 1), np.float32) * scale * (generator.random((count, 1)) < 0.5)
            corners, shares = self.triangles[chosen], barycentric.astype(np.float32)[:, None]
            for target, skin in ((posed, vertices), (canonical, face.canonical_units)):
                triangle = skin[corners]
                normals = _unit(np.cross(triangle[:, 1] - triangle[:, 0], triangle[:, 2] - triangle[:, 0]))
                target[row] = (shares @ triangle)[:, 0] + beside * normals
        return posed, canonical

    def draw_places(self, number: int, generator: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Triangles (n,) and barycentric coordinates (n, 3): by area, motion and fineness."""
        faces = np.searchsorted(self._chances, generator.random(number) * self._chances[-1], side="right")
        faces = np.minimum(faces, len(self._chances) - 1)
        first, second = generator.random((2, number))
        root = np.sqrt(first)
        return faces, np.stack([1.0 - root, root * (1.0 - second), root * second], axis=1)

    def _face_chances(self, rest: NDArray[np.float64]) -> NDArray[np.float64]:
        corners = rest[self.triangles]
        areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        lengths = np.linalg.norm(self.mean_head.blendshapes[:, : self._skin], axis=2)
        # Relative to each blendshape's largest: a lid counts as much as the jaw, which moves four times as far.
        motion = (lengths / np.maximum(lengths.max(axis=1, keepdims=True), 1e-6)).max(axis=0)
        is_fine = np.zeros(self._skin, bool)
        for name in _FINE_REGIONS:
            is_fine[self.mean_head.regions[name]] = True
        parts = (areas, areas * motion[self.triangles].mean(axis=1), areas * is_fine[self.triangles].all(axis=1))
        shares = (1.0 - self.config.motion_share - self.config.fine_share, self.config.motion_share)
        chances: NDArray[np.float64] = sum(
            share * part / part.sum() for share, part in zip((*shares, self.config.fine_share), parts, strict=True)
        )
        return chances

    def _carry_back(
        self,
        face: SampledFace,
        posed: NDArray[np.float64],
        points: NDArray[np.float64],
        faces: NDArray[np.int64],
        nearest: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Points in the frames of their nearest triangles, moved to where those are in the canonical pose."""
        corners = self.triangles[np.minimum(faces, len(self.triangles) - 1)]
        barycentric = _barycentric(nearest, posed[corners])
        places = _interpolate(face.canonical[corners], barycentric)
        before, after = (_frames(skin[corners]) for skin in (posed, face.canonical))
        away = np.einsum("nij,nj->ni", before.transpose(0, 2, 1), points - nearest)
        carried: NDArray[np.float64] = places + np.einsum("nij,nj->ni", after, away)
        return carried


def _interpolate(values: NDArray[np.float64], barycentric: NDArray[np.float64]) -> NDArray[np.float64]:
    mixed: NDArray[np.float64] = np.einsum("nk,nkc->nc", barycentric, values)
    return mixed


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _frames(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal frames (n, 3, 3) of triangles (n, 3, 3): along the first edge, in the plane, normal."""
    first = _unit(corners[:, 1] - corners[:, 0])
    normal = _unit(np.cross(first, corners[:, 2] - corners[:, 0]))
    return np.stack([first, np.cross(normal, first), normal], axis=2)


def _barycentric(points: NDArray[np.float64], corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coordinates (n, 3) of points in the planes of triangles (n, 3, 3)."""
    one, two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normal = np.cross(one, two)
    square = np.maximum(np.einsum("ni,ni->n", normal, normal), 1e-24)
    away = points - corners[:, 0]
    second = np.einsum("ni,ni->n", np.cross(away, two), normal) / square
    third = np.einsum("ni,ni->n", np.cross(one, away), normal) / square
    return np.stack([1.0 - second - third, second, third], axis=1)
