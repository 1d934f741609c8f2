"""Camera, three-point lighting and backdrop around a head."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix, Vector
from numpy.typing import NDArray

from ..compat import enable_nodes

COLLECTION_NAME = "TalkHead stage"
BACKDROP_COLORS = ((0.36, 0.43, 0.5), (0.12, 0.155, 0.2))
"""Linear grey-blue behind the head and at the rim of the picture."""
_LENS_MM = 85.0
_SENSOR_MM = 36.0
_FRAMED_HEIGHT = 1.02
"""Height of the picture in head heights, at the head: the neck leaves it below, without its edge showing."""
_AIM_ABOVE_CENTRE = 0.075
"""Where the camera looks, in head heights above the middle of crown and neck."""


@dataclass(frozen=True)
class AreaLight:
    """One lamp of the set, placed in head heights from the head's centre (Blender's axes: -Y is in front)."""

    name: str
    position: tuple[float, float, float]
    size: float
    """Edge length in head heights."""
    power: float
    """Watts at a head 0.25 m high."""
    color: tuple[float, float, float]


LIGHTS = (
    AreaLight("Key light", (-2.5, -3.0, 2.3), 1.5, 15.0, (1.0, 0.93, 0.85)),
    AreaLight("Fill light", (3.4, -2.8, 0.3), 2.6, 4.6, (0.86, 0.92, 1.0)),
    AreaLight("Rim light", (3.0, 2.6, 1.4), 2.2, 11.0, (0.95, 0.97, 1.0)),
)


def build_stage(head: Any, rest: NDArray[np.float32]) -> Any:
    """Make a collection with camera, lights and backdrop around a head; it is linked nowhere yet.

    Args:
        head: the object; its place in the world is followed once, its scale ignored.
        rest: (V, 3) rest positions in object space, Blender's axes.

    Returns:
        The collection (bpy.types.Collection). Its camera is `stage_camera(collection)`.
    """
    low, high = rest.min(axis=0), rest.max(axis=0)
    height = float(high[2] - low[2])
    centre = Vector(((low + high) / 2).tolist())
    location, rotation, _ = head.matrix_world.decompose()
    place = Matrix.LocRotScale(location, rotation, None)
    collection = bpy.data.collections.new(COLLECTION_NAME)
    _add_camera(collection, place, centre, height)
    for light in LIGHTS:
        _add_light(collection, light, place, centre, height)
    _add_backdrop(collection, place, centre, height)
    return collection


def stage_camera(collection: Any) -> Any:
    """Return the camera object of a stage."""
    return next(item for item in collection.objects if item.type == "CAMERA")


def remove_stage(collection: Any, world: Any) -> None:
    """Remove a stage and its world from the file."""
    data_blocks = [item.data for item in collection.objects]
    materials = [slot.material for item in collection.objects for slot in item.material_slots]
    bpy.data.batch_remove([*collection.objects, *data_blocks, *materials, collection, world])


def create_world() -> Any:
    """Make a dim, neutral world, so that shadows are not black."""
    world = bpy.data.worlds.new("TalkHead world")
    background = next(node for node in enable_nodes(world).nodes if node.type == "BACKGROUND")
    background.inputs["Color"].default_value = (0.55, 0.62, 0.72, 1.0)
    background.inputs["Strength"].default_value = 0.22
    return world


def _add_camera(collection: Any, place: Any, centre: Any, height: float) -> None:
    data = bpy.data.cameras.new("Portrait camera")
    data.lens = _LENS_MM
    data.sensor_width = _SENSOR_MM
    distance = _FRAMED_HEIGHT * height * _LENS_MM / _SENSOR_MM
    data.clip_start = 0.05 * distance
    camera = bpy.data.objects.new(data.name, data)
    turn = math.radians(11.0)
    aim = centre + Vector((0.0, 0.0, _AIM_ABOVE_CENTRE * height))
    eye = aim + Vector((math.sin(turn), -math.cos(turn), 0.03)) * distance
    camera.matrix_world = place @ _looking_at(eye, aim)
    collection.objects.link(camera)


def _add_light(collection: Any, light: AreaLight, place: Any, centre: Any, height: float) -> None:
    data = bpy.data.lights.new(light.name, "AREA")
    data.shape = "DISK"
    data.size = light.size * height
    data.energy = light.power * (height / 0.25) ** 2
    data.color = light.color
    lamp = bpy.data.objects.new(light.name, data)
    lamp.matrix_world = place @ _looking_at(centre + Vector(light.position) * height, centre)
    collection.objects.link(lamp)


def _add_backdrop(collection: Any, place: Any, centre: Any, height: float) -> None:
    mesh = bpy.data.meshes.new("Backdrop")
    corners = [(-8, 0, -8), (8, 0, -8), (8, 0, 8), (-8, 0, 8)]  # the gradient ends at a distance of 1
    mesh.from_pydata(corners, [], [(0, 1, 2, 3)])
    material = _backdrop_material()
    mesh.materials.append(material)
    backdrop = bpy.data.objects.new("Backdrop", mesh)
    backdrop.matrix_world = place @ Matrix.LocRotScale(
        centre + Vector((0.0, 2.0 * height, 0.1 * height)), None, Vector((1.25, 1.25, 1.25)) * height
    )
    for kind in ("diffuse", "glossy", "shadow", "transmission"):
        setattr(backdrop, f"visible_{kind}", False)
    collection.objects.link(backdrop)


def _backdrop_material() -> Any:
    """Make a round gradient that glows by itself: cheaper to render than a lit wall."""
    material = bpy.data.materials.new("TalkHead backdrop")
    tree = enable_nodes(material)
    tree.nodes.clear()
    coordinates = tree.nodes.new("ShaderNodeTexCoord")
    gradient = tree.nodes.new("ShaderNodeTexGradient")
    gradient.gradient_type = "SPHERICAL"
    ramp = tree.nodes.new("ShaderNodeValToRGB")
    ramp.color_ramp.interpolation = "EASE"
    for element, color in zip(ramp.color_ramp.elements, reversed(BACKDROP_COLORS), strict=True):
        element.color = (*color, 1.0)
    emission = tree.nodes.new("ShaderNodeEmission")
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    tree.links.new(coordinates.outputs["Object"], gradient.inputs["Vector"])
    tree.links.new(gradient.outputs["Fac"], ramp.inputs["Fac"])
    tree.links.new(ramp.outputs["Color"], emission.inputs["Color"])
    tree.links.new(emission.outputs["Emission"], output.inputs["Surface"])
    return material


def _looking_at(eye: Any, point: Any) -> Any:
    """Return the matrix of an object at `eye` whose -Z axis points at `point`, upright."""
    rotation = (point - eye).to_track_quat("-Z", "Y")
    return Matrix.LocRotScale(eye, rotation, None)
