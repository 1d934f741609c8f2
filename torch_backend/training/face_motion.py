"""True motion of points of the built-in head's skin, from blendshape curves, evaluated where it is asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from blender_talkhead.facial.blendshapes import BLENDSHAPE_INDEX
from blender_talkhead.facial.identities import random_identity
from torch_backend.head import Head
from torch_backend.head.identity import identity_jacobians
from torch_backend.modules.surface_points import SurfacePoints

CENTIMETRES_PER_METRE = 100.0
CLOSED_GAP_CM = 0.06
"""A frame is closed when a bilabial is articulated and the lips are nearer than this on average."""
ARTICULATED_CLOSURE = 0.02
"""mouthClose above this: the mouth is shut by a phone and not at rest."""
FIRST_IDENTITY_SEED = 1_000_000
NUM_BROW_POINTS = 32
LID_MARGIN_STEP = 4
"""Every so many vertices of the lid margins are among the anchor points."""


@dataclass(frozen=True)
class FaceAnchors:
    """Vertices that every training step looks at, and where the lips' losses find theirs among them."""

    vertices: np.ndarray
    """(A,) distinct skin vertices."""
    pairs: np.ndarray
    """(P, 2) positions in `vertices` of the contact pairs, upper first."""
    corners: np.ndarray
    """(2,) positions of the left and right corner of the mouth."""
    lids: np.ndarray
    """(J,) positions of the lid margin points."""
    brows: np.ndarray
    """(B,) positions of points that the brows' curves move most."""


def build_face_anchors(head: Head) -> FaceAnchors:
    """The contact ring of the lips, the corners of the mouth, some points of the lid margins and of the brows."""
    lids = np.asarray(head.regions["lid_margin"])[::LID_MARGIN_STEP]
    brows = _find_brows(head)
    brows = brows[np.linspace(0, len(brows) - 1, min(NUM_BROW_POINTS, len(brows))).round().astype(np.int64)]
    corners = np.array([mouth_corner(head, "left"), mouth_corner(head, "right")])
    vertices = np.unique(np.concatenate([head.lip_contact_pairs.ravel(), corners, lids, brows])).astype(np.int64)
    position = {int(vertex): index for index, vertex in enumerate(vertices)}
    locate = np.vectorize(position.__getitem__, otypes=[np.int64])
    return FaceAnchors(vertices, locate(head.lip_contact_pairs), locate(corners), locate(lids), locate(brows))


def mouth_corner(head: Head, side: str) -> int:
    """The vertex of a mouth corner ("left", "right") that lies furthest forward, where both lips end."""
    region = np.asarray(head.regions[f"mouth_corner_{side}"])
    return int(region[np.argmax(head.vertices[region, 2])])


def _find_brows(head: Head) -> np.ndarray:
    """Vertices of the upper face that raising the brows moves by a third of the most or further."""
    upper = np.asarray(head.regions["upper_face"])
    columns = [BLENDSHAPE_INDEX[name] for name in ("browInnerUp", "browOuterUpLeft", "browOuterUpRight")]
    moved = np.linalg.norm(head.blendshapes[columns][:, upper], axis=2).max(axis=0)
    found: np.ndarray = upper[moved > moved.max() / 3.0]
    return found


class FaceMotion:
    """Blendshape curves into displacements in centimetres, at vertices or at points of the skin."""

    def __init__(self, head: Head) -> None:
        skin = head.blendshapes[:, : head.num_skin_vertices] * CENTIMETRES_PER_METRE
        self.num_vertices = skin.shape[1]
        self.used = np.flatnonzero(np.abs(skin).max(axis=(1, 2)) > 0)
        self._basis = np.ascontiguousarray(skin[self.used].transpose(1, 0, 2), dtype=np.float32)  # (V, K, 3)

    def displacements(self, curves: np.ndarray, points: SurfacePoints) -> np.ndarray:
        """Displacements of points.

        Args:
            curves: (T, 52) blendshape weights.
            points: M points.

        Returns:
            (T, M, 3) float32, centimetres.
        """
        corners = self._basis[points.triangle_vertices]  # (M, 3, K, 3)
        basis = np.einsum("mc,mckd->kmd", points.barycentric.astype(np.float32), corners)
        weights = np.ascontiguousarray(curves[:, self.used], dtype=np.float32)
        return (weights @ basis.reshape(len(self.used), -1)).reshape(len(curves), len(points), 3)


class FaceVariety:
    """Random identities of the head, to take losses on; the first is the mean head itself."""

    def __init__(self, head: Head, count: int) -> None:
        """Draw `count` identities, with seeds that no one is likely to ask for."""
        skin = replace(head, vertices=head.vertices[: head.num_skin_vertices])
        mean = np.broadcast_to(np.eye(3, dtype=np.float32), (head.num_skin_vertices, 3, 3))
        drawn = [identity_jacobians(skin, random_identity(FIRST_IDENTITY_SEED + index)) for index in range(count)]
        self.jacobians = np.stack([mean, *drawn])
        """(count + 1, V, 3, 3) float32 at the skin vertices."""

    def draw(self, points: SurfacePoints, generator: np.random.Generator) -> np.ndarray:
        """Jacobians (M, 3, 3) float32 of one of the faces at points of the surface."""
        chosen = self.jacobians[int(generator.integers(len(self.jacobians)))]
        drawn: np.ndarray = np.einsum(
            "mc,mcij->mij", points.barycentric.astype(np.float32), chosen[points.triangle_vertices]
        )
        return drawn


def find_closed_frames(curves: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Which frames hold a closure of p, b or m.

    Args:
        curves: (T, 52) true blendshape weights.
        gaps: (T, P, 3) true vectors between the lips at the contact pairs, centimetres.

    Returns:
        (T,) bool.
    """
    articulated = curves[:, BLENDSHAPE_INDEX["mouthClose"]] > ARTICULATED_CLOSURE
    closed: np.ndarray = articulated & (np.abs(gaps[..., 1]).mean(axis=1) < CLOSED_GAP_CM)
    return closed
