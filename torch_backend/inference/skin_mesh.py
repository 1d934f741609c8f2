"""The mesh of a motion clip: the built-in head's skin at the wanted resolution, then eyes, teeth, gums and tongue."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.contract.errors import UsageError
from blender_talkhead.contract.motion_clip import TEXTURE_FILES
from torch_backend.geometry.quad_pairing import pair_triangles
from torch_backend.geometry.surface_sampling import MIN_POINTS, sample_surface
from torch_backend.head import Head
from torch_backend.head.eye_texture import eye_uv
from torch_backend.models.builders import build_surface_template
from torch_backend.modules.surface_points import SurfacePoints

MAX_POINTS = 200_000
"""More vertices than a face can use; a larger number is taken for a slip of the finger."""
UV_LIMIT = 0.98
"""The head's UV map lies in [-0.98, 0.98]^2; texture coordinates are its place in [0, 1]^2."""
SKIN_TEXTURE = Path(__file__).resolve().parents[1] / "head" / "skin_color.png"


@dataclass(frozen=True)
class SkinMesh:
    """Points of the skin and the polygons between them."""

    points: SurfacePoints
    """M points of the head's skin."""
    polygon_starts: NDArray[np.int32]
    polygon_vertices: NDArray[np.int32]
    uv: NDArray[np.float32]
    """(M, 2) in [-0.98, 0.98]."""
    regions: dict[str, NDArray[np.int32]]


def build_skin_mesh(
    head: Head, num_vertices: int | None, seed: int, probabilities: NDArray[np.floating] | None
) -> SkinMesh:
    """Points and polygons of the skin.

    Args:
        head: the built-in head.
        num_vertices: vertices of the skin; None keeps the head's own mesh of quads.
        seed: of the draw.
        probabilities: (F,) learned sampling probabilities of the skin's triangles; None for the initial ones.

    Raises:
        UsageError: `num_vertices` is out of range.
    """
    if num_vertices is None:
        return _own_mesh(head)
    if not MIN_POINTS <= num_vertices <= MAX_POINTS:
        raise UsageError(f"--vertices must be between {MIN_POINTS} and {MAX_POINTS}, got {num_vertices}")
    samples = sample_surface(build_surface_template(head), num_vertices, seed, probabilities)
    regions = dict(samples.regions)
    # Sampled contact points may lie between two vertices of a ring, so the rings come from the pairs.
    regions["lips_inner_upper"] = np.unique(samples.lip_contact_pairs[:, 0]).astype(np.int32)
    regions["lips_inner_lower"] = np.unique(samples.lip_contact_pairs[:, 1]).astype(np.int32)
    barycentric = samples.barycentric.astype(np.float64)
    points = SurfacePoints(
        samples.triangle_vertices.astype(np.int64), barycentric / barycentric.sum(axis=1, keepdims=True)
    )
    return SkinMesh(
        points=points,
        polygon_starts=np.arange(0, samples.faces.size + 1, 3, dtype=np.int32),
        polygon_vertices=samples.faces.ravel().astype(np.int32),
        uv=samples.uv,
        regions={name: indices for name, indices in regions.items() if len(indices)},
    )


def append_parts(
    head: Head, mesh: SkinMesh
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32], dict[str, tuple[int, int]]]:
    """Polygons, texture coordinates and vertex ranges of the whole head.

    Returns:
        polygon_starts (P + 1,), polygon_vertices (corners,), corner_uvs (corners, 2) in [0, 1], parts.
    """
    skin = head.num_skin_vertices
    num_points = len(mesh.points)
    shift = num_points - skin
    starts, counts = head.polygon_starts[:-1], np.diff(head.polygon_starts)
    of_parts = head.polygon_vertices[starts] >= skin
    part_corners = head.polygon_vertices[np.repeat(of_parts, counts)] + shift
    part_starts = np.concatenate([[0], np.cumsum(counts[of_parts])])
    polygon_starts = np.concatenate([mesh.polygon_starts, mesh.polygon_starts[-1] + part_starts[1:]])
    polygon_vertices = np.concatenate([mesh.polygon_vertices, part_corners])
    skin_uvs = to_texture_coordinates(mesh.uv)[mesh.polygon_vertices]
    part_uvs = np.zeros((len(head.vertices) - skin, 2))
    eyes_start, eyes_stop = head.parts["eyes"]
    part_uvs[eyes_start - skin : eyes_stop - skin] = eye_uv()
    corner_uvs = np.concatenate([skin_uvs, part_uvs[part_corners - num_points]])
    parts = {
        name: (start, stop) if name == "skin" else (start + shift, stop + shift)
        for name, (start, stop) in head.parts.items()
    }
    parts["skin"] = (0, num_points)
    return (
        polygon_starts.astype(np.int32),
        polygon_vertices.astype(np.int32),
        corner_uvs.astype(np.float32),
        parts,
    )


def to_texture_coordinates(uv: NDArray[np.floating]) -> NDArray[np.floating]:
    """The head's UV square [-0.98, 0.98]^2 onto [0, 1]^2."""
    coordinates: NDArray[np.floating] = np.clip((uv / UV_LIMIT + 1) / 2, 0.0, 1.0)
    return coordinates


def interpolate_points(points: SurfacePoints, values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Values (V, ...) of the skin's vertices at points (M, ...)."""
    mixed: NDArray[np.floating] = np.einsum(
        "mc,mc...->m...", points.barycentric.astype(values.dtype), values[points.triangle_vertices]
    )
    return mixed


def read_skin_texture() -> bytes | None:
    """The frozen texture of the skin; None where it does not ship."""
    return SKIN_TEXTURE.read_bytes() if SKIN_TEXTURE.is_file() else None


def read_textures() -> dict[str, bytes]:
    """The frozen pictures beside the skin's colour, by the names of TEXTURE_FILES, as far as they ship."""
    paths = {name: SKIN_TEXTURE.with_name(file) for name, file in TEXTURE_FILES.items()}
    return {name: path.read_bytes() for name, path in paths.items() if path.is_file()}


@lru_cache(maxsize=1)
def _own_mesh(head: Head) -> SkinMesh:
    """The head's vertices, with as many quads as its triangles can be joined to."""
    skin = head.num_skin_vertices
    starts, counts = head.polygon_starts[:-1], np.diff(head.polygon_starts)
    of_skin = head.polygon_vertices[starts] < skin
    quads, triangles = (
        head.polygon_vertices[starts[of_skin & (counts == corners)][:, None] + np.arange(corners)] for corners in (4, 3)
    )
    joined, left = pair_triangles(head.vertices[:skin], triangles, head.mirror)
    polygons = [quads, joined, triangles[left]]
    sizes = np.concatenate([np.full(len(each), each.shape[1]) for each in polygons])
    if sizes.sum() + 2 * len(joined) != counts[of_skin].sum():
        raise ValueError("expected a skin of triangles and quads")
    return SkinMesh(
        points=SurfacePoints.at_vertices(np.arange(skin)),
        polygon_starts=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32),
        polygon_vertices=np.concatenate([each.ravel() for each in polygons]).astype(np.int32),
        uv=np.asarray(head.uv, np.float32),
        regions={
            name: indices.astype(np.int32)
            for name, indices in head.regions.items()
            if len(indices) and indices.max() < skin
        },
    )
