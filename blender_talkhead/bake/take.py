"""One take: a motion clip baked onto a new head or onto an object of the scene.

In two parts: `build_take_steps` makes everything that is heavy, beside the scene and a piece at a time; `install_take`
then changes the scene at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from ..compat import clear_shape_keys
from ..contract.errors import BadInputError, CancelledError
from ..contract.motion_clip import MotionClip
from ..facial.motion_basis import MotionBasis, fit_motion_basis, shift_to_nonnegative
from ..facial.performance import ComposedPerformance
from ..scene.actions import new_action
from ..scene.coordinates import to_blender_axes
from ..scene.created import CreatedBlocks
from ..scene.hair import update_hair
from ..scene.mesh import (
    REPLACED_PROPERTY,
    create_head_object,
    create_mesh,
    link_head,
    read_rest_positions,
    shape_keys_of,
    write_vertex_groups,
)
from ..scene.restore import unchanged_on_error
from ..scene.timeline import MAX_SCENE_FRAME, scene_rate
from .character import mark_character
from .mesh_cache import attach_cache, detach_cache, point_cache_steps
from .performed_motion import (
    PerformedMotion,
    build_performed_motion,
    compose_for,
    has_performance,
    read_residual,
    store_performance,
)
from .provenance import describe_take, is_own_object, read_provenance, take_action, write_provenance
from .rigged_take import BuiltRig, build_rig, install_rig, rest_rig
from .scene_frames import SceneFrames
from .shape_keys import basis_key_steps, frame_key_steps, performed_key_steps, remove_own_keys
from .targets import require_fitting_target, takes_new_topology

BakeMode = Literal["basis", "per-frame", "cache"]
BAKE_MODES: tuple[BakeMode, ...] = get_args(BakeMode)
DEFAULT_ERROR_LIMIT_MM = 0.02
MANY_KEYS = 128
"""More shape keys than these play slowly: the cache is offered."""
_STILL_M = 1e-6
_STILL = "the motion is still, no vertex moves; is the recording silent? Choose another"
_FIT_PART = 0.7
_WAIT_SECONDS = 0.001


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
    warnings: list[str] = field(default_factory=list)
    """What the user should know: why something may not move, play or sound as expected."""
    cache_file: Path | None = None
    strip_name: str | None = None
    """The sound strip that was added."""
    further: tuple[Take, ...] = ()
    """The other takes that were made with this one."""


@dataclass
class BuiltTake:
    """A take that is complete but not in the scene yet."""

    carrier: Any
    """The object that holds the new mesh: the new head, or a temporary one for a target."""
    action: Any
    num_scene_frames: int
    num_shape_keys: int = 0
    max_error_mm: float = 0.0
    warnings: list[str] = field(default_factory=list)
    columns: dict[str, int] | None = None
    """Of a take with a performance: the curve of each shape key."""
    rig: BuiltRig | None = None


def bake_take(
    clip: MotionClip,
    settings: BakeSettings,
    scene: Any,
    target: Any | None = None,
    report: Callable[[float], None] = lambda fraction: None,
) -> Take:
    """Bake a clip at the scene's frame rate; on any error the scene is as it was.

    Args:
        clip: the motion.
        settings: how to bake.
        scene: the scene, with its final frame rate.
        target: an object that fits, or a head of an earlier take; None makes a new head. The action and the mesh of an
            earlier take are kept by fake users, so that it can be brought back.
        report: called with the done fraction, 0..1.

    Raises:
        BadInputError: the target does not fit, or the take would end beyond Blender's last frame.
        OutputError: the cache cannot be written.
    """
    with CreatedBlocks() as created:
        built = exhaust(build_take_steps(clip, settings, scene, target, created), report)
        with unchanged_on_error(scene, target):
            return install_take(built, clip, settings, scene, target)


def exhaust(steps: Generator[float, None, Any], report: Callable[[float], None] = lambda fraction: None) -> Any:
    """Run all steps; returns what the generator returns."""
    while True:
        try:
            report(next(steps))
        except StopIteration as stop:
            return stop.value


def build_take_steps(
    clip: MotionClip, settings: BakeSettings, scene: Any, target: Any | None, created: CreatedBlocks
) -> Generator[float, None, BuiltTake]:
    """Make a take beside the scene; yields the done fraction, 0..1, about every millisecond.

    Args:
        clip: the motion.
        settings: how to bake.
        scene: the scene, with its final frame rate.
        target: as for `bake_take`; it is read only.
        created: collects the new data-blocks, which the caller removes when anything fails.

    Raises:
        BadInputError: the target does not fit, or the take would end beyond Blender's last frame.
        OutputError: the cache cannot be written.
    """
    rate = scene_rate(scene)
    frames = SceneFrames(clip, rate)
    require_last_frame(settings.start, len(frames))
    warnings = [] if target is None else require_fitting_target(target, clip, settings.mode)
    basis = None
    if settings.mode == "basis":  # before anything is made: a motion that needs no fit needs no time here
        basis = yield from _basis_steps(clip, settings.error_limit_mm, target)
    motion = build_performed_motion(clip, basis) if has_performance(clip) else None
    yield _FIT_PART
    with created.recording():
        carrier = _create_carrier(clip, settings, scene, target)
    rest = read_rest_positions(carrier.data)
    yield _FIT_PART
    built = BuiltTake(carrier, None, len(frames), warnings=warnings)
    composed = None if motion is None else compose_for(target, motion.performance, settings.start, rate)
    if motion is not None and composed is not None and settings.mode == "basis":
        steps = _performed_steps(built, settings, frames, motion, composed)
    else:
        steps = _motion_steps(built, settings, frames, rest, basis)
    while True:
        with created.recording():
            try:
                fraction = next(steps)
            except StopIteration:
                break
        yield _FIT_PART + (1 - _FIT_PART) * fraction
    built.action.name = f"{carrier.name if target is None else target.name} speech"
    if motion is not None and composed is not None:
        store_performance(built.action, motion.performance)
        with created.recording():
            built.rig = build_rig(clip, composed, frames.positions, settings.start, target, built.action)
        if built.rig is None and clip.head_rotation is not None and target is not None:
            warnings.append(f'"{target.name}" keeps its own bones, so its head and eyes do not turn with the speech')
    write_provenance(built.action, describe_take(clip, _details(built, settings, rate, target)))
    return built


def install_take(built: BuiltTake, clip: MotionClip, settings: BakeSettings, scene: Any, target: Any | None) -> Take:
    """Put a built take into the scene, at once; a new head stands at the 3D cursor.

    The caller restores the scene when this or what follows fails.
    """
    if target is None:
        head = built.carrier
        head.matrix_world = Matrix.Translation(scene.cursor.location)
        link_head(scene.collection, head)
    else:
        head, is_new_mesh = target, takes_new_topology(target, clip)
        _keep_old_take(head)
        _take_over_mesh(head, built.carrier, clip.regions)
        if is_new_mesh and clip.hair is not None:
            update_hair(head, clip.hair)
    if built.rig is not None:
        install_rig(head, built.rig, scene)
    elif target is not None:
        rest_rig(head)
    if settings.mode == "cache" and settings.cache_file is not None:
        attach_cache(head, str(settings.cache_file), settings.start)
    elif target is not None:
        detach_cache(head)
    return Take(
        head.name,
        built.action.name,
        built.num_scene_frames,
        built.num_shape_keys,
        built.max_error_mm,
        built.warnings,
    )


def drop_replaced_meshes(spared: set[int]) -> None:
    """Remove meshes that takes replaced and nobody uses, so that repeated bakes do not pile them up.

    Args:
        spared: session ids of meshes to leave: an outer job may still bring them back.
    """
    gone = [
        mesh
        for mesh in bpy.data.meshes
        if mesh.users == 0 and mesh.session_uid not in spared and mesh.get(REPLACED_PROPERTY)
    ]
    bones = [each for each in bpy.data.armatures if each.users == 0 and each.get(REPLACED_PROPERTY)]
    bpy.data.batch_remove([*gone, *shape_keys_of(gone), *bones])


def require_last_frame(start: int, num_scene_frames: int) -> None:
    """Check that a take ends within Blender's frames.

    Raises:
        BadInputError: it does not.
    """
    last = start + num_scene_frames - 1
    if last > MAX_SCENE_FRAME:
        raise BadInputError(
            f"the take would end at frame {last:,}, Blender's last is {MAX_SCENE_FRAME:,}; choose a lower start frame "
            "or frame rate"
        )


def _performed_steps(
    built: BuiltTake,
    settings: BakeSettings,
    frames: SceneFrames,
    motion: PerformedMotion,
    composed: ComposedPerformance,
) -> Generator[float, None, None]:
    rest = read_rest_positions(built.carrier.data)
    built.num_shape_keys, built.max_error_mm = len(motion.shapes), motion.max_error_m * 1000.0
    built.action, built.columns = yield from performed_key_steps(
        built.carrier, motion, composed, rest, frames.positions, settings.start
    )
    moving = np.concatenate([motion.performance.weights, motion.performance.residual], axis=1).any(axis=0)
    if not any(moving[column] for column in motion.columns):
        built.warnings.append(_STILL)
    if (count := int(moving.sum())) > MANY_KEYS:
        built.warnings.append(f"the motion needs {count} shape keys and may play slowly; the bake mode cache is faster")


def _motion_steps(
    built: BuiltTake,
    settings: BakeSettings,
    frames: SceneFrames,
    rest: NDArray[np.float32],
    basis: MotionBasis | None,
) -> Generator[float, None, None]:
    if basis is not None:
        basis = shift_to_nonnegative(basis)
        built.num_shape_keys, built.max_error_mm = len(basis.shapes), basis.max_error_m * 1000.0
        if len(basis.shapes) > MANY_KEYS:
            built.warnings.append(
                f"the motion needs {len(basis.shapes)} shape keys and may play slowly; the bake mode cache is faster"
            )
        largest = float(np.abs(basis.shapes).max())
        built.action = yield from basis_key_steps(built.carrier, basis, rest, frames.positions, settings.start)
    elif settings.mode == "per-frame":
        built.num_shape_keys = len(frames)
        built.action = yield from frame_key_steps(built.carrier, frames, rest, settings.start)
        largest = frames.largest_m
    else:
        if settings.cache_file is None:
            raise ValueError("the cache bake expects settings.cache_file, got None")
        yield from point_cache_steps(settings.cache_file, frames, rest)
        largest = frames.largest_m
        # Without curves: it carries the provenance. On the mesh, so that the object keeps an action of its own.
        built.action, _ = new_action(built.carrier.data, f"{built.carrier.name} speech")
    if largest <= _STILL_M:
        built.warnings.append(_STILL)


def _basis_steps(clip: MotionClip, limit_mm: float, target: Any | None) -> Generator[float, None, MotionBasis]:
    """Return the clip's own basis where it has one that is close enough; else fit one, on another thread."""
    own = SceneFrames(clip, None)
    read = read_residual(clip) if has_performance(clip) else own.read
    ready = _basis_of(clip) if clip.basis_is_remainder == has_performance(clip) else None
    if ready is not None and ready.max_error_m <= limit_mm / 1000.0:
        return ready
    if target is None or takes_new_topology(target, clip):
        rest = to_blender_axes(clip.template_vertices)
    else:
        rest = read_rest_positions(target.data)
    done, stopped = [0.0], threading.Event()

    def report(part: float) -> None:
        if stopped.is_set():
            raise CancelledError("the bake was cancelled")
        done[0] = part

    with ThreadPoolExecutor(1, "talkhead basis") as thread:
        fitted = thread.submit(fit_motion_basis, len(own), read, rest, limit_mm / 1000.0, report)
        try:
            while not fitted.done():
                wait([fitted], _WAIT_SECONDS)
                yield _FIT_PART * done[0]
        finally:
            stopped.set()
    return fitted.result()


