"""One take: a motion clip baked onto a new head or onto one that is in the scene."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import bpy
import numpy as np
from numpy.typing import NDArray

from ..contract.errors import BadInputError
from ..contract.motion_clip import MotionClip
from ..facial.motion_basis import fit_motion_basis
from ..scene.actions import new_action
from ..scene.coordinates import to_blender_axes
from ..scene.mesh import create_head_object, read_polygon_vertices, read_rest_positions, write_vertex_groups
from ..scene.timeline import MAX_SCENE_FRAME, scene_rate
from .mesh_cache import attach_cache, detach_cache, write_point_cache
from .provenance import describe_take, read_provenance, take_action, write_provenance
from .scene_frames import SceneFrames
from .shape_keys import foreign_keys, remove_own_keys, write_basis_keys, write_frame_keys

logger = logging.getLogger(__name__)

BakeMode = Literal["basis", "per-frame", "cache"]
BAKE_MODES: tuple[BakeMode, ...] = get_args(BakeMode)
DEFAULT_ERROR_LIMIT_MM = 0.02
_MANY_KEYS = 512


@dataclass(frozen=True)
class BakeSettings:
    """How a clip lands on an object."""

    mode: BakeMode = "basis"
    start: int = 1
    """Scene frame at which the recording begins."""
    error_limit_mm: float = DEFAULT_ERROR_LIMIT_MM
    """Basis bake: largest distance of any vertex in any frame from the clip."""
    cache_file: Path | None = None
    """Cache bake: the PC2 file to write."""


@dataclass(frozen=True)
class Take:
    """What a bake made."""

    object_name: str
    action_name: str
    num_scene_frames: int
    num_shape_keys: int
    """Beside the basis."""
    max_error_mm: float
    """Measured distance from the clip at its own frames; 0 where the bake stores positions."""


def bake_take(
    clip: MotionClip,
    settings: BakeSettings,
    scene: Any,
    target: Any | None = None,
    report: Callable[[float], None] = lambda fraction: None,
) -> Take:
    """Bake a clip at the scene's frame rate.

    Args:
        clip: the motion.
        settings: how to bake.
        scene: the scene, with its final frame rate.
        target: an object of the same polygons; None makes a new head. The action and the mesh it has are kept by fake
            users, so that the old take can be brought back.
        report: called with the done fraction, 0..1.

    Raises:
        BadInputError: the target does not fit, or the take would end beyond Blender's last frame.
        OutputError: the cache cannot be written.
    """
    rate = scene_rate(scene)
    frames = SceneFrames(clip, rate)
    if settings.start + len(frames) - 1 > MAX_SCENE_FRAME:
        raise BadInputError(
            f"the take would end at frame {settings.start + len(frames) - 1:,}, Blender's last is {MAX_SCENE_FRAME:,}; "
            "use a lower --start or --fps"
        )
    if target is None:
        head = create_head_object(clip, scene)
        carrier = head
    else:
        require_fitting_target(target, clip, settings.mode)
        head = target
        _keep_old_take(head)
        carrier = bpy.data.objects.new(head.name, head.data.copy())
        remove_own_keys(carrier)
    rest = read_rest_positions(carrier.data)
    details: dict[str, Any] = {"mode": settings.mode, "start": settings.start, "scene_rate": rate}
    num_keys, error_mm = 0, 0.0
    if settings.mode == "basis":
        own, limit_m = SceneFrames(clip, None), settings.error_limit_mm / 1000.0
        basis = fit_motion_basis(len(own), own.read, rest, limit_m, report)
        num_keys, error_mm = len(basis.shapes), basis.max_error_m * 1000.0
        if num_keys > _MANY_KEYS:
            logger.warning("the motion needs %d shape keys and may play slowly; --bake cache is faster", num_keys)
        action = write_basis_keys(carrier, basis, rest, clip.info.frame_rate, rate, settings.start)
        details.update(error_limit_mm=settings.error_limit_mm, shape_keys=num_keys)
    elif settings.mode == "per-frame":
        action = write_frame_keys(carrier, frames, rest, settings.start, report)
        num_keys = len(frames)
    else:
        action = _write_cache(head, settings, frames, rest, report)
    action.name = f"{head.name} speech"
    write_provenance(action, describe_take(clip, details))
    if carrier is not head:
        _take_over_mesh(head, carrier, clip.regions)
    if settings.mode != "cache":
        _detach_old_cache(head)
    return Take(head.name, action.name, len(frames), num_keys, error_mm)


def require_fitting_target(target: Any, clip: MotionClip, mode: BakeMode) -> None:
    """Check that a clip can be baked onto an object.

    Raises:
        BadInputError: another kind of object, other polygons, or shape keys that the mode would break.
    """
    if target.type != "MESH":
        raise BadInputError(f'--target "{target.name}" must be a mesh, it is a {target.type.lower()}')
    mesh = target.data
    remedy = "leave out --target to make a new head, or repeat the options of its first take"
    if len(mesh.vertices) != clip.num_vertices:
        raise BadInputError(
            f'--target "{target.name}" has {len(mesh.vertices)} vertices, the motion has {clip.num_vertices}; {remedy}'
        )
    if not np.array_equal(read_polygon_vertices(mesh), clip.polygon_vertices):
        raise BadInputError(f'--target "{target.name}" has other polygons than the motion; {remedy}')
    names = foreign_keys(mesh)
    if mode == "per-frame" and names:
        raise BadInputError(
            f'--target "{target.name}" has shape keys of its own ({", ".join(names[:3])}), which absolute keys would '
            "switch off; use --bake basis"
        )
    distance = np.abs(read_rest_positions(mesh) - to_blender_axes(clip.template_vertices)).max()
    if distance > 1e-5:
        logger.warning(
            'the rest shape of "%s" is up to %.1f mm from the head of this motion; the motion is added to it as it is',
            target.name,
            distance * 1000,
        )


def _write_cache(
    head: Any,
    settings: BakeSettings,
    frames: SceneFrames,
    rest: NDArray[np.float32],
    report: Callable[[float], None],
) -> Any:
    if settings.cache_file is None:
        raise ValueError("the cache bake expects settings.cache_file, got None")
    write_point_cache(settings.cache_file, frames, rest, report)
    attach_cache(head, str(settings.cache_file), settings.start)
    action, _ = new_action(head, f"{head.name} speech")  # without curves: it carries the provenance
    return action


def _keep_old_take(head: Any) -> None:
    action = take_action(head)
    if action is not None:
        action.use_fake_user = True


def _detach_old_cache(head: Any) -> None:
    detach_cache(head)
    if head.animation_data is not None and read_provenance(head.animation_data.action) is not None:
        head.animation_data.action = None


def _take_over_mesh(head: Any, carrier: Any, regions: dict[str, NDArray[np.int32]]) -> None:
    """Give the new take's mesh to the object; an old one with a take stays by a fake user."""
    keys = head.data.shape_keys
    if keys is not None and keys.animation_data and read_provenance(keys.animation_data.action) is not None:
        head.data.use_fake_user = True
    head.data = carrier.data
    bpy.data.objects.remove(carrier)
    missing = {name: indices for name, indices in regions.items() if name not in head.vertex_groups}
    write_vertex_groups(head, missing)
