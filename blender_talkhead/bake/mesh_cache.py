"""The cache bake: a PC2 file beside the .blend, read by a Mesh Cache modifier; written in constant memory."""

from __future__ import annotations

import re
import struct
from collections.abc import Generator
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from ..contract.errors import OutputError
from .scene_frames import STEP_BYTES, SceneFrames

MODIFIER_NAME = "TalkHead cache"
_HEADER = struct.Struct("<12siiffi")


def point_cache_steps(path: Path, frames: SceneFrames, rest: NDArray[np.float32]) -> Generator[float, None, None]:
    """Write the positions of every vertex at every scene frame as a PC2 file; yields the done fraction, 0..1.

    Args:
        path: the file; created or overwritten. On failure it is removed.
        frames: the motion at the scene's rate.
        rest: (V, 3) rest positions, Blender's axes.

    Raises:
        OutputError: the disk is full or the folder not writable.
    """
    header = _HEADER.pack(b"POINTCACHE2\0", 1, frames.num_vertices, 1.0, 1.0, len(frames))
    try:
        with path.open("wb") as file:
            file.write(header)
            for first, offsets in frames.chunks(STEP_BYTES):
                file.write(np.ascontiguousarray(rest + offsets, dtype="<f4").data)
                yield (first + len(offsets)) / len(frames)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OutputError(
            f"cannot write the mesh cache {path.name}: {error.strerror or error}; free some disk, or save the .blend "
            "file where it can be written"
        ) from error
    expected = len(header) + 12 * frames.num_vertices * len(frames)
    size = path.stat().st_size
    if size != expected:
        path.unlink(missing_ok=True)
        raise OutputError(f"the mesh cache {path.name} must have {expected} bytes, got {size}; is the disk full?")


def attach_cache(head: Any, path: str, start: int) -> None:
    """Play a PC2 file on an object, before its other modifiers. A cache it had is replaced.

    Args:
        head: the object.
        path: the file, absolute or relative to the .blend ("//...").
        start: scene frame of the first cache frame.
    """
    modifier = head.modifiers.get(MODIFIER_NAME) or head.modifiers.new(MODIFIER_NAME, "MESH_CACHE")
    head.modifiers.move(head.modifiers.find(modifier.name), 0)
    modifier.cache_format = "PC2"
    modifier.interpolation = "LINEAR"
    modifier.time_mode = "FRAME"
    modifier.play_mode = "SCENE"
    modifier.deform_mode = "OVERWRITE"
    modifier.frame_start = start
    modifier.frame_scale = 1.0
    modifier.forward_axis = "POS_Y"
    modifier.up_axis = "POS_Z"
    modifier.filepath = path


def free_cache_file(blend: Path, object_name: str, is_new: bool = False) -> Path:
    """Return a name beside a .blend file for the cache of an object, which no take plays.

    Args:
        blend: the .blend file.
        object_name: of the object.
        is_new: the .blend is written anew, its caches with it: only those that the open file plays are spared. Else
            every file that exists is, since an earlier take may play it in a copy of the file.
    """
    stem = blend.stem + "_" + re.sub(r"[^\w.-]", "_", object_name)
    played = {Path(bpy.path.abspath(path)).resolve() for item in bpy.data.objects for path in _caches_of(item)}
    candidate, number = blend.with_name(f"{stem}.pc2"), 0
    while candidate.resolve() in played or (candidate.exists() and not is_new):
        number += 1
        candidate = blend.with_name(f"{stem}_{number:03d}.pc2")
    return candidate


def _caches_of(item: Any) -> list[str]:
    return [modifier.filepath for modifier in item.modifiers if modifier.type == "MESH_CACHE" and modifier.filepath]


def detach_cache(head: Any) -> None:
    """Remove the cache modifier, if the object has one."""
    modifier = head.modifiers.get(MODIFIER_NAME)
    if modifier is not None:
        head.modifiers.remove(modifier)


def cache_path(head: Any) -> str | None:
    """Return the path of the object's cache file as the modifier holds it, or None without one."""
    modifier = head.modifiers.get(MODIFIER_NAME)
    return None if modifier is None else modifier.filepath
