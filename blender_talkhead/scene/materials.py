"""Materials of the head's parts: skin, eyes, teeth, gums, tongue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bpy

from ..compat import enable_nodes
from ..contract.motion_clip import MotionClip


@dataclass(frozen=True)
class Surface:
    """How a part takes light; its colour comes from the clip."""

    roughness: float
    subsurface: float = 0.0
    """Part of the diffuse light that scatters below the surface, 0..1."""
    subsurface_scale_m: float = 0.004
    subsurface_radius: tuple[float, float, float] = (1.0, 0.35, 0.2)
    """Relative scattering distance of red, green and blue."""
    coat: float = 0.0
    specular: float = 0.5


SURFACES: dict[str, Surface] = {
    "skin": Surface(roughness=0.48, subsurface=0.12, specular=0.4),
    "eyes": Surface(roughness=0.25, coat=1.0),
    "teeth": Surface(roughness=0.22, subsurface=0.1, subsurface_scale_m=0.002, subsurface_radius=(1.0, 0.9, 0.8)),
    "gums": Surface(roughness=0.3, subsurface=0.15),
    "tongue": Surface(roughness=0.35, subsurface=0.15),
}
_OTHER = Surface(roughness=0.5)


def create_materials(clip: MotionClip) -> dict[str, Any]:
    """Make one material a part of the clip.

    The skin takes its colour from the clip's texture, packed into the file, when there is one; everything else, and a
    skin without texture, from the vertex colours.

    Returns:
        Part name -> bpy.types.Material, in the order of `clip.parts`.
    """
    materials = {}
    for part in clip.parts or {"skin": (0, clip.num_vertices)}:
        material = bpy.data.materials.new(f"TalkHead {part}")
        tree = enable_nodes(material)
        shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
        _set_surface(shader, SURFACES.get(part, _OTHER))
        source = tree.nodes.new("ShaderNodeTexImage" if _has_texture(clip, part) else "ShaderNodeVertexColor")
        source.location = (-320, 280)
        if _has_texture(clip, part):
            source.image = _packed_image(clip)
            source.interpolation = "Cubic"
        else:
            source.layer_name = "Color"
        tree.links.new(source.outputs["Color"], shader.inputs["Base Color"])
        materials[part] = material
    return materials


def _has_texture(clip: MotionClip, part: str) -> bool:
    return part == "skin" and clip.skin_texture is not None


def _packed_image(clip: MotionClip) -> Any:
    image = bpy.data.images.load(str(clip.skin_texture))
    image.name = "TalkHead skin colour"
    image.pack()
    image.filepath = ""
    return image


def _set_surface(shader: Any, surface: Surface) -> None:
    inputs = shader.inputs
    inputs["Roughness"].default_value = surface.roughness
    inputs["Specular IOR Level"].default_value = surface.specular
    inputs["Subsurface Weight"].default_value = surface.subsurface
    inputs["Subsurface Scale"].default_value = surface.subsurface_scale_m
    inputs["Subsurface Radius"].default_value = surface.subsurface_radius
    inputs["Coat Weight"].default_value = surface.coat
    inputs["Coat Roughness"].default_value = 0.03


def create_hair_material() -> Any:
    """Make the material of the hair."""
    material = bpy.data.materials.new("TalkHead hair")
    tree = enable_nodes(material)
    shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Base Color"].default_value = (0.055, 0.030, 0.018, 1.0)
    shader.inputs["Roughness"].default_value = 0.42
    shader.inputs["Specular IOR Level"].default_value = 0.5
    return material
