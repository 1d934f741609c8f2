"""The ARKit blendshapes of a clip's mesh: those of the head at the clip's points, with its identity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from torch_backend.head import Head
from torch_backend.inference.skin_mesh import interpolate_points
from torch_backend.modules.surface_points import SurfacePoints


def blendshapes_of_mesh(head: Head, points: SurfacePoints) -> NDArray[np.float32]:
    """Return displacements at weight 1 of every vertex of a clip.

    Args:
        head: the head with the identity applied.
        points: points of its skin, one a skin vertex of the clip; eyes, teeth, gums and tongue come after them.

    Returns:
        (52, V, 3) metres, in ARKIT_BLENDSHAPES order.
    """
    skin = head.num_skin_vertices
    return np.stack(
        [np.concatenate([interpolate_points(points, shape[:skin]), shape[skin:]]) for shape in head.blendshapes]
    ).astype(np.float32)
