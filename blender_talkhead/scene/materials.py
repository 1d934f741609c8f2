"""Materials of the head's parts: skin, eyes, teeth, gums, tongue, brows, lashes, hair."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
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
    shown: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Colour in the solid viewport."""
    glow: float = 0.0
    """Light given off, as a part of the colour: what bounces about in a mouth, which renderers cut short."""


SURFACES: dict[str, Surface] = {
    "skin": Surface(roughness=0.5, subsurface=0.16, specular=0.42, shown=(0.80, 0.54, 0.42)),
    "eyes": Surface(roughness=0.42, coat=1.0, specular=0.2, shown=(0.80, 0.80, 0.78)),
    "teeth": Surface(
        roughness=0.16,
        subsurface=0.25,
        subsurface_scale_m=0.002,
        subsurface_radius=(1.0, 0.9, 0.75),
        glow=0.16,
        shown=(0.90, 0.84, 0.72),
    ),
    "gums": Surface(roughness=0.22, subsurface=0.2, glow=0.10, shown=(0.52, 0.21, 0.19)),
    "tongue": Surface(roughness=0.30, subsurface=0.2, glow=0.10, shown=(0.56, 0.24, 0.22)),
    "brows": Surface(roughness=0.55, specular=0.25, shown=(0.085, 0.052, 0.035)),
    "lashes": Surface(roughness=0.6, specular=0.15, shown=(0.02, 0.014, 0.012)),
}
_OTHER = Surface(roughness=0.5)
_NORMAL_STRENGTH = 0.5
"""The backend bakes its normal map twice as steep as meant (torch_backend.head.skin_detail)."""
_IRIS_RADIUS = 0.153
"""Of the eyes' picture, in texture coordinates: up to here the iris is drawn as a bowl under the clear cornea."""
EYE_RINGS: dict[str, tuple[float, tuple[float, float, float]]] = {
    "iris": (_IRIS_RADIUS, (0.10, 0.19, 0.21)),
    "pupil": (0.081, (0.008, 0.008, 0.008)),
}
"""Eye polygons with a material of their own, from outside in: radius in the eyes' picture and colour in the solid
viewport. They render like the rest of the eye; without them the solid viewport shows blank eyes."""
_IRIS_DEPTH_M = 0.0022
SKIN_PLACE, EYE_PLACE, EYE_SHARE = "Skin place", "Eye place", "Eye"
"""Attributes of a mesh sequence's vertices: texture coordinates in the pictures, and what belongs to an eye."""
MOUTH_ATTRIBUTE = "Mouth"
"""Mesh attribute that is 1 inside the mouth."""
_MOUTH_GLOW = 0.10
HAIR_COLOR = (0.060, 0.034, 0.020, 1.0)


def create_materials(clip: MotionClip) -> dict[str, Any]:
    """Make one material a part of the clip.

    Skin and eyes take their pictures from the clip, packed into the file, where it has them; everything else takes the
    vertex colours.

    Returns:
        Part name -> bpy.types.Material, in the order of `clip.parts`; then those of `EYE_RINGS`, where the clip has a
        picture of the eyes.
    """
    materials: dict[str, Any] = {}
    for part in clip.parts or {"skin": (0, clip.num_vertices)}:
        material = bpy.data.materials.new(f"TalkHead {part}")
        tree = enable_nodes(material)
        shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
        surface = SURFACES.get(part, _OTHER)
        _set_surface(shader, surface)
        material.diffuse_color = (*surface.shown, 1.0)
        color = _color_source(tree, clip, part)
        tree.links.new(color, shader.inputs["Base Color"])
        if surface.glow:
            tree.links.new(color, shader.inputs["Emission Color"])
            shader.inputs["Emission Strength"].default_value = surface.glow
        if part == "skin":
            _light_mouth(tree, shader, color)
            _add_skin_detail(tree, shader, clip)
        if part == "eyes" and "eye_color" in clip.textures:
            _add_iris_bowl(tree, shader)
        materials[part] = material
    if "eyes" in materials and "eye_color" in clip.textures:
        for ring, (_, shown) in EYE_RINGS.items():
            materials[ring] = materials["eyes"].copy()
            materials[ring].name = f"TalkHead {ring}"
            materials[ring].diffuse_color = (*shown, 1.0)
    return materials


