"""Results of the backend into the scene, whatever they are: a motion clip or a mesh sequence, one take or several."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import bpy
from mathutils import Vector

from ..contract import mesh_sequence as mesh_sequences
from ..contract.errors import BackendError
from ..contract.mesh_sequence import MeshSequence, load_mesh_sequence
from ..contract.motion_clip import load_motion_clip
from ..contract.result import RESULT_FILE, ResultInfo
from ..scene import timeline
from ..scene.restore import unchanged_on_error
from .animation import AnimationSettings, bake_animation_steps, place_sound
from .diagnosis import diagnose_take
from .mesh_sequence import SequenceSettings, mesh_sequence_steps
from .take import Take, exhaust

TAKE_DISTANCE_M = 0.35
"""From the head of one take to that of the next, along the scene's x."""


def bake_results(
    settings: AnimationSettings,
    folders: Sequence[Path],
    scene: Any,
    report: Callable[[float], None] = lambda fraction: None,
) -> Take:
    """Run `bake_results_steps` to its end; `report` is called with the done fraction, 0..1."""
    return cast(Take, exhaust(bake_results_steps(settings, folders, scene), report))


def bake_results_steps(
    settings: AnimationSettings, folders: Sequence[Path], scene: Any
) -> Generator[float, None, Take]:
    """Turn the backend's results into takes with their sound; yields the done fraction, 0..1.

    Several takes stand side by side; the first one is heard, the strips of the others are muted. A run that is closed
    or fails leaves the file as it was.

    Args:
        settings: as given to `prepare_animation`.
        folders: the results, one for each take.
        scene: the scene, with its final frame rate.

    Returns:
        The first take, with the further ones.

    Raises:
        BackendError: a result is missing or damaged.
        BadInputError: the target does not fit the motion, or no longer exists.
        OutputError: the cache cannot be written, for one because the disk is full.
    """
    takes: list[Take] = []
    with ExitStack() as stack:
        if len(folders) > 1:  # one take alone sees to it by itself, without a snapshot of the file
            stack.enter_context(unchanged_on_error(scene))
            stack.push(lambda kind, error, trace: _remove_caches(takes) if kind is not None else None)
        for number, folder in enumerate(folders):
            steps = _take_steps(settings, folder, scene)
            while True:
                try:
                    yield (number + next(steps)) / len(folders)
                except StopIteration as stop:
                    takes.append(stop.value)
                    break
            if number:
                _stand_beside(takes[-1], number, scene)
    return dataclasses.replace(takes[0], further=tuple(takes[1:]))


def sequence_steps(settings: AnimationSettings, sequence: MeshSequence, scene: Any) -> Generator[float, None, Take]:
    """Turn a mesh sequence into an object with its sound; see `mesh_sequence_steps`."""

    def complete(item: Any, take: Take) -> Take:
        warnings = list(take.warnings)
        strip = place_sound(settings, scene, item, warnings)
        if settings.extend_range:
            timeline.set_frame_range(scene, settings.start, take.num_scene_frames, is_new=False)
        warnings += diagnose_take(item, scene)
        return dataclasses.replace(take, warnings=warnings, strip_name=None if strip is None else strip.name)

    return mesh_sequence_steps(sequence, SequenceSettings(settings.start), scene, complete)


def read_kind(folder: Path) -> str:
    """Return the kind of a result folder.

    Raises:
        BackendError: there is none, or it is damaged.
    """
    try:
        return ResultInfo.from_json((folder / RESULT_FILE).read_text(encoding="utf-8")).kind
    except (OSError, ValueError) as error:
        raise BackendError(f"the backend's result {folder} is missing or damaged: {error}") from error


def _take_steps(settings: AnimationSettings, folder: Path, scene: Any) -> Generator[float, None, Take]:
    if read_kind(folder) == mesh_sequences.KIND:
        return sequence_steps(settings, load_mesh_sequence(folder), scene)
    return bake_animation_steps(settings, load_motion_clip(folder), scene)


def _stand_beside(take: Take, number: int, scene: Any) -> None:
    item = bpy.data.objects[take.object_name]
    item.matrix_world.translation += Vector((number * TAKE_DISTANCE_M, 0.0, 0.0))
    for strip in timeline.strips_of_head(scene, take.object_name):
        strip.mute = True


def _remove_caches(takes: list[Take]) -> None:
    for take in takes:
        if take.cache_file is not None:
            take.cache_file.unlink(missing_ok=True)
