"""The built-in head as frozen arrays: shape, blendshapes, regions, landmarks, parts, colours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.contract.errors import BackendError
from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX

TEMPLATE_PATH = Path(__file__).with_name("template.npz")
PART_NAMES = ("skin", "eyes", "teeth", "gums", "tongue", "brows", "lashes")
"""Order of the parts in every vertex array."""
OPEN_POSE = {"jawOpen": 0.9, "mouthFunnel": 0.5}
"""Expression whose shape the UV map is computed on: lips, lids and mouth bag lie open."""

FloatArray = NDArray[np.float32]
IndexArray = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Head:
    """A head of fixed topology; every array is in backend model space (metres, x left, y up, z out of the face)."""

    vertices: FloatArray
    """(V, 3) rest positions of all parts, the skin first."""
    polygon_starts: IndexArray
    """(P + 1,) first corner of each polygon, and the number of corners."""
    polygon_vertices: IndexArray
    """(corners,) vertex of each corner; polygons are counter-clockwise seen from outside."""
    parts: dict[str, tuple[int, int]]
    """Vertex range [start, stop) of each part."""
    skin_triangles: IndexArray
    """(F, 3) the skin's polygons as triangles."""
    uv: FloatArray
    """(Vskin, 2) injective map of the whole skin into [-0.98, 0.98]^2."""
    blendshapes: FloatArray
    """(52, V, 3) displacements at weight 1, in ARKIT_BLENDSHAPES order."""
    vertex_colors: FloatArray
    """(V, 3) linear RGB, 0..1."""
    appearance_fields: FloatArray
    """(Vskin, C) per-vertex scalars in 0..1 that skin colours need beside positions; see appearance.FIELD_NAMES."""
    regions: dict[str, IndexArray]
    """Named vertex sets, sorted."""
    landmarks68: IndexArray
    """(68,) skin vertices of the facial landmarks, in the 68-point order."""
    lip_contact_pairs: IndexArray
    """(n, 2) upper and lower vertices that touch when the lips are closed, from the right corner to the left one.
    Each corner is one vertex shared by both lips, so it is in no pair."""
    mirror: IndexArray
    """(Vskin,) mirror image of each skin vertex."""
    eye_centers: FloatArray
    """(2, 3) centres of the left and right eyeball."""
    eye_radius: float
    """Radius of the eyeballs without the cornea's bulge, metres."""
    jaw_hinge: FloatArray
    """(3,) a point on the axis (along x) the jaw opens about."""
    attachment_anchors: IndexArray
    """(A,) skin vertices that brows and lashes stand on, sorted."""
    attachment_weights: FloatArray
    """(Vatt, A) share of each anchor in each vertex of brows and lashes, the last vertices; rows add up to 1."""

    @property
    def num_skin_vertices(self) -> int:
        """Number of skin vertices."""
        return self.parts["skin"][1]

    @cached_property
    def all_triangles(self) -> IndexArray:
        """(F, 3) triangles of all parts."""
        return triangulate_polygons(self.polygon_starts, self.polygon_vertices)

    def pose(self, weights: dict[str, float] | NDArray[np.floating]) -> FloatArray:
        """Return posed vertices (V, 3) for blendshape weights given by name, or as (52,) in ARKIT order.

        Raises:
            ValueError: when a name is unknown or the array has another shape.
        """
        if isinstance(weights, dict):
            unknown = sorted(set(weights) - set(BLENDSHAPE_INDEX))
            if unknown:
                raise ValueError(f"expected ARKit blendshape names, got {unknown}")
            values = np.zeros(len(ARKIT_BLENDSHAPES), dtype=np.float32)
            for name, weight in weights.items():
                values[BLENDSHAPE_INDEX[name]] = weight
        else:
            values = np.asarray(weights, dtype=np.float32)
            if values.shape != (len(ARKIT_BLENDSHAPES),):
                raise ValueError(f"expected weights of shape ({len(ARKIT_BLENDSHAPES)},), got {values.shape}")
        active = np.nonzero(values)[0]
        posed: FloatArray = self.vertices + np.tensordot(values[active], self.blendshapes[active], axes=1)
        return posed

    def vertex_normals(self, vertices: FloatArray | None = None) -> FloatArray:
        """Return area-weighted unit normals (Vskin, 3) of the skin, at rest or for given vertices (>= Vskin, 3)."""
        positions = (self.vertices if vertices is None else vertices)[: self.num_skin_vertices].astype(np.float64)
        return compute_vertex_normals(positions, self.skin_triangles)


def triangulate_polygons(polygon_starts: IndexArray, polygon_vertices: IndexArray) -> IndexArray:
    """Return fan triangles (F, 3) of polygons, in polygon order."""
    triangles = []
    for start, stop in pairwise(polygon_starts):
        corners = polygon_vertices[start:stop]
        triangles += [(corners[0], corners[i], corners[i + 1]) for i in range(1, len(corners) - 1)]
    return np.array(triangles, dtype=np.int32)


def compute_vertex_normals(vertices: NDArray[np.floating], triangles: NDArray[np.integer]) -> FloatArray:
    """Return area-weighted unit vertex normals (V, 3); a vertex without area gets zeros."""
    corners = vertices[triangles]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros(vertices.shape, dtype=np.float64)
    for corner in range(3):
        np.add.at(total, triangles[:, corner], face_normals)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return (total / np.where(length > 0, length, 1.0)).astype(np.float32)


def save_head(head: Head, path: Path) -> None:
    """Write the arrays of a head to a compressed npz file."""
    arrays: dict[str, NDArray] = {
        name: getattr(head, name)
        for name in (
            "vertices", "polygon_starts", "polygon_vertices", "skin_triangles", "uv", "blendshapes", "vertex_colors",
            "appearance_fields", "landmarks68", "lip_contact_pairs", "mirror", "eye_centers", "jaw_hinge",
            "attachment_anchors", "attachment_weights",
        )
    }  # fmt: skip
    arrays["eye_radius"] = np.array(head.eye_radius, dtype=np.float32)
    arrays |= {f"part/{name}": np.array(span, dtype=np.int32) for name, span in head.parts.items()}
    arrays |= {f"region/{name}": indices for name, indices in head.regions.items()}
    np.savez_compressed(path, **arrays)


def read_head(path: Path) -> Head:
    """Read a head written by save_head.

    Raises:
        BackendError: when the file is missing or not a head.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        parts = {name: (int(arrays[f"part/{name}"][0]), int(arrays[f"part/{name}"][1])) for name in PART_NAMES}
        regions = {name.split("/", 1)[1]: array for name, array in arrays.items() if name.startswith("region/")}
        plain = {name: array for name, array in arrays.items() if "/" not in name}
        plain["eye_radius"] = float(plain["eye_radius"])
        return Head(parts=parts, regions=regions, **plain)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise BackendError(f"cannot read the built-in head from {path.name}: {error}") from error


@lru_cache(maxsize=1)
def load_head() -> Head:
    """Return the built-in head; its arrays are read once and shared, so they are write-protected."""
    head = read_head(TEMPLATE_PATH)
    for value in vars(head).values():
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
    for indices in head.regions.values():
        indices.setflags(write=False)
    return head
