"""The surface that samples are drawn on, and the curves on it that every sampling must keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from torch_backend.geometry.mesh_topology import (
    IntArray,
    as_triangles,
    boundary_loops,
    directed_edges,
    find_manifold_problem,
    loop_length,
    unique_edges,
)

FloatArray = NDArray[np.float64]

CREASE_REGIONS = ("lid_margin", "lips")
"""Regions whose outlines are kept as lines: the lids' edges and the vermilion border."""


@dataclass(frozen=True, eq=False)
class SurfaceTemplate:
    """A disc with holes and its map to the plane.

    Raises:
        ValueError: on construction, when shapes do not fit or the triangles are no manifold with a boundary.
    """

    vertices: NDArray[np.floating]
    """(V, 3) rest positions, metres, backend model space."""
    triangles: NDArray[np.integer]
    """(F, 3) counter-clockwise from outside."""
    uv: NDArray[np.floating]
    """(V, 2) plane positions without flipped triangles, from `conformal_parameterization`."""
    regions: Mapping[str, NDArray[np.integer]] = field(default_factory=dict)
    """Named vertex sets. Those in CREASE_REGIONS give lines; "mouth_bag" is the inside of the mouth."""
    key_points: NDArray[np.integer] = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    """Landmark vertices; sampling is densest near them."""
    lip_contact_pairs: NDArray[np.integer] = field(default_factory=lambda: np.empty((0, 2), dtype=np.int32))
    """(n, 2) upper and lower vertices that touch when the lips are closed, from one corner of the mouth to the other,
    without the corners."""

    def __post_init__(self) -> None:
        """Check shapes and topology."""
        faces = as_triangles(self.triangles, len(self.vertices))
        if np.shape(self.vertices) != (len(self.vertices), 3) or np.shape(self.uv) != (len(self.vertices), 2):
            raise ValueError(
                f"SurfaceTemplate: expected vertices (V, 3) and uv (V, 2), got {np.shape(self.vertices)} and "
                f"{np.shape(self.uv)}"
            )
        problem = find_manifold_problem(faces)
        if problem is not None:
            raise ValueError(f"SurfaceTemplate: expected a manifold, got a mesh where {problem}")
        if not boundary_loops(faces):
            raise ValueError("SurfaceTemplate: expected a surface with a boundary, got a closed one")

    @cached_property
    def faces(self) -> IntArray:
        """(F, 3) triangles as int64."""
        return np.asarray(self.triangles, dtype=np.int64)

    @cached_property
    def positions(self) -> FloatArray:
        """(V, 3) vertices as float64."""
        return np.asarray(self.vertices, dtype=np.float64)

    @cached_property
    def plane(self) -> FloatArray:
        """(V, 2) uv as float64."""
        return np.asarray(self.uv, dtype=np.float64)

    @cached_property
    def face_areas(self) -> FloatArray:
        """(F,) areas, square metres."""
        corners = self.positions[self.faces]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        areas: FloatArray = 0.5 * np.linalg.norm(cross, axis=1)
        return areas

    @cached_property
    def vertex_normals(self) -> FloatArray:
        """(V, 3) area-weighted unit normals."""
        corners = self.positions[self.faces]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        total = np.zeros_like(self.positions)
        for corner in range(3):
            np.add.at(total, self.faces[:, corner], cross)
        unit: FloatArray = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-30)
        return unit


@dataclass(frozen=True, eq=False)
class FeatureCurve:
    """A chain of template vertices, joined by edges, that samplings keep as a line."""

    vertices: IntArray
    """(n,) in order; a closed curve does not repeat its first vertex."""
    closed: bool
    spacing_factor: float
    """Distance between samples on it, relative to that of the surface round it."""
    min_segments: int
    """Pieces it is never thinned below."""


@dataclass(frozen=True, eq=False)
class FeatureCurves:
    """All lines a sampling keeps."""

    boundaries: list[FeatureCurve]
    """The outer boundary first, then holes."""
    contact: tuple[FeatureCurve, FeatureCurve] | None
    """Upper and lower line where the lips meet, vertex i above vertex i, both from corner to corner."""
    creases: list[FeatureCurve]


def find_feature_curves(surface: SurfaceTemplate) -> FeatureCurves:
    """Return the boundary loops, the lips' contact lines, and the outlines of the crease regions.

    Raises:
        ValueError: when the lip contact pairs are no two chains of edges that share their ends.
    """
    loops = sorted(boundary_loops(surface.faces), key=lambda loop: loop_length(surface.positions, loop), reverse=True)
    boundaries = [FeatureCurve(loops[0], True, 1.2, 12)]
    boundaries += [FeatureCurve(loop, True, 1.5, 8) for loop in loops[1:]]
    contact = _contact_curves(surface)
    taken = set(np.concatenate(loops).tolist())
    if contact is not None:
        taken |= set(contact[0].vertices.tolist()) | set(contact[1].vertices.tolist())
    creases = []
    for name in CREASE_REGIONS:
        for loop in _region_outlines(surface, name):
            if not taken & set(loop.tolist()):
                creases.append(FeatureCurve(loop, True, 0.9, 12))
                taken |= set(loop.tolist())
    return FeatureCurves(boundaries, contact, creases)


def _region_outlines(surface: SurfaceTemplate, name: str) -> list[IntArray]:
    """Return the outlines of the triangles whose corners all lie in a region; none if they are no manifold."""
    member = np.zeros(len(surface.positions), dtype=bool)
    member[np.asarray(surface.regions.get(name, ()), dtype=np.int64)] = True
    inside = surface.faces[member[surface.faces].all(axis=1)]
    if not len(inside) or find_manifold_problem(inside) is not None:
        return []
    return boundary_loops(inside)


def _contact_curves(surface: SurfaceTemplate) -> tuple[FeatureCurve, FeatureCurve] | None:
    pairs = np.asarray(surface.lip_contact_pairs, dtype=np.int64).reshape(-1, 2)
    if not len(pairs):
        return None
    edges = {(int(a), int(b)) for a, b in unique_edges(surface.faces)}
    for side, name in ((0, "upper"), (1, "lower")):
        steps = np.sort(np.stack([pairs[:-1, side], pairs[1:, side]], axis=1), axis=1)
        broken = [tuple(step) for step in steps.tolist() if tuple(step) not in edges]
        if broken:
            raise ValueError(f"lip_contact_pairs: expected {name} vertices in order along edges, {broken[0]} is none")
    ends = [_shared_neighbor(surface, pair) for pair in (pairs[0], pairs[-1])]
    upper, lower = (np.concatenate([ends[:1], pairs[:, side], ends[1:]]) for side in (0, 1))
    return FeatureCurve(upper, False, 0.75, 8), FeatureCurve(lower, False, 0.75, 8)


def _shared_neighbor(surface: SurfaceTemplate, pair: IntArray) -> int:
    """Return the vertex that is joined to both vertices of a pair; of several, the nearest."""
    edges = directed_edges(surface.faces)
    edges = np.concatenate([edges, edges[:, ::-1]])
    common = np.intersect1d(edges[edges[:, 0] == pair[0], 1], edges[edges[:, 0] == pair[1], 1])
    if not len(common):
        raise ValueError(f"lip_contact_pairs: expected a mouth corner joined to both vertices {pair.tolist()}")
    middle = surface.positions[pair].mean(axis=0)
    return int(common[np.linalg.norm(surface.positions[common] - middle, axis=1).argmin()])