def _basis_of(clip: MotionClip) -> MotionBasis | None:
    if clip.basis_shapes is None or clip.basis_weights is None or clip.basis_max_error_m is None:
        return None
    return MotionBasis(to_blender_axes(clip.basis_shapes), clip.basis_weights, clip.basis_max_error_m)


def _create_carrier(clip: MotionClip, settings: BakeSettings, scene: Any, target: Any | None) -> Any:
    if target is None:
        carrier = create_head_object(clip)
        mark_character(carrier.data, clip)
        return carrier
    if takes_new_topology(target, clip):
        mesh = create_mesh(clip, [slot.material for slot in target.material_slots] or None)
        mark_character(mesh, clip)
        carrier = bpy.data.objects.new(target.name, mesh)
        write_vertex_groups(carrier, clip.regions)
        return carrier
    carrier = bpy.data.objects.new(target.name, target.data.copy())
    remove_own_keys(carrier)
    _release_old_action(carrier.data.shape_keys)
    _release_old_action(carrier.data)
    if settings.mode == "per-frame":
        clear_shape_keys(carrier)
    return carrier


def _release_old_action(owner: Any | None) -> None:
    """Take the action of an earlier take, and mixing with other animation, off a copied data-block."""
    if owner is None or owner.animation_data is None:
        return
    animation = owner.animation_data
    if read_provenance(animation.action) is not None:
        animation.action = None
    animation.action_influence = 1.0
    animation.action_blend_type = "REPLACE"


