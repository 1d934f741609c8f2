"""The mesh sequence bake: a surface whose topology changes with time, shown by Geometry Nodes without a handler."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, cast

import bpy
from mathutils import Matrix

from ..contract.mesh_sequence import MeshSequence
from ..facial.timing import count_scene_frames
from ..scene.actions import new_action
from ..scene.created import CreatedBlocks
from ..scene.frame_meshes import create_frame_collection, create_frame_object, frame_object_name, show_frames
from ..scene.materials import create_surface_material
from ..scene.restore import unchanged_on_error
from ..scene.timeline import scene_rate
from .provenance import describe_take, write_provenance
from .take import Take, exhaust, require_last_frame

OBJECT_NAME = "TalkHead surface"
MODE = "mesh-sequence"
"""Bake mode in the provenance."""
BYTES_PER_VERTEX = 125
"""Of memory, and of the .blend file before compression: measured with colours and two triangles a vertex."""
_LARGE_BYTES = 2_000_000_000
_BUILD_PART = 0.98


@dataclass(frozen=True)
class SequenceSettings:
    """How a mesh sequence lands in the scene."""

    start: int = 1
    """Scene frame that shows the first mesh."""
    name: str = OBJECT_NAME
    """Of the new object."""


def bake_mesh_sequence(
    sequence: MeshSequence,
    settings: SequenceSettings,
    scene: Any,
    report: Callable[[float], None] = lambda fraction: None,
) -> Take:
    """Run `mesh_sequence_steps` to its end; `report` is called with the done fraction, 0..1."""
    return cast(Take, exhaust(mesh_sequence_steps(sequence, settings, scene), report))


def mesh_sequence_steps(
    sequence: MeshSequence,
    settings: SequenceSettings,
    scene: Any,
    complete: Callable[[Any, Take], Take] = lambda item, take: take,
) -> Generator[float, None, Take]:
    """Make an object at the 3D cursor that shows a mesh sequence; yields the done fraction, 0..1, after each mesh.

    Everything heavy happens beside the scene; the last step puts it in, so a run that is closed or fails before leaves
    the file as it was. The scene's frame rate may differ: the mesh nearest in time is shown.

    Args:
        sequence: the meshes.
        settings: where it begins.
        scene: the scene, with its final frame rate.
        complete: given the object in the scene and its take, adds what belongs to them, such as sound; when it raises,
            the file is as it was.

    Returns:
        The take; its object is removed by `inventory.remove_head`.

    Raises:
        BackendError: a frame of the sequence is damaged.
        BadInputError: the take would end beyond Blender's last frame.
    """
    rate = scene_rate(scene)
    num_scene_frames = count_scene_frames(sequence.num_frames, sequence.info.frame_rate, rate)
    require_last_frame(settings.start, num_scene_frames)
    with CreatedBlocks() as created:
        with created.recording():
            material = create_surface_material(sequence.vertex_colors is not None, sequence.pictures)
            carrier = bpy.data.meshes.new(settings.name)
            carrier.materials.append(material)
            item = bpy.data.objects.new(settings.name, carrier)
            collection = create_frame_collection(f"{item.name} frames")
        yield 0.0
        for index in range(sequence.num_frames):
            with created.recording():
                name = frame_object_name(item.name, index)
                collection.objects.link(create_frame_object(sequence.read_frame(index), name, [material]))
            yield _BUILD_PART * (index + 1) / sequence.num_frames
        with created.recording():
            speed = sequence.info.frame_rate / rate
            show_frames(item, collection, settings.start, sequence.num_frames, speed)
            action, _ = new_action(carrier, f"{item.name} speech")
        details = {
            "mode": MODE,
            "start": settings.start,
            "last_frame": settings.start + num_scene_frames - 1,
            "scene_rate": rate,
            "own_object": True,
        }
        write_provenance(action, describe_take(sequence, details))
        with unchanged_on_error(scene):
            item.matrix_world = Matrix.Translation(scene.cursor.location)
            scene.collection.objects.link(item)
            take = complete(item, Take(item.name, action.name, num_scene_frames, 0, 0.0, _warn_of_size(sequence)))
    yield 1.0
    return take


def _warn_of_size(sequence: MeshSequence) -> list[str]:
    needed = BYTES_PER_VERTEX * len(sequence.vertices)
    if needed <= _LARGE_BYTES:
        return []
    return [
        f"the {sequence.num_frames:,} meshes take about {needed / 1e9:.1f} GB of memory, and of the .blend file unless "
        "it is saved compressed; a lower resolution or a tracked mesh takes less"
    ]
