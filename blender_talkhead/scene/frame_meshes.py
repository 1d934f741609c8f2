"""An object that shows another mesh at every scene frame by Geometry Nodes, without a Python handler.

Each frame is a mesh of its own, on an object in a collection that is linked to no scene; the node group picks one by
Scene Time. One mesh that holds all frames would have to be searched as a whole at each of them.
"""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from ..contract.mesh_sequence import PLACE_SCALE, FrameMesh
from .coordinates import to_blender_axes
from .materials import EYE_PLACE, EYE_SHARE, SKIN_PLACE
from .mesh import COLOR_ATTRIBUTE

MODIFIER_NAME = "TalkHead frames"
COLLECTION_PROPERTY = "talkhead_frames"
"""Custom property of a collection with the meshes of frames."""
_GEOMETRY = "NodeSocketGeometry"


def create_frame_object(mesh: FrameMesh, name: str, materials: list[Any]) -> Any:
    """Make the object of one frame, shaded smooth; it is linked nowhere."""
    data = bpy.data.meshes.new(name)
    num_faces = len(mesh.faces)
    data.vertices.add(len(mesh.vertices))
    data.loops.add(3 * num_faces)
    data.polygons.add(num_faces)
    data.vertices.foreach_set("co", to_blender_axes(mesh.vertices).reshape(-1))
    data.loops.foreach_set("vertex_index", mesh.faces.reshape(-1))
    data.polygons.foreach_set("loop_start", np.arange(0, 3 * num_faces, 3, dtype=np.int32))
    if mesh.colors is not None:
        colors = data.color_attributes.new(COLOR_ATTRIBUTE, "BYTE_COLOR", "POINT")
        opaque = np.ones((len(mesh.vertices), 4), np.float32)
        opaque[:, :3] = mesh.colors / np.float32(255.0)
        colors.data.foreach_set("color_srgb", opaque.reshape(-1))
    if mesh.places is not None:
        _write_places(data, mesh.places)
    for material in materials:
        data.materials.append(material)
    data.shade_smooth()
    data.update(calc_edges=True)
    return bpy.data.objects.new(name, data)


def _write_places(data: Any, places: NDArray[np.uint16]) -> None:
    """Store where each vertex lies in the pictures, as attributes that the material reads."""
    shares = places.astype(np.float32) / np.float32(PLACE_SCALE)
    for name, columns in ((SKIN_PLACE, slice(0, 2)), (EYE_PLACE, slice(2, 4))):
        attribute = data.attributes.new(name, "FLOAT2", "POINT")
        attribute.data.foreach_set("vector", np.ascontiguousarray(shares[:, columns]).reshape(-1))
    data.attributes.new(EYE_SHARE, "FLOAT", "POINT").data.foreach_set("value", np.ascontiguousarray(shares[:, 4]))


def create_frame_collection(name: str) -> Any:
    """Make the collection for the objects of all frames, linked to no scene."""
    collection = bpy.data.collections.new(name)
    collection[COLLECTION_PROPERTY] = True
    return collection


def frame_object_name(base: str, index: int) -> str:
    """Return the name of a frame's object: by name they are sorted when a node picks one."""
    return f"{base[:40]} frame {index:06d}"


def show_frames(item: Any, collection: Any, start: int, num_frames: int, frames_per_scene_frame: float) -> Any:
    """Let an object show the frame of the scene's time; the first before the start, the last after the end.

    Args:
        item: the object; its own mesh is not shown.
        collection: of the frames' objects.
        start: scene frame of the first one.
        num_frames: how many there are.
        frames_per_scene_frame: frame rate of the sequence over that of the scene; between two the nearer one is shown.

    Returns:
        The node group (bpy.types.GeometryNodeTree).
    """
    group = bpy.data.node_groups.new(f"{item.name} frames", "GeometryNodeTree")
    group.interface.new_socket("Geometry", in_out="INPUT", socket_type=_GEOMETRY)
    group.interface.new_socket("Geometry", in_out="OUTPUT", socket_type=_GEOMETRY)
    nodes, links = group.nodes, group.links
    time = _node(group, "GeometryNodeInputSceneTime", 0, 0)
    value = time.outputs["Frame"]
    # Rounded by adding a half and cutting off; a margin keeps an exact half from depending on rounding errors.
    for column, (operation, number) in enumerate(
        (
            ("SUBTRACT", float(start)),
            ("MULTIPLY", frames_per_scene_frame),
            ("ADD", 0.5 + 1e-3),
            ("FLOOR", 0.0),
            ("MAXIMUM", 0.0),
            ("MINIMUM", float(num_frames - 1)),
        ),
        start=1,
    ):
        math = _node(group, "ShaderNodeMath", column, 0)
        math.operation = operation
        math.inputs[1].default_value = number
        links.new(value, math.inputs[0])
        value = math.outputs[0]
    frames = _node(group, "GeometryNodeCollectionInfo", 6, 1)
    frames.inputs["Collection"].default_value = collection
    frames.inputs["Separate Children"].default_value = True
    frames.inputs["Reset Children"].default_value = True
    place = _node(group, "GeometryNodePoints", 6, 2)
    instance = _node(group, "GeometryNodeInstanceOnPoints", 7, 0)
    instance.inputs["Pick Instance"].default_value = True
    links.new(place.outputs[0], instance.inputs["Points"])
    links.new(frames.outputs[0], instance.inputs["Instance"])
    links.new(value, instance.inputs["Instance Index"])
    realized = _node(group, "GeometryNodeRealizeInstances", 8, 0)
    links.new(instance.outputs[0], realized.inputs[0])
    output = nodes.new("NodeGroupOutput")
    output.location = (9 * 180.0, 0.0)
    links.new(realized.outputs[0], output.inputs[0])
    modifier = item.modifiers.new(MODIFIER_NAME, "NODES")
    modifier.node_group = group
    return group


def frame_blocks(item: Any) -> list[Any]:
    """Return what only the frames of an object use: node group, collection, objects and meshes; empty without any."""
    modifier = item.modifiers.get(MODIFIER_NAME)
    group = None if modifier is None else modifier.node_group
    if group is None or group.users > 1:
        return []
    blocks = [group]
    for node in group.nodes:
        collection = node.inputs["Collection"].default_value if node.bl_idname == "GeometryNodeCollectionInfo" else None
        if collection is not None and COLLECTION_PROPERTY in collection:
            objects = list(collection.objects)
            blocks += [collection, *objects, *(each.data for each in objects)]
    return blocks


def _node(group: Any, kind: str, column: int, row: int) -> Any:
    node = group.nodes.new(kind)
    node.location = (180.0 * column, -220.0 * row)
    return node
