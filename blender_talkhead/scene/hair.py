"""The built-in head's hair: an object of curves that hangs on three vertices of the scalp.

Hung on vertices, it follows whatever moves the head's mesh, be it bones, shape keys or a mesh cache, and stays when
these are switched off. Hide the object to have the head without hair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix, Vector
from numpy.typing import NDArray

from ..contract.motion_clip import MotionClip
from .coordinates import to_blender_axes
from .materials import create_hair_material

HAIR_PROPERTY = "talkhead_hair"
"""Custom property of the object: it is the hair of the head it hangs on."""
ROOT_RADIUS_M = 0.00042
TIP_RADIUS_M = 0.00008


def create_hair(clip: MotionClip) -> Any | None:
    """Make the hair of a clip's head; it is linked nowhere yet and hangs on nothing. None where the clip has none."""
    if clip.hair is None:
        return None
    num_strands, num_points = clip.hair.shape[:2]
    curves = bpy.data.hair_curves.new("TalkHead hair")
    curves.add_curves([num_points] * num_strands)
    _write_points(curves, clip.hair)
    share = np.linspace(0.0, 1.0, num_points, dtype=np.float32) ** 1.5
    radius = np.tile(ROOT_RADIUS_M + (TIP_RADIUS_M - ROOT_RADIUS_M) * share, num_strands)
    curves.points.foreach_set("radius", radius.astype(np.float32))
    curves.materials.append(create_hair_material())
    hair = bpy.data.objects.new("TalkHead hair", curves)
    hair[HAIR_PROPERTY] = True
    return hair


def attach_hair(head: Any, hair: Any) -> None:
    """Hang the hair on a head whose mesh is at rest in its vertices (or basis shape key)."""
    rest = _rest_positions(head)
    corners = scalp_triangle(rest)
    hair.name = f"{head.name} hair"
    hair.parent = head
    hair.parent_type = "VERTEX_3"
    hair.parent_vertices = corners
    hair.matrix_parent_inverse = triangle_matrix(rest[list(corners)]).inverted()


def update_hair(head: Any, points: NDArray[np.float32]) -> None:
    """Give the hair of a head new points (S, P, 3), backend metres, and hang it on the mesh as it is now.

    Does nothing for a head without hair.

    Raises:
        ValueError: another number of points than the hair has.
    """
    hair = find_hair(head)
    if hair is None:
        return
    if points.shape[-1] != 3 or points.size != 3 * len(hair.data.points):
        raise ValueError(f"expected {len(hair.data.points)} points of hair, got {points.shape}")
    _write_points(hair.data, points)
    hair.data.update_tag()
    attach_hair(head, hair)


def hair_restorer(head: Any) -> Callable[[], None]:
    """Return a function that puts the hair of a head back as it is now, where `update_hair` has changed it."""
    hair = find_hair(head)
    if hair is None:
        return lambda: None
    uid, corners, inverse = hair.session_uid, tuple(hair.parent_vertices), hair.matrix_parent_inverse.copy()
    points = np.empty(3 * len(hair.data.points), np.float32)
    hair.data.position_data.foreach_get("vector", points)

    def restore() -> None:
        (found,) = (item for item in bpy.data.objects if item.session_uid == uid)
        found.parent_vertices, found.matrix_parent_inverse = corners, inverse
        found.data.position_data.foreach_set("vector", points)
        found.data.update_tag()

    return restore


def find_hair(head: Any) -> Any | None:
    """Return the hair object of a head; None without one."""
    return next((child for child in head.children if child.type == "CURVES" and HAIR_PROPERTY in child), None)


def hair_blocks(head: Any) -> list[Any]:
    """Return the data-blocks of a head's hair: the object, and curves and material that nobody else uses."""
    hair = find_hair(head)
    if hair is None:
        return []
    materials = [material for material in hair.data.materials if material is not None and material.users == 1]
    return [hair, *([hair.data, *materials] if hair.data.users == 1 else [])]


def scalp_triangle(rest: NDArray[np.floating]) -> tuple[int, int, int]:
    """Return three vertices (Blender's axes) of the scalp, wide apart: left, right and back of the crown."""
    low, high = rest.min(axis=0), rest.max(axis=0)
    top = float(high[2])
    size = float(np.ptp(rest[rest[:, 2] > top - 0.4 * (top - low[2]), 1]))
    middle = float(np.mean([rest[rest[:, 2] > top - 0.02 * (top - low[2]), 1].mean()]))
    targets = np.array(
        [
            (0.30 * size, middle, top - 0.12 * size),
            (-0.30 * size, middle, top - 0.12 * size),
            (0.0, middle + 0.40 * size, top - 0.20 * size),
        ]
    )
    chosen = [int(np.linalg.norm(rest - target, axis=1).argmin()) for target in targets]
    return chosen[0], chosen[1], chosen[2]


def triangle_matrix(corners: NDArray[np.floating]) -> Any:
    """Return Blender's matrix of a parent triangle (3, 3): at its middle, z its normal, x along its first edge."""
    first, second, third = (Vector(corner.tolist()) for corner in np.asarray(corners, np.float64))
    x = (second - first).normalized()
    z = (second - first).cross(third - first).normalized()
    y = z.cross(x)
    middle = (first + second + third) / 3.0
    return Matrix.Translation(middle) @ Matrix((x, y, z)).transposed().to_4x4()


def _write_points(curves: Any, points: NDArray[np.floating]) -> None:
    positions = to_blender_axes(np.asarray(points, np.float32).reshape(-1, 3))
    curves.position_data.foreach_set("vector", np.ascontiguousarray(positions).reshape(-1))


def _rest_positions(head: Any) -> NDArray[np.float32]:
    mesh = head.data
    points = mesh.vertices if mesh.shape_keys is None else mesh.shape_keys.reference_key.points
    positions = np.empty(len(mesh.vertices) * 3, np.float32)
    points.foreach_get("co", positions)
    return positions.reshape(-1, 3)
