"""Every difference between Blender versions (4.2 to 5.2), one function each; nobody else asks for the version.

Each comment names the version whose end as the oldest supported one allows the branch to go.
"""

from __future__ import annotations

from typing import Any

import bpy


def blender_version() -> str:
    """Return the running Blender's version, such as "4.5.15"."""
    return ".".join(str(part) for part in bpy.app.version)


def has_sound() -> bool:
    """Whether this build can load sound (the 4.2 module is built without Audaspace)."""
    return bool(bpy.app.build_options.audaspace)


def has_video() -> bool:
    """Whether this build can encode video."""
    return bool(bpy.app.build_options.codec_ffmpeg)


def ensure_fcurves(data_block: Any, action: Any) -> Any:
    """Assign `action` to a data-block and return the collection that its F-Curves are created in.

    Slots, layers and channelbags came with 4.4; before, an action held its F-Curves itself. Until 4.4 is the oldest.
    """
    animation = data_block.animation_data or data_block.animation_data_create()
    animation.action = action
    if not hasattr(action, "slots"):
        return action.fcurves
    if animation.action_slot is None:
        animation.action_slot = action.slots.new(id_type=data_block.id_type, name=data_block.name)
    layer = action.layers[0] if action.layers else action.layers.new("Layer")
    strip = layer.strips[0] if layer.strips else layer.strips.new(type="KEYFRAME")
    return strip.channelbag(animation.action_slot, ensure=True).fcurves


def sequencer_strips(scene: Any) -> Any:
    """Return the scene's strips as a collection that new ones are made in (`sequences` until 4.4 is the oldest)."""
    editor = scene.sequence_editor_create()
    return editor.strips if hasattr(editor, "strips") else editor.sequences


def existing_strips(scene: Any) -> list[Any]:
    """Return the scene's strips, without creating a sequencer."""
    return [] if scene.sequence_editor is None else list(sequencer_strips(scene))


def set_still_output(image_settings: Any) -> None:
    """Ask for PNG files. `media_type` must be set first since 5.0."""
    if hasattr(image_settings, "media_type"):
        image_settings.media_type = "IMAGE"
    image_settings.file_format = "PNG"
    image_settings.color_mode = "RGB"


def set_video_output(image_settings: Any) -> None:
    """Ask for a video file. `media_type` must be set first since 5.0."""
    if hasattr(image_settings, "media_type"):
        image_settings.media_type = "VIDEO"
    image_settings.file_format = "FFMPEG"
    image_settings.color_mode = "RGB"


def enable_nodes(data_block: Any) -> Any:
    """Return the node tree of a material, world or light; since 5.0 there always is one (until 5.0 is the oldest)."""
    if data_block.node_tree is None or not getattr(data_block, "use_nodes", True):
        data_block.use_nodes = True
    return data_block.node_tree


def is_background() -> bool:
    """Whether Blender runs without a window. `bpy.app.module` does not exist in 4.2."""
    return bool(bpy.app.background or getattr(bpy.app, "module", False))


def set_denoising(cycles: Any, quality: str) -> None:
    """Denoise Cycles pictures with "FAST" or "HIGH" quality (a choice of some builds only)."""
    cycles.use_denoising = True
    if hasattr(cycles, "denoising_quality"):
        cycles.denoising_quality = quality
    cycles.denoising_prefilter = "FAST" if quality == "FAST" else "ACCURATE"


def clear_shape_keys(carrier: Any) -> None:
    """Remove all shape keys of an object.

    Up to 5.0 the keys of a copied mesh count one user too many and stay behind as an invalid data-block, which then
    makes saving report an error. Until 5.2 is the oldest.
    """
    keys = carrier.data.shape_keys
    if keys is None:
        return
    name = keys.name
    carrier.shape_key_clear()
    left = bpy.data.shape_keys.get(name)
    if left is not None:
        bpy.data.batch_remove([left])
