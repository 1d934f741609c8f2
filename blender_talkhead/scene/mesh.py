"""A motion clip's template as a mesh object, in bulk: polygons, texture coordinates, colours, groups, materials."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from ..contract.motion_clip import MotionClip
from .coordinates import to_blender_axes
from .hair import attach_hair, create_hair, find_hair
from .materials import EYE_RINGS, MOUTH_ATTRIBUTE, create_materials

logger = logging.getLogger(__name__)

OBJECT_NAME = "TalkHead"
COLOR_ATTRIBUTE = "Color"
UV_MAP = "UVMap"
REPLACED_PROPERTY = "talkhead_replaced"
"""Custom property of a mesh that nobody uses since a take replaced it."""


def create_head_object(clip: MotionClip) -> Any:
    """Make the object "TalkHead" from a clip's template, with its hair as a child; link them by `link_head`.

    The mesh is in Blender's axes and metres, shaded smooth. A Subdivision Surface modifier works in renders only, so
    that the evaluated mesh in the viewport has the vertices of the clip.

    Returns:
        The new object (bpy.types.Object).
    """
    mesh = create_mesh(clip)
    head = bpy.data.objects.new(OBJECT_NAME, mesh)
    write_vertex_groups(head, clip.regions)
    subdivision = head.modifiers.new("Smooth in renders", "SUBSURF")
    subdivision.show_viewport = False
    subdivision.levels = 1
    subdivision.render_levels = 1
    hair = create_hair(clip)
    if hair is not None:
        attach_hair(head, hair)
    return head


def link_head(collection: Any, head: Any) -> None:
    """Link a head and its hair to a collection."""
    collection.objects.link(head)
    hair = find_hair(head)
    if hair is not None:
        collection.objects.link(hair)


def create_mesh(clip: MotionClip, materials: Sequence[Any] | None = None) -> Any:
    """Make the mesh of a clip's template; nothing is linked.

    Args:
        clip: the clip.
        materials: one a part of the clip, in order, and those of `EYE_RINGS` if any; None makes new ones.
    """
    mesh = bpy.data.meshes.new(OBJECT_NAME)
    starts = clip.polygon_starts[:-1]
    mesh.vertices.add(clip.num_vertices)
    mesh.loops.add(len(clip.polygon_vertices))
    mesh.polygons.add(len(starts))
    mesh.vertices.foreach_set("co", _flat(to_blender_axes(clip.template_vertices)))
    mesh.loops.foreach_set("vertex_index", _flat(clip.polygon_vertices))
    mesh.polygons.foreach_set("loop_start", _flat(starts))
    mesh.polygons.foreach_set("use_smooth", np.ones(len(starts), bool))
    uv_layer = mesh.uv_layers.new(name=UV_MAP)
    uv_layer.data.foreach_set("uv", _flat(clip.corner_uvs))
    colors = mesh.color_attributes.new(COLOR_ATTRIBUTE, "FLOAT_COLOR", "POINT")
    opaque = np.concatenate([clip.vertex_colors, np.ones((clip.num_vertices, 1), np.float32)], axis=1)
    colors.data.foreach_set("color", _flat(opaque))
    mesh.color_attributes.active_color = colors
    for material in list(create_materials(clip).values()) if materials is None else materials:
        mesh.materials.append(material)
    mesh.polygons.foreach_set("material_index", polygon_material_indices(clip, len(mesh.materials)))
    mesh.update(calc_edges=True)
    _crease_lips(mesh, clip.regions)
    inside = np.zeros(clip.num_vertices, np.float32)
    inside[clip.regions.get("mouth_bag", [])] = 1.0
    mesh.attributes.new(MOUTH_ATTRIBUTE, "FLOAT", "POINT").data.foreach_set("value", inside)
    if mesh.validate():
        logger.warning("the head's mesh had invalid polygons, which Blender removed")
    return mesh


def _crease_lips(mesh: Any, regions: dict[str, NDArray[np.int32]]) -> None:
    """Crease the rings where the lips touch: subdivision would draw each back from the other and open a slit."""
    corners = [regions[name] for name in ("mouth_corner_left", "mouth_corner_right") if name in regions]
    vertices = np.empty(2 * len(mesh.edges), np.int32)
    mesh.edges.foreach_get("vertices", vertices)
    creased = np.zeros(len(mesh.edges), bool)
    for side in ("lips_inner_upper", "lips_inner_lower"):
        if side in regions:
            ring = np.concatenate([regions[side], *corners])
            both = np.isin(vertices, ring).reshape(-1, 2).all(axis=1)
            creased |= both & np.isin(vertices, regions[side]).reshape(-1, 2).any(axis=1)
    if creased.any():
        crease = mesh.attributes.new("crease_edge", "FLOAT", "EDGE")
        crease.data.foreach_set("value", creased.astype(np.float32))


def polygon_part_indices(clip: MotionClip) -> NDArray[np.int32]:
    """Return (P,) the index of the part that each polygon belongs to, in the order of `clip.parts`."""
    first_vertices = clip.polygon_vertices[clip.polygon_starts[:-1]]
    stops = np.array([stop for _, stop in clip.parts.values()] or [clip.num_vertices])
    return np.searchsorted(stops, first_vertices, side="right").astype(np.int32)


def polygon_material_indices(clip: MotionClip, num_materials: int) -> NDArray[np.int32]:
    """Return (P,) the material of each polygon: its part's, or its eye ring's where the rings have one."""
    indices = polygon_part_indices(clip)
    parts = list(clip.parts)
    if "eyes" not in parts or "eye_color" not in clip.textures or num_materials < len(parts) + len(EYE_RINGS):
        return indices
    distances = np.linalg.norm(clip.corner_uvs - 0.5, axis=1)
    furthest = np.maximum.reduceat(distances, clip.polygon_starts[:-1])
    is_eye = indices == parts.index("eyes")
    for slot, (radius, _) in enumerate(EYE_RINGS.values(), start=len(parts)):
        indices[is_eye & (furthest <= radius)] = slot
    return indices


def write_vertex_groups(head: Any, regions: dict[str, NDArray[np.int32]]) -> None:
    """Make one vertex group a region, with weight 1 on its vertices."""
    for name, indices in regions.items():
        group = head.vertex_groups.get(name) or head.vertex_groups.new(name=name)
        group.add(indices.tolist(), 1.0, "REPLACE")


def read_rest_positions(mesh: Any) -> NDArray[np.float32]:
    """Return the rest positions (V, 3) of a mesh: its basis shape key, or its vertices without one."""
    keys = mesh.shape_keys
    points = mesh.vertices if keys is None else keys.reference_key.points
    positions = np.empty(len(mesh.vertices) * 3, np.float32)
    points.foreach_get("co", positions)
    return positions.reshape(-1, 3)


def read_polygon_vertices(mesh: Any) -> NDArray[np.int32]:
    """Return the vertex of every polygon corner (corners,)."""
    corners = np.empty(len(mesh.loops), np.int32)
    mesh.loops.foreach_get("vertex_index", corners)
    return corners


def shape_keys_of(meshes: list[Any]) -> list[Any]:
    """Return the shape key data-blocks of meshes: removed with them, or they stay behind as invalid ones."""
    return [mesh.shape_keys for mesh in meshes if mesh.shape_keys is not None]


def read_evaluated_positions(head: Any, depsgraph: Any) -> NDArray[np.float32]:
    """Return the vertex positions (V, 3) of an object as the viewport shows it, in object space."""
    evaluated = head.evaluated_get(depsgraph)
    mesh = evaluated.to_mesh()
    positions = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", positions)
    evaluated.to_mesh_clear()
    return positions.reshape(-1, 3)


def _flat(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array).reshape(-1)
