"""What moves the skin points of a tracked mesh: the built-in head's own shapes, or the neural head model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from torch_backend.head import Head
from torch_backend.inference.head_model import BuiltInHeadModel
from torch_backend.inference.mmtalker import MMTalkerPlan, anchor_points, carry_to_identity, complete_motion
from torch_backend.inference.neural_skin import NeuralSkin
from torch_backend.inference.skin_mesh import interpolate_points

UPPER_REACH_M = (3e-4, 1.5e-3)
"""Motion of a point by lids or brows from which the head's own shapes begin to move it, and then alone do."""
_UPPER_SHAPES = [
    BLENDSHAPE_INDEX[name]
    for name in ARKIT_BLENDSHAPES
    if name.startswith(("eyeBlink", "eyeWide", "eyeSquint", "eyeLook", "brow"))
]


class ShapesOnSkin:
    """Moves skin points by the head's own blendshapes."""

    def __init__(self, head: Head, plan: MMTalkerPlan) -> None:
        """Read the shapes.

        Args:
            head: the mean head.
            plan: the mesh.
        """
        points = plan.points.joined(anchor_points(head))
        skin = head.blendshapes[:, : head.num_skin_vertices]
        self._used = np.flatnonzero(np.abs(skin).max(axis=(1, 2)) > 0)
        moves = interpolate_points(points, skin[self._used].transpose(1, 0, 2)).transpose(1, 0, 2)
        moves = carry_to_identity(moves.astype(np.float32), plan)
        self._moves = np.ascontiguousarray(moves.reshape(len(self._used), -1))

    def move(self, curves: NDArray[np.float32]) -> NDArray[np.float32]:
        """Displacements (n, M + A, 3) in metres for curves (n, 52)."""
        moved: NDArray[np.float32] = (curves[:, self._used] @ self._moves).reshape(len(curves), -1, 3)
        return moved


class NeuralOnSkin:
    """Moves skin points by the neural head model.

    Lids, brows and points that the model loses move by the head's own shapes: a lid passes within a millimetre of the
    ball and of the other lid, and brows are fine motions, which the model that ships does not resolve.
    """

    def __init__(
        self,
        head_model: BuiltInHeadModel,
        code: NDArray[np.float32],
        head: Head,
        plan: MMTalkerPlan,
        shapes: ShapesOnSkin,
        reach_m: float = 0.0,
    ) -> None:
        """Find the points on the learned surface.

        Args:
            head_model: the network.
            code: (I,) identity code.
            head: the mean head.
            plan: the mesh.
            shapes: of the same mesh.
            reach_m: how far the points may lie from the learned surface.
        """
        points = plan.points.joined(anchor_points(head))
        skin = head.num_skin_vertices
        canonical = interpolate_points(points, plan.head.pose(head_model.canonical_weights)[:skin])
        self._skin = NeuralSkin(head_model, code, canonical, reach_m)
        self._shapes, self._plan = shapes, plan
        upper = shapes.move(np.eye(len(ARKIT_BLENDSHAPES), dtype=np.float32)[_UPPER_SHAPES])
        reach = np.linalg.norm(upper, axis=2).max(axis=0)
        share = np.clip((reach - UPPER_REACH_M[0]) / (UPPER_REACH_M[1] - UPPER_REACH_M[0]), 0.0, 1.0)
        self._own_share = (share * share * (3.0 - 2.0 * share)).astype(np.float32)[:, None]
        self._own_rest = interpolate_points(points, plan.head.vertices[:skin])

    def move(self, curves: NDArray[np.float32]) -> NDArray[np.float32]:
        """Displacements (n, M + A, 3) in metres for curves (n, 52) of frames that follow each other."""
        moved, is_found = self._skin.move(curves)
        own = self._shapes.move(curves)
        share = np.where(is_found[..., None], self._own_share, np.float32(1.0))
        blended: NDArray[np.float32] = moved + share * (own - moved)
        return blended

    def form_of_model(self) -> NDArray[np.float32]:
        """The mesh (V, 3) with its skin where the model has it at rest; the other parts follow as they do in motion."""
        change = (self._skin.rest_points - self._own_rest).astype(np.float32)
        formed: NDArray[np.float32] = self._plan.template_vertices + complete_motion(change[None], self._plan)[0]
        return formed
