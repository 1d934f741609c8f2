"""The 478 landmarks of MediaPipe's face mesh with irises, frozen on the head's surface: three vertices and shares each.

They were placed once, by detections on renders (docs/place_landmarks478.py), and belong to one template: its topology
and rest shape. Whatever the head does or whoever it is, they move with its skin; the irises lie on the eyeballs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.contract.errors import BackendError
from torch_backend.head.head import Head, load_head

DATA_PATH = Path(__file__).with_name("landmarks478.npz")
NUM_LANDMARKS = 478
MIDLINE = (
    10, 151, 9, 8, 168, 6, 197, 195, 5, 4, 1, 19, 94, 2, 164, 0, 11, 12, 13, 14, 15, 16, 17, 18, 200, 199, 175, 152,
)  # fmt: skip
"""From the forehead to the chin."""
IRISES = range(468, 478)
"""Centre and four points of the right iris, then of the left one."""
INNER_LIP_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
INNER_LIP_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
"""From the right corner to the left one; the corners belong to both lips."""
RIGHT_LIDS = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
LEFT_LIDS = (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249)
"""Rim of the lids: outer corner, upper lid inwards, inner corner, lower lid outwards."""
LID_RINGS = frozenset({*RIGHT_LIDS, *LEFT_LIDS})
LIPS = frozenset(
    {
        *INNER_LIP_UPPER, *INNER_LIP_LOWER,
        61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409,
        76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306, 184, 74, 73, 72, 11, 302, 303, 304, 408,
        62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292, 183, 42, 41, 38, 12, 268, 271, 272, 407,
    }
)  # fmt: skip
"""All points of the lips' four rings."""
OF_LANDMARKS68 = (
    -1, -1, -1, -1, -1, -1, -1, -1, 152, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    168, 197, 5, 1, 98, 97, 2, 326, 327,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91, 78, 81, 13, 311, 308, 402, 14, 178,
)  # fmt: skip
"""The face mesh point of each of the 68 landmarks, as commonly paired; -1 where the two sets mark no common place (jaw
line and brows, which 68-point detectors put elsewhere)."""


@dataclass(frozen=True, eq=False)
class Placement:
    """Where the landmarks lie."""

    vertices: NDArray[np.int32]
    """(478, 3) head vertices of each landmark."""
    weights: NDArray[np.float32]
    """(478, 3) their shares, which sum to 1."""
    mirror: NDArray[np.int32]
    """(478,) the landmark on the other side."""
    spread_m: NDArray[np.float64]
    """(478,) mean distance of the single sightings from it, metres."""


def landmarks478(vertices: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the landmarks of a head in any pose and identity.

    Args:
        vertices: (V, 3) or (T, V, 3) all vertices of the built-in head's own mesh.

    Returns:
        (478, 3) or (T, 478, 3) in the same unit.

    Raises:
        ValueError: the vertices are not those of the head.
        BackendError: the frozen file is missing, damaged or of another template.
    """
    placement = load_placement()
    if vertices.ndim not in (2, 3) or vertices.shape[-2:] != load_head().vertices.shape:
        raise ValueError(f"expected vertices (..., {len(load_head().vertices)}, 3) of the head, got {vertices.shape}")
    corners = vertices[..., placement.vertices, :].astype(np.float64)
    points: NDArray[np.float64] = np.einsum("kc,...kci->...ki", placement.weights.astype(np.float64), corners)
    return points


def template_hash(head: Head) -> str:
    """Return a hash of what placements depend on: skin and eyes at rest, to a hundredth of a millimetre, and faces."""
    own = head.vertices[: head.parts["eyes"][1]]
    rounded = np.round(own.astype(np.float64) * 1e5).astype(np.int64)
    faces = head.all_triangles[head.all_triangles.max(axis=1) < len(own)]
    parts = (rounded, faces.astype(np.int64))
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


def save_placement(head: Head, placement: Placement, path: Path) -> None:
    """Write a placement as one compressed npz file."""
    np.savez_compressed(
        path,
        vertices=placement.vertices,
        weights=placement.weights,
        mirror=placement.mirror,
        spread_m=placement.spread_m.astype(np.float32),
        template=np.frombuffer(bytes.fromhex(template_hash(head)), dtype=np.uint8),
    )


def read_placement(path: Path, head: Head) -> Placement:
    """Read a placement and check that it belongs to a head.

    Raises:
        BackendError: the file is missing, damaged or of another template.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        template = arrays.pop("template").tobytes().hex()
        placement = Placement(**arrays)
    except (OSError, EOFError, BadZipFile, KeyError, ValueError, TypeError) as error:
        raise BackendError(f"cannot read the landmarks from {path.name}: {error}") from error
    if template != template_hash(head):
        raise BackendError(f"{path.name} was placed on another head; place it again: docs/place_landmarks478.py")
    return placement


@lru_cache(maxsize=1)
def load_placement() -> Placement:
    """Return the frozen placement on the built-in head; its arrays are shared, so they are write-protected.

    Raises:
        BackendError: the file is missing, damaged or of another template.
    """
    placement = read_placement(DATA_PATH, load_head())
    for array in (placement.vertices, placement.weights, placement.mirror, placement.spread_m):
        array.setflags(write=False)
    return placement