def create_surface_material(has_colors: bool, pictures: dict[str, Path] | None = None) -> Any:
    """Make the material of a surface without parts: the look of skin, and of eyes where it has pictures of them.

    Args:
        has_colors: whether it has vertex colours, which are shown where there are no pictures.
        pictures: by the names of contract.mesh_sequence.PICTURE_FILES; they are packed into the file.
    """
    material = bpy.data.materials.new("TalkHead surface")
    tree = enable_nodes(material)
    shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
    surface = SURFACES["skin"]
    _set_surface(shader, surface)
    material.diffuse_color = (*surface.shown, 1.0)
    shader.inputs["Base Color"].default_value = (*surface.shown, 1.0)
    if pictures and {"skin_color", "eye_color"} <= set(pictures):
        _show_pictures(tree, shader, pictures)
    elif has_colors:
        tree.links.new(_vertex_colors(tree), shader.inputs["Base Color"])
    return material


def _show_pictures(tree: Any, shader: Any, pictures: dict[str, Path]) -> None:
    """Colour by the pictures of skin and eyes, where the vertices lie in them; eyes shine."""
    skin = _picture_node(tree, pictures["skin_color"], "TalkHead skin colour", 280)
    skin.interpolation = "Cubic"
    eye = _picture_node(tree, pictures["eye_color"], "TalkHead eye colour", -20)
    share = _attribute(tree, EYE_SHARE, (-900, 560))
    tree.links.new(_attribute(tree, SKIN_PLACE, (-900, 280)).outputs["Vector"], skin.inputs["Vector"])
    tree.links.new(_attribute(tree, EYE_PLACE, (-900, -20)).outputs["Vector"], eye.inputs["Vector"])
    edge = tree.nodes.new("ShaderNodeMapRange")  # a sharp edge between two vertices
    edge.location = (-620, 560)
    edge.inputs["From Min"].default_value, edge.inputs["From Max"].default_value = 0.45, 0.55
    tree.links.new(share.outputs["Fac"], edge.inputs["Value"])
    mix = tree.nodes.new("ShaderNodeMix")
    mix.data_type, mix.location = "RGBA", (-280, 280)
    tree.links.new(edge.outputs["Result"], mix.inputs["Factor"])
    inputs = {socket.name: socket for socket in mix.inputs if socket.type == "RGBA"}
    tree.links.new(skin.outputs["Color"], inputs["A"])
    tree.links.new(eye.outputs["Color"], inputs["B"])
    result = next(socket for socket in mix.outputs if socket.type == "RGBA")
    tree.links.new(result, shader.inputs["Base Color"])
    tree.links.new(edge.outputs["Result"], shader.inputs["Coat Weight"])


def _attribute(tree: Any, name: str, location: tuple[float, float]) -> Any:
    node = tree.nodes.new("ShaderNodeAttribute")
    node.attribute_name, node.location = name, location
    return node


def create_hair_material() -> Any:
    """Make the material of the hair: darker at the roots, each strand a little different."""
    material = bpy.data.materials.new("TalkHead hair")
    tree = enable_nodes(material)
    shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
    inputs = shader.inputs
    material.diffuse_color = HAIR_COLOR
    inputs["Base Color"].default_value = HAIR_COLOR
    inputs["Roughness"].default_value = 0.45
    inputs["Specular IOR Level"].default_value = 0.35
    strand = tree.nodes.new("ShaderNodeHairInfo")
    strand.location = (-900, 280)
    ramp = tree.nodes.new("ShaderNodeValToRGB")
    ramp.location = (-620, 380)
    red, green, blue, _ = HAIR_COLOR
    for element, share in zip(ramp.color_ramp.elements, (0.5, 1.6), strict=True):
        element.color = (red * share, green * share, blue * share, 1.0)
    root = tree.nodes.new("ShaderNodeValToRGB")
    root.location = (-620, 140)
    for element, share in zip(root.color_ramp.elements, (0.45, 1.0), strict=True):
        element.color = (share, share, share, 1.0)
    root.color_ramp.elements[1].position = 0.45
    mix = tree.nodes.new("ShaderNodeMix")
    mix.data_type, mix.blend_type = "RGBA", "MULTIPLY"
    mix.location = (-280, 280)
    mix.inputs[0].default_value = 1.0
    tree.links.new(strand.outputs["Random"], ramp.inputs["Fac"])
    tree.links.new(strand.outputs["Intercept"], root.inputs["Fac"])
    tree.links.new(ramp.outputs["Color"], mix.inputs[6])
    tree.links.new(root.outputs["Color"], mix.inputs[7])
    tree.links.new(mix.outputs[2], inputs["Base Color"])
    return material


