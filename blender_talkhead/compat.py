"""Every difference between Blender versions (4.2 to 5.2), one function each; nobody else asks for the version.

Each comment names the version whose end as the oldest supported one allows the branch to go.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import bpy


def blender_version() -> str:
    """Return the running Blender's version, such as "4.5.15"."""
    return ".".join(str(part) for part in bpy.app.version)


def has_sound() -> bool:
    """Whether this build can load sound (the 4.2 module is built without Audaspace)."""
    return bool(bpy.app.build_options.audaspace)


def sound_duration(path: Path) -> float | None:
    """Return about how many seconds a sound file lasts; None where this build cannot read it (see `has_sound`)."""
    if not has_sound():
        return None
    audaspace: Any = importlib.import_module("aud")
    try:
        sound = audaspace.Sound(str(path))
        return float(sound.length) / float(sound.specs[0])
    except (audaspace.error, ZeroDivisionError):
        return None


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


def assign_action_and_slot(data_block: Any, action: Any | None) -> None:
    """Assign an action, and its first suitable slot where actions have slots (see `ensure_fcurves`)."""
    animation = data_block.animation_data or data_block.animation_data_create()
    animation.action = action
    if action is not None and hasattr(action, "slots") and animation.action_slot is None:
        animation.action_slot = next(iter(animation.action_suitable_slots), None)


def actions_move_many() -> bool:
    """Whether one action can move several data-blocks, by a slot each (see `ensure_fcurves`)."""
    return "slots" in bpy.types.Action.bl_rna.properties


def action_fcurves(data_block: Any) -> Any:
    """Return the F-Curves that a data-block's action moves it with, as a collection; empty without any (see above)."""
    animation = data_block.animation_data
    if animation is None or animation.action is None:
        return ()
    action = animation.action
    if not hasattr(action, "slots"):
        return action.fcurves
    slot = animation.action_slot
    strips = [strip for layer in action.layers for strip in layer.strips]
    bags = [] if slot is None else [strip.channelbag(slot) for strip in strips]
    return next((bag.fcurves for bag in bags if bag is not None), ())


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


def is_module() -> bool:
    """Whether this is the bpy module in a Python of its own. `bpy.app.module` does not exist in 4.2."""
    return bool(getattr(bpy.app, "module", not bpy.app.binary_path))


def set_denoising(cycles: Any, quality: str) -> bool:
    """Denoise Cycles pictures with "FAST" or "HIGH" quality (a choice of some builds only).

    Returns:
        Whether this build can denoise: Debian's cannot.
    """
    cycles.use_denoising = bool(getattr(importlib.import_module("_cycles"), "with_openimagedenoise", True))
    if not cycles.use_denoising:
        return False
    if hasattr(cycles, "denoising_quality"):
        cycles.denoising_quality = quality
    cycles.denoising_prefilter = "FAST" if quality == "FAST" else "ACCURATE"
    return True


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


def sound_seconds(path: Path) -> float | None:
    """Return how long Blender's sound library says that a recording lasts; None where it cannot tell."""
    if not has_sound():
        return None
    try:
        import aud
    except ImportError:  # it needs numpy, which a distribution's Blender may lack
        return None
    try:
        sound = aud.Sound(str(path))
        seconds = sound.length / sound.specs[0]
    except (aud.error, TypeError, ValueError, ZeroDivisionError):
        return None
    return float(seconds) if 0.0 < seconds < 1e7 else None


def edit_target_mode(item: Any) -> str | None:
    """Return the mode other than object mode that an object is in, as the user reads it, such as "edit"; else None.

    A mesh can also be in edit mode through another object that shares it.
    """
    if item.mode != "OBJECT":
        return str(item.mode).lower().replace("_", " ")
    return "edit" if getattr(item.data, "is_editmode", False) else None


def plays_action(data_block: Any) -> bool:
    """Whether a data-block with an action has a slot of it too (slots came with 4.4)."""
    animation = data_block.animation_data
    if animation is None or animation.action is None:
        return False
    return not hasattr(animation, "action_slot") or animation.action_slot is not None


def strip_start(strip: Any) -> int:
    """Return the first frame in which a strip is heard or seen (`frame_final_start` until 5.2 is the oldest)."""
    return int(strip.left_handle if hasattr(strip, "left_handle") else strip.frame_final_start)


def strip_end(strip: Any) -> int:
    """Return the frame after the last in which a strip is heard or seen (see `strip_start`)."""
    return int(strip.right_handle if hasattr(strip, "right_handle") else strip.frame_final_end)


def set_strip_start(strip: Any, frame: int) -> None:
    """Trim a strip so that it begins at a frame; its content stays where it is (see `strip_start`)."""
    setattr(strip, "left_handle" if hasattr(strip, "left_handle") else "frame_final_start", frame)


def set_strip_end(strip: Any, frame: int) -> None:
    """Trim a strip so that it ends before a frame (see `strip_start`)."""
    setattr(strip, "right_handle" if hasattr(strip, "right_handle") else "frame_final_end", frame)


def content_start(strip: Any) -> float:
    """Return the frame at which a strip's content would begin if it were not trimmed (see `strip_start`)."""
    return float(strip.content_start if hasattr(strip, "content_start") else strip.frame_start)


def sound_offset(strip: Any) -> float:
    """Return by how many seconds a sound strip's sound lies after its content's start (0 before 4.4 had it)."""
    return float(getattr(strip, "sound_offset", 0.0))


def set_sound_offset(strip: Any, seconds: float) -> None:
    """Move the sound within its strip by less than a frame, where this Blender can (see `sound_offset`)."""
    if hasattr(strip, "sound_offset"):
        strip.sound_offset = seconds


def content_duration(strip: Any) -> float:
    """Return how many frames a strip's content would take if it were not trimmed (see `strip_start`)."""
    return float(strip.content_duration if hasattr(strip, "content_duration") else strip.frame_duration)


def content_trim(strip: Any) -> tuple[int, int]:
    """Return how many frames are cut off a strip's content at its begin and end for good (see `strip_start`).

    Since 5.1 the content's start moves along with the cut at the begin; before, the content moves to the start.
    Either way second 0 would be heard that many frames before the content's start.
    """
    if hasattr(strip, "content_trim_start"):
        return int(strip.content_trim_start), int(strip.content_trim_end)
    return int(strip.animation_offset_start), int(strip.animation_offset_end)


def retiming_keys(strip: Any) -> Any | None:
    """Return the keys that speed parts of a strip up or down; None where sound strips do not tell (before 4.5)."""
    return getattr(strip, "retiming_keys", None)


def meta_strips_around(strip: Any) -> list[Any]:
    """Return the meta strips that hold a strip, innermost first."""
    found = []
    parent = strip.parent_meta() if hasattr(strip, "parent_meta") else None
    while parent is not None:
        found.append(parent)
        parent = parent.parent_meta()
    return found


def is_channel_muted(scene: Any, channel: int) -> bool:
    """Whether a channel of the sequencer's top level is muted."""
    channels = scene.sequence_editor.channels
    return channel < len(channels) and bool(channels[channel].mute)
