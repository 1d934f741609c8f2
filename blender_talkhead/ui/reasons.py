"""Why Animate from Audio cannot be pressed now, in words that say what to do about it.

Asked at every drawing, so only what is quick to tell; the job checks the rest before it starts.
"""

from __future__ import annotations

import functools
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import bpy

from .. import compat
from ..contract.jobs import SCAN_SUFFIX
from ..preferences import read_preferences
from ..session import session
from .facetalk import makes_sequence, uses_scan
from .recording import look_at_recording, recording_path

NO_NUMPY = (
    "This Blender's Python has no numpy, which stores the motion. Install it (on Debian and Ubuntu: the package "
    "python3-numpy), or use Blender from blender.org"
)


def why_not_animate(context: Any) -> str:
    """Return why an animation cannot be started, with the remedy; empty when it can."""
    scene = context.scene
    if session.is_animating():
        return "An animation is being made; wait for it or cancel it"
    if not has_numpy():
        return NO_NUMPY
    if scene is None:
        return "There is no scene"
    if scene.library is not None:
        return f'The scene "{scene.name}" is linked from another file; open that file, or use a scene of this one'
    for reason in (_backend_reason, _sound_reason, _method_reason, _target_reason, _bake_reason):
        text = reason(context, scene.talkhead)
        if text:
            return text
    return ""


@functools.cache
def has_numpy() -> bool:
    """Whether this Blender's Python has numpy (a distribution's may not)."""
    try:
        return find_spec("numpy") is not None
    except (ImportError, ValueError):
        return False


def capitalized(text: str) -> str:
    """Return a message as a sentence: the first letter large, the rest as it is."""
    return text[:1].upper() + text[1:]


def find_strip(scene: Any, name: str) -> Any | None:
    """Return a sound strip of a scene by its name."""
    return next((s for s in compat.existing_strips(scene) if s.name == name and s.type == "SOUND"), None)


def _backend_reason(context: Any, settings: Any) -> str:
    del settings
    if session.is_installing():
        return "The backend is being installed"
    if session.missing:
        return "No backend yet: install it or choose a Python, above"
    device = read_preferences(context).device
    devices = [] if session.report is None else [each.name for each in session.report.devices]
    if device not in ("auto", "cpu") and devices and device not in devices:
        return f"The backend cannot use {device} here (it has {', '.join(devices)}); choose another device"
    return ""


def _sound_reason(context: Any, settings: Any) -> str:
    if settings.source == "STRIP":
        return _strip_reason(context, settings)
    if not settings.audio.strip():
        return "Choose a recording"
    path = recording_path(settings.audio, settings.id_data.library)
    if path.is_dir():
        return f"{path} is a folder; choose a recording"
    if not look_at_recording(path).exists:
        return f"There is no file {path}; choose it again"
    return ""


def _strip_reason(context: Any, settings: Any) -> str:
    scene = context.scene
    if not settings.strip:
        if not any(strip.type == "SOUND" for strip in compat.existing_strips(scene)):
            return f'The sequencer of "{scene.name}" has no sound strip; add one, or choose an audio file'
        return "Choose a sound strip"
    strip = find_strip(scene, settings.strip)
    if strip is None:
        return f'The sequencer of "{scene.name}" has no sound strip "{settings.strip}"; choose it again'
    if strip.mute:
        return f'The strip "{strip.name}" is muted; unmute it, or choose another'
    if strip.sound is None:
        return f'The strip "{strip.name}" has no sound; choose another'
    if strip.sound.packed_file is None:
        path = recording_path(strip.sound.filepath, strip.sound.library)
        if not look_at_recording(path).exists:
            return f'The file of the strip "{strip.name}" is gone: {path}'
    return ""


def _method_reason(context: Any, settings: Any) -> str:
    del context
    if settings.method != "facetalk":
        return ""
    missing = _missing_weights(settings)
    if missing:
        return f"The backend has no weights of {missing}, which this needs; install TalkHead again"
    if settings.target_kind == "OBJECT":
        if makes_sequence(settings):
            return "A mesh sequence is a new object: choose New Head, or the surface One Mesh"
        if settings.takes > 1:
            return "Several takes make several heads: choose New Head, or one take"
        return ""
    if uses_scan(settings):
        path = recording_path(settings.scan, settings.id_data.library)
        if path.suffix != SCAN_SUFFIX:
            return f"{path.name} is no fitted scan (a {SCAN_SUFFIX} file); choose one, or leave it empty"
        if not look_at_recording(path).exists:
            return f"There is no fitted scan {path}; choose it again, or leave it empty"
    return ""


def _missing_weights(settings: Any) -> str:
    """Return whose weights the checked backend lacks; empty where it lacks none or was not checked."""
    facts = {} if session.report is None else session.report.facts
    if not isinstance(facts.get("weights"), list):
        return ""
    names = {str(each.get("name")) for each in facts["weights"] if isinstance(each, dict)}
    if "facetalk" not in names:
        return "FaceTalk"
    return "the neural head" if makes_sequence(settings) and "nphm" not in names else ""


def _target_reason(context: Any, settings: Any) -> str:
    if settings.target_kind == "NEW":
        return ""
    target = settings.target
    if target is None:
        return "Choose the object that will speak, or New Head"
    if target.name not in context.scene.objects:
        return f'"{target.name}" is not in this scene; choose another object'
    from ..bake.targets import require_usable_target  # needs numpy, which is there by now
    from ..contract.errors import BadInputError

    try:
        require_usable_target(target, settings.bake)
    except BadInputError as error:
        return capitalized(str(error))
    return ""


def _bake_reason(context: Any, settings: Any) -> str:
    del context
    if settings.bake != "cache" or makes_sequence(settings):
        return ""
    if settings.method == "facetalk" and settings.takes > 1:
        return "A cache file holds one take: choose one take, or store the motion as shape keys"
    if not bpy.data.filepath:
        return "The cache file lies beside the .blend file: save the file first, or store the motion as shape keys"
    folder = Path(bpy.data.filepath).parent
    if not os.access(folder, os.W_OK):
        return f"The folder {folder} cannot be written, and the cache file goes there; save the file elsewhere"
    return ""
