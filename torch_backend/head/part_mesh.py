"""A small mesh of one head part, and the sweep that closes rings of points into a solid (author space, cm)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from torch_backend.head.author_space import Array


@dataclass(frozen=True)
class PartMesh:
    """Vertices, faces, colours and jaw membership of one part."""

    vertices: Array
    """(V, 3) cm."""
    polygons: list[list[int]]
    """Oriented like the skin's author-space polygons."""
    colors: Array
    """(V, 3) linear RGB, 0..1."""
    follows_jaw: NDArray[np.bool_]
    """(V,) whether the vertex moves with the lower jaw."""


def merge_parts(parts: Sequence[PartMesh]) -> PartMesh:
    """Concatenate meshes into one."""
    starts = np.cumsum([0] + [len(part.vertices) for part in parts])
    polygons = [
        [int(i + start) for i in polygon]
        for part, start in zip(parts, starts[:-1], strict=True)
        for polygon in part.polygons
    ]
    return PartMesh(
        vertices=np.concatenate([part.vertices for part in parts]),
        polygons=polygons,
        colors=np.concatenate([part.colors for part in parts]),
        follows_jaw=np.concatenate([part.follows_jaw for part in parts]),
    )


def mirror_part(part: PartMesh) -> PartMesh:
    """Return the part mirrored in x, with its faces turned so that they still point outwards."""
    return PartMesh(
        vertices=part.vertices * np.array([-1.0, 1.0, 1.0]),
        polygons=[polygon[::-1] for polygon in part.polygons],
        colors=part.colors,
        follows_jaw=part.follows_jaw,
    )


def sweep_closed(first_pole: Array, rings: Array, last_pole: Array) -> tuple[Array, list[list[int]]]:
    """Connect rings (R, N, 3) in order into a closed surface with a pole (3,) at each end.

    Returns:
        vertices (2 + R * N, 3), ordered first pole, rings, last pole; and polygons whose normals point outwards in
        author space's left-handed sense (checked by the signed volume, which must come out positive there).
    """
    num_rings, count = rings.shape[:2]
    vertices = np.concatenate([first_pole[None], rings.reshape(-1, 3), last_pole[None]])
    last = len(vertices) - 1
    polygons: list[list[int]] = []
    for j in range(count):
        k = (j + 1) % count
        polygons.append([0, 1 + j, 1 + k])
        for i in range(num_rings - 1):
            a, b = 1 + i * count, 1 + (i + 1) * count
            polygons.append([a + j, b + j, b + k, a + k])
        tail = 1 + (num_rings - 1) * count
        polygons.append([tail + k, tail + j, last])
    triangles = np.array([(p[0], p[i], p[i + 1]) for p in polygons for i in range(1, len(p) - 1)])
    corners = vertices[triangles]
    volume = np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    if volume < 0:
        polygons = [polygon[::-1] for polygon in polygons]
    return vertices, polygons