def _details(built: BuiltTake, settings: BakeSettings, rate: float, target: Any | None) -> dict[str, Any]:
    details: dict[str, Any] = {
        "mode": settings.mode,
        "start": settings.start,
        "last_frame": settings.start + built.num_scene_frames - 1,
        "scene_rate": rate,
        "own_object": target is None or is_own_object(target),
    }
    if settings.mode == "basis":
        details.update(error_limit_mm=settings.error_limit_mm, shape_keys=built.num_shape_keys)
    if built.columns is not None:
        details["columns"] = built.columns
    return details


def _keep_old_take(head: Any) -> None:
    """Hold what the new take replaces by fake users: our action, and one of the user's that its shape keys had."""
    action = take_action(head)
    keys = head.data.shape_keys
    animations = [owner.animation_data for owner in (keys, head.data) if owner is not None]
    actions = [action, *(animation.action for animation in animations if animation is not None)]
    for each in actions:
        if each is not None and each.library is None:
            each.use_fake_user = True
    if action is not None and head.data.library is None:
        head.data.use_fake_user = True
    if head.animation_data is not None and read_provenance(head.animation_data.action) is not None:
        head.animation_data.action = None


def _take_over_mesh(head: Any, carrier: Any, regions: dict[str, NDArray[np.int32]]) -> None:
    """Give the new take's mesh to the object. The old one stays, by a fake user when it has a take.

    One that nobody uses any more passes its name on, and goes with `drop_replaced_meshes` or when the file is saved.
    """
    old, new = head.data, carrier.data
    head.data = new
    bpy.data.objects.remove(carrier)
    if old.users == 0 and old.library is None:
        name = old.name
        old.name = f"{name} (replaced)"
        old[REPLACED_PROPERTY] = True
        new.name = name
    missing = {name: indices for name, indices in regions.items() if name not in head.vertex_groups}
    write_vertex_groups(head, missing)
