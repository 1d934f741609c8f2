"""Heads at rest, to be shaped before they speak, and heads that become another character with all they have.

Motion is carried over by the Jacobian of the change of shape: each shape key, whether of a take or of the user's, keeps
what it does, and no speech is looked at again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from ..compat import edit_target_mode
from ..contract.errors import BadInputError
from ..contract.identity_change import IdentityChange
from ..contract.motion_clip import MotionClip
from ..facial.identities import shorten_identity
from ..scene.character_store import (
    ShownCharacter,
    read_shown_character,
    write_shown_character,
)
from ..scene.coordinates import to_blender_axes
from ..scene.created import CreatedBlocks
from ..scene.hair import update_hair
from ..scene.mesh import create_head_object, link_head
from ..scene.rig import find_rig, move_bones
from .mesh_cache import cache_path

FloatArray = NDArray[np.float32]
_NEGLIGIBLE = 1e-5
_AXES = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
"""Backend axes into Blender's, as `to_blender_axes`."""


def character_of_clip(clip: MotionClip) -> ShownCharacter | None:
    """Return the character of a clip's mesh; None for a clip that does not tell."""
    options = clip.info.options
    parameters, vertices = options.get("identity_parameters"), options.get("vertices")
    if not isinstance(parameters, dict) or not (vertices is None or isinstance(vertices, int)):
        return None
    try:
        identity = shorten_identity({str(name): float(value) for name, value in parameters.items()})
    except (ValueError, TypeError):
        return None
    return ShownCharacter(identity, vertices, clip.info.seed, clip.num_vertices)


def mark_character(mesh: Any, clip: MotionClip) -> None:
    """Note on a mesh that was made of a clip which character it is."""
    shown = character_of_clip(clip)
    if shown is not None:
        write_shown_character(mesh, shown)


def create_character(clip: MotionClip, scene: Any) -> Any:
    """Put a head at rest into a scene, at the 3D cursor.

    Args:
        clip: of a character job.
        scene: where it goes.

    Returns:
        The object.
    """
    with CreatedBlocks() as created, created.recording():
        head = create_head_object(clip)
        mark_character(head.data, clip)
        head.matrix_world = Matrix.Translation(scene.cursor.location)
        link_head(scene.collection, head)
    return head


def require_shapeable(head: Any) -> ShownCharacter:
    """Check that a head's shape can be changed. Nothing is changed.

    Returns:
        The character that it shows.

    Raises:
        BadInputError: it is no head of TalkHead, is linked or being edited, or its shape lies in a cache file.
    """
    shown = read_shown_character(head.data) if head.type == "MESH" else None
    if shown is None:
        raise BadInputError(f'"{head.name}" is no head that can be shaped; create a character first')
    if not head.is_editable or not head.data.is_editable:
        raise BadInputError(f'"{head.name}" is linked; make it local to shape it')
    mode = edit_target_mode(head)
    if mode is not None:
        raise BadInputError(f'"{head.name}" is in {mode} mode; go back to object mode to shape it')
    if cache_path(head) is not None:
        raise BadInputError(
            f'the face of "{head.name}" plays a cache file, which keeps its shape; animate it again to give it another'
        )
    return shown


def reshape_head(head: Any, change: IdentityChange, identity: str) -> None:
    """Give a head another identity: mesh, all shape keys, bones and hair.

    What the user has sculpted into the rest shape is carried over too.

    Args:
        head: an object that `require_shapeable` accepts.
        change: from the identity that it shows to the new one.
        identity: the new one, as text.

    Raises:
        BadInputError: the head cannot be shaped, or has another number of vertices than the change.
    """
    shown = require_shapeable(head)
    mesh = head.data
    if len(mesh.vertices) != len(change.vertices):
        raise BadInputError(
            f'"{head.name}" has {len(mesh.vertices):,} vertices and its character {len(change.vertices):,}; was it '
            "edited? Undo that, or create a new character"
        )
    before, after = to_blender_axes(change.previous_vertices), to_blender_axes(change.vertices)
    carry = _carrier(change, before)
    keys = mesh.shape_keys
    for points in [mesh.vertices, *([] if keys is None else [key.points for key in keys.key_blocks])]:
        positions = np.empty(len(before) * 3, np.float32)
        points.foreach_get("co", positions)
        moved = after + carry(positions.reshape(-1, 3) - before)
        points.foreach_set("co", np.ascontiguousarray(moved, np.float32).reshape(-1))
    rig = find_rig(head)
    if rig is not None and rig.data.is_editable:
        move_bones(rig, _pivots(change.previous_pivots), _pivots(change.pivots))
    if change.hair is not None:
        update_hair(head, change.hair)
    write_shown_character(mesh, replace(shown, identity=identity))
    if keys is not None:
        keys.update_tag()
    mesh.update()
    mesh.update_tag()


def find_character(name: str) -> Any | None:
    """Return the head of that name; None where it is gone."""
    item = bpy.data.objects.get((name, None))
    return item if item is not None and item.type == "MESH" else None


def _carrier(change: IdentityChange, before: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """Return what carries displacements (V, 3) over the change.

    The tongue rides on the jaw and moves by itself. A jaw's displacement is affine in the place, so that of lower teeth
    and gums tells the jaw's share of the tongue's; each share is carried by its own Jacobians.
    """
    jacobians, of_tongue = (
        (_AXES @ each.astype(np.float64) @ _AXES.T).astype(np.float32)
        for each in (change.jacobians, change.tongue_jacobians)
    )
    jaw, tongue = change.jaw, change.tongue
    places = [np.column_stack([before[each], np.ones(len(each))]).astype(np.float64) for each in (jaw, tongue)]
    ride = (places[1] @ np.linalg.pinv(places[0], _NEGLIGIBLE)).astype(np.float32) if len(jaw) else None

    def carry(offsets: FloatArray) -> FloatArray:
        moved: FloatArray = np.matmul(jacobians, offsets[:, :, None])[:, :, 0]
        if ride is not None and len(tongue):
            riding = ride @ offsets[jaw]
            moved[tongue] = (
                np.matmul(jacobians[tongue], riding[:, :, None])
                + np.matmul(of_tongue, (offsets[tongue] - riding)[:, :, None])
            )[:, :, 0]
        return moved

    return carry


def _pivots(pivots: dict[str, tuple[float, float, float]]) -> dict[str, NDArray[np.float32]]:
    return {name: to_blender_axes(np.array(point, np.float32)) for name, point in pivots.items()}