def _color_source(tree: Any, clip: MotionClip, part: str) -> Any:
    """Return the socket with the colour of a part: a picture where the clip has one, else the vertex colours."""
    if part == "skin" and clip.skin_texture is not None:
        source = _picture_node(tree, clip.skin_texture, "TalkHead skin colour", 280)
        source.interpolation = "Cubic"
    elif part == "eyes" and "eye_color" in clip.textures:
        source = _picture_node(tree, clip.textures["eye_color"], "TalkHead eye colour", 280)
    else:
        return _vertex_colors(tree)
    return source.outputs["Color"]


def _vertex_colors(tree: Any) -> Any:
    source = tree.nodes.new("ShaderNodeVertexColor")
    source.layer_name = "Color"
    source.location = (-320, 280)
    return source.outputs["Color"]


def _light_mouth(tree: Any, shader: Any, color: Any) -> None:
    """Let the inside of the mouth give off some of its colour."""
    inside = tree.nodes.new("ShaderNodeAttribute")
    inside.attribute_name = MOUTH_ATTRIBUTE
    inside.location = (-620, -640)
    strength = tree.nodes.new("ShaderNodeMath")
    strength.operation = "MULTIPLY"
    strength.inputs[1].default_value = _MOUTH_GLOW
    strength.location = (-280, -640)
    tree.links.new(inside.outputs["Fac"], strength.inputs[0])
    tree.links.new(color, shader.inputs["Emission Color"])
    tree.links.new(strength.outputs["Value"], shader.inputs["Emission Strength"])


def _add_skin_detail(tree: Any, shader: Any, clip: MotionClip) -> None:
    """Connect normal map and roughness map, as far as the clip has them."""
    if "skin_roughness" in clip.textures:
        rough = _picture_node(tree, clip.textures["skin_roughness"], "TalkHead skin roughness", 0, is_data=True)
        tree.links.new(rough.outputs["Color"], shader.inputs["Roughness"])
    if "skin_normal" in clip.textures:
        picture = _picture_node(tree, clip.textures["skin_normal"], "TalkHead skin normals", -300, is_data=True)
        normal = tree.nodes.new("ShaderNodeNormalMap")
        normal.location = (-280, -300)
        normal.inputs["Strength"].default_value = _NORMAL_STRENGTH
        tree.links.new(picture.outputs["Color"], normal.inputs["Color"])
        tree.links.new(normal.outputs["Normal"], shader.inputs["Normal"])


def _add_iris_bowl(tree: Any, shader: Any) -> None:
    """Shade the iris as a bowl behind the cornea: the coat keeps the surface's own, bulging normal."""
    place = tree.nodes.new("ShaderNodeUVMap")
    place.location = (-1200, -200)
    distance = tree.nodes.new("ShaderNodeVectorMath")
    distance.operation = "DISTANCE"
    distance.inputs[1].default_value = (0.5, 0.5, 0.0)
    distance.location = (-1000, -200)
    height = tree.nodes.new("ShaderNodeMapRange")
    height.interpolation_type = "SMOOTHERSTEP"
    height.inputs["From Min"].default_value = 0.03
    height.inputs["From Max"].default_value = _IRIS_RADIUS
    height.location = (-800, -200)
    bump = tree.nodes.new("ShaderNodeBump")
    bump.inputs["Distance"].default_value = _IRIS_DEPTH_M
    bump.location = (-400, -200)
    tree.links.new(place.outputs["UV"], distance.inputs[0])
    tree.links.new(distance.outputs["Value"], height.inputs["Value"])
    tree.links.new(height.outputs["Result"], bump.inputs["Height"])
    tree.links.new(bump.outputs["Normal"], shader.inputs["Normal"])


def _picture_node(tree: Any, path: Path, name: str, height: float, is_data: bool = False) -> Any:
    """Return a texture node with a picture that is packed into the file."""
    image = bpy.data.images.load(str(path))
    image.name = name
    if is_data:
        image.colorspace_settings.name = "Non-Color"
    image.pack()
    image.filepath = ""
    node = tree.nodes.new("ShaderNodeTexImage")
    node.image = image
    node.location = (-620, height)
    return node


def _set_surface(shader: Any, surface: Surface) -> None:
    inputs = shader.inputs
    inputs["Roughness"].default_value = surface.roughness
    inputs["Specular IOR Level"].default_value = surface.specular
    inputs["Subsurface Weight"].default_value = surface.subsurface
    inputs["Subsurface Scale"].default_value = surface.subsurface_scale_m
    inputs["Subsurface Radius"].default_value = surface.subsurface_radius
    inputs["Coat Weight"].default_value = surface.coat
    inputs["Coat Roughness"].default_value = 0.03
